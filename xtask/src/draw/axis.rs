//! Ranges and ticks.

use super::font::{self, Face};
use super::theme::SMALL;

/// The scale of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Linear.
    Linear,
    /// Logarithmic.
    Log,
}

/// One axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    /// Name and unit.
    pub(crate) name: String,
    /// Layout.
    pub(crate) scale: Scale,
    /// Lower end.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
    /// Positions and labels of the ticks.
    pub(crate) ticks: Vec<(f64, String)>,
}

/// Bounds that the range of an axis must not exceed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    /// Lowest.
    pub(crate) low: f64,
    /// Highest.
    pub(crate) high: f64,
}

impl Limits {
    /// Any value.
    pub(crate) const ANY: Limits = Limits { low: f64::NEG_INFINITY, high: f64::INFINITY };
    /// Shares in percent.
    pub(crate) const PERCENT: Limits = Limits { low: 0.0, high: 100.0 };
    /// Numbers that cannot be negative.
    pub(crate) const POSITIVE: Limits = Limits { low: 0.0, high: f64::INFINITY };
}

impl Axis {
    /// A linear axis that contains all `values` with some margin, with about five ticks at round numbers.
    pub(crate) fn linear(name: &str, values: impl IntoIterator<Item = f64>, limits: Limits) -> Self {
        let (mut low, mut high) = ends(values);
        if high - low <= 1e-9 * high.abs().max(1e-9) {
            let air = if high == 0.0 { 1.0 } else { 0.05 * high.abs() };
            (low, high) = (low - air, high + air);
        }
        let air = 0.06 * (high - low);
        (low, high) = ((low - air).max(limits.low.min(low)), (high + air).min(limits.high.max(high)));
        let step = round_step(low, high);
        let decimals = decimals(step);
        let first = (low / step).ceil() as i64;
        let last = (high / step).floor() as i64;
        let ticks = (first..=last).map(|i| {
            let value = i as f64 * step;
            // Adding zero turns −0 into 0.
            (value, format!("{:.decimals$}", value + 0.0).replace('-', "−"))
        });
        Self { name: name.into(), scale: Scale::Linear, low, high, ticks: ticks.collect() }
    }

    /// The same axis with at most `most` ticks: every other tick is removed, as often as necessary; a tick at 0 stays.
    pub(crate) fn at_most(mut self, most: usize) -> Self {
        while self.ticks.len() > most.max(1) {
            let zero = self.ticks.iter().position(|(value, _)| *value == 0.0).unwrap_or(0);
            let mut at = 0..;
            self.ticks.retain(|_| at.next().is_none_or(|at: usize| at.abs_diff(zero).is_multiple_of(2)));
        }
        self
    }

    /// Epochs 1 to `last`. Up to twelve epochs each has a tick; otherwise the first and round numbers have one.
    pub(crate) fn epochs(last: usize) -> Self {
        let last = last.max(1);
        let step = [1, 5, 10, 20, 50, 100].into_iter().find(|step| last / step <= 12).unwrap_or(last);
        let ticks: Vec<usize> = (1..=last).filter(|epoch| epoch % step == 0 || *epoch == 1).collect();
        let air = (0.03 * (last - 1) as f64).max(0.25);
        let ticks = ticks.into_iter().map(|epoch| (epoch as f64, epoch.to_string())).collect();
        Self { name: "Epoch".into(), scale: Scale::Linear, low: 1.0 - air, high: last as f64 + air, ticks }
    }

    /// Fractions on a logarithmic axis in percent, a tick at each.
    pub(crate) fn fractions(name: &str, fractions: &[f64]) -> Self {
        let (low, high) = ends(fractions.iter().copied());
        let air = (high / low).powf(0.11).max(1.1);
        let ticks = fractions.iter().map(|fraction| (*fraction, percent(*fraction))).collect();
        Self { name: name.into(), scale: Scale::Log, low: low / air, high: high * air, ticks }
    }

