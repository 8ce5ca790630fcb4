//! Prints the time of a step as one JSON object, nanoseconds a parameter: the best of many, after a warm-up. `cargo xtask bench` reads it.
#![allow(clippy::print_stdout)]

#[allow(unreachable_pub)]
mod cases;

use std::time::Instant;

fn main() -> np_core::Result<()> {
    let mut lines = vec![format!("\"threads\": {}", rayon::current_num_threads())];
    for (size, shapes) in cases::sizes() {
        let elements: usize = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
        for (name, config, watch) in cases::optimizers() {
            let (mut optimizer, grads) = cases::prepare(&config, watch, &shapes)?;
            let mut best = f64::INFINITY;
            for round in 0..(40_000_000 / elements).clamp(12, 200) {
                let start = Instant::now();
                let _ = optimizer.step(&grads)?;
                if round >= 2 {
                    best = best.min(start.elapsed().as_secs_f64());
                }
            }
            lines.push(format!("\"{name}_{size}\": {:.4}", best * 1e9 / elements as f64));
        }
    }
    println!("{{{}}}", lines.join(",\n "));
    Ok(())
}
