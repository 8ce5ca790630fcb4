//! A step as launches on a machine that nothing waits for: its passes, and between them the arithmetic of `scalars`, whose numbers stay in the tensors' rows there. So do the totals
//! of the diagnostics, until somebody asks for them.
//!
//! Where no sum leaves the range of its type, all sums have the CPU's bits, but for those of logarithms.

use np_cuda::machine::Machine;
use np_cuda::table::{BUFFERS, Row};

use super::NeuroPlasticConfig;
use super::coefficient::ALPHA;
#[cfg(test)]
use super::diagnostics::Seen;
use super::diagnostics::{self, PARAMETER2, Total};
use super::formulas::{Combine, Finish, Modulate, Traces};
use super::formulation::{Formulation, Target};
use super::kernels::BaseScalars;
use super::passes::{AlphaSums, Sums, Watch};
use super::scalars::{Found, Place, Plan, Stage};
use super::tensors::mu;
use crate::config::plasticity::{Layer, Plasticity};
use crate::engine::apply::Apply;
use crate::engine::chain::{Arithmetic, Chain, To};
use crate::engine::elementwise::plan::storage_of;
use crate::engine::number::{Float, Number};
use crate::engine::param_step::ParamStep;
use crate::engine::places;
use crate::engine::traced::cuda::Storage;
use crate::error::Result;

/// Where among a tensor's addresses its buffers are: traces a, m, v; the base optimizer's two; scratch x; scratch b of a hybrid.
pub(super) const A: usize = 0;
pub(super) const M: usize = 1;
pub(super) const V: usize = 2;
pub(super) const MU: usize = 3;
pub(super) const SECOND: usize = 4;
pub(super) const X: usize = 5;
pub(super) const B: usize = 6;

/// Columns of a tensor's row: sums of the passes.
const TRACES_AT: usize = 0;
const MODULATED_AT: usize = TRACES_AT + 6;
const PROJECTED_AT: usize = MODULATED_AT + 10;
const COMBINED_AT: usize = PROJECTED_AT + 2;
const THETA2_AT: usize = COMBINED_AT + 2;
/// α, and what a hybrid multiplies b with.
pub(super) const ALPHA_AT: usize = THETA2_AT + 1;
/// What g and x are multiplied with in either combination.
const FACTORS_AT: usize = ALPHA_AT + ALPHA + 1;
/// What θ and u are multiplied with.
pub(super) const APPLY_AT: usize = FACTORS_AT + 4;
/// The tensor's part in each sum of the controller; in the row that is no tensor's, those sums.
const SIGNALS_AT: usize = APPLY_AT + 2;
/// What the diagnostics see.
const SEEN_AT: usize = SIGNALS_AT + Layer::ALL.len();
const COLUMNS: usize = SEEN_AT + diagnostics::TOTALS;

/// Where the factors of a combination are.
pub(super) fn factors_at(stage: Stage) -> usize {
    match stage {
        Stage::Projection => FACTORS_AT,
        Stage::Last => FACTORS_AT + 2,
    }
}

/// A tensor, and what its step depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) place: places::Place,
    pub(super) steps: u64,
    pub(super) weight_decay: Option<f64>,
}

/// A parameter of a step, whose parameter and gradient are where `row` says, and its buffers and scratch at the addresses in `state`.
pub(super) fn member(config: &NeuroPlasticConfig, w: &ParamStep<'_>, row: Row, state: &[u64]) -> Member {
    let x = w.param.buffers.len();
    let of = |k: usize| state.get(k).copied().unwrap_or(0);
    let mut all = [0; BUFFERS];
    (all[A], all[M], all[V], all[X]) = (of(0), of(1), of(2), of(x));
    if let Formulation::Hybrid(hybrid) = &config.formulation {
        let (mu, _) = mu(config, &w.param.buffers, w.param.steps);
        (all[MU], all[B]) = (of(mu), of(x + 1));
        all[SECOND] = if hybrid.base.adamw().is_some() { of(SECOND) } else { 0 };
    }
    let row = Row { state: all, length: w.grad.elem_count() as u64, ..row };
    let place = places::Place { row, storage: storage_of(w.grad.dtype()), map: w.map };
    Member { place, steps: w.param.steps, weight_decay: w.param.settings.weight_decay }
}

/// What is kept from step to step.
#[derive(Debug, Default)]
pub(super) struct Held {
    chain: Chain,
    /// Whether steps of this epoch are in the totals.
    pub(super) begun: bool,
}

