//! What a step allocates: nothing the size of a parameter, and nothing that stays.
//!
//! One test, because it counts what the whole process allocates.
#![allow(clippy::unwrap_used, unsafe_code)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor, Var};
use common::{gradients, parameters, variants};
use np_core::{AnyOptimizer, Backend, OptimizerConfig};

/// The system's allocator, with the largest single request and the balance of all.
struct Counting;

static LARGEST: AtomicUsize = AtomicUsize::new(0);
static BALANCE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        BALANCE.fetch_add(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BALANCE.fetch_sub(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A small network with a convolution, whose gradients come with their graph.
fn loss(conv: &Var, head: &Var, x: &Tensor) -> Tensor {
    let features = x.conv2d(conv.as_tensor(), 1, 1, 1, 1).unwrap().relu().unwrap();
    let logits = features.mean((2, 3)).unwrap().matmul(&head.as_tensor().t().unwrap()).unwrap();
    logits.sqr().unwrap().mean_all().unwrap()
}

#[test]
fn steps_allocate_nothing_of_a_parameters_size_and_leak_nothing() {
    for (name, config) in variants() {
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let params = parameters(dtype);
            let mut optimizer = config.build(params.clone()).unwrap();
            optimizer.begin_epoch(1, 2);
            let grads = gradients(&params, 0);
            optimizer.step_report(&grads).unwrap();
            LARGEST.store(0, Ordering::Relaxed);
            optimizer.step_report(&grads).unwrap();
            let matrices = matches!(config.kind(), "muon" | "shampoo" | "soap" | "kfac" | "lbfgs");
            if matrices || (config.kind() == "adafactor" && dtype == DType::BF16) {
                // They work on whole matrices, and one that would be scratch for good is better borrowed for the step.
                continue;
            }
            // fc.weight has 48,841 elements: a copy of it would be at least 97,682 bytes.
            let largest = LARGEST.load(Ordering::Relaxed);
            assert!(largest < 16 * 1024, "{name} in {dtype:?}: one allocation of {largest} bytes");
        }
    }

    let kinds = OptimizerConfig::KINDS;
    for (name, config) in variants() {
        // Every kind for a thousand steps, its other forms for a hundred.
        let steps = if kinds.contains(&name.as_str()) { 1000 } else { 100 };
        for backend in [Backend::Auto, Backend::Tensors] {
            let tensor = |shape: &[usize], seed| common::tensor(shape, seed, DType::F32);
            let conv = Var::from_tensor(&tensor(&[3, 2, 3, 3], 1)).unwrap();
            let head = Var::from_tensor(&tensor(&[4, 3], 2)).unwrap();
            let x = tensor(&[2, 2, 5, 5], 3).to_device(&Device::Cpu).unwrap();
            let named = vec![("conv".to_string(), conv.clone()), ("head".to_string(), head.clone())];
            let mut optimizer: Box<dyn AnyOptimizer> = config.build_on(named, backend).unwrap();
            optimizer.begin_epoch(1, 2);
            let mut run = |steps: usize| {
                for _ in 0..steps {
                    optimizer.step_report(&loss(&conv, &head, &x).backward().unwrap()).unwrap();
                }
                BALANCE.load(Ordering::Relaxed)
            };
            let before = run(20);
            let after = run(steps);
            // A gradient that kept its graph would hold some kilobytes a step.
            assert!(
                after - before < 20_000,
                "{name} by {backend:?}: {} bytes more after {steps} steps",
                after - before
            );
        }
    }
}
