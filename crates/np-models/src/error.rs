//! The errors of this crate: what was wrong, what was expected, what came.

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong when a model is built or run.
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
        /// The value that came.
        got: String,
    },
    /// A tensor has the wrong shape or element type.
    #[error("{what} must be {expected}, got {got}")]
    Input {
        /// The tensor: `logits`, `labels`, `the input of a layer`.
        what: &'static str,
        /// The shape or element type that fits.
        expected: String,
        /// The shape or element type that came.
        got: String,
    },
    /// A tensor of a checkpoint does not fit the model.
    #[error(
        "tensor `{name}` must be {expected}, got {got}\nhint: a checkpoint fits only a model of the same kind, width, channels and classes"
    )]
    Tensor {
        /// The tensor's name: `layer2.0.conv1.weight`.
        name: String,
        /// What the model needs there.
        expected: String,
        /// What the checkpoint has.
        got: String,
    },
    /// Layers were to be recorded that keep no records.
    #[error(
        "{what} keeps no records of its layers, got a recorder\nhint: `Mlp` keeps them, on a CPU in `f32` and `f64`"
    )]
    Unrecorded {
        /// The model, by its title, or the layer.
        what: String,
    },
    /// A device has too little memory.
    #[error("the device has {free} MiB of memory free, and the model needs {plan}\nhint: {hint}")]
    Memory {
        /// MiB that are free.
        free: u64,
        /// What it needs.
        plan: crate::cuda::MemoryPlan,
        /// What takes less.
        hint: &'static str,
    },
    /// The device, its driver or its libraries refused.
    #[error(transparent)]
    Device(#[from] np_cuda::Error),
    /// candle failed: out of memory, a device error.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// So that `?` works in code that returns candle's errors, as the closures of its `Func` do.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            other => Self::wrap(other),
        }
    }
}

impl Error {
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
