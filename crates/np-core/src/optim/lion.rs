//! Lion: the sign of an average of gradients.

use np_engine::config::decay::Decay;
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{fraction, not_negative};
use np_trace::Number;

optimizer! {
    /// Lion: every element moves by η, in the direction of the sign of an average of gradients.
    ///
    /// ```text
    /// u = sign(β₁ m + (1 − β₁) g)
    /// m ← β₂ m + (1 − β₂) g
    /// θ ← (1 − η wd) θ − η u
    /// ```
    ///
    /// sign(0) = 0. Because |u| = 1, take a learning rate 3 to 10 times smaller than AdamW's, and a weight decay larger by the same factor. As in the
    /// paper's listing, with its defaults. Reference: Chen et al. 2023.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let config = np_core::LionConfig { lr: 0.5, ..Default::default() };
    /// let mut lion = np_core::Lion::from_named(vec![("w".into(), w.clone())], config)?;
    /// lion.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert_eq!(w.to_vec1::<f32>()?, [0.5; 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub type Lion = Driver<LionConfig>;

    /// Hyper-parameters of [`Lion`].
    pub struct LionConfig = "lion" {
        /// η, step size, ≥ 0. Default 10⁻⁴ (paper).
        pub lr: f64 = 1e-4, not_negative;
        /// β₁, weight of the average in the direction, in [0, 1). Default 0.9 (paper).
        pub beta1: f64 = 0.9, fraction;
        /// β₂, decay of the average, in [0, 1). Default 0.99 (paper).
        pub beta2: f64 = 0.99, fraction;
        /// wd, decoupled weight decay, ≥ 0. Default 0 (paper).
        pub weight_decay: f64 = 0.0, not_negative;
    }
}

impl Elementwise for LionConfig {
    const MOMENTUM: Option<&'static str> = Some("momentum");
    const BUFFERS: &'static [&'static str] = &["momentum"];
    /// β₁, 1 − β₁, β₂, 1 − β₂.
    type Scalars<T: Number> = [T; 4];

    fn weight_decay(&self) -> Decay {
        Decay::Decoupled(self.weight_decay)
    }

    fn scalars<T: Number>(&self, _: &mut StepInfo<'_>) -> [T; 4] {
        [self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2].map(T::from_f64)
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &[T; 4], _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let [b1, c1, b2, c2] = *k;
        let u = (b1 * state[0] + c1 * g).sign();
        state[0] = b2 * state[0] + c2 * g;
        (u, state)
    }
}
