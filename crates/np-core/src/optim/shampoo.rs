//! Shampoo: a preconditioner for each dimension of a tensor.

use candle_core::Tensor;
use np_engine::apply::Apply;
use np_engine::buffer::Buffer;
use np_engine::chain::memory::Memory;
use np_engine::device_matrix;
use np_engine::driver::Driver;
use np_engine::error::{Result, at_least_one, check, fraction, not_negative, positive};
use np_engine::gradients::norm;
use np_engine::host;
use np_engine::host::{HostRule, Whole, WholeTensors};
use np_engine::matrix::{Mode, Real, power, view};
use np_engine::param_step::ParamStep;
use np_engine::range::squarable;
use np_engine::rule::{Rule, StepContext};
use np_trace::tensors::largest;

optimizer! {
    /// Shampoo: the gradient, multiplied along each of its k dimensions by an inverse root of the sum of its second moments along that dimension.
    ///
    /// ```text
    /// g ← g + wd·θ
    /// L_i ← L_i + G_i G_iᵀ                    G_i: g unfolded along dimension i;  L_i = ε I at first
    /// u = g ×₁ L₁^(−1/2k) … ×_k L_k^(−1/2k)   for a matrix: L^(−1/4) g R^(−1/4)
    /// B ← μ B + u                             θ ← θ − η B
    /// ```
    ///
    /// The roots are computed in the first step and every [`update_every`](ShampooConfig::update_every) steps, by eigendecomposition. A dimension larger than
    /// [`max_dim`](ShampooConfig::max_dim) has no preconditioner. As `Shampoo` of the package `pytorch_optimizer`, the reference below, with its defaults.
    /// Departures: the package mixes the preconditioned update of the step before into the gradient, while momentum here accumulates updates; and
    /// the package does not move before it has computed its first roots. Reference: Gupta, Koren and Singer 2018.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones((4, 3), DType::F32, &Device::Cpu)?;
    /// let mut shampoo = np_core::Shampoo::from_named(vec![("w".into(), w.clone())], Default::default())?;
    /// shampoo.backward_step_report(&w.as_tensor().sqr()?.sum_all()?)?;
    /// assert_eq!(shampoo.state()?.tensors["w.preconditioner_0"].dims(), [4, 4]);
    /// # Ok(())
    /// # }
    /// ```
    pub type Shampoo = Driver<ShampooConfig>;

    /// Hyper-parameters of [`Shampoo`].
    pub struct ShampooConfig = "shampoo" {
        /// η, step size, ≥ 0. Default 10⁻³ (`pytorch_optimizer`).
        pub lr: f64 = 1e-3, not_negative;
        /// μ, momentum, in [0, 1). Default 0 (`pytorch_optimizer`).
        pub momentum: f64 = 0.0, fraction;
        /// wd, coupled weight decay, ≥ 0. Default 0 (`pytorch_optimizer`).
        pub weight_decay: f64 = 0.0, not_negative;
        /// ε > 0, initial diagonal of each preconditioner and lower bound of its eigenvalues; the rounding error of the largest eigenvalue is another
        /// lower bound. A direction without gradients before a root is computed is multiplied by ε^(−1/2k) until the next one: take 10⁻² or more
        /// if `update_every` is above 1. Default 10⁻⁶ (`pytorch_optimizer`).
        pub eps: f64 = 1e-6, positive;
        /// Steps between two computations of the roots, ≥ 1. Default 1 (`pytorch_optimizer`).
        pub update_every: u64 = 1, at_least_one;
        /// Largest dimension that is preconditioned, ≥ 1. Default 2048 (`pytorch_optimizer` has no limit).
        pub max_dim: usize = 2048, at_least_one;
    }
}

impl Rule for ShampooConfig {
    type Memory = Memory;

    fn portable(&self) -> bool {
        false
    }

    fn buffers(&self, shape: &[usize]) -> Vec<Buffer> {
        let mut all: Vec<Buffer> = if self.momentum > 0.0 { vec!["momentum".into()] } else { vec![] };
        for (k, n) in shape.iter().enumerate().filter(|(_, n)| (1..=self.max_dim).contains(*n)) {
            all.push(Buffer::new(format!("preconditioner_{k}")).shaped([*n, *n]).diagonal(self.eps));
            all.push(Buffer::new(format!("root_{k}")).shaped([*n, *n]));
        }
        all
    }

    fn scratch(&self) -> usize {
        2
    }

