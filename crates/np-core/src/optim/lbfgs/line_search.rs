//! A line search for the strong Wolfe conditions.

use np_engine::error::Result;

/// φ and φ′ at t, with the whole gradient there.
#[derive(Debug, Clone)]
pub(crate) struct Evaluation {
    pub(crate) t: f64,
    pub(crate) value: f64,
    pub(crate) slope: f64,
    pub(crate) gradient: Vec<f64>,
}

/// Sufficient decrease: φ(t) ≤ φ(0) + c₁ t φ′(0).
const C1: f64 = 1e-4;
/// Curvature: |φ′(t)| ≤ c₂ |φ′(0)|.
const C2: f64 = 0.9;
/// Evaluations at most.
const MOST: usize = 25;

/// A t > 0 that meets both conditions, or, after so many evaluations, the best that was seen; t = 0 if none was better than where it began.
///
/// # Errors
/// Those of `evaluate`.
pub(crate) fn strong_wolfe(
    start: Evaluation,
    first: f64,
    evaluate: &mut impl FnMut(f64) -> Result<Evaluation>,
) -> Result<Evaluation> {
    let enough = |e: &Evaluation| e.value <= start.value + C1 * e.t * start.slope;
    let flat = |e: &Evaluation| e.slope.abs() <= -C2 * start.slope;
    if first == 0.0 {
        return Ok(start);
    }
    // Find an interval that holds such a t.
    let (mut before, mut t) = (start.clone(), first);
    let mut bracket = None;
    let mut left = MOST;
    while left > 0 {
        left -= 1;
        let now = evaluate(t)?;
        if !now.value.is_finite() || !now.slope.is_finite() {
            // Beyond where the loss is defined: halfway back.
            t = 0.5 * (before.t + t);
            continue;
        }
        if !enough(&now) || (before.t > 0.0 && now.value >= before.value) {
            bracket = Some((before.clone(), now));
            break;
        }
        if flat(&now) {
            return Ok(now);
        }
        if now.slope >= 0.0 {
            bracket = Some((now, before.clone()));
            break;
        }
        // Still going down: further on, between a hundredth of the step more and ten times as far.
        let next = cubic(&before, &now, [now.t + 0.01 * (now.t - before.t), 10.0 * now.t]);
        (before, t) = (now, next);
    }
    // Narrow it: `low` is the better end, and the t is between the two.
    let Some((mut low, mut high)) = bracket else { return Ok(before) };
    while left > 0 && (high.t - low.t).abs() * start.slope.abs() > 1e-15 {
        left -= 1;
        let (near, far) = (low.t.min(high.t), low.t.max(high.t));
        let margin = 0.1 * (far - near);
        let now = evaluate(cubic(&low, &high, [near + margin, far - margin]))?;
        if !now.value.is_finite() || !now.slope.is_finite() || !enough(&now) || now.value >= low.value {
            high = now;
            continue;
        }
        if flat(&now) {
            return Ok(now);
        }
        if now.slope * (high.t - low.t) >= 0.0 {
            high = low;
        }
        low = now;
    }
    Ok(low)
}

/// Where the cubic through values and slopes of two points is least, held between two bounds.
fn cubic(a: &Evaluation, b: &Evaluation, [least, most]: [f64; 2]) -> f64 {
    let d1 = a.slope + b.slope - 3.0 * (a.value - b.value) / (a.t - b.t);
    let square = d1 * d1 - a.slope * b.slope;
    let d2 = square.sqrt().copysign(b.t - a.t);
    let t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2.0 * d2));
    if t.is_finite() { t.clamp(least, most) } else { 0.5 * (least + most) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn search(f: impl Fn(f64) -> [f64; 2], first: f64) -> (f64, usize) {
        let at = |t: f64| {
            let [value, slope] = f(t);
            Evaluation { t, value, slope, gradient: vec![] }
        };
        let mut count = 0;
        let found = strong_wolfe(at(0.0), first, &mut |t| {
            count += 1;
            Ok(at(t))
        });
        (found.unwrap().t, count)
    }

    #[test]
    fn a_parabola_is_met_at_once() {
        // φ = (t − 1)²: t = 1 from anywhere that is not good already; the cubic is exact.
        for first in [0.001, 5.0, 1000.0] {
            let (t, count) = search(|t| [(t - 1.0).powi(2), 2.0 * (t - 1.0)], first);
            let slope = 2.0 * (t - 1.0);
            assert!(slope.abs() <= C2 * 2.0 && count <= 6, "{first}: {t} after {count}");
        }
    }

    #[test]
    fn it_steps_back_from_infinity() {
        // φ = t − ln t beyond 0.1, shifted so that it starts at 0.1: undefined above 4.
        let phi =
            |t: f64| if t < 4.0 { [-(4.0 - t).ln() - 2.0 * t, 1.0 / (4.0 - t) - 2.0] } else { [f64::INFINITY; 2] };
        let (t, _) = search(phi, 100.0);
        assert!(t > 0.0 && t < 4.0 && phi(t)[1].abs() <= C2 * phi(0.0)[1].abs(), "{t}");
    }
}
