//! Arguments of further optimizers, under the names of PyTorch and of the packages `pytorch_optimizer`, `schedulefree` and `prodigyopt`.

use np_engine::config::decay::DecayKind;
use serde::Deserialize;

use crate::optim::adabelief::AdaBeliefConfig;
use crate::optim::adadelta::AdadeltaConfig;
use crate::optim::adafactor::AdafactorConfig;
use crate::optim::adagrad::AdagradConfig;
use crate::optim::adamax::AdamaxConfig;
use crate::optim::adan::AdanConfig;
use crate::optim::asgd::AsgdConfig;
use crate::optim::lamb::LambConfig;
use crate::optim::lars::LarsConfig;
use crate::optim::muon::{Fallback, MuonConfig, MuonScale, Precision};
use crate::optim::nadam::NAdamConfig;
use crate::optim::prodigy::ProdigyConfig;
use crate::optim::qhadam::QhAdamConfig;
use crate::optim::radam::RAdamConfig;
use crate::optim::rmsprop::RmsPropConfig;
use crate::optim::rprop::RpropConfig;
use crate::optim::schedule_free::{ScheduleFreeAdamWConfig, ScheduleFreeSgdConfig};
use crate::optim::shampoo::ShampooConfig;
use crate::optim::soap::SoapConfig;
use crate::optim::yogi::YogiConfig;

fn decay(decoupled: bool) -> DecayKind {
    if decoupled { DecayKind::Decoupled } else { DecayKind::Coupled }
}

arguments! {
    /// Arguments of `torch.optim.NAdam`.
    Nadam {
        lr: f64 = 2e-3, betas: [f64; 2] = [0.9, 0.999], eps: f64 = 1e-8, weight_decay: f64 = 0.0,
        momentum_decay: f64 = 4e-3, decoupled_weight_decay: bool = false,
    } => NAdamConfig {
        lr, beta1: betas[0], beta2: betas[1], eps, momentum_decay, weight_decay, decay: decay(decoupled_weight_decay),
    }
}

arguments! {
    /// Arguments of `torch.optim.RAdam`.
    Radam {
        lr: f64 = 1e-3, betas: [f64; 2] = [0.9, 0.999], eps: f64 = 1e-8, weight_decay: f64 = 0.0,
        decoupled_weight_decay: bool = false,
    } => RAdamConfig {
        lr, beta1: betas[0], beta2: betas[1], eps, weight_decay, decay: decay(decoupled_weight_decay),
    }
}

arguments! {
    /// Arguments of `torch.optim.Adamax`.
    Adamax { lr: f64 = 2e-3, betas: [f64; 2] = [0.9, 0.999], eps: f64 = 1e-8, weight_decay: f64 = 0.0, }
    => AdamaxConfig { lr, beta1: betas[0], beta2: betas[1], eps, weight_decay, decay: DecayKind::Coupled, }
}

arguments! {
    /// Arguments of `torch.optim.Adagrad`.
    Adagrad {
        lr: f64 = 1e-2, lr_decay: f64 = 0.0, weight_decay: f64 = 0.0, initial_accumulator_value: f64 = 0.0,
        eps: f64 = 1e-10,
    } => AdagradConfig { lr, lr_decay, initial_sum: initial_accumulator_value, eps, weight_decay, decay: DecayKind::Coupled, }
}

arguments! {
    /// Arguments of `torch.optim.Adadelta`.
    Adadelta { lr: f64 = 1.0, rho: f64 = 0.9, eps: f64 = 1e-6, weight_decay: f64 = 0.0, }
    => AdadeltaConfig { lr, rho, eps, weight_decay, decay: DecayKind::Coupled, }
}

arguments! {
    /// Arguments of `torch.optim.RMSprop`.
    Rmsprop {
        lr: f64 = 1e-2, alpha: f64 = 0.99, eps: f64 = 1e-8, weight_decay: f64 = 0.0, momentum: f64 = 0.0,
        centered: bool = false,
    } => RmsPropConfig { lr, rho: alpha, eps, momentum, centered, weight_decay, decay: DecayKind::Coupled, }
}

