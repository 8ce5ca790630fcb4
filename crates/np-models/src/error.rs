//! The errors of this crate: what was wrong, what was expected, what came. [`Error::hint`] says what mends it.

/// Result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of building or running a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of a configuration, or an argument of a constructor, is out of range.
    #[error("`{field}` must be {expected}, got `{got}`")]
    Config {
        /// The field, with its index where it is a list: `hidden[2]`.
        field: String,
        /// The values that are allowed.
        expected: String,
        /// The value that was given.
        got: String,
    },
    /// A tensor has the wrong shape or element type.
    #[error("{what} must be {expected}, got {got}")]
    Input {
        /// The tensor: `logits`, `labels`, `the input of a layer`.
        what: &'static str,
        /// The required shape or element type.
        expected: String,
        /// The shape or element type that was given.
        got: String,
    },
    /// A tensor of a checkpoint does not fit the model.
    #[error("tensor `{name}` must be {expected}, got {got}")]
    Tensor {
        /// The tensor's name: `layer2.0.conv1.weight`.
        name: String,
        /// The shape and type that the model needs.
        expected: String,
        /// The shape and type in the checkpoint.
        got: String,
    },
    /// A recorder was given to a model or layer that does not support it.
    #[error("{what} keeps no records of its layers, got a recorder")]
    Unrecorded {
        /// The model, by its title, or the layer.
        what: String,
    },
    /// A device has too little memory.
    #[error("the device has {free} MiB of memory free, and the model needs {plan}")]
    Memory {
        /// Free memory in MiB.
        free: u64,
        /// The memory that the model needs.
        plan: crate::cuda::MemoryPlan,
        /// How to use less.
        hint: &'static str,
    },
    /// An error of the device, its driver or its libraries.
    #[error(transparent)]
    Device(#[from] np_cuda::Error),
    /// An error of candle, such as out of memory.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// For `?` in code that returns candle's errors, such as the closures of its `Func`.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match (error.hint(), error) {
            (_, Error::Candle(error)) => error,
            (Some(hint), other) => Self::wrap(format!("{other}\nhint: {hint}")),
            (None, other) => Self::wrap(other),
        }
    }
}

impl Error {
    /// What mends it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Tensor { .. } => Some("a checkpoint fits only a model of the same kind, width, channels and classes"),
            Self::Unrecorded { .. } => Some("`Mlp` keeps them, on a CPU in `f32` and `f64`"),
            Self::Memory { hint, .. } => Some(*hint),
            Self::Config { .. } | Self::Input { .. } | Self::Device(_) | Self::Candle(_) => None,
        }
    }

    pub(crate) fn config(field: impl Into<String>, expected: impl Into<String>, got: impl ToString) -> Self {
        Self::Config { field: field.into(), expected: expected.into(), got: got.to_string() }
    }

    pub(crate) fn tensor(name: impl Into<String>, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Tensor { name: name.into(), expected: expected.into(), got: got.into() }
    }

    pub(crate) fn input(what: &'static str, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Input { what, expected: expected.into(), got: got.into() }
    }
}
