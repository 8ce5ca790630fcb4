//! Text of others, made fit to be shown: no control characters on a terminal or in a file, no formulas in a spreadsheet.

use std::borrow::Cow;

/// Whether a character moves a terminal's cursor, breaks a line, changes the order in which others are read, or has no width, so that two names with
/// and without it look alike, instead of being seen.
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

/// As [`visible`], but for newlines and tabs, which stay.
#[must_use]
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| is_hidden(c) && !matches!(c, '\n' | '\t'))
}

/// A text of JSON over lines, with JSON's own escape (`\u001b`) in place of every other [hidden](is_hidden) character. These stand in strings alone, so
/// that the text means the same.
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

/// A field of CSV, quoted where it must be. [Hidden](is_hidden) characters are escaped; a text that a spreadsheet would take for a formula
/// gets an apostrophe before it, a number does not.
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

/// Bytes as lower-case hexadecimal digits, two each: how digests are written.
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

/// Whether `name` can name a plan or a record: a file, a word of a command line, a part of a job's comment.
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
