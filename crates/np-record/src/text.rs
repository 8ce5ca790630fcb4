//! Makes text from files safe to show: without control characters for a terminal, and without formulas for a spreadsheet.

use std::borrow::Cow;

/// Whether a character is not visible text: it moves a terminal's cursor, breaks a line, changes the direction of text, or has no width, so that two
/// names with and without it look the same.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{3164}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// `text` on one line, with an escape (`\n`, `\u{1b}`) in place of every [hidden](is_hidden) character.
///
/// ```
/// assert_eq!(np_record::visible("a\u{1b}[31m\n"), r"a\u{1b}[31m\n");
/// ```
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    escape(text, is_hidden)
}

/// [`visible`], except that newlines and tabs are kept.
#[must_use]
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| is_hidden(c) && !matches!(c, '\n' | '\t'))
}

/// JSON text with JSON's escape (`\u001b`) in place of every [hidden](is_hidden) character except newlines. In valid JSON these occur only in strings, so that
/// its meaning does not change.
///
/// ```
/// assert_eq!(np_record::visible_json("{\n\"a\": \"\u{feff}\"}"), "{\n\"a\": \"\\ufeff\"}");
/// ```
#[must_use]
pub fn visible_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn escape(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match hidden(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A field of a CSV file, quoted if necessary. [Hidden](is_hidden) characters are escaped. A text that a spreadsheet would interpret as a formula gets an
/// apostrophe in front; a number does not.
///
/// ```
/// let fields = ["a, b", "-0.5", "=1+1"].map(np_record::csv_field);
/// assert_eq!(fields, ["\"a, b\"", "-0.5", "'=1+1"]);
/// ```
#[must_use]
pub fn csv_field(text: &str) -> String {
    // By the text itself: escaped, a tab at its start is none.
    let first = text.trim_start_matches(' ').chars().next();
    let live = matches!(first, Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠'));
    let guard = if live && text.parse::<f64>().is_err() { "'" } else { "" };
    let text = visible(text);
    match text.contains([',', '"']) {
        true => format!("\"{guard}{}\"", text.replace('"', "\"\"")),
        false => format!("{guard}{text}"),
    }
}

/// Bytes as lower-case hexadecimal digits, two for each byte.
///
/// ```
/// assert_eq!(np_record::hex(&[0, 10, 255]), "000aff");
/// ```
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A cell of a Markdown table.
pub(crate) fn markdown_cell(text: &str) -> String {
    visible(text).replace('|', "\\|")
}

/// The longest name, in bytes: file names have a limit, and endings.
const LONGEST_NAME: usize = 200;

/// Whether `name` can be the name of a plan or record, so that it is safe as a file name, on a command line and in a Slurm job's comment.
#[must_use]
pub fn can_name(name: &str) -> bool {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    plain && !name.is_empty() && !name.starts_with(['.', '-']) && !name.ends_with('.') && name.len() <= LONGEST_NAME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_spelled_out() {
        assert!(matches!(visible("plain ü – 漢"), Cow::Borrowed(_)));
        assert_eq!(visible("a\tb\r\n\u{7f}\u{9b}\u{202e}"), r"a\tb\r\n\u{7f}\u{9b}\u{202e}");
        assert_eq!(visible_lines("a\tb\n\u{1b}]0;x\u{7}"), "a\tb\n\\u{1b}]0;x\\u{7}");
    }

    #[test]
    fn what_has_no_width_is_spelled_out() {
        // Soft hyphen, Hangul fillers, Mongolian vowel separator, zero-width marks, invisible operators, annotations, tags.
        let first_and_last = [
            '\u{ad}',
            '\u{115f}',
            '\u{1160}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{2060}',
            '\u{2064}',
            '\u{3164}',
            '\u{fff9}',
            '\u{fffb}',
            '\u{e0000}',
            '\u{e007f}',
        ];
        for c in first_and_last {
            assert_eq!(visible(&format!("a{c}")), format!("a\\u{{{:x}}}", u32::from(c)));
        }
        assert_eq!(visible_json("\"a\u{e0041}\""), "\"a\\udb40\\udc41\"", "a pair of surrogates");
        for c in ['\u{115e}', '\u{1161}', '\u{200a}', '\u{2065}', '\u{3163}', '\u{fffc}', '\u{e0080}'] {
            assert!(!is_hidden(c), "{c:?}");
        }
    }

    #[test]
    fn formulas_are_text_and_numbers_stay_numbers() {
        for (text, field) in [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1+1", "'+1+1"),
            ("-2+3", "'-2+3"),
            ("@SUM(A1,A2)", "\"'@SUM(A1,A2)\""),
            ("  =1", "'  =1"),
            ("\t=1", "'\\t=1"),
            ("\r=1", "'\\r=1"),
            ("＝1", "'＝1"),
            ("-0.25", "-0.25"),
            ("+1e-3", "+1e-3"),
            ("a-b=c", "a-b=c"),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("two\nlines", "two\\nlines"),
            ("", ""),
        ] {
            assert_eq!(csv_field(text), field);
        }
    }

    #[test]
    fn names_are_plain_words() {
        for name in ["a", "fig2-sanity", "tiny.1a2b3c4d", "A_b"] {
            assert!(can_name(name), "{name}");
        }
        for name in ["", ".a", "a.", "-v", "a/b", "a b", "ä", "a\nb", &"x".repeat(201)] {
            assert!(!can_name(name), "{name}");
        }
    }
}
