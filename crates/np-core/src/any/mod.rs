//! One interface for optimizers whose kind is chosen at run time.

pub(crate) mod rule;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use np_engine::config::options::Options;
use np_engine::driver::Driver;
use np_engine::error::{Error, Result};
use np_engine::input::{Closure, LayerRecord, StepInput};
use np_engine::optimizer_state::OptimizerState;
use np_engine::report::StepReport;
use np_engine::rule::Rule;
use np_engine::weights::Weights;

/// Makes the trait, whose methods are a driver's own but for the first few, and what it is for a driver.
macro_rules! any_optimizer {
    (
        $(#[$doc:meta])* pub trait $name:ident;
        own: { $($declared:tt)* } { $($defined:tt)* }
        reads: $(fn $read:ident() -> $value:ty;)*
        changes: $(fn $change:ident($($with:ident: $as:ty),*);)*
        tries: $(fn $fallible:ident($($given:ident: $given_as:ty),*) -> $done:ty;)*
        copies: $(fn $copy:ident() -> $copied:ty;)*
    ) => {
        $(#[$doc])*
        pub trait $name: Send + Debug {
            $($declared)*
            $(#[doc = any_optimizer!(@see $read)] fn $read(&self) -> $value;)*
            $(#[doc = any_optimizer!(@see $change)] fn $change(&mut self, $($with: $as),*);)*
            $(#[doc = any_optimizer!(@errors $fallible)] fn $fallible(&mut self, $($given: $given_as),*) -> Result<$done>;)*
            $(#[doc = any_optimizer!(@errors $copy)] fn $copy(&self) -> Result<$copied>;)*
        }

        impl<R: Rule> $name for Driver<R> {
            $($defined)*
            $(fn $read(&self) -> $value { Self::$read(self) })*
            $(fn $change(&mut self, $($with: $as),*) { Self::$change(self, $($with),*); })*
            $(fn $fallible(&mut self, $($given: $given_as),*) -> Result<$done> { Self::$fallible(self, $($given),*) })*
            $(fn $copy(&self) -> Result<$copied> { Self::$copy(self) })*
        }
    };
    (@see $method:ident) => { concat!("See [`Driver::", stringify!($method), "`].") };
    (@errors $method:ident) => {
        concat!("See [`Driver::", stringify!($method), "`].\n\n# Errors\nThose of [`Driver::", stringify!($method), "`].")
    };
}

any_optimizer! {
    /// An optimizer whose kind is chosen at run time. It has the methods of [`Driver`] under the same names; they are documented there.
    ///
    /// A `Box<dyn AnyOptimizer>` is also a [`candle_nn::Optimizer`]. The two traits share no method name, so that no call is ambiguous when both
    /// are imported.
    pub trait AnyOptimizer;
    own: {
        /// Name of the optimizer's kind (`adamw`).
        fn kind(&self) -> &'static str;
        /// The configuration, to be downcast to its type (`AdamWConfig`). See [`Driver::config`].
        fn any_config(&self) -> &dyn Any;
        /// See [`Driver::names`].
        fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;
        /// η, before the schedule's factor.
        fn lr(&self) -> f64;
        /// What a step needs: gradients, a closure ([`Driver::step_with`]), or layer records before it ([`Driver::observe`]).
        fn step_input(&self) -> StepInput;
        /// Keeps an error for the next step to give: that of candle's `set_learning_rate`, which has none.
        #[doc(hidden)]
        fn refuse_next(&mut self, error: Error);
    } {
        fn kind(&self) -> &'static str {
            R::KIND
        }

        fn any_config(&self) -> &dyn Any {
            self.config()
        }

        fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
            Box::new(Self::names(self))
        }

        fn lr(&self) -> f64 {
            self.config().learning_rate()
        }

        fn step_input(&self) -> StepInput {
            self.config().step_input()
        }

        fn refuse_next(&mut self, error: Error) {
            self.refuse(Err(error));
        }
    }
    reads:
    fn last_report() -> Option<StepReport>;
    fn options() -> &Options;
    fn effective_lr() -> f64;
    fn steps() -> u64;
    fn absent_gradients() -> u64;
    fn skipped_steps() -> u64;
    fn diagnostics() -> BTreeMap<String, f64>;
    changes:
    fn set_position(position: f64);
    fn begin_epoch(epoch: usize, epochs: usize);
    fn collect_diagnostics(collect: bool);
    tries:
    fn step_report(grads: &GradStore) -> StepReport;
    fn backward_step_report(loss: &Tensor) -> StepReport;
    fn step_with(closure: &mut Closure<'_>) -> StepReport;
    fn flush() -> StepReport;
    fn observe(records: &[LayerRecord]) -> ();
    fn set_options(options: Options) -> ();
    fn try_set_learning_rate(lr: f64) -> ();
    fn use_weights(weights: Weights) -> ();
    fn load_state(state: &OptimizerState) -> ();
    copies:
    fn state() -> OptimizerState;
}
