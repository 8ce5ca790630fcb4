//! A step: passes over the elements of all tensors, and between them the scalar arithmetic of `scalars`. Its intermediate numbers are in the tensors' rows
//! (see `engine::chain`).

use np_cuda::table::BUFFERS;
use np_engine::apply::Apply;
use np_engine::chain::{self, Arithmetic, Chain, Given, Numbers, To, Total};
use np_engine::config::plasticity::{Layer, Plasticity};
use np_engine::error::Result;
use np_engine::param_state::ParamState;
use np_engine::param_step::ParamStep;
use np_engine::rule::StepContext;
use np_trace::{Number, Outcome};

use super::base::BaseScalars;
use super::coefficient::{ALPHA, Alpha};
use super::diagnostics::{PARAMETER2, Seen, TOTALS, total_of};
use super::formulas::{Combine, Modulate, Traces};
use super::formulation::{Formulation, Target};
use super::layers::Position;
use super::passes::{Sums, Watch};
use super::scalars::{Found, Place, Plan, Stage};
use super::{Memory, NeuroPlasticConfig, base};

/// Indices into a tensor's state, as the passes see it: the traces a, m, v; the base optimizer's two buffers; scratch x; scratch b of a hybrid.
pub(super) const A: usize = 0;
pub(super) const M: usize = 1;
pub(super) const V: usize = 2;
pub(super) const MU: usize = 3;
pub(super) const SECOND: usize = 4;
pub(super) const X: usize = 5;
pub(super) const B: usize = 6;

/// Columns of a tensor's row. First those with the sums of each pass.
const TRACES_AT: usize = 0;
const MODULATED_AT: usize = TRACES_AT + 6;
const PROJECTED_AT: usize = MODULATED_AT + 10;
const COMBINED_AT: usize = PROJECTED_AT + 2;
const THETA2_AT: usize = COMBINED_AT + 2;
/// The numbers of α, then a hybrid's factor of b.
pub(super) const ALPHA_AT: usize = THETA2_AT + 1;
/// The factors of g and x, of each of the two combinations.
const FACTORS_AT: usize = ALPHA_AT + ALPHA + 1;
/// The factors of θ and u in the update: keep and factor.
const APPLY_AT: usize = FACTORS_AT + 4;
/// What the tensor adds to each sum of the controller; in the shared row, those sums.
const SIGNALS_AT: usize = APPLY_AT + 2;
/// What the tensor adds to the totals of the diagnostics.
const SEEN_AT: usize = SIGNALS_AT + Layer::ALL.len();
const COLUMNS: usize = SEEN_AT + TOTALS;

/// The first column of a combination's factors.
pub(super) fn factors_at(stage: Stage) -> usize {
    match stage {
        Stage::Projection => FACTORS_AT,
        Stage::Last => FACTORS_AT + 2,
    }
}

/// Makes a step, or computes its directions only; for those returns how to apply them.
pub(super) fn take(
    config: &NeuroPlasticConfig,
    cx: &StepContext,
    work: &mut [ParamStep<'_>],
    memory: &mut Memory,
    outcome: Outcome,
) -> Result<Vec<Apply>> {
    let step = Step::new(config, cx, work, memory)?;
    memory.chain.keep_first(|| Seen::nothing().0.to_vec());
    chain::take(&step, cx, work, &mut memory.chain, outcome)
}

/// What is known of a step before the first pass.
pub(super) struct Step<'a> {
    pub(super) plan: Plan<'a>,
    pub(super) places: Vec<Place>,
    pub(super) watch: Watch,
}

