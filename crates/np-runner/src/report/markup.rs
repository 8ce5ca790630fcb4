//! Text and tables as HTML. maud escapes whatever is spliced in.

use maud::{Markup, html};
use np_record::{Column, Edge, Table, visible};

/// Text in which back-ticks mark code, as in messages and Markdown. One that is not closed stays as it is.
pub(super) fn inline(text: &str) -> Markup {
    let parts: Vec<&str> = text.split('`').collect();
    let closed = parts.len() - 1 - (parts.len() + 1) % 2;
    html! {
        @for (i, part) in parts.iter().enumerate() {
            @if i % 2 == 1 && i <= closed { code { (part) } }
            @else if i > closed && i > 0 { "`" (part) }
            @else { (part) }
        }
    }
}

/// A sentence of a message as one of a page.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A table in a box that scrolls where it is too wide, with its notes below. `id` is unique in the page.
pub(super) fn table(table: &Table, id: &str) -> Markup {
    let columns = table.printed();
    let names = columns.iter().take_while(|&&i| table.columns[i].edge == Edge::Left).count().max(1);
    html! {
        div.scroll role="region" aria-labelledby=(id) tabindex="0" {
            table {
                caption id=(id) { (inline(&table.title)) }
                thead {
                    tr { @for &i in &columns { th class=[edge(&table.columns[i])] scope="col" { (inline(&table.columns[i].title)) } } }
                }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (place, &i) in columns.iter().enumerate() {
                                @let text = visible(&row[i].text);
                                @if place < names { th scope="row" { (text) } }
                                @else { td class=[edge(&table.columns[i])] { (text) } }
                            }
                        }
                    }
                }
            }
        }
        @if !table.notes.is_empty() {
            ul.notes {
                @for note in &table.notes {
                    @let note = visible(note);
                    @if let Some(warning) = note.strip_prefix("warning: ") { li.warning { (inline(warning)) } }
                    @else { li { (inline(&note)) } }
                }
            }
        }
    }
}

/// The class of a column's cells.
fn edge(column: &Column) -> Option<&'static str> {
    (column.edge == Edge::Right).then_some("right")
}

#[cfg(test)]
mod tests {
    use np_record::Cell;

    use super::*;

    #[test]
    fn whatever_is_spliced_in_is_escaped() {
        let nasty = "<script>alert(\"1\")</script> & 'co'";
        let escaped = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; 'co'";
        assert_eq!(inline(nasty).into_string(), escaped);
        let of = Table {
            title: nasty.into(),
            columns: vec![Column::name(nasty, "a"), Column::number("n", "n")],
            rows: vec![vec![Cell::name(nasty), Cell::count(3)]],
            notes: vec![nasty.into(), format!("warning: {nasty}")],
        };
        let text = table(&of, "t\"1").into_string();
        assert!(!text.contains("<script"), "{text}");
        assert_eq!(text.matches(escaped).count(), 5, "{text}");
        assert!(text.contains("aria-labelledby=\"t&quot;1\"") && text.contains("<th scope=\"row\">"), "{text}");
        assert!(text.contains("<td class=\"right\">3</td>") && text.contains("<li class=\"warning\">"), "{text}");
    }

    #[test]
    fn back_ticks_mark_code() {
        let text = |text| inline(text).into_string();
        assert_eq!(text("say `np run`, `a<b`"), "say <code>np run</code>, <code>a&lt;b</code>");
        assert_eq!(text("one ` alone"), "one ` alone");
        assert_eq!(text("`a` and ` alone"), "<code>a</code> and ` alone");
        assert_eq!(text(""), "");
    }
}
