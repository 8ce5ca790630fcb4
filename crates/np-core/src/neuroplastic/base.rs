//! The base optimizer of a hybrid: AdamW and SGD with momentum, which NeuroPlastic's own kernels compute as in the published code, and the
//! other optimizers of this crate.

use std::fmt;

use candle_core::DType;
use np_engine::apply::Apply;
use np_engine::buffer::Buffer;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{Result, check, fraction, positive, unit};
use np_engine::input::StepInput;
use np_engine::param_state::ParamState;
use np_engine::param_step::ParamStep;
use np_engine::rule::StepContext;
use np_engine::state::State;
use np_trace::{Float, Number};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error as _, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::NeuroPlasticConfig;
use super::formulation::Formulation;
use crate::any::rule::AnyMemory;
use crate::optim::BaseConfig;
use crate::optim::adam::{self, AdamWConfig};
use crate::optim::sgd::{self, SgdConfig};

/// The base optimizer of a hybrid: gives the direction b, and the average of gradients μ where it keeps one.
///
/// In files it is a name, or a map of the name to its settings: `adamw`, `{sgd_momentum: {momentum: 0.8}}`, `{lion: {beta1: 0.95}}`. η and wd are
/// those of the hybrid.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Base {
    /// AdamW: b = m̂/(√v̂ + ε), μ = m̂; decoupled weight decay.
    Adamw(BaseAdamw),
    /// SGD: B ← momentum·B + (g + wd·θ); b = μ = B; coupled weight decay.
    SgdMomentum(BaseSgd),
    /// Any other optimizer of this crate but K-FAC and L-BFGS, whose steps need more than gradients. b is its direction, including factors such
    /// as a trust ratio; μ is its average of gradients, if it keeps one; weight decay enters as it does in that optimizer. Its own `lr` must be left at
    /// its default, and its own `weight_decay` is ignored.
    Other(Box<BaseConfig>),
}

hyper_parameters! {
    /// AdamW as a base: its learning rate and weight decay are NeuroPlastic's.
    pub struct BaseAdamw {
        /// β₁, decay of the first moment, in [0, 1). Default 0.9 (published code).
        pub beta1: f64 = 0.9, fraction;
        /// β₂, decay of the second moment, in [0, 1). Default 0.999 (published code).
        pub beta2: f64 = 0.999, fraction;
        /// ε, added to √v̂, > 0. Default 10⁻⁸ (published code).
        pub eps: f64 = 1e-8, positive;
    }
}

hyper_parameters! {
    /// SGD with momentum as a base: its learning rate and weight decay are NeuroPlastic's.
    pub struct BaseSgd {
        /// Decay of the momentum, in [0, 1]. Default 0.9 (published code).
        pub momentum: f64 = 0.9, unit;
    }
}

