//! The measured optimizers and parameters, for the example and the criterion bench.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use np_core::{AnyOptimizer, LayerRecord, OptimizerConfig, Result, StepInput};

/// Widths of the MLP of the experiments.
const WIDTHS: [usize; 4] = [784, 256, 256, 10];

/// An optimizer on parameters of some shapes.
pub struct Case {
    /// Name of the optimizer, or of a form of it.
    pub name: String,
    /// Name of the size.
    pub size: &'static str,
    /// Settings.
    pub config: OptimizerConfig,
    /// Whether diagnostics are gathered.
    pub watch: bool,
}

/// All cases, size by size.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for size in ["mlp", "1M", "11M", "matrix", "block"] {
        for (name, config, watch) in optimizers() {
            if sizes(config.kind()).contains(&size) {
                all.push(Case { name, size, config, watch });
            }
        }
    }
    all
}

/// The sizes that an optimizer is measured on.
fn sizes(kind: &str) -> &'static [&'static str] {
    match kind {
        "muon" => &["mlp", "matrix"],
        "adafactor" => &["mlp", "1M", "11M", "matrix"],
        "shampoo" | "soap" => &["block"],
        "kfac" => &["mlp"],
        "lbfgs" => &["mlp", "1M"],
        _ => &["mlp", "1M", "11M"],
    }
}

/// What is not measured, and why.
#[allow(dead_code)] // the example says it
pub const SKIPPED: [(&str, &str); 4] = [
    ("muon", "1M and 11M: vectors are its AdamW fallback's"),
    (
        "shampoo, soap",
        "all but a block of 256 × 256: decompositions grow with the cube of a dimension, and a vector has none",
    ),
    ("kfac", "all but mlp: it preconditions layers; a step includes the layers' records, on batches of 128"),
    ("lbfgs", "11M: its history would be 2 GB; a step is one iteration without line search"),
];

/// One tensor of a million and of eleven million, as PyTorch is measured with; the MLP of the experiments; matrices.
fn shapes(size: &str) -> Vec<Vec<usize>> {
    match size {
        "1M" => vec![vec![1_000_000]],
        "11M" => vec![vec![11_000_000]],
        "matrix" => vec![vec![1024, 1024]],
        "block" => vec![vec![256, 256]],
        _ => WIDTHS.windows(2).flat_map(|w| [vec![w[1], w[0]], vec![w[1]]]).collect(),
    }
}

/// A name, a configuration, and whether diagnostics are gathered.
fn optimizers() -> Vec<(String, OptimizerConfig, bool)> {
    let defaults = OptimizerConfig::defaults().into_iter().filter(|config| config.kind() != "lbfgs");
    let mut all: Vec<_> = defaults.map(|config| (config.kind().to_string(), config, true)).collect();
    let mut add = |name: &str, json: &str, watch: bool| {
        if let Ok(config) = serde_json::from_str(json) {
            all.push((name.to_string(), config, watch));
        }
    };
    // At its own rate it is soon at the bottom of the bowl, where a step does nothing.
    add("lbfgs", r#"{"lbfgs": {"lr": 0.01}}"#, true);
    add("sgd_momentum", r#"{"sgd": {"lr": 0.001, "momentum": 0.9}}"#, true);
    add("neuroplastic_unwatched", r#""neuroplastic""#, false);
    add("neuroplastic_bounded", r#"{"neuroplastic": {"formulation": "bounded_residual"}}"#, true);
    add("neuroplastic_orthogonal", r#"{"neuroplastic": {"formulation": "orthogonal_residual"}}"#, true);
    add("neuroplastic_hybrid_adamw", r#"{"neuroplastic": {"formulation": {"hybrid": {"base": "adamw"}}}}"#, true);
    add("neuroplastic_controlled", r#"{"neuroplastic": {"controller": {"mode": "layerwise"}}}"#, true);
    all
}

/// An optimizer over its parameters, with gradients for it.
pub struct Prepared {
    /// How many numbers it optimizes.
    pub elements: usize,
    /// Steps that are timed together: what is done every so many steps belongs to the time of a step.
    pub period: u32,
    /// Rounds before those that count: two, and for L-BFGS as many as fill its history.
    #[allow(dead_code)] // the example's
    pub warm_up: usize,
    optimizer: Box<dyn AnyOptimizer>,
    vars: Vec<Var>,
    grads: GradStore,
    records: Vec<LayerRecord>,
}

impl Case {
    /// Makes it ready to step.
    pub fn prepare(&self) -> Result<Prepared> {
        let block = Tensor::randn(0f32, 1.0, 1 << 16, &Device::Cpu)?.to_vec1::<f32>()?;
        let (mut params, mut grads) = (Vec::new(), GradStore::default());
        for (i, shape) in shapes(self.size).iter().enumerate() {
            let n: usize = shape.iter().product();
            let random = |scale: f32, from: usize| {
                let values: Vec<f32> = block.iter().map(|x| x * scale).cycle().skip(from).take(n).collect();
                Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)
            };
            let var = Var::from_tensor(&random(1.0, 0)?)?;
            grads.insert(var.as_tensor(), random(0.01, 7)?);
            params.push((format!("fc{}.{}", i / 2, if i % 2 == 0 { "weight" } else { "bias" }), var));
        }
        let vars: Vec<Var> = params.iter().map(|(_, var)| var.clone()).collect();
        let mut optimizer = self.config.build(params)?;
        optimizer.collect_diagnostics(self.watch);
        optimizer.begin_epoch(1, 1);
        let mut records = Vec::new();
        if optimizer.step_input() == StepInput::LayerStatistics {
            for (i, w) in WIDTHS.windows(2).enumerate() {
                let random = |width| Tensor::randn(0f32, 1.0, (128, width), &Device::Cpu);
                records.push(LayerRecord::linear(&format!("fc{i}"), &random(w[0])?, &(random(w[1])? * 0.01)?)?);
            }
        }
        let elements = vars.iter().map(|var| var.elem_count()).sum();
        let period = if matches!(self.config.kind(), "kfac" | "soap") { 10 } else { 1 };
        let warm_up = if self.config.kind() == "lbfgs" { 12 } else { 2 };
        Ok(Prepared { elements, period, warm_up, optimizer, vars, grads, records })
    }
}

impl Prepared {
    /// What comes before a step and is not its own: L-BFGS learns from changes of the gradient, so those of a bowl are given to it.
    pub fn refresh(&mut self) -> Result<()> {
        if self.optimizer.kind() == "lbfgs" {
            for (i, var) in self.vars.iter().enumerate() {
                let bowl = (var.as_detached_tensor().to_dtype(DType::F32)? * (0.01 * (i + 1) as f64))?;
                self.grads.insert(var.as_tensor(), bowl);
            }
        }
        Ok(())
    }

    /// Numbers of state for a parameter, scalars left out.
    #[allow(dead_code)] // the example says it
    pub fn state_numbers(&self) -> Result<f64> {
        let state = self.optimizer.state()?;
        let numbers: usize = state.tensors.values().map(Tensor::elem_count).filter(|n| *n > 1).sum();
        Ok((numbers as f64 / self.elements as f64 * 100.0).round() / 100.0)
    }

    /// One step.
    pub fn step(&mut self) -> Result<()> {
        if self.optimizer.step_input() == StepInput::LayerStatistics {
            self.optimizer.observe(&self.records)?;
        }
        self.optimizer.step_report(&self.grads).map(drop)
    }
}
