//! Axes with a letter and a title, filled with layers; and panels in a grid above one legend.
//!
//! Charts with named rows (a forest, a heat map, bars) are panels too: the ticks of their vertical axis are names, see [`Axis::rows`].
//!
//! The legend has a strip below the panels, so that it does not cover data.

use anyhow::Result;
use plotters::style::RGBColor;

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
/// Space below axes, for ticks and a name.
const BOTTOM: f64 = 196.0;
const RIGHT: f64 = 60.0;
/// Smallest space at the left of the axes in a column without names, for the panel's letter.
const LETTER: f64 = 140.0;
const SAMPLE: f64 = 150.0;

/// Axes on a page: from values to pixels.
#[derive(Debug, Clone)]
pub(crate) struct Frame<'a> {
    /// Left edge, in pixels.
    pub(crate) left: f64,
    /// Upper edge.
    pub(crate) top: f64,
    /// Right edge.
    pub(crate) right: f64,
    /// Lower edge.
    pub(crate) bottom: f64,
    x: &'a Axis,
    y: &'a Axis,
}

impl Frame<'_> {
    /// Position of a value on the page.
    pub(crate) fn at(&self, x: f64, y: f64) -> Point {
        let px = self.left + self.x.place(x) * (self.right - self.left);
        (px, self.bottom - self.y.place(y) * (self.bottom - self.top))
    }
}

/// An entry of a panel's own key, in addition to the legend of the figure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    sample: Option<Sample>,
    text: String,
}

/// What an entry of a key is about.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sample {
    /// Filled or open markers.
    Marker(Fill),
    /// Bars of a colour.
    Bar(RGBColor),
    /// Ticks through bars.
    Bound,
    /// Values from this one on, on the horizontal axis.
    From(f64),
}

impl Key {
    /// The meaning of a marker.
    pub(crate) fn marker(fill: Fill, text: &str) -> Self {
        Self { sample: Some(Sample::Marker(fill)), text: text.into() }
    }

    /// The meaning of bars of a colour.
    pub(crate) fn bar(colour: RGBColor, text: &str) -> Self {
        Self { sample: Some(Sample::Bar(colour)), text: text.into() }
    }

    /// The meaning of ticks through bars.
    pub(crate) fn bound(text: &str) -> Self {
        Self { sample: Some(Sample::Bound), text: text.into() }
    }

    /// The meaning of values to the right of `value`, at which it is placed.
    pub(crate) fn from(value: f64, text: &str) -> Self {
        Self { sample: Some(Sample::From(value)), text: text.into() }
    }

    /// A remark.
    pub(crate) fn remark(text: &str) -> Self {
        Self { sample: None, text: text.into() }
    }
}

/// The grid lines of a panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Grid {
    /// At the ticks of the vertical axis.
    #[default]
    Levels,
    /// At the ticks of the horizontal axis; the rows of the vertical one have names and no ticks.
    Rows,
    /// No grid lines and no ticks, for a panel that is filled with cells.
    Cells,
}

/// A column of text at the right of a panel, with a line for each row.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Notes {
    /// Heading.
    pub(crate) head: String,
    /// Place on the vertical axis, and text.
    pub(crate) lines: Vec<(f64, String)>,
}

impl Notes {
    fn width(&self) -> f64 {
        let texts = self.lines.iter().map(|(_, text)| text).chain([&self.head]);
        texts.map(|text| font::width(text, SMALL, Face::Regular)).fold(0.0, f64::max)
    }
}

/// The layout of panels on the page.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layout {
    /// Panels in a row.
    columns: usize,
    /// Width of one.
    width: f64,
    /// Height of the panels of each row, without legend and key; the last is that of all further rows too.
    heights: Vec<f64>,
    /// Whether columns have margins of their own and axes of one width, instead of one width and one margin.
    facets: bool,
}

impl Layout {
    /// Panels of the usual size, so many in a row.
    pub(crate) fn grid(columns: usize) -> Self {
        Self { columns, width: PANEL_WIDTH, heights: vec![PANEL_HEIGHT], facets: false }
    }

    /// Below a row of panels one with named rows of this height.
    pub(crate) fn above_rows(self, rows: usize, each: f64) -> Self {
        Self { heights: vec![PANEL_HEIGHT, TOP + BOTTOM + rows as f64 * each], ..self }
    }

