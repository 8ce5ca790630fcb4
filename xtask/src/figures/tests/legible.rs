//! Type is large enough where a figure is printed.

use super::{FIGURES, Figure};

/// Widest that a figure is printed, in inches: a column across a page of A4 or Letter (183 mm), to which wider ones are scaled.
const PRINTED: f64 = 7.2;
/// Smallest type, in points at printed size.
const SMALLEST: f64 = 7.0;
/// Points an inch, and units of a drawing an inch: four a pixel of 300 dpi.
const POINTS: f64 = 72.0;
const UNITS: f64 = 4.0 * 300.0;

/// Every number that stands in an attribute of a drawing.
fn attributes(source: &str, name: &str) -> Vec<f64> {
    source.split(&format!(" {name}=\"")).skip(1).filter_map(|rest| rest.split('"').next()?.parse().ok()).collect()
}

/// The smallest type of a figure, in points at printed size; subscripts and superscripts, which only figure 1 has, apart.
fn smallest(source: &str) -> f64 {
    let width = attributes(source, "width")[0] / UNITS;
    let sizes = attributes(source, "font-size");
    assert!(sizes.len() > 20, "{}", sizes.len());
    let scripts = source.contains("α ⊙ g");
    let is_script = |size: f64| scripts && sizes.iter().any(|other| (size - 0.7 * other).abs() < 1.0);
    let least = sizes.iter().copied().filter(|size| !is_script(*size)).fold(f64::INFINITY, f64::min);
    least / UNITS * POINTS * (PRINTED / width).min(1.0)
}

pub(crate) fn assert_legible(figure: &Figure) {
    let least = smallest(&figure.drawing.source);
    assert!(least >= SMALLEST, "{}: type of {least:.2} points at printed size", figure.name);
}

#[test]
fn no_type_is_smaller_than_seven_points_in_print() {
    FIGURES.iter().for_each(assert_legible);
}

#[test]
fn wide_figures_are_scaled_down_and_narrow_ones_are_not() {
    // By hand: 54 pixels of 300 dpi are 12.96 points; a page of 14.4 inches is printed at half its size.
    let drawing = |inches: f64| {
        format!("<svg width=\"{}\" height=\"9\">{}", inches * 1200.0, "<text font-size=\"216\">".repeat(21))
    };
    assert!((smallest(&drawing(14.4)) - 6.48).abs() < 1e-9);
    assert!((smallest(&drawing(6.2)) - 12.96).abs() < 1e-9);
}
