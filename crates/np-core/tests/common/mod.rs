//! What the contract suite runs on: every optimizer of the registry, in every form that has arithmetic of its own.
#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub)] // each test uses its part

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use np_core::neuroplastic::{
    Base, BaseAdamw, BaseSgd, BoundedResidual, Coefficient, Controller, ControllerMode, DecayKind, Direct, Formulation,
    Granularity, Hybrid, OrthogonalResidual, Phase, ResidualNorm, ResidualSchedule, RuleKind, Scope, Stabilizer,
    Target,
};
use np_core::{AdamConfig, AdamWConfig, NeuroPlasticConfig, OptimizerConfig, SgdConfig};

/// A name and a configuration for every path through the arithmetic.
pub fn variants() -> Vec<(String, OptimizerConfig)> {
    let mut all: Vec<(String, OptimizerConfig)> =
        OptimizerConfig::defaults().into_iter().map(|c| (c.kind().to_string(), c)).collect();
    let mut add = |name: &str, config: OptimizerConfig| all.push((name.to_string(), config));

    let sgd = SgdConfig { lr: 0.05, momentum: 0.9, ..SgdConfig::default() };
    add("sgd momentum", OptimizerConfig::Sgd(sgd.clone()));
    add("sgd nesterov", OptimizerConfig::Sgd(SgdConfig { nesterov: true, weight_decay: 0.01, ..sgd.clone() }));
    add("sgd dampening", OptimizerConfig::Sgd(SgdConfig { dampening: 0.3, ..sgd }));
    add(
        "adam amsgrad",
        OptimizerConfig::Adam(AdamConfig { amsgrad: true, weight_decay: 0.1, ..AdamConfig::default() }),
    );
    add("adamw amsgrad", OptimizerConfig::AdamW(AdamWConfig { amsgrad: true, ..AdamWConfig::default() }));

    let mut plastic =
        |name: &str, formulation: Formulation, coefficient: Coefficient, controller: Option<Controller>| {
            let (weight_decay, lr) = (0.01, 0.05);
            let config =
                NeuroPlasticConfig { lr, weight_decay, formulation, coefficient, controller, ..Default::default() };
            add(&format!("neuroplastic {name}"), OptimizerConfig::NeuroPlastic(config));
        };
    let published = Coefficient { scale: 2.0, warmup_epochs: 2.0, ..Coefficient::default() };
    let ablation = Coefficient { rule: RuleKind::GradientOnly, min: 0.5, max: 1.5, ..Coefficient::default() };
    let scalar = Coefficient { granularity: Granularity::Tensor, ..Coefficient::default() };
    let plain = Coefficient::default();
    plastic("published", Formulation::default(), published, None);
    plastic("gradient-only", Formulation::default(), ablation, None);
    plastic("scalar", Formulation::Direct(Direct { decay: DecayKind::Decoupled }), scalar, None);
    plastic("bounded", Formulation::BoundedResidual(BoundedResidual::default()), plain.clone(), None);
    for (norm, schedule) in [
        (ResidualNorm::Raw, ResidualSchedule::Constant),
        (ResidualNorm::MatchGradient, ResidualSchedule::Late(0.3)),
        (ResidualNorm::MatchGradient, ResidualSchedule::Cosine),
    ] {
        let residual = OrthogonalResidual { norm, schedule, strength: 0.3, ..OrthogonalResidual::default() };
        let name = format!("orthogonal {norm:?} {schedule:?}");
        plastic(&name, Formulation::OrthogonalResidual(residual), plain.clone(), None);
    }
    for base in [Base::Adamw(BaseAdamw::default()), Base::SgdMomentum(BaseSgd::default())] {
        for (target, scope, phase) in [
            (Target::Gain, Scope::All, Phase::Full),
            (Target::Momentum, Scope::LateBlocks, Phase::Early),
            (Target::TrustRatio, Scope::ClassifierOnly, Phase::Middle),
            (Target::Gain, Scope::ConvOnly, Phase::Late),
        ] {
            let hybrid = Hybrid { base: base.clone(), target, scope, phase, strength: 0.8, ..Hybrid::default() };
            plastic(&format!("{base:?} {target:?}"), Formulation::Hybrid(hybrid), plain.clone(), None);
        }
    }
    for (base, target) in [("lion", Target::Momentum), ("adam", Target::TrustRatio), ("lion", Target::Gain)] {
        let base: Base = serde_json::from_str(&format!("\"{base}\"")).unwrap();
        let hybrid = Hybrid { base: base.clone(), target, strength: 0.8, ..Hybrid::default() };
        plastic(&format!("{base:?} {target:?}"), Formulation::Hybrid(hybrid), plain.clone(), None);
    }
    for mode in [ControllerMode::Global, ControllerMode::Layerwise, ControllerMode::ClassifierOnly] {
        let controller = Controller { mode, strength: 0.5, ..Controller::default() };
        plastic(&format!("controller {mode:?}"), Formulation::default(), plain.clone(), Some(controller));
    }
    let free = NeuroPlasticConfig { stabilizer: Stabilizer::off(), ..NeuroPlasticConfig::default() };
    add("neuroplastic without stabilizer", OptimizerConfig::NeuroPlastic(free));
    for (name, json) in FORMS {
        add(name, serde_json::from_str(json).unwrap());
    }
    all
}