arguments! {
    /// Arguments of `torch.optim.Rprop`; its `step_sizes` become multiples of η.
    Rprop { lr: f64 = 1e-2, etas: [f64; 2] = [0.5, 1.2], step_sizes: [f64; 2] = [1e-6, 50.0], }
    => RpropConfig {
        lr, shrink: etas[0], grow: etas[1], min_step: step_sizes[0] / lr, max_step: step_sizes[1] / lr,
    }
}

arguments! {
    /// Arguments of `torch.optim.ASGD`.
    Asgd { lr: f64 = 1e-2, lambd: f64 = 1e-4, alpha: f64 = 0.75, t0: f64 = 1e6, weight_decay: f64 = 0.0, }
    => AsgdConfig { lr, lambda: lambd, power: alpha, t0, weight_decay, }
}

arguments! {
    /// Arguments of `pytorch_optimizer.AdaBelief`.
    Adabelief {
        lr: f64 = 1e-3, betas: [f64; 2] = [0.9, 0.999], weight_decay: f64 = 0.0, weight_decouple: bool = true,
        eps: f64 = 1e-16,
    } => AdaBeliefConfig { lr, beta1: betas[0], beta2: betas[1], eps, weight_decay, decay: decay(weight_decouple), }
}

arguments! {
    /// Arguments of `pytorch_optimizer.Yogi`.
    Yogi {
        lr: f64 = 1e-2, betas: [f64; 2] = [0.9, 0.999], initial_accumulator: f64 = 1e-6, weight_decay: f64 = 0.0,
        weight_decouple: bool = true, eps: f64 = 1e-3,
    } => YogiConfig {
        lr, beta1: betas[0], beta2: betas[1], eps, initial: initial_accumulator, weight_decay,
        decay: decay(weight_decouple),
    }
}

arguments! {
    /// Arguments of `pytorch_optimizer.QHAdam`.
    Qhadam {
        lr: f64 = 1e-3, betas: [f64; 2] = [0.9, 0.999], nus: [f64; 2] = [1.0, 1.0], weight_decay: f64 = 0.0,
        weight_decouple: bool = false, eps: f64 = 1e-8,
    } => QhAdamConfig {
        lr, beta1: betas[0], beta2: betas[1], nu1: nus[0], nu2: nus[1], eps, weight_decay,
        decay: decay(weight_decouple),
    }
}

arguments! {
    /// Arguments of `pytorch_optimizer.Adan`.
    Adan { lr: f64 = 1e-3, betas: [f64; 3] = [0.98, 0.92, 0.99], weight_decay: f64 = 0.0, eps: f64 = 1e-8, }
    => AdanConfig { lr, beta1: betas[0], beta2: betas[1], beta3: betas[2], eps, weight_decay, }
}

arguments! {
    /// Arguments of `schedulefree.AdamWScheduleFree`.
    ScheduleFreeAdamw {
        lr: f64 = 2.5e-3, betas: [f64; 2] = [0.9, 0.999], eps: f64 = 1e-8, weight_decay: f64 = 0.0,
        warmup_steps: u64 = 0, r: f64 = 0.0, weight_lr_power: f64 = 2.0,
    } => ScheduleFreeAdamWConfig {
        lr, beta1: betas[0], beta2: betas[1], eps, weight_decay, warmup_steps, r, weight_lr_power,
    }
}

arguments! {
    /// Arguments of `schedulefree.SGDScheduleFree`.
    ScheduleFreeSgd {
        lr: f64 = 1.0, momentum: f64 = 0.9, weight_decay: f64 = 0.0, warmup_steps: u64 = 0, r: f64 = 0.0,
        weight_lr_power: f64 = 2.0,
    } => ScheduleFreeSgdConfig { lr, momentum, weight_decay, warmup_steps, r, weight_lr_power, }
}

