//! The optimizers, each in a file of its own, and `rows.rs`, the table of all of them.

pub(crate) mod adabelief;
pub(crate) mod adadelta;
pub(crate) mod adafactor;
pub(crate) mod adagrad;
pub(crate) mod adam;
pub(crate) mod adamax;
pub(crate) mod adan;
pub(crate) mod asgd;
pub(crate) mod average;
#[cfg(test)]
mod coupled_tests;
#[cfg(test)]
mod device_tests;
pub(crate) mod kfac;
pub(crate) mod lamb;
pub(crate) mod lars;
pub(crate) mod lbfgs;
pub(crate) mod lion;
pub(crate) mod muon;
pub(crate) mod nadam;
pub(crate) mod prodigy;
pub(crate) mod qhadam;
pub(crate) mod radam;
pub(crate) mod rmsprop;
pub(crate) mod rprop;
pub(crate) mod schedule_free;
pub(crate) mod sgd;
pub(crate) mod shampoo;
pub(crate) mod soap;
pub(crate) mod yogi;
#[macro_use]
mod rows;
#[macro_use]
mod table;

optimizers! {
    config_enum!
    /// Configuration of any optimizer of this crate except NeuroPlastic: what a NeuroPlastic hybrid may have as its base.
    ///
    /// Serialised as `{name: {fields}}`. Deserialised from that, where omitted fields take their defaults, or from the bare `name`.
    BaseConfig;
}
