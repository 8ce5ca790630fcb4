//! Small contour maps of a surface, each with a path, in a grid on the page below a given height. The rest of the last row has the key.

use anyhow::Result;
use plotters::style::RGBColor;

use super::Point;
use super::canvas::{Align, Canvas, LEADING, Stroke, Type, centred};
use super::theme::{GREY, HAIR, INK, LARGE, MAP_LINE, NORMAL, PANEL_WIDTH, PAPER, SMALL};

/// Width of a page of maps.
pub(crate) const WIDTH: f64 = 2.0 * PANEL_WIDTH;
const COLUMNS: usize = 6;
const MARGIN: f64 = 60.0;
const GAP: f64 = 54.0;
const CELL: f64 = (WIDTH - 2.0 * MARGIN - (COLUMNS - 1) as f64 * GAP) / COLUMNS as f64;
const HEAD: f64 = 150.0;
const MAP: f64 = 400.0;
const ROW: f64 = HEAD + MAP + 50.0;
const TITLE: f64 = 150.0;
/// Radius of a path's ends.
const END: f64 = 13.0;
/// Half the size of the cross at a minimum.
const CROSS: f64 = 17.0;
/// Columns of the key, in cells from the left of the page.
const KEYS: [usize; 2] = [2, 4];

/// A surface, with a map for each path on it. Points are fractions of the map's width and height, from the lower left corner.
pub(crate) struct Atlas {
    /// Letter of the part.
    pub(crate) letter: char,
    /// Name of the surface, and its formula.
    pub(crate) title: [String; 2],
    /// Contours.
    pub(crate) contours: Vec<Vec<Point>>,
    /// Minima.
    pub(crate) minima: Vec<Point>,
    /// A map for each path.
    pub(crate) maps: Vec<Map>,
    /// Colours and their meanings.
    pub(crate) colours: Vec<(RGBColor, &'static str)>,
    /// More lines of the key.
    pub(crate) notes: Vec<String>,
}

/// One path.
pub(crate) struct Map {
    /// Name of the optimizer.
    pub(crate) name: &'static str,
    /// Text below the name: at the left, and at the right.
    pub(crate) note: [String; 2],
    /// Colour of the path.
    pub(crate) colour: RGBColor,
    /// From the start to the end.
    pub(crate) path: Vec<Point>,
}

impl Atlas {
    /// Height of the whole.
    pub(crate) fn height(&self) -> f64 {
        // The key needs two cells for each of its columns, and has them in the last row.
        let rows = self.maps.len().div_ceil(COLUMNS);
        let full = self.maps.len().is_multiple_of(COLUMNS) || self.maps.len() % COLUMNS > KEYS[0];
        TITLE + (rows + usize::from(full)) as f64 * ROW
    }

    /// Draws all from `top` on.
    pub(crate) fn draw(&self, canvas: &Canvas, top: f64) -> Result<()> {
        let [name, formula] = &self.title;
        let baseline = top + 96.0;
        canvas.text((MARGIN, baseline), &self.letter.to_string(), Type::new(LARGE).bold())?;
        canvas.text((MARGIN + 110.0, baseline), name, Type::new(NORMAL).bold())?;
        let right = Type::new(NORMAL).align(Align::End);
        canvas.text((WIDTH - MARGIN, baseline), formula, right)?;
        for (i, map) in self.maps.iter().enumerate() {
            let left = MARGIN + (i % COLUMNS) as f64 * (CELL + GAP);
            self.draw_map(canvas, map, (left, top + TITLE + (i / COLUMNS) as f64 * ROW))?;
        }
        self.draw_key(canvas, top + self.height() - ROW)
    }

    fn draw_map(&self, canvas: &Canvas, map: &Map, (left, top): Point) -> Result<()> {
        let on_page = |(x, y): Point| (left + x * CELL, top + HEAD + (1.0 - y) * MAP);
        canvas.text((left, top + 50.0), map.name, Type::new(SMALL))?;
        let note = Type::new(SMALL).colour(GREY);
        canvas.text((left, top + 122.0), &map.note[0], note)?;
        canvas.text((left + CELL, top + 122.0), &map.note[1], note.align(Align::End))?;
        let line = |points: &[Point], stroke: Stroke, least: f64| -> Result<()> {
            let pieces = clipped(points);
            pieces.iter().try_for_each(|piece| {
                canvas.line(&thinned(&piece.iter().map(|p| on_page(*p)).collect::<Vec<_>>(), least), stroke)
            })
        };
        self.contours.iter().try_for_each(|points| line(points, Stroke::new(super::theme::CONTOUR, HAIR), 8.0))?;
        let corners = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0)].map(on_page);
        canvas.line(&corners, Stroke::new(GREY, HAIR))?;
        line(&map.path, Stroke::new(map.colour, MAP_LINE), 1.5)?;
        let inside = |p: &&Point| (0.0..=1.0).contains(&p.0) && (0.0..=1.0).contains(&p.1);
        if let Some(end) = map.path.last().filter(inside) {
            draw_end(canvas, on_page(*end), map.colour)?;
        }
        self.minima.iter().try_for_each(|minimum| draw_minimum(canvas, on_page(*minimum)))?;
        map.path.first().map_or(Ok(()), |start| draw_start(canvas, on_page(*start)))
    }

    fn draw_key(&self, canvas: &Canvas, top: f64) -> Result<()> {
        let [families, marks] = KEYS.map(|cells| MARGIN + cells as f64 * (CELL + GAP) + 40.0);
        let height = |i: usize| top + 30.0 + (i as f64 + 0.5) * LEADING;
        let say =
            |x: f64, i: usize, text: &str| canvas.text((x + 130.0, centred(height(i), SMALL)), text, Type::new(SMALL));
        for (i, (colour, text)) in self.colours.iter().enumerate() {
            canvas.line(&[(families, height(i)), (families + 100.0, height(i))], Stroke::new(*colour, MAP_LINE))?;
            say(families, i, text)?;
        }
        let middle = |i: usize| (marks + 50.0, height(i));
        draw_start(canvas, middle(0))?;
        say(marks, 0, "start")?;
        draw_end(canvas, middle(1), INK)?;
        say(marks, 1, "where it ends")?;
        draw_minimum(canvas, middle(2))?;
        say(marks, 2, if self.minima.len() > 1 { "a minimum" } else { "the minimum" })?;
        self.notes.iter().enumerate().try_for_each(|(i, note)| say(marks, 3 + i, note))
    }
}

