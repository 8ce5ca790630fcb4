//! Schedule-free AdamW and SGD: an average of the weights in place of a learning-rate schedule.

use candle_core::Tensor;
use np_engine::config::decay::Decay;
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{Result, fraction, not_negative, open_fraction, positive};
use np_trace::Number;

use crate::optim::average::{Average, correction};

optimizer! {
    /// Schedule-free AdamW: gradients are taken at a point y between the iterate z and its average x, which is used for evaluation.
    ///
    /// ```text
    /// v ← β₂ v + (1 − β₂) g²          h = g / (√(v / (1 − β₂ᵗ)) + ε) + wd·y
    /// ηₜ = η min(1, t/T)              wₜ = tʳ (largest ηᵢ so far)^p          c = wₜ / Σ wᵢ
    /// y ← (1 − c) y + c z − ηₜ (1 − β₁ (1 − c)) h
    /// z ← z − ηₜ h
    /// ```
    ///
    /// T is `warmup_steps`. In training the parameters hold y; evaluate with the average x = y + (z − y)(1 − 1/β₁) in their place. Leave the schedule
    /// constant. As `AdamWScheduleFree` of the package `schedulefree`, with its defaults. Departure: t, the warm-up and Σ wᵢ count the steps of each tensor
    /// separately, while the package counts all steps. Reference: Defazio et al. 2024.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// use np_core::{ScheduleFreeAdamW, ScheduleFreeAdamWConfig, Weights};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let config = ScheduleFreeAdamWConfig { lr: 0.1, ..Default::default() };
    /// let mut optimizer = ScheduleFreeAdamW::from_named(vec![("w".into(), w.clone())], config)?;
    /// for _ in 0..50 {
    ///     optimizer.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// }
    /// optimizer.use_weights(Weights::Averaged)?; // evaluate, save
    /// optimizer.use_weights(Weights::Trained)?; // go on
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`Driver::use_weights`] with [`Weights::Averaged`](crate::Weights) puts x into the parameters.
    pub type ScheduleFreeAdamW = Driver<ScheduleFreeAdamWConfig>;
}

optimizer! {
    /// Schedule-free SGD: gradients are taken at a point y between the iterate z and its average x, which is used for evaluation.
    /// As [`ScheduleFreeAdamW`], with the gradient in place of Adam's direction.
    ///
    /// ```text
    /// h = g + wd·y                    ηₜ, c, y, z, x as in schedule-free AdamW, with β for β₁
    /// ```
    ///
    /// As `SGDScheduleFree` of the package `schedulefree`, with its defaults. Reference: Defazio et al. 2024.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// use np_core::{ScheduleFreeSgd, ScheduleFreeSgdConfig};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let config = ScheduleFreeSgdConfig { lr: 0.25, ..Default::default() };
    /// let mut optimizer = ScheduleFreeSgd::from_named(vec![("w".into(), w.clone())], config)?;
    /// let report = optimizer.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert_eq!(report.updated, 1);
    /// assert_eq!(w.to_vec1::<f32>()?, [0.5; 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub type ScheduleFreeSgd = Driver<ScheduleFreeSgdConfig>;

    /// Hyper-parameters of [`ScheduleFreeAdamW`].
    pub struct ScheduleFreeAdamWConfig = "schedule_free_adamw" {
        /// η, step size, ≥ 0. Default 2.5·10⁻³ (`schedulefree`).
        pub lr: f64 = 2.5e-3, not_negative;
        /// β₁, in (0, 1): gradients are taken at y = β₁ x + (1 − β₁) z. Default 0.9 (`schedulefree`).
        pub beta1: f64 = 0.9, open_fraction;
        /// β₂, decay of the second moment, in [0, 1). Default 0.999 (`schedulefree`).
        pub beta2: f64 = 0.999, fraction;
        /// ε, added to √v̂, > 0. Default 10⁻⁸ (`schedulefree`).
        pub eps: f64 = 1e-8, positive;
        /// wd, weight decay at y, scaled by ηₜ, ≥ 0. Default 0 (`schedulefree`).
        pub weight_decay: f64 = 0.0, not_negative;
        /// T, steps over which η rises linearly. Default 0 (`schedulefree`).
        pub warmup_steps: u64 = 0;
        /// r, power of t in a step's weight in the average, ≥ 0. Default 0 (`schedulefree`).
        pub r: f64 = 0.0, not_negative;
        /// p, power of the largest η in a step's weight, ≥ 0. Default 2 (`schedulefree`).
        pub weight_lr_power: f64 = 2.0, not_negative;
    }
}