arguments! {
    /// Arguments of `pytorch_optimizer.Lamb`.
    Lamb { lr: f64 = 1e-3, betas: [f64; 2] = [0.9, 0.999], weight_decay: f64 = 0.0, eps: f64 = 1e-6, }
    => LambConfig { lr, beta1: betas[0], beta2: betas[1], eps, max_weight_norm: 10.0, weight_decay, }
}

arguments! {
    /// Arguments of `pytorch_optimizer.LARS`.
    Lars {
        lr: f64 = 1e-3, weight_decay: f64 = 0.0, momentum: f64 = 0.9, dampening: f64 = 0.0,
        trust_coefficient: f64 = 1e-3, nesterov: bool = false,
    } => LarsConfig { lr, momentum, dampening, nesterov, trust: trust_coefficient, weight_decay, }
}

arguments! {
    /// Arguments of `prodigyopt.Prodigy`; leave out a `growth_rate` of infinity.
    Prodigy {
        lr: f64 = 1.0, betas: [f64; 2] = [0.9, 0.999], beta3: Option<f64> = None, eps: f64 = 1e-8,
        weight_decay: f64 = 0.0, decouple: bool = true, use_bias_correction: bool = false,
        safeguard_warmup: bool = false, d0: f64 = 1e-6, d_coef: f64 = 1.0, growth_rate: Option<f64> = None,
    } => ProdigyConfig {
        lr, beta1: betas[0], beta2: betas[1], beta3, eps, d0, d_coef, growth_rate,
        bias_correction: use_bias_correction, safeguard_warmup, weight_decay, decay: decay(decouple),
    }
}

arguments! {
    /// Arguments of `torch.optim.Adafactor`.
    Adafactor {
        lr: f64 = 1e-2, beta2_decay: f64 = -0.8, eps: (Option<f64>, f64) = (None, 1e-3), d: f64 = 1.0, weight_decay: f64 = 0.0,
    } => AdafactorConfig { lr, beta2_decay, eps1: eps.0, eps2: eps.1, clip_threshold: d, weight_decay, }
}

arguments! {
    /// Arguments of `torch.optim.Muon`.
    Muon {
        lr: f64 = 1e-3, weight_decay: f64 = 0.1, momentum: f64 = 0.95, nesterov: bool = true,
        ns_coefficients: [f64; 3] = [3.4445, -4.7750, 2.0315], eps: f64 = 1e-7, ns_steps: usize = 5,
        adjust_lr_fn: Option<MuonScale> = None,
    } => MuonConfig {
        lr, weight_decay, momentum, nesterov, coefficients: ns_coefficients, eps, iterations: ns_steps,
        scale: adjust_lr_fn.unwrap_or_default(), precision: Precision::Bf16, fallback: Fallback::default(),
    }
}

arguments! {
    /// Arguments of `pytorch_optimizer.Shampoo`.
    Shampoo {
        lr: f64 = 1e-3, momentum: f64 = 0.0, weight_decay: f64 = 0.0, preconditioning_compute_steps: u64 = 1,
        matrix_eps: f64 = 1e-6,
    } => ShampooConfig {
        lr, momentum, weight_decay, eps: matrix_eps, update_every: preconditioning_compute_steps, max_dim: usize::MAX,
    }
}

arguments! {
    /// Arguments of `pytorch_optimizer.SOAP`.
    Soap {
        lr: f64 = 3e-3, betas: [f64; 2] = [0.95, 0.95], shampoo_beta: Option<f64> = None, weight_decay: f64 = 1e-2,
        precondition_frequency: u64 = 10, max_precondition_dim: usize = 10_000, eps: f64 = 1e-8,
    } => SoapConfig {
        lr, beta1: betas[0], beta2: betas[1], shampoo_beta, eps, weight_decay, update_every: precondition_frequency,
        max_dim: max_precondition_dim,
    }
}
