//! A table of results, printed for a terminal, as Markdown, as CSV or as JSON.
//!
//! Terminal and Markdown have rounded values and the notes; CSV and JSON have raw values.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::{Map, Value, json};

use crate::{
    compare::Format,
    text::{csv_field as field, markdown_cell, visible},
};

/// A table of results with notes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Title, without a period.
    pub title: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, each with a cell for every column.
    pub rows: Vec<Vec<Cell>>,
    /// Notes for the reader; warnings begin with `warning: `.
    pub notes: Vec<String>,
}

/// A column of a [`Table`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The printed header.
    pub title: String,
    /// The header in CSV and the key in JSON.
    pub key: String,
    /// The alignment of its cells.
    pub edge: Edge,
    /// The output formats that have it.
    pub shown: Shown,
}

/// The alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// Left, for names.
    Left,
    /// Right, for numbers.
    Right,
}

/// The output formats that have a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// All formats.
    Everywhere,
    /// Text and Markdown.
    Printed,
    /// CSV and JSON.
    Raw,
}

/// A cell of a [`Table`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cell {
    /// The printed text, rounded.
    pub text: String,
    /// The raw value; null if there is none.
    pub raw: Value,
}

impl Column {
    /// A column of names.
    #[must_use]
    pub fn name(title: &str, key: &str) -> Self {
        Self { title: title.into(), key: key.into(), edge: Edge::Left, shown: Shown::Everywhere }
    }

    /// A column of numbers.
    #[must_use]
    pub fn number(title: &str, key: &str) -> Self {
        Self { edge: Edge::Right, ..Self::name(title, key) }
    }

    /// A column of numbers in text and Markdown only, whose parts are in raw columns.
    #[must_use]
    pub fn printed(title: &str) -> Self {
        Self { edge: Edge::Right, shown: Shown::Printed, ..Self::name(title, "") }
    }

    /// A column in CSV and JSON only.
    #[must_use]
    pub fn raw(key: &str) -> Self {
        Self { edge: Edge::Right, shown: Shown::Raw, ..Self::name("", key) }
    }
}

impl Cell {
    /// A cell with a name.
    #[must_use]
    pub fn name(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { raw: text.clone().into(), text }
    }

    /// A cell with a number: its printed text and its raw value.
    #[must_use]
    pub fn number(text: impl Into<String>, raw: Option<f64>) -> Self {
        Self { text: text.into(), raw: json!(raw) }
    }

    /// A cell with a count.
    #[must_use]
    pub fn count(n: usize) -> Self {
        Self { text: n.to_string(), raw: n.into() }
    }

    /// A cell for text and Markdown, whose parts are in raw columns.
    #[must_use]
    pub fn printed(text: impl Into<String>) -> Self {
        Self { text: text.into(), raw: Value::Null }
    }

    /// A cell for CSV and JSON.
    #[must_use]
    pub fn raw(raw: impl Into<Value>) -> Self {
        Self { text: String::new(), raw: raw.into() }
    }

    /// A cell with a value of an axis; `None` for an arm without this axis.
    #[must_use]
    pub fn axis(value: Option<&Value>) -> Self {
        value.map_or_else(|| Self::printed("–"), |value| Self { text: words(value), raw: value.clone() })
    }
}

