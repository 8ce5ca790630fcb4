//! Prints the time of a step as one JSON object, nanoseconds a parameter: the best of many, after a warm-up. `cargo xtask bench` reads it.
//! Arguments: the names of what to measure; everything where there are none.
#![allow(clippy::print_stdout)]

#[allow(unreachable_pub)]
mod cases;

use std::time::{Duration, Instant};

use serde_json::{Map, json};

/// A case is measured for about this long, but three times at least.
const ENOUGH: Duration = Duration::from_millis(250);

fn main() -> np_core::Result<()> {
    let mut out = Map::new();
    out.insert("threads".into(), json!(rayon::current_num_threads()));
    let only: Vec<String> = std::env::args().skip(1).collect();
    for case in cases::cases() {
        if !only.is_empty() && !only.contains(&case.name) {
            continue;
        }
        let mut prepared = case.prepare()?;
        let begin = Instant::now();
        let (mut best, mut rounds) = (f64::INFINITY, 0);
        while rounds < 5 || (rounds < 200 && begin.elapsed() < ENOUGH) {
            let mut spent = Duration::ZERO;
            for _ in 0..prepared.period {
                prepared.refresh()?;
                let start = Instant::now();
                prepared.step()?;
                spent += start.elapsed();
            }
            // The first two warm up.
            if rounds >= 2 {
                best = best.min(spent.as_secs_f64() / f64::from(prepared.period));
            }
            rounds += 1;
        }
        let nanoseconds = best * 1e9 / prepared.elements as f64;
        out.insert(format!("{}_{}", case.name, case.size), json!((nanoseconds * 1e4).round() / 1e4));
    }
    out.insert("skipped".into(), json!(cases::SKIPPED.map(|(name, why)| format!("{name}: {why}"))));
    println!("{:#}", json!(out));
    Ok(())
}
