//! One step: the scalar arithmetic of the method, between the passes.

use half::{bf16, f16};

use super::base::Base;
use super::coefficient::Alpha;
use super::diagnostics::{Seen, SeenOrthogonal};
use super::formulation::{BoundedResidual, Formulation, Hybrid, OrthogonalResidual, ResidualNorm, Target};
use super::kind::Kind;
use super::layers::Position;
use super::passes::{Combination, Modulation, Passes, Shape, Sums, Watch};
use super::{Diagnostics, Memory, NeuroPlasticConfig, RuleKind, base, cpu, device, tensors};
use crate::config::decay::DecayKind;
use crate::config::plasticity::{Layer, Plasticity};
use crate::engine::apply::{Apply, Seeing, apply_all};
use crate::engine::param_step::ParamStep;
use crate::engine::rule::StepContext;
use crate::error::Result;

/// What a step's formulation depends on beyond its tensors, worked out once.
struct Plan<'a> {
    config: &'a NeuroPlasticConfig,
    /// ρ_e
    gate: f64,
    /// κ of the orthogonal residual.
    kappa: f64,
    /// Whether a hybrid's phase holds.
    phase: bool,
}

/// A tensor's place in the model, and what the groups say of it.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: Position,
    weight_decay: f64,
    plasticity: Plasticity,
    /// What a base of the zoo would do with its direction, and its share of η in that.
    base: Apply,
    ratio: f64,
}

/// What the passes leave of a tensor: u in its scratch, and these.
struct Update {
    seen: Seen,
    orthogonal: Option<SeenOrthogonal>,
    /// γ > 0 and Σd² of a hybrid.
    modulated: Option<(bool, f64)>,
    /// ζ
    signal: f64,
}

