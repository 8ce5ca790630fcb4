//! Seeded initial values, with the same bits on every machine and device.

use candle_core::{DType, Device, Shape, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::Result;

/// Draws the initial values of a model's tensors, with a ChaCha stream for each tensor.
///
/// Tensor number n (from 0, in the order of the calls) is filled in row-major order from
/// `ChaCha8Rng::seed_from_u64(seed)` with `set_stream(n)`. Its values depend only on the seed and n, not on the sizes of
/// the tensors before it.
///
/// A uniform number x comes from the upper 24 bits of a 32-bit word r:
///
/// ```text
/// u = (r >> 8) · 2⁻²⁴          0 ≤ u < 1
/// x = (2u − 1) · bound        −bound ≤ x < bound
/// ```
///
/// u and 2u − 1 are exact in `f32`, so x is rounded once.
///
/// Normal numbers come from pairs of words by Marsaglia's polar method in `f64`: a = 2u₁ − 1, b = 2u₂ − 1, s = a² + b², drawn again
/// unless 0 < s < 1; the numbers are a t and b t with t = √(−2 ln s / s). The logarithm is computed from sums, products and a quotient, because
/// the results of mathematical libraries differ in the last bit.
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
    /// An initializer whose next tensor has number 0.
    pub fn new(seed: u64) -> Self {
        Self { seed, tensors: 0 }
    }

    /// The next tensor, uniform in [−`bound`, `bound`). Drawn in `f32` on the CPU, then converted to `dtype` and moved to `device`.
    ///
    /// # Errors
    ///
    /// Those of candle, such as a device out of memory.
    pub fn uniform(&mut self, shape: impl Into<Shape>, bound: f64, dtype: DType, device: &Device) -> Result<Tensor> {
        let shape = shape.into();
        let mut rng = self.stream();
        let bound = bound as f32;
        let values: Vec<f32> = (0..shape.elem_count()).map(|_| symmetric_unit(rng.next_u32()) * bound).collect();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(device)?.to_dtype(dtype)?)
    }

    /// The next tensor, from N(0, `std`²). Drawn in `f64`, rounded to `f32`, then converted to `dtype` and moved to `device`.
    ///
    /// # Errors
    ///
    /// As [`Self::uniform`].
    pub fn normal(&mut self, shape: impl Into<Shape>, std: f64, dtype: DType, device: &Device) -> Result<Tensor> {
        let shape = shape.into();
        let mut rng = self.stream();
        let n = shape.elem_count();
        let pairs = std::iter::repeat_with(|| normal_pair(&mut rng));
        let mut values = Vec::with_capacity(n);
        values.extend(pairs.flatten().map(|z| (z * std) as f32).take(n));
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(device)?.to_dtype(dtype)?)
    }

    /// The generator of the next tensor.
    fn stream(&mut self) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.tensors);
        self.tensors += 1;
        rng
    }
}

/// Two independent standard normal numbers.
fn normal_pair(rng: &mut ChaCha8Rng) -> [f64; 2] {
    loop {
        let [a, b] = [rng.next_u32(), rng.next_u32()].map(|word| f64::from(symmetric_unit(word)));
        let s = a * a + b * b;
        if s > 0.0 && s < 1.0 {
            let t = (-2.0 * ln(s) / s).sqrt();
            return [a * t, b * t];
        }
    }
}

/// The natural logarithm of a normal, positive number, within 10⁻¹⁵ of it: ln(2ᵉ m) = e ln 2 + 2 artanh((m − 1)/(m + 1)).
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = f64::from((bits >> 52) as i32 - 1023);
    let mut mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    let z = (mantissa - 1.0) / (mantissa + 1.0); // |z| < 0.172, so z²³ is below 10⁻¹⁷
    let series = (0..11).rev().fold(0.0, |sum, i| sum * z * z + 1.0 / f64::from(2 * i + 1));
    exponent * std::f64::consts::LN_2 + 2.0 * z * series
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
    fn the_logarithm_is_that_of_the_standard_library() {
        let mut x = f64::MIN_POSITIVE;
        while x < 1e3 {
            // A few roundings of a sum whose parts are at most 710.
            assert!((ln(x) - x.ln()).abs() <= 4.0 * f64::EPSILON * x.ln().abs().max(1.0), "{x}");
            x *= 1.013;
        }
    }

    #[test]
    fn moments_are_those_of_the_normal_distribution() {
        let n = 200_000;
        let z = Initializer::new(3).normal(n, 1.0, DType::F32, &Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
        let moment = |p: i32| z.iter().map(|&v| f64::from(v).powi(p)).sum::<f64>() / n as f64;
        // Moments 0, 1, 0, 3 with variances 1, 2, 15, 96; four standard errors.
        for (p, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0f64)] {
            let tolerance = 4.0 * (variance / n as f64).sqrt();
            assert!((moment(p) - expected).abs() < tolerance, "moment {p}: {}", moment(p));
        }
        // P(|z| > 2) = 0.0455; four standard errors.
        let tail = z.iter().filter(|v| v.abs() > 2.0).count() as f64 / n as f64;
        assert!((tail - 0.0455).abs() < 4.0 * (0.0455 * 0.9545 / n as f64).sqrt(), "{tail}");
        let shorter = Initializer::new(3).normal(7, 1.0, DType::F32, &Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(shorter, z[..7]);
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
