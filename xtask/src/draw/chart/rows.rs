//! Marks in named rows: intervals (a forest), bars, cells (a heat map), and lines across all rows.

use anyhow::Result;
use plotters::style::RGBColor;

use super::Stage;
use crate::draw::canvas::{Align, Canvas, Fill, Stroke, Type, centred};
use crate::draw::panel::Frame;
use crate::draw::theme::{BAND, HAIR, INK, LINE, Look, MARKER, NORMAL, PAPER, SMALL, shade};

/// A mean in a row, with an interval and its single values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interval {
    /// How it looks.
    pub(crate) look: Look,
    /// Its row.
    pub(crate) row: f64,
    /// The mean.
    pub(crate) mean: f64,
    /// The ends of its interval, if it has one.
    pub(crate) ends: Option<[f64; 2]>,
    /// Single values.
    pub(crate) values: Vec<f64>,
    /// Whether its marker is filled.
    pub(crate) fill: Fill,
}

impl Interval {
    /// Draws one stage.
    pub(super) fn draw(&self, canvas: &Canvas, frame: &Frame, stage: Stage) -> Result<()> {
        let at = |x: f64| frame.at(x, self.row);
        match stage {
            Stage::Below => Ok(()),
            Stage::Lines => {
                let Some(ends) = self.ends.map(|ends| ends.map(at)) else { return Ok(()) };
                canvas.line(&ends, Stroke::new(self.look.colour, 0.75 * LINE))?;
                ends.into_iter().try_for_each(|(x, y)| {
                    let cap = 0.8 * MARKER;
                    canvas.line(&[(x, y - cap), (x, y + cap)], Stroke::new(self.look.colour, 0.5 * LINE))
                })
            }
            Stage::Marks => {
                for value in &self.values {
                    let (x, y) = at(*value);
                    canvas.disc((x, y + 1.9 * MARKER), 0.42 * MARKER, self.look.colour, 0.55)?;
                }
                canvas.marker(at(self.mean), &self.look, self.fill)
            }
        }
    }
}

/// A line across all rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    /// Where.
    pub(crate) at: f64,
    /// How it looks; the ink of the page if nothing is said.
    pub(crate) look: Option<Look>,
    /// A band about it.
    pub(crate) band: Option<[f64; 2]>,
}

impl Rule {
    /// Draws one stage.
    pub(super) fn draw(&self, canvas: &Canvas, frame: &Frame, stage: Stage) -> Result<()> {
        let x = |value: f64| frame.at(value, 0.0).0;
        let colour = self.look.map_or(INK, |look| look.colour);
        match (stage, self.band) {
            (Stage::Below, Some([low, high])) => {
                let corners = [(low, frame.top), (high, frame.top), (high, frame.bottom), (low, frame.bottom)]
                    .map(|(v, y)| (x(v), y));
                canvas.polygon(&corners, colour, BAND)
            }
            (Stage::Lines, _) => {
                let stroke = match self.look {
                    Some(look) => Stroke::new(colour, 0.75 * LINE).dash(look.dash),
                    None => Stroke::new(colour, HAIR),
                };
                canvas.line(&[(x(self.at), frame.top), (x(self.at), frame.bottom)], stroke)
            }
            _ => Ok(()),
        }
    }
}

/// A bar from the left edge, beside others in its row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    /// Its row; between whole numbers where a row has several bars.
    pub(crate) row: f64,
    /// Where it ends.
    pub(crate) value: f64,
    /// Thickness, in rows.
    pub(crate) thickness: f64,
    /// Colour.
    pub(crate) colour: RGBColor,
    /// Filled, or an outline only.
    pub(crate) fill: Fill,
}

impl Bar {
    /// Draws one stage.
    pub(super) fn draw(&self, canvas: &Canvas, frame: &Frame, stage: Stage) -> Result<()> {
        if stage != Stage::Below {
            return Ok(());
        }
        let half = 0.5 * self.thickness;
        let right = frame.at(self.value, self.row).0;
        let (_, top) = frame.at(self.value, self.row - half);
        let (_, bottom) = frame.at(self.value, self.row + half);
        let corners = [(frame.left, top), (right, top), (right, bottom), (frame.left, bottom)];
        match self.fill {
            Fill::Solid => canvas.polygon(&corners, self.colour, 1.0),
            Fill::Open => {
                canvas.polygon(&corners, PAPER, 1.0)?;
                canvas.line(&[&corners[..], &corners[..2]].concat(), Stroke::new(self.colour, HAIR))
            }
        }
    }
}

/// A tick through the bars of a row: a bound that they are compared with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bound {
    /// The row.
    pub(crate) row: f64,
    /// Where.
    pub(crate) value: f64,
}

impl Bound {
    /// Draws one stage.
    pub(super) fn draw(&self, canvas: &Canvas, frame: &Frame, stage: Stage) -> Result<()> {
        if stage != Stage::Marks {
            return Ok(());
        }
        let (x, top) = frame.at(self.value, self.row - 0.46);
        let (_, bottom) = frame.at(self.value, self.row + 0.46);
        canvas.line(&[(x, top), (x, bottom)], Stroke::new(PAPER, LINE + 6.0))?;
        canvas.line(&[(x, top), (x, bottom)], Stroke::new(INK, LINE))
    }
}

/// A cell of a heat map, between two columns and two rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    /// Its column.
    pub(crate) column: f64,
    /// Its row.
    pub(crate) row: f64,
    /// Shade from 0 (dark) to 1 (light); `None` if there is no value.
    pub(crate) shade: Option<f64>,
    /// Text in the cell.
    pub(crate) text: String,
    /// A smaller line below.
    pub(crate) note: String,
}

impl Cell {
    /// Draws one stage.
    pub(super) fn draw(&self, canvas: &Canvas, frame: &Frame, stage: Stage) -> Result<()> {
        let corner = |dx: f64, dy: f64| {
            let (x, y) = frame.at(self.column + dx, self.row + dy);
            (x - dx.signum() * 3.0, y - dy.signum() * 3.0)
        };
        let corners = [corner(-0.5, -0.5), corner(0.5, -0.5), corner(0.5, 0.5), corner(-0.5, 0.5)];
        let (x, y) = frame.at(self.column, self.row);
        match (stage, self.shade) {
            (Stage::Below, Some(value)) => canvas.polygon(&corners, shade(value), 1.0),
            (Stage::Lines, None) => {
                canvas.line(&[&corners[..], &corners[..2]].concat(), Stroke::new(crate::draw::theme::GREY, HAIR))
            }
            (Stage::Marks, value) => {
                // Light text on dark cells.
                let colour = if value.is_some_and(|value| value < 0.5) { PAPER } else { INK };
                let set = Type::new(NORMAL).align(Align::Middle).colour(colour);
                if self.note.is_empty() {
                    return canvas.text((x, centred(y, NORMAL)), &self.text, set);
                }
                canvas.text((x, y - 10.0), &self.text, set)?;
                let small = Type::new(SMALL).align(Align::Middle).colour(colour);
                canvas.text((x, y + SMALL), &self.note, small)
            }
            _ => Ok(()),
        }
    }
}
