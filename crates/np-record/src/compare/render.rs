//! Prints a comparison for a terminal, as Markdown, as CSV or as JSON.
//!
//! Terminal and Markdown have rounded values, with accuracies in percent and their differences in percentage points; CSV and JSON have the
//! values in full precision.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde_json::Value;

use super::{ArmSummary, Comparison, Difference, Group};
use crate::stats::{Bootstrap, FlipMethod};
use crate::table::{Cell, Column, Table};
use crate::text::csv_field as field;

/// The output formats of tables and comparisons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns for a terminal. The default.
    #[default]
    Text,
    /// A Markdown table.
    Markdown,
    /// Comma-separated raw values with a header.
    Csv,
    /// JSON with all raw values.
    Json,
}

/// The error of an unknown name of a [`Format`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no format `{got}`")]
pub struct UnknownFormat {
    /// The unknown name.
    pub got: String,
}

impl UnknownFormat {
    /// The names that there are.
    #[must_use]
    pub fn hint(&self) -> String {
        format!("one of {}", Format::ALL.map(|f| format!("`{f}`")).join(", "))
    }
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 4] = [Format::Text, Format::Markdown, Format::Csv, Format::Json];

    /// The name on a command line.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Markdown => "markdown",
            Format::Csv => "csv",
            Format::Json => "json",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.key())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Format::ALL.into_iter().find(|f| f.key() == name).ok_or_else(|| UnknownFormat { got: name.into() })
    }
}

