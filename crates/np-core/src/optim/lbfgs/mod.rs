//! L-BFGS: a quasi-Newton method with a line search.

mod line_search;
mod memory;

use candle_core::{DType, Tensor};
use np_engine::apply::Apply;
use np_engine::buffer::Buffer;
use np_engine::config::options::NonFinite;
use np_engine::driver::Driver;
use np_engine::error::{Error, Result, at_least_one, not_negative};
use np_engine::gradients;
use np_engine::input::{Closure, Search, Searched, StepInput};
use np_engine::optimizer_state::{Piece, Pieces};
use np_engine::param_state::ParamState;
use np_engine::param_step::ParamStep;
use np_engine::report::StepOutcome;
use np_engine::rule::{Rule, StepContext};
use np_engine::state::compute_dtype;

use line_search::{Evaluation, strong_wolfe};
use memory::{Memory, dot, largest};

optimizer! {
    /// L-BFGS: the gradient, multiplied by an approximate inverse Hessian that is computed from recent changes of parameters and gradient.
    ///
    /// ```text
    /// d = −H g,   H from the last pairs s = Δθ, y = Δg by the two-loop recursion, starting from (s·y)/(y·y) I
    /// θ ← θ + t d
    /// ```
    ///
    /// t comes from a line search for the strong Wolfe conditions, which tries η first (η · min(1, 1/‖g‖₁) while there are no pairs). A step makes up to
    /// [`max_iterations`](LbfgsConfig::max_iterations) iterations on its batch. As `torch.optim.LBFGS`, with its defaults, except that it searches (PyTorch does
    /// not by default) and that the history has 10 pairs, not 100.
    ///
    /// All parameters form one vector in double precision on the host; the history holds 2 such vectors for each pair. L-BFGS is made for losses without noise. With
    /// mini-batches, all evaluations of a step must use the same batch and the same dropout. References: Liu and Nocedal 1989; Nocedal and Wright 2006,
    /// algorithms 3.5, 3.6 and 7.4.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{Device, Var};
    /// // Rosenbrock's valley.
    /// let w = Var::new(&[-1.2f64, 1.0], &Device::Cpu)?;
    /// let mut lbfgs = np_core::Lbfgs::from_named(vec![("w".into(), w.clone())], Default::default())?;
    /// for _ in 0..3 {
    ///     lbfgs.step_with(&mut || {
    ///         let (x, y) = (w.as_tensor().get(0)?, w.as_tensor().get(1)?);
    ///         let loss = ((1.0 - &x)?.sqr()? + ((y - x.sqr()?)?.sqr()? * 100.0)?)?;
    ///         Ok((loss.to_scalar::<f64>()?, loss.backward()?))
    ///     })?;
    /// }
    /// assert!(w.to_vec1::<f64>()?.iter().all(|x| (x - 1.0).abs() < 1e-5));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`Driver::step_with`] takes the closure that the line search evaluates, which must use the same batch each time. [`Driver::step_report`] makes one
    /// iteration without a search. The report has `converged` set if a tolerance was met, and the outcome `Stalled` if the search found no better
    /// point.
    pub type Lbfgs = Driver<LbfgsConfig>;

    /// Hyper-parameters of [`Lbfgs`].
    pub struct LbfgsConfig = "lbfgs" {
        /// η, the step length t that the line search tries first, ≥ 0. Default 1 (PyTorch).
        pub lr: f64 = 1.0, not_negative;
        /// Largest number of iterations in a step with a closure, ≥ 1. Default 20 (PyTorch).
        pub max_iterations: usize = 20, at_least_one;
        /// Number of evaluations of the closure after which a step begins no further iteration, ≥ 1. Default 25 (PyTorch: 1.25 times the iterations).
        pub max_evaluations: usize = 25, at_least_one;
        /// A step ends when every element of the gradient is at most this large (PyTorch's `tolerance_grad`), ≥ 0. Default 10⁻⁷ (PyTorch).
        pub gradient_tolerance: f64 = 1e-7, not_negative;
        /// A step ends when an iteration changes every parameter by at most this, or the loss by less, or when the slope along the direction is less steep
        /// (PyTorch's `tolerance_change`), ≥ 0. Default 10⁻⁹ (PyTorch).
        pub change_tolerance: f64 = 1e-9, not_negative;
        /// Number of pairs that the history keeps, ≥ 1. Default 10 (Liu and Nocedal recommend 3 to 20; PyTorch's is 100).
        pub history: usize = 10, at_least_one;
        /// wd, coupled weight decay: wd·θ is added to the gradient and wd‖θ‖²/2 to the loss, ≥ 0. Default 0.
        pub weight_decay: f64 = 0.0, not_negative;
    }
}

