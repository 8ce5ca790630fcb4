//! What a training step of ResNet-18 allocates: nothing the size of an activation, and nothing that stays.
//!
//! One test, because it counts what the whole process allocates.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};
use np_models::{Initializer, Mode, Model, ResNet18, ResNet18Config, cross_entropy, loss_and_correct};

/// The system's allocator, with the largest single request, the balance of all, and the highest balance.
struct Counting;

static LARGEST: AtomicUsize = AtomicUsize::new(0);
static BALANCE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        let before = BALANCE.fetch_add(layout.size().cast_signed(), Ordering::Relaxed);
        PEAK.fetch_max(before + layout.size().cast_signed(), Ordering::Relaxed);
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

/// A step of training with a batch of 32, one of 5 (the last of an epoch) and an evaluation.
fn round(model: &ResNet18) {
    for (n, mode) in [(32, Mode::Train { step: 0 }), (5, Mode::Train { step: 1 }), (32, Mode::Eval)] {
        let images = Initializer::new(1).normal((n, 3, 32, 32), 1.0, DType::F32, &Device::Cpu).unwrap();
        let labels = Tensor::from_vec((0..n as u32).map(|i| i % 10).collect(), n, &Device::Cpu).unwrap();
        let logits = model.forward(&images, mode).unwrap();
        if mode == Mode::Eval {
            let _ = loss_and_correct(&logits, &labels).unwrap();
        } else {
            let gradients = cross_entropy(&logits, &labels).unwrap().backward().unwrap();
            assert!(gradients.get(&model.parameters()[0].1).is_some());
        }
    }
}

#[test]
fn steps_allocate_no_activation_and_keep_nothing() {
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let model = ResNet18::new(3, 10, &ResNet18Config { width: 4 }, 41, &Device::Cpu).unwrap();
            (0..5).for_each(|_| round(&model));
            let (balance, peak) = (BALANCE.load(Ordering::Relaxed), PEAK.load(Ordering::Relaxed));
            LARGEST.store(0, Ordering::Relaxed);
            (0..20).for_each(|_| round(&model));
            let more = BALANCE.load(Ordering::Relaxed) - balance;
            let higher = PEAK.load(Ordering::Relaxed) - peak;
            // A step keeps 9.6 MB of activations. Which scratch two threads hold at once is chance: as much as one of them has.
            let allowed = if threads == 1 { 4_000 } else { 4_000_000 };
            assert!(more < allowed, "{threads} threads: {more} bytes more after 20 rounds");
            assert!(higher < allowed, "{threads} threads: the peak rose by {higher} bytes in 20 rounds");
            // The first stage's activations have 524,288 bytes, a batch of images 393,216, the largest weight 36,864; `gemm` packs
            // a transposed operand of an image into 122,880, or with AVX-512 into 262,144.
            let largest = LARGEST.load(Ordering::Relaxed);
            assert!(threads > 1 || largest < 524_288, "one allocation of {largest} bytes");
        });
    }
}
