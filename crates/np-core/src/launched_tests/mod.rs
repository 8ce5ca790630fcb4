//! What tests of launches share: steps as the driver hands them to a rule, places in the host's memory, and a machine that only compiles.
#![allow(clippy::print_stdout)]

mod elementwise;
#[path = "../../../np-cuda/tests/host/mod.rs"]
pub(crate) mod host;
#[path = "../../../np-cuda/tests/nvrtc/mod.rs"]
pub(crate) mod nvrtc;

use std::collections::BTreeMap;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use np_cuda::machine::Machine;
use np_cuda::table::Row;
use np_engine::chain;
use np_engine::chain::launched::place;
use np_engine::driver::Driver;
use np_engine::gradient_map::GradientMap;
use np_engine::gradients;
use np_engine::param_step::ParamStep;
use np_engine::places::Place;
use np_engine::rule::Rule;
use np_engine::state::State;

use crate::launched_tests::nvrtc::Nvrtc;

/// Numbers from −`scale` to `scale`.
pub(crate) fn tensor(shape: &[usize], seed: usize, scale: f64, dtype: DType) -> Tensor {
    let n = shape.iter().product();
    let number = |i: usize| (((i * 7919 + seed * 104_729) % 2003) as f64 / 1000.0 - 1.0) * scale;
    let numbers: Vec<f64> = (0..n).map(number).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Works on a step as the driver hands it to the rule: parameter i has a gradient of this scale, or none.
pub(crate) fn with_work<R: Rule, T>(
    driver: &mut Driver<R>,
    step: usize,
    map: GradientMap,
    scale: impl Fn(usize) -> Option<f64>,
    f: impl FnOnce(&R, &mut [ParamStep<'_>]) -> T,
) -> T {
    let (rule, lr) = (driver.config().clone(), driver.config().learning_rate());
    let work = driver.params_mut().iter_mut().enumerate().filter_map(|(i, param)| {
        let grad = tensor(param.var.dims(), 10 * step + i, scale(i)?, param.var.dtype());
        param.steps += 1;
        Some(ParamStep { lr: lr * param.settings.lr_scale, param, grad, map })
    });
    f(&rule, &mut work.collect::<Vec<_>>())
}

/// The map by which the host clips to the norm that is left to a step.
pub(crate) fn clipped(map: GradientMap, work: &[ParamStep<'_>]) -> GradientMap {
    let Some(most) = map.norm else { return map };
    let norm = gradients::norm(&work.iter().map(|w| Some(w.grad.clone())).collect::<Vec<_>>()).unwrap();
    GradientMap { scale: (most / (norm + 1e-6)).min(1.0), norm: None, ..map }
}

/// Every number of a driver's parameters and state.
pub(crate) fn bits<R: Rule>(driver: &Driver<R>) -> Vec<(String, Vec<u64>)> {
    let of = |t: &Tensor| {
        let wide = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        wide.into_iter().map(f64::to_bits).collect::<Vec<u64>>()
    };
    let mut all: Vec<_> = driver.params().iter().map(|p| (p.name.clone(), of(p.var.as_tensor()))).collect();
    all.extend(driver.state().unwrap().tensors.iter().map(|(name, t)| (name.clone(), of(t))));
    all
}

/// Where a tensor in the host's memory is.
pub(crate) fn address(t: &Tensor) -> u64 {
    let (storage, layout) = t.storage_and_layout();
    assert!(layout.is_contiguous() && layout.start_offset() == 0);
    match &*storage {
        Storage::Cpu(CpuStorage::F32(data)) => data.as_ptr() as u64,
        Storage::Cpu(CpuStorage::F64(data)) => data.as_ptr() as u64,
        Storage::Cpu(CpuStorage::F16(data)) => data.as_ptr() as u64,
        Storage::Cpu(CpuStorage::BF16(data)) => data.as_ptr() as u64,
        other => panic!("no number of a parameter's type in the host's memory: {:?}", other.dtype()),
    }
}

/// Where a parameter and its gradient are, and its buffers and scratch.
pub(crate) fn addresses(w: &ParamStep<'_>) -> (Row, Vec<u64>) {
    let state = match &w.param.state {
        State::F32(data) => data.iter().map(|x| x.as_ptr() as u64).collect(),
        State::F64(data) => data.iter().map(|x| x.as_ptr() as u64).collect(),
        State::Tensors(_) => vec![],
    };
    (Row { theta: address(w.param.var.as_tensor()), gradient: address(&w.grad), ..Row::default() }, state)
}

/// Where all of `work` is.
pub(crate) fn places(step: &impl chain::Step, work: &[ParamStep<'_>]) -> Vec<Place> {
    let one = |w: &ParamStep<'_>| {
        let (row, state) = addresses(w);
        place(step, w, row, &state)
    };
    work.iter().map(one).collect()
}

/// A machine that compiles what it is asked to run, and runs nothing: all sums are 1.
pub(crate) struct Compiler {
    nvrtc: Nvrtc,
    /// Texts, and how many parameters each has.
    seen: BTreeMap<String, usize>,
}

impl Compiler {
    /// None where there is no compiler.
    pub(crate) fn find() -> Option<Self> {
        Some(Self { nvrtc: Nvrtc::find()?, seen: BTreeMap::new() })
    }

    /// Says how many kernels it has compiled; they must be more than so many.
    pub(crate) fn count(&self, least: usize) {
        println!("{} kernels compiled", self.seen.len());
        assert!(self.seen.len() > least, "only {}", self.seen.len());
    }
}

impl Machine for Compiler {
    fn upload(&mut self, _: usize, _: &[u8]) -> np_cuda::Result<u64> {
        Ok(0)
    }

    fn reserve(&mut self, _: usize, _: usize) -> np_cuda::Result<u64> {
        Ok(0)
    }

    fn launch(&mut self, text: &str, name: &str, _: usize, _: u32, words: &[u64]) -> np_cuda::Result<()> {
        let nvrtc = &self.nvrtc;
        let parameters = self.seen.entry(text.to_string()).or_insert_with(|| nvrtc.check(text, name));
        assert_eq!(*parameters, words.len(), "{name}");
        Ok(())
    }

    fn numbers(&mut self, _: usize, count: usize) -> np_cuda::Result<Vec<f64>> {
        Ok(vec![1.0; count])
    }
}
