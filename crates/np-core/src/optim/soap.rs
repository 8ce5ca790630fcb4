//! SOAP: Adam in the eigenbasis of Shampoo's preconditioners.

use candle_core::Tensor;
use np_engine::apply::Apply;
use np_engine::buffer::Buffer;
use np_engine::chain::memory::Memory;
use np_engine::device_matrix;
use np_engine::driver::Driver;
use np_engine::error::{Result, at_least_one, fraction, not_negative, optional, positive};
use np_engine::host;
use np_engine::host::{HostRule, Whole, WholeTensors};
use np_engine::matrix::{Mode, Real, eigen, falling, orthonormal, product, view};
use np_engine::param_step::ParamStep;
use np_engine::rule::{Rule, StepContext};
use np_gemm::Destination;
use np_trace::Number;

optimizer! {
    /// SOAP: Adam in the eigenbasis of Shampoo's preconditioner along each dimension.
    ///
    /// ```text
    /// m ← β₁ m + (1 − β₁) g                     v ← β₂ v + (1 − β₂) (g ×₁ Q₁ᵀ … ×_k Q_kᵀ)²
    /// u = [(m ×₁ Q₁ᵀ … ×_k Q_kᵀ) / (√v + ε)] ×₁ Q₁ … ×_k Q_k
    /// θ ← (1 − η wd) (θ − η √(1 − β₂ᵗ)/(1 − β₁ᵗ) u)
    /// L_i ← β L_i + (1 − β) G_i G_iᵀ            Q_i: eigenvectors of L_i
    /// ```
    ///
    /// A tensor's first step only initialises L and Q and does not move the tensor; t counts the steps after it. Every [`update_every`](SoapConfig::update_every)
    /// steps Q is updated by one power iteration and a QR decomposition. Vectors, and dimensions larger than [`max_dim`](SoapConfig::max_dim), are
    /// not rotated: their steps are Adam's.
    ///
    /// As `SOAP` of the package `pytorch_optimizer`, with its defaults. If a dimension is longer than the product of all others, the first L is singular. The
    /// basis of its null space is then decided by rounding, and trajectories of such tensors agree with the package's only qualitatively.
    /// Reference: Vyas et al. 2024.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones((4, 3), DType::F32, &Device::Cpu)?;
    /// let mut soap = np_core::Soap::from_named(vec![("w".into(), w.clone())], Default::default())?;
    /// soap.backward_step_report(&w.as_tensor().sqr()?.sum_all()?)?;
    /// assert_eq!(soap.state()?.tensors["w.basis_0"].dims(), [4, 4]);
    /// assert_eq!(w.to_vec2::<f32>()?[0], [1.0; 3]); // the first step only looks
    /// # Ok(())
    /// # }
    /// ```
    pub type Soap = Driver<SoapConfig>;

    /// Hyper-parameters of [`Soap`].
    pub struct SoapConfig = "soap" {
        /// η, step size, ≥ 0. Default 3·10⁻³ (`pytorch_optimizer`).
        pub lr: f64 = 3e-3, not_negative;
        /// β₁, decay of the first moment, in [0, 1). Default 0.95 (`pytorch_optimizer`).
        pub beta1: f64 = 0.95, fraction;
        /// β₂, decay of the second moment, in [0, 1). Default 0.95 (`pytorch_optimizer`).
        pub beta2: f64 = 0.95, fraction;
        /// β, decay of the preconditioners L, in [0, 1). Default `null`: β₂ (`pytorch_optimizer`).
        pub shampoo_beta: Option<f64> = None, optional(fraction);
        /// ε, added to √v, > 0. Default 10⁻⁸ (`pytorch_optimizer`).
        pub eps: f64 = 1e-8, positive;
        /// wd, decoupled weight decay, applied after the step, ≥ 0. Default 0.01 (`pytorch_optimizer`).
        pub weight_decay: f64 = 0.01, not_negative;
        /// Steps between two updates of the basis Q, ≥ 1. Default 10 (`pytorch_optimizer`).
        pub update_every: u64 = 10, at_least_one;
        /// Largest dimension that is preconditioned, ≥ 1. Default 10,000 (`pytorch_optimizer`).
        pub max_dim: usize = 10_000, at_least_one;
    }
}

