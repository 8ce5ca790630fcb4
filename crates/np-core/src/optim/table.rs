//! Enums of configurations, generated from the table of optimizers.

/// Defines an enum with a variant for each row, serialised under the row's kind.
macro_rules! config_enum {
    (
        $(#[$doc:meta])*
        $name:ident;
        $($variant:ident = $kind:literal => [$($path:tt)+] $config:ident {
            $label:literal, $family:literal, $title:literal, $state:literal, $when:literal, $reference:literal
        };)*
    ) => {
        tagged! {
            $(#[$doc])*
            ///
            /// | optimizer | kind | state a parameter | when to use it | reference |
            /// |---|---|---|---|---|
            $(#[doc = concat!("| [`", stringify!($variant), "`](crate::", stringify!($variant), ") | `", $kind, "` | ", $state, " | ", $when, " | ", $reference, " |")])*
            #[derive(Debug, Clone, PartialEq)]
            #[allow(clippy::large_enum_variant)] // a program holds a handful of them
            #[non_exhaustive]
            pub enum $name {
                $(#[doc = concat!("[`", stringify!($variant), "`](crate::", stringify!($variant), ").")] #[serde(rename = $kind)] $variant($crate::$($path)+::$config),)*
            }
        }

        #[allow(dead_code)] // one enum asks less of its rows than the other
        impl $name {
            /// Names of the optimizers' types and kinds.
            pub(crate) const NAMES: &'static [(&'static str, &'static str)] = &[$((stringify!($variant), $kind)),*];

            /// Names of all kinds.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// A configuration of each kind, with its defaults.
            #[must_use]
            pub fn defaults() -> Vec<Self> {
                vec![$(Self::$variant(<$crate::$($path)+::$config>::default())),*]
            }

            /// Name of this configuration's kind (`adamw`).
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind,)* }
            }

            /// The rule that it configures.
            pub(crate) fn rule(&self) -> &dyn $crate::any::rule::AnyRule {
                match self { $(Self::$variant(config) => config,)* }
            }

            /// η of its kind by default.
            pub(crate) fn default_learning_rate(&self) -> f64 {
                match self { $(Self::$variant(_) => <$crate::$($path)+::$config>::default().lr,)* }
            }

            /// The documentation of its optimizer and of its settings.
            pub(crate) fn documentation(&self) -> np_engine::config::documented::Documentation {
                match self { $(Self::$variant(_) => <$crate::$($path)+::$config as np_engine::config::documented::Documented>::DOCUMENTATION,)* }
            }
        }
    };
}

/// Makes types and configurations of the crate's root of the rows.
macro_rules! reexports {
    ($($variant:ident = $kind:literal => [$($path:tt)+] $config:ident { $($said:literal),* };)*) => {
        $(pub use $crate::$($path)+::{$config, $variant};)*
    };
}