    /// Positive values on a logarithmic axis: a label at each power of ten, and a bare tick at each of `values`.
    pub(crate) fn logarithmic(name: &str, values: &[f64]) -> Self {
        let (low, high) = ends(values.iter().copied().filter(|v| *v > 0.0));
        let (low, high) = if low > 0.0 { (low, high) } else { (0.1, 1.0) };
        let air = (high / low).powf(0.06).max(1.15);
        let (low, high) = (low / air, high * air);
        let powers = low.log10().ceil() as i32..=high.log10().floor() as i32;
        let mut ticks: Vec<(f64, String)> = powers.map(|power| (10_f64.powi(power), power_of_ten(power))).collect();
        let between: Vec<f64> = values
            .iter()
            .copied()
            .filter(|v| *v > 0.0 && !ticks.iter().any(|(at, _)| (v / at - 1.0).abs() < 1e-9))
            .collect();
        ticks.extend(between.into_iter().map(|value| (value, String::new())));
        Self { name: name.into(), scale: Scale::Log, low, high, ticks }
    }

    /// Positive values on a logarithmic axis, a label at each of them.
    pub(crate) fn tried(name: &str, values: &[f64]) -> Self {
        let label = |value: f64| if value < 0.000_999 { format!("{value:e}") } else { value.to_string() };
        let ticks = values.iter().map(|value| (*value, label(*value))).collect();
        Self { ticks, ..Self::logarithmic(name, values) }
    }

    /// Names at 0, 1, 2 …, from the left.
    pub(crate) fn columns(name: &str, names: Vec<String>) -> Self {
        let high = names.len() as f64 - 0.5;
        let ticks = names.into_iter().enumerate().map(|(i, label)| (i as f64, label)).collect();
        Self { name: name.into(), scale: Scale::Linear, low: -0.5, high, ticks }
    }

    /// Names at 0, 1, 2 …, from the top.
    pub(crate) fn rows(names: Vec<String>) -> Self {
        let Self { name, scale, low, high, ticks } = Self::columns("", names);
        Self { name, scale, low: high, high: low, ticks }
    }

    /// Position of a value: 0 at the lower end, 1 at the upper end.
    pub(crate) fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        }
    }

    /// Width of the widest tick label.
    pub(crate) fn label_width(&self) -> f64 {
        self.ticks.iter().map(|(_, label)| font::width(label, SMALL, Face::Regular)).fold(0.0, f64::max)
    }
}

/// A share in percent, without needless decimals.
pub(crate) fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn power_of_ten(power: i32) -> String {
    match power {
        0.. => format!("{}", 10_f64.powi(power)),
        _ => format!("{:.*}", power.unsigned_abs() as usize, 10_f64.powi(power)),
    }
}

fn ends(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let ends = values
        .into_iter()
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if ends.0 <= ends.1 { ends } else { (0.0, 1.0) }
}

/// The step among 1, 2 and 5 times a power of ten that puts about five ticks between two ends.
fn round_step(low: f64, high: f64) -> f64 {
    let power = 10_f64.powi(((high - low) / 5.0).log10().floor() as i32);
    let badness = |step: &f64| ((high / step).floor() - (low / step).ceil() + 1.0 - 5.0).abs();
    let candidates = [1.0, 2.0, 5.0, 10.0].map(|m| m * power);
    candidates.into_iter().min_by(|a, b| badness(a).total_cmp(&badness(b))).unwrap_or(power)
}

