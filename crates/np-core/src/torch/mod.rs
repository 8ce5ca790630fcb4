//! Configurations under the names that PyTorch, other Python packages and the published code of NeuroPlastic use.
//!
//! Deserialise one of these structs, and convert it with `into()` to a configuration of this crate, where the settings are documented. Their
//! defaults are those of the Python code.

use np_engine::config::decay::DecayKind;
use serde::Deserialize;

use crate::neuroplastic::NeuroPlasticConfig;
use crate::neuroplastic::base::{Base, BaseAdamw, BaseSgd};
use crate::neuroplastic::coefficient::{Coefficient, Granularity, RuleKind};
use crate::neuroplastic::controller::{Controller, ControllerMode};
use crate::neuroplastic::formulation::{
    BoundedResidual, Direct, Formulation, Hybrid, OrthogonalResidual, Phase, ResidualNorm, ResidualSchedule, Target,
};
use crate::neuroplastic::layers::Scope;
use crate::neuroplastic::signals::Signals;
use crate::neuroplastic::stabilizer::{LayerScale, RmsGain, Stabilizer};
use crate::neuroplastic::traces::Traces;
use crate::optim::adam::{AdamConfig, AdamWConfig};
use crate::optim::lion::LionConfig;
use crate::optim::sgd::SgdConfig;
use crate::registry::OptimizerConfig;

/// NeuroPlastic's settings under the names of the published PyTorch code. Converts to [`NeuroPlasticConfig`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeuroPlastic {
    /// η. Default 0.1.
    pub lr: f64,
    /// wd. Default 0.
    pub weight_decay: f64,
    /// Whether weight decay is decoupled, for all formulations but the hybrid. Default `false`.
    pub decoupled_weight_decay: bool,
    /// Section `plasticity`.
    pub plasticity: Plasticity,
    /// Section `homeostatic`.
    pub homeostatic: Homeostatic,
}

