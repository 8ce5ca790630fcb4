//! A line of mathematics.
//!
//! Notation: `_x` or `_{xyz}` is a subscript, `^x` or `^{xyz}` a superscript, `\hat{x}` and `\bar{x}` put an accent over one
//! letter, and all other text is literal. Accents are drawn, because combining marks of the font are misplaced over letters such as m.

use anyhow::Result;

use super::Point;
use super::canvas::{Align, Canvas, Stroke, Type};
use super::font;

/// Size of sub- and superscripts relative to the line.
const SCRIPT: f64 = 0.7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Line,
    Sub,
    Super,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accent {
    None,
    Hat,
    Bar,
}

#[derive(Debug, Clone, PartialEq)]
struct Run {
    text: String,
    level: Level,
    accent: Accent,
}

/// A parsed line of mathematics.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Equation {
    runs: Vec<Run>,
}

impl Equation {
    /// Parses the notation. There is no invalid input: a missing brace is added at the end.
    pub(crate) fn parse(source: &str) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        let mut rest = source;
        while let Some(first) = rest.chars().next() {
            let accent = if rest.starts_with("\\hat{") {
                Accent::Hat
            } else if rest.starts_with("\\bar{") {
                Accent::Bar
            } else {
                Accent::None
            };
            let (text, level);
            if accent != Accent::None {
                (text, rest) = group(&rest[4..]);
                level = Level::Line;
            } else if let Some((after, script)) = script(rest) {
                (text, rest) = group(after);
                level = script;
            } else {
                (text, rest) = rest.split_at(first.len_utf8());
                level = Level::Line;
            }
            match runs.last_mut() {
                Some(last) if accent == Accent::None && last.accent == accent && last.level == level => {
                    last.text.push_str(text);
                }
                _ => runs.push(Run { text: text.into(), level, accent }),
            }
        }
        Self { runs }
    }

    /// Width at a type size.
    pub(crate) fn width(&self, set: Type) -> f64 {
        self.runs.iter().map(|run| run.advance(set)).sum()
    }

    /// Sets the line with its baseline at `y`.
    pub(crate) fn draw(&self, canvas: &Canvas, (x, y): Point, set: Type) -> Result<()> {
        let mut x = match set.align {
            Align::Start => x,
            Align::Middle => x - self.width(set) / 2.0,
            Align::End => x - self.width(set),
        };
        for run in &self.runs {
            let drop = match run.level {
                Level::Line => 0.0,
                Level::Sub => 0.20 * set.size,
                Level::Super => -0.36 * set.size,
            };
            let run_set = Type { size: run.size(set), ..set }.align(Align::Start);
            // Blanks at the ends of a run are part of its width, but an SVG drops them.
            let lead: f64 = font::width(&run.text, run_set.size, set.face)
                - font::width(run.text.trim_start(), run_set.size, set.face);
            let shown = run.text.trim();
            if !shown.is_empty() {
                canvas.text((x + lead, y + drop), shown, run_set)?;
            }
            run.draw_accent(canvas, (x, y), set)?;
            x += run.advance(set);
        }
        Ok(())
    }

    /// The line in plain Unicode, for a table or a screen reader.
    pub(crate) fn plain(&self) -> String {
        let mut out = String::new();
        for run in &self.runs {
            let braces = run.text.chars().count() > 1;
            match run.level {
                Level::Line => out.push_str(&run.text),
                Level::Sub if braces => out.push_str(&format!("_{{{}}}", run.text)),
                Level::Sub => out.push_str(&format!("_{}", run.text)),
                Level::Super if run.text == "2" => out.push('²'),
                Level::Super => out.push_str(&format!("^{{{}}}", run.text)),
            }
            match run.accent {
                Accent::None => {}
                Accent::Hat => out.push('\u{302}'),
                Accent::Bar => out.push('\u{304}'),
            }
        }
        out
    }
}

impl Run {
    fn size(&self, set: Type) -> f64 {
        if self.level == Level::Line { set.size } else { SCRIPT * set.size }
    }

    fn advance(&self, set: Type) -> f64 {
        let thin = if self.level == Level::Line { 0.0 } else { 0.06 * set.size };
        font::width(&self.text, self.size(set), set.face) + thin
    }

    fn draw_accent(&self, canvas: &Canvas, (x, y): Point, set: Type) -> Result<()> {
        let middle = x + font::width(&self.text, set.size, set.face) / 2.0;
        // Lower-case letters end at the x height, 0.547 em; ζ and its like at the height of capitals.
        let tall = self.text.chars().any(|c| c.is_uppercase() || "ζθbdfhklt".contains(c));
        let top = y - if tall { 0.84 } else { 0.60 } * set.size;
        let stroke = Stroke::new(set.colour, 0.065 * set.size);
        let (half, rise) = (0.17 * set.size, 0.14 * set.size);
        match self.accent {
            Accent::None => Ok(()),
            Accent::Hat => canvas.line(
                &[(middle - half, top - 0.02 * set.size), (middle, top - rise), (middle + half, top - 0.02 * set.size)],
                stroke,
            ),
            Accent::Bar => canvas.line(&[(middle - half, top - rise / 2.0), (middle + half, top - rise / 2.0)], stroke),
        }
    }
}

fn script(rest: &str) -> Option<(&str, Level)> {
    match rest.strip_prefix('_') {
        Some(after) => Some((after, Level::Sub)),
        None => rest.strip_prefix('^').map(|after| (after, Level::Super)),
    }
}

/// The braced group, or the single character, at the start of `rest`, and what follows.
fn group(rest: &str) -> (&str, &str) {
    match rest.strip_prefix('{') {
        Some(inner) => inner.split_once('}').unwrap_or((inner, "")),
        None => rest.split_at(rest.chars().next().map_or(0, char::len_utf8)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::font::Face;

    #[test]
    fn notation() {
        let equation = Equation::parse(r"α_g = clip(\hat{g}, α_{min}) + v^2");
        assert_eq!(equation.plain(), "α_g = clip(ĝ, α_{min}) + v²".replace('ĝ', "g\u{302}"));
        let levels: Vec<Level> = equation.runs.iter().map(|run| run.level).collect();
        use Level::{Line, Sub, Super};
        assert_eq!(levels, [Line, Sub, Line, Line, Line, Sub, Line, Super]);
        assert_eq!(equation.runs[3], Run { text: "g".into(), level: Line, accent: Accent::Hat });
        for broken in ["", "_", "x_", r"\hat{g", "a_{b", "{}"] {
            let _ = Equation::parse(broken).plain();
        }
    }

    #[test]
    fn scripts_are_narrower() {
        let set = Type::new(100.0);
        let (line, script) = (Equation::parse("xmin").width(set), Equation::parse("x_{min}").width(set));
        assert!(script < line && script > font::width("x", 100.0, Face::Regular));
    }
}
