//! One step: the passes, and the scalar arithmetic of the method between them.

use half::{bf16, f16};

use super::diagnostics::Seen;
use super::formulation::Formulation;
use super::kind::Kind;
use super::layers::Position;
use super::passes::{Modulation, Passes, Watch};
use super::scalars::{Found, Place, Plan, Stage};
use super::{Memory, NeuroPlasticConfig, base, cpu, device, tensors};
use crate::config::plasticity::Layer;
use crate::engine::apply::{Apply, Seeing, apply_all};
use crate::engine::param_step::ParamStep;
use crate::engine::rule::StepContext;
use crate::error::Result;

/// A step: directions, then θ, whose norm is seen on the way.
pub(super) fn step(
    config: &NeuroPlasticConfig,
    cx: &StepContext,
    work: &mut [ParamStep<'_>],
    memory: &mut Memory,
) -> Result<()> {
    if device::step(config, cx, work, memory)? {
        return Ok(());
    }
    let (plan, watch, places) = prepare(config, cx, work, memory)?;
    let (applies, mut seen) = plan.directions(watch, &places, work)?;
    let seeing = if cx.diagnostics { Seeing::Squares } else { Seeing::Nothing };
    let squares = apply_all(work, &applies, seeing)?;
    for (((place, how), theta2), seen) in places.iter().zip(&applies).zip(squares).zip(&mut seen) {
        let [parameter2, decay2] = plan.parameter(place, how.keep, theta2);
        seen.parameter(parameter2, decay2);
    }
    seen.iter().for_each(|seen| memory.diagnostics.add(seen));
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
    let (applies, seen) = plan.directions(watch, &places, work)?;
    seen.iter().for_each(|seen| memory.diagnostics.add(seen));
    Ok(applies)
}

/// What is known before the first pass; a base of the zoo has given its directions by then.
pub(super) fn prepare<'a>(
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
    let mut places: Vec<Place> = work
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
            lr: w.lr,
            weight_decay: w.weight_decay(config.weight_decay),
            plasticity: w.param.settings.neuroplastic.plasticity.unwrap_or_default(),
            base,
            // With η = 0 nothing moves, whatever the ratio.
            ratio: if base.factor == w.lr || w.lr == 0.0 { 1.0 } else { base.factor / w.lr },
            steered: None,
        })
        .collect();
    if let Some(controller) = &config.controller {
        let mut counts = [0; Layer::ALL.len()];
        let sums: Vec<Option<usize>> = places.iter().map(|place| controller.sum_for(Layer::of(place.at))).collect();
        sums.iter().flatten().for_each(|sum| counts[*sum] += 1);
        places.iter_mut().zip(sums).for_each(|(place, sum)| place.steered = sum.map(|sum| (sum, counts[sum])));
    }
    Ok((plan, watch, places))
}

impl Plan<'_> {
    /// u of all tensors in their scratch; what is to be done with it, and what the diagnostics see of each.
    fn directions(
        &self,
        watch: Watch,
        places: &[Place],
        work: &mut [ParamStep<'_>],
    ) -> Result<(Vec<Apply>, Vec<Seen>)> {
        let config = self.config;
        let mut found: Vec<Found> = vec![Found::default(); work.len()];
        for kind in Kind::ALL {
            let members: Vec<usize> = (0..work.len()).filter(|&i| Kind::of(&work[i]) == kind).collect();
            if members.is_empty() {
                continue;
            }
            let of_members: Vec<Place> = members.iter().map(|&i| places[i]).collect();
            let mut of_kind: Vec<&mut ParamStep<'_>> = work.iter_mut().filter(|w| Kind::of(w) == kind).collect();
            let done = match kind {
                Kind::F32 => cpu::with::<f32, _>(config, watch, &mut of_kind, |passes| self.run(&of_members, passes))?,
                Kind::F64 => cpu::with::<f64, _>(config, watch, &mut of_kind, |passes| self.run(&of_members, passes))?,
                Kind::F16 => cpu::with::<f16, _>(config, watch, &mut of_kind, |passes| self.run(&of_members, passes))?,
                Kind::BF16 => {
                    cpu::with::<bf16, _>(config, watch, &mut of_kind, |passes| self.run(&of_members, passes))?
                }
                Kind::Tensors32 | Kind::Tensors64 => {
                    self.run(&of_members, &mut tensors::TensorPasses::new(config, watch, &mut of_kind))?
                }
            };
            members.into_iter().zip(done).for_each(|(i, done)| found[i] = done);
        }
        let mut sums = [0.0; Layer::ALL.len()];
        for (place, found) in places.iter().zip(&found) {
            if let Some((sum, _)) = place.steered {
                sums[sum] += self.signal(found);
            }
        }
        let end = |(place, found): (&Place, &Found)| {
            let ([keep, factor], seen) = self.end(place, found, &sums);
            (Apply { keep, factor }, seen)
        };
        Ok(places.iter().zip(&found).map(end).unzip())
    }

    /// Traces → signals → coefficient → formulation, for all tensors of one kind.
    fn run(&self, places: &[Place], passes: &mut impl Passes) -> Result<Vec<Found>> {
        let traces = passes.traces()?;
        let modulations: Vec<Modulation> = traces
            .iter()
            .zip(places)
            .map(|(s, place)| self.modulation(place, self.alpha(place, s), self.gain(place, s)))
            .collect();
        let modulated = passes.modulate(&modulations)?;
        let mut found: Vec<Found> = traces
            .into_iter()
            .zip(modulated)
            .map(|(traces, modulated)| Found { traces, modulated, ..Found::default() })
            .collect();
        for stage in self.stages() {
            let each: Vec<_> = places
                .iter()
                .zip(&found)
                .map(|(place, found)| self.combination(place, *stage, self.factors(*stage, found)))
                .collect();
            for (found, sums) in found.iter_mut().zip(passes.combine(&each)?) {
                match stage {
                    Stage::Projection => found.projected = sums,
                    Stage::Last => found.combined = sums,
                }
            }
        }
        Ok(found)
    }
}
