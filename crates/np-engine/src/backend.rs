//! Where and how steps are computed.

/// How steps are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// The default. On the CPU, in place. On CUDA devices (feature `cuda`), kernels launched once for all parameters, for [`Elementwise`](crate::Elementwise)
    /// optimizers, LAMB, LARS, Prodigy and NeuroPlastic. Tensor operations otherwise.
    #[default]
    Auto,
    /// candle's tensor operations on every device. Metal, and CUDA where there is no kernel, compute this way under `Auto` too. On the CPU this
    /// is slow; it serves to check the two ways against each other.
    Tensors,
    /// As `Auto`, but on the CPU the step of an [`Elementwise`](crate::Elementwise) optimizer is recorded as an [expression](np_trace) and
    /// evaluated element by element. Slow, with the same bits as `Auto`: it checks the expressions that CUDA kernels are generated from.
    Interpreted,
    /// As `Auto`, but every kernel of a step on a CUDA device is launched separately. `Auto` replays repeated launches as one CUDA graph. Slower,
    /// with the same results as `Auto`: it checks the replay.
    OneByOne,
}

impl Backend {
    /// Whether steps on CUDA devices are launches.
    pub(crate) fn launches(self) -> bool {
        matches!(self, Self::Auto | Self::OneByOne)
    }

    /// How these launches are queued.
    #[cfg(feature = "cuda")]
    pub(crate) fn launching(self) -> np_cuda::Launching {
        match self {
            Self::OneByOne => np_cuda::Launching::Each,
            _ => np_cuda::Launching::Graph,
        }
    }
}
