//! Tables, for a terminal and beyond.

use np_record::{compare::Format, csv_field, visible};

/// Rows of cells under a header, columns aligned; columns named in `right` are flush right.
#[must_use]
pub(crate) fn table(header: &[&str], right: &[&str], rows: &[Vec<String>]) -> String {
    let all = shown(header, rows);
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..header.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &all {
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
    let csv = |cells: &[String]| cells.iter().map(|cell| csv_field(cell)).collect::<Vec<_>>().join(",") + "\n";
    let markdown = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    match format {
        Format::Csv => {
            let head: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
            std::iter::once(&head).chain(rows).map(|row| csv(row)).collect()
        }
        Format::Markdown => {
            let rule = |name: &&str| if right.contains(name) { "---:" } else { "---" }.to_owned();
            let mut lines = shown(header, rows);
            lines.insert(1, header.iter().map(rule).collect());
            lines.iter().map(|row| markdown(row)).collect()
        }
        Format::Text | Format::Json => table(header, right, rows),
    }
}

/// Header and rows, each cell on one line.
fn shown(header: &[&str], rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let head = header.iter().map(|cell| visible(cell).into_owned()).collect();
    let rows = rows.iter().map(|row| row.iter().map(|cell| visible(cell).into_owned()).collect());
    std::iter::once(head).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["bcd".to_owned(), "7 α".to_owned()]];
        assert_eq!(table(&["arm", "n"], &["n"], &rows), "arm    n\na     10\nbcd  7 α\n");
    }

    #[test]
    fn cells_of_others_break_no_form() {
        let rows = [vec!["a\u{1b}[2J|b".to_owned(), "-1".to_owned()], vec!["=1+1\nx".to_owned(), "2".to_owned()]];
        let forms = [
            (Format::Text, "arm            n\na\\u{1b}[2J|b  -1\n=1+1\\nx        2\n"),
            (Format::Markdown, "| arm | n |\n| --- | ---: |\n| a\\u{1b}[2J\\|b | -1 |\n| =1+1\\nx | 2 |\n"),
            (Format::Csv, "arm,n\na\\u{1b}[2J|b,-1\n'=1+1\\nx,2\n"),
        ];
        for (format, text) in forms {
            assert_eq!(render(&["arm", "n"], &["n"], &rows, format), text);
        }
    }
}
