//! Axes with a letter and a title, filled with layers; and panels in a grid above one legend.
//!
//! The legend has its own strip below the panels, so it never lies on data.

use anyhow::Result;

use super::Point;
use super::axis::Axis;
use super::canvas::{self, Align, Canvas, Drawing, Fill, LEADING, Stroke, Type, centred};
use super::chart::{Layer, Stage};
use super::font::{self, Face};
use super::theme::{DPI, GREY, GRID, HAIR, INK, LARGE, LINE, Look, NORMAL, PANEL_WIDTH, SMALL};

/// Height of a panel without legend: 4.5 inches.
const PANEL_HEIGHT: f64 = 4.5 * DPI;
const TICK: f64 = 14.0;
const TOP: f64 = 150.0;
const BOTTOM: f64 = 196.0;
const RIGHT: f64 = 60.0;
const SAMPLE: f64 = 150.0;

/// Axes on a page: from values to pixels.
#[derive(Debug, Clone)]
pub(crate) struct Frame<'a> {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    x: &'a Axis,
    y: &'a Axis,
}

impl Frame<'_> {
    /// Where a value lies on the page.
    pub(crate) fn at(&self, x: f64, y: f64) -> Point {
        let px = self.left + self.x.place(x) * (self.right - self.left);
        (px, self.bottom - self.y.place(y) * (self.bottom - self.top))
    }
}

/// An entry of a panel's own key, for what the legend of the figure does not say: filled or open markers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    /// The marker.
    pub(crate) fill: Fill,
    /// What it stands for.
    pub(crate) text: String,
}

/// One panel.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    /// What is seen in it.
    pub(crate) title: String,
    /// Horizontal axis.
    pub(crate) x: Axis,
    /// Vertical axis.
    pub(crate) y: Axis,
    /// Marks, from the lowest to the uppermost.
    pub(crate) layers: Vec<Layer>,
    /// A line below the title.
    pub(crate) key: Vec<Key>,
}

/// Draws panels side by side, `columns` in a row, lettered from A (one panel alone has no letter), and below them the legend.
pub(crate) fn figure(title: &str, panels: &[Panel], columns: usize, legend: &[Look]) -> Result<Drawing> {
    let columns = columns.clamp(1, panels.len().max(1));
    let rows = panels.len().div_ceil(columns);
    let width = columns as f64 * PANEL_WIDTH;
    let lines = legend_lines(legend, width - 200.0);
    let strip = if lines.is_empty() { 0.0 } else { lines.len() as f64 * LEADING + 50.0 };
    // One margin for all: the axes of a column stand in line.
    let labels = panels.iter().map(|p| p.y.label_width()).fold(0.0, f64::max);
    // A row in which a panel has a key is that much higher.
    let key_room = |row: &[Panel]| if row.iter().any(|p| !p.key.is_empty()) { LEADING } else { 0.0 };
    let mut tops = vec![0.0];
    tops.extend(panels.chunks(columns).scan(0.0, |top, row| {
        *top += PANEL_HEIGHT + key_room(row);
        Some(*top)
    }));
    canvas::page(title, (width, tops[rows] + strip), |canvas| {
        for (i, panel) in panels.iter().enumerate() {
            let (x, y) = ((i % columns) as f64 * PANEL_WIDTH, tops[i / columns]);
            let next = tops[i / columns + 1];
            let frame = Frame {
                left: x + 60.0 + 1.5 * NORMAL + labels + TICK + 16.0,
                top: y + TOP + (next - y - PANEL_HEIGHT),
                right: x + PANEL_WIDTH - RIGHT,
                bottom: next - BOTTOM,
                x: &panel.x,
                y: &panel.y,
            };
            let letter = (panels.len() > 1).then(|| char::from(b'A' + i as u8));
            draw_panel(canvas, panel, &frame, (x, y), letter)?;
        }
        lines.iter().enumerate().try_for_each(|(i, line)| {
            draw_legend_line(canvas, line, (width / 2.0, tops[rows] + (i as f64 + 0.5) * LEADING))
        })
    })
}

