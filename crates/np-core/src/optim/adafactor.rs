//! Adafactor: Adam's second moment of a matrix, stored as two vectors.

use candle_core::{D, DType, Tensor};
use np_engine::apply::Apply;
use np_engine::buffer::Buffer;
use np_engine::chain::memory::Memory;
use np_engine::cpu::sums::square_sum;
use np_engine::driver::Driver;
use np_engine::error::{Result, not_negative, not_positive, one_or_more, optional, positive};
use np_engine::host;
use np_engine::host::{HostRule, Whole, WholeTensors};
use np_engine::matrix::Real;
use np_engine::param_step::ParamStep;
use np_engine::rule::{Rule, StepContext};
use np_trace::{Float, Number};

optimizer! {
    /// Adafactor: division by the root of a second moment, of which only the means over rows and over columns are kept. The step size is relative
    /// to the size of the parameter, and the root mean square of an update is at most d.
    ///
    /// ```text
    /// β = 1 − t^decay                ρ = min(η, 1/√t)                α = ρ · max(ε₂, RMS(θ))
    /// R ← β R + (1 − β) · (mean of g² over each row)                C ← β C + (1 − β) · (mean over each column)
    /// V = R Cᵀ / max(mean(R), ε₁)    for a vector: V ← β V + (1 − β) g²
    /// u = g / √max(V, ε₁²)
    /// θ ← (1 − η wd) θ − α u / max(1, RMS(u)/d)
    /// ```
    ///
    /// RMS is the root mean square. Rows and columns are the last two dimensions, so that in a convolution's weight each kernel is a matrix. As
    /// `torch.optim.Adafactor`, with its defaults and, like it, without a first moment. The default ε₁ of half-precision parameters is that of single
    /// precision, in which they are computed; PyTorch's is that of the parameter's own type.
    /// Reference: Shazeer and Stern 2018.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones((30, 20), DType::F32, &Device::Cpu)?;
    /// let mut adafactor = np_core::Adafactor::from_named(vec![("w".into(), w.clone())], Default::default())?;
    /// adafactor.backward_step_report(&w.as_tensor().sqr()?.sum_all()?)?;
    /// assert_eq!(adafactor.state()?.tensors["w.row_second_moment"].dims(), [30, 1]);
    /// # Ok(())
    /// # }
    /// ```
    pub type Adafactor = Driver<AdafactorConfig>;

    /// Hyper-parameters of [`Adafactor`].
    pub struct AdafactorConfig = "adafactor" {
        /// η, largest relative step size, ≥ 0. Default 0.01 (PyTorch).
        pub lr: f64 = 0.01, not_negative;
        /// Exponent of t in 1 − β, ≤ 0: the averages extend over more steps as t grows. Default −0.8 (PyTorch).
        pub beta2_decay: f64 = -0.8, not_positive;
        /// ε₁ > 0, lower bound of √V and of mean(R); taken as at least 1.1·10⁻¹⁹. Default `null`: the machine epsilon (PyTorch).
        pub eps1: Option<f64> = None, optional(positive);
        /// ε₂ ≥ 0, lower bound of RMS(θ) in the step size. Default 10⁻³ (PyTorch).
        pub eps2: f64 = 1e-3, not_negative;
        /// d ≥ 1, largest root mean square of an update. Default 1 (PyTorch).
        pub clip_threshold: f64 = 1.0, one_or_more;
        /// wd, decoupled weight decay, ≥ 0. Default 0 (PyTorch).
        pub weight_decay: f64 = 0.0, not_negative;
    }
}

impl Rule for AdafactorConfig {
    type Memory = Memory;