/// The decimals that multiples of a round step have.
fn decimals(step: f64) -> usize {
    // A hair above: the logarithm of 0.1 need not be −1 exactly.
    (-(step.log10() + 1e-9).floor()).max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn round_ticks_inside_the_range() {
        let axis = Axis::linear("", [93.1, 97.6], Limits::PERCENT);
        assert_eq!(labels(&axis), ["93", "94", "95", "96", "97"].as_slice());
        assert!(axis.low < 93.1 && axis.high > 97.6);
        assert_eq!(labels(&Axis::linear("", [0.28, 0.61], Limits::ANY)), ["0.3", "0.4", "0.5", "0.6"].as_slice());
        assert_eq!(
            labels(&Axis::linear("", [-0.2, 0.2], Limits::ANY)),
            ["−0.2", "−0.1", "0.0", "0.1", "0.2"].as_slice()
        );
        assert_eq!(labels(&Axis::linear("", [89.8, 97.9], Limits::PERCENT)), ["90", "92", "94", "96", "98"].as_slice());
        assert_eq!(
            labels(&Axis::linear("", [0.0, 10.4], Limits::POSITIVE)),
            ["0", "2", "4", "6", "8", "10"].as_slice()
        );
        assert_eq!(Axis::linear("", [2.0, 99.9], Limits::PERCENT).high, 100.0);
    }

    #[test]
    fn a_narrow_axis_keeps_every_other_tick_and_zero() {
        let axis = Axis::linear("", [-0.1, 0.52], Limits::ANY);
        assert_eq!(labels(&axis), ["−0.1", "0.0", "0.1", "0.2", "0.3", "0.4", "0.5"].as_slice());
        assert_eq!(labels(&axis.clone().at_most(5)), ["0.0", "0.2", "0.4"].as_slice());
        assert_eq!(axis.clone().at_most(7), axis);
    }

    #[test]
    fn odd_data_still_have_an_axis() {
        for values in [vec![], vec![f64::NAN], vec![3.0], vec![0.0, 0.0], vec![1e-12], vec![f64::INFINITY, 1.0]] {
            let axis = Axis::linear("", values.clone(), Limits::ANY);
            assert!(axis.low < axis.high && !axis.ticks.is_empty(), "{values:?}: {axis:?}");
        }
    }

    #[test]
    fn epochs() {
        assert_eq!(labels(&Axis::epochs(1)), ["1"]);
        assert_eq!(labels(&Axis::epochs(10)).len(), 10);
        assert_eq!(labels(&Axis::epochs(20)), ["1", "5", "10", "15", "20"]);
        assert_eq!(labels(&Axis::epochs(50))[..3], ["1", "5", "10"]);
    }

    #[test]
    fn powers_of_ten_are_named_and_values_between_have_a_tick() {
        let axis = Axis::logarithmic("", &[0.003, 0.01, 0.03, 0.1, 0.3]);
        assert_eq!(labels(&axis), ["0.01", "0.1", "", "", ""]);
        assert!((axis.place(0.1) - axis.place(0.01) - (axis.place(0.3) - axis.place(0.03))).abs() < 1e-12);
        assert_eq!(labels(&Axis::logarithmic("", &[0.5, 200.0])), ["1", "10", "100", "", ""]);
        assert!(Axis::logarithmic("", &[]).low > 0.0);
    }

    #[test]
    fn every_value_that_was_tried_has_a_label() {
        let axis = Axis::tried("", &[0.0001, 0.0003, 0.001, 0.03]);
        assert_eq!(labels(&axis), ["1e-4", "3e-4", "0.001", "0.03"]);
    }

    #[test]
    fn names_stand_in_order_from_left_and_from_the_top() {
        let names = || vec!["a".to_string(), "b".to_string()];
        assert_eq!([0.0, 1.0].map(|i| Axis::columns("", names()).place(i)), [0.25, 0.75]);
        assert_eq!([0.0, 1.0].map(|i| Axis::rows(names()).place(i)), [0.75, 0.25]);
    }

    #[test]
    fn fractions_are_even_steps_of_a_ratio() {
        let axis = Axis::fractions("", &[0.1, 0.25, 0.5, 1.0]);
        assert_eq!(labels(&axis), ["10 %", "25 %", "50 %", "100 %"]);
        let step = |a: f64, b: f64| axis.place(b) - axis.place(a);
        assert!((step(0.25, 0.5) - step(0.5, 1.0)).abs() < 1e-12);
        assert_eq!(percent(0.125), "12.5 %");
    }
}
