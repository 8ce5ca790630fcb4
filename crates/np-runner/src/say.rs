//! What is said on standard error, to nobody if need be: a reader that has seen enough (`2>&1 | head`) must not end a training.

/// `eprintln!`, but for a panic where standard error is closed, and with control characters spelled out: what is said repeats names, paths
/// and messages of others.
macro_rules! say {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "{}", np_record::visible_lines(&format!($($what)*)));
    }};
}

pub(crate) use say;

use crate::worker::first_line;

/// Names the records that are not used, and why, with what mends it; a hint that several share once.
pub(crate) fn say_refused(refused: &[np_record::StoreError]) {
    for (place, error) in refused.iter().enumerate() {
        say!("warning: not used: {}", first_line(&error.to_string()));
        let last = refused.get(place + 1).is_none_or(|next| next.hint() != error.hint());
        if let Some(hint) = error.hint().filter(|_| last) {
            say!("  hint: {hint}");
        }
    }
}

/// `1 run`, `2 runs`.
pub(crate) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!([count(0, "run"), count(1, "run"), count(18, "run")], ["0 runs", "1 run", "18 runs"]);
    }
}
