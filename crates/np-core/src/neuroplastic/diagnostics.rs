//! Diagnostics: what an epoch's steps did, summed over steps and tensors.

use std::collections::BTreeMap;

use super::layers::{Position, Scope};
use super::passes::AlphaSums;
use crate::config::plasticity::Layer;

/// What one tensor's step adds to the diagnostics.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) elements: usize,
    pub(super) alpha: AlphaSums,
    pub(super) gradient2: f64,
    pub(super) raw_update2: f64,
    pub(super) effective_update2: f64,
    pub(super) delta2: f64,
}

/// What an orthogonal residual adds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SeenOrthogonal {
    pub(super) skipped: bool,
    pub(super) signal2: f64,
    pub(super) residual2: f64,
    pub(super) signal_g: f64,
    pub(super) residual_g: f64,
    pub(super) gradient2: f64,
}

#[derive(Debug, Default)]
struct Orthogonal {
    tensors: f64,
    skipped: f64,
    sums: SeenOrthogonal,
}

#[derive(Debug, Default)]
struct Modulated {
    elements: f64,
    active: f64,
    delta2: f64,
}

#[derive(Debug)]
struct Controlled {
    count: f64,
    signal: [f64; 3],
    multiplier: [f64; 3],
    low: f64,
    high: f64,
    groups: [[f64; 3]; 4],
}

impl Default for Controlled {
    fn default() -> Self {
        let extremes = [0.0, f64::INFINITY, f64::NEG_INFINITY];
        Self { count: 0.0, signal: extremes, multiplier: extremes, low: 0.0, high: 0.0, groups: [[0.0; 3]; 4] }
    }
}

/// The sums since the epoch began. Kept by the driver, read by [`crate::Driver::diagnostics`].
#[derive(Debug, Default)]
pub struct Diagnostics {
    all: Seen,
    /// Elements of the steps in which α was looked at.
    watched: usize,
    parameter2: f64,
    decay2: f64,
    orthogonal: Option<Orthogonal>,
    /// All tensors, then the scopes of `SCOPES`.
    modulated: Option<[Modulated; 5]>,
    controlled: Option<Controlled>,
}

const SCOPES: [(Scope, &str); 4] = [
    (Scope::ConvOnly, "conv"),
    (Scope::ClassifierOnly, "classifier"),
    (Scope::EarlyBlocks, "early_blocks"),
    (Scope::LateBlocks, "late_blocks"),
];

impl Diagnostics {
    pub(super) fn add(&mut self, seen: &Seen) {
        let all = &mut self.all;
        all.elements += seen.elements;
        self.watched += if seen.alpha.min <= seen.alpha.max { seen.elements } else { 0 };
        all.alpha.add(&seen.alpha);
        all.gradient2 += seen.gradient2;
        all.raw_update2 += seen.raw_update2;
        all.effective_update2 += seen.effective_update2;
        all.delta2 += seen.delta2;
    }

    /// Σθ² and Σ(wd·θ)² of a tensor.
    pub(super) fn add_parameter(&mut self, theta2: f64, decay2: f64) {
        self.parameter2 += theta2;
        self.decay2 += decay2;
    }

    pub(super) fn add_orthogonal(&mut self, seen: &SeenOrthogonal) {
        let total = self.orthogonal.get_or_insert_default();
        total.tensors += 1.0;
        total.skipped += f64::from(u8::from(seen.skipped));
        total.sums.signal2 += seen.signal2;
        total.sums.residual2 += seen.residual2;
        total.sums.signal_g += seen.signal_g;
        total.sums.residual_g += seen.residual_g;
        total.sums.gradient2 += seen.gradient2;
    }

    pub(super) fn add_modulated(&mut self, at: Position, elements: usize, active: bool, delta2: f64) {
        let totals = self.modulated.get_or_insert_default();
        let members = std::iter::once(Scope::All).chain(SCOPES.iter().map(|(scope, _)| *scope));
        for (total, scope) in totals.iter_mut().zip(members) {
            if scope.contains(at) {
                total.elements += elements as f64;
                total.active += if active { elements as f64 } else { 0.0 };
                total.delta2 += delta2;
            }
        }
    }