impl Default for NeuroPlastic {
    fn default() -> Self {
        let (plasticity, homeostatic) = (Plasticity::default(), Homeostatic::default());
        Self { lr: 0.1, weight_decay: 0.0, decoupled_weight_decay: false, plasticity, homeostatic }
    }
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[allow(missing_docs)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

/// A section, and its translation.
macro_rules! arguments {
    (
        $(#[$doc:meta])* $name:ident { $($field:ident: $type:ty = $default:expr,)* }
        => $config:ident { $($ours:ident $(: $value:expr)?,)* }
    ) => {
        section! {
            $(#[$doc])*
            $name { $($field: $type = $default,)* }
        }

        impl From<$name> for $config {
            fn from(arguments: $name) -> Self {
                let $name { $($field,)* } = arguments;
                Self { $($ours $(: $value)?,)* }
            }
        }
    };
}

pub mod zoo;

section! {
    /// Section `plasticity`, with the published defaults.
    Plasticity {
        mode: Mode = Mode::RuleBased,
        hybrid_base: HybridBase = HybridBase::Classic,
        modulation_target: Target = Target::Gain,
        layer_scope: LayerScope = LayerScope::All,
        phase_scope: Phase = Phase::Full,
        modulation_strength: f64 = 0.15,
        modulation_max_ratio: f64 = 0.25,
        lr_controller_mode: LrController = LrController::Off,
        controller_alpha: f64 = 0.1,
        controller_low: f64 = 0.8,
        controller_high: f64 = 1.2,
        base_momentum: f64 = 0.9,
        base_beta2: f64 = 0.999,
        base_eps: f64 = 1e-8,
        activity_weight: f64 = 0.4,
        gradient_weight: f64 = 0.4,
        memory_weight: f64 = 0.2,
        plasticity_scale: f64 = 1.0,
        warmup_epochs: f64 = 0.0,
        bounded_residual: bool = false,
        residual_max_ratio: f64 = 0.5,
        orthogonal_residual: bool = false,
        orthogonal_lambda: f64 = 0.1,
        orthogonal_max_ratio: f64 = 0.5,
        orthogonal_normalization: OrthogonalNorm = OrthogonalNorm::Raw,
        orthogonal_schedule: OrthogonalSchedule = OrthogonalSchedule::Constant,
        orthogonal_late_start_fraction: f64 = 0.3,
        min_alpha: f64 = 0.2,
        max_alpha: f64 = 2.0,
        saturation_threshold_fraction: f64 = 0.05,
        parameterwise: bool = true,
        eps: f64 = 1e-8,
    }
}

section! {
    /// Section `homeostatic`, with the published defaults.
    Homeostatic {
        max_update_norm: f64 = 1.0,
        target_rms: f64 = 0.02,
        adaptation_rate: f64 = 0.01,
        early_target_rms_scale: f64 = 1.0,
        middle_target_rms_scale: f64 = 1.0,
        late_target_rms_scale: f64 = 1.0,
        eps: f64 = 1e-8,
    }
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $(= $alias:literal)?,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[allow(missing_docs)]
        pub enum $name { $($(#[serde(alias = $alias)])? $variant,)* }
    };
}

names! {
    /// Value of `mode`.
    Mode { RuleBased, AblationGradOnly, }
}
names! {
    /// Value of `hybrid_base`.
    HybridBase { Classic, Adamw, SgdMomentum, }
}
names! {
    /// Value of `layer_scope`.
    LayerScope { All, ConvOnly, ClassifierOnly = "head_only", EarlyBlocks = "early", LateBlocks = "late", }
}
names! {
    /// Value of `lr_controller_mode`.
    LrController { Off, Global, Layerwise, ClassifierOnly, }
}
names! {
    /// Value of `orthogonal_normalization`.
    OrthogonalNorm { Raw, MatchGradNorm, }
}
names! {
    /// Value of `orthogonal_schedule`.
    OrthogonalSchedule { Constant, Late, Cosine, }
}

impl Plasticity {
    /// An `orthogonal_residual` wins over `bounded_residual`, and a hybrid base over both.
    fn formulation(&self, decoupled: bool) -> Formulation {
        let decay = if decoupled { DecayKind::Decoupled } else { DecayKind::Coupled };
        let base = match self.hybrid_base {
            HybridBase::Classic => None,
            HybridBase::Adamw => {
                let (beta1, beta2, eps) = (self.base_momentum, self.base_beta2, self.base_eps);
                Some(Base::Adamw(BaseAdamw { beta1, beta2, eps }))
            }
            HybridBase::SgdMomentum => Some(Base::SgdMomentum(BaseSgd { momentum: self.base_momentum })),
        };
        if let Some(base) = base {
            let scope = match self.layer_scope {
                LayerScope::All => Scope::All,
                LayerScope::ConvOnly => Scope::ConvOnly,
                LayerScope::ClassifierOnly => Scope::ClassifierOnly,
                LayerScope::EarlyBlocks => Scope::EarlyBlocks,
                LayerScope::LateBlocks => Scope::LateBlocks,
            };
            return Formulation::Hybrid(Hybrid {
                base,
                target: self.modulation_target,
                scope,
                phase: self.phase_scope,
                strength: self.modulation_strength,
                max_ratio: self.modulation_max_ratio,
            });
        }
        if self.orthogonal_residual {
            return Formulation::OrthogonalResidual(OrthogonalResidual {
                strength: self.orthogonal_lambda,
                max_ratio: self.orthogonal_max_ratio,
                norm: match self.orthogonal_normalization {
                    OrthogonalNorm::Raw => ResidualNorm::Raw,
                    OrthogonalNorm::MatchGradNorm => ResidualNorm::MatchGradient,
                },
                schedule: match self.orthogonal_schedule {
                    OrthogonalSchedule::Constant => ResidualSchedule::Constant,
                    OrthogonalSchedule::Late => ResidualSchedule::Late(self.orthogonal_late_start_fraction),
                    OrthogonalSchedule::Cosine => ResidualSchedule::Cosine,
                },
                decay,
            });
        }
        match self.bounded_residual {
            true => Formulation::BoundedResidual(BoundedResidual { max_ratio: self.residual_max_ratio, decay }),
            false => Formulation::Direct(Direct { decay }),
        }
    }

    fn controller(&self) -> Option<Controller> {
        let mode = match self.lr_controller_mode {
            LrController::Off => return None,
            LrController::Global => ControllerMode::Global,
            LrController::Layerwise => ControllerMode::Layerwise,
            LrController::ClassifierOnly => ControllerMode::ClassifierOnly,
        };
        let (strength, low, high) = (self.controller_alpha, self.controller_low, self.controller_high);
        Some(Controller { mode, strength, low, high })
    }
}

impl From<NeuroPlastic> for NeuroPlasticConfig {
    fn from(spec: NeuroPlastic) -> Self {
        let (p, h) = (&spec.plasticity, &spec.homeostatic);
        let layer_scale = LayerScale {
            early: h.early_target_rms_scale,
            middle: h.middle_target_rms_scale,
            late: h.late_target_rms_scale,
        };
        Self {
            lr: spec.lr,
            weight_decay: spec.weight_decay,
            traces: Traces::default(),
            signals: Signals {
                activity: p.activity_weight,
                gradient: p.gradient_weight,
                memory: p.memory_weight,
                eps: p.eps,
                ..Signals::default()
            },
            coefficient: Coefficient {
                rule: match p.mode {
                    Mode::RuleBased => RuleKind::Full,
                    Mode::AblationGradOnly => RuleKind::GradientOnly,
                },
                min: p.min_alpha,
                max: p.max_alpha,
                scale: p.plasticity_scale,
                warmup_epochs: p.warmup_epochs,
                granularity: if p.parameterwise { Granularity::Element } else { Granularity::Tensor },
                saturation_threshold: p.saturation_threshold_fraction,
            },
            formulation: p.formulation(spec.decoupled_weight_decay),
            controller: p.controller(),
            stabilizer: Stabilizer {
                max_update_norm: Some(h.max_update_norm),
                rms_gain: Some(RmsGain { target: h.target_rms, rate: h.adaptation_rate, layer_scale }),
                eps: h.eps,
            },
        }
    }
}

/// The enum of all arguments, and its translation.
macro_rules! optimizers_of_torch {
    ($($variant:ident($arguments:ty) => $ours:ident, $whose:literal;)*) => {
        /// Arguments of a Python optimizer: its name as `optimizer`, and the arguments as `config`. Converts to [`OptimizerConfig`].
        #[derive(Debug, Clone, Deserialize)]
        #[serde(rename_all = "snake_case", tag = "optimizer", content = "config")]
        #[non_exhaustive]
        pub enum TorchOptimizer {
            $(#[doc = concat!($whose, ".")] $variant($arguments),)*
        }

        impl From<TorchOptimizer> for OptimizerConfig {
            fn from(spec: TorchOptimizer) -> Self {
                match spec {
                    $(TorchOptimizer::$variant(arguments) => Self::$ours(arguments.into()),)*
                }
            }
        }
    };
}

optimizers_of_torch! {
    Sgd(Sgd) => Sgd, "`torch.optim.SGD`";
    Adam(Adam) => Adam, "`torch.optim.Adam`";
    Adamw(AdamW) => AdamW, "`torch.optim.AdamW`";
    Lion(Lion) => Lion, "`timm.optim.Lion`";
    Adafactor(zoo::Adafactor) => Adafactor, "`torch.optim.Adafactor`";
    Muon(zoo::Muon) => Muon, "`torch.optim.Muon`";
    Shampoo(zoo::Shampoo) => Shampoo, "`pytorch_optimizer`'s `Shampoo`";
    Soap(zoo::Soap) => Soap, "`pytorch_optimizer`'s `SOAP`";
    Nadam(zoo::Nadam) => NAdam, "`torch.optim.NAdam`";
    Radam(zoo::Radam) => RAdam, "`torch.optim.RAdam`";
    Adamax(zoo::Adamax) => Adamax, "`torch.optim.Adamax`";
    Adagrad(zoo::Adagrad) => Adagrad, "`torch.optim.Adagrad`";
    Adadelta(zoo::Adadelta) => Adadelta, "`torch.optim.Adadelta`";
    Rmsprop(zoo::Rmsprop) => RmsProp, "`torch.optim.RMSprop`";
    Rprop(zoo::Rprop) => Rprop, "`torch.optim.Rprop`";
    Asgd(zoo::Asgd) => Asgd, "`torch.optim.ASGD`";
    Adabelief(zoo::Adabelief) => AdaBelief, "`pytorch_optimizer.AdaBelief`";
    Yogi(zoo::Yogi) => Yogi, "`pytorch_optimizer.Yogi`";
    Qhadam(zoo::Qhadam) => QhAdam, "`pytorch_optimizer.QHAdam`";
    Adan(zoo::Adan) => Adan, "`pytorch_optimizer.Adan`";
    ScheduleFreeAdamw(zoo::ScheduleFreeAdamw) => ScheduleFreeAdamW, "`schedulefree.AdamWScheduleFree`";
    ScheduleFreeSgd(zoo::ScheduleFreeSgd) => ScheduleFreeSgd, "`schedulefree.SGDScheduleFree`";
    Lamb(zoo::Lamb) => Lamb, "`pytorch_optimizer.Lamb`";
    Lars(zoo::Lars) => Lars, "`pytorch_optimizer.LARS`";
    Prodigy(zoo::Prodigy) => Prodigy, "`prodigyopt.Prodigy`";
}

arguments! {
    /// Arguments of `torch.optim.SGD`.
    Sgd {
        lr: f64 = 1e-3, momentum: f64 = 0.0, dampening: f64 = 0.0, weight_decay: f64 = 0.0, nesterov: bool = false,
    } => SgdConfig { lr, momentum, dampening, nesterov, weight_decay, decay: DecayKind::Coupled, }
}

arguments! {
    /// Arguments of `torch.optim.Adam`.
    Adam {
        lr: f64 = 1e-3, betas: [f64; 2] = [0.9, 0.999], eps: f64 = 1e-8, weight_decay: f64 = 0.0, amsgrad: bool = false,
    } => AdamConfig { lr, beta1: betas[0], beta2: betas[1], eps, weight_decay, amsgrad, }
}

arguments! {
    /// Arguments of `torch.optim.AdamW`.
    AdamW {
        lr: f64 = 1e-3, betas: [f64; 2] = [0.9, 0.999], eps: f64 = 1e-8, weight_decay: f64 = 0.01, amsgrad: bool = false,
    } => AdamWConfig { lr, beta1: betas[0], beta2: betas[1], eps, weight_decay, amsgrad, }
}

arguments! {
    /// Arguments of `timm.optim.Lion`.
    Lion { lr: f64 = 1e-4, betas: [f64; 2] = [0.9, 0.99], weight_decay: f64 = 0.0, }
    => LionConfig { lr, beta1: betas[0], beta2: betas[1], weight_decay, }
}
