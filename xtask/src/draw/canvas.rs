//! A page to draw on, in pixels at 300 dpi, written as SVG and PNG.
//!
//! plotters writes an SVG with text; usvg converts the text to outlines, so that the file needs no font; resvg rasterises this file. plotters has
//! integer coordinates, so a pixel has [`FINE`] units.

use anyhow::{Context as _, Result};
use plotters::coord::Shift;
use plotters::prelude::{Circle, DrawingArea, IntoDrawingArea as _, PathElement, Polygon, SVGBackend, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontDesc, FontFamily, FontStyle, FontTransform, RGBColor, ShapeStyle, TextStyle};
use resvg::{tiny_skia, usvg};

use super::Point;
use super::font::{self, Face};
use super::theme::{DPI, Dash, INK, Look, MARKER, Marker, PAPER, SMALL};

/// Units of the SVG in a pixel.
const FINE: f64 = 4.0;
/// plotters divides a font's size by this before it writes it.
const PLOTTERS_EM: f64 = 1.24;

/// A finished drawing.
pub(crate) struct Drawing {
    /// The SVG of plotters, with text as text, for tests.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests look for overlapping text in it"))]
    pub(crate) source: String,
    /// The final SVG, with text as outlines.
    pub(crate) svg: String,
    /// The SVG as a PNG at 300 dpi.
    pub(crate) png: Vec<u8>,
}

/// Draws a page of `width` × `height` pixels. `title` is for screen readers.
pub(crate) fn page(
    title: &str,
    (width, height): (f64, f64),
    paint: impl FnOnce(&Canvas) -> Result<()>,
) -> Result<Drawing> {
    font::register();
    let mut source = String::new();
    {
        let area = SVGBackend::with_string(&mut source, (fine(width) as u32, fine(height) as u32)).into_drawing_area();
        area.fill(&PAPER)?;
        let canvas = Canvas { area };
        paint(&canvas)?;
        canvas.area.present()?;
    }
    let svg = outlined(&source, title, (width, height))?;
    let png = rasterised(&svg)?;
    Ok(Drawing { source, svg, png })
}

/// The position of a text relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// How a text is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Type {
    /// Pixels per em.
    pub(crate) size: f64,
    /// Regular or bold.
    pub(crate) face: Face,
    /// Colour.
    pub(crate) colour: RGBColor,
    /// Its position relative to its point.
    pub(crate) align: Align,
}

impl Type {
    /// Regular, in ink, beginning at its point.
    pub(crate) fn new(size: f64) -> Self {
        Self { size, face: Face::Regular, colour: INK, align: Align::Start }
    }

    pub(crate) fn bold(self) -> Self {
        Self { face: Face::Bold, ..self }
    }

    pub(crate) fn colour(self, colour: RGBColor) -> Self {
        Self { colour, ..self }
    }

    pub(crate) fn align(self, align: Align) -> Self {
        Self { align, ..self }
    }
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stroke {
    /// Colour.
    pub(crate) colour: RGBColor,
    /// Width in pixels.
    pub(crate) width: f64,
    /// Pattern.
    pub(crate) dash: Dash,
}

impl Stroke {
    /// An unbroken line.
    pub(crate) fn new(colour: RGBColor, width: f64) -> Self {
        Self { colour, width, dash: Dash::Solid }
    }

    pub(crate) fn dash(self, dash: Dash) -> Self {
        Self { dash, ..self }
    }
}

/// Whether a marker is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// With its colour.
    Solid,
    /// With white.
    Open,
}

/// The page.
pub(crate) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