impl<'a> Step<'a> {
    /// For a hybrid whose base is another optimizer of this crate, this also runs that optimizer: its directions are then in scratch b.
    pub(super) fn new(
        config: &'a NeuroPlasticConfig,
        cx: &StepContext,
        work: &mut [ParamStep<'_>],
        memory: &mut Memory,
    ) -> Result<Self> {
        let (kappa, phase) = match &config.formulation {
            Formulation::OrthogonalResidual(x) => (x.schedule.at(cx)?, true),
            Formulation::Hybrid(x) => (1.0, x.phase.at(cx)?),
            _ => (1.0, true),
        };
        let plan = Plan { config, gate: config.coefficient.gate(cx), kappa, phase };
        let watch = if cx.diagnostics { Watch::Diagnostics } else { Watch::Step };
        let based = match config.formulation.other() {
            Some(base) => base::directions(base, cx, work, config.weight_decay, &mut memory.base)?,
            None => work.iter().map(|w| Apply { keep: 1.0, factor: w.lr }).collect(),
        };
        let place = |(w, base): (&ParamStep<'_>, Apply)| {
            let weight_decay = w.weight_decay(config.weight_decay);
            let scalars = BaseScalars::new(config, w.param.steps, weight_decay);
            Place {
                at: Position {
                    index: w.param.index,
                    of: cx.tensors,
                    rank: w.param.var.dims().len(),
                    layer: w.param.settings.neuroplastic.layer,
                    third: w.param.settings.neuroplastic.third,
                },
                elements: w.grad.elem_count(),
                lr: w.lr,
                weight_decay,
                plasticity: w.param.settings.neuroplastic.plasticity.unwrap_or_default(),
                base,
                // With η = 0 nothing moves, whatever the ratio.
                ratio: if base.factor == w.lr || w.lr == 0.0 { 1.0 } else { base.factor / w.lr },
                momentum_scale: scalars.map_or(1.0, |scalars| scalars.momentum_scale(w.grad.dtype())),
                scalars,
                steered: None,
            }
        };
        let mut places: Vec<Place> = work.iter().zip(based).map(place).collect();
        if let Some(controller) = &config.controller {
            let mut counts = [0; Layer::ALL.len()];
            let sums: Vec<Option<usize>> = places.iter().map(|place| controller.sum_for(place.at.layer())).collect();
            sums.iter().flatten().for_each(|sum| counts[*sum] += 1);
            places.iter_mut().zip(sums).for_each(|(place, sum)| place.steered = sum.map(|sum| (sum, counts[sum])));
        }
        Ok(Self { plan, places, watch })
    }

    /// Whether a hybrid's gain needs Σθ².
    pub(super) fn trusts(&self) -> bool {
        matches!(&self.plan.config.formulation, Formulation::Hybrid(h) if h.target == Target::TrustRatio)
    }

    /// Reads the passes' sums from a tensor's row.
    fn found<N: Number>(&self, tensor: usize, own: &[N]) -> Found<N> {
        let none = Sums::of(self.places[tensor].elements);
        let (mut traces, mut modulated, mut projected, mut combined) = (none, none, none, none);
        let v = &own[TRACES_AT..MODULATED_AT];
        (traces.signals, traces.g2) = ([v[0], v[1], v[2]], v[3]);
        if matches!(self.plan.config.formulation, Formulation::Hybrid(_)) {
            traces.b2 = v[4];
        }
        if self.trusts() {
            traces.theta2 = v[5];
        }
        let v = &own[MODULATED_AT..PROJECTED_AT];
        (modulated.out2, modulated.out_g) = (v[0], v[1]);
        let mut watched = 2;
        if self.plan.watches_ratio() {
            (modulated.log_ratio, watched) = (v[2], 3);
        }
        if self.watch == Watch::Diagnostics {
            modulated.delta2 = v[watched];
            modulated.alpha.copy_from_slice(&v[watched + 1..watched + 7]);
        }
        (projected.out2, projected.out_g) = (own[PROJECTED_AT], own[PROJECTED_AT + 1]);
        (combined.out2, combined.out_g) = (own[COMBINED_AT], own[COMBINED_AT + 1]);
        Found { traces, modulated, projected, combined }
    }
}

impl chain::Step for Step<'_> {
    const COLUMNS: usize = COLUMNS;

    fn places(&self, param: &ParamState) -> [Option<usize>; BUFFERS] {
        let x = param.buffers.len();
        let mut places = [Some(0), Some(1), Some(2), None, None, Some(x), None];
        if let Formulation::Hybrid(hybrid) = &self.plan.config.formulation {
            // A base of the zoo has whatever buffers it has; one of them may be asked for.
            let of_base = |name: &str| param.buffers.iter().position(|b| b.name().strip_prefix("base_") == Some(name));
            places[MU] = hybrid.base.momentum().and_then(of_base);
            places[SECOND] = hybrid.base.adamw().map(|_| SECOND);
            places[B] = Some(x + 1);
        }
        places
    }

