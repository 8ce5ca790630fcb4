//! Where and how steps are computed.

/// How steps are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// In place on the CPU; on CUDA devices (with the feature `cuda`) launches for all parameters, of optimizers that treat every element alike, of LAMB, LARS and
    /// Prodigy, and of NeuroPlastic; tensor operations elsewhere.
    #[default]
    Auto,
    /// Tensor operations everywhere: what Metal uses, and CUDA where there are no launches. On the CPU it is slow, and serves to check one against the other.
    Tensors,
    /// As `Auto`, but rules that treat every element alike have their step recorded as an [expression](crate::traced), which is evaluated element by
    /// element on the CPU. Slow, and with the same bits: it checks what other devices' kernels are made of.
    Interpreted,
    /// As `Auto`, with every launch of a step on a CUDA device queued by itself. `Auto` replays those that are the same as in a step before, as one graph. The same numbers, and
    /// more work for the host: it checks what is replayed.
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
