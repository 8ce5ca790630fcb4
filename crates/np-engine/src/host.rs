//! Rules that need a whole parameter at once. On a CUDA device they use candle's operations; else they compute in the host's memory, wherever the parameter is.

use std::cell::Cell;

use candle_core::{DType, Storage, Tensor};
use np_cuda::table::BUFFERS;
use np_trace::{Number, Outcome};

use crate::apply::Apply;
use crate::chain::memory::Memory;
use crate::chain::{self, Arithmetic, Chain, Given, Numbers, Step};
use crate::element::{BLOCK, Element, dispatch};
use crate::error::Result;
use crate::matrix::Real;
use crate::param_state::ParamState;
use crate::param_step::{ParamStep, for_each};
use crate::rule::StepContext;
use crate::state::{State, compute_dtype};
use crate::{cpu, gradients, range};

/// A parameter in the host's memory.
#[non_exhaustive]
pub struct Whole<'a, T> {
    /// Its shape; of one dimension where the options say that it is no matrix.
    pub dims: &'a [usize],
    /// The parameter, row by row.
    pub theta: &'a [T],
    /// The gradient, to become the direction.
    pub u: &'a mut [T],
    /// Its state.
    pub buffers: &'a mut [Vec<T>],
    /// Scratch of the parameter's size, one less than the rule's.
    pub work: &'a mut [Vec<T>],
    /// Its steps so far, this one included.
    pub t: u64,
    /// η of this parameter.
    pub lr: f64,
    /// wd of this parameter.
    pub weight_decay: f64,
}

/// A parameter on a device, as tensors of the type of the computation.
#[non_exhaustive]
pub struct WholeTensors<'a> {
    /// Its shape; of one dimension where the options say that it is no matrix.
    pub dims: &'a [usize],
    /// The parameter.
    pub theta: Tensor,
    /// The gradient.
    pub g: Tensor,
    /// Its state.
    pub buffers: &'a mut [Tensor],
    /// Its steps so far, this one included.
    pub t: u64,
    /// η of this parameter.
    pub lr: f64,
    /// wd of this parameter.
    pub weight_decay: f64,
}