    fn run(&self, chain: &mut impl Chain) -> Result<()> {
        chain.pass(&Traces(self), TRACES_AT)?;
        chain.arithmetic(&Coefficients(self))?;
        chain.pass(&Modulate(self), MODULATED_AT)?;
        for stage in self.plan.stages() {
            chain.arithmetic(&Factors(self, *stage))?;
            let sums_at = if *stage == Stage::Last { COMBINED_AT } else { PROJECTED_AT };
            chain.pass(&Combine(self, *stage), sums_at)?;
        }
        if self.plan.config.controller.is_some() {
            chain.arithmetic(&Signals(self))?;
            let sums = (SIGNALS_AT..SEEN_AT).map(|column| (column, Total::Sum));
            chain.totals(sums, To::Shared(SIGNALS_AT))?;
        }
        chain.arithmetic(&Ends(self))?;
        let squares = (self.watch == Watch::Diagnostics).then_some(THETA2_AT);
        if chain.finish(&Given, X, APPLY_AT, squares)? {
            chain.arithmetic(&Parameters(self))?;
        }
        chain.totals((0..TOTALS).map(|place| (SEEN_AT + place, total_of(place))), To::Kept)?;
        Ok(())
    }
}

/// Computes α and the gain of a hybrid from the traces' sums.
struct Coefficients<'a>(&'a Step<'a>);

impl Arithmetic for Coefficients<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        ("coefficients", u32::from(self.0.places[tensor].plasticity == Plasticity::Off))
    }

    fn of<N: Number>(&self, tensor: usize, numbers: Numbers<'_, N>) -> Vec<(usize, N)> {
        let (Step { plan, places, .. }, traces) = (self.0, self.0.found(tensor, numbers.own).traces);
        let (alpha, gain): (Alpha<N>, N) = (plan.alpha(&places[tensor], &traces), plan.gain(&places[tensor], &traces));
        (ALPHA_AT..).zip(alpha.numbers().into_iter().chain([gain])).collect()
    }
}

/// Computes the factors of a combination.
struct Factors<'a>(&'a Step<'a>, Stage);

impl Arithmetic for Factors<'_> {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("factors", u32::from(self.1 == Stage::Last))
    }

    fn of<N: Number>(&self, tensor: usize, numbers: Numbers<'_, N>) -> Vec<(usize, N)> {
        (factors_at(self.1)..).zip(self.0.plan.factors(self.1, &self.0.found(tensor, numbers.own))).collect()
    }
}

/// What a tensor adds to each of the controller's sums: its signal to the sum that steers it, 0 to the others.
struct Signals<'a>(&'a Step<'a>);

impl Arithmetic for Signals<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        ("signals", self.0.places[tensor].sum())
    }

    fn of<N: Number>(&self, tensor: usize, numbers: Numbers<'_, N>) -> Vec<(usize, N)> {
        let signal = self.0.plan.signal(&self.0.found(tensor, numbers.own));
        let sum = self.0.places[tensor].steered.map(|(sum, _)| sum);
        (0..Layer::ALL.len()).map(|k| (SIGNALS_AT + k, if sum == Some(k) { signal } else { N::ZERO })).collect()
    }
}

/// Controller and stabiliser: computes keep and factor, and what the tensor adds to the diagnostics.
struct Ends<'a>(&'a Step<'a>);

impl Arithmetic for Ends<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        let Step { places, plan, watch } = self.0;
        let place = &places[tensor];
        let flags = [*watch == Watch::Diagnostics, place.base.keep == 1.0];
        let flags: u32 = (0..).zip(flags).map(|(k, flag)| u32::from(flag) << k).sum();
        ("ends", flags | (plan.scopes(place.at) | place.sum() << 8 | (place.at.layer() as u32) << 16) << 2)
    }

    fn of<N: Number>(&self, tensor: usize, numbers: Numbers<'_, N>) -> Vec<(usize, N)> {
        let sums = &numbers.shared[SIGNALS_AT..SEEN_AT];
        let found = self.0.found(tensor, numbers.own);
        let (apply, seen) = self.0.plan.end(&self.0.places[tensor], &found, sums);
        (APPLY_AT..).zip(apply).chain((SEEN_AT..).zip(seen.0)).collect()
    }
}

/// What a tensor adds to the diagnostics of θ.
struct Parameters<'a>(&'a Step<'a>);

impl Arithmetic for Parameters<'_> {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("parameters", 0)
    }

    fn of<N: Number>(&self, tensor: usize, numbers: Numbers<'_, N>) -> Vec<(usize, N)> {
        let (keep, theta2) = (numbers.own[APPLY_AT], numbers.own[THETA2_AT]);
        (SEEN_AT + PARAMETER2..).zip(self.0.plan.parameter(&self.0.places[tensor], keep, theta2)).collect()
    }
}
