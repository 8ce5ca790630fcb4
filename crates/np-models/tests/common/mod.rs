//! What the tests of gradients share: inputs, and comparisons with other derivations and with finite differences.

use candle_core::{DType, Device, Result, Tensor, Var};
use np_models::Initializer;

pub(crate) fn uniform(shape: &[usize], seed: u64) -> Var {
    let values = Initializer::new(seed).uniform(shape, 1.0, DType::F64, &Device::Cpu).unwrap();
    Var::from_tensor(&values).unwrap()
}

/// A scalar that weighs every element differently, so that no gradient is symmetric by accident.
pub(crate) fn weighted_sum(y: &Tensor) -> Result<Tensor> {
    let weights =
        Tensor::arange(0., y.elem_count() as f64, y.device())?.reshape(y.shape())?.affine(0.37, 0.1)?.sin()?;
    (y * weights)?.sum_all()
}

pub(crate) fn values(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

pub(crate) fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.shape(), theirs.shape(), "{what}");
    for (i, (a, b)) in values(ours).into_iter().zip(values(theirs)).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{what}[{i}]: {a}, expected {b}");
    }
}

/// Compares the gradients of `ours` and `theirs` in all `vars`. Sums of at most 66 terms in f64: 1e-12 is 66² roundings.
pub(crate) fn assert_same_gradients(
    what: &str,
    vars: &[&Var],
    ours: impl Fn() -> Result<Tensor>,
    theirs: impl Fn() -> Result<Tensor>,
) {
    let (ours, theirs) = (ours().unwrap(), theirs().unwrap());
    assert_close(what, &ours, &theirs, 1e-12);
    let (ours, theirs) = (ours.backward().unwrap(), theirs.backward().unwrap());
    for (i, var) in vars.iter().enumerate() {
        let what = format!("{what}, gradient {i}");
        assert_close(&what, ours.get(var).expect("ours"), theirs.get(var).expect("candle's"), 1e-12);
    }
}

/// Compares the gradients of `f` in all `vars` with central differences of step 1e-6: truncation 1e-12 · |f'''|, rounding
/// 1e-16 / 1e-6 · |f|, with |f| below 100.
pub(crate) fn assert_finite_differences(what: &str, vars: &[&Var], f: impl Fn() -> Result<Tensor>) {
    const STEP: f64 = 1e-6;
    let gradients = f().unwrap().backward().unwrap();
    let at = |var: &Var, values: Vec<f64>| {
        var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
        f().unwrap().to_scalar::<f64>().unwrap()
    };
    for (v, var) in vars.iter().enumerate() {
        let start = values(var);
        let gradient = values(gradients.get(var).expect("a gradient"));
        // At most 40 elements of each, spread out.
        for i in (0..start.len()).step_by(start.len().div_ceil(40)) {
            let (mut up, mut down) = (start.clone(), start.clone());
            up[i] += STEP;
            down[i] -= STEP;
            let difference = (at(var, up) - at(var, down)) / (2.0 * STEP);
            assert!(
                (difference - gradient[i]).abs() < 1e-7,
                "{what}, d{v}[{i}]: {}, expected {difference}",
                gradient[i]
            );
        }
        at(var, start);
    }
}

/// The errors of this crate are not candle's; in a test, unwrap them.
pub(crate) fn ok<T>(result: np_models::Result<T>) -> Result<T> {
    Ok(result.unwrap())
}
