//! Exponential averages, and their bias correction.

use np_trace::Number;

/// a ← β a + (1 − β) x.
#[derive(Debug, Clone, Copy)]
pub struct Average<T> {
    keep: T,
    add: T,
}

impl<T: Number> Average<T> {
    pub(crate) fn new(beta: f64) -> Self {
        Self { keep: T::from_f64(beta), add: T::from_f64(1.0 - beta) }
    }

    /// The average `a` with `x` in it.
    #[inline(always)]
    pub(crate) fn of(self, a: T, x: T) -> T {
        self.keep * a + self.add * x
    }
}

/// 1 − βᵗ: what an average that started from zero is divided by.
pub(crate) fn correction(beta: f64, t: i32) -> f64 {
    1.0 - beta.powi(t)
}

/// xᵏ of a whole k from 0 to 2³¹ − 1, by squaring: with the bits of `powi`, in numbers that cannot be branched on.
pub(crate) fn power<N: Number>(x: N, k: N) -> N {
    const BITS: usize = 31;
    let mut places = [N::ONE; BITS];
    for i in 1..BITS {
        places[i] = places[i - 1] + places[i - 1];
    }
    let (mut bits, mut left) = ([N::ZERO; BITS], k);
    for i in (0..BITS).rev() {
        bits[i] = N::select_lt(left, places[i], N::ZERO, N::ONE);
        left = N::select_lt(left, places[i], left, left - places[i]);
    }
    let (mut square, mut product) = (x, N::ONE);
    for bit in bits {
        product = N::select_lt(N::ZERO, bit, product * square, product);
        square = square * square;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_have_the_bits_of_powi() {
        for k in (0..300).chain([1000, 65_535, 65_536, i32::MAX]) {
            for x in [0.0, 0.5, 0.9, 0.999, std::hint::black_box(0.999_999)] {
                assert_eq!(power::<f64>(x, f64::from(k)).to_bits(), f64::powi(x, k).to_bits(), "{x} to the {k}");
            }
        }
    }
}
