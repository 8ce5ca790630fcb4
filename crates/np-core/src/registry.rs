//! The table of optimizers: from a configuration chosen at run time to an optimizer behind one interface.

use std::any::Any;

use candle_core::{Tensor, Var};
use serde::{Deserialize, Deserializer, Serialize};

use crate::documented::{self, Documented};
use crate::traced::{Outcome, Traced};
use crate::{
    AdaBeliefConfig, AdadeltaConfig, AdafactorConfig, AdagradConfig, AdamConfig, AdamWConfig, AdamaxConfig, AdanConfig,
    AnyOptimizer, Apply, AsgdConfig, Backend, Buffer, Driver, KfacConfig, LambConfig, LarsConfig, LbfgsConfig,
    LionConfig, MuonConfig, NAdamConfig, NeuroPlasticConfig, Options, ProdigyConfig, RAdamConfig, Result,
    RmsPropConfig, RpropConfig, Rule, ScheduleFreeAdamWConfig, ScheduleFreeSgdConfig, SgdConfig, ShampooConfig,
    SoapConfig, StepContext, Work,
};

/// The memory of a rule whose kind is known at run time only.
#[derive(Default)]
pub(crate) struct AnyMemory(Option<Box<dyn Any + Send>>);

impl AnyMemory {
    fn get<R: Rule>(&self) -> Option<&R::Memory> {
        self.0.as_ref()?.downcast_ref()
    }

    /// That of `R`, fresh if there was none.
    fn of<R: Rule>(&mut self) -> &mut R::Memory {
        let held = self.0.get_or_insert_with(|| Box::<R::Memory>::default());
        if !held.is::<R::Memory>() {
            *held = Box::<R::Memory>::default();
        }
        match held.downcast_mut() {
            Some(memory) => memory,
            None => unreachable!("it has just been made one"),
        }
    }
}

impl std::fmt::Debug for AnyMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnyMemory")
    }
}

