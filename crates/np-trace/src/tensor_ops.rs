//! Operations on tensors that treat NaN as the operations of [`crate::Number`] do. In candle's maximum and minimum this depends on the device.

use candle_core::{Result, Tensor};

/// The larger of two; `b` where `a` is not a number.
///
/// # Errors
/// If their shapes or types differ.
pub fn max(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.gt(b)?.where_cond(a, b)
}

/// `x` held between `lo` and `hi`; not-a-number stays what it is.
///
/// # Errors
/// Those of candle's operations.
pub fn clip(x: &Tensor, lo: f64, hi: f64) -> Result<Tensor> {
    let x = if lo == f64::NEG_INFINITY { x.clone() } else { x.lt(lo)?.where_cond(&fill(x, lo)?, x)? };
    if hi == f64::INFINITY { Ok(x) } else { x.gt(hi)?.where_cond(&fill(&x, hi)?, &x) }
}

/// `value` everywhere, of the type and shape of `x`.
///
/// # Errors
/// If the device of `x` has no such type.
pub fn fill(x: &Tensor, value: f64) -> Result<Tensor> {
    Tensor::new(value, x.device())?.to_dtype(x.dtype())?.broadcast_as(x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Number;
    use candle_core::Device;

    #[test]
    fn as_on_numbers() {
        let xs = [1.5f32, -2.0, 0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        let x = Tensor::new(&xs, &Device::Cpu).unwrap();
        let bits = |t: Tensor| t.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let of = |f: &dyn Fn(f32) -> f32| xs.iter().map(|x| f(*x).to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(clip(&x, -1.0, 1.0).unwrap()), of(&|x| x.clip(-1.0, 1.0)));
        for other in [0.5, f32::NAN, f32::INFINITY] {
            let y = fill(&x, f64::from(other)).unwrap();
            assert_eq!(bits(max(&x, &y).unwrap()), of(&|x| Number::max(x, other)));
            assert_eq!(bits(max(&y, &x).unwrap()), of(&|x| Number::max(other, x)));
        }
    }
}
