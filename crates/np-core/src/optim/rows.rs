//! The table of optimizers: a row for each, in the order in which they are shown.
//!
//! A row has the optimizer's type, its name in files, and the path and name of its configuration; then its label in figures and the number of its
//! family; then, for tables, its title, its state in numbers for each element of a parameter, when to use it, and the reference.
//!
//! The enums of configurations, the crate's re-exports, the tables in the documentation and the styles of figures are generated from this table. xtask,
//! which makes the last two, includes this file alone.

/// Calls the macro `$make` with `$first` and then the table of optimizers.
macro_rules! optimizers {
    ($make:ident! $($first:tt)*) => {
        $make! {
            $($first)*
            Sgd = "sgd" => [optim::sgd] SgdConfig {
                "SGD", 1, "SGD: momentum, Nesterov, dampening",
                "0, or 1 with momentum", "vision, with a schedule; the baseline", "Polyak 1964; Sutskever et al. 2013"
            };
            Asgd = "asgd" => [optim::asgd] AsgdConfig {
                "averaged SGD", 1, "Averaged SGD",
                "1", "noisy convex problems", "Polyak and Juditsky 1992"
            };
            ScheduleFreeSgd = "schedule_free_sgd" => [optim::schedule_free] ScheduleFreeSgdConfig {
                "schedule-free SGD", 1, "Schedule-free SGD",
                "1, and two numbers a tensor", "no length of training to plan with", "Defazio et al. 2024"
            };
            Lars = "lars" => [optim::lars] LarsConfig {
                "LARS", 1, "LARS",
                "0 or 1, and 1 of scratch", "very large batches, vision", "You, Gitman and Ginsburg 2017"
            };
            Rprop = "rprop" => [optim::rprop] RpropConfig {
                "Rprop", 2, "Rprop",
                "2", "full batches only", "Riedmiller and Braun 1993"
            };
            Lion = "lion" => [optim::lion] LionConfig {
                "Lion", 2, "Lion",
                "1", "half of Adam's memory", "Chen et al. 2023"
            };
            Adagrad = "adagrad" => [optim::adagrad] AdagradConfig {
                "Adagrad", 3, "Adagrad",
                "1", "sparse features", "Duchi, Hazan and Singer 2011"
            };
            Adadelta = "adadelta" => [optim::adadelta] AdadeltaConfig {
                "Adadelta", 3, "Adadelta",
                "2", "no learning rate at hand", "Zeiler 2012"
            };
            RmsProp = "rmsprop" => [optim::rmsprop] RmsPropConfig {
                "RMSprop", 3, "RMSprop: centred, momentum",
                "1 to 3", "recurrent nets, reinforcement learning", "Tieleman and Hinton 2012; Graves 2013"
            };
            Adafactor = "adafactor" => [optim::adafactor] AdafactorConfig {
                "Adafactor", 3, "Adafactor",
                "m + n a matrix of m × n, and 1 of scratch", "almost no state", "Shazeer and Stern 2018"
            };
            Adam = "adam" => [optim::adam] AdamConfig {
                "Adam", 4, "Adam, AMSGrad",
                "2, or 3", "the usual first try", "Kingma and Ba 2015; Reddi et al. 2018"
            };
            AdamW = "adamw" => [optim::adam] AdamWConfig {
                "AdamW", 4, "AdamW, AMSGrad",
                "2, or 3", "the same, with decay; transformers", "Loshchilov and Hutter 2019"
            };
            NAdam = "nadam" => [optim::nadam] NAdamConfig {
                "NAdam", 4, "NAdam",
                "2, and a number a tensor", "Adam with look-ahead", "Dozat 2016"
            };
            RAdam = "radam" => [optim::radam] RAdamConfig {
                "RAdam", 4, "RAdam",
                "2", "Adam without a warm-up", "Liu et al. 2020"
            };
            Adamax = "adamax" => [optim::adamax] AdamaxConfig {
                "Adamax", 4, "Adamax",
                "2", "sparse or spiky gradients", "Kingma and Ba 2015"
            };
            AdaBelief = "adabelief" => [optim::adabelief] AdaBeliefConfig {
                "AdaBelief", 4, "AdaBelief",
                "2", "as Adam, where it generalises badly", "Zhuang et al. 2020"
            };
            Yogi = "yogi" => [optim::yogi] YogiConfig {
                "Yogi", 4, "Yogi",
                "2", "as Adam, where gradients are rare or their size jumps", "Zaheer et al. 2018"
            };
            QhAdam = "qhadam" => [optim::qhadam] QhAdamConfig {
                "QHAdam", 4, "QHAdam",
                "2", "Adam that trusts the gradient at hand more", "Ma and Yarats 2019"
            };
            Adan = "adan" => [optim::adan] AdanConfig {
                "Adan", 4, "Adan",
                "4", "large batches; more memory to spare", "Xie et al. 2022"
            };
            Lamb = "lamb" => [optim::lamb] LambConfig {
                "LAMB", 4, "LAMB",
                "2, and 1 of scratch", "very large batches, Adam-like", "You et al. 2020"
            };
            ScheduleFreeAdamW = "schedule_free_adamw" => [optim::schedule_free] ScheduleFreeAdamWConfig {
                "sched.-free AdamW", 4, "Schedule-free AdamW",
                "2, and two numbers a tensor", "no length of training to plan with", "Defazio et al. 2024"
            };
            Prodigy = "prodigy" => [optim::prodigy] ProdigyConfig {
                "Prodigy", 4, "Prodigy",
                "4, and 1 of scratch", "no learning rate to tune", "Mishchenko and Defazio 2023"
            };
            Muon = "muon" => [optim::muon] MuonConfig {
                "Muon", 5, "Muon; AdamW for what is no matrix",
                "1 (a vector: 2), and 1 of scratch", "hidden matrices of large nets", "Jordan et al. 2024"
            };
            Shampoo = "shampoo" => [optim::shampoo] ShampooConfig {
                "Shampoo", 5, "Shampoo",
                "2(m² + n²) a matrix of m × n, 1 more with momentum, and 2 of scratch", "few large matrices, many steps each", "Gupta, Koren and Singer 2018"
            };
            Soap = "soap" => [optim::soap] SoapConfig {
                "SOAP", 5, "SOAP",
                "2, and 2(m² + n²) a matrix, and 3 of scratch", "as Shampoo, steadier", "Vyas et al. 2024"
            };
            Kfac = "kfac" => [optim::kfac] KfacConfig {
                "K-FAC", 5, "K-FAC, for the MLP",
                "1, and 2((m + 1)² + n²) a layer of m inputs and n outputs, and 1 of scratch", "small nets, few epochs", "Martens and Grosse 2015"
            };
            Lbfgs = "lbfgs" => [optim::lbfgs] LbfgsConfig {
                "L-BFGS", 6, "L-BFGS with a line search",
                "22 in double precision", "small problems without noise", "Liu and Nocedal 1989"
            };
        }
    };
}
