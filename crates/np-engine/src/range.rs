//! The range of a state's number type, and whether the squares of a gradient fit in it.

use candle_core::DType;
use np_trace::tensors::largest;

use crate::error::{Error, Result};
use crate::state::compute_dtype;

/// The largest norm of a gradient whose squares fit in the state of a parameter of this type, with room for what a step adds to them.
pub(crate) fn most(dtype: DType) -> f64 {
    0.25 * largest(dtype).sqrt()
}

/// Checks that the squares of a gradient of this norm fit in the state; the error names the parameter.
///
/// # Errors
/// [`Error::Gradient`] if they do not.
pub fn squarable(name: &str, dtype: DType, norm: f64) -> Result<()> {
    let most = most(dtype);
    if norm > most || norm.is_nan() {
        let dtype = compute_dtype(dtype).as_str();
        let expected = format!("a norm of at most {most:.1e}, the squares being kept in {dtype}");
        let got = format!("a norm of {norm:.1e}; hint: `clip` gradients, or scale the loss down");
        return Err(Error::Gradient { name: name.to_string(), expected, got });
    }
    Ok(())
}
