//! The scalar arithmetic of a tensor's step, between the passes over its elements. It is generic over the number type: on the host it computes, for a
//! device it is recorded and becomes a kernel.

use np_engine::apply::Apply;
use np_engine::config::decay::DecayKind;
use np_engine::config::plasticity::{Layer, Plasticity};
use np_trace::Number;

use super::base::{Base, BaseScalars};
use super::coefficient::Alpha;
use super::diagnostics::{Seen, SeenOrthogonal};
use super::formulation::{Formulation, Hybrid, OrthogonalResidual, ResidualNorm, Target};
use super::layers::Position;
use super::passes::{Combination, Modulation, Shape, Sums};
use super::stabilizer::held;
use super::{NeuroPlasticConfig, RuleKind};

/// What is the same for all tensors of a step: the configuration, and what its schedules give at this step.
pub(super) struct Plan<'a> {
    pub(super) config: &'a NeuroPlasticConfig,
    /// ρ_e at this epoch, from the coefficient's rule and warm-up.
    pub(super) gate: f64,
    /// κ of the orthogonal residual; 1 in other formulations.
    pub(super) kappa: f64,
    /// Whether this epoch is in the hybrid's phase; `true` in other formulations.
    pub(super) phase: bool,
}

/// A tensor's place in the model, and its settings with those of its groups applied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) at: Position,
    pub(super) elements: usize,
    pub(super) lr: f64,
    pub(super) weight_decay: f64,
    pub(super) plasticity: Plasticity,
    /// θ ← keep·θ − factor·b of a base that is another optimizer of this crate; without one, keep is 1 and factor is η.
    pub(super) base: Apply,
    /// `base.factor` / η; 1 if η is 0.
    pub(super) ratio: f64,
    /// The base's constants; `None` without a base.
    pub(super) scalars: Option<BaseScalars>,
    /// The factor that turns the base's momentum buffer into μ.
    pub(super) momentum_scale: f64,
    /// The index of the controller's sum that steers this tensor, and the number of tensors in that sum; `None` if the controller leaves the tensor alone.
    pub(super) steered: Option<(usize, usize)>,
}

/// The sums of each pass over a tensor; those of passes still to come are not meaningful.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<N = f64> {
    pub(super) traces: Sums<N>,
    pub(super) modulated: Sums<N>,
    /// After the first of two combinations.
    pub(super) projected: Sums<N>,
    /// After the last combination.
    pub(super) combined: Sums<N>,
}

/// One of the two combinations that a step can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Removes the gradient's direction from an orthogonal residual.
    Projection,
    /// Gives u.
    Last,
}

impl Place {
    /// The index of the controller's sum that steers this tensor, or the number of sums if none does.
    pub(super) fn sum(&self) -> u32 {
        u32::try_from(self.steered.map_or(Layer::ALL.len(), |(sum, _)| sum)).unwrap_or(u32::MAX)
    }
}

const TINY: f64 = 1e-12;

/// An orthogonal residual's scales: the factor that gives o the norm that `norm` asks for, and d / o.
struct Residual<N> {
    matched: N,
    d: N,
}

