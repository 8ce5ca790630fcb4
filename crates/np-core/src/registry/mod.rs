//! [`OptimizerConfig`]: any optimizer, chosen at run time.

mod candle;
mod size;

use candle_core::Var;
use np_engine::backend::Backend;
use np_engine::config::options::Options;
use np_engine::error::Result;
use np_trace::{Outcome, Traced};

use crate::any::AnyOptimizer;

optimizers! {
    config_enum!
    /// Configuration of any optimizer of this crate.
    ///
    /// Serialised as `{name: {fields}}`. Deserialised from that, where omitted fields take their defaults, or from the bare `name`.
    OptimizerConfig;
    NeuroPlastic = "neuroplastic" => [neuroplastic] NeuroPlasticConfig {
        "NeuroPlastic", 0, "NeuroPlastic", "3 numbers, and 1 of scratch (hybrid: its base's more)", "to study it", "the paper"
    };
}

impl OptimizerConfig {
    /// The optimizer's documentation (summary, formula, notes, reference) as plain text: each paragraph on one line, formulas indented.
    #[must_use]
    pub fn about(&self) -> String {
        self.documentation().about(Self::NAMES)
    }

    /// The documentation of a setting (effect, range, default) by its dotted path (`signals.eps`); `None` if there is no such setting.
    #[must_use]
    pub fn about_setting(&self, path: &str) -> Option<String> {
        self.documentation().of_setting(path, Self::NAMES)
    }

    /// η, the learning rate before schedule, groups and controller.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        self.rule().learning_rate()
    }

    /// See [`HyperParameters::validate`](crate::HyperParameters::validate).
    ///
    /// # Errors
    /// [`crate::Error::Config`] for the first hyper-parameter out of range.
    pub fn validate(&self) -> Result<()> {
        self.rule().validate()
    }

    /// See [`Rule::trace`](crate::Rule::trace).
    #[must_use]
    pub fn trace(&self, outcome: Outcome) -> Option<Traced> {
        self.rule().trace(outcome)
    }

    /// See [`Rule::portable`](crate::Rule::portable).
    #[must_use]
    pub fn portable(&self) -> bool {
        self.rule().portable()
    }

    /// The optimizer of `params`, which are in model order.
    ///
    /// # Errors
    /// Those of [`Driver::from_named`](crate::Driver::from_named).
    pub fn build(&self, params: Vec<(String, Var)>) -> Result<Box<dyn AnyOptimizer>> {
        self.build_on(params, Backend::Auto)
    }

    /// [`OptimizerConfig::build`], with a choice of how steps are computed.
    ///
    /// # Errors
    /// Those of [`Driver::from_named`](crate::Driver::from_named).
    pub fn build_on(&self, params: Vec<(String, Var)>, backend: Backend) -> Result<Box<dyn AnyOptimizer>> {
        self.build_with(params, Options::default(), backend)
    }

    /// [`OptimizerConfig::build`], with options and a choice of how steps are computed.
    ///
    /// # Errors
    /// Those of [`Driver::from_named`](crate::Driver::from_named) and [`Driver::with_options`](crate::Driver::with_options).
    pub fn build_with(
        &self,
        params: Vec<(String, Var)>,
        options: Options,
        backend: Backend,
    ) -> Result<Box<dyn AnyOptimizer>> {
        self.rule().build(params, options, backend)
    }
}
