//! A rule written outside the crate, with nothing but what is public: SGD with momentum on tensors, held to the crate's own.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use np_core::{
    Apply, Buffer, Driver, Error, HyperParameters, Options, ParamStep, Result, Rule, Sgd, SgdConfig, StepContext,
    StepInput,
};

/// B ← μ B + g, θ ← θ − η B.
#[derive(Debug, Clone)]
struct HeavyBall {
    lr: f64,
    momentum: f64,
}

impl HyperParameters for HeavyBall {
    const KIND: &'static str = "heavy_ball";

    fn validate(&self) -> Result<()> {
        let bad = |key: &str, x: f64| Error::Config { key: key.into(), expected: "≥ 0".into(), got: x.to_string() };
        if self.lr >= 0.0 { Ok(()) } else { Err(bad("lr", self.lr)) }
    }

    fn learning_rate(&self) -> f64 {
        self.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.lr = lr;
    }
}

impl Rule for HeavyBall {
    type Memory = ();

    fn buffers(&self, _: &[usize]) -> Vec<Buffer> {
        vec!["momentum_buffer".into()]
    }

    fn directions(&self, _: &StepContext, work: &mut [ParamStep<'_>], (): &mut ()) -> Result<Vec<Apply>> {
        work.iter_mut()
            .map(|w| {
                let momentum = ((&w.buffers()?[0] * self.momentum)? + w.gradient()?)?;
                w.set_buffer(0, &momentum)?;
                w.set_direction(&momentum)?;
                Ok(Apply { keep: 1.0, factor: w.lr() })
            })
            .collect()
    }
}

fn parameter(dtype: DType) -> Var {
    Var::from_tensor(&Tensor::new(&[[1.0, -2.0, 0.5]], &Device::Cpu).unwrap().to_dtype(dtype).unwrap()).unwrap()
}

fn loss(w: &Var) -> Tensor {
    w.as_tensor().powf(4.0).unwrap().sum_all().unwrap()
}

#[test]
fn a_rule_of_ones_own_is_driven_like_the_crates() {
    let options = || serde_json::from_str::<Options>(r#"{"clip": {"value": 0.7}, "accumulate": 2}"#).unwrap();
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        let (own, theirs) = (parameter(dtype), parameter(dtype));
        let rule = HeavyBall { lr: 0.05, momentum: 0.9 };
        let mut a = Driver::from_named(vec![("w".into(), own.clone())], rule).unwrap().with_options(options()).unwrap();
        let config = SgdConfig { lr: 0.05, momentum: 0.9, ..SgdConfig::default() };
        let mut b = Sgd::from_named(vec![("w".into(), theirs.clone())], config).unwrap();
        b.set_options(options()).unwrap();
        for step in 0..6 {
            if step == 4 {
                let state = a.state().unwrap();
                a.load_state(&state).unwrap();
            }
            a.backward_step_report(&loss(&own)).unwrap();
            b.backward_step_report(&loss(&theirs)).unwrap();
        }
        let bits = |w: &Var| w.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(bits(&own), bits(&theirs), "{dtype:?}");
        assert_eq!((a.steps(), a.config().step_input()), (3, StepInput::Gradients));
    }
}

/// Returns a direction of another shape than the parameter's.
#[derive(Debug, Clone)]
struct Wrong;

impl HyperParameters for Wrong {
    const KIND: &'static str = "wrong";

    fn validate(&self) -> Result<()> {
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        0.1
    }

    fn set_learning_rate(&mut self, _: f64) {}
}

impl Rule for Wrong {
    type Memory = ();

    fn buffers(&self, _: &[usize]) -> Vec<Buffer> {
        vec![]
    }

    fn directions(&self, _: &StepContext, work: &mut [ParamStep<'_>], (): &mut ()) -> Result<Vec<Apply>> {
        let u = Tensor::new(&[1f32], &Device::Cpu)?;
        work.iter_mut().try_for_each(|w| w.set_direction(&u))?;
        Ok(vec![])
    }
}

#[test]
fn a_direction_that_does_not_fit_is_an_error() {
    let w = parameter(DType::F32);
    let mut optimizer = Driver::from_named(vec![("fc".into(), w.clone())], Wrong).unwrap();
    let error = optimizer.backward_step_report(&loss(&w)).unwrap_err();
    assert_eq!(error.to_string(), "state `fc.direction`: expected shape [1, 3], got shape [1]");
    assert_eq!(w.to_vec2::<f32>().unwrap(), [[1.0, -2.0, 0.5]]);
}
