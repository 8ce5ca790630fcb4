//! Muon: steps along the orthogonalised momentum of each matrix.

mod device;

use candle_core::Tensor;
use np_engine::apply::Apply;
use np_engine::buffer::Buffer;
use np_engine::cpu::sums;
use np_engine::driver::Driver;
use np_engine::error::{Result, check, fraction, not_negative, positive};
use np_engine::host;
use np_engine::host::{HostRule, Whole, WholeTensors};
use np_engine::matrix::{Real, product, view};
use np_engine::param_step::ParamStep;
use np_engine::rule::{Rule, StepContext};
use np_gemm::Destination;
use np_trace::Number;
use serde::{Deserialize, Serialize};

use crate::optim::adam;
use device::Memory;

optimizer! {
    /// Muon: every matrix moves along its momentum, approximately orthogonalised (all singular values brought near 1). All other tensors take AdamW.
    ///
    /// ```text
    /// M ← μ M + (1 − μ) G                       N = μ M + (1 − μ) G with Nesterov, else M
    /// X = N/‖N‖;   five times:  A = X Xᵀ,  X ← a X + (b A + c A²) X
    /// θ ← (1 − η wd) θ − η · √max(1, rows/columns) · X
    /// ```
    ///
    /// The iteration, with a, b, c = 3.4445, −4.775, 2.0315, brings singular values to between about 0.7 and 1.2, not to 1 exactly. A matrix with more rows than
    /// columns is transposed for it. A convolution's weight is a matrix of outputs × (inputs · height · width). Vectors, and parameters whose group has
    /// [`matrix: off`](crate::Group::matrix), take AdamW with the settings under [`fallback`](MuonConfig::fallback).
    ///
    /// As `torch.optim.Muon`, with its defaults; PyTorch's refuses tensors that are not matrices. PyTorch iterates in bf16 whatever the type of the parameter. The
    /// default here rounds where PyTorch does; with precision `full` nothing is rounded to bf16. References: Jordan et al. 2024; Liu et al. 2025
    /// (`match_rms_adamw`).
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones((4, 8), DType::F32, &Device::Cpu)?;
    /// let bias = Var::ones(4, DType::F32, &Device::Cpu)?;
    /// let named = vec![("w".into(), w.clone()), ("bias".into(), bias.clone())];
    /// let mut muon = np_core::Muon::from_named(named, np_core::MuonConfig { lr: 0.02, ..Default::default() })?;
    /// muon.backward_step_report(&(w.as_tensor().sqr()?.sum_all()? + bias.as_tensor().sqr()?.sum_all()?)?)?;
    /// # Ok(())
    /// # }
    /// ```
    pub type Muon = Driver<MuonConfig>;
    "fallback" => Fallback;
}

hyper_parameters! {
    /// Hyper-parameters of [`Muon`].
    pub struct MuonConfig = "muon" {
        /// η, step size of matrices, ≥ 0. Default 10⁻³ (PyTorch; 0.02 is usual).
        pub lr: f64 = 1e-3, not_negative;
        /// wd, decoupled weight decay, ≥ 0. Default 0.1 (PyTorch).
        pub weight_decay: f64 = 0.1, not_negative;
        /// μ, momentum, in [0, 1). Default 0.95 (PyTorch).
        pub momentum: f64 = 0.95, fraction;
        /// Nesterov's look-ahead. Default on (PyTorch).
        pub nesterov: bool = true;
        /// a, b, c of the iteration. Default 3.4445, −4.775, 2.0315 (PyTorch).
        pub coefficients: [f64; 3] = [3.4445, -4.7750, 2.0315];
        /// Lower bound of ‖N‖ in the division, > 0. Default 10⁻⁷ (PyTorch).
        pub eps: f64 = 1e-7, positive;
        /// Number of iterations, below 100. Default 5 (PyTorch).
        pub iterations: usize = 5;
        /// Factor on η of a matrix: √max(1, rows/columns) (`original`), 0.2 √max(rows, columns) (`match_rms_adamw`) or √(rows/columns)
        /// (`spectral_unclamped`). Default `original` (PyTorch).
        pub scale: MuonScale = MuonScale::default();
        /// Precision of the iteration: rounded to `bf16` after every operation, or in the type of the computation (`full`). Default `bf16` (PyTorch).
        pub precision: Precision = Precision::default();
        /// Settings of AdamW for tensors that are not matrices.
        pub fallback: Fallback = Fallback::default();
    }
    check |config| {
        for (i, c) in config.coefficients.into_iter().enumerate() {
            check(c.is_finite(), &format!("coefficients.{i}"), "a finite number", c)?;
        }
        check(config.iterations < 100, "iterations", "a number below 100", config.iterations)?;
        config.fallback.in_range().map_err(|e| e.below("fallback"))
    }
}

