//! The documentation of optimizers and their settings as text that a program can print.

/// Names an optimizer, `pub type Name = Driver<Config>;`, and keeps its documentation for `OptimizerConfig::about` of np-core.
///
/// Its settings, as `hyper_parameters!` takes them, may follow; or, where they have settings of their own, the list of these: `"key" => Config;`.
#[doc(hidden)]
#[macro_export]
macro_rules! optimizer {
    (
        $(#[doc = $line:literal])*
        pub type $name:ident = Driver<$config:ty>;

        $(#[doc = $doc:literal])*
        pub struct $($settings:tt)+
    ) => {
        $crate::optimizer! {
            $(#[doc = $line])*
            pub type $name = Driver<$config>;
        }
        $crate::hyper_parameters! {
            $(#[doc = $doc])*
            pub struct $($settings)+
        }
    };
    (
        $(#[doc = $line:literal])*
        pub type $name:ident = Driver<$config:ty>;
        $($key:literal => $part:ty;)*
    ) => {
        $(#[doc = $line])*
        pub type $name = Driver<$config>;

        impl $crate::config::documented::Documented for $config {
            const DOCUMENTATION: $crate::config::documented::Documentation = $crate::config::documented::Documentation {
                lines: &[$($line),*],
                parts: &[("", <$config>::SETTINGS), $(($key, <$part>::SETTINGS)),*],
            };
        }
    };
}

/// Defines a struct of settings, and keeps the documentation of its fields.
///
/// Each field has its default and may have, after a comma, its range: a function of its name and value, such as [`not_negative`](crate::error::not_negative). A
/// field with a range is `Copy`. Fields end in `;`, and struct and fields are `pub`. `check |config| { … }` after the struct looks at what several fields say together.
///
/// With `= "kind"` after the name it implements [`HyperParameters`](crate::HyperParameters) for an optimizer's settings: the literal is the optimizer's name in
/// saved state, and there must be a field `lr: f64`, which is η. The struct also gets `Default`, `Debug`, `Clone`, `PartialEq`, serde's two traits, and `in_range`,
/// which checks the ranges.
///
/// The struct is serialised by serde: the crate that calls the macro depends on `serde`, under this name and with its feature `derive`. The crate's documentation
/// opens with an example.
#[macro_export]
macro_rules! hyper_parameters {
    (
        $(#[$($outer:tt)*])*
        pub struct $name:ident = $kind:literal { $($fields:tt)* }
        $($check:tt)*
    ) => {
        $crate::hyper_parameters! {
            $(#[$($outer)*])*
            pub struct $name { $($fields)* }
            $($check)*
        }

        impl $crate::config::hyper::HyperParameters for $name {
            const KIND: &'static str = $kind;

            fn validate(&self) -> $crate::error::Result<()> {
                self.in_range()
            }

            fn learning_rate(&self) -> f64 {
                self.lr
            }

            fn set_learning_rate(&mut self, lr: f64) {
                self.lr = lr;
            }
        }
    };
    (
        $(#[$($outer:tt)*])*
        pub struct $name:ident {
            $($(#[$($attribute:tt)*])* pub $field:ident: $type:ty = $default:expr $(, $range:expr)?;)*
        }
        $(check |$config:ident| $check:block)?
    ) => {
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        $(#[$($outer)*])*
        pub struct $name { $($(#[$($attribute)*])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),* }
            }
        }

        #[allow(dead_code)] // some are documented where they are used
        impl $name {
            #[doc(hidden)]
            pub const SETTINGS: $crate::config::documented::Settings =
                &[$((stringify!($field), &[$($crate::hyper_parameters!(@line $($attribute)*)),*])),*];

            /// `Ok` if every field lies in its range.
            ///
            /// # Errors
            /// For the first that does not.
            pub fn in_range(&self) -> $crate::error::Result<()> {
                $($(($range)(stringify!($field), self.$field)?;)?)*
                $(
                    fn together($config: &$name) -> $crate::error::Result<()> $check
                    together(self)?;
                )?
                Ok(())
            }
        }
    };
    (@line doc = $line:literal) => { $line };
    (@line $($other:tt)*) => { "" };
}

/// The fields of a struct, each with the lines of its documentation.
pub type Settings = &'static [(&'static str, &'static [&'static str])];

/// The documentation of a configuration's optimizer.
#[diagnostic::on_unimplemented(
    message = "the optimizer of `{Self}` keeps no documentation",
    note = "name it in `optimizer! {{ pub type Name = Driver<{Self}>; }}`, and define the struct in `hyper_parameters! {{ }}`"
)]
pub trait Documented {
    /// What `optimizer!` has kept.
    const DOCUMENTATION: Documentation;
}

/// What an optimizer and its settings are documented with.
#[derive(Clone, Copy)]
pub struct Documentation {
    /// The optimizer's lines, as rustdoc has them.
    pub lines: &'static [&'static str],
    /// Its settings, and those of settings that have some, by dotted path.
    pub parts: &'static [(&'static str, Settings)],
}

/// Names of the optimizers' types and kinds.
type Names = [(&'static str, &'static str)];

impl Documentation {
    /// What is said of the optimizer.
    pub fn about(self, names: &Names) -> String {
        about(self.lines, names)
    }

    /// What is said of the setting at a dotted path.
    pub fn of_setting(self, path: &str, names: &Names) -> Option<String> {
        let (part, field) = path.rsplit_once('.').unwrap_or(("", path));
        let (_, settings) = self.parts.iter().find(|(name, _)| *name == part)?;
        let (_, lines) = settings.iter().find(|(name, _)| *name == field)?;
        Some(about(lines, names))
    }
}

/// Everything before the example, without rustdoc's marks: paragraphs of a line each, formulas indented.
fn about(lines: &[&str], names: &Names) -> String {
    let mut text = String::new();
    let mut formula = false;
    for line in lines {
        let line = line.strip_prefix(' ').unwrap_or(line).trim_end();
        match line {
            "```text" => formula = true,
            "```" if formula => formula = false,
            _ if line.starts_with("```") => break,
            "" => text.push_str(if text.ends_with("\n\n") { "" } else { "\n\n" }),
            _ if formula => text.extend(["    ", line, "\n"]),
            _ => {
                text.push_str(if text.is_empty() || text.ends_with('\n') { "" } else { " " });
                text.push_str(&without_marks(line, names));
            }
        }
    }
    let text = text.replace("\n\n\n", "\n\n");
    text.trim_end().to_owned()
}

/// Links to an optimizer become the name it has in a file (`adam`), other links their text; \\[ → [; \*title\* → title.
fn without_marks(line: &str, names: &Names) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, link)) = rest.split_once("[`") {
        let Some((name, after)) = link.split_once("`]") else { break };
        let kind = names.iter().find(|(of_type, _)| *of_type == name);
        text.extend([before, "`", kind.map_or(name, |(_, kind)| *kind), "`"]);
        rest = match after.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, after)) => after,
            None => after,
        };
    }
    text.push_str(rest);
    text.replace("\\[", "[").replace("\\]", "]").replace(" *", " ").replace("*, ", ", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_examples_are_left_out() {
        let text = "Adam: see [`Lion`],\n[`max_dim`](ShampooConfig::max_dim) in \\[0, 1).\n\n```text\nm ← x\n```\n\nReference: *A Title*, 2026.\n\n```\nlet a;\n```";
        let lines: Vec<String> = text.lines().map(|line| format!(" {line}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let expected = "Adam: see `lion`, `max_dim` in [0, 1).\n\n    m ← x\n\nReference: A Title, 2026.";
        assert_eq!(about(&lines, &[("Lion", "lion")]), expected);
    }
}
