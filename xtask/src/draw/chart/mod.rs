//! The layers that can be drawn into axes.

mod ramp;
mod rows;

use anyhow::Result;
use plotters::style::RGBColor;

pub(crate) use ramp::Ramp;
pub(crate) use rows::{Bar, Bound, Cell, Interval, Rule};

use super::canvas::{Canvas, Fill, Stroke};
use super::panel::Frame;
use super::theme::{BAND, HAIR, LINE, Look, MARKER, PAPER};

/// A mean with a band or interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spot {
    /// Position along x.
    pub(crate) x: f64,
    /// The mean.
    pub(crate) mean: f64,
    /// Lower end of the band or interval.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
}

/// One kind of mark.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Layer {
    /// Means joined by a line, in a band.
    Curve {
        /// How the arm looks.
        look: Look,
        /// Means, in order of x.
        spots: Vec<Spot>,
        /// The style of the band.
        band: Band,
        /// Which means have a marker.
        marks: Marks,
        /// Filled or open markers.
        fill: Fill,
    },
    /// Thin lines, one for each seed.
    Lines {
        /// How the arm looks.
        look: Look,
        /// The points of each.
        lines: Vec<Vec<(f64, f64)>>,
    },
    /// Means with intervals, joined by a thin line, and single values beside them.
    Points {
        /// How the arm looks.
        look: Look,
        /// Means, in order of x.
        spots: Vec<Spot>,
        /// Single values.
        values: Vec<(f64, f64)>,
        /// Sideways shift in pixels, so that arms do not hide each other.
        shift: f64,
        /// Which means have a filled marker, the others an open one.
        filled: Filled,
    },
    /// Means with intervals, each in a row.
    Intervals(Vec<Interval>),
    /// Bars, several a row.
    Bars(Vec<Bar>),
    /// Bounds that the bars of rows are compared with.
    Bounds(Vec<Bound>),
    /// A heat map.
    Cells(Vec<Cell>),
    /// Its colour bar.
    Ramp(Ramp),
    /// A line across all rows.
    Rule(Rule),
}

/// Which means of [`Layer::Points`] have a filled marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// All of them.
    All,
    /// One alone.
    One(usize),
    /// Not one.
    None,
}

impl Filled {
    fn of(self, index: usize) -> Fill {
        match self {
            Filled::All => Fill::Solid,
            Filled::One(which) if which == index => Fill::Solid,
            Filled::One(_) | Filled::None => Fill::Open,
        }
    }
}

/// Which means of a curve have a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Every how many.
    every: usize,
    /// From which one on.
    first: usize,
}

impl Marks {
    /// All of a dozen means; of more only some, and those of arm number `arm` not where the other arms have theirs.
    pub(crate) fn staggered(means: usize, arm: usize, arms: usize) -> Self {
        if means <= 12 {
            return Self { every: 1, first: 0 };
        }
        let every = means.div_ceil(6).max(arms);
        Self { every, first: arm * every / arms.max(1) }
    }

    fn has(self, index: usize) -> bool {
        index >= self.first && (index - self.first).is_multiple_of(self.every)
    }
}

/// How a band is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Band {
    /// A tint: for narrow bands.
    Tint,
    /// A pale tint between thin lines: for wide bands that lie on each other.
    Edges,
}

/// A stage of drawing. A panel draws each stage of all layers before the next stage, which is drawn on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Bands and single values.
    Below,
    /// Lines and intervals.
    Lines,
    /// Markers.
    Marks,
}

impl Stage {
    /// All of them, in order.
    pub(crate) const ALL: [Stage; 3] = [Stage::Below, Stage::Lines, Stage::Marks];
}

impl Layer {
    /// The values of the layer on the vertical axis, for its range.
    pub(crate) fn heights(&self) -> Vec<f64> {
        if let Layer::Lines { lines, .. } = self {
            return lines.iter().flatten().map(|(_, y)| *y).collect();
        }
        let (Layer::Curve { spots, .. } | Layer::Points { spots, .. }) = self else { return Vec::new() };
        let mut heights: Vec<f64> = spots.iter().flat_map(|s| [s.low, s.mean, s.high]).collect();
        if let Layer::Points { values, .. } = self {
            heights.extend(values.iter().map(|(_, y)| *y));
        }
        heights
    }

    /// The values of a layer of rows on the horizontal axis, for its range.
    pub(crate) fn widths(&self) -> Vec<f64> {
        match self {
            Layer::Intervals(intervals) => {
                let of = |i: &Interval| {
                    [&[i.mean][..], i.ends.as_ref().map_or(&[][..], |ends| &ends[..]), &i.values].concat()
                };
                intervals.iter().flat_map(of).collect()
            }
            Layer::Bars(bars) => bars.iter().map(|bar| bar.value).collect(),
            Layer::Bounds(bounds) => bounds.iter().map(|bound| bound.value).collect(),
            Layer::Rule(rule) => rule.band.into_iter().flatten().chain([rule.at]).collect(),
            Layer::Curve { .. } | Layer::Lines { .. } | Layer::Points { .. } | Layer::Cells(_) | Layer::Ramp(_) => {
                Vec::new()
            }
        }
    }

    /// Space that the layer needs at the right of the axes.
    pub(crate) fn room(&self) -> f64 {
        if let Layer::Ramp(ramp) = self { ramp.room() } else { 0.0 }
    }

