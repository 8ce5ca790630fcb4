//! Boxes with equations, in lanes, joined by arrows.

use anyhow::{Context as _, Result};
use plotters::style::RGBColor;

use super::Point;
use super::canvas::{Align, Canvas, Stroke, Type};
use super::equation::Equation;
use super::theme::{GREY, INK, PAPER};

const LANE: RGBColor = RGBColor(243, 245, 247);
const TITLE: f64 = 30.0;
const LINE: f64 = 39.0;
const LEADING: f64 = 58.0;
const NOTE: f64 = 42.0;
const OUTLINE: f64 = 3.5;
const CORNER: f64 = 14.0;

/// A stage of the method: a tinted band across the page with its name on the left.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    /// Name.
    pub(crate) name: &'static str,
    /// Small lines below the name, as equations.
    pub(crate) notes: &'static [&'static str],
    /// Upper edge.
    pub(crate) top: f64,
    /// Height.
    pub(crate) height: f64,
}

/// A box.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Its name in arrows.
    pub(crate) id: &'static str,
    /// Left, top, width, height.
    pub(crate) place: [f64; 4],
    /// A line above the equations, in the notation of [`Equation`].
    pub(crate) title: &'static str,
    /// Equations in the notation of [`Equation`].
    pub(crate) lines: &'static [&'static str],
    /// Colour of outline and title; the ink of the page if there is none.
    pub(crate) colour: Option<RGBColor>,
}

/// A side of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The upper edge.
    Top,
    /// The lower edge.
    Bottom,
    /// The left edge.
    Left,
    /// The right edge.
    Right,
}