fn draw_start(canvas: &Canvas, at: Point) -> Result<()> {
    canvas.disc(at, END + 4.0, INK, 1.0)?;
    canvas.disc(at, END - 2.0, PAPER, 1.0)
}

fn draw_end(canvas: &Canvas, at: Point, colour: RGBColor) -> Result<()> {
    canvas.disc(at, END + 4.0, PAPER, 1.0)?;
    canvas.disc(at, END, colour, 1.0)
}

fn draw_minimum(canvas: &Canvas, (x, y): Point) -> Result<()> {
    let ink = Stroke::new(INK, 1.25 * HAIR);
    canvas.line(&[(x - CROSS, y), (x + CROSS, y)], ink)?;
    canvas.line(&[(x, y - CROSS), (x, y + CROSS)], ink)
}

/// What of a line lies in the unit square, piece by piece.
fn clipped(points: &[Point]) -> Vec<Vec<Point>> {
    let mut pieces: Vec<Vec<Point>> = Vec::new();
    for pair in points.windows(2) {
        let [(ax, ay), (bx, by)] = [pair[0], pair[1]];
        let (dx, dy) = (bx - ax, by - ay);
        let (mut enter, mut leave) = (0.0_f64, 1.0_f64);
        for (step, room) in [(-dx, ax), (dx, 1.0 - ax), (-dy, ay), (dy, 1.0 - ay)] {
            if step < 0.0 {
                enter = enter.max(room / step);
            } else if step > 0.0 {
                leave = leave.min(room / step);
            } else if room < 0.0 {
                leave = f64::NEG_INFINITY;
            }
        }
        if enter >= leave {
            continue;
        }
        let at = |t: f64| if t == 1.0 { pair[1] } else { (ax + t * dx, ay + t * dy) };
        match pieces.last_mut().filter(|piece| enter == 0.0 && piece.last() == Some(&pair[0])) {
            Some(piece) => piece.push(at(leave)),
            None => pieces.push(vec![at(enter), at(leave)]),
        }
    }
    pieces
}

/// A line without the points that are nearer than `least` to the one before; its last stays.
fn thinned(points: &[Point], least: f64) -> Vec<Point> {
    let mut kept: Vec<Point> = Vec::new();
    for point in points {
        if kept.last().is_none_or(|last| (point.0 - last.0).hypot(point.1 - last.1) >= least) {
            kept.push(*point);
        }
    }
    if let Some(last) = points.last().filter(|last| kept.last() != Some(*last)) {
        kept.push(*last);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_the_edge_and_go_on_where_they_come_back() {
        assert_eq!(
            clipped(&[(0.5, 0.5), (1.5, 0.5), (1.5, 0.75), (0.5, 0.75), (0.25, 0.75)]),
            [vec![(0.5, 0.5), (1.0, 0.5)], vec![(1.0, 0.75), (0.5, 0.75), (0.25, 0.75)]]
        );
        assert!(clipped(&[(2.0, 2.0), (3.0, 0.5)]).is_empty());
        assert!(clipped(&[(-1.0, 2.0), (2.0, 2.0)]).is_empty());
        assert_eq!(clipped(&[(0.5, -1.0), (0.5, 3.0)]), [[(0.5, 0.0), (0.5, 1.0)]]);
        assert!(clipped(&[(0.5, 0.5)]).is_empty());
    }

    #[test]
    fn thinning_keeps_both_ends() {
        let line = [(0.0, 0.0), (0.1, 0.0), (2.0, 0.0), (2.1, 0.0)];
        assert_eq!(thinned(&line, 1.0), [line[0], line[2], line[3]]);
        assert!(thinned(&[], 1.0).is_empty());
    }
}