    /// Draws one stage of the layer.
    pub(crate) fn draw(&self, canvas: &Canvas, frame: &Frame, stage: Stage) -> Result<()> {
        match self {
            Layer::Curve { look, spots, band, marks, fill } => {
                let marked =
                    spots.iter().enumerate().filter(|(i, _)| marks.has(*i)).map(|(_, s)| frame.at(s.x, s.mean));
                match stage {
                    Stage::Below => draw_band(canvas, frame, (look, spots, *band)),
                    Stage::Lines => {
                        let line: Vec<_> = spots.iter().map(|s| frame.at(s.x, s.mean)).collect();
                        canvas.line(&line, Stroke::new(look.colour, LINE).dash(look.dash))
                    }
                    Stage::Marks => marked.into_iter().try_for_each(|point| canvas.marker(point, look, *fill)),
                }
            }
            Layer::Lines { look, lines } if stage == Stage::Below => lines.iter().try_for_each(|line| {
                let line: Vec<_> = line.iter().map(|(x, y)| frame.at(*x, *y)).collect();
                canvas.line(&line, Stroke::new(faded(look.colour), HAIR))
            }),
            Layer::Lines { .. } => Ok(()),
            Layer::Points { look, spots, values, shift, filled } => {
                draw_points(canvas, frame, stage, (look, spots, values, *shift, *filled))
            }
            Layer::Intervals(intervals) => intervals.iter().try_for_each(|one| one.draw(canvas, frame, stage)),
            Layer::Bars(bars) => bars.iter().try_for_each(|bar| bar.draw(canvas, frame, stage)),
            Layer::Bounds(bounds) => bounds.iter().try_for_each(|bound| bound.draw(canvas, frame, stage)),
            Layer::Cells(cells) => cells.iter().try_for_each(|cell| cell.draw(canvas, frame, stage)),
            Layer::Ramp(ramp) => ramp.draw(canvas, frame, stage),
            Layer::Rule(rule) => rule.draw(canvas, frame, stage),
        }
    }
}

/// A colour half way to the page's: lines of seeds lie behind that of their mean.
fn faded(colour: RGBColor) -> RGBColor {
    let half = |own: u8, page: u8| u8::midpoint(own, page);
    RGBColor(half(colour.0, PAPER.0), half(colour.1, PAPER.1), half(colour.2, PAPER.2))
}

fn draw_band(canvas: &Canvas, frame: &Frame, (look, spots, band): (&Look, &[Spot], Band)) -> Result<()> {
    let upper: Vec<_> = spots.iter().map(|s| frame.at(s.x, s.high)).collect();
    let lower: Vec<_> = spots.iter().rev().map(|s| frame.at(s.x, s.low)).collect();
    let outline = [&upper[..], &lower[..]].concat();
    match band {
        Band::Tint => canvas.polygon(&outline, look.colour, BAND),
        Band::Edges => {
            canvas.polygon(&outline, look.colour, 0.35 * BAND)?;
            let edge = Stroke::new(look.colour, HAIR).dash(look.dash);
            canvas.line(&upper, edge)?;
            canvas.line(&lower, edge)
        }
    }
}

/// What [`Layer::Points`] holds.
type PointsOf<'a> = (&'a Look, &'a [Spot], &'a [(f64, f64)], f64, Filled);

fn draw_points(
    canvas: &Canvas,
    frame: &Frame,
    stage: Stage,
    (look, spots, values, shift, filled): PointsOf,
) -> Result<()> {
    let moved = |x: f64, y: f64, by: f64| {
        let (px, py) = frame.at(x, y);
        (px + shift + by, py)
    };
    match stage {
        Stage::Below => {
            let line: Vec<_> = spots.iter().map(|s| moved(s.x, s.mean, 0.0)).collect();
            canvas.line(&line, Stroke::new(look.colour, 0.6 * LINE).dash(look.dash))
        }
        Stage::Lines => spots.iter().try_for_each(|s| {
            let stroke = Stroke::new(look.colour, 1.5 * HAIR);
            let (low, high) = (moved(s.x, s.low, 0.0), moved(s.x, s.high, 0.0));
            canvas.line(&[low, high], stroke)?;
            [low, high].into_iter().try_for_each(|(x, y)| {
                let cap = 0.8 * MARKER;
                canvas.line(&[(x - cap, y), (x + cap, y)], stroke)
            })
        }),
        Stage::Marks => {
            for (x, y) in values {
                canvas.disc(moved(*x, *y, 1.9 * MARKER), 0.42 * MARKER, look.colour, 0.55)?;
            }
            spots.iter().enumerate().try_for_each(|(i, s)| canvas.marker(moved(s.x, s.mean, 0.0), look, filled.of(i)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_of_long_curves_do_not_meet() {
        let marked = |means, arm, arms| -> Vec<usize> {
            let marks = Marks::staggered(means, arm, arms);
            (0..means).filter(|i| marks.has(*i)).collect()
        };
        assert_eq!(marked(10, 2, 3).len(), 10);
        assert_eq!(marked(20, 0, 3), [0, 4, 8, 12, 16]);
        assert_eq!(marked(20, 1, 3), [1, 5, 9, 13, 17]);
        let all: Vec<usize> = (0..5).flat_map(|arm| marked(50, arm, 5)).collect();
        assert!(all.iter().enumerate().all(|(i, a)| !all[..i].contains(a)));
    }
}