/// What else has arithmetic of its own.
const FORMS: &[(&str, &str)] = &[
    ("nadam decoupled", r#"{"nadam": {"weight_decay": 0.1, "decay": "decoupled", "momentum_decay": 0.1}}"#),
    ("radam soon adaptive", r#"{"radam": {"weight_decay": 0.1, "beta2": 0.9}}"#),
    ("adagrad from a sum", r#"{"adagrad": {"lr": 0.1, "lr_decay": 0.1, "initial_sum": 0.1, "weight_decay": 0.01}}"#),
    ("rmsprop centred", r#"{"rmsprop": {"centered": true}}"#),
    ("rmsprop momentum", r#"{"rmsprop": {"momentum": 0.9}}"#),
    ("rmsprop both", r#"{"rmsprop": {"centered": true, "momentum": 0.9}}"#),
    ("asgd averaged", r#"{"asgd": {"lr": 0.05, "t0": 3, "lambda": 0.01, "weight_decay": 0.1}}"#),
    ("adabelief coupled", r#"{"adabelief": {"weight_decay": 0.1, "decay": "coupled"}}"#),
    ("yogi coupled", r#"{"yogi": {"weight_decay": 0.1, "decay": "coupled", "initial": 0.01}}"#),
    ("qhadam mixed", r#"{"qhadam": {"weight_decay": 0.1, "nu1": 0.3, "nu2": 0.8}}"#),
    ("adan decayed", r#"{"adan": {"weight_decay": 0.1}}"#),
    ("schedule-free adamw warm", r#"{"schedule_free_adamw": {"weight_decay": 0.1, "warmup_steps": 5, "r": 1}}"#),
    ("schedule-free sgd warm", r#"{"schedule_free_sgd": {"lr": 0.1, "weight_decay": 0.1, "warmup_steps": 5, "r": 1}}"#),
    ("lamb decayed", r#"{"lamb": {"weight_decay": 0.1, "max_weight_norm": 3}}"#),
    ("lars nesterov", r#"{"lars": {"lr": 0.1, "nesterov": true, "dampening": 0.3, "weight_decay": 0.1}}"#),
    ("lars without momentum", r#"{"lars": {"lr": 0.1, "momentum": 0, "trust": 0.1}}"#),
    ("prodigy coupled", r#"{"prodigy": {"d0": 0.001, "weight_decay": 0.1, "decay": "coupled", "growth_rate": 1.5}}"#),
    (
        "hybrid of schedule-free",
        r#"{"neuroplastic": {"lr": 0.05, "formulation": {"hybrid": {"base": "schedule_free_sgd"}}}}"#,
    ),
    (
        "hybrid of prodigy",
        r#"{"neuroplastic": {"lr": 1, "formulation": {"hybrid": {"base": {"prodigy": {"d0": 0.001}}}}}}"#,
    ),
    ("muon plain", r#"{"muon": {"lr": 0.02, "nesterov": false, "precision": "full", "scale": "match_rms_adamw"}}"#),
    (
        "shampoo momentum",
        r#"{"shampoo": {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1, "update_every": 3, "max_dim": 100, "eps": 0.1}}"#,
    ),
    ("soap", r#"{"soap": {"lr": 0.01, "update_every": 2, "shampoo_beta": 0.9, "max_dim": 100}}"#),
    ("lbfgs", r#"{"lbfgs": {"lr": 0.1, "history": 3, "weight_decay": 0.1}}"#),
    ("prodigy corrected", r#"{"prodigy": {"d0": 0.001, "bias_correction": true, "safeguard_warmup": true}}"#),
];

/// η with which an optimizer makes way.
pub struct Rates {
    /// On Σw², in 200 steps.
    pub bowl: f64,
    /// On Rosenbrock's function, in 1,000 steps.
    pub valley: f64,
    /// On a network of some 80 weights, in 300 steps.
    pub network: f64,
}

/// Within a factor of three of the best of a grid of 10⁻⁴, 3·10⁻⁴ … 30; the bowl takes defaults, where they are not meant for a hundred
/// thousand steps.
pub fn rates(config: &OptimizerConfig) -> Rates {
    let (valley, network) = match config.kind() {
        "neuroplastic" => (0.01, 0.3),
        // On the walls of the valley the second derivative is 1,300: plain descent leaves it above 0.003, and so do RAdam's first steps.
        "sgd" | "asgd" | "schedule_free_sgd" => (0.003, 1.0),
        "radam" => (0.005, 0.1),
        "lars" => (0.001, 1.0),
        "lion" => (0.003, 0.01),
        "rmsprop" | "rprop" => (0.01, 0.01),
        "adan" | "lamb" => (0.03, 0.03),
        "adamax" | "adagrad" => (0.3, 0.1),
        "adadelta" | "prodigy" => (1.0, 1.0),
        "kfac" => (0.001, 0.3),
        "lbfgs" => (0.1, 0.1),
        "soap" => (0.03, 0.03),
        "shampoo" => (0.1, 0.1),
        "muon" => (0.3, 0.03),
        "adafactor" => (0.03, 0.03),
        _ => (0.1, 0.03),
    };
    let bowl = match config.kind() {
        // A vector is its fallback's, at 0.015 of η.
        "muon" => 1.0,
        // Its steps shrink with the root of their number.
        "shampoo" => 0.1,
        _ => config.learning_rate().max(0.01),
    };
    Rates { bowl, valley, network }
}

/// Reproducible numbers between −1 and 1.
pub fn numbers(n: usize, seed: u64) -> Vec<f64> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    (0..n)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect()
}

pub fn tensor(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
    let n = shape.iter().product();
    Tensor::from_vec(numbers(n, seed), shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Parameters of a small network: a convolution, odd sizes, one that is split among threads, a single number, nothing.
pub const SHAPES: &[(&str, &[usize])] = &[
    ("conv.weight", &[6, 3, 3, 3]),
    ("conv.bias", &[6]),
    ("fc.weight", &[221, 221]),
    ("scale", &[1]),
    ("nothing", &[0]),
    ("head.weight", &[5, 33]),
    ("head.bias", &[5]),
];

pub fn parameters(dtype: DType) -> Vec<(String, Var)> {
    SHAPES
        .iter()
        .enumerate()
        .map(|(i, (name, shape))| ((*name).to_string(), Var::from_tensor(&tensor(shape, 7 + i as u64, dtype)).unwrap()))
        .collect()
}

/// Gradients for step `step`, some of them absent now and then.
pub fn gradients(params: &[(String, Var)], step: u64) -> GradStore {
    let mut grads = GradStore::default();
    for (i, (_, var)) in params.iter().enumerate() {
        if step % 3 == 1 && i % 3 == 1 {
            continue;
        }
        let scale = if step % 4 == 3 && i == 0 { 0.0 } else { 0.3 };
        let grad = (tensor(var.dims(), 1000 * step + i as u64 + 1, DType::F64) * scale).unwrap();
        grads.insert(var.as_tensor(), grad.to_dtype(var.dtype()).unwrap());
    }
    grads
}

/// Every number of every parameter, widened.
pub fn values(params: &[(String, Var)]) -> Vec<Vec<f64>> {
    let numbers = |v: &Var| v.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap();
    params.iter().map(|(_, v)| numbers(v)).collect()
}