impl Rule for LbfgsConfig {
    type Memory = Memory;

    fn buffers(&self, _: &[usize]) -> Vec<Buffer> {
        vec![]
    }

    fn directions(&self, _: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<Vec<Apply>> {
        if work.is_empty() {
            return Ok(vec![]);
        }
        // What is not finite would stay in the pairs, and in all parameters.
        gradients::norms(work)?;
        let (mut theta, mut g) = (Vec::new(), Vec::new());
        for w in work.iter() {
            let grad = w.gradient()?;
            let at = numbers(&w.param.theta()?)?;
            let wd = w.weight_decay(self.weight_decay);
            g.extend(numbers(&grad)?.iter().zip(&at).map(|(g, theta)| g + wd * theta));
            theta.extend(at);
        }
        let which: Vec<usize> = work.iter().map(|w| w.param.index).collect();
        memory.learn(&which, &theta, &g, self.history);
        let mut d = memory.direction(&g);
        if !descends(&d, &g) {
            memory.pairs.clear();
            d = g.iter().map(|g| -g).collect();
        }
        let share = memory.first(1.0, &g);
        let mut rest = d.as_slice();
        let mut applies = Vec::with_capacity(work.len());
        for w in work.iter_mut() {
            let (own, others) = rest.split_at(w.grad.elem_count());
            rest = others;
            let u: Vec<f64> = own.iter().map(|d| -d).collect();
            let u = Tensor::from_vec(u, w.param.var.shape(), w.param.var.device())?;
            w.param.state.set(w.param.buffers.len(), &u.to_dtype(compute_dtype(w.grad.dtype()))?)?;
            applies.push(Apply { keep: 1.0, factor: w.lr * share });
        }
        Ok(applies)
    }

    fn pieces(&self, memory: &Memory, sizes: &[usize]) -> Vec<Piece> {
        memory.pieces(sizes)
    }

    fn load_pieces(&self, pieces: &mut Pieces<'_>) -> Result<Option<Memory>> {
        Memory::load_pieces(pieces).map(Some)
    }

    fn converged(&self, memory: &Memory) -> bool {
        memory.largest().is_some_and(|largest| largest <= self.gradient_tolerance)
    }

    fn step_input(&self) -> StepInput {
        StepInput::Closure
    }

    fn search(&self, from: &mut Search<'_>, closure: &mut Closure<'_>, memory: &mut Memory) -> Result<Searched> {
        search(self, from, closure, memory)
    }
}

/// Whether the loss falls along `d`, whose numbers are finite: products of the largest numbers may not be.
fn descends(d: &[f64], g: &[f64]) -> bool {
    dot(d, g) < 0.0 && d.iter().all(|d| d.is_finite())
}

fn numbers(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// Loss and gradient at the parameters as they are, of the params in `moved`; the first time, when there is none yet, of all that have one.
fn evaluate(
    from: &Search<'_>,
    weight_decay: f64,
    closure: &mut Closure<'_>,
    moved: &mut Option<Vec<usize>>,
) -> Result<(f64, Vec<f64>, f64)> {
    let (mut loss, grads) = closure()?;
    let found = gradients::find(from.params, &grads)?;
    let norm = gradients::norm(&found)?;
    let moved = moved.get_or_insert_with(|| (0..found.len()).filter(|&i| found[i].is_some()).collect());
    let mut g = Vec::new();
    for &i in moved.iter() {
        let param = &from.params[i];
        let theta = numbers(&param.theta()?)?;
        let wd = param.settings.weight_decay.unwrap_or(weight_decay);
        loss += 0.5 * wd * dot(&theta, &theta);
        let own = match &found[i] {
            Some(grad) => numbers(grad)?,
            None => vec![0.0; theta.len()],
        };
        g.extend(own.iter().zip(&theta).map(|(g, theta)| g + wd * theta));
    }
    Ok((loss, g, norm))
}

/// Puts θ + t d into the parameters.
fn place(params: &mut [ParamState], moved: &[usize], theta: &[f64], t: f64, d: &[f64]) -> Result<()> {
    let mut at = 0;
    for &i in moved {
        let param = &mut params[i];
        let n = param.var.elem_count();
        if n == 0 {
            continue;
        }
        // To the bit where t is 0, and whatever d is.
        let value = |i: usize| if t == 0.0 { theta[i] } else { theta[i] + t * d[i] };
        let values: Vec<f64> = (at..at + n).map(value).collect();
        let values = Tensor::from_vec(values, param.var.shape(), param.var.device())?;
        param.write(&values.to_dtype(compute_dtype(param.var.dtype()))?)?;
        at += n;
    }
    Ok(())
}

fn current(params: &[ParamState], moved: &[usize]) -> Result<Vec<f64>> {
    let mut theta = Vec::new();
    for &i in moved {
        theta.extend(numbers(&params[i].theta()?)?);
    }
    Ok(theta)
}

fn search(
    config: &LbfgsConfig,
    from: &mut Search<'_>,
    closure: &mut Closure<'_>,
    memory: &mut Memory,
) -> Result<Searched> {
    StepInput::Closure.suits(from.options).map_err(|error| error.below("options"))?;
    let (lr, weight_decay) = (from.lr, config.weight_decay);
    let mut which = None;
    let (mut loss, mut g, gradient_norm) = evaluate(from, weight_decay, closure, &mut which)?;
    // A parameter without a gradient here is left alone throughout, as in any other step.
    let moved = which.clone().unwrap_or_default();
    let scales: Vec<f64> = moved
        .iter()
        .map(|&i| &from.params[i])
        .flat_map(|s| std::iter::repeat_n(s.settings.lr_scale, s.var.elem_count()))
        .collect();
    if !loss.is_finite() || !g.iter().all(|g| g.is_finite()) {
        // There is no way down from here, whatever the policy is.
        if from.options.non_finite == NonFinite::Skip {
            return Ok(Searched { moved, outcome: StepOutcome::Skipped, gradient_norm, converged: false });
        }
        let (expected, got) = ("a finite loss with finite gradients".to_string(), format!("a loss of {loss}"));
        return Err(Error::Gradient { name: "all parameters".to_string(), expected, got });
    }
    let mut theta = current(from.params, &moved)?;
    let start = (theta.clone(), memory.clone());
    let (mut evaluations, mut converged) = (1, false);
    // A step that there was no reason, or no rate, to take.
    let mut outcome = StepOutcome::Unchanged;
    for _ in 0..config.max_iterations {
        if largest(&g) <= config.gradient_tolerance || evaluations >= config.max_evaluations {
            break;
        }
        memory.learn(&moved, &theta, &g, config.history);
        let mut d = memory.direction(&g);
        d.iter_mut().zip(&scales).for_each(|(d, scale)| *d *= scale);
        let mut slope = dot(&d, &g);
        if !descends(&d, &g) {
            memory.pairs.clear();
            d = g.iter().zip(&scales).map(|(g, scale)| -g * scale).collect();
            slope = dot(&d, &g);
        }
        if slope > -config.change_tolerance {
            converged = true;
            break;
        }
        let first = memory.first(lr, &g);
        let found = strong_wolfe(Evaluation { t: 0.0, value: loss, slope, gradient: g.clone() }, first, &mut |t| {
            place(from.params, &moved, &theta, t, &d)?;
            evaluations += 1;
            let (value, gradient, _) = evaluate(from, weight_decay, closure, &mut which)?;
            Ok(Evaluation { t, value, slope: dot(&gradient, &d), gradient })
        });
        let found = match found {
            Ok(found) => found,
            Err(e) => {
                // Whatever went wrong, nothing has changed.
                place(from.params, &moved, &start.0, 0.0, &d)?;
                *memory = start.1;
                return Err(e);
            }
        };
        place(from.params, &moved, &theta, found.t, &d)?;
        if found.t == 0.0 {
            if outcome == StepOutcome::Unchanged && first > 0.0 {
                outcome = StepOutcome::Stalled;
            }
            break;
        }
        outcome = StepOutcome::Updated;
        let (change, gained) = (largest(&d) * found.t, (loss - found.value).abs());
        (loss, g, theta) = (found.value, found.gradient, current(from.params, &moved)?);
        if change <= config.change_tolerance || gained < config.change_tolerance {
            converged = true;
            break;
        }
    }
    converged |= !moved.is_empty() && largest(&g) <= config.gradient_tolerance;
    Ok(Searched { moved, outcome, gradient_norm, converged })
}
