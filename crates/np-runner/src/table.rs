//! Tables, for a terminal and beyond.

use np_record::compare::Format;

/// Rows of cells under a header, columns aligned; columns named in `right` are flush right.
#[must_use]
pub(crate) fn table(header: &[&str], right: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..header.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in all {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .zip(header)
            .map(|((cell, width), name)| {
                let fill = " ".repeat(width - cell.chars().count());
                if right.contains(name) { format!("{fill}{cell}") } else { format!("{cell}{fill}") }
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The same in any of the forms that tables have; JSON is another matter, and gets the text.
#[must_use]
pub(crate) fn render(header: &[&str], right: &[&str], rows: &[Vec<String>], format: Format) -> String {
    let csv = |cells: &[String]| cells.iter().map(|cell| field(cell)).collect::<Vec<_>>().join(",") + "\n";
    let markdown = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    match format {
        Format::Csv => std::iter::once(&head).chain(rows).map(|row| csv(row)).collect(),
        Format::Markdown => {
            let rule = |name: &&str| if right.contains(name) { "---:" } else { "---" }.to_owned();
            let rules: Vec<String> = header.iter().map(rule).collect();
            [&head, &rules].into_iter().chain(rows).map(|row| markdown(row)).collect()
        }
        Format::Text | Format::Json => table(header, right, rows),
    }
}

/// A field of CSV, quoted where it must be.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["bcd".to_owned(), "7 α".to_owned()]];
        assert_eq!(table(&["arm", "n"], &["n"], &rows), "arm    n\na     10\nbcd  7 α\n");
    }
}