impl Plan<'_> {
    /// The combinations that follow the modulation.
    pub(super) fn stages(&self) -> &'static [Stage] {
        match self.config.formulation {
            Formulation::Direct(_) => &[],
            Formulation::BoundedResidual(_) | Formulation::Hybrid(_) => &[Stage::Last],
            Formulation::OrthogonalResidual(_) => &[Stage::Projection, Stage::Last],
        }
    }

    /// Whether the modulation pass sums log(α/α_g) for the controller.
    pub(super) fn watches_ratio(&self) -> bool {
        self.config.controller.is_some() && self.config.coefficient.rule == RuleKind::Full
    }

    /// A bit for each scope that contains the tensor, and one more if it is modulated. Tensors with the same bits have the same arithmetic of diagnostics.
    pub(super) fn scopes(&self, at: Position) -> u32 {
        let active = matches!(&self.config.formulation, Formulation::Hybrid(x) if self.gamma(x, at) > 0.0);
        u32::from(active) << 5 | super::diagnostics::scopes(at)
    }

    /// wd where it is coupled to the update, else 0.
    fn coupled(&self, place: &Place) -> f64 {
        if self.config.formulation.decay() == DecayKind::Coupled { place.weight_decay } else { 0.0 }
    }

    /// γ = strength · phase · scope.
    fn gamma(&self, x: &Hybrid, at: Position) -> f64 {
        if self.phase && x.scope.contains(at) { x.strength } else { 0.0 }
    }

    pub(super) fn alpha<N: Number>(&self, place: &Place, s: &Sums<N>) -> Alpha<N> {
        match place.plasticity {
            Plasticity::On => Alpha::new(&self.config.coefficient, &self.config.signals, s.means(), self.gate),
            Plasticity::Off => Alpha::one(),
        }
    }

    /// A hybrid's factor of b; 0 in other formulations.
    pub(super) fn gain<N: Number>(&self, place: &Place, s: &Sums<N>) -> N {
        let Formulation::Hybrid(x) = &self.config.formulation else { return N::ZERO };
        let (real, gamma) = (N::from_f64, self.gamma(x, place.at));
        match (x.target, &x.base) {
            (Target::Momentum, Base::Adamw(_) | Base::Other(_)) => N::ZERO,
            (Target::Gain | Target::Momentum, _) => real(gamma),
            (Target::TrustRatio, _) => {
                let norms = s.theta2.sqrt() / (real(place.ratio) * s.b2.sqrt() + real(TINY));
                real(gamma) * (norms.clip(real(0.5), real(1.5)) - N::ONE)
            }
        }
    }

    /// A tensor's modulation, from its α and its gain `kb`.
    pub(super) fn modulation<N: Number>(&self, place: &Place, alpha: Alpha<N>, kb: N) -> Modulation<N> {
        let NeuroPlasticConfig { coefficient, signals, .. } = self.config;
        let shape = match &self.config.formulation {
            Formulation::Direct(_) => Shape::Direct { weight_decay: self.coupled(place) },
            Formulation::BoundedResidual(_) => Shape::Residual,
            Formulation::OrthogonalResidual(_) => Shape::Signal,
            Formulation::Hybrid(x) => {
                let at_momentum = x.target == Target::Momentum && matches!(x.base, Base::Adamw(_) | Base::Other(_));
                let km = if at_momentum { self.gamma(x, place.at) * place.momentum_scale } else { 0.0 };
                Shape::Base { kb, km }
            }
        };
        Modulation { alpha, shape, near: coefficient.near(), log_ratio: self.watches_ratio().then_some(signals.eps) }
    }

    /// The factors of g and x in a combination.
    pub(super) fn factors<N: Number>(&self, stage: Stage, found: &Found<N>) -> [N; 2] {
        match (&self.config.formulation, stage) {
            (Formulation::Direct(_), _) => [N::ZERO, N::ONE],
            // o = q − [Σ(q⊙g)/(Σg² + ε)] g
            (_, Stage::Projection) => {
                let (s, q) = (&found.traces, &found.modulated);
                let g = -q.out_g / (s.g2 + N::from_f64(self.config.signals.eps));
                [self.unless_skipped(s, g), self.unless_skipped(s, N::ONE)]
            }
            (Formulation::OrthogonalResidual(x), Stage::Last) => [N::ONE, self.residual(x, found).d],
            (Formulation::BoundedResidual(_), Stage::Last) => [N::ONE, self.hold(found)],
            (Formulation::Hybrid(_), Stage::Last) => [N::ZERO, self.hold(found)],
        }
    }

    /// A tensor's combination, from its [`Plan::factors`].
    pub(super) fn combination<N: Number>(&self, place: &Place, stage: Stage, [g, x]: [N; 2]) -> Combination<N> {
        let (b, theta) = match (&self.config.formulation, stage) {
            (_, Stage::Projection) => (0.0, 0.0),
            (Formulation::Hybrid(_), Stage::Last) => (1.0, 0.0),
            (_, Stage::Last) => (0.0, self.coupled(place)),
        };
        Combination { g, x, b, theta, finite: stage == Stage::Projection }
    }

    /// `x`, but 0 where a gradient is too small to have a direction, that is, Σg² ≤ ε.
    fn unless_skipped<N: Number>(&self, s: &Sums<N>, x: N) -> N {
        let eps = N::from_f64(self.config.signals.eps);
        // Not-a-number is not small.
        N::select_lt(eps, s.g2, x, N::select_lt(-N::ONE, s.g2, N::ZERO, x))
    }

    /// The factor, at most 1, that brings the residual's norm down to `max_ratio` times the norm of g (bounded residual) or of b (hybrid).
    fn hold<N: Number>(&self, found: &Found<N>) -> N {
        let (ratio, norm2) = match &self.config.formulation {
            Formulation::BoundedResidual(x) => (x.max_ratio, found.traces.g2),
            Formulation::Hybrid(x) => (x.max_ratio, found.traces.b2),
            Formulation::Direct(_) | Formulation::OrthogonalResidual(_) => return N::ONE,
        };
        held(found.modulated.out2.sqrt(), N::from_f64(ratio) * norm2.sqrt(), N::from_f64(TINY))
    }

    fn residual<N: Number>(&self, x: &OrthogonalResidual, found: &Found<N>) -> Residual<N> {
        let (real, eps) = (N::from_f64, N::from_f64(self.config.signals.eps));
        let (g, norm) = (found.traces.g2.sqrt(), found.projected.out2.sqrt());
        let matched = match x.norm {
            ResidualNorm::MatchGradient => N::select_lt(eps, norm, g / (norm + eps), N::ONE),
            ResidualNorm::Raw => N::ONE,
        };
        let raw = real(x.strength * self.kappa) * matched;
        Residual { matched, d: held(raw * norm, real(x.max_ratio) * g, eps) * raw }
    }

    /// ζ, the controller's signal of a tensor.
    pub(super) fn signal<N: Number>(&self, found: &Found<N>) -> N {
        match self.config.controller {
            Some(_) => finite(found.modulated.log_ratio / found.traces.count()),
            None => N::ZERO,
        }
    }

    /// Controller and stabiliser: keep and factor of the update, and what the tensor adds to the diagnostics. `sums` are the controller's, over all tensors.
    pub(super) fn end<N: Number>(&self, place: &Place, found: &Found<N>, sums: &[N]) -> ([N; 2], Seen<N>) {
        let (config, real) = (self.config, N::from_f64);
        let elements = found.traces.elements;
        let (mut signal, mut multiplier) = (N::ZERO, N::ONE);
        if let (Some(controller), Some((sum, count))) = (&config.controller, place.steered) {
            let steered = controller.steer(sums[sum], count);
            (signal, multiplier) = (steered.signal, steered.multiplier);
        }
        let keep = match (config.formulation.decay() == DecayKind::Decoupled, place.base.keep) {
            (true, _) => N::ONE - real(place.lr) * multiplier * real(place.weight_decay),
            (false, 1.0) => N::ONE,
            // As it is where the multiplier is 1.
            (false, keep) => {
                let (keep, other) = (real(keep), N::ONE - multiplier * real(1.0 - keep));
                N::select_lt(multiplier, N::ONE, other, N::select_lt(N::ONE, multiplier, other, keep))
            }
        };
        let raw_update2 = match config.formulation {
            Formulation::Direct(_) => found.modulated.out2,
            Formulation::Hybrid(_) => found.combined.out2 * real(place.ratio * place.ratio),
            _ => found.combined.out2,
        };
        let stabilised = config.stabilizer.factor(raw_update2, elements, place.at);
        let factor = real(place.base.factor) * multiplier * stabilised;

        let mut seen = Seen::nothing();
        let delta2 = match &config.formulation {
            Formulation::Direct(_) => found.modulated.delta2,
            Formulation::BoundedResidual(_) => {
                let hold = self.hold(found);
                hold * hold * found.modulated.out2
            }
            Formulation::OrthogonalResidual(x) => {
                let (Residual { matched, d }, q, o) = (self.residual(x, found), &found.modulated, &found.projected);
                seen.orthogonal(&SeenOrthogonal {
                    skipped: N::ONE - self.unless_skipped(&found.traces, N::ONE),
                    signal2: q.out2,
                    residual2: matched * matched * o.out2,
                    signal_g: q.out_g,
                    residual_g: matched * o.out_g,
                    gradient2: found.traces.g2,
                });
                d * d * o.out2
            }
            Formulation::Hybrid(x) => {
                let scale = real(place.ratio) * self.hold(found);
                let delta2 = scale * scale * found.modulated.out2;
                seen.modulated(place.at, elements, self.gamma(x, place.at) > 0.0, delta2);
                delta2
            }
        };
        let scale = multiplier * stabilised;
        seen.tensor(&found.traces, raw_update2, scale * scale * raw_update2, delta2);
        seen.alpha(&found.modulated.alpha, elements);
        if let Some(c) = &config.controller {
            let low = N::select_lt(real(c.low), multiplier, N::ZERO, N::ONE);
            let high = N::select_lt(multiplier, real(c.high), N::ZERO, N::ONE);
            seen.controlled(place.at.layer(), signal, multiplier, [low, high]);
        }
        ([keep, factor], seen)
    }

    /// (keep·θ)² and (wd·θ)², each summed over the tensor, from keep and Σθ² before the step.
    pub(super) fn parameter<N: Number>(&self, place: &Place, keep: N, theta2: N) -> [N; 2] {
        // A base's decay is its own, but for AdamW's: it has no term here.
        let inside = matches!(&self.config.formulation, Formulation::Hybrid(x) if x.base.adamw().is_none());
        let wd = if inside { 0.0 } else { place.weight_decay };
        [keep * keep * theta2, N::from_f64(wd * wd) * theta2]
    }
}

/// `x`, or 0 where it is not finite.
pub(super) fn finite<N: Number>(x: N) -> N {
    N::select_lt(x.abs(), N::from_f64(f64::INFINITY), x, N::ZERO)
}
