//! Formulas of element-wise optimizers as expressions. They are recorded anew in every step, which costs some microseconds and gives the step's arguments.

use np_trace::symbol::{Symbol, record};
use np_trace::{Outcome, Traced};

use super::loops::{Around, has};
use super::{Elementwise, StepInfo, around, at};
use crate::apply::Apply;
use crate::error::Result;
use crate::gradient_map::GradientMap;
use crate::param_step::ParamStep;
use crate::state::State;

/// [`trace`] with `map`; also returns the index of the argument that is the map's scale.
pub(super) fn trace_mapped<R: Elementwise>(
    rule: &R,
    at: &mut StepInfo<'_>,
    around: Around<f64>,
    map: GradientMap,
    outcome: Outcome,
) -> (Traced, usize) {
    // The rule's own numbers come first.
    let mut numbers = at.numbers.to_vec();
    let of_rule = np_trace::symbol::count(|| {
        rule.scalars::<Symbol>(&mut StepInfo { numbers: &mut numbers, ..*at });
    });
    (trace(rule, at, around, Some(map), outcome), of_rule)
}

/// Records the step of one element: `rule`'s formula and the operations `around` it. `at.numbers` advance by a step. With `map`, the gradient is scaled and clipped
/// first; scale and limit are then arguments.
pub(crate) fn trace<R: Elementwise>(
    rule: &R,
    at: &mut StepInfo<'_>,
    around: Around<f64>,
    map: Option<GradientMap>,
    outcome: Outcome,
) -> Traced {
    record(Elementwise::buffers(rule).len(), outcome, |theta, mut g, state| {
        let k = rule.scalars::<Symbol>(at);
        if let Some(map) = map {
            g = map.of(g);
        }
        let around: Around<Symbol> = around.cast();
        let (u, state) = direction::<R>(&k, theta, around.gradient(theta, g), state);
        let result = match outcome {
            Outcome::Step => around.step(theta, u),
            Outcome::Direction => u,
        };
        (result, state)
    })
}

fn direction<R: Elementwise>(
    k: &R::Scalars<Symbol>,
    theta: Symbol,
    g: Symbol,
    state: &[Symbol],
) -> (Symbol, Vec<Symbol>) {
    fn of<R: Elementwise, const N: usize>(
        k: &R::Scalars<Symbol>,
        theta: Symbol,
        g: Symbol,
        state: [Symbol; N],
    ) -> (Symbol, Vec<Symbol>) {
        // A formula is compiled for the counts that its rule asks for.
        if const { has::<R>(N) } {
            let (u, state) = R::direction(k, theta, g, state);
            return (u, state.to_vec());
        }
        (g, state.to_vec())
    }
    match *state {
        [] => of::<R, 0>(k, theta, g, []),
        [a] => of::<R, 1>(k, theta, g, [a]),
        [a, b] => of::<R, 2>(k, theta, g, [a, b]),
        [a, b, c] => of::<R, 3>(k, theta, g, [a, b, c]),
        [a, b, c, d, ..] => of::<R, 4>(k, theta, g, [a, b, c, d]),
    }
}

/// Records the first step of a parameter with `rule`'s settings.
pub(super) fn first<R: Elementwise>(rule: &R, outcome: Outcome) -> Traced {
    let mut numbers: Vec<f64> = Elementwise::numbers(rule).iter().map(|(_, initial)| *initial).collect();
    let weight_decay = rule.weight_decay().strength();
    let mut at = StepInfo { t: 1, lr: rule.learning_rate(), weight_decay, numbers: &mut numbers };
    let (around, _) = around(rule, &at);
    trace(rule, &mut at, around, Some(GradientMap::IDENTITY), outcome)
}

/// Makes a step by tensor operations.
pub(super) fn step_tensors<R: Elementwise>(rule: &R, w: &mut ParamStep<'_>, outcome: Outcome) -> Result<Apply> {
    let mut at = at(rule, w);
    let (around, apply) = around(rule, &at);
    let traced = trace(rule, &mut at, around, None, outcome);
    if w.grad.elem_count() == 0 {
        return Ok(apply);
    }
    let (buffers, theta) = (w.param.buffers.len(), w.param.theta()?);
    let g = w.gradient()?;
    let State::Tensors(state) = &mut w.param.state else { return Ok(apply) };
    let (result, new) = traced.on_tensors(&theta, &g, &state[..buffers])?;
    state[..buffers].clone_from_slice(&new);
    match outcome {
        Outcome::Direction => state[buffers] = result,
        Outcome::Step => w.param.write(&result)?,
    }
    Ok(apply)
}