    fn momentum(&self) -> Option<&'static str> {
        (self.momentum > 0.0).then_some("momentum")
    }

    fn keeps_squares(&self) -> bool {
        true
    }

    fn directions(&self, cx: &StepContext, work: &mut [ParamStep<'_>], _: &mut Memory) -> Result<Vec<Apply>> {
        host::directions(self, cx, work)
    }

    fn step(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<()> {
        let applies = self.directions(cx, work, memory)?;
        host::finish(cx, work, &applies, memory)
    }
}

impl ShampooConfig {
    /// The dimensions that are preconditioned.
    fn modes<'a>(&self, dims: &'a [usize]) -> impl Iterator<Item = Mode> + 'a {
        let most = self.max_dim;
        Mode::all(dims).filter(move |m| m.size <= most)
    }

    /// Whether step t finds the roots anew.
    fn finds_roots(&self, t: u64) -> bool {
        t == 1 || t.is_multiple_of(self.update_every)
    }

    /// −1/2k
    fn exponent(&self, dims: &[usize]) -> f64 {
        -0.5 / dims.len() as f64
    }
}

impl HostRule for ShampooConfig {
    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn check(&self, w: &ParamStep<'_>, gradient: f64) -> Result<()> {
        let (dims, dtype) = (w.param.dims(), w.param.var.dtype());
        let Some(mode) = self.modes(&dims).next().filter(|_| w.grad.elem_count() > 0) else { return Ok(()) };
        // No number of a root is larger.
        let root = self.eps.powf(self.exponent(&dims));
        check(root <= largest(dtype), "eps", "a number whose inverse root is finite in the state's type", self.eps)?;
        let wd = w.weight_decay(self.weight_decay);
        let decay = if wd == 0.0 { 0.0 } else { wd * norm(&[Some(w.param.var.as_detached_tensor())])? };
        // Every trace is what all squares so far sum to, and nothing in its matrix is larger.
        let trace = w.param.state.trace(usize::from(self.momentum > 0.0), mode.size)?;
        squarable(&w.param.name, dtype, trace.sqrt().hypot(gradient + decay))
    }

    fn direct<T: Real>(&self, whole: Whole<'_, T>) -> Result<Apply> {
        let Whole { dims, theta, u, buffers, work, t, lr, weight_decay, .. } = whole;
        let apply = Apply { keep: 1.0, factor: lr };
        let [spare, ..] = work else { return Ok(apply) };
        if u.is_empty() {
            return Ok(apply);
        }
        if weight_decay != 0.0 {
            let wd = T::from_f64(weight_decay);
            u.iter_mut().zip(theta).for_each(|(u, theta)| *u += wd * *theta);
        }
        let (momentum, preconditioners) = buffers.split_at_mut(usize::from(self.momentum > 0.0));
        let modes: Vec<Mode> = self.modes(dims).collect();
        for (mode, pair) in modes.iter().zip(preconditioners.chunks_mut(2)) {
            let [sum, root] = pair else { continue };
            mode.gram(sum, T::ONE, u)?;
            if self.finds_roots(t) {
                *root = power(sum, mode.size, self.exponent(dims), self.eps)?;
            }
        }
        for (mode, pair) in modes.iter().zip(preconditioners.chunks(2)) {
            let [_, root] = pair else { continue };
            mode.multiply(spare, view(root, mode.size, mode.size)?, u)?;
            u.copy_from_slice(spare);
        }
        if let [momentum] = momentum {
            let mu = T::from_f64(self.momentum);
            for (b, u) in momentum.iter_mut().zip(u) {
                *b = mu * *b + *u;
                *u = *b;
            }
        }
        Ok(apply)
    }

    fn direct_tensors(&self, whole: WholeTensors<'_>) -> Result<(Tensor, Apply)> {
        let WholeTensors { dims, theta, g, buffers, t, lr, weight_decay, .. } = whole;
        let mut u = if weight_decay == 0.0 { g } else { (g + (theta * weight_decay)?)? };
        let (momentum, preconditioners) = buffers.split_at_mut(usize::from(self.momentum > 0.0));
        let modes: Vec<Mode> = self.modes(dims).collect();
        for (mode, pair) in modes.iter().zip(preconditioners.chunks_mut(2)) {
            let [sum, root] = pair else { continue };
            *sum = (&*sum + device_matrix::gram(*mode, &u)?)?;
            if self.finds_roots(t) {
                *root = device_matrix::power(sum, self.exponent(dims), self.eps)?;
            }
        }
        for (mode, pair) in modes.iter().zip(preconditioners.chunks(2)) {
            let [_, root] = pair else { continue };
            u = device_matrix::multiply(*mode, root, &u)?;
        }
        if let [momentum] = momentum {
            u = ((&*momentum * self.momentum)? + u)?;
            *momentum = u.clone();
        }
        Ok((u, Apply { keep: 1.0, factor: lr }))
    }
}