/// A step: directions, then θ, whose norm is seen on the way.
pub(super) fn step(
    config: &NeuroPlasticConfig,
    cx: &StepContext,
    work: &mut [ParamStep<'_>],
    memory: &mut Memory,
) -> Result<()> {
    let applies = directions(config, cx, work, memory)?;
    let seeing = if cx.diagnostics { Seeing::Squares } else { Seeing::Nothing };
    // A base's decay is its own, but for AdamW's: it has no term here.
    let inside = matches!(&config.formulation, Formulation::Hybrid(x) if x.base.adamw().is_none());
    let squares = match device::apply(config, cx, work, &applies, &mut memory.on_device)? {
        Some(squares) => squares,
        None => apply_all(work, &applies, seeing)?,
    };
    for ((w, how), theta2) in work.iter().zip(&applies).zip(squares) {
        let wd = if inside { 0.0 } else { w.weight_decay(config.weight_decay) };
        memory.diagnostics.add_parameter(how.keep * how.keep * theta2, wd * wd * theta2);
    }
    Ok(())
}

pub(super) fn directions(
    config: &NeuroPlasticConfig,
    cx: &StepContext,
    work: &mut [ParamStep<'_>],
    memory: &mut Memory,
) -> Result<Vec<Apply>> {
    if let Some(applies) = device::directions(config, cx, work, memory)? {
        return Ok(applies);
    }
    let (plan, watch, places) = prepare(config, cx, work, memory)?;
    let mut updates: Vec<Option<Update>> = (0..work.len()).map(|_| None).collect();
    for kind in Kind::ALL {
        let members: Vec<usize> = (0..work.len()).filter(|&i| Kind::of(&work[i]) == kind).collect();
        if members.is_empty() {
            continue;
        }
        let of_members: Vec<Place> = members.iter().map(|&i| places[i]).collect();
        let mut of_kind: Vec<&mut ParamStep<'_>> = work.iter_mut().filter(|w| Kind::of(w) == kind).collect();
        let done = match kind {
            Kind::F32 => cpu::with::<f32, _>(config, watch, &mut of_kind, |passes| plan.run(&of_members, passes))?,
            Kind::F64 => cpu::with::<f64, _>(config, watch, &mut of_kind, |passes| plan.run(&of_members, passes))?,
            Kind::F16 => cpu::with::<f16, _>(config, watch, &mut of_kind, |passes| plan.run(&of_members, passes))?,
            Kind::BF16 => cpu::with::<bf16, _>(config, watch, &mut of_kind, |passes| plan.run(&of_members, passes))?,
            Kind::Tensors32 | Kind::Tensors64 => {
                plan.run(&of_members, &mut tensors::TensorPasses::new(config, watch, &mut of_kind))?
            }
        };
        for (i, update) in members.into_iter().zip(done) {
            updates[i] = Some(update);
        }
    }
    let updates: Vec<Update> = updates.into_iter().flatten().collect();
    Ok(plan.apply(work, &places, &updates, &mut memory.diagnostics))
}

/// [`directions`] by launches on a machine. Where the parameters are is asked for once a base has given its directions: it may have moved them.
#[cfg(any(test, feature = "cuda"))]
pub(super) fn launched<M: np_cuda::machine::Machine>(
    config: &NeuroPlasticConfig,
    cx: &StepContext,
    work: &mut [ParamStep<'_>],
    memory: &mut Memory,
    (machine, held): (&mut M, &mut crate::engine::summed::Held),
    members: impl FnOnce(&[ParamStep<'_>]) -> Result<Vec<super::launched::Member>>,
) -> Result<Vec<Apply>> {
    let (plan, watch, places) = prepare(config, cx, work, memory)?;
    let members = members(work)?;
    let mut passes = super::launched::LaunchedPasses::new(config, watch, machine, held, &members);
    let updates = plan.run(&places, &mut passes)?;
    Ok(plan.apply(work, &places, &updates, &mut memory.diagnostics))
}

/// What is known before the first pass; a base of the zoo has given its directions by then.
fn prepare<'a>(
    config: &'a NeuroPlasticConfig,
    cx: &StepContext,
    work: &mut [ParamStep<'_>],
    memory: &mut Memory,
) -> Result<(Plan<'a>, Watch, Vec<Place>)> {
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
    let places: Vec<Place> = work
        .iter()
        .zip(based)
        .map(|(w, base)| Place {
            at: Position {
                index: w.param.index,
                of: cx.tensors,
                rank: w.param.var.dims().len(),
                layer: w.param.settings.neuroplastic.layer,
                third: w.param.settings.neuroplastic.third,
            },
            weight_decay: w.weight_decay(config.weight_decay),
            plasticity: w.param.settings.neuroplastic.plasticity.unwrap_or_default(),
            base,
            // With η = 0 nothing moves, whatever the ratio.
            ratio: if base.factor == w.lr || w.lr == 0.0 { 1.0 } else { base.factor / w.lr },
        })
        .collect();
    Ok((plan, watch, places))
}

impl Plan<'_> {
    /// Traces → signals → coefficient → formulation, for all tensors of one kind.
    fn run(&self, places: &[Place], passes: &mut impl Passes) -> Result<Vec<Update>> {
        let config = self.config;
        let traces = passes.traces()?;
        let modulations: Vec<Modulation> =
            traces.iter().zip(places).map(|(s, place)| self.modulation(s, place)).collect();
        let modulated = passes.modulate(&modulations)?;

        let mut updates = Vec::with_capacity(traces.len());
        for (first, second) in traces.iter().zip(&modulated) {
            let seen = Seen {
                elements: first.elements,
                alpha: second.alpha,
                gradient2: first.g2,
                raw_update2: second.out2,
                delta2: second.delta2,
                ..Seen::default()
            };
            let signal = self.signal(second, first.elements);
            updates.push(Update { seen, orthogonal: None, modulated: None, signal });
        }
        match &config.formulation {
            Formulation::Direct(_) => {}
            Formulation::BoundedResidual(x) => self.bounded(x, places, passes, &traces, &modulated, &mut updates)?,
            Formulation::OrthogonalResidual(x) => {
                self.orthogonal(x, places, passes, &traces, &modulated, &mut updates)?;
            }
            Formulation::Hybrid(x) => self.hybrid(x, places, passes, &traces, &modulated, &mut updates)?,
        }
        Ok(updates)
    }

    /// wd where it is coupled to the update, else 0.
    fn coupled(&self, place: &Place) -> f64 {
        if self.config.formulation.decay() == DecayKind::Coupled { place.weight_decay } else { 0.0 }
    }

    fn modulation(&self, s: &Sums, place: &Place) -> Modulation {
        let NeuroPlasticConfig { coefficient, signals, .. } = self.config;
        let shape = match &self.config.formulation {
            Formulation::Direct(_) => Shape::Direct { weight_decay: self.coupled(place) },
            Formulation::BoundedResidual(_) => Shape::Residual,
            Formulation::OrthogonalResidual(_) => Shape::Signal,
            Formulation::Hybrid(x) => {
                let gamma = self.gamma(x, place.at);
                match (x.target, &x.base) {
                    (Target::Momentum, Base::Adamw(_) | Base::Other(_)) => Shape::Base { kb: 0.0, km: gamma },
                    (Target::Gain | Target::Momentum, _) => Shape::Base { kb: gamma, km: 0.0 },
                    (Target::TrustRatio, _) => {
                        let trust = (s.theta2.sqrt() / (place.ratio * s.b2.sqrt() + TINY)).clamp(0.5, 1.5);
                        Shape::Base { kb: gamma * (trust - 1.0), km: 0.0 }
                    }
                }
            }
        };
        let watched = self.config.controller.is_some() && coefficient.rule == RuleKind::Full;
        let alpha = match place.plasticity {
            Plasticity::On => Alpha::new(coefficient, signals, s.means(), self.gate),
            Plasticity::Off => Alpha::one(),
        };
        Modulation { alpha, shape, near: coefficient.near(), log_ratio: watched.then_some(signals.eps) }
    }

    /// γ = strength · phase · scope.
    fn gamma(&self, x: &Hybrid, at: Position) -> f64 {
        if self.phase && x.scope.contains(at) { x.strength } else { 0.0 }
    }

    /// ζ, the controller's signal of a tensor.
    fn signal(&self, s: &Sums, elements: usize) -> f64 {
        let zeta = s.log_ratio / elements.max(1) as f64;
        if self.config.controller.is_some() && zeta.is_finite() { zeta } else { 0.0 }
    }

    fn bounded(
        &self,
        x: &BoundedResidual,
        places: &[Place],
        passes: &mut impl Passes,
        traces: &[Sums],
        residuals: &[Sums],
        updates: &mut [Update],
    ) -> Result<()> {
        let mut sums = Vec::with_capacity(traces.len());
        for (i, (s, d)) in traces.iter().zip(residuals).enumerate() {
            let hold = held(d.out2.sqrt(), x.max_ratio * s.g2.sqrt(), TINY);
            let theta = self.coupled(&places[i]);
            sums.push(Combination { g: 1.0, x: hold, theta, ..Combination::default() });
            updates[i].seen.delta2 = hold * hold * d.out2;
        }
        finish(passes, &sums, updates)
    }

    fn orthogonal(
        &self,
        x: &OrthogonalResidual,
        places: &[Place],
        passes: &mut impl Passes,
        traces: &[Sums],
        signals: &[Sums],
        updates: &mut [Update],
    ) -> Result<()> {
        let eps = self.config.signals.eps;
        let skip = |s: &Sums| s.g2 <= eps;
        // o = q − [Σ(q⊙g)/(Σg² + ε)] g
        let project: Vec<_> = traces
            .iter()
            .zip(signals)
            .map(|(s, q)| match skip(s) {
                true => Combination::default(),
                false => Combination { x: 1.0, g: -q.out_g / (s.g2 + eps), finite: true, ..Combination::default() },
            })
            .collect();
        let projected = passes.combine(&project)?;
        let mut sums = Vec::with_capacity(traces.len());
        for (i, ((s, q), o)) in traces.iter().zip(signals).zip(&projected).enumerate() {
            let (g, norm) = (s.g2.sqrt(), o.out2.sqrt());
            let matched = match x.norm {
                ResidualNorm::MatchGradient if norm > eps => g / (norm + eps),
                _ => 1.0,
            };
            let raw = x.strength * self.kappa * matched;
            let d = held(raw * norm, x.max_ratio * g, eps) * raw;
            let theta = self.coupled(&places[i]);
            sums.push(Combination { g: 1.0, x: d, theta, ..Combination::default() });
            updates[i].seen.delta2 = d * d * o.out2;
            updates[i].orthogonal = Some(SeenOrthogonal {
                skipped: skip(s),
                signal2: q.out2,
                residual2: matched * matched * o.out2,
                signal_g: q.out_g,
                residual_g: matched * o.out_g,
                gradient2: s.g2,
            });
        }
        finish(passes, &sums, updates)
    }

    fn hybrid(
        &self,
        x: &Hybrid,
        places: &[Place],
        passes: &mut impl Passes,
        traces: &[Sums],
        modulated: &[Sums],
        updates: &mut [Update],
    ) -> Result<()> {
        let mut sums = Vec::with_capacity(traces.len());
        for (i, ((s, d), place)) in traces.iter().zip(modulated).zip(places).enumerate() {
            let hold = held(d.out2.sqrt(), x.max_ratio * s.b2.sqrt(), TINY);
            sums.push(Combination { b: 1.0, x: hold, ..Combination::default() });
            let delta2 = (place.ratio * hold).powi(2) * d.out2;
            updates[i].seen.delta2 = delta2;
            updates[i].modulated = Some((self.gamma(x, place.at) > 0.0, delta2));
        }
        finish(passes, &sums, updates)?;
        for (update, place) in updates.iter_mut().zip(places) {
            update.seen.raw_update2 *= place.ratio * place.ratio;
        }
        Ok(())
    }

    /// Controller → stabiliser → θ.
    fn apply(
        &self,
        work: &mut [ParamStep<'_>],
        places: &[Place],
        updates: &[Update],
        diagnostics: &mut Diagnostics,
    ) -> Vec<Apply> {
        let config = self.config;
        let groups: Vec<_> = places.iter().zip(updates).map(|(place, u)| (Layer::of(place.at), u.signal)).collect();
        let steered = config.controller.as_ref().map(|c| c.steer(&groups));
        let decoupled = config.formulation.decay() == DecayKind::Decoupled;
        let mut applies = Vec::with_capacity(work.len());
        for (i, (w, u)) in work.iter().zip(updates).enumerate() {
            let multiplier = steered.as_ref().map_or(1.0, |s| s[i].multiplier);
            let lr = w.lr * multiplier;
            let keep = match (decoupled, &places[i].base) {
                (true, _) => 1.0 - lr * places[i].weight_decay,
                (false, base) if base.keep == 1.0 || multiplier == 1.0 => base.keep,
                (false, base) => 1.0 - multiplier * (1.0 - base.keep),
            };
            let stabilised = config.stabilizer.factor(u.seen.raw_update2, u.seen.elements, places[i].at);
            applies.push(Apply { keep, factor: places[i].base.factor * multiplier * stabilised });

            let mut seen = u.seen;
            seen.effective_update2 = (multiplier * stabilised).powi(2) * seen.raw_update2;
            diagnostics.add(&seen);
            if let Some(orthogonal) = &u.orthogonal {
                diagnostics.add_orthogonal(orthogonal);
            }
            if let Some((active, delta2)) = u.modulated {
                diagnostics.add_modulated(places[i].at, u.seen.elements, active, delta2);
            }
            if let (Some(c), Some(steered)) = (&config.controller, &steered) {
                let clamped = [multiplier <= c.low, multiplier >= c.high];
                diagnostics.add_controlled(groups[i].0, steered[i].signal, multiplier, clamped);
            }
        }
        applies
    }
}

const TINY: f64 = 1e-12;

/// What brings a norm down to `max`, with ε under the division; 1 where it is not above.
fn held(norm: f64, max: f64, eps: f64) -> f64 {
    if norm > max { max / (norm + eps) } else { 1.0 }
}

/// The last combination: u itself.
fn finish(passes: &mut impl Passes, sums: &[Combination], updates: &mut [Update]) -> Result<()> {
    for (update, s) in updates.iter_mut().zip(passes.combine(sums)?) {
        update.seen.raw_update2 = s.out2;
    }
    Ok(())
}