impl SoapConfig {
    /// The dimensions that are preconditioned.
    fn modes(&self, dims: &[usize]) -> Vec<Mode> {
        if dims.len() < 2 { vec![] } else { Mode::all(dims).filter(|m| (1..=self.max_dim).contains(&m.size)).collect() }
    }
}

impl Rule for SoapConfig {
    type Memory = Memory;

    fn portable(&self) -> bool {
        false
    }

    fn buffers(&self, shape: &[usize]) -> Vec<Buffer> {
        let mut all: Vec<Buffer> = vec!["first_moment".into(), "second_moment".into()];
        for (k, n) in shape.iter().enumerate().filter(|(_, n)| shape.len() > 1 && (1..=self.max_dim).contains(*n)) {
            all.push(Buffer::new(format!("preconditioner_{k}")).shaped([*n, *n]));
            all.push(Buffer::new(format!("basis_{k}")).shaped([*n, *n]));
        }
        all
    }

    fn scratch(&self) -> usize {
        3
    }

    fn momentum(&self) -> Option<&'static str> {
        Some("first_moment")
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

/// Which way a tensor is turned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// To the eigenbasis.
    There,
    /// And back.
    Back,
}

/// Turns x, with a scratch as long.
///
/// # Errors
/// Where the sizes do not fit.
fn turn<T: Real>(modes: &[Mode], pairs: &[Vec<T>], way: Turn, x: &mut [T], spare: &mut [T]) -> Result<()> {
    for (mode, pair) in modes.iter().zip(pairs.chunks(2)) {
        let [_, basis] = pair else { continue };
        let q = view(basis, mode.size, mode.size)?;
        mode.multiply(spare, if way == Turn::There { q.t() } else { q }, x)?;
        x.copy_from_slice(spare);
    }
    Ok(())
}

impl HostRule for SoapConfig {
    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn direct<T: Real>(&self, whole: Whole<'_, T>) -> Result<Apply> {
        let Whole { dims, u, buffers, work, t, lr, weight_decay, .. } = whole;
        let real = T::from_f64;
        let (Some(([m, v], pairs)), [g, spare]) = (buffers.split_first_chunk_mut::<2>(), work) else {
            return Ok(Apply { keep: 1.0, factor: 0.0 });
        };
        let modes = self.modes(dims);
        let fresh = 1.0 - self.shampoo_beta.unwrap_or(self.beta2);
        if t == 1 || u.is_empty() {
            for (mode, pair) in modes.iter().zip(pairs.chunks_mut(2)) {
                let [sum, basis] = pair else { continue };
                mode.gram(sum, real(fresh), u)?;
                let n = mode.size;
                let (_, vectors) = eigen(sum, n)?;
                // The largest first.
                *basis = (0..n * n).map(|k| real(vectors[k / n * n + (n - 1 - k % n)])).collect();
            }
            return Ok(Apply { keep: 1.0, factor: 0.0 });
        }

        g.copy_from_slice(u);
        let (fresh1, fresh2, eps) = (real(1.0 - self.beta1), real(1.0 - self.beta2), real(self.eps));
        turn(&modes, pairs, Turn::There, u, spare)?;
        for ((v, projected), (m, g)) in v.iter_mut().zip(&*u).zip(m.iter_mut().zip(&*g)) {
            *v += fresh2 * (*projected * *projected - *v);
            *m += fresh1 * (*g - *m);
        }
        u.copy_from_slice(m);
        turn(&modes, pairs, Turn::There, u, spare)?;
        u.iter_mut().zip(&*v).for_each(|(u, v)| *u /= Number::sqrt(*v) + eps);
        turn(&modes, pairs, Turn::Back, u, spare)?;

        let follow = (t - 1).is_multiple_of(self.update_every);
        for (mode, pair) in modes.iter().zip(pairs.chunks_mut(2)) {
            let [sum, basis] = pair else { continue };
            sum.iter_mut().for_each(|x| *x *= real(1.0 - fresh));
            mode.gram(sum, real(fresh), g)?;
            if follow {
                let order = iterate(sum, basis, mode.size)?;
                reorder(v, *mode, &order, spare);
            }
        }
        Ok(self.apply(t, lr, weight_decay))
    }