hyper_parameters! {
    /// Hyper-parameters of [`ScheduleFreeSgd`].
    pub struct ScheduleFreeSgdConfig = "schedule_free_sgd" {
        /// η, step size, ≥ 0. Default 1 (`schedulefree`).
        pub lr: f64 = 1.0, not_negative;
        /// β, in (0, 1): gradients are taken at y = β x + (1 − β) z. Default 0.9 (`schedulefree`).
        pub momentum: f64 = 0.9, open_fraction;
        /// wd, coupled weight decay, ≥ 0. Default 0 (`schedulefree`).
        pub weight_decay: f64 = 0.0, not_negative;
        /// T, steps over which η rises linearly. Default 0 (`schedulefree`).
        pub warmup_steps: u64 = 0;
        /// r, power of t in a step's weight in the average, ≥ 0. Default 0 (`schedulefree`).
        pub r: f64 = 0.0, not_negative;
        /// p, power of the largest η in a step's weight, ≥ 0. Default 2 (`schedulefree`).
        pub weight_lr_power: f64 = 2.0, not_negative;
    }
}

/// Σ wᵢ and the largest ηᵢ of a tensor.
const NUMBERS: &[(&str, f64)] = &[("weight_sum", 0.0), ("largest_lr", 0.0)];

/// How y and z move.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Moves<T> {
    /// c, weight of z in the new average.
    c: T,
    /// ηₜ (1 − β (1 − c))
    y_step: T,
    /// ηₜ
    z_step: T,
    /// A tensor's first step: z is y.
    first: bool,
}

impl<T: Number> Moves<T> {
    fn new(at: &mut StepInfo<'_>, beta: f64, warmup_steps: u64, r: f64, power: f64) -> Self {
        let warm = if at.t < warmup_steps { at.t as f64 / warmup_steps as f64 } else { 1.0 };
        let lr = at.lr * warm;
        let [sum, largest] = at.numbers else { unreachable!("`NUMBERS` has two") };
        *largest = largest.max(lr);
        let weight = (at.t as f64).powf(r) * largest.powf(power);
        *sum += weight;
        let c = if *sum > 0.0 { weight / *sum } else { 0.0 };
        let real = T::from_f64;
        Self { c: real(c), y_step: real(lr * (1.0 - beta * (1.0 - c))), z_step: real(lr), first: at.t == 1 }
    }

    /// What y moves by, and the new z.
    #[inline(always)]
    fn direction(self, y: T, z: T, h: T) -> (T, T) {
        let z = if self.first { y } else { z };
        (self.c * (y - z) + self.y_step * h, z - self.z_step * h)
    }
}

/// x = y + (z − y)(1 − 1/β)
fn average(y: &Tensor, z: Option<&Tensor>, beta: f64) -> Result<Option<Tensor>> {
    Ok(z.map(|z| y + ((z - y)? * (1.0 - 1.0 / beta))?).transpose()?)
}

/// What a tensor's step needs.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Scalars<T> {
    moves: Moves<T>,
    second: Average<T>,
    /// 1 / √(1 − β₂ᵗ)
    root: T,
    eps: T,
    weight_decay: T,
}

impl Elementwise for ScheduleFreeAdamWConfig {
    const SQUARES: bool = true;
    const BUFFERS: &'static [&'static str] = &["z", "second_moment"];
    type Scalars<T: Number> = Scalars<T>;

    fn weight_decay(&self) -> Decay {
        // Not coupled: it must not enter v.
        Decay::Inside(self.weight_decay)
    }

    fn numbers(&self) -> &'static [(&'static str, f64)] {
        NUMBERS
    }

    fn step_size(&self, _: &StepInfo<'_>) -> f64 {
        1.0
    }

    fn scalars<T: Number>(&self, at: &mut StepInfo<'_>) -> Scalars<T> {
        let real = T::from_f64;
        Scalars {
            second: Average::new(self.beta2),
            root: real(1.0 / correction(self.beta2, at.exponent()).sqrt()),
            eps: real(self.eps),
            weight_decay: real(at.weight_decay),
            moves: Moves::new(at, self.beta1, self.warmup_steps, self.r, self.weight_lr_power),
        }
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Scalars<T>, theta: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let v = k.second.of(state[1], g * g);
        let h = g / (v.sqrt() * k.root + k.eps) + k.weight_decay * theta;
        let (u, z) = k.moves.direction(theta, state[0], h);
        (state[0], state[1]) = (z, v);
        (u, state)
    }

    fn average(&self, theta: &Tensor, buffers: &[Tensor]) -> Result<Option<Tensor>> {
        average(theta, buffers.first(), self.beta1)
    }
}

impl Elementwise for ScheduleFreeSgdConfig {
    const BUFFERS: &'static [&'static str] = &["z"];
    type Scalars<T: Number> = Moves<T>;

    fn weight_decay(&self) -> Decay {
        Decay::Coupled(self.weight_decay)
    }

    fn numbers(&self) -> &'static [(&'static str, f64)] {
        NUMBERS
    }

    fn step_size(&self, _: &StepInfo<'_>) -> f64 {
        1.0
    }

    fn scalars<T: Number>(&self, at: &mut StepInfo<'_>) -> Moves<T> {
        Moves::new(at, self.momentum, self.warmup_steps, self.r, self.weight_lr_power)
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Moves<T>, theta: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let (u, z) = k.direction(theta, state[0], g);
        state[0] = z;
        (u, state)
    }

    fn average(&self, theta: &Tensor, buffers: &[Tensor]) -> Result<Option<Tensor>> {
        average(theta, buffers.first(), self.momentum)
    }
}
