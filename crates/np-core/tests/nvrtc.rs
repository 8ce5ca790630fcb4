//! Every element-wise kernel is compiled to PTX by NVRTC, where it is at hand.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
#[path = "../../np-cuda/tests/nvrtc/mod.rs"]
mod nvrtc;

use std::collections::BTreeSet;

use common::variants;
use np_core::traced::Outcome;
use np_core::traced::cuda::Storage;
use nvrtc::Nvrtc;

#[test]
fn every_kernel_compiles() {
    let Some(nvrtc) = Nvrtc::find() else { return };
    assert!(nvrtc.ptx("no kernel").unwrap_err().contains("error"));
    let mut seen = BTreeSet::new();
    // A direction is read as a step is, and written in the type that is computed in.
    let forms =
        Storage::ALL.map(|storage| (Outcome::Step, storage)).into_iter().chain([(Outcome::Direction, Storage::F32)]);
    for (name, config) in variants() {
        for (outcome, storage) in forms.clone() {
            let Some(traced) = config.trace(outcome) else { continue };
            let source = traced.expression.kernel(storage);
            if !seen.insert(source.clone()) {
                continue;
            }
            println!("{name} in {storage:?}");
            nvrtc.check(&source, "np_step");
        }
    }
    println!("{} kernels compiled", seen.len());
    assert!(seen.len() >= 5 * 20, "only {}", seen.len());
}
