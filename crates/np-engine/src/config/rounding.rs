//! How parameters in half precision are rounded after a step.

use candle_core::DType;
use serde::{Deserialize, Deserializer, Serialize};

/// How an `f16` or `bf16` parameter is rounded after a step; `f32` and `f64` parameters are not affected.
///
/// Steps are computed in `f32`, and the result is stored in half precision. `bf16` has 8 significant bits: an update smaller than 1/512 of the
/// parameter is rounded away at every step, and training stops long before it has converged. `f16` has 11 bits, and the limit is 1/4096.
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
    /// To the nearest number, ties to even. Costs nothing, and loses small updates. Default (PyTorch).
    #[default]
    Nearest,
    /// Up or down at random, with probabilities that make the expected value exact. Costs no memory. On devices other than the CPU the
    /// parameter is copied to the host and back at every step.
    Stochastic(Stochastic),
    /// To the nearest number; the rounding error is kept and added in the next step (Kahan summation). Costs one `f32` buffer of the
    /// parameter's shape, `compensation` in saved state. Parameter plus buffer is the parameter in `f32`.
    Compensated,
}

/// Settings of [`Rounding::Stochastic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stochastic {
    /// Seed. The random bits are a function of it, of the parameter's name and step count, and of the element's index. Default 0.
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
