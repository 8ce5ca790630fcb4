//! How parameters in half precision are rounded after a step.

use candle_core::DType;
use serde::{Deserialize, Deserializer, Serialize};

/// How a parameter of `f16` or `bf16` is rounded after a step; others have nothing to round.
///
/// Steps are computed in `f32`, and the result is stored in half precision. A `bf16` has 8 bits: a change of less than 1/512 of a parameter is rounded away,
/// step after step, and training stands still long before it has converged (`f16`: 11 bits, 1/4096).
///
/// ```
/// # fn main() -> np_core::Result<()> {
/// use candle_core::{DType, Device, Var};
/// use np_core::{Options, Rounding, Sgd, SgdConfig};
/// for (rounding, expected) in [(Rounding::Nearest, 1.0), (Rounding::Compensated, 0.5)] {
///     let w = Var::ones(1, DType::BF16, &Device::Cpu)?;
///     let config = SgdConfig { lr: 0.0005, ..Default::default() };
///     let options = Options { rounding, ..Default::default() };
///     let mut sgd = Sgd::from_named(vec![("w".into(), w.clone())], config)?.with_options(options)?;
///     for _ in 0..1000 {
///         sgd.backward_step_report(&w.as_tensor().sum_all()?)?;
///     }
///     let got = w.to_dtype(DType::F32)?.to_vec1::<f32>()?[0];
///     assert!((got - expected).abs() < 0.002, "{got}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rounding {
    /// To the nearest number, ties to even: costs nothing, and loses small changes. Default (PyTorch).
    #[default]
    Nearest,
    /// Up or down by chance, so that the mean is right: costs no memory. On devices other than the CPU it goes by way of the host's memory.
    Stochastic(Stochastic),
    /// To the nearest number, and what that leaves out is kept for the next step (Kahan): a buffer of `f32` a parameter, `compensation` in saved state.
    /// Parameter and buffer together are the parameter in `f32`.
    Compensated,
}

/// Settings of [`Rounding::Stochastic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stochastic {
    /// Which random bits: they are a function of this, of the parameter's name and steps, and of the element's place. Default 0.
    pub seed: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Tagged {
    Nearest(Nothing),
    Stochastic(Stochastic),
    Compensated(Nothing),
}

impl<'de> Deserialize<'de> for Rounding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Ok(match crate::config::tagged::name_or_map(deserializer)? {
            Tagged::Nearest(Nothing {}) => Self::Nearest,
            Tagged::Stochastic(x) => Self::Stochastic(x),
            Tagged::Compensated(Nothing {}) => Self::Compensated,
        })
    }
}

impl Rounding {
    pub(crate) fn is_nearest(&self) -> bool {
        *self == Self::Nearest
    }

    /// Whether a parameter of this type keeps what rounding leaves out.
    pub(crate) fn compensates(self, dtype: DType) -> bool {
        self == Self::Compensated && is_half(dtype)
    }
}

pub(crate) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}