/// An arrow between two boxes, in straight pieces.
#[derive(Debug, Clone)]
pub(crate) struct Arrow {
    /// Box and side where it begins, and the coordinate along this side: x for an upper or lower side, y for the others.
    pub(crate) from: (&'static str, Side, f64),
    /// Corners in between.
    pub(crate) corners: &'static [Point],
    /// Box and side where it ends, and the coordinate along this side.
    pub(crate) to: (&'static str, Side, f64),
    /// Colour; the ink of the page if there is none.
    pub(crate) colour: Option<RGBColor>,
}

/// A diagram.
#[derive(Debug, Clone)]
pub(crate) struct Diagram {
    /// Bands.
    pub(crate) lanes: Vec<Lane>,
    /// Boxes.
    pub(crate) nodes: Vec<Node>,
    /// Arrows.
    pub(crate) arrows: Vec<Arrow>,
}

impl Node {
    /// Width of its longest line.
    #[cfg(test)]
    pub(crate) fn text_width(&self) -> f64 {
        let title = Equation::parse(self.title).width(Type::new(TITLE));
        self.lines.iter().map(|line| Equation::parse(line).width(Type::new(LINE))).fold(title, f64::max)
    }

    fn anchor(&self, side: Side, along: f64) -> Point {
        let [left, top, width, height] = self.place;
        match side {
            Side::Top => (along, top),
            Side::Bottom => (along, top + height),
            Side::Left => (left, along),
            Side::Right => (left + width, along),
        }
    }

    fn draw(&self, canvas: &Canvas) -> Result<()> {
        let [left, top, width, height] = self.place;
        let colour = self.colour.unwrap_or(INK);
        let outline = rounded(self.place, CORNER);
        canvas.polygon(&outline, PAPER, 1.0)?;
        canvas.line(&[&outline[..], &outline[..2]].concat(), Stroke::new(colour, OUTLINE))?;
        let middle = left + width / 2.0;
        // Title and equations as one block, centred; the offsets are those of baselines.
        let block = TITLE + LEADING * self.lines.len() as f64;
        let first = top + (height - block) / 2.0 + 0.8 * TITLE;
        let title = Type::new(TITLE).align(Align::Middle).colour(self.colour.unwrap_or(GREY));
        Equation::parse(self.title).draw(canvas, (middle, first), title)?;
        self.lines.iter().enumerate().try_for_each(|(i, line)| {
            let baseline = first + 0.92 * LEADING + LEADING * i as f64;
            Equation::parse(line).draw(canvas, (middle, baseline), Type::new(LINE).align(Align::Middle))
        })
    }
}

impl Diagram {
    /// Draws everything; lanes reach from `left` to `right`.
    pub(crate) fn draw(&self, canvas: &Canvas, left: f64, right: f64) -> Result<()> {
        for lane in &self.lanes {
            canvas.polygon(&rounded([left, lane.top, right - left, lane.height], 2.0 * CORNER), LANE, 1.0)?;
            let block = LINE + NOTE * lane.notes.len() as f64;
            let baseline = lane.top + (lane.height - block) / 2.0 + 0.8 * LINE;
            canvas.text((left + 28.0, baseline), lane.name, Type::new(LINE - 3.0).bold())?;
            for (i, note) in lane.notes.iter().enumerate() {
                let at = (left + 28.0, baseline + 6.0 + NOTE * (i as f64 + 1.0));
                Equation::parse(note).draw(canvas, at, Type::new(TITLE).colour(GREY))?;
            }
        }
        for arrow in &self.arrows {
            let colour = arrow.colour.unwrap_or(INK);
            draw_arrow(canvas, &self.path(arrow)?, colour)?;
        }
        self.nodes.iter().try_for_each(|node| node.draw(canvas))
    }

    fn path(&self, arrow: &Arrow) -> Result<Vec<Point>> {
        let node = |id: &str| self.nodes.iter().find(|node| node.id == id).with_context(|| format!("no box `{id}`"));
        let mut path = vec![node(arrow.from.0)?.anchor(arrow.from.1, arrow.from.2)];
        path.extend(arrow.corners);
        path.push(node(arrow.to.0)?.anchor(arrow.to.1, arrow.to.2));
        Ok(path)
    }

    /// The lane that a box lies in.
    pub(crate) fn lane_of(&self, node: &Node) -> &'static str {
        let middle = node.place[1] + node.place[3] / 2.0;
        self.lanes.iter().find(|lane| (lane.top..lane.top + lane.height).contains(&middle)).map_or("", |lane| lane.name)
    }
}

fn draw_arrow(canvas: &Canvas, path: &[Point], colour: RGBColor) -> Result<()> {
    let [.., before, tip] = path else { return Ok(()) };
    let length = (tip.0 - before.0).hypot(tip.1 - before.1).max(1.0);
    let (dx, dy) = ((tip.0 - before.0) / length, (tip.1 - before.1) / length);
    let (head, half) = (24.0, 11.0);
    // A little short of the outline, so that tip and box both stay sharp.
    let tip = (tip.0 - 3.0 * dx, tip.1 - 3.0 * dy);
    let base = (tip.0 - head * dx, tip.1 - head * dy);
    let mut shaft = path.to_vec();
    if let Some(end) = shaft.last_mut() {
        *end = (base.0 + 2.0 * dx, base.1 + 2.0 * dy);
    }
    canvas.line(&shaft, Stroke::new(colour, 4.5))?;
    canvas.polygon(
        &[tip, (base.0 - half * dy, base.1 + half * dx), (base.0 + half * dy, base.1 - half * dx)],
        colour,
        1.0,
    )
}

/// A rectangle (left, top, width, height) with rounded corners, clockwise from the upper left.
fn rounded([left, top, width, height]: [f64; 4], radius: f64) -> Vec<Point> {
    let (right, bottom) = (left + width - radius, top + height - radius);
    let centres = [(left + radius, top + radius), (right, top + radius), (right, bottom), (left + radius, bottom)];
    let quarter = |corner: usize| {
        let (x, y) = centres[corner];
        (0..=6).map(move |i| {
            let angle = (180.0 + 90.0 * corner as f64 + 15.0 * f64::from(i)).to_radians();
            (x + radius * angle.cos(), y + radius * angle.sin())
        })
    };
    (0..4).flat_map(quarter).collect()
}