impl Canvas<'_> {
    /// A line through `points`.
    pub(crate) fn line(&self, points: &[Point], stroke: Stroke) -> Result<()> {
        let style =
            ShapeStyle { color: stroke.colour.mix(1.0), filled: false, stroke_width: fine(stroke.width) as u32 };
        for piece in dashes(points, stroke.dash.pattern()) {
            self.area.draw(&PathElement::new(piece.iter().map(|p| at(*p)).collect::<Vec<_>>(), style))?;
        }
        Ok(())
    }

    /// The inside of a polygon.
    pub(crate) fn polygon(&self, points: &[Point], colour: RGBColor, opacity: f64) -> Result<()> {
        self.area.draw(&Polygon::new(points.iter().map(|p| at(*p)).collect::<Vec<_>>(), colour.mix(opacity)))?;
        Ok(())
    }

    /// A disc.
    pub(crate) fn disc(&self, centre: Point, radius: f64, colour: RGBColor, opacity: f64) -> Result<()> {
        self.area.draw(&Circle::new(at(centre), fine(radius), colour.mix(opacity).filled()))?;
        Ok(())
    }

    /// The marker of an arm, with a white rim to separate it from lines below.
    pub(crate) fn marker(&self, centre: Point, look: &Look, fill: Fill) -> Result<()> {
        self.shape(centre, look.marker, MARKER + 4.0, PAPER)?;
        self.shape(centre, look.marker, MARKER, look.colour)?;
        if fill == Fill::Open {
            self.shape(centre, look.marker, MARKER - 6.5, PAPER)?;
        }
        Ok(())
    }

    fn shape(&self, (x, y): Point, marker: Marker, r: f64, colour: RGBColor) -> Result<()> {
        // Areas that look alike: a square is smaller than the disc's box, a triangle and a diamond are larger.
        let (s, t) = (0.9 * r, 1.18 * r);
        match marker {
            Marker::Circle => self.disc((x, y), r, colour, 1.0),
            Marker::Square => {
                self.polygon(&[(x - s, y - s), (x + s, y - s), (x + s, y + s), (x - s, y + s)], colour, 1.0)
            }
            Marker::Triangle => self.polygon(&[(x, y - t), (x + t, y + 0.8 * t), (x - t, y + 0.8 * t)], colour, 1.0),
            Marker::TriangleDown => {
                self.polygon(&[(x, y + t), (x + t, y - 0.8 * t), (x - t, y - 0.8 * t)], colour, 1.0)
            }
            Marker::Diamond => {
                let d = 1.25 * r;
                self.polygon(&[(x, y - d), (x + d, y), (x, y + d), (x - d, y)], colour, 1.0)
            }
        }
    }

    /// Text on one line, its baseline at `y`.
    pub(crate) fn text(&self, (x, y): Point, text: &str, set: Type) -> Result<()> {
        self.set(at((x, y - 0.76 * set.size)), text, set, VPos::Top, FontTransform::None)
    }

    /// Text that reads upwards, centred on the point: an axis name.
    pub(crate) fn upright_text(&self, centre: Point, text: &str, set: Type) -> Result<()> {
        self.set(at(centre), text, set.align(Align::Middle), VPos::Center, FontTransform::Rotate270)
    }

    fn set(&self, at: (i32, i32), text: &str, set: Type, vertical: VPos, turn: FontTransform) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let style = if set.face == Face::Bold { FontStyle::Bold } else { FontStyle::Normal };
        let font = FontDesc::new(FontFamily::Name(font::FAMILY), set.size * FINE * PLOTTERS_EM, style).transform(turn);
        let horizontal = match set.align {
            Align::Start => HPos::Left,
            Align::Middle => HPos::Center,
            Align::End => HPos::Right,
        };
        let pos = Pos::new(horizontal, vertical);
        self.area.draw(&Text::new(text, at, TextStyle { font, color: set.colour.to_backend_color(), pos }))?;
        Ok(())
    }

    /// The sample of an arm in a legend: a piece of its line with its marker, `width` wide, centred on `y`.
    pub(crate) fn sample(&self, (x, y): Point, width: f64, look: &Look, line: f64) -> Result<()> {
        self.line(&[(x, y), (x + width, y)], Stroke::new(look.colour, line).dash(look.dash))?;
        self.marker((x + width / 2.0, y), look, Fill::Solid)
    }
}

/// Baseline of a text of `size` whose figures and capitals are centred on `y`.
pub(crate) fn centred(y: f64, size: f64) -> f64 {
    // The cap height of DejaVu Sans is 0.729 em.
    y + 0.729 / 2.0 * size
}

/// Height of a line of small text.
pub(crate) const LEADING: f64 = 1.5 * SMALL;

fn fine(x: f64) -> i32 {
    (x * FINE).round() as i32
}

fn at((x, y): Point) -> (i32, i32) {
    (fine(x), fine(y))
}

