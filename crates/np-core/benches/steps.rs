//! Time of a step, by optimizer and size: `cargo bench -p np-core`. Ratios to PyTorch are `cargo xtask bench`'s.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(unreachable_pub)]
#[path = "../examples/step_times/cases.rs"]
mod cases;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn steps(c: &mut Criterion) {
    for (size, shapes) in cases::sizes() {
        let elements: usize = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
        let mut group = c.benchmark_group(size);
        group.sample_size(10).throughput(Throughput::Elements(elements as u64));
        for (name, config, watch) in cases::optimizers() {
            let (mut optimizer, grads) = cases::prepare(&config, watch, &shapes).unwrap();
            group.bench_function(BenchmarkId::from_parameter(name), |b| {
                b.iter(|| optimizer.step(&grads).unwrap());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