/// Factor on η of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MuonScale {
    /// √max(1, rows/columns) (Jordan et al.). The default.
    #[default]
    Original,
    /// 0.2 √max(rows, columns), for updates about as large as AdamW's (Liu et al.).
    MatchRmsAdamw,
    /// √(rows/columns) (Bernstein).
    SpectralUnclamped,
}

/// Precision of Muon's iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Precision {
    /// Rounded to bf16 after every operation. The default.
    #[default]
    Bf16,
    /// The type of the computation: `f64` for `f64` parameters, else `f32`.
    Full,
}

hyper_parameters! {
    /// Muon's settings of AdamW for tensors that are not matrices. Weight decay is that of [`MuonConfig`].
    pub struct Fallback {
        /// Learning rate of AdamW divided by η of the matrices, ≥ 0. Default 0.015 (Jordan: 3·10⁻⁴ with η = 0.02).
        pub lr_ratio: f64 = 0.015, not_negative;
        /// β₁, decay of the first moment, in [0, 1). Default 0.9 (Jordan).
        pub beta1: f64 = 0.9, fraction;
        /// β₂, decay of the second moment, in [0, 1). Default 0.95 (Jordan).
        pub beta2: f64 = 0.95, fraction;
        /// ε, added to √v̂, > 0. Default 10⁻¹⁰ (Jordan).
        pub eps: f64 = 1e-10, positive;
    }
}

impl Rule for MuonConfig {
    type Memory = Memory;

    fn buffers(&self, shape: &[usize]) -> Vec<Buffer> {
        if shape.len() > 1 { vec!["momentum".into()] } else { vec!["momentum".into(), "second_moment".into()] }
    }

    fn momentum(&self) -> Option<&'static str> {
        Some("momentum")
    }

    fn keeps_squares_of(&self, dims: &[usize]) -> bool {
        dims.len() < 2
    }

    fn directions(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<Vec<Apply>> {
        if host::on_device(work) {
            host::check(self, cx, work)?;
            return self.directions_on_device(cx, work, memory);
        }
        host::directions(self, cx, work)
    }

    fn step(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<()> {
        let applies = self.directions(cx, work, memory)?;
        host::finish(cx, work, &applies, &mut memory.finish)
    }
}

/// 1 − μ and μ as numbers of a formula, and which form it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Averaging<N> {
    fresh: N,
    kept: N,
    nesterov: bool,
    near_fresh: bool,
}

impl<N: Number> Averaging<N> {
    /// N and M of an element.
    #[inline(always)]
    fn of(&self, g: N, m: N) -> [N; 2] {
        let m = m + self.fresh * (g - m);
        // Written from whichever end is nearer, so that it rounds as PyTorch's `lerp` does.
        let n = match (self.nesterov, self.near_fresh) {
            (false, _) => m,
            (true, true) => g + self.kept * (m - g),
            (true, false) => m - (m - g) * self.fresh,
        };
        [n, m]
    }
}

impl HostRule for MuonConfig {
    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn keeps_squares(&self, dims: &[usize]) -> bool {
        dims.len() < 2
    }