/// A line cut into strokes; the whole line if the pattern is empty.
fn dashes(points: &[Point], pattern: &[f64]) -> Vec<Vec<Point>> {
    let (Some(first), false) = (points.first(), pattern.is_empty()) else { return vec![points.to_vec()] };
    let mut pieces = Vec::new();
    let (mut current, mut index, mut left) = (vec![*first], 0, pattern[0]);
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        loop {
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            if length <= left {
                left -= length;
                current.push(to);
                break;
            }
            let share = left / length;
            from = (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1));
            if current.last() != Some(&from) {
                current.push(from);
            }
            if index % 2 == 0 {
                pieces.push(std::mem::take(&mut current));
            }
            current = vec![from];
            index += 1;
            left = pattern[index % pattern.len()];
        }
    }
    if index % 2 == 0 && current.len() > 1 {
        pieces.push(current);
    }
    pieces
}

/// `source` with outlines in place of text, sizes in inches, and a title.
fn outlined(source: &str, title: &str, (width, height): (f64, f64)) -> Result<String> {
    let options = usvg::Options { fontdb: font::database(), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(source, &options).context("cannot read the drawing back")?;
    let written = tree.to_string(&usvg::WriteOptions {
        coordinates_precision: 1,
        transforms_precision: 3,
        indent: usvg::Indent::None,
        ..usvg::WriteOptions::default()
    });
    let body = written.find('>').map(|end| &written[end + 1..]).context("the drawing has no root element")?;
    let (w, h) = (width / DPI, height / DPI);
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    // One element a line: figures are committed, and a diff should name what moved.
    let body = body.replace("><", ">\n<");
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w:.3}in\" height=\"{h:.3}in\" viewBox=\"0 0 {} {}\" role=\"img\">\n<title>{title}</title>{body}\n",
        fine(width),
        fine(height)
    ))
}

/// The SVG as a PNG with [`DPI`] dots per inch, which its metadata state.
fn rasterised(svg: &str) -> Result<Vec<u8>> {
    let tree = usvg::Tree::from_str(svg, &usvg::Options { dpi: DPI as f32, ..usvg::Options::default() })
        .context("cannot read the outlined drawing")?;
    let size = tree.size().to_int_size();
    let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height()).context("the drawing is empty")?;
    resvg::render(&tree, tiny_skia::Transform::identity(), &mut pixels.as_mut());
    let png = pixels.encode_png().context("cannot encode the PNG")?;
    Ok(with_density(&png))
}

/// Puts a `pHYs` chunk (pixels a metre) behind the header, so that a page layout takes the PNG at its true size.
fn with_density(png: &[u8]) -> Vec<u8> {
    // Signature (8) and header chunk (4 length, 4 name, 13 content, 4 check) come first in every PNG.
    const HEADER_END: usize = 8 + 25;
    let per_metre = (DPI / 0.0254).round() as u32;
    let mut chunk = b"pHYs".to_vec();
    chunk.extend(per_metre.to_be_bytes());
    chunk.extend(per_metre.to_be_bytes());
    chunk.push(1);
    let check = crc32(&chunk).to_be_bytes();
    let (head, tail) = png.split_at(HEADER_END.min(png.len()));
    [head, &9_u32.to_be_bytes(), &chunk, &check, tail].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_cover_strokes_and_leave_gaps() {
        let line = [(0.0, 0.0), (10.0, 0.0), (10.0, 7.0)];
        assert_eq!(dashes(&line, &[]), [line.to_vec()]);
        let want = [vec![(0.0, 0.0), (4.0, 0.0)], vec![(6.0, 0.0), (10.0, 0.0)], vec![(10.0, 2.0), (10.0, 6.0)]];
        assert_eq!(dashes(&line, &[4.0, 2.0]), want);
    }

    #[test]
    fn the_check_value_of_crc32() {
        // The check value that catalogues of CRCs give for CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_page_has_its_size_and_no_text_left() {
        let drawing = page("a & b", (600.0, 300.0), |canvas| {
            canvas.text((100.0, 100.0), "Aα", Type::new(50.0))?;
            canvas.upright_text((50.0, 150.0), "up", Type::new(50.0))
        })
        .unwrap();
        assert!(
            drawing.svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"2.000in\" height=\"1.000in\"")
        );
        assert!(drawing.svg.contains("<title>a &amp; b</title>"));
        assert!(!drawing.svg.contains("<text") && !drawing.svg.contains("font"));
        // Width and height are the first two numbers of a PNG's header.
        assert_eq!(drawing.png[16..24], [0, 0, 2, 88, 0, 0, 1, 44]);
        assert_eq!(drawing.png[33 + 4..33 + 8], *b"pHYs");
    }
}