/// A tensor's numbers as the passes have left them, each where it goes by the columns above.
struct Rows<'a> {
    plan: &'a Plan<'a>,
    places: &'a [Place],
    members: &'a [Member],
    watch: Watch,
}

impl Rows<'_> {
    fn trust(&self) -> bool {
        matches!(&self.plan.config.formulation, Formulation::Hybrid(h) if h.target == Target::TrustRatio)
    }

    fn found<N: Number>(&self, tensor: usize, own: &[N]) -> Found<N> {
        let elements = usize::try_from(self.members[tensor].place.row.length).unwrap_or(usize::MAX);
        let none = Sums { elements, ..Sums::default() };
        let (mut traces, mut modulated, mut projected, mut combined) = (none, none, none, none);
        let v = &own[TRACES_AT..MODULATED_AT];
        (traces.signals, traces.g2) = ([v[0], v[1], v[2]], v[3]);
        if matches!(self.plan.config.formulation, Formulation::Hybrid(_)) {
            traces.b2 = v[4];
        }
        if self.trust() {
            traces.theta2 = v[5];
        }
        let v = &own[MODULATED_AT..PROJECTED_AT];
        (modulated.out2, modulated.out_g) = (v[0], v[1]);
        let mut watched = 2;
        if self.plan.watches_ratio() {
            (modulated.log_ratio, watched) = (v[2], 3);
        }
        if self.watch == Watch::Diagnostics {
            let [delta2, sum, squares, min, max, near_min, near_max] = std::array::from_fn(|k| v[watched + k]);
            modulated.delta2 = delta2;
            modulated.alpha = AlphaSums { sum, squares, min, max, near_min, near_max };
        }
        (projected.out2, projected.out_g) = (own[PROJECTED_AT], own[PROJECTED_AT + 1]);
        (combined.out2, combined.out_g) = (own[COMBINED_AT], own[COMBINED_AT + 1]);
        Found { traces, modulated, projected, combined }
    }
}

/// α and the gain of a hybrid, from the traces' sums.
struct Coefficients<'a>(&'a Rows<'a>);

impl Arithmetic for Coefficients<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        ("coefficients", u32::from(self.0.places[tensor].plasticity == Plasticity::Off))
    }

    fn of<N: Number>(&self, tensor: usize, own: &[N], _: &[N]) -> Vec<(usize, N)> {
        let (Rows { plan, places, .. }, traces) = (self.0, self.0.found(tensor, own).traces);
        let (alpha, gain) = (plan.alpha(&places[tensor], &traces), plan.gain(&places[tensor], &traces));
        (ALPHA_AT..).zip(alpha.numbers().into_iter().chain([gain])).collect()
    }
}

/// Factors of a combination.
struct Factors<'a>(&'a Rows<'a>, Stage);

impl Arithmetic for Factors<'_> {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("factors", u32::from(self.1 == Stage::Last))
    }

    fn of<N: Number>(&self, tensor: usize, own: &[N], _: &[N]) -> Vec<(usize, N)> {
        (factors_at(self.1)..).zip(self.0.plan.factors(self.1, &self.0.found(tensor, own))).collect()
    }
}

/// A tensor's part in the controller's sums: its signal in one of them, and 0, which changes no sum, in the others.
struct Signals<'a>(&'a Rows<'a>);

impl Arithmetic for Signals<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        let sum = self.0.places[tensor].steered.map_or(Layer::ALL.len(), |(sum, _)| sum);
        ("signals", u32::try_from(sum).unwrap_or(u32::MAX))
    }

    fn of<N: Number>(&self, tensor: usize, own: &[N], _: &[N]) -> Vec<(usize, N)> {
        let signal = self.0.plan.signal(&self.0.found(tensor, own));
        let sum = self.0.places[tensor].steered.map(|(sum, _)| sum);
        (0..Layer::ALL.len()).map(|k| (SIGNALS_AT + k, if sum == Some(k) { signal } else { N::ZERO })).collect()
    }
}

/// Controller and stabiliser, and what the diagnostics see.
struct Ends<'a>(&'a Rows<'a>);

impl Arithmetic for Ends<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        let Rows { places, plan, watch, .. } = self.0;
        let Place { at, base, steered, .. } = places[tensor];
        let flags = [*watch == Watch::Diagnostics, base.keep == 1.0];
        let flags: u32 = (0..).zip(flags).map(|(k, flag)| u32::from(flag) << k).sum();
        let sum = steered.map_or(Layer::ALL.len(), |(sum, _)| sum);
        let places = plan.scopes(at) | u32::try_from(sum).unwrap_or(u32::MAX) << 8 | (Layer::of(at) as u32) << 16;
        ("ends", flags | places << 2)
    }

    fn of<N: Number>(&self, tensor: usize, own: &[N], shared: &[N]) -> Vec<(usize, N)> {
        let Rows { plan, places, .. } = self.0;
        let sums = &shared[SIGNALS_AT..SEEN_AT];
        let (apply, seen) = plan.end(&places[tensor], &self.0.found(tensor, own), sums);
        (APPLY_AT..).zip(apply).chain((SEEN_AT..).zip(seen.0)).collect()
    }
}