    fn direct_tensors(&self, whole: WholeTensors<'_>) -> Result<(Tensor, Apply)> {
        let WholeTensors { dims, g, buffers, t, lr, weight_decay, .. } = whole;
        let modes = self.modes(dims);
        let Some(([m, v], pairs)) = buffers.split_first_chunk_mut::<2>() else {
            return Ok((g, Apply { keep: 1.0, factor: 0.0 }));
        };
        let fresh = 1.0 - self.shampoo_beta.unwrap_or(self.beta2);
        if t == 1 {
            for (mode, pair) in modes.iter().zip(pairs.chunks_mut(2)) {
                let [sum, basis] = pair else { continue };
                *sum = (&*sum + (device_matrix::gram(*mode, &g)? * fresh)?)?;
                *basis = device_matrix::eigenvectors(sum)?;
            }
            return Ok((g, Apply { keep: 1.0, factor: 0.0 }));
        }
        // a ← a + (1 − β)(x − a)
        let average = |a: &Tensor, x: &Tensor, beta: f64| a + ((x - a)? * (1.0 - beta))?;
        *v = average(v, &turn_tensor(&modes, pairs, Turn::There, &g)?.sqr()?, self.beta2)?;
        *m = average(m, &g, self.beta1)?;
        let u = (turn_tensor(&modes, pairs, Turn::There, m)? / (v.sqrt()? + self.eps)?)?;
        let u = turn_tensor(&modes, pairs, Turn::Back, &u)?;
        for (mode, pair) in modes.iter().zip(pairs.chunks_mut(2)) {
            let [sum, basis] = pair else { continue };
            *sum = ((&*sum * (1.0 - fresh))? + (device_matrix::gram(*mode, &g)? * fresh)?)?;
            if (t - 1).is_multiple_of(self.update_every) {
                let image = sum.matmul(basis)?;
                let values = (&*basis * &image)?.sum(0)?;
                let (next, order) = device_matrix::orthonormal(&image, &values)?;
                *basis = next;
                let slices = v.reshape((mode.before, mode.size, mode.after))?;
                *v = slices.index_select(&order, 1)?.reshape(v.shape())?;
            }
        }
        Ok((u, self.apply(t, lr, weight_decay)))
    }
}

impl SoapConfig {
    /// How step t, not the first, ends.
    fn apply(&self, t: u64, lr: f64, weight_decay: f64) -> Apply {
        let t = i32::try_from(t - 1).unwrap_or(i32::MAX);
        let correction = (1.0 - self.beta2.powi(t)).sqrt() / (1.0 - self.beta1.powi(t));
        let keep = 1.0 - lr * weight_decay;
        Apply { keep, factor: keep * lr * correction }
    }
}

/// [`turn`] on a device.
fn turn_tensor(modes: &[Mode], pairs: &[Tensor], way: Turn, x: &Tensor) -> candle_core::Result<Tensor> {
    let mut x = x.clone();
    for (mode, pair) in modes.iter().zip(pairs.chunks(2)) {
        let [_, q] = pair else { continue };
        x = device_matrix::multiply(*mode, &if way == Turn::There { q.t()? } else { q.clone() }, &x)?;
    }
    Ok(x)
}

/// Q ← Q of the QR decomposition of L Q, its columns in falling order of what they estimate the eigenvalues to be. Gives that order.
///
/// # Errors
/// Where the sizes do not fit.
fn iterate<T: Real>(sum: &[T], basis: &mut Vec<T>, n: usize) -> Result<Vec<usize>> {
    let mut image = vec![T::ZERO; n * n];
    product(&mut image, Destination::Overwrite, T::ONE, view(sum, n, n)?, view(basis, n, n)?)?;
    let value = |j: usize| (0..n).map(|i| (basis[i * n + j] * image[i * n + j]).to_f64()).sum::<f64>();
    let values: Vec<f64> = (0..n).map(value).collect();
    let order = falling(&values);
    let sorted: Vec<T> = (0..n * n).map(|k| image[k / n * n + order[k % n]]).collect();
    *basis = orthonormal(&sorted, n);
    Ok(order)
}

/// v in the new order of the basis along a dimension.
fn reorder<T: Real>(v: &mut [T], mode: Mode, order: &[usize], spare: &mut [T]) {
    spare.copy_from_slice(v);
    let slice = (mode.size * mode.after).max(1);
    for (new, old) in v.chunks_mut(slice).zip(spare.chunks(slice)) {
        for (new, from) in new.chunks_mut(mode.after).zip(order) {
            new.copy_from_slice(&old[from * mode.after..(from + 1) * mode.after]);
        }
    }
}
