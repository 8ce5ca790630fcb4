//! Diagnostics: statistics of an epoch, summed over steps and tensors.
//!
//! They are a list of totals. A tensor's step contributes a number to each ([`Seen`]). On a device the totals are added up there.

use std::collections::BTreeMap;

use np_engine::chain::Total;
use np_engine::config::plasticity::Layer;
use np_trace::Number;

use super::layers::{Position, Scope};
use super::passes::Sums;

/// Indices of the totals.
const ELEMENTS: usize = 0;
/// Elements of the steps in which the statistics of α were computed.
const WATCHED: usize = 1;
const GRADIENT2: usize = 2;
const RAW_UPDATE2: usize = 3;
const EFFECTIVE_UPDATE2: usize = 4;
const DELTA2: usize = 5;
const ALPHA_SUM: usize = 6;
const ALPHA_SQUARES: usize = 7;
const ALPHA_MIN: usize = 8;
const ALPHA_MAX: usize = 9;
const NEAR_MIN: usize = 10;
const NEAR_MAX: usize = 11;
/// Σθ², then Σ(wd·θ)².
pub(super) const PARAMETER2: usize = 12;
const DECAY2: usize = 13;
/// Of an orthogonal residual: the number of tensors, how many of them were skipped, and the sums of [`SeenOrthogonal`].
const ORTHOGONAL: usize = 14;
/// Of a hybrid: elements, how many of them are modulated, and Σd², of all tensors and then of each of [`SCOPES`].
const MODULATED: usize = ORTHOGONAL + 7;
/// Of the controller: the number of tensors; sum, least and greatest of their signals, then of their multipliers; how often a multiplier is at its lower and
/// at its upper bound.
const CONTROLLED: usize = MODULATED + 3 * (1 + SCOPES.len());
const SIGNAL: usize = CONTROLLED + 1;
const MULTIPLIER: usize = SIGNAL + 3;
const CLAMPED: usize = MULTIPLIER + 3;
/// The number of tensors, and the sums of signals and of multipliers, of each of [`Layer::ALL`].
const GROUPS: usize = CLAMPED + 2;
/// The number of totals.
pub(super) const TOTALS: usize = GROUPS + 3 * Layer::ALL.len();

/// Whether a total is a sum, a minimum or a maximum.
pub(super) fn total_of(place: usize) -> Total {
    match place {
        ALPHA_MIN => Total::Least,
        ALPHA_MAX => Total::Most,
        _ if place == SIGNAL + 1 || place == MULTIPLIER + 1 => Total::Least,
        _ if place == SIGNAL + 2 || place == MULTIPLIER + 2 => Total::Most,
        _ => Total::Sum,
    }
}

/// What one tensor's step adds to each total.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<N = f64>(pub(super) [N; TOTALS]);

/// Whether a tensor is in [`Scope::All`], then in each of [`SCOPES`].
fn members(at: Position) -> impl Iterator<Item = bool> {
    std::iter::once(Scope::All).chain(SCOPES.iter().map(|(scope, _)| *scope)).map(move |scope| scope.contains(at))
}

/// [`members`] as the bits of a number.
pub(super) fn scopes(at: Position) -> u32 {
    (0..).zip(members(at)).map(|(k, is_in)| u32::from(is_in) << k).sum()
}

/// What a tensor's step adds to the totals of an orthogonal residual.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeenOrthogonal<N> {
    /// 1 if the gradient is too small to have a direction, so that the residual is 0; else 0.
    pub(super) skipped: N,
    pub(super) signal2: N,
    pub(super) residual2: N,
    pub(super) signal_g: N,
    pub(super) residual_g: N,
    pub(super) gradient2: N,
}

impl<N: Number> Seen<N> {
    /// Changes no total.
    pub(super) fn nothing() -> Self {
        Self(std::array::from_fn(|place| total_of(place).nothing()))
    }

    /// Sets the squared norms of a tensor's gradient, of its update before and after controller and stabiliser, and of δ.
    pub(super) fn tensor(&mut self, first: &Sums<N>, raw_update2: N, effective_update2: N, delta2: N) {
        let elements = N::from_f64(first.elements as f64);
        (self.0[ELEMENTS], self.0[GRADIENT2]) = (elements, first.g2);
        (self.0[RAW_UPDATE2], self.0[EFFECTIVE_UPDATE2], self.0[DELTA2]) = (raw_update2, effective_update2, delta2);
    }

    /// Sets the statistics of α; without them (least above greatest), no element counts as watched.
    pub(super) fn alpha(&mut self, alpha: &[N; 6], elements: usize) {
        let [_, _, min, max, ..] = *alpha;
        self.0[WATCHED] = N::select_lt(max, min, N::ZERO, N::from_f64(elements as f64));
        self.0[ALPHA_SUM..=NEAR_MAX].copy_from_slice(alpha);
    }

    pub(super) fn orthogonal(&mut self, seen: &SeenOrthogonal<N>) {
        let SeenOrthogonal { skipped, signal2, residual2, signal_g, residual_g, gradient2 } = *seen;
        let all = [N::ONE, skipped, signal2, residual2, signal_g, residual_g, gradient2];
        self.0[ORTHOGONAL..MODULATED].copy_from_slice(&all);
    }

    pub(super) fn modulated(&mut self, at: Position, elements: usize, active: bool, delta2: N) {
        let elements = N::from_f64(elements as f64);
        for (total, is_in) in self.0[MODULATED..CONTROLLED].as_chunks_mut::<3>().0.iter_mut().zip(members(at)) {
            if is_in {
                *total = [elements, if active { elements } else { N::ZERO }, delta2];
            }
        }
    }