/// The arithmetic of a rule on a whole parameter.
///
/// Its [`Rule`](crate::Rule) is written beside it: `directions` is [`directions`] of this module, and `step` is that and then [`finish`]. The rule has one scratch
/// tensor for the direction, and one more for each of [`Whole::work`].
pub trait HostRule: Sync {
    /// Whether the state of a parameter of this shape holds squares of gradients. If so, gradients whose squares overflow are refused.
    fn keeps_squares(&self, _dims: &[usize]) -> bool {
        true
    }
    /// `Ok` if a step can be taken with a gradient of this norm (without weight decay), in addition to the check of [`HostRule::keeps_squares`]. All parameters are
    /// checked before any state changes.
    ///
    /// # Errors
    /// [`crate::Error::Gradient`] if the state would not be finite; [`crate::Error::Config`] if a setting does not fit the parameter.
    fn check(&self, _w: &ParamStep<'_>, _norm: f64) -> Result<()> {
        Ok(())
    }
    /// Replaces the gradient by the direction, updates the buffers, and returns the scalars of the update.
    ///
    /// # Errors
    /// Where a decomposition fails.
    fn direct<T: Real>(&self, whole: Whole<'_, T>) -> Result<Apply>;
    /// The same by operations of a device, for parameters that are not empty: the direction, of the parameter's shape or its elements in that order.
    ///
    /// # Errors
    /// Where a decomposition fails; those of candle.
    fn direct_tensors(&self, whole: WholeTensors<'_>) -> Result<(Tensor, Apply)>;
    /// wd where no group says otherwise. [`HostRule::direct`] applies it.
    fn weight_decay(&self) -> f64;
}

/// Elements in all above which decompositions and products take longer than waking threads.
const WORTH_THREADS: usize = 1024;

/// Whether parameters are computed with where they are, by candle's operations.
pub fn on_device(work: &[ParamStep<'_>]) -> bool {
    AS_ON_A_DEVICE.get() || work.first().is_some_and(|w| w.param.var.device().is_cuda())
}

/// Whether steps of all of `work` wait for nothing: launches, which do not look at gradients.
fn unseen(cx: &StepContext, work: &[ParamStep<'_>]) -> bool {
    work.iter().all(|w| w.param.launches(cx.backend))
}

/// The directions of all of `work`.
///
/// # Errors
/// Those of the rule; [`Error::Rule`](crate::Error::Rule) for a rule without scratch.
pub fn directions(rule: &impl HostRule, cx: &StepContext, work: &mut [ParamStep<'_>]) -> Result<Vec<Apply>> {
    work.iter().try_for_each(|w| w.param.has_scratch())?;
    if on_device(work) {
        check(rule, cx, work)?;
        return work.iter_mut().map(|w| on_tensors_of_device(rule, w)).collect();
    }
    let elements: usize = work.iter().map(|w| w.grad.elem_count()).sum();
    let here = |work: &mut [ParamStep<'_>]| directions_here(rule, cx, work);
    if elements > WORTH_THREADS { cpu::on_threads(|| here(work)) } else { here(work) }
}

/// A step over all of `work`, whose directions have been found: on a CUDA device, launches for all parameters.
///
/// # Errors
/// Those of candle and of a device.
pub fn finish(cx: &StepContext, work: &mut [ParamStep<'_>], applies: &[Apply], memory: &mut Memory) -> Result<()> {
    chain::take(&Found(applies), cx, work, memory, Outcome::Step).map(drop)
}

/// What is to be done with directions that have been found.
struct Found<'a>(&'a [Apply]);

impl Step for Found<'_> {
    const COLUMNS: usize = 2;

    fn places(&self, param: &ParamState) -> [Option<usize>; BUFFERS] {
        std::array::from_fn(|k| (k == 0).then_some(param.buffers.len()))
    }

    fn run(&self, chain: &mut impl Chain) -> Result<()> {
        chain.arithmetic(self)?;
        chain.finish(&Given, 0, 0, None).map(drop)
    }
}

impl Arithmetic for Found<'_> {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("found", 0)
    }

    fn of<N: Number>(&self, tensor: usize, _: Numbers<'_, N>) -> Vec<(usize, N)> {
        let Apply { keep, factor } = self.0[tensor];
        vec![(0, N::from_f64(keep)), (1, N::from_f64(factor))]
    }
}

/// Refuses what a step cannot be taken with, but where that would have to be waited for.
///
/// # Errors
/// [`Error::Gradient`](crate::Error::Gradient) for a gradient that is not finite or too large; those of the rule.
pub fn check(rule: &impl HostRule, cx: &StepContext, work: &[ParamStep<'_>]) -> Result<()> {
    if unseen(cx, work) {
        return Ok(());
    }
    // A number that is not finite would stay in the sums for good, and so would a square that is not. All parameters are looked at before the state
    // of the first moves.
    let norms = gradients::norms(work)?;
    for (w, norm) in work.iter().zip(norms) {
        if rule.keeps_squares(&w.param.dims()) {
            range::squarable(&w.param.name, w.param.var.dtype(), norm)?;
        }
        rule.check(w, norm)?;
    }
    Ok(())
}

fn directions_here(rule: &impl HostRule, cx: &StepContext, work: &mut [ParamStep<'_>]) -> Result<Vec<Apply>> {
    check(rule, cx, work)?;
    for_each(work, |w| match (&w.param.state, w.grad.dtype()) {
        (State::Tensors(_), DType::F64) => on_tensors::<f64>(rule, w),
        (State::Tensors(_), _) => on_tensors::<f32>(rule, w),
        (_, dtype) => dispatch!(dtype, E => on_cpu::<E>(rule, w)),
    })
}

/// What is handed on of a param, its state apart.
fn frame(rule: &impl HostRule, w: &ParamStep<'_>) -> (Vec<usize>, u64, f64, f64) {
    (w.param.dims(), w.param.steps, w.lr, w.weight_decay(rule.weight_decay()))
}

fn on_cpu<E: Element<Compute: Real>>(rule: &impl HostRule, w: &mut ParamStep<'_>) -> Result<Apply> {
    let (dims, t, lr, weight_decay) = frame(rule, w);
    let (g, g_layout) = w.grad.storage_and_layout();
    let (theta, theta_layout) = w.param.var.storage_and_layout();
    let (Storage::Cpu(g), Storage::Cpu(theta)) = (&*g, &*theta) else {
        return Err(candle_core::Error::Msg("expected tensors on the CPU".to_string()).into());
    };
    let (g, theta) = (cpu::slice::<E>(g, g_layout)?, cpu::slice::<E>(theta, theta_layout)?);
    let count = w.param.buffers.len();
    let (buffers, scratch) = E::buffers(&mut w.param.state).split_at_mut(count);
    let [u, work @ ..] = scratch else { unreachable!("`directions` has looked for it") };
    let zero = <E::Compute as Number>::ZERO;
    let mut wide = [zero; BLOCK];
    for (u, g) in u.chunks_mut(BLOCK).zip(g.chunks(BLOCK)) {
        u.copy_from_slice(E::read_mapped(g, w.map, &mut wide));
    }
    let widened;
    let theta = match E::same(theta) {
        Some(theta) => theta,
        None => {
            widened = theta.chunks(BLOCK).flat_map(|block| E::read(block, &mut wide).to_vec()).collect::<Vec<_>>();
            &widened
        }
    };
    rule.direct(Whole { dims: &dims, theta, u, buffers, work, t, lr, weight_decay })
}

fn on_tensors<T: Real + candle_core::WithDType>(rule: &impl HostRule, w: &mut ParamStep<'_>) -> Result<Apply> {
    let (dims, t, lr, weight_decay) = frame(rule, w);
    let (dtype, device) = (compute_dtype(w.grad.dtype()), w.param.var.device().clone());
    let host = |x: &Tensor| x.to_dtype(dtype)?.flatten_all()?.to_vec1::<T>();
    let count = w.param.buffers.len();
    let State::Tensors(state) = &mut w.param.state else { return Ok(Apply { keep: 1.0, factor: 0.0 }) };
    let theta = host(&w.param.var.as_detached_tensor())?;
    let mut u = host(&w.map.apply_tensor(w.grad.to_dtype(dtype)?)?)?;
    let mut buffers = state[..count].iter().map(host).collect::<candle_core::Result<Vec<_>>>()?;
    let mut work: Vec<_> = state[count + 1..].iter().map(|_| vec![T::ZERO; u.len()]).collect();
    let whole =
        Whole { dims: &dims, theta: &theta, u: &mut u, buffers: &mut buffers, work: &mut work, t, lr, weight_decay };
    let how = rule.direct(whole)?;
    for (tensor, values) in state.iter_mut().zip(buffers.into_iter().chain([u])) {
        *tensor = Tensor::from_vec(values, tensor.shape(), &device)?;
    }
    Ok(how)
}

fn on_tensors_of_device(rule: &impl HostRule, w: &mut ParamStep<'_>) -> Result<Apply> {
    let (dims, t, lr, weight_decay) = frame(rule, w);
    if w.grad.elem_count() == 0 {
        return Ok(Apply { keep: 1.0, factor: 0.0 });
    }
    let (theta, g, count) = (w.theta()?, w.gradient()?, w.param.buffers.len());
    let State::Tensors(state) = &mut w.param.state else { return Ok(Apply { keep: 1.0, factor: 0.0 }) };
    let buffers = &mut state[..count];
    let (u, how) = rule.direct_tensors(WholeTensors { dims: &dims, theta, g, buffers, t, lr, weight_decay })?;
    state[count] = u.reshape(w.param.var.shape())?;
    Ok(how)
}

thread_local! {
    static AS_ON_A_DEVICE: Cell<bool> = const { Cell::new(false) };
}

/// What `f` returns, with steps of this thread computed as if the CPU's tensors were on a device. For tests with small tensors: steps of large ones run on other
/// threads.
#[doc(hidden)]
pub fn as_on_a_device<T>(f: impl FnOnce() -> T) -> T {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            AS_ON_A_DEVICE.set(self.0);
        }
    }
    let _reset = Reset(AS_ON_A_DEVICE.replace(true));
    f()
}