/// What the diagnostics see of θ.
struct Parameters<'a>(&'a Rows<'a>);

impl Arithmetic for Parameters<'_> {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("parameters", 0)
    }

    fn of<N: Number>(&self, tensor: usize, own: &[N], _: &[N]) -> Vec<(usize, N)> {
        let seen = self.0.plan.parameter(&self.0.places[tensor], own[APPLY_AT], own[THETA2_AT]);
        (SEEN_AT + PARAMETER2..).zip(seen).collect()
    }
}

/// What the base's first buffer is multiplied with to give μ, rounded as in the type that is computed in.
fn momentum_scale(config: &NeuroPlasticConfig, member: &Member) -> f64 {
    fn of<T: Float>(config: &NeuroPlasticConfig, member: &Member) -> f64 {
        BaseScalars::<T>::new(config, member.steps, member.weight_decay).map_or(1.0, |base| base.momentum_scale())
    }
    match member.place.storage {
        Storage::F64 => of::<f64>(config, member),
        _ => of::<f32>(config, member),
    }
}

impl Held {
    /// A step of these tensors: their directions, and, to `apply` them, θ ← keep·θ − factor·u.
    pub(super) fn step(
        &mut self,
        machine: &mut impl Machine,
        (plan, watch, places): (&Plan<'_>, Watch, &[Place]),
        members: &[Member],
        apply: bool,
    ) -> Result<()> {
        let rows = Rows { plan, places, members, watch };
        let on_machine: Vec<places::Place> = members.iter().map(|member| member.place).collect();
        let mut chain = self.chain.begin(machine, &on_machine, COLUMNS)?;
        chain.pass(&Traces { config: plan.config, members, trust: rows.trust() }, TRACES_AT)?;
        chain.arithmetic(&Coefficients(&rows))?;
        let scales = members.iter().map(|member| momentum_scale(plan.config, member)).collect();
        chain.pass(&Modulate { plan, places, scales, watch }, MODULATED_AT)?;
        for stage in plan.stages() {
            chain.arithmetic(&Factors(&rows, *stage))?;
            let sums_at = if *stage == Stage::Last { COMBINED_AT } else { PROJECTED_AT };
            chain.pass(&Combine { plan, places, stage: *stage }, sums_at)?;
        }
        if plan.config.controller.is_some() {
            chain.arithmetic(&Signals(&rows))?;
            let sums = (SIGNALS_AT..SEEN_AT).map(|column| [column, 0]);
            chain.totals(sums, To::Shared(SIGNALS_AT), true);
        }
        chain.arithmetic(&Ends(&rows))?;
        if apply {
            let squares = watch == Watch::Diagnostics;
            chain.pass(&Finish { squares }, THETA2_AT)?;
            if squares {
                chain.arithmetic(&Parameters(&rows))?;
            }
        }
        let kinds = (0..diagnostics::TOTALS).map(|place| match Total::of(place) {
            Total::Sum => [SEEN_AT + place, 0],
            Total::Least => [SEEN_AT + place, 1],
            Total::Most => [SEEN_AT + place, 2],
        });
        chain.totals(kinds, To::Kept, !self.begun);
        chain.run()?;
        self.begun = true;
        Ok(())
    }

    /// What is to be done with the directions of the last step. It waits for them.
    pub(super) fn applies(machine: &mut impl Machine, tensors: usize) -> Result<Vec<Apply>> {
        let rows = Chain::rows(machine, tensors, COLUMNS)?;
        Ok(rows.iter().map(|row| Apply { keep: row[APPLY_AT], factor: row[APPLY_AT + 1] }).collect())
    }

    /// What the diagnostics have seen on the machine since the epoch began. It waits for it.
    #[cfg(test)]
    pub(super) fn seen(&self, machine: &mut impl Machine) -> Result<Option<Seen>> {
        if !self.begun {
            return Ok(None);
        }
        let totals = Chain::kept(machine, diagnostics::TOTALS)?;
        Ok(totals.try_into().ok().map(Seen))
    }
}
