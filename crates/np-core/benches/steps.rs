//! Time of a step, by optimizer and size: `cargo bench -p neuroplastic-core`. `cargo xtask bench` compares with PyTorch.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(unreachable_pub)]
#[path = "../examples/step_times/cases.rs"]
mod cases;

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn steps(c: &mut Criterion) {
    for case in cases::cases() {
        let mut prepared = case.prepare().unwrap();
        let mut group = c.benchmark_group(case.size);
        group.sample_size(10).throughput(Throughput::Elements(prepared.elements as u64));
        group.bench_function(BenchmarkId::from_parameter(&case.name), |b| {
            b.iter_custom(|steps| {
                let mut spent = Duration::ZERO;
                for _ in 0..steps * u64::from(prepared.period) {
                    prepared.refresh().unwrap();
                    let start = Instant::now();
                    prepared.step().unwrap();
                    spent += start.elapsed();
                }
                spent / prepared.period
            });
        });
        group.finish();
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
