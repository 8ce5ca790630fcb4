//! What is said on standard error, to nobody if need be: a reader that has seen enough (`2>&1 | head`) must not end a training.

/// `eprintln!`, but for a panic where standard error is closed.
macro_rules! say {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($what)*);
    }};
}

pub(crate) use say;

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
