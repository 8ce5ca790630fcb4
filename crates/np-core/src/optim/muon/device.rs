//! Muon on a device: moments by kernel launches as for element-wise optimizers, and the iteration by candle's products, for all matrices of one shape at once.
//! Nothing is copied to the host.

use candle_core::{DType, Tensor};
use np_engine::apply::Apply;
use np_engine::chain;
use np_engine::config::decay::Decay;
use np_engine::config::hyper::HyperParameters;
use np_engine::elementwise::device::Launches;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::Result;
use np_engine::param_step::ParamStep;
use np_engine::rule::{Rule, StepContext};
use np_engine::state::State;
use np_trace::Number;

use super::{Averaging, Fallback, MuonConfig, Precision};
use crate::optim::adam::AdamWConfig;

/// What is kept on a device from step to step.
#[derive(Debug, Default)]
pub struct Memory {
    vectors: Launches,
    matrices: Launches,
    pub(super) finish: chain::memory::Memory,
}

/// M of matrices, with N as the direction.
#[derive(Debug, Clone)]
struct Momentum(MuonConfig);

impl HyperParameters for Momentum {
    const KIND: &'static str = "momentum";

    fn validate(&self) -> Result<()> {
        self.0.validate()
    }

    fn learning_rate(&self) -> f64 {
        self.0.learning_rate()
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.0.set_learning_rate(lr);
    }
}

impl Elementwise for Momentum {
    const BUFFERS: &'static [&'static str] = &["momentum"];
    type Scalars<T: Number> = Averaging<T>;

    fn weight_decay(&self) -> Decay {
        Decay::Decoupled(self.0.weight_decay)
    }

    fn scalars<T: Number>(&self, _: &mut StepInfo<'_>) -> Averaging<T> {
        self.0.averaging()
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Averaging<T>, _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let mut u = g;
        if let [m, ..] = &mut state[..] {
            [u, *m] = k.of(g, *m);
        }
        (u, state)
    }
}

impl MuonConfig {
    /// The directions of all of `work`, whose state is tensors.
    pub(super) fn directions_on_device(
        &self,
        cx: &StepContext,
        work: &mut [ParamStep<'_>],
        memory: &mut Memory,
    ) -> Result<Vec<Apply>> {
        let Fallback { lr_ratio, beta1, beta2, eps } = self.fallback;
        let adamw = AdamWConfig { beta1, beta2, eps, weight_decay: self.weight_decay, ..AdamWConfig::default() };
        let matrix: Vec<bool> = work.iter().map(|w| w.param.dims().len() > 1).collect();
        let mut part = |matrices: bool, ratio: f64, f: &mut dyn FnMut(&mut [ParamStep<'_>]) -> Result<Vec<Apply>>| {
            let of = work.iter_mut().zip(&matrix).filter(|(_, matrix)| **matrix == matrices);
            let mut part: Vec<ParamStep<'_>> = of
                .map(|(w, _)| ParamStep { param: &mut *w.param, grad: w.grad.clone(), lr: w.lr * ratio, map: w.map })
                .collect();
            f(&mut part)
        };
        let vectors = part(false, lr_ratio, &mut |work| Rule::directions(&adamw, cx, work, &mut memory.vectors))?;
        let matrices = part(true, 1.0, &mut |work| {
            Rule::directions(&Momentum(self.clone()), cx, work, &mut memory.matrices)?;
            self.orthogonal(work)
        })?;
        let (mut vectors, mut matrices) = (vectors.into_iter(), matrices.into_iter());
        let each = matrix.iter().filter_map(|matrix| if *matrix { matrices.next() } else { vectors.next() });
        Ok(each.collect())
    }

    /// Makes N, in the scratch of matrices, their directions.
    fn orthogonal(&self, work: &mut [ParamStep<'_>]) -> Result<Vec<Apply>> {
        let sizes: Vec<[usize; 2]> =
            work.iter().map(|w| w.param.dims()).map(|dims| [dims[0], dims[1..].iter().product()]).collect();
        let scratch = |w: &ParamStep<'_>| match &w.param.state {
            State::Tensors(state) => state.get(w.param.buffers.len()).cloned(),
            _ => None,
        };
        let mut done = vec![false; work.len()];
        for first in 0..work.len() {
            let [rows, cols] = sizes[first];
            if done[first] || rows * cols == 0 {
                continue;
            }
            let dtype = work[first].grad.dtype();
            let same: Vec<usize> =
                (first..work.len()).filter(|i| sizes[*i] == sizes[first] && work[*i].grad.dtype() == dtype).collect();
            let all = same.iter().filter_map(|i| scratch(&work[*i])).map(|n| n.reshape((rows, cols)));
            let all = self.iterated(&Tensor::stack(&all.collect::<candle_core::Result<Vec<_>>>()?, 0)?)?;
            for (k, i) in same.into_iter().enumerate() {
                done[i] = true;
                let (u, param) = (all.get(k)?.reshape(work[i].param.var.shape())?, &mut *work[i].param);
                if let State::Tensors(state) = &mut param.state {
                    state[param.buffers.len()] = u;
                }
            }
        }
        let apply = |(w, [rows, cols]): (&ParamStep<'_>, [usize; 2])| Apply {
            keep: 1.0 - w.lr * w.weight_decay(self.weight_decay),
            factor: w.lr * self.scale.of(rows as f64, cols as f64),
        };
        Ok(work.iter().zip(sizes).map(apply).collect())
    }

    /// To the nearest of bf16, in the type that is computed in: products of such numbers are exact in single precision, so that sums are rounded where PyTorch's are.
    fn rounded(&self, x: Tensor) -> candle_core::Result<Tensor> {
        match self.precision {
            Precision::Bf16 => x.to_dtype(DType::F32)?.to_dtype(DType::BF16)?.to_dtype(x.dtype()),
            Precision::Full => Ok(x),
        }
    }

    /// X of each of a batch of matrices N.
    fn iterated(&self, n: &Tensor) -> candle_core::Result<Tensor> {
        let (_, rows, cols) = n.dims3()?;
        let tall = rows > cols;
        let x = self.rounded(if tall { n.transpose(1, 2)?.contiguous()? } else { n.clone() })?;
        // Row by row first, so that all of a device is at work.
        let squares = x.to_dtype(DType::F64)?.sqr()?.sum_keepdim(2)?.sum_keepdim(1)?;
        let norm = self.rounded(squares.sqrt()?.maximum(self.eps)?.to_dtype(x.dtype())?)?;
        let mut x = self.rounded(x.broadcast_div(&norm)?)?;
        let [a, b, c] = self.coefficients;
        for _ in 0..self.iterations {
            let gram = self.rounded(x.matmul(&x.transpose(1, 2)?)?)?;
            let poly = self.rounded(((&gram * b)? + (gram.matmul(&gram)? * c)?)?)?;
            let next = poly.matmul(&x)?;
            x = self.rounded(((x * a)? + next)?)?;
        }
        if tall { x.transpose(1, 2)?.contiguous() } else { Ok(x) }
    }
}
