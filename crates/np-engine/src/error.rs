//! Errors. Their messages name the key or parameter, what was expected and what was found.

/// Result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of an optimizer. Messages name the parameter or the key, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A hyper-parameter lies outside its range.
    #[error("`{key}`: expected {expected}, got `{got}`")]
    Config {
        /// Name of the field, dotted where nested (`coefficient.min`).
        key: String,
        /// The range or form that is allowed.
        expected: String,
        /// The value that was given.
        got: String,
    },
    /// A parameter cannot be optimised as it is.
    #[error("parameter `{name}`: expected {expected}, got {got}")]
    Parameter {
        /// Name of the parameter.
        name: String,
        /// What an optimizer needs.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// A gradient cannot be used: it does not fit its parameter, is not finite, or is too large.
    #[error("gradient of `{name}`: expected {expected}, got {got}")]
    Gradient {
        /// Name of the parameter.
        name: String,
        /// What a gradient must be.
        expected: String,
        /// What was found.
        got: String,
    },
    /// Saved state does not fit this optimizer, or a rule sets state or a direction of another shape.
    #[error("state `{name}`: expected {expected}, got {got}")]
    State {
        /// Name of the entry.
        name: String,
        /// What this optimizer would have saved.
        expected: String,
        /// What was found.
        got: String,
    },
    /// The code of an optimizer breaks a contract of this crate; its settings are not at fault.
    #[error("the code of `{name}`: expected {expected}, got {got}")]
    Rule {
        /// What is at fault: the optimizer's kind, a pass, or the rule of a parameter.
        name: String,
        /// What the contract asks for.
        expected: String,
        /// What was found.
        got: String,
    },
    /// A setting needs the total number of epochs, and [`crate::Driver::begin_epoch`] has not been called.
    #[error(
        "`{key}` depends on the share of training done, but the number of epochs was not given; hint: call `begin_epoch(epoch, epochs)`"
    )]
    NoEpochs {
        /// The setting that needs it.
        key: String,
    },
    /// A schedule with a warm-up needs the position in the training, and neither [`crate::Driver::begin_epoch`] nor
    /// [`crate::Driver::set_position`] has been called.
    #[error(
        "`{key}` warms up from 0, but where the training stands was not said; hint: call `begin_epoch(epoch, epochs)`, or `set_position(position)` before each step"
    )]
    NoPosition {
        /// The setting that needs it.
        key: String,
    },
    /// An error of candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<np_cuda::Error> for Error {
    fn from(e: np_cuda::Error) -> Self {
        candle_core::Error::wrap(e).into()
    }
}

impl From<Error> for candle_core::Error {
    fn from(e: Error) -> Self {
        match e {
            Error::Candle(e) => e,
            other => Self::wrap(other),
        }
    }
}

impl Error {
    /// The same, with the key below `parent`; without a key it is the parent's.
    pub fn below(self, parent: &str) -> Self {
        match self {
            Self::Config { key, expected, got } if key.is_empty() => {
                Self::Config { key: parent.to_string(), expected, got }
            }
            Self::Config { key, expected, got } => Self::Config { key: format!("{parent}.{key}"), expected, got },
            other => other,
        }
    }
}

/// `Ok` if `x` is a finite number that is not negative, else [`Error::Config`] for `key`.
///
/// # Errors
/// [`Error::Config`] if it is not.
pub fn not_negative(key: &str, x: f64) -> Result<()> {
    check(x.is_finite() && x >= 0.0, key, "a number ≥ 0", x)
}

/// `Ok` if `x` is finite and > 0.
///
/// # Errors
/// [`Error::Config`] if it is not.
pub fn positive(key: &str, x: f64) -> Result<()> {
    check(x.is_finite() && x > 0.0, key, "a number > 0", x)
}

/// `Ok` if `x` lies in [0, 1).
///
/// # Errors
/// [`Error::Config`] if it is not.
pub fn fraction(key: &str, x: f64) -> Result<()> {
    check((0.0..1.0).contains(&x), key, "a number in [0, 1)", x)
}

/// `Ok` if `x` lies in (0, 1).
///
/// # Errors
/// [`Error::Config`] if it is not.
pub fn open_fraction(key: &str, x: f64) -> Result<()> {
    check(x > 0.0 && x < 1.0, key, "a number in (0, 1)", x)
}

/// `Ok` if `x` lies in [0, 1].
///
/// # Errors
/// [`Error::Config`] if it is not.
pub fn unit(key: &str, x: f64) -> Result<()> {
    check((0.0..=1.0).contains(&x), key, "a number in [0, 1]", x)
}

/// `Ok` if `x` is finite and ≤ 0.
///
/// # Errors
/// [`Error::Config`] if it is not.
pub fn not_positive(key: &str, x: f64) -> Result<()> {
    check(x.is_finite() && x <= 0.0, key, "a number ≤ 0", x)
}

/// `Ok` if `x` is finite and ≥ 1.
///
/// # Errors
/// [`Error::Config`] if it is not.
pub fn one_or_more(key: &str, x: f64) -> Result<()> {
    check(x.is_finite() && x >= 1.0, key, "a number ≥ 1", x)
}

/// `Ok` if `n` ≥ 1.
///
/// # Errors
/// [`Error::Config`] if it is not.
pub fn at_least_one<N: From<u8> + PartialOrd + std::fmt::Display>(key: &str, n: N) -> Result<()> {
    check(n >= N::from(1), key, "a number ≥ 1", n)
}

/// `Ok` if there is no number, or one in `range`.
pub fn optional(range: impl Fn(&str, f64) -> Result<()>) -> impl Fn(&str, Option<f64>) -> Result<()> {
    move |key, x| x.map_or(Ok(()), |x| range(key, x))
}

/// `Ok` if `ok`, else [`Error::Config`] for `key`.
///
/// # Errors
/// [`Error::Config`] if it is not.
pub fn check(ok: bool, key: &str, expected: &str, got: impl std::fmt::Display) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::Config { key: key.to_string(), expected: expected.to_string(), got: got.to_string() })
}

/// `Ok` if `ok`, else [`Error::Rule`] for `name`, with what was expected and what was found. A step asks this for every parameter, so that nothing is written
/// down where all is well.
pub(crate) fn contract(ok: bool, name: &str, say: impl FnOnce() -> (String, String)) -> Result<()> {
    if ok {
        return Ok(());
    }
    let (expected, got) = say();
    Err(Error::Rule { name: name.to_string(), expected, got })
}