    pub(super) fn add_controlled(&mut self, group: Layer, signal: f64, multiplier: f64, clamped: [bool; 2]) {
        let total = self.controlled.get_or_insert_default();
        total.count += 1.0;
        for (stats, x) in [(&mut total.signal, signal), (&mut total.multiplier, multiplier)] {
            *stats = [stats[0] + x, stats[1].min(x), stats[2].max(x)];
        }
        total.low += f64::from(u8::from(clamped[0]));
        total.high += f64::from(u8::from(clamped[1]));
        let of = &mut total.groups[group as usize];
        *of = [of[0] + 1.0, of[1] + signal, of[2] + multiplier];
    }

    /// Everything by name; empty before the first step.
    pub(super) fn report(&self) -> BTreeMap<String, f64> {
        let Seen { elements, gradient2, raw_update2, effective_update2, .. } = self.all;
        let mut out = BTreeMap::new();
        if elements == 0 {
            return out;
        }
        let mut put = |name: &str, x: f64| out.insert(name.to_string(), x);
        put("raw_gradient_norm", gradient2.sqrt());
        put("raw_update_norm", raw_update2.sqrt());
        put("effective_update_norm", effective_update2.sqrt());
        put("effective_to_gradient_norm_ratio", ratio(effective_update2.sqrt(), gradient2.sqrt()));
        put("stabilization_norm_ratio", ratio(effective_update2.sqrt(), raw_update2.sqrt()));
        if self.watched > 0 {
            self.report_watched(&mut put);
        }
        if let Some(Orthogonal { tensors, skipped, sums }) = &self.orthogonal {
            put("orthogonal_signal_norm", sums.signal2.sqrt());
            put("orthogonal_residual_norm", sums.residual2.sqrt());
            let cosine = |dot: f64, x2: f64| ratio(dot, x2.sqrt() * sums.gradient2.sqrt());
            put("cosine_similarity_grad_plasticity", cosine(sums.signal_g, sums.signal2));
            put("cosine_similarity_grad_orthogonal", cosine(sums.residual_g, sums.residual2));
            put("orthogonal_skip_fraction", ratio(*skipped, *tensors));
        }
        if let Some(totals) = &self.modulated {
            put("modulation_active_fraction", ratio(totals[0].active, totals[0].elements));
            for (total, (_, name)) in totals[1..].iter().zip(SCOPES) {
                put(&format!("modulation_magnitude_{name}"), total.delta2.sqrt());
                put(&format!("modulation_active_fraction_{name}"), ratio(total.active, total.elements));
            }
        }
        if let Some(total) = &self.controlled {
            for (name, [sum, min, max]) in [("signal", total.signal), ("multiplier", total.multiplier)] {
                put(&format!("controller_{name}_mean"), sum / total.count);
                put(&format!("controller_{name}_min"), min);
                put(&format!("controller_{name}_max"), max);
            }
            put("controller_clamp_fraction_low", total.low / total.count);
            put("controller_clamp_fraction_high", total.high / total.count);
            for (group, [count, signal, multiplier]) in Layer::ALL.iter().zip(total.groups) {
                let name = group.name();
                put(&format!("controller_signal_mean_{name}"), ratio(signal, count));
                put(&format!("controller_multiplier_mean_{name}"), if count > 0.0 { multiplier / count } else { 1.0 });
            }
        }
        out
    }
}

impl Diagnostics {
    /// What costs time to gather, and is absent where no step did.
    fn report_watched(&self, put: &mut impl FnMut(&str, f64) -> Option<f64>) {
        let (alpha, n) = (&self.all.alpha, self.watched as f64);
        put("alpha_mean", alpha.sum / n);
        put("alpha_std", (alpha.squares / n - (alpha.sum / n).powi(2)).max(0.0).sqrt());
        put("alpha_min", alpha.min);
        put("alpha_max", alpha.max);
        put("alpha_fraction_near_min", alpha.near_min / n);
        put("alpha_fraction_near_max", alpha.near_max / n);
        put("parameter_norm", self.parameter2.sqrt());
        put("plasticity_delta_norm", self.all.delta2.sqrt());
        put("weight_decay_term_norm", self.decay2.sqrt());
    }
}

fn ratio(x: f64, y: f64) -> f64 {
    if y == 0.0 { 0.0 } else { x / y }
}
