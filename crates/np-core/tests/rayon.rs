//! Steps inside a program that uses rayon itself: what waits for a step must not be waited for by it.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use np_core::{AdamW, AdamWConfig, NeuroPlastic, NeuroPlasticConfig};
use rayon::prelude::*;

/// Four tensors, each cut into some twenty chunks.
fn parameters() -> Vec<(String, Var)> {
    let var = || Var::ones(300_000, DType::F32, &Device::Cpu).unwrap();
    (0..4).map(|i| (i.to_string(), var())).collect()
}

fn gradients(params: &[(String, Var)]) -> GradStore {
    let mut grads = GradStore::default();
    for (_, var) in params {
        grads.insert(var.as_tensor(), Tensor::ones(var.dims(), DType::F32, &Device::Cpu).unwrap());
    }
    grads
}

/// Whether `f`, which counts its steps, comes to its end on a pool of four. It waits for ever where two minutes bring no further step: all of them may
/// take longer, on a machine that has much else to do.
fn ends(f: impl FnOnce(&AtomicUsize) + Send + 'static) -> bool {
    let (done, ended) = mpsc::channel();
    let steps = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&steps);
    std::thread::spawn(move || {
        rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap().install(|| f(&counted));
        done.send(()).unwrap();
    });
    let mut before = 0;
    while ended.recv_timeout(Duration::from_secs(120)).is_err() {
        let now = steps.load(Ordering::Relaxed);
        if now == before {
            return false;
        }
        before = now;
    }
    true
}

#[test]
fn an_optimizer_behind_a_lock_is_stepped_from_many_tasks() {
    let end = ends(|steps| {
        let params = parameters();
        let adamw = Mutex::new(AdamW::from_named(params.clone(), AdamWConfig::default()).unwrap());
        (0..200).into_par_iter().for_each(|_| {
            let grads = gradients(&params);
            let _ = adamw.lock().unwrap().step_report(&grads).unwrap();
            steps.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(adamw.lock().unwrap().steps(), 200);
    });
    assert!(end, "a step waits for ever");
}

#[test]
fn optimizers_of_the_same_parameters_step_at_the_same_time() {
    let end = ends(|steps| {
        let params = parameters();
        (0..40).into_par_iter().for_each(|_| {
            let mut adamw = AdamW::from_named(params.clone(), AdamWConfig::default()).unwrap();
            let mut plastic = NeuroPlastic::from_named(params.clone(), NeuroPlasticConfig::default()).unwrap();
            for _ in 0..3 {
                let grads = gradients(&params);
                let _ = adamw.step_report(&grads).unwrap();
                let _ = plastic.step_report(&grads).unwrap();
                steps.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    assert!(end, "a step waits for ever");
}