    /// Panels with named rows of this height: so many in each row of panels.
    pub(crate) fn of_rows(columns: usize, width: f64, rows: &[usize], each: f64) -> Self {
        let heights = rows.iter().map(|rows| TOP + BOTTOM + *rows as f64 * each).collect();
        Self { columns, width, heights, facets: false }
    }

    /// The same, on a page of this width; the axes of all panels are equally wide, however much room a column's names take.
    pub(crate) fn facets(columns: usize, page: f64, rows: &[usize], each: f64) -> Self {
        Self { facets: true, ..Self::of_rows(columns, page / columns as f64, rows, each) }
    }

    fn height(&self, row: usize) -> f64 {
        self.heights.get(row).or(self.heights.last()).copied().unwrap_or(PANEL_HEIGHT)
    }
}

/// One panel.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    /// Title.
    pub(crate) title: String,
    /// Horizontal axis.
    pub(crate) x: Axis,
    /// Vertical axis.
    pub(crate) y: Axis,
    /// Layers, from bottom to top.
    pub(crate) layers: Vec<Layer>,
    /// The key, in a line below the title.
    pub(crate) key: Vec<Key>,
    /// Grid lines.
    pub(crate) grid: Grid,
    /// Text at the right.
    pub(crate) notes: Option<Notes>,
}

