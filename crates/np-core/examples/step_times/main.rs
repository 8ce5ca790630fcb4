//! Prints the time of an optimizer step as one JSON object, in nanoseconds per element of the parameters: the best of many, after a warm-up.
//! `cargo xtask bench` reads it. Arguments: the names of what to measure, with or without a size (`adamw_11M`); everything if there are none.
//!
//! The object also has `state`, the numbers of state for each element, and `memory_gb_s`, the bandwidth of this machine's memory. A step that reads and
//! writes parameter and state once and reads the gradient moves (3 + 2 · state) · 4 bytes per element, and cannot be faster than this bandwidth allows.
#![allow(clippy::print_stdout)]

#[allow(unreachable_pub)]
mod cases;

use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde_json::{Map, json};

/// A case is measured for about this long, but three times at least.
const ENOUGH: Duration = Duration::from_millis(250);

fn main() -> np_core::Result<()> {
    let mut out = Map::new();
    let mut state = Map::new();
    out.insert("threads".into(), json!(rayon::current_num_threads()));
    out.insert("memory_gb_s".into(), json!(memory_speed()));
    let only: Vec<String> = std::env::args().skip(1).collect();
    for case in cases::cases() {
        if !only.is_empty() && !only.contains(&case.name) && !only.contains(&format!("{}_{}", case.name, case.size)) {
            continue;
        }
        let mut prepared = case.prepare()?;
        let begin = Instant::now();
        let (mut best, mut rounds) = (f64::INFINITY, 0);
        while rounds < prepared.warm_up + 3 || (rounds < 200 && begin.elapsed() < ENOUGH) {
            let mut spent = Duration::ZERO;
            for _ in 0..prepared.period {
                prepared.refresh()?;
                let start = Instant::now();
                prepared.step()?;
                spent += start.elapsed();
            }
            if rounds >= prepared.warm_up {
                best = best.min(spent.as_secs_f64() / f64::from(prepared.period));
            }
            rounds += 1;
        }
        state.insert(format!("{}_{}", case.name, case.size), json!(prepared.state_numbers()?));
        let nanoseconds = best * 1e9 / prepared.elements as f64;
        out.insert(format!("{}_{}", case.name, case.size), json!((nanoseconds * 1e4).round() / 1e4));
    }
    out.insert("state".into(), json!(state));
    out.insert("skipped".into(), json!(cases::SKIPPED.map(|(name, why)| format!("{name}: {why}"))));
    println!("{:#}", json!(out));
    Ok(())
}

/// Speed of memory in GB/s, the best of many: a ← 0.999 a + b over vectors that fit in no cache, 12 bytes an element.
fn memory_speed() -> f64 {
    const LEN: usize = 16_000_000;
    let (mut a, b) = (vec![1.0_f32; LEN], vec![0.001_f32; LEN]);
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < 2 * ENOUGH {
        let start = Instant::now();
        a.par_chunks_mut(1 << 16).zip(b.par_chunks(1 << 16)).for_each(|(a, b)| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a = 0.999 * *a + b);
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    std::hint::black_box(&a);
    (12.0 * LEN as f64 / best / 1e9 * 10.0).round() / 10.0
}