impl Serialize for Base {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Adamw(x) => serializer.serialize_newtype_variant("Base", 0, "adamw", x),
            Self::SgdMomentum(x) => serializer.serialize_newtype_variant("Base", 1, "sgd_momentum", x),
            Self::Other(x) => x.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Base {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct BaseVisitor;
        impl<'de> Visitor<'de> for BaseVisitor {
            type Value = Base;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an optimizer, or a map of one name to its settings")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<Base, E> {
                Ok(match name {
                    "adamw" => Base::Adamw(BaseAdamw::default()),
                    "sgd_momentum" => Base::SgdMomentum(BaseSgd::default()),
                    other => Base::Other(Box::new(BaseConfig::deserialize(other.into_deserializer())?)),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Base, A::Error> {
                let name: String =
                    map.next_key()?.ok_or_else(|| A::Error::custom("expected the name of an optimizer"))?;
                Ok(match name.as_str() {
                    "adamw" => Base::Adamw(map.next_value()?),
                    "sgd_momentum" => Base::SgdMomentum(map.next_value()?),
                    _ => {
                        let map = MapAccessDeserializer::new(Begun { name: Some(name), map });
                        Base::Other(Box::new(BaseConfig::deserialize(map)?))
                    }
                })
            }
        }
        deserializer.deserialize_any(BaseVisitor)
    }
}

/// A map whose first key has been read.
struct Begun<A> {
    name: Option<String>,
    map: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Begun<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> std::result::Result<Option<K::Value>, A::Error> {
        match self.name.take() {
            Some(name) => seed.deserialize(name.into_deserializer()).map(Some),
            None => self.map.next_key_seed(seed),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> std::result::Result<S::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

impl Base {
    /// AdamW's configuration with these settings and no weight decay, if this is AdamW.
    pub(super) fn adamw(&self) -> Option<AdamWConfig> {
        let Self::Adamw(BaseAdamw { beta1, beta2, eps }) = *self else { return None };
        Some(AdamWConfig { beta1, beta2, eps, weight_decay: 0.0, ..AdamWConfig::default() })
    }

    /// SGD's configuration with these settings and no weight decay, if this is SGD.
    pub(super) fn sgd(&self) -> Option<SgdConfig> {
        let Self::SgdMomentum(BaseSgd { momentum }) = *self else { return None };
        Some(SgdConfig { momentum, ..SgdConfig::default() })
    }

    /// The configuration of any other optimizer.
    pub(super) fn other(&self) -> Option<&BaseConfig> {
        if let Self::Other(config) = self { Some(config) } else { None }
    }

    /// The learning rate that this optimizer has by itself.
    pub(super) fn learning_rate(&self) -> f64 {
        match self {
            Self::Adamw(_) => AdamWConfig::default().lr,
            Self::SgdMomentum(_) => SgdConfig::default().lr,
            Self::Other(config) => config.rule().learning_rate(),
        }
    }

    /// Its buffers for a parameter of shape `shape`.
    pub(super) fn buffers(&self, shape: &[usize]) -> Vec<Buffer> {
        match self {
            Self::Adamw(_) => vec!["base_momentum".into(), "base_variance".into()],
            Self::SgdMomentum(_) => vec!["base_momentum".into()],
            Self::Other(config) => {
                let own = |b: Buffer| Buffer { name: format!("base_{}", b.name).into(), ..b };
                config.rule().buffers(shape).into_iter().map(own).collect()
            }
        }
    }

    /// The name of the buffer that holds its momentum, if it keeps one.
    pub(super) fn momentum(&self) -> Option<&'static str> {
        match self {
            Self::Adamw(_) | Self::SgdMomentum(_) => Some("momentum"),
            Self::Other(config) => config.rule().momentum(),
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        match self {
            Self::Adamw(x) => x.in_range().map_err(|e| e.below("base.adamw")),
            Self::SgdMomentum(x) => x.in_range().map_err(|e| e.below("base.sgd_momentum")),
            Self::Other(config) => {
                let key = format!("base.{}", config.kind());
                let fits = config.rule().step_input() == StepInput::Gradients;
                let expected = "an optimizer whose directions need gradients alone";
                check(fits, "base", expected, config.kind())?;
                let expected = "no value: a base takes the learning rate of its hybrid";
                let (own, default) = (config.rule().learning_rate(), config.default_learning_rate());
                check(own == default, &format!("{key}.lr"), expected, own)?;
                config.rule().validate().map_err(|e| e.below(&key))
            }
        }
    }
}

/// The base optimizer's constants for a tensor's step.
#[derive(Debug, Clone, Copy)]
pub(super) enum BaseScalars<T = f64> {
    Adamw(adam::Scalars<T>),
    Sgd {
        k: sgd::Scalars<T>,
        weight_decay: T,
    },
    /// Another optimizer, whose direction is already in b.
    Given,
}

impl BaseScalars {
    /// The constants at a tensor's step `t`; `None` if the formulation has no base.
    pub(super) fn new(config: &NeuroPlasticConfig, t: u64, weight_decay: f64) -> Option<Self> {
        let Formulation::Hybrid(hybrid) = &config.formulation else { return None };
        let mut at = StepInfo { t, lr: 0.0, weight_decay: 0.0, numbers: &mut [] };
        let adamw = hybrid.base.adamw().map(|c| Self::Adamw(c.scalars(&mut at)));
        let sgd = || hybrid.base.sgd().map(|c| Self::Sgd { k: c.scalars(&mut at), weight_decay });
        Some(adamw.or_else(sgd).unwrap_or(Self::Given))
    }

    /// The same constants in another number type.
    #[inline(always)]
    pub(super) fn cast<N: Number>(&self) -> BaseScalars<N> {
        match self {
            Self::Adamw(k) => BaseScalars::Adamw(k.cast()),
            Self::Sgd { k, weight_decay } => BaseScalars::Sgd { k: k.cast(), weight_decay: N::from_f64(*weight_decay) },
            Self::Given => BaseScalars::Given,
        }
    }

    /// The factor that turns the momentum buffer into μ, rounded as a step with parameters of `dtype` rounds it.
    pub(super) fn momentum_scale(&self, dtype: DType) -> f64 {
        match self {
            Self::Adamw(k) if dtype == DType::F64 => k.correction1(),
            Self::Adamw(k) => k.cast::<f32>().correction1().to_f64(),
            Self::Sgd { .. } | Self::Given => 1.0,
        }
    }
}

/// Computes the directions of `config`'s optimizer for `work` into the scratch after x; returns how that optimizer would apply them.
pub(super) fn directions(
    config: &BaseConfig,
    cx: &StepContext,
    work: &mut [ParamStep<'_>],
    weight_decay: f64,
    memory: &mut AnyMemory,
) -> Result<Vec<Apply>> {
    let mut params: Vec<ParamState> = work.iter_mut().map(|w| lend(w.param, weight_decay)).collect();
    let mut inner: Vec<ParamStep<'_>> = params
        .iter_mut()
        .zip(work.iter())
        .map(|(param, w)| ParamStep { param, grad: w.grad.clone(), lr: w.lr, map: w.map })
        .collect();
    let applies = config.rule().directions(cx, &mut inner, memory);
    drop(inner);
    for (w, param) in work.iter_mut().zip(params) {
        take_back(w.param, param);
    }
    applies
}

/// The number of NeuroPlastic's own buffers, which come before the base's.
pub(super) const TRACES: usize = 3;

/// Moves the base's part of a parameter's state (its buffers, b, and its other scratch) into a parameter for the base alone.
fn lend(param: &mut ParamState, weight_decay: f64) -> ParamState {
    fn split<T>(all: &mut Vec<T>, buffers: usize) -> Vec<T> {
        let mut own: Vec<T> = all.drain(TRACES..buffers).collect();
        own.extend(all.drain(TRACES + 1..));
        own
    }
    let buffers = param.buffers.len();
    let state = match &mut param.state {
        State::F32(all) => State::F32(split(all, buffers)),
        State::F64(all) => State::F64(split(all, buffers)),
        State::Tensors(all) => State::Tensors(split(all, buffers)),
    };
    let mut settings = param.settings;
    settings.weight_decay = Some(settings.weight_decay.unwrap_or(weight_decay));
    let numbers = std::mem::take(&mut param.numbers);
    param.with_state(settings, state, param.buffers[TRACES..].to_vec(), numbers)
}

fn take_back(param: &mut ParamState, lent: ParamState) {
    fn join<T>(all: &mut Vec<T>, own: Vec<T>, buffers: usize) {
        let mut own = own.into_iter();
        let x = all.split_off(TRACES);
        all.extend(own.by_ref().take(buffers));
        all.extend(x);
        all.extend(own);
    }
    let buffers = lent.buffers.len();
    match (&mut param.state, lent.state) {
        (State::F32(all), State::F32(own)) => join(all, own, buffers),
        (State::F64(all), State::F64(own)) => join(all, own, buffers),
        (State::Tensors(all), State::Tensors(own)) => join(all, own, buffers),
        _ => {}
    }
    param.numbers = lent.numbers;
}