macro_rules! registry {
    ($($(#[$doc:meta])* $variant:ident = $kind:literal => $config:ty;)*) => {
        /// Configuration of any optimizer of this crate.
        ///
        /// Serialises as `{name: {fields}}`; deserialises from that, fields left out taking their defaults, or from a bare `name`.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[allow(clippy::large_enum_variant)] // a program holds a handful of them
        pub enum OptimizerConfig {
            $($(#[$doc])* #[serde(rename = $kind)] $variant($config),)*
        }

        /// What [`OptimizerConfig`] is read as, once a bare name has become a map.
        #[derive(Deserialize)]
        #[allow(clippy::large_enum_variant)]
        enum Tagged {
            $(#[serde(rename = $kind)] $variant($config),)*
        }

        impl<'de> Deserialize<'de> for OptimizerConfig {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                Ok(match crate::tagged::name_or_map(deserializer)? {
                    $(Tagged::$variant(config) => Self::$variant(config),)*
                })
            }
        }

        /// Names of the optimizers' types and kinds.
        pub(crate) const NAMES: &[(&str, &str)] = &[$((stringify!($variant), $kind)),*];

        impl OptimizerConfig {
            /// Names of all kinds.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// Each kind with its defaults.
            #[must_use]
            pub fn defaults() -> Vec<Self> {
                vec![$(Self::$variant(<$config>::default())),*]
            }

            /// Name of this one's kind.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind,)* }
            }

            /// What its optimizer computes: the sentence, formula, notes and reference of its documentation as plain text, a paragraph
            /// a line, formulas indented.
            #[must_use]
            pub fn about(&self) -> String {
                documented::about(match self { $(Self::$variant(_) => <$config as Documented>::LINES,)* })
            }

            /// Effect, range and default of a setting by its dotted path (`signals.eps`); `None` if there is none.
            #[must_use]
            pub fn about_setting(&self, path: &str) -> Option<String> {
                let parts = match self { $(Self::$variant(_) => <$config as Documented>::PARTS,)* };
                documented::of_setting(parts, path)
            }

            /// η.
            #[must_use]
            pub fn learning_rate(&self) -> f64 {
                match self { $(Self::$variant(config) => Rule::learning_rate(config),)* }
            }

            /// See [`Rule::validate`].
            ///
            /// # Errors
            /// [`crate::Error::Config`] for the first hyper-parameter out of range.
            pub fn validate(&self) -> Result<()> {
                match self { $(Self::$variant(config) => Rule::validate(config),)* }
            }

            /// See [`Rule::trace`].
            #[must_use]
            pub fn trace(&self, outcome: Outcome) -> Option<Traced> {
                match self { $(Self::$variant(config) => Rule::trace(config, outcome),)* }
            }

            /// The kind's defaults.
            pub(crate) fn default_of(&self) -> Self {
                match self { $(Self::$variant(_) => Self::$variant(<$config>::default()),)* }
            }

            /// wd is the hybrid's, and η: a base's own are what they are by default.
            pub(crate) fn buffers(&self, shape: &[usize]) -> Vec<Buffer> {
                match self { $(Self::$variant(config) => Rule::buffers(config, shape),)* }
            }

            pub(crate) fn numbers(&self) -> &'static [(&'static str, f64)] {
                match self { $(Self::$variant(config) => Rule::numbers(config),)* }
            }

            /// See [`Rule::portable`].
            #[must_use]
            pub fn portable(&self) -> bool {
                match self { $(Self::$variant(config) => Rule::portable(config),)* }
            }

            pub(crate) fn scratch(&self) -> usize {
                match self { $(Self::$variant(config) => Rule::scratch(config),)* }
            }

            pub(crate) fn momentum(&self) -> Option<&'static str> {
                match self { $(Self::$variant(config) => Rule::momentum(config),)* }
            }

            pub(crate) fn directions(
                &self,
                cx: &StepContext,
                work: &mut [Work<'_>],
                memory: &mut AnyMemory,
            ) -> Result<Vec<Apply>> {
                match self {
                    $(Self::$variant(config) => Rule::directions(config, cx, work, memory.of::<$config>()),)*
                }
            }

            pub(crate) fn average(&self, theta: &Tensor, buffers: &[Tensor]) -> Result<Option<Tensor>> {
                match self { $(Self::$variant(config) => Rule::average(config, theta, buffers),)* }
            }

            pub(crate) fn shared(&self, memory: &AnyMemory) -> Vec<(&'static str, f64)> {
                match self {
                    $(Self::$variant(config) => match memory.get::<$config>() {
                        Some(memory) => Rule::shared(config, memory),
                        None => Rule::shared(config, &Default::default()),
                    })*
                }
            }

            pub(crate) fn set_shared(&self, memory: &mut AnyMemory, values: &[f64]) {
                match self { $(Self::$variant(config) => Rule::set_shared(config, memory.of::<$config>(), values),)* }
            }

            /// The optimizer, on `params` in model order.
            ///
            /// # Errors
            /// Those of [`Driver::from_named`].
            pub fn build(&self, params: Vec<(String, Var)>) -> Result<Box<dyn AnyOptimizer>> {
                self.build_on(params, Backend::Auto)
            }

            /// The optimizer, with the choice of how steps are computed.
            ///
            /// # Errors
            /// Those of [`Driver::from_named`].
            pub fn build_on(&self, params: Vec<(String, Var)>, backend: Backend) -> Result<Box<dyn AnyOptimizer>> {
                self.build_with(params, Options::default(), backend)
            }

            /// The optimizer, with what surrounds its rule.
            ///
            /// # Errors
            /// Those of [`Driver::from_named`] and [`Driver::with_options`].
            pub fn build_with(
                &self,
                params: Vec<(String, Var)>,
                options: Options,
                backend: Backend,
            ) -> Result<Box<dyn AnyOptimizer>> {
                Ok(match self {
                    $(Self::$variant(config) => {
                        Box::new(Driver::with_backend(params, config.clone(), backend)?.with_options(options)?)
                    })*
                })
            }
        }
    };
}

registry! {
    /// [`crate::NeuroPlastic`].
    NeuroPlastic = "neuroplastic" => NeuroPlasticConfig;
    /// [`crate::Sgd`].
    Sgd = "sgd" => SgdConfig;
    /// [`crate::Adam`].
    Adam = "adam" => AdamConfig;
    /// [`crate::AdamW`].
    AdamW = "adamw" => AdamWConfig;
    /// [`crate::Adafactor`].
    Adafactor = "adafactor" => AdafactorConfig;
    /// [`crate::Muon`].
    Muon = "muon" => MuonConfig;
    /// [`crate::Shampoo`].
    Shampoo = "shampoo" => ShampooConfig;
    /// [`crate::Soap`].
    Soap = "soap" => SoapConfig;
    /// [`crate::Kfac`].
    Kfac = "kfac" => KfacConfig;
    /// [`crate::Lbfgs`].
    Lbfgs = "lbfgs" => LbfgsConfig;
    /// [`crate::Lion`].
    Lion = "lion" => LionConfig;
    /// [`crate::NAdam`].
    NAdam = "nadam" => NAdamConfig;
    /// [`crate::RAdam`].
    RAdam = "radam" => RAdamConfig;
    /// [`crate::Adamax`].
    Adamax = "adamax" => AdamaxConfig;
    /// [`crate::Adagrad`].
    Adagrad = "adagrad" => AdagradConfig;
    /// [`crate::Adadelta`].
    Adadelta = "adadelta" => AdadeltaConfig;
    /// [`crate::RmsProp`].
    RmsProp = "rmsprop" => RmsPropConfig;
    /// [`crate::Rprop`].
    Rprop = "rprop" => RpropConfig;
    /// [`crate::Asgd`].
    Asgd = "asgd" => AsgdConfig;
    /// [`crate::AdaBelief`].
    AdaBelief = "adabelief" => AdaBeliefConfig;
    /// [`crate::Adan`].
    Adan = "adan" => AdanConfig;
    /// [`crate::ScheduleFreeAdamW`].
    ScheduleFreeAdamW = "schedule_free_adamw" => ScheduleFreeAdamWConfig;
    /// [`crate::ScheduleFreeSgd`].
    ScheduleFreeSgd = "schedule_free_sgd" => ScheduleFreeSgdConfig;
    /// [`crate::Lamb`].
    Lamb = "lamb" => LambConfig;
    /// [`crate::Lars`].
    Lars = "lars" => LarsConfig;
    /// [`crate::Prodigy`].
    Prodigy = "prodigy" => ProdigyConfig;
}
