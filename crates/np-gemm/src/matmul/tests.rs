//! The order of summation, held to plain loops, and the sizes.
#![allow(clippy::unwrap_used)]

use super::*;

/// Numbers in [−1, 1) without a pattern, from a linear congruential generator (Knuth's MMIX constants).
fn numbers<T: Number>(n: usize, seed: u64) -> Vec<T> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        T::from_f64((state >> 40) as f64 / f64::from(1 << 23) - 1.0)
    };
    (0..n).map(|_| next()).collect()
}

trait Number: Real {
    fn from_f64(x: f64) -> Self;
    fn bits(self) -> u64;
}

macro_rules! number {
    ($t:ident) => {
        impl Number for $t {
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            fn bits(self) -> u64 {
                u64::from(self.to_bits())
            }
        }
    };
}
number!(f32);
number!(f64);

/// An operand as layers have them: as it lies, or the transpose of what lies there.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lies {
    Rows,
    Columns,
}

fn operand<T: Number>(data: &[T], rows: usize, cols: usize, lies: Lies) -> Matrix<'_, T> {
    match lies {
        Lies::Rows => Matrix::new(data, rows, cols).unwrap(),
        Lies::Columns => Matrix::new(data, cols, rows).unwrap().t(),
    }
}

/// One sum along `range`, from zero; `first` is what the first product is added to.
fn chain<T: Number>(a: &[T], b: &[T], first: Option<T>) -> T {
    let mut sum = first;
    for (a, b) in a.iter().zip(b) {
        sum = Some(match sum {
            None => a.mul(*b),
            Some(sum) => a.fma(*b, sum),
        });
    }
    sum.unwrap_or_default()
}

/// Sums in `lanes` lanes of the part of a and b that fills them, by lane.
fn in_lanes<T: Number>(a: &[T], b: &[T], lanes: usize) -> Vec<T> {
    let mut sums = vec![T::default(); lanes];
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        sums[i % lanes] = a.fma(*b, sums[i % lanes]);
    }
    sums
}

/// Element by element what the crate's page says.
fn reference<T: Number>(dst: &mut [T], mode: Destination, scale: T, lhs: Matrix<'_, T>, rhs: Matrix<'_, T>) {
    let (m, k, n) = (lhs.rows(), lhs.cols(), rhs.cols());
    let sequential = lhs.col_stride == 1 && rhs.row_stride == 1;
    for (i, out) in dst.iter_mut().enumerate() {
        let a: Vec<T> = (0..k).map(|p| lhs.at(i / n, p)).collect();
        let b: Vec<T> = (0..k).map(|p| rhs.at(p, i % n)).collect();
        let mut old = (mode == Destination::Add).then_some(*out);
        let mut put = |sum: T| {
            old = Some(match old {
                Some(old) => scale.fma(sum, old),
                None => scale.mul(sum),
            });
        };
        if sequential && m * n <= 256 {
            for (a, b) in a.chunks(1024).zip(b.chunks(1024)) {
                let mut sums = in_lanes(a, b, T::LANES);
                while sums.len() > 1 {
                    let half = sums.len() / 2;
                    sums = (0..half).map(|l| sums[l].add(sums[l + half])).collect();
                }
                put(sums[0]);
            }
        } else if k <= 2 {
            // Neither fused nor summed first.
            for (a, b) in a.iter().zip(&b) {
                let product = if n == 1 { a.mul(b.mul(scale)) } else { a.mul(scale).mul(*b) };
                old = Some(match old {
                    None => product,
                    Some(old) => product.add(old),
                });
            }
        } else if sequential && (m == 1 || n == 1) {
            let (full, rounds) = (k / (8 * T::LANES) * 8 * T::LANES, k / T::LANES * T::LANES);
            let wide = in_lanes(&a[..full], &b[..full], 8 * T::LANES);
            let mut groups: Vec<Vec<T>> = wide.chunks(T::LANES).map(<[T]>::to_vec).collect();
            while groups.len() > 1 {
                groups = groups.chunks(2).map(|g| g[0].iter().zip(&g[1]).map(|(x, y)| x.add(*y)).collect()).collect();
            }
            let mut lanes = groups.remove(0);
            for p in full..rounds {
                lanes[p % T::LANES] = a[p].fma(b[p], lanes[p % T::LANES]);
            }
            let sum = lanes[1..].iter().fold(lanes[0], |sum, x| sum.add(*x));
            let sum = chain(&a[rounds..], &b[rounds..], Some(sum)).mul(scale);
            old = Some(old.map_or(sum, |old| sum.add(old)));
        } else if m == 1 || n == 1 {
            let scaled: Vec<T> = if n == 1 { b.iter() } else { a.iter() }.map(|x| x.mul(scale)).collect();
            old = Some(if n == 1 { chain(&a, &scaled, old) } else { chain(&scaled, &b, old) });
        } else {
            let piece = if m <= 64 && n <= 64 { 512 } else { k.div_ceil(k.div_ceil(512)) };
            for (a, b) in a.chunks(piece).zip(b.chunks(piece)) {
                put(chain(a, b, None));
            }
        }
        *out = old.unwrap_or(T::default());
    }
}

