//! What a step says that it did.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use np_core::neuroplastic::{Coefficient, Granularity, Normalization, Signals};
use np_core::{
    AnyOptimizer, Backend, Lbfgs, LbfgsConfig, NeuroPlastic, NeuroPlasticConfig, SgdConfig, StepOutcome, StepReport,
};

use crate::common::variants;
use crate::{config, constant, numbers, options, var};

#[test]
fn a_step_that_updates_nothing_says_so() {
    for (name, config) in variants() {
        let w = var(&[1.0, 2.0]);
        let mut optimizer = config.build(vec![("w".into(), w.clone())]).unwrap();
        optimizer.begin_epoch(1, 2);
        assert_eq!(optimizer.last_report(), None, "{name}");
        let report = optimizer.step_report(&GradStore::default()).unwrap();
        assert_eq!((report.outcome, report.updated, report.absent), (StepOutcome::Unchanged, 0, 1), "{name}");
        assert_eq!(optimizer.last_report(), Some(report), "{name}");
        optimizer.set_options(options(r#"{"groups": [{"match": "w", "training": "frozen"}]}"#)).unwrap();
        let report = optimizer.step_report(&constant(&[(&w, 1.0)])).unwrap();
        assert_eq!((report.outcome, report.updated, report.absent), (StepOutcome::Unchanged, 0, 0), "{name}");
        optimizer.set_options(options(r#"{"accumulate": 2}"#)).unwrap();
        optimizer.step(&constant(&[(&w, 1.0)])).unwrap();
        assert_eq!(optimizer.last_report().unwrap().outcome, StepOutcome::Accumulated, "{name}");
        optimizer.step(&constant(&[(&w, 1.0)])).unwrap();
        assert_eq!(optimizer.last_report().unwrap().outcome, StepOutcome::Updated, "{name}");
    }
}

/// ½ Σ d w², d = 1, 10, …, and how often it was evaluated.
fn quadratic(w: &Var, evaluations: &mut usize) -> np_core::Result<(f64, GradStore)> {
    *evaluations += 1;
    let d = Tensor::new(&[1.0, 10.0], &Device::Cpu)?;
    let loss = ((w.as_tensor().sqr()? * d)?.sum_all()? * 0.5)?;
    Ok((loss.to_scalar()?, loss.backward()?))
}

fn lbfgs(w: &Var, config: LbfgsConfig) -> Lbfgs {
    Lbfgs::from_named(vec![("w".into(), w.clone())], config).unwrap()
}

/// The criteria of `torch.optim.LBFGS`: `tolerance_grad` on the largest element of the gradient, `tolerance_change` on parameters and loss.
#[test]
fn lbfgs_says_when_it_has_converged() {
    let w = var(&[1.0, 1.0]);
    let mut evaluations = 0;
    let mut optimizer = lbfgs(&w, LbfgsConfig { max_iterations: 2, ..Default::default() });
    let first = optimizer.step_with(&mut || quadratic(&w, &mut evaluations)).unwrap();
    assert_eq!((first.outcome, first.converged), (StepOutcome::Updated, false));
    let mut last = first;
    for _ in 0..10 {
        last = optimizer.step_with(&mut || quadratic(&w, &mut evaluations)).unwrap();
        if last.outcome == StepOutcome::Unchanged {
            break;
        }
    }
    // At the bottom one evaluation shows that there is nothing to do.
    assert!(last.converged && last.updated == 0, "{last:?}");
    let (at, before) = (numbers(&w), evaluations);
    let again = optimizer.step_with(&mut || quadratic(&w, &mut evaluations)).unwrap();
    assert_eq!((again, evaluations, numbers(&w)), (StepReport { ..last }, before + 1, at.clone()));
    // ½ Σ d w² is less than the 10⁻⁹ that the loss is allowed to change by.
    assert!(at.iter().zip([1.0, 10.0]).map(|(x, d)| 0.5 * d * x * x).sum::<f64>() < 1e-9, "{at:?}");

    // A gradient that is small enough from the start, by either way of stepping.
    let loose = LbfgsConfig { gradient_tolerance: 10.0, ..Default::default() };
    let w = var(&[0.5, -1.0]);
    let report = lbfgs(&w, loose.clone()).step_with(&mut || quadratic(&w, &mut evaluations)).unwrap();
    assert_eq!((report.outcome, report.converged, numbers(&w)), (StepOutcome::Unchanged, true, vec![0.5, -1.0]));
    let (_, grads) = quadratic(&w, &mut evaluations).unwrap();
    assert!(lbfgs(&w, loose).step_report(&grads).unwrap().converged);
    assert!(!lbfgs(&w, LbfgsConfig::default()).step_report(&grads).unwrap().converged);

    // Or a change that is: all of the first step changes the loss by less than a thousand.
    let w = var(&[1.0, 1.0]);
    let coarse = LbfgsConfig { change_tolerance: 1000.0, ..Default::default() };
    let report = lbfgs(&w, coarse).step_with(&mut || quadratic(&w, &mut evaluations)).unwrap();
    assert!(report.converged);
}

#[test]
fn a_line_search_that_fails_says_so() {
    // Gradients that point the wrong way: no step along them makes the loss smaller.
    let w = var(&[1.0, 1.0]);
    let mut evaluations = 0;
    let mut optimizer = lbfgs(&w, LbfgsConfig::default());
    let report = optimizer
        .step_with(&mut || {
            let (loss, grads) = quadratic(&w, &mut evaluations)?;
            let mut wrong = GradStore::default();
            let g = grads.get(w.as_tensor()).map(Tensor::neg).transpose()?;
            wrong.insert(w.as_tensor(), g.unwrap());
            Ok((loss, wrong))
        })
        .unwrap();
    assert_eq!((report.outcome, report.updated, report.converged), (StepOutcome::Stalled, 0, false));
    assert_eq!(optimizer.last_report(), Some(report));
    assert_eq!(numbers(&w), [1.0, 1.0]);
    // A rate of 0 is no failure.
    let mut still = lbfgs(&w, LbfgsConfig { lr: 0.0, ..Default::default() });
    let report = still.step_with(&mut || quadratic(&w, &mut evaluations)).unwrap();
    assert_eq!((report.outcome, report.converged), (StepOutcome::Unchanged, false));
}

/// Behind the interface for any kind is all that an optimizer itself can do.
#[test]
fn any_optimizer_has_a_drivers_methods() {
    let w = var(&[1.0]);
    let built = config(r#"{"sgd": {"lr": 0.5}}"#).build_on(vec![("w".into(), w.clone())], Backend::Auto).unwrap();
    let mut any: Box<dyn AnyOptimizer> = built;
    assert_eq!(any.names().collect::<Vec<_>>(), ["w"]);
    assert_eq!(any.any_config().downcast_ref::<SgdConfig>().map(|config| config.lr), Some(0.5));
    assert_eq!(format!("{any:?}"), "sgd(1 parameters, step 0)");
    let loss = (w.as_tensor().sqr().unwrap().sum_all().unwrap() * 0.5).unwrap();
    let report = any.backward_step_report(&loss).unwrap();
    assert_eq!((report.updated, any.steps(), numbers(&w)), (1, 1, vec![0.5]));
}

/// Sums of 4096 equal numbers of single precision, taken in single precision, are not 4096 times the number: their variance is taken about one of them.
#[test]
fn a_coefficient_for_a_tensor_has_no_deviation() {
    for scale in [0.3, 0.7, 1.1, 1.7] {
        let config = NeuroPlasticConfig {
            coefficient: Coefficient { granularity: Granularity::Tensor, ..Coefficient::default() },
            signals: Signals { normalization: Normalization::None, ..Signals::default() },
            ..NeuroPlasticConfig::default()
        };
        let numbers: Vec<f32> = (0..4096u16).map(|i| (f32::from(i % 61) / 30.0 - 1.0) * scale).collect();
        let w = Var::from_tensor(&Tensor::new(numbers, &Device::Cpu).unwrap()).unwrap();
        let named = vec![("w".to_string(), w.clone())];
        let mut optimizer = NeuroPlastic::with_backend(named, config, Backend::Tensors).unwrap();
        let loss = w.as_tensor().sqr().unwrap().sum_all().unwrap();
        optimizer.backward_step_report(&loss).unwrap();
        let found = optimizer.diagnostics();
        assert_eq!((found["alpha_std"], found["alpha_min"]), (0.0, found["alpha_max"]));
    }
}
