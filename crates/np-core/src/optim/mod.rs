//! The optimizers, a file each, and their table: a row names an optimizer's type, its kind in files, and its configuration.

pub(crate) mod adabelief;
pub(crate) mod adadelta;
pub(crate) mod adafactor;
pub(crate) mod adagrad;
pub(crate) mod adam;
pub(crate) mod adamax;
pub(crate) mod adan;
pub(crate) mod asgd;
pub(crate) mod average;
pub(crate) mod kfac;
pub(crate) mod lamb;
pub(crate) mod lars;
pub(crate) mod lbfgs;
pub(crate) mod lion;
pub(crate) mod muon;
pub(crate) mod nadam;
pub(crate) mod prodigy;
pub(crate) mod radam;
pub(crate) mod rmsprop;
pub(crate) mod rprop;
pub(crate) mod schedule_free;
pub(crate) mod sgd;
pub(crate) mod shampoo;
pub(crate) mod soap;

#[macro_use]
mod table;

/// Hands the table of optimizers to the macro that makes an enum of it, after what it is given to begin with.
macro_rules! optimizers {
    ($make:ident! $($first:tt)*) => {
        $crate::optim::$make! {
            $($first)*
            Sgd = "sgd" => $crate::optim::sgd::SgdConfig;
            Adam = "adam" => $crate::optim::adam::AdamConfig;
            AdamW = "adamw" => $crate::optim::adam::AdamWConfig;
            Adafactor = "adafactor" => $crate::optim::adafactor::AdafactorConfig;
            Muon = "muon" => $crate::optim::muon::MuonConfig;
            Shampoo = "shampoo" => $crate::optim::shampoo::ShampooConfig;
            Soap = "soap" => $crate::optim::soap::SoapConfig;
            Kfac = "kfac" => $crate::optim::kfac::KfacConfig;
            Lbfgs = "lbfgs" => $crate::optim::lbfgs::LbfgsConfig;
            Lion = "lion" => $crate::optim::lion::LionConfig;
            NAdam = "nadam" => $crate::optim::nadam::NAdamConfig;
            RAdam = "radam" => $crate::optim::radam::RAdamConfig;
            Adamax = "adamax" => $crate::optim::adamax::AdamaxConfig;
            Adagrad = "adagrad" => $crate::optim::adagrad::AdagradConfig;
            Adadelta = "adadelta" => $crate::optim::adadelta::AdadeltaConfig;
            RmsProp = "rmsprop" => $crate::optim::rmsprop::RmsPropConfig;
            Rprop = "rprop" => $crate::optim::rprop::RpropConfig;
            Asgd = "asgd" => $crate::optim::asgd::AsgdConfig;
            AdaBelief = "adabelief" => $crate::optim::adabelief::AdaBeliefConfig;
            Adan = "adan" => $crate::optim::adan::AdanConfig;
            ScheduleFreeAdamW = "schedule_free_adamw" => $crate::optim::schedule_free::ScheduleFreeAdamWConfig;
            ScheduleFreeSgd = "schedule_free_sgd" => $crate::optim::schedule_free::ScheduleFreeSgdConfig;
            Lamb = "lamb" => $crate::optim::lamb::LambConfig;
            Lars = "lars" => $crate::optim::lars::LarsConfig;
            Prodigy = "prodigy" => $crate::optim::prodigy::ProdigyConfig;
        }
    };
}
pub(crate) use {config_enum, optimizers};

optimizers! {
    config_enum!
    /// Configuration of any optimizer of this crate but NeuroPlastic, which may have one as the base of a hybrid.
    BaseConfig;
}