/// Rows, inner dimension, columns: the protocol's layers and their gradients, of ResNet-18, of one row or column, around every bound of the order.
const SHAPES: [[usize; 3]; 33] = [
    [128, 784, 70],
    [128, 256, 10],
    [96, 784, 65],
    [24, 256, 10],
    [24, 784, 60],
    [8, 2050, 10],
    [16, 256, 16],
    [17, 100, 16],
    [65, 128, 384],
    [10, 128, 256],
    [10, 1000, 65],
    [66, 783, 67],
    [37, 1030, 65],
    [65, 63, 63],
    [64, 513, 64],
    [64, 514, 64],
    [64, 1026, 20],
    [65, 513, 64],
    [65, 514, 3],
    [64, 1537, 65],
    [300, 1, 70],
    [300, 2, 70],
    [300, 3, 70],
    [1, 784, 300],
    [1, 70, 300],
    [300, 784, 1],
    [300, 1029, 1],
    [1, 5, 1],
    [1, 1, 1],
    [3, 5, 2],
    [257, 3, 1],
    [64, 576, 90],
    [70, 4608, 16],
];

fn follows_the_order<T: Number>() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for [m, k, n] in SHAPES {
        let (a, b, old) = (numbers::<T>(m * k, 1), numbers::<T>(k * n, 2), numbers::<T>(m * n, 3));
        for (l, r) in [
            (Lies::Rows, Lies::Rows),
            (Lies::Rows, Lies::Columns),
            (Lies::Columns, Lies::Rows),
            (Lies::Columns, Lies::Columns),
        ] {
            let (lhs, rhs) = (operand(&a, m, k, l), operand(&b, k, n, r));
            for (mode, scale) in [(Destination::Overwrite, 1.0), (Destination::Add, 1.0), (Destination::Add, -0.37)] {
                let scale = T::from_f64(scale);
                let mut expected = old.clone();
                reference(&mut expected, mode, scale, lhs, rhs);
                for threads in [1, 3] {
                    let mut out = old.clone();
                    pool.install(|| matmul_on(&mut out, mode, scale, lhs, rhs, threads)).unwrap();
                    let at = expected.iter().zip(&out).position(|(x, y)| x.bits() != y.bits());
                    let what = format!("{m} × {k} × {n}, {l:?} {r:?}, {mode:?}, scale {scale:?}, {threads} threads");
                    assert!(at.is_none(), "{what}: element {at:?}, {:?}", at.map(|i| (expected[i], out[i])));
                }
            }
        }
    }
}

#[test]
fn the_order_is_the_one_that_is_written_f32() {
    if fuses() {
        follows_the_order::<f32>();
    }
}

#[test]
fn the_order_is_the_one_that_is_written_f64() {
    if fuses() {
        follows_the_order::<f64>();
    }
}

/// Whether this is a CPU for which the order is promised.
fn fuses() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

#[test]
fn products_are_those_of_three_loops() {
    for [m, k, n] in SHAPES {
        let (a, b) = (numbers::<f64>(m * k, 4), numbers::<f64>(k * n, 5));
        let (lhs, rhs) = (Matrix::new(&a, m, k).unwrap(), Matrix::new(&b, k, n).unwrap());
        let mut out = vec![1.0; m * n];
        matmul(&mut out, Destination::Add, 1.0, lhs, rhs).unwrap();
        for (i, out) in out.iter().enumerate().step_by(7) {
            let sum: f64 = (0..k).map(|p| lhs.at(i / n, p) * rhs.at(p, i % n)).sum();
            // Sums of at most 4608 products below 1 in size: errors below 4608² · 2⁻⁵³ < 1e-8.
            assert!((out - 1.0 - sum).abs() < 1e-8, "{m} × {k} × {n}: {out} and {}", 1.0 + sum);
        }
    }
}

#[test]
fn sizes_that_do_not_fit_are_errors() {
    let data = [1f32; 6];
    let m = Matrix::new(&data, 2, 3).unwrap();
    let mut dst = [0f32; 4];
    let error = matmul(&mut dst, Destination::Overwrite, 1.0, m, m).unwrap_err();
    assert_eq!(error.to_string(), "a product of 2 × 3 and 2 × 3 into 4 elements");
    assert!(matmul(&mut dst[..3], Destination::Overwrite, 1.0, m, m.t()).is_err());
    assert!(matmul(&mut dst, Destination::Overwrite, 1.0, m, m.t()).is_ok());
    assert_eq!(dst, [3.0; 4]);
}

#[test]
fn a_product_over_nothing_is_zero_or_the_old_value() {
    let nothing: [f64; 0] = [];
    let (a, b) = (Matrix::new(&nothing, 2, 0).unwrap(), Matrix::new(&nothing, 0, 3).unwrap());
    let mut dst = [5.0; 6];
    matmul(&mut dst, Destination::Add, 1.0, a, b).unwrap();
    assert_eq!(dst, [5.0; 6]);
    matmul(&mut dst, Destination::Overwrite, 1.0, a, b).unwrap();
    assert_eq!(dst, [0.0; 6]);
    matmul(
        &mut [],
        Destination::Overwrite,
        1.0,
        Matrix::new(&nothing, 0, 2).unwrap(),
        Matrix::new(&[1.0; 4], 2, 2).unwrap(),
    )
    .unwrap();
}