/// Draws panels side by side as the layout says, lettered from A (one panel alone has no letter), and below them the legend. Where the last row is not
/// full, its last panel is as wide as what is left.
pub(crate) fn figure(title: &str, panels: &[Panel], layout: Layout, legend: &[Look]) -> Result<Drawing> {
    let columns = layout.columns.clamp(1, panels.len().max(1));
    let rows = panels.len().div_ceil(columns);
    let width = columns as f64 * layout.width;
    let lines = legend_lines(legend, width - 200.0);
    let strip = if lines.is_empty() { 0.0 } else { lines.len() as f64 * LEADING + 50.0 };
    let is_wide = |i: usize| i + 1 == panels.len() && !panels.len().is_multiple_of(columns);
    // One margin for all: the axes of a column stand in line. What a wide panel needs beyond it is its own.
    let margins = |of: &[&Panel]| {
        let most = |room: &dyn Fn(&Panel) -> f64| of.iter().map(|panel| room(panel)).fold(0.0, f64::max);
        let name = if of.iter().all(|p| p.y.name.is_empty()) { 0.0 } else { 1.5 * NORMAL };
        let notes = most(&|p| p.notes.as_ref().map_or(0.0, |notes| notes.width() + 40.0));
        let beside = most(&|p| p.layers.iter().map(Layer::room).fold(0.0, f64::max));
        [60.0 + name + most(&|p| p.y.label_width()) + TICK + 16.0, RIGHT + notes + beside]
    };
    let all: Vec<&Panel> = panels.iter().collect();
    let (usual, widest) =
        (margins(&all[..all.len() - usize::from(is_wide(all.len().saturating_sub(1)))]), margins(&all));
    let own: Vec<[f64; 2]> = (0..columns)
        .map(|column| {
            if !layout.facets {
                return usual;
            }
            let [left, right] = margins(&all.iter().copied().skip(column).step_by(columns).collect::<Vec<_>>());
            [left.max(LETTER), right]
        })
        .collect();
    let axes = (width - own.iter().flatten().sum::<f64>()) / columns as f64;
    // Where each column begins.
    let start = |column: usize| match layout.facets {
        true => own[..column].iter().map(|[left, right]| left + axes + right).sum(),
        false => column as f64 * layout.width,
    };
    // A row in which a panel has a key is that much higher.
    let key_room = |row: &[Panel]| if row.iter().any(|p| !p.key.is_empty()) { LEADING } else { 0.0 };
    let mut tops = vec![0.0];
    tops.extend(panels.chunks(columns).enumerate().scan(0.0, |top, (i, row)| {
        *top += layout.height(i) + key_room(row);
        Some(*top)
    }));
    canvas::page(title, (width, tops[rows] + strip), |canvas| {
        for (i, panel) in panels.iter().enumerate() {
            let (x, y) = (start(i % columns), tops[i / columns]);
            let next = tops[i / columns + 1];
            let end = if is_wide(i) { width } else { start(i % columns + 1) };
            let [left, right] = if is_wide(i) { widest } else { own[i % columns] };
            let frame = Frame {
                left: x + left,
                top: y + TOP + (next - y - layout.height(i / columns)),
                right: end - right,
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
    draw_key(canvas, &panel.key, frame, baseline + 0.9 * LEADING)?;
    draw_axes(canvas, frame, x, panel.grid)?;
    if let Some(notes) = &panel.notes {
        let (left, set) = (frame.right + 40.0, Type::new(SMALL));
        canvas.text((left, frame.top - 18.0), &notes.head, set.colour(GREY))?;
        notes.lines.iter().try_for_each(|(row, text)| {
            let (_, y) = frame.at(frame.x.low, *row);
            canvas.text((left, centred(y, SMALL)), text, set)
        })?;
    }
    for stage in Stage::ALL {
        panel.layers.iter().try_for_each(|layer| layer.draw(canvas, frame, stage))?;
    }
    Ok(())
}

fn draw_key(canvas: &Canvas, key: &[Key], frame: &Frame, baseline: f64) -> Result<()> {
    use super::theme::{Dash, Marker};
    let look = Look { label: "", colour: GREY, marker: Marker::Circle, dash: Dash::Solid };
    let (mut x, middle) = (frame.left, baseline - 0.27 * SMALL);
    let width = |Key { sample, text }: &Key| {
        let sample = if matches!(sample, None | Some(Sample::From(_))) { 0.0 } else { 58.0 };
        sample + font::width(text, SMALL, Face::Regular)
    };
    for (i, Key { sample, text }) in key.iter().enumerate() {
        match sample {
            Some(Sample::Marker(fill)) => canvas.marker((x + 20.0, middle), &look, *fill)?,
            Some(Sample::Bar(colour)) => {
                let (left, right, half) = (x + 4.0, x + 44.0, 14.0);
                let corners =
                    [(left, middle - half), (right, middle - half), (right, middle + half), (left, middle + half)];
                canvas.polygon(&corners, *colour, 1.0)?;
            }
            Some(Sample::Bound) => {
                canvas.line(&[(x + 24.0, middle - 22.0), (x + 24.0, middle + 22.0)], Stroke::new(INK, LINE))?;
            }
            // Not so far that this entry and those after it do not fit.
            Some(Sample::From(value)) => {
                let rest: f64 = key[i..].iter().map(|entry| width(entry) + 60.0).sum();
                x = x.max(frame.at(*value, frame.y.low).0.min(frame.right + RIGHT - rest));
            }
            None => {}
        }
        x += if matches!(sample, None | Some(Sample::From(_))) { 0.0 } else { 58.0 };
        canvas.text((x, baseline), text, Type::new(SMALL).colour(GREY))?;
        x += font::width(text, SMALL, Face::Regular) + 60.0;
    }
    Ok(())
}

fn draw_axes(canvas: &Canvas, frame: &Frame, panel_left: f64, grid: Grid) -> Result<()> {
    let (hair, faint) = (Stroke::new(INK, HAIR), Stroke::new(GRID, HAIR));
    let ticked = grid == Grid::Levels;
    for (value, label) in &frame.y.ticks {
        let (_, y) = frame.at(frame.x.low, *value);
        if ticked {
            canvas.line(&[(frame.left, y), (frame.right, y)], faint)?;
            canvas.line(&[(frame.left - TICK, y), (frame.left, y)], hair)?;
        }
        let set = Type::new(SMALL).align(Align::End);
        canvas.text((frame.left - TICK - 14.0, centred(y, SMALL)), label, set)?;
    }
    for (value, label) in &frame.x.ticks {
        let (x, _) = frame.at(*value, frame.y.low);
        if grid == Grid::Rows {
            canvas.line(&[(x, frame.top), (x, frame.bottom)], faint)?;
        }
        if grid != Grid::Cells {
            let length = if label.is_empty() { 0.6 * TICK } else { TICK };
            canvas.line(&[(x, frame.bottom), (x, frame.bottom + length)], hair)?;
        }
        let set = Type::new(SMALL).align(Align::Middle);
        canvas.text((x, frame.bottom + TICK + 14.0 + 0.76 * SMALL), label, set)?;
    }
    match grid {
        Grid::Levels => {
            canvas.line(&[(frame.left, frame.top), (frame.left, frame.bottom), (frame.right, frame.bottom)], hair)?;
        }
        Grid::Rows => canvas.line(&[(frame.left, frame.bottom), (frame.right, frame.bottom)], hair)?,
        Grid::Cells => {}
    }
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