impl Table {
    /// The table as text, with a newline at the end.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Markdown => self.markdown(),
            Format::Csv => self.csv(),
            Format::Json => serde_json::to_string_pretty(&self.json())
                .map(|text| crate::visible_json(&text) + "\n")
                .unwrap_or_default(),
        }
    }

    /// Indices of the columns in text and Markdown.
    #[must_use]
    pub fn printed(&self) -> Vec<usize> {
        self.of(Shown::Printed)
    }

    fn of(&self, form: Shown) -> Vec<usize> {
        let with = |column: &Column| column.shown == Shown::Everywhere || column.shown == form;
        (0..self.columns.len()).filter(|&i| with(&self.columns[i])).collect()
    }

    /// Header and rows of the printed columns.
    fn lines(&self) -> Vec<Vec<Cow<'_, str>>> {
        let columns = self.printed();
        let head = columns.iter().map(|&i| visible(&self.columns[i].title)).collect();
        let mut lines = vec![head];
        lines.extend(self.rows.iter().map(|cells| columns.iter().map(|&i| visible(&cells[i].text)).collect()));
        lines
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n\n", visible(&self.title));
        let (columns, lines) = (self.printed(), self.lines());
        let wide = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns.len()).map(wide).collect();
        for line in &lines {
            let cells = line.iter().zip(&widths).zip(&columns).map(|((cell, width), &column)| {
                let fill = " ".repeat(width - cell.chars().count());
                match self.columns[column].edge {
                    Edge::Left => format!("{cell}{fill}"),
                    Edge::Right => format!("{fill}{cell}"),
                }
            });
            out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
        }
        for note in &self.notes {
            let _ = write!(out, "\n{}", visible(note));
        }
        if !self.notes.is_empty() {
            out.push('\n');
        }
        out
    }

    fn markdown(&self) -> String {
        let mut out = format!("{}\n\n", visible(&self.title));
        for (i, line) in self.lines().iter().enumerate() {
            let cells: Vec<String> = line.iter().map(|cell| markdown_cell(cell)).collect();
            let _ = writeln!(out, "| {} |", cells.join(" | "));
            if i == 0 {
                let rule = |&column: &usize| if self.columns[column].edge == Edge::Left { ":--" } else { "--:" };
                let _ = writeln!(out, "| {} |", self.printed().iter().map(rule).collect::<Vec<_>>().join(" | "));
            }
        }
        if !self.notes.is_empty() {
            out.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(out, "- {}", visible(note));
        }
        out
    }

    fn csv(&self) -> String {
        let columns = self.of(Shown::Raw);
        let head: Vec<String> = columns.iter().map(|&i| field(&self.columns[i].key)).collect();
        let mut out = head.join(",") + "\n";
        for cells in &self.rows {
            let row: Vec<String> = columns.iter().map(|&i| field(&plain(&cells[i].raw))).collect();
            let _ = writeln!(out, "{}", row.join(","));
        }
        out
    }

    /// The table as a JSON value: title, rows of raw values by key, notes.
    #[must_use]
    pub fn json(&self) -> Value {
        let columns = self.of(Shown::Raw);
        let row = |cells: &Vec<Cell>| -> Value {
            columns.iter().map(|&i| (self.columns[i].key.clone(), cells[i].raw.clone())).collect::<Map<_, _>>().into()
        };
        json!({ "title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>(), "notes": self.notes })
    }
}

/// A value of a configuration in words: `fashion-mnist, fraction 0.1`, `cosine (warmup 0.0, min 0.0)`. A string has no quotes; null is an empty text.
///
/// ```
/// let value = serde_json::json!({"name": "fashion-mnist", "fraction": 0.1, "augment": null});
/// assert_eq!(np_record::words(&value), "fashion-mnist, fraction 0.1");
/// assert_eq!(np_record::words(&serde_json::json!({"cosine": {"warmup": 0.0}})), "cosine (warmup 0.0)");
/// ```
#[must_use]
pub fn words(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let part = |(key, value): (&String, &Value)| match value {
                Value::Null => None,
                Value::Object(inner) if inner.is_empty() => Some(key.clone()),
                Value::Object(_) => Some(format!("{key} ({})", words(value))),
                value if key == "name" => Some(words(value)),
                value => Some(format!("{key} {}", words(value))),
            };
            map.iter().filter_map(part).collect::<Vec<_>>().join(", ")
        }
        Value::Array(values) => format!("[{}]", values.iter().map(words).collect::<Vec<_>>().join(", ")),
        other => plain(other),
    }
}

/// A value without the quotes of a text; nothing for null.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = vec![
            Column::name("arm", "arm"),
            Column::number("n", "n"),
            Column::printed("range"),
            Column::raw("low"),
            Column::raw("high"),
        ];
        let row = |arm: &str, n, low: f64, high: f64| {
            let range = Cell::printed(format!("{low:.1} to {high:.1}"));
            vec![Cell::name(arm), Cell::count(n), range, Cell::raw(low), Cell::raw(high)]
        };
        let rows = vec![row("a|b, c", 3, 0.25, 1.0), row("é", 12, -1.0, f64::NAN)];
        Table { title: "a title".into(), columns, rows, notes: vec!["warning: few".into()] }
    }

    #[test]
    fn people_read_rounded_cells() {
        let text =
            "a title\n\narm      n        range\na|b, c   3   0.2 to 1.0\né       12  -1.0 to NaN\n\nwarning: few\n";
        assert_eq!(table().render(Format::Text), text);
        let markdown = "a title\n\n| arm | n | range |\n| :-- | --: | --: |\n| a\\|b, c | 3 | 0.2 to 1.0 |\n\
                        | é | 12 | -1.0 to NaN |\n\n- warning: few\n";
        assert_eq!(table().render(Format::Markdown), markdown);
    }

    #[test]
    fn programs_read_raw_ones() {
        assert_eq!(table().render(Format::Csv), "arm,n,low,high\n\"a|b, c\",3,0.25,1.0\né,12,-1.0,\n");
        let json: Value = serde_json::from_str(&table().render(Format::Json)).unwrap();
        assert_eq!(json["rows"][0], json!({"arm": "a|b, c", "n": 3, "low": 0.25, "high": 1.0}));
        assert_eq!(json["notes"], json!(["warning: few"]));
    }
}