    fn buffers(&self, shape: &[usize]) -> Vec<Buffer> {
        let [batch @ .., rows, cols] = shape else { return vec!["second_moment".into()] };
        let of = |rows, cols| [batch, &[rows, cols]].concat();
        vec![
            Buffer::new("row_second_moment").shaped(of(*rows, 1)),
            Buffer::new("column_second_moment").shaped(of(1, *cols)),
        ]
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

impl HostRule for AdafactorConfig {
    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn direct<T: Real>(&self, whole: Whole<'_, T>) -> Result<Apply> {
        let Whole { dims, theta, u, buffers, t, lr, weight_decay, .. } = whole;
        let keep = 1.0 - lr * weight_decay;
        if u.is_empty() {
            return Ok(Apply { keep, factor: 0.0 });
        }
        let t = t as f64;
        let fresh = T::from_f64(t.powf(self.beta2_decay));
        let eps = T::from_f64(self.eps1(<T as Float>::EPSILON.to_f64()));
        let root_mean_square = |xs: &[T]| (squares(xs) / xs.len() as f64).sqrt();
        let alpha = self.eps2.max(root_mean_square(theta)) * lr.min(1.0 / t.sqrt());

        match (dims, buffers) {
            ([.., rows, cols], [row, column]) => {
                let matrices = u.chunks_mut(rows * cols).zip(row.chunks_mut(*rows)).zip(column.chunks_mut(*cols));
                matrices.for_each(|((g, row), column)| factored(g, row, column, fresh, eps));
            }
            (_, [moment, ..]) => {
                for (u, v) in u.iter_mut().zip(moment) {
                    *v += fresh * (*u * *u - *v);
                    *u /= Number::max(*v, eps * eps).sqrt();
                }
            }
            _ => {}
        }
        let denominator = (root_mean_square(u) / self.clip_threshold).max(1.0);
        Ok(Apply { keep, factor: alpha / denominator })
    }

    /// What is worked out of sums, max(ε₂, RMS(θ)) over max(1, RMS(u)/d), stays on the device, and is in the direction.
    fn direct_tensors(&self, whole: WholeTensors<'_>) -> Result<(Tensor, Apply)> {
        let WholeTensors { dims, theta, g, buffers, t, lr, weight_decay, .. } = whole;
        let t = t as f64;
        let fresh = t.powf(self.beta2_decay);
        let eps = self.eps1(if g.dtype() == DType::F64 { f64::EPSILON } else { f32::EPSILON.into() });
        // a ← a + (1 − β)(x − a)
        let average = |a: &Tensor, x: &Tensor| a + ((x - a)? * fresh)?;
        let squares = g.sqr()?;
        let second = match (dims, buffers) {
            ([.., _, _], [row, column, ..]) => {
                *row = average(row, &squares.mean_keepdim(D::Minus1)?)?;
                *column = average(column, &squares.mean_keepdim(D::Minus2)?)?;
                let mean = row.mean_keepdim(D::Minus2)?.maximum(eps)?;
                // As the host has it, R Cᵀ first.
                row.broadcast_mul(column)?.broadcast_div(&mean)?
            }
            (_, [moment, ..]) => {
                *moment = average(moment, &squares)?;
                moment.clone()
            }
            _ => squares,
        };
        let u = (g / second.maximum(eps * eps)?.sqrt()?)?;
        let denominator = (root_mean_square(&u)? / self.clip_threshold)?.maximum(1.0)?;
        let scale = (root_mean_square(&theta)?.maximum(self.eps2)? / denominator)?;
        Ok((u.broadcast_mul(&scale)?, Apply { keep: 1.0 - lr * weight_decay, factor: lr.min(1.0 / t.sqrt()) }))
    }
}

impl AdafactorConfig {
    /// ε₁, by default the distance from 1 to the next number. Its square must not vanish.
    fn eps1(&self, epsilon: f64) -> f64 {
        self.eps1.unwrap_or(epsilon).max(1.1e-19)
    }
}

/// √(mean of x²), row by row first, so that all of a device is at work.
fn root_mean_square(x: &Tensor) -> candle_core::Result<Tensor> {
    let rows = x.dims().first().copied().unwrap_or(1);
    let squares = x.sqr()?.reshape((rows, x.elem_count() / rows))?;
    (squares.sum(1)?.sum(0)? / x.elem_count() as f64)?.sqrt()
}

/// g ← g/√V of one matrix, whose rows' and columns' means of g² move on.
fn factored<T: Real>(g: &mut [T], row: &mut [T], column: &mut [T], fresh: T, eps: T) {
    let real = T::from_f64;
    let (rows, cols) = (row.len(), column.len());
    let mut columns = vec![T::ZERO; cols];
    for (g, row) in g.chunks(cols).zip(&mut *row) {
        let mean = real(squares(g) / cols as f64);
        *row += fresh * (mean - *row);
        columns.iter_mut().zip(g).for_each(|(sum, g)| *sum += *g * *g);
    }
    for (c, sum) in column.iter_mut().zip(columns) {
        *c += fresh * (sum / real(rows as f64) - *c);
    }
    let mean = real(row.iter().map(|x| x.to_f64()).sum::<f64>() / rows as f64);
    let scale = Number::max(mean, eps);
    for (g, row) in g.chunks_mut(cols).zip(row) {
        for (g, column) in g.iter_mut().zip(&*column) {
            *g /= Number::max(*row * *column / scale, eps * eps).sqrt();
        }
    }
}

/// Σx², block by block.
fn squares<T: Real>(xs: &[T]) -> f64 {
    xs.chunks(np_trace::pass::BLOCK).map(square_sum).sum()
}