impl Comparison {
    /// The comparison as text, with a newline at the end.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Text | Format::Markdown => self.table().render(format),
            Format::Csv => self.csv(),
            // Maps with string keys and finite numbers only: nothing that JSON lacks, so this does not fail.
            Format::Json => {
                serde_json::to_string_pretty(self).map(|text| crate::visible_json(&text) + "\n").unwrap_or_default()
            }
        }
    }

    /// Number of columns of [`table`](Self::table) after those of the axes: arm, baseline, pairs, difference, interval, p, adjusted p, and the smallest p that
    /// this number of pairs can give.
    pub const COLUMNS: usize = 8;

    /// The comparison as a table of rounded values, with accuracies in percent.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut rows = self.rows().into_iter();
        let axes = self.axes().len();
        let column = |(i, title): (usize, String)| match i < axes {
            true => Column::name(&title, &title),
            false => Column::number(&title, &title),
        };
        let columns = rows.next().unwrap_or_default().into_iter().enumerate().map(column).collect();
        let rows = rows.map(|row| row.into_iter().map(Cell::printed).collect()).collect();
        Table { title: self.heading(), columns, rows, notes: self.notes() }
    }

    fn csv(&self) -> String {
        let axes = self.axes();
        let mut header: Vec<String> = axes.iter().map(|axis| field(axis)).collect();
        let fixed = "metric,arm,baseline,n_arm,mean_arm,std_arm,diverged_arm,failed_arm,missing_arm,\
                     n_baseline,mean_baseline,std_baseline,diverged_baseline,failed_baseline,missing_baseline,\
                     n_pairs,difference,std_difference,confidence,low,high,p,p_method,p_holm,family,smallest_p,warnings,family_of,hypothesis";
        header.push(fixed.into());
        let mut out = header.join(",") + "\n";
        for group in &self.groups {
            let mut row: Vec<String> =
                axes.iter().map(|axis| group.axes.get(axis).map(value_text).unwrap_or_default()).collect();
            row.extend([self.metric.key(), self.arm.clone(), self.baseline.clone()]);
            for side in [&group.arm, &group.baseline] {
                row.extend([side.n().to_string(), raw(side.mean), raw(side.std)]);
                row.extend([&side.diverged, &side.failed, &side.missing].map(|seeds| seeds.len().to_string()));
            }
            let d = group.difference.as_ref();
            row.push(d.map_or(0, |d| d.values.len()).to_string());
            row.extend([raw(d.map(|d| d.mean)), raw(d.and_then(|d| d.std)), self.bootstrap.confidence.to_string()]);
            let interval = d.and_then(|d| d.interval);
            row.extend([raw(interval.map(|i| i.low)), raw(interval.map(|i| i.high)), raw(d.map(|d| d.test.p))]);
            row.push(d.map(|d| method_text(d.test.method)).unwrap_or_default());
            row.extend([raw(d.map(|d| d.p_holm)), self.family.to_string(), raw(d.map(|d| d.smallest_p))]);
            row.push(group.warnings.join("; "));
            row.extend([self.family_of.key().to_string(), self.name.clone().unwrap_or_default()]);
            let _ = writeln!(out, "{}", row.iter().map(|cell| field(cell)).collect::<Vec<_>>().join(","));
        }
        out
    }

    fn heading(&self) -> String {
        let better = if self.metric.higher_is_better() { "more is better" } else { "less is better" };
        let title = self.metric.title();
        let unit = if self.metric.unit().is_empty() { String::new() } else { format!("{}, ", self.metric.unit()) };
        let name = self.name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        format!("{name}{title} ({unit}{better}): `{}` against `{}`, paired by seed", self.arm, self.baseline)
    }

    /// The axes that any group has, in order.
    fn axes(&self) -> Vec<String> {
        let mut axes: Vec<String> = self.groups.iter().flat_map(|g| g.axes.keys().cloned()).collect();
        axes.sort();
        axes.dedup();
        axes
    }

    /// Header and body of the printed table.
    fn rows(&self) -> Vec<Vec<String>> {
        let axes = self.axes();
        // An interval of so few differences is none, see `Bootstrap::is_rough`.
        let few = |g: &Group| g.difference.as_ref().is_some_and(|d| Bootstrap::is_rough(d.values.len()));
        let level = match self.groups.iter().any(few) {
            true => "bootstrap range".to_string(),
            false => format!("{} % interval", short(self.bootstrap.confidence * 100.0)),
        };
        let mut header = axes.clone();
        let unit = if self.metric.unit() == "%" { "difference (points)" } else { "difference" };
        header.extend(
            [&self.arm, &self.baseline, "n", unit, &level, "p", "p Holm", "smallest p"].map(|s: &str| s.to_string()),
        );
        let mut rows = vec![header];
        for group in &self.groups {
            let mut row: Vec<String> =
                axes.iter().map(|axis| group.axes.get(axis).map_or("-".into(), crate::words)).collect();
            row.extend([self.summary_text(&group.arm), self.summary_text(&group.baseline)]);
            row.extend(self.difference_cells(group.difference.as_ref()));
            rows.push(row);
        }
        rows
    }

    pub(super) fn summary_text(&self, side: &ArmSummary) -> String {
        let (factor, decimals) = self.metric.print();
        let mut text = match (side.mean, side.std) {
            (Some(mean), Some(std)) => format!("{:.decimals$} ± {:.decimals$}", mean * factor, std * factor),
            (Some(mean), None) => format!("{:.decimals$}", mean * factor),
            (None, _) => "-".into(),
        };
        for (seeds, what) in [(&side.diverged, "diverged"), (&side.failed, "failed"), (&side.missing, "missing")] {
            if !seeds.is_empty() {
                let _ = write!(text, ", {} {what}", seeds.len());
            }
        }
        text
    }

    pub(super) fn difference_cells(&self, difference: Option<&Difference>) -> [String; 6] {
        let (factor, decimals) = self.metric.print();
        let Some(d) = difference else { return ["0", "-", "-", "-", "-", "-"].map(String::from) };
        let signed = |x: f64| format!("{:+.decimals$}", x * factor);
        let interval = d.interval.map_or("-".into(), |i| format!("[{}, {}]", signed(i.low), signed(i.high)));
        let n = d.values.len().to_string();
        [n, signed(d.mean), interval, p_text(d.test.p), p_text(d.p_holm), p_text(d.smallest_p)]
    }

    /// Warnings of the groups; those that all groups share are said once.
    fn notes(&self) -> Vec<String> {
        let shared = |warning: &String| self.groups.iter().all(|g| g.warnings.contains(warning));
        let first = self.groups.first().map(|g| g.warnings.clone()).unwrap_or_default();
        let mut notes: Vec<String> = first.into_iter().filter(shared).map(|w| format!("warning: {w}")).collect();
        for group in &self.groups {
            let Group { axes, warnings, .. } = group;
            let own = warnings.iter().filter(|w| !shared(w));
            notes.extend(own.map(|w| format!("warning: {}: {w}", axes_text(axes))));
        }
        let resamples = self.bootstrap.resamples;
        notes.push(format!(
            "mean ± sample standard deviation; {resamples} bootstrap resamples of the paired differences"
        ));
        let tests = self.groups.iter().filter(|g| g.difference.is_some()).count();
        let family = self.family;
        let s = if family == 1 { "" } else { "s" };
        let whose = if family > tests { self.family_of.whose() } else { "" };
        notes.push(format!("p: two-sided sign-flip test; Holm over a family of {family} comparison{s}{whose}"));
        notes
    }
}

/// The axes of a group in a sentence.
pub(crate) fn axes_text(axes: &BTreeMap<String, Value>) -> String {
    if axes.is_empty() {
        return "the only group".into();
    }
    axes.iter().map(|(key, value)| format!("`{key}` = `{}`", crate::words(value))).collect::<Vec<_>>().join(", ")
}

pub(crate) fn value_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

fn method_text(method: FlipMethod) -> String {
    match method {
        FlipMethod::Exact => "exact".into(),
        FlipMethod::Drawn(flips) => format!("{flips} flips"),
    }
}

/// Three significant digits at least, and never a bare zero for a small number.
fn p_text(p: f64) -> String {
    if p >= 0.001 { short((p * 10_000.0).round() / 10_000.0) } else { format!("{p:.1e}") }
}

pub(super) fn short(x: f64) -> String {
    format!("{x:.4}").trim_end_matches('0').trim_end_matches('.').to_string()
}

fn raw(value: Option<f64>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}