    /// Sets a tensor's signal and multiplier. `clamped` is 1 or 0 for each of the lower and the upper bound: whether the multiplier is at it.
    pub(super) fn controlled(&mut self, group: Layer, signal: N, multiplier: N, clamped: [N; 2]) {
        let [low, high] = clamped;
        let all = [N::ONE, signal, signal, signal, multiplier, multiplier, multiplier, low, high];
        self.0[CONTROLLED..GROUPS].copy_from_slice(&all);
        let of = GROUPS + 3 * group as usize;
        self.0[of..of + 3].copy_from_slice(&[N::ONE, signal, multiplier]);
    }
}

/// Sums over all steps since the epoch began. [`crate::Driver::diagnostics`] gives them by name.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    totals: [f64; TOTALS],
}

impl Default for Diagnostics {
    fn default() -> Self {
        Self { totals: Seen::nothing().0 }
    }
}

const SCOPES: [(Scope, &str); 4] = [
    (Scope::ConvOnly, "conv"),
    (Scope::ClassifierOnly, "classifier"),
    (Scope::EarlyBlocks, "early_blocks"),
    (Scope::LateBlocks, "late_blocks"),
];

impl Diagnostics {
    /// From all totals; if their number is another, as before the first step, nothing has been seen.
    pub(super) fn of(totals: Vec<f64>) -> Self {
        totals.try_into().map_or_else(|_| Self::default(), |totals| Self { totals })
    }

    /// The statistics by name; empty before the first step.
    pub(super) fn report(&self) -> BTreeMap<String, f64> {
        let t = &self.totals;
        let mut out = BTreeMap::new();
        if t[ELEMENTS] == 0.0 {
            return out;
        }
        let mut put = |name: &str, x: f64| out.insert(name.to_string(), x);
        let [gradient, raw, effective] = [GRADIENT2, RAW_UPDATE2, EFFECTIVE_UPDATE2].map(|place| t[place].sqrt());
        put("raw_gradient_norm", gradient);
        put("raw_update_norm", raw);
        put("effective_update_norm", effective);
        put("effective_to_gradient_norm_ratio", ratio(effective, gradient));
        put("stabilization_norm_ratio", ratio(effective, raw));
        if t[WATCHED] > 0.0 {
            self.report_watched(&mut put);
        }
        let [tensors, skipped, signal2, residual2, signal_g, residual_g, gradient2] =
            std::array::from_fn(|k| t[ORTHOGONAL + k]);
        if tensors > 0.0 {
            put("orthogonal_signal_norm", signal2.sqrt());
            put("orthogonal_residual_norm", residual2.sqrt());
            let cosine = |dot: f64, x2: f64| ratio(dot, x2.sqrt() * gradient2.sqrt());
            put("cosine_similarity_grad_plasticity", cosine(signal_g, signal2));
            put("cosine_similarity_grad_orthogonal", cosine(residual_g, residual2));
            put("orthogonal_skip_fraction", ratio(skipped, tensors));
        }
        let modulated = t[MODULATED..CONTROLLED].as_chunks::<3>().0;
        if modulated[0][0] > 0.0 {
            put("modulation_active_fraction", ratio(modulated[0][1], modulated[0][0]));
            for ([elements, active, delta2], (_, name)) in modulated[1..].iter().zip(SCOPES) {
                put(&format!("modulation_magnitude_{name}"), delta2.sqrt());
                put(&format!("modulation_active_fraction_{name}"), ratio(*active, *elements));
            }
        }
        let count = t[CONTROLLED];
        if count > 0.0 {
            for (name, at) in [("signal", SIGNAL), ("multiplier", MULTIPLIER)] {
                put(&format!("controller_{name}_mean"), t[at] / count);
                put(&format!("controller_{name}_min"), t[at + 1]);
                put(&format!("controller_{name}_max"), t[at + 2]);
            }
            put("controller_clamp_fraction_low", t[CLAMPED] / count);
            put("controller_clamp_fraction_high", t[CLAMPED + 1] / count);
            for (group, [count, signal, multiplier]) in Layer::ALL.iter().zip(t[GROUPS..].as_chunks::<3>().0) {
                let name = group.name();
                put(&format!("controller_signal_mean_{name}"), ratio(*signal, *count));
                let multiplier = if *count > 0.0 { multiplier / count } else { 1.0 };
                put(&format!("controller_multiplier_mean_{name}"), multiplier);
            }
        }
        out
    }

    /// The statistics that cost time, and that a step computes only if diagnostics are on.
    fn report_watched(&self, put: &mut impl FnMut(&str, f64) -> Option<f64>) {
        let (t, n) = (&self.totals, self.totals[WATCHED]);
        put("alpha_mean", t[ALPHA_SUM] / n);
        put("alpha_std", (t[ALPHA_SQUARES] / n - (t[ALPHA_SUM] / n).powi(2)).max(0.0).sqrt());
        put("alpha_min", t[ALPHA_MIN]);
        put("alpha_max", t[ALPHA_MAX]);
        put("alpha_fraction_near_min", t[NEAR_MIN] / n);
        put("alpha_fraction_near_max", t[NEAR_MAX] / n);
        put("parameter_norm", t[PARAMETER2].sqrt());
        put("plasticity_delta_norm", t[DELTA2].sqrt());
        put("weight_decay_term_norm", t[DECAY2].sqrt());
    }
}

fn ratio(x: f64, y: f64) -> f64 {
    if y == 0.0 { 0.0 } else { x / y }
}
