//! Seeded initial values: the same bits on every machine, device and number of threads.

use candle_core::{DType, Device, Shape, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::Result;

/// Draws the initial values of a model's tensors, one ChaCha stream a tensor.
///
/// Tensor number n (from 0, in the order of the calls) is filled in row-major order from
/// `ChaCha8Rng::seed_from_u64(seed)` with `set_stream(n)`. A tensor's values depend on its number and the seed, not on the sizes of
/// the tensors before it.
///
/// A word r of 32 bits becomes a number through its upper 24 bits:
///
/// ```text
/// u = (r >> 8) · 2⁻²⁴          0 ≤ u < 1
/// x = (2u − 1) · bound        −bound ≤ x < bound
/// ```
///
/// u and 2u − 1 are exact in `f32`, so x is rounded once.
///
/// ```
/// use candle_core::{DType, Device};
/// use np_models::Initializer;
///
/// # fn main() -> np_models::Result<()> {
/// let mut init = Initializer::new(41);
/// let weight = init.uniform((2, 3), 0.5, DType::F32, &Device::Cpu)?; // stream 0
/// let bias = init.uniform(2, 0.5, DType::F32, &Device::Cpu)?; // stream 1
/// let again = Initializer::new(41).uniform((2, 3), 0.5, DType::F32, &Device::Cpu)?;
/// assert_eq!(weight.to_vec2::<f32>()?, again.to_vec2::<f32>()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Initializer {
    seed: u64,
    tensors: u64,
}

impl Initializer {
    /// Starts at tensor number 0.
    pub fn new(seed: u64) -> Self {
        Self { seed, tensors: 0 }
    }

    /// Fills the next tensor from U(−`bound`, `bound`); drawn in `f32` on the CPU, then moved to `dtype` and `device`.
    ///
    /// # Errors
    ///
    /// Those of candle: a device out of memory, an element type that is not a float's.
    pub fn uniform(&mut self, shape: impl Into<Shape>, bound: f64, dtype: DType, device: &Device) -> Result<Tensor> {
        let shape = shape.into();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.tensors);
        self.tensors += 1;
        let bound = bound as f32;
        let values: Vec<f32> = (0..shape.elem_count()).map(|_| symmetric_unit(rng.next_u32()) * bound).collect();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(device)?.to_dtype(dtype)?)
    }
}

/// 2u − 1 for u = (`word` >> 8) · 2⁻²⁴.
fn symmetric_unit(word: u32) -> f32 {
    const ULP: f32 = 1.0 / (1 << 23) as f32;
    (word >> 8) as f32 * ULP - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(initializer: &mut Initializer, n: usize) -> Vec<f32> {
        initializer.uniform(n, 1.0, DType::F32, &Device::Cpu).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_ends_of_the_range_are_exact() {
        assert_eq!(symmetric_unit(0), -1.0);
        assert_eq!(symmetric_unit(1 << 31), 0.0);
        assert_eq!(symmetric_unit(u32::MAX), 1.0 - 1.0 / 8_388_608.0);
    }

    #[test]
    fn a_tensor_does_not_depend_on_the_sizes_before_it() {
        let (mut a, mut b) = (Initializer::new(7), Initializer::new(7));
        let first = draw(&mut a, 1000);
        assert_eq!(draw(&mut b, 3), first[..3]);
        assert_eq!(draw(&mut a, 5), draw(&mut b, 5));
    }

    #[test]
    fn mean_and_variance_are_those_of_the_uniform_distribution() {
        let values = draw(&mut Initializer::new(1), 100_000);
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / 1e5;
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / 1e5;
        // Standard errors: √(1/3 / 10⁵) = 0.0018 for the mean, √(4/45 / 10⁵) = 0.00094 for the second moment; four of each.
        assert!(mean.abs() < 0.0073, "{mean}");
        assert!((variance - 1.0 / 3.0).abs() < 0.0038, "{variance}");
    }
}
