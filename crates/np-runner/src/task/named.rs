//! Models of candle-nn and its kind, made trainable here: variables by name, in the order of definition, with seeded initial values.
//!
//! candle's own `VarMap` gives none of the three: it forgets the order, and draws from a generator that a CPU cannot seed.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::{Init, VarBuilder, init::NormalOrUniform, var_builder::SimpleBackend};
use np_models::Initializer;

use super::Trainable;

/// Names that candle-nn's layers give to what they keep besides parameters.
const BUFFERS: [&str; 2] = ["running_mean", "running_var"];

/// Variables in the making: a source of a [`VarBuilder`].
///
/// ```
/// use candle_core::{DType, Device};
/// use np_runner::{NamedVars, Trainable};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vars = NamedVars::new(41);
/// let layer = candle_nn::linear(4, 2, vars.builder(DType::F32, &Device::Cpu).pp("head"))?;
/// let model = vars.model("linear 4-2", layer);
/// let names: Vec<String> = model.parameters().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["head.weight", "head.bias"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct NamedVars(Arc<Mutex<Made>>);

struct Made {
    init: Initializer,
    vars: Vec<(String, Var)>,
}

impl NamedVars {
    /// No variables yet; their initial values will be those of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Made { init: Initializer::new(seed), vars: Vec::new() })))
    }

    /// What candle-nn's layers are built with.
    #[must_use]
    pub fn builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, device.clone())
    }

    /// The model that was built, with all its variables.
    pub fn model<M>(self, title: impl Into<String>, inner: M) -> VarModel<M> {
        let vars = self.0.lock().unwrap_or_else(PoisonError::into_inner).vars.clone();
        VarModel { title: title.into(), inner, vars }
    }
}

impl fmt::Debug for NamedVars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NamedVars")
    }
}

impl SimpleBackend for NamedVars {
    fn get(&self, shape: Shape, name: &str, hint: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, var)) = made.vars.iter().find(|(other, _)| other == name) {
            return match var.shape() == &shape {
                true => Ok(var.as_tensor().clone()),
                false => Err(candle_core::Error::Msg(format!("`{name}` is {:?}, asked for as {shape:?}", var.shape()))),
            };
        }
        let value = initial(&mut made.init, &shape, hint, dtype, device)?;
        let var = Var::from_tensor(&value)?;
        made.vars.push((name.to_owned(), var.clone()));
        Ok(var.as_tensor().clone())
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        Err(candle_core::Error::Msg(format!("`{name}` is asked for without a shape")))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).vars.iter().any(|(other, _)| other == name)
    }
}

/// The initial value that a layer asks for.
fn initial(
    init: &mut Initializer,
    shape: &Shape,
    hint: Init,
    dtype: DType,
    device: &Device,
) -> candle_core::Result<Tensor> {
    let told = |error: np_models::Error| candle_core::Error::Msg(error.to_string());
    // A constant takes no random numbers.
    let (dist, width, center) = match hint {
        Init::Const(value) => return Tensor::full(value, shape, device)?.to_dtype(dtype),
        Init::Uniform { lo, up } => (NormalOrUniform::Uniform, (up - lo) / 2.0, (up + lo) / 2.0),
        Init::Randn { mean, stdev } => (NormalOrUniform::Normal, stdev, mean),
        Init::Kaiming { dist, fan, non_linearity } => {
            let std = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            let width = if matches!(dist, NormalOrUniform::Uniform) { 3_f64.sqrt() * std } else { std };
            (dist, width, 0.0)
        }
    };
    let drawn = match dist {
        NormalOrUniform::Uniform => init.uniform(shape.clone(), width, dtype, device),
        NormalOrUniform::Normal => init.normal(shape.clone(), width, dtype, device),
    };
    let drawn = drawn.map_err(told)?;
    if center == 0.0 { Ok(drawn) } else { drawn + center }
}

/// A model of candle-nn with its variables; otherwise the model itself.
#[derive(Debug, Clone)]
pub struct VarModel<M> {
    title: String,
    inner: M,
    vars: Vec<(String, Var)>,
}

impl<M> VarModel<M> {
    fn kept(&self, buffers: bool) -> Vec<(String, Var)> {
        let is_buffer = |name: &str| name.rsplit('.').next().is_some_and(|last| BUFFERS.contains(&last));
        self.vars.iter().filter(|(name, _)| is_buffer(name) == buffers).cloned().collect()
    }
}

impl<M> Deref for VarModel<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.inner
    }
}

impl<M> Trainable for VarModel<M> {
    fn parameters(&self) -> Vec<(String, Var)> {
        self.kept(false)
    }

    fn buffers(&self) -> Vec<(String, Var)> {
        self.kept(true)
    }

    fn title(&self) -> String {
        self.title.clone()
    }
}

#[cfg(test)]
mod tests {
    use candle_nn::{GRUConfig, Module as _};

    use super::*;

    fn values(model: &impl Trainable) -> Vec<(String, Vec<f32>)> {
        let flat = |var: &Var| var.flatten_all().unwrap().to_vec1().unwrap();
        model.parameters().iter().map(|(name, var)| (name.clone(), flat(var))).collect()
    }

    fn built(seed: u64) -> VarModel<(candle_nn::GRU, candle_nn::Linear)> {
        let vars = NamedVars::new(seed);
        let vb = vars.builder(DType::F32, &Device::Cpu);
        let gru = candle_nn::gru(3, 4, GRUConfig::default(), vb.pp("gru")).unwrap();
        let head = candle_nn::linear(4, 2, vb.pp("head")).unwrap();
        vars.model("GRU", (gru, head))
    }

    #[test]
    fn variables_have_the_order_and_the_values_of_the_seed() {
        let model = built(1);
        let names: Vec<String> = model.parameters().into_iter().map(|(name, _)| name).collect();
        let gru = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"].map(|name| format!("gru.{name}"));
        assert_eq!(names[..4], gru);
        assert_eq!(names[4..], ["head.weight", "head.bias"]);
        assert_eq!(values(&model), values(&built(1)));
        assert_ne!(values(&model), values(&built(2)));
        // candle-nn's linear layer asks for U(−1/√n, 1/√n) of n inputs as its bias.
        let bias = &values(&model)[5].1;
        assert!(bias.iter().all(|value| value.abs() <= 0.5) && bias.iter().any(|value| *value != 0.0), "{bias:?}");
    }

    #[test]
    fn setting_a_variable_changes_the_model() {
        let model = built(1);
        let zeros = |(_, var): (String, Var)| var.set(&var.zeros_like().unwrap()).unwrap();
        model.parameters().into_iter().for_each(zeros);
        let x = Tensor::ones((1, 4), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(model.1.forward(&x).unwrap().to_vec2::<f32>().unwrap(), [[0.0, 0.0]]);
    }

    #[test]
    fn running_statistics_are_no_parameters() {
        let vars = NamedVars::new(1);
        let norm = candle_nn::batch_norm(3, 1e-5, vars.builder(DType::F32, &Device::Cpu).pp("norm")).unwrap();
        let model = vars.model("norm", norm);
        let names = |vars: Vec<(String, Var)>| vars.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(model.buffers()), ["norm.running_mean", "norm.running_var"]);
        assert_eq!(names(model.parameters()), ["norm.weight", "norm.bias"]);
    }
}