    fn direct<T: Real>(&self, whole: Whole<'_, T>) -> Result<Apply> {
        let Whole { dims, u, buffers, t, lr, weight_decay, .. } = whole;
        match (dims, buffers) {
            ([rows, rest @ ..], [momentum]) => {
                let cols: usize = rest.iter().product();
                let step = lr * self.scale.of(*rows as f64, cols as f64);
                if !u.is_empty() {
                    self.average(u, momentum);
                    self.orthogonalise(u, *rows, cols)?;
                }
                Ok(Apply { keep: 1.0 - lr * weight_decay, factor: step })
            }
            (_, [m, v]) => {
                let Fallback { lr_ratio, beta1, beta2, eps } = self.fallback;
                let k = adam::Scalars::<T>::new(beta1, beta2, eps, t);
                for ((u, m), v) in u.iter_mut().zip(m).zip(v) {
                    (*u, [*m, *v]) = k.direction(*u, [*m, *v]);
                }
                let lr = lr * lr_ratio;
                Ok(Apply { keep: 1.0 - lr * weight_decay, factor: lr })
            }
            _ => Ok(Apply { keep: 1.0, factor: 0.0 }),
        }
    }

    /// Never asked for: matrices of one shape are worked on together.
    fn direct_tensors(&self, whole: WholeTensors<'_>) -> Result<(Tensor, Apply)> {
        Ok((whole.g, Apply { keep: 1.0, factor: 0.0 }))
    }
}

impl MuonScale {
    fn of(self, rows: f64, cols: f64) -> f64 {
        match self {
            Self::Original => (rows / cols.max(1.0)).max(1.0).sqrt(),
            Self::MatchRmsAdamw => 0.2 * rows.max(cols).sqrt(),
            Self::SpectralUnclamped => (rows / cols.max(1.0)).sqrt(),
        }
    }
}

impl MuonConfig {
    /// M moves on; u becomes N.
    fn average<T: Real>(&self, u: &mut [T], momentum: &mut [T]) {
        let k = self.averaging::<T>();
        for (u, m) in u.iter_mut().zip(momentum) {
            [*u, *m] = k.of(*u, *m);
        }
    }

    fn averaging<N: Number>(&self) -> Averaging<N> {
        let (fresh, kept) = (N::from_f64(1.0 - self.momentum), N::from_f64(self.momentum));
        Averaging { fresh, kept, nesterov: self.nesterov, near_fresh: self.momentum < 0.5 }
    }

    fn round<T: Real>(&self, x: T) -> T {
        match self.precision {
            Precision::Bf16 => x.round_to_bf16(),
            Precision::Full => x,
        }
    }

    /// u ← X of the iteration; worked on with its shorter side as rows.
    fn orthogonalise<T: Real>(&self, u: &mut [T], rows: usize, cols: usize) -> Result<()> {
        let tall = rows > cols;
        let (r, c) = if tall { (cols, rows) } else { (rows, cols) };
        let mut x: Vec<T> = match tall {
            true => (0..r * c).map(|k| u[(k % c) * r + k / c]).collect(),
            false => u.to_vec(),
        };
        x.iter_mut().for_each(|x| *x = self.round(*x));
        let norm = x.iter().map(|x| x.to_f64().powi(2)).sum::<f64>().sqrt();
        let norm = if norm.is_finite() { norm } else { sums::far_norm(&x) };
        let norm = self.round(T::from_f64(norm.max(self.eps)));
        x.iter_mut().for_each(|x| *x = self.round(*x / norm));

        let [a, b, c2] = self.coefficients.map(T::from_f64);
        let (mut gram, mut poly, mut next) = (vec![T::ZERO; r * r], vec![T::ZERO; r * r], vec![T::ZERO; r * c]);
        for _ in 0..self.iterations {
            let rows = view(&x, r, c)?;
            product(&mut gram, Destination::Overwrite, T::ONE, rows, rows.t())?;
            gram.iter_mut().for_each(|x| *x = self.round(*x));
            product(&mut poly, Destination::Overwrite, c2, view(&gram, r, r)?, view(&gram, r, r)?)?;
            poly.iter_mut().zip(&gram).for_each(|(p, g)| *p = self.round(b * *g + *p));
            product(&mut next, Destination::Overwrite, T::ONE, view(&poly, r, r)?, view(&x, r, c)?)?;
            x.iter_mut().zip(&next).for_each(|(x, n)| *x = self.round(a * *x + *n));
        }
        match tall {
            true => u.iter_mut().enumerate().for_each(|(k, u)| *u = x[(k % r) * c + k / r]),
            false => u.copy_from_slice(&x),
        }
        Ok(())
    }
}
