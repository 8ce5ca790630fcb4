//! Contour lines of a field on a grid, by marching squares.

use std::collections::BTreeMap;

use super::Point;

/// The side of a cell that a contour crosses: column, row, and whether it is the lower side or the left one.
type Side = (usize, usize, bool);

/// The lines on which a field, given by row, has the value `level`; in columns and rows of the grid.
pub(crate) fn contours(field: &[Vec<f64>], level: f64) -> Vec<Vec<Point>> {
    // Which sides a line joins. Every side lies in two cells at most, and so has two neighbours at most.
    let mut joins: BTreeMap<Side, Vec<Side>> = BTreeMap::new();
    for (j, rows) in field.windows(2).enumerate() {
        for i in 0..rows[0].len().min(rows[1].len()).saturating_sub(1) {
            for (a, b) in cell(i, j, [rows[0][i], rows[0][i + 1], rows[1][i + 1], rows[1][i]].map(|v| v > level)) {
                joins.entry(a).or_default().push(b);
                joins.entry(b).or_default().push(a);
            }
        }
    }
    let crossing = |&(i, j, lower): &Side| {
        let here = field[j][i];
        let there = if lower { field[j][i + 1] } else { field[j + 1][i] };
        let share = (level - here) / (there - here);
        if lower { (i as f64 + share, j as f64) } else { (i as f64, j as f64 + share) }
    };
    let mut lines = Vec::new();
    // Open lines from their ends first; what is left is closed.
    let ends: Vec<Side> = joins.iter().filter(|(_, next)| next.len() == 1).map(|(side, _)| *side).collect();
    for start in ends.into_iter().chain(joins.keys().copied().collect::<Vec<_>>()) {
        let mut line = vec![start];
        let mut at = start;
        while let Some(next) = joins.get_mut(&at).and_then(Vec::pop) {
            if let Some(back) = joins.get_mut(&next)
                && let Some(place) = back.iter().position(|side| *side == at)
            {
                back.swap_remove(place);
            }
            line.push(next);
            at = next;
        }
        if line.len() > 1 {
            lines.push(line.iter().map(crossing).collect());
        }
    }
    lines
}

/// The pairs of sides that a contour joins in the cell (i, j), whose corners, from the lower left one counterclockwise, are above it or not.
fn cell(i: usize, j: usize, above: [bool; 4]) -> Vec<(Side, Side)> {
    let [lower, right, upper, left] = [(i, j, true), (i + 1, j, false), (i, j + 1, true), (i, j, false)];
    let sides = [lower, right, upper, left];
    let crossed: Vec<Side> = (0..4).filter(|&k| above[k] != above[(k + 1) % 4]).map(|k| sides[k]).collect();
    match crossed[..] {
        [a, b] => vec![(a, b)],
        // A saddle: either way is as good.
        [_, _, _, _] => vec![(lower, right), (upper, left)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_one_closed_line_at_its_radius() {
        let square = |x: usize| (x as f64 - 10.0).powi(2);
        let field: Vec<Vec<f64>> = (0..21).map(|j| (0..21).map(|i| square(i) + square(j)).collect()).collect();
        let lines = contours(&field, 36.0);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].first(), lines[0].last());
        assert!(lines[0].len() > 30);
        for (x, y) in &lines[0] {
            // Interpolating a square between grid points, 1 apart, errs by 1/4 at most in the square, so by 1/(8 · 6) in the radius.
            assert!(((x - 10.0).hypot(y - 10.0) - 6.0).abs() < 0.03, "{x} {y}");
        }
        assert!(contours(&field, 1000.0).is_empty());
    }

    #[test]
    fn lines_that_leave_the_grid_are_open_and_whole() {
        let slope: Vec<Vec<f64>> = (0..5).map(|j| vec![f64::from(j); 4]).collect();
        assert_eq!(contours(&slope, 1.5), [[(0.0, 1.5), (1.0, 1.5), (2.0, 1.5), (3.0, 1.5)]]);
    }

    #[test]
    fn a_saddle_has_two_lines() {
        let field = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
        assert_eq!(contours(&field, 0.5).len(), 2);
    }
}