fn draw_panel(canvas: &Canvas, panel: &Panel, frame: &Frame, (x, y): Point, letter: Option<char>) -> Result<()> {
    let baseline = y + 102.0;
    if let Some(letter) = letter {
        canvas.text((x + 44.0, baseline), &letter.to_string(), Type::new(LARGE).bold())?;
    }
    canvas.text((frame.left, baseline), &panel.title, Type::new(NORMAL).bold())?;
    draw_key(canvas, &panel.key, (frame.left, baseline + 0.9 * LEADING))?;
    draw_axes(canvas, frame, x)?;
    for stage in Stage::ALL {
        panel.layers.iter().try_for_each(|layer| layer.draw(canvas, frame, stage))?;
    }
    Ok(())
}

fn draw_key(canvas: &Canvas, key: &[Key], (mut x, baseline): Point) -> Result<()> {
    use super::theme::{Dash, Marker};
    let look = Look { label: "", colour: GREY, marker: Marker::Circle, dash: Dash::Solid };
    for Key { fill, text } in key {
        canvas.marker((x + 20.0, baseline - 0.27 * SMALL), &look, *fill)?;
        canvas.text((x + 54.0, baseline), text, Type::new(SMALL).colour(GREY))?;
        x += 54.0 + font::width(text, SMALL, Face::Regular) + 60.0;
    }
    Ok(())
}

fn draw_axes(canvas: &Canvas, frame: &Frame, panel_left: f64) -> Result<()> {
    let hair = Stroke::new(INK, HAIR);
    for (value, label) in &frame.y.ticks {
        let (_, y) = frame.at(frame.x.low, *value);
        canvas.line(&[(frame.left, y), (frame.right, y)], Stroke::new(GRID, HAIR))?;
        canvas.line(&[(frame.left - TICK, y), (frame.left, y)], hair)?;
        let set = Type::new(SMALL).align(Align::End);
        canvas.text((frame.left - TICK - 14.0, centred(y, SMALL)), label, set)?;
    }
    for (value, label) in &frame.x.ticks {
        let (x, _) = frame.at(*value, frame.y.low);
        canvas.line(&[(x, frame.bottom), (x, frame.bottom + TICK)], hair)?;
        let set = Type::new(SMALL).align(Align::Middle);
        canvas.text((x, frame.bottom + TICK + 14.0 + 0.76 * SMALL), label, set)?;
    }
    canvas.line(&[(frame.left, frame.top), (frame.left, frame.bottom), (frame.right, frame.bottom)], hair)?;
    let name = Type::new(NORMAL);
    let middle = (frame.left + frame.right) / 2.0;
    canvas.text((middle, frame.bottom + 156.0), &frame.x.name, name.align(Align::Middle))?;
    canvas.upright_text((panel_left + 76.0, (frame.top + frame.bottom) / 2.0), &frame.y.name, name)
}

fn entry_width(look: &Look) -> f64 {
    SAMPLE + 24.0 + font::width(look.label, SMALL, Face::Regular)
}

const BETWEEN: f64 = 90.0;

/// Entries in as many lines as they need.
fn legend_lines(legend: &[Look], width: f64) -> Vec<Vec<Look>> {
    let mut lines: Vec<Vec<Look>> = Vec::new();
    let mut used = f64::INFINITY;
    for look in legend {
        let own = entry_width(look);
        if used + BETWEEN + own > width {
            lines.push(Vec::new());
            used = -BETWEEN;
        }
        used += BETWEEN + own;
        if let Some(line) = lines.last_mut() {
            line.push(*look);
        }
    }
    lines
}

fn draw_legend_line(canvas: &Canvas, line: &[Look], (middle, y): Point) -> Result<()> {
    let total: f64 = line.iter().map(entry_width).sum::<f64>() + BETWEEN * (line.len().saturating_sub(1)) as f64;
    let mut x = middle - total / 2.0;
    for look in line {
        canvas.sample((x, y), SAMPLE, look, LINE)?;
        canvas.text((x + SAMPLE + 24.0, centred(y, SMALL)), look.label, Type::new(SMALL))?;
        x += entry_width(look) + BETWEEN;
    }
    Ok(())
}
