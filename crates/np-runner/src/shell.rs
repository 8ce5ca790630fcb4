//! Words as a shell takes them, for commands that hints and pages name.

/// A word, in quotes where a shell would take it for something else.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./,:=@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// An option as plans keep it, `--set optimizer.lr=0.5`: its value as one word.
pub(crate) fn option(text: &str) -> String {
    match text.split_once(' ') {
        // As a word of its own it would be taken for an option.
        Some((name, value)) if value.starts_with('-') => format!("{name}={}", quoted(value)),
        Some((name, value)) => format!("{name} {}", quoted(value)),
        None => quoted(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        for (word, want) in [
            ("optimizer.lr=0.05,1e-3", "optimizer.lr=0.05,1e-3"),
            ("experiments/a b.yaml", "'experiments/a b.yaml'"),
            ("optimizer={sgd: {lr: 1}}", "'optimizer={sgd: {lr: 1}}'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
            ("~/a", "'~/a'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), want);
            let output = std::process::Command::new("sh").args(["-c", &format!("printf %s {want}")]).output();
            assert!(output.is_ok_and(|output| output.stdout == word.as_bytes()), "{word}");
        }
        assert_eq!(option("--set a=[1, 2]"), "--set 'a=[1, 2]'");
        assert_eq!(option("--arm -2"), "--arm=-2");
    }
}
