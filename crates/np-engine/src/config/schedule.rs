//! Learning-rate schedules: a factor on η as a function of how much of the training is done.

use serde::{Deserialize, Serialize};

use crate::error::{Result, check, not_negative, positive};

tagged! {
    /// A learning-rate schedule: η at position x is the configured η times [`Schedule::factor`].
    ///
    /// x counts epochs: 0 at the start of the first, E at the end of the last, fractions in between. [`crate::Driver::begin_epoch`] sets it
    /// once an epoch, which gives PyTorch's per-epoch schedules. [`crate::Driver::set_position`] sets it before each step, which gives the
    /// per-step ones. Set it before each step if there is a warm-up: at the start of the first epoch the factor is 0, and the parameters would
    /// not move during that epoch. NeuroPlastic's controller multiplies the scheduled η.
    ///
    /// ```
    /// use np_core::Schedule;
    /// let schedule: Schedule = serde_json::from_str(r#"{"cosine": {"warmup": 1, "min": 0.1}}"#)?;
    /// assert_eq!(schedule.factor(0.5, 10.0), 0.5);
    /// assert_eq!(schedule.factor(1.0, 10.0), 1.0);
    /// assert!((schedule.factor(10.0, 10.0) - 0.1).abs() < 1e-12);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub enum Schedule {
        /// 1 throughout. The default.
        Constant(Constant),
        /// Multiplied by γ every so many epochs (PyTorch's `StepLR`).
        Step(Step),
        /// Multiplied by γ every epoch (PyTorch's `ExponentialLR`).
        Exponential(Exponential),
        /// Half a cosine from 1 to a minimum (PyTorch's `CosineAnnealingLR`; Loshchilov and Hutter 2017).
        Cosine(Cosine),
        /// A rise and a descent, each half a cosine (PyTorch's `OneCycleLR` with two phases; Smith and Topin 2018).
        OneCycle(OneCycle),
        /// Warm-up, a stable phase, a linear descent ("warm-up–stable–decay"; Hägele et al. 2024).
        Linear(Linear),
    }
}

macro_rules! shape {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name { $($(#[$field_doc])* pub $field: f64,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

shape! {
    /// 1, after a linear warm-up if one is set.
    Constant {
        /// Epochs of linear warm-up from 0, ≥ 0. Default 0.
        warmup = 0.0,
    }
}
shape! {
    /// γ^⌊x/every⌋, after a linear warm-up if one is set. Epochs of the warm-up count in x.
    Step {
        /// Epochs of linear warm-up from 0, ≥ 0. Default 0.
        warmup = 0.0,
        /// Epochs between two steps, > 0. Default 30 (as in the ImageNet recipes).
        every = 30.0,
        /// γ > 0. Default 0.1 (PyTorch).
        gamma = 0.1,
    }
}
shape! {
    /// γ^⌊x⌋, constant within an epoch, after a linear warm-up if one is set. Epochs of the warm-up count in x.
    Exponential {
        /// Epochs of linear warm-up from 0, ≥ 0. Default 0.
        warmup = 0.0,
        /// γ > 0. Default 0.95.
        gamma = 0.95,
    }
}
shape! {
    /// min + (1 − min) ½ (1 + cos(π p)), where p rises from 0 at the end of the warm-up to 1 at the end of the training.
    Cosine {
        /// Epochs of linear warm-up from 0, ≥ 0. Default 0.
        warmup = 0.0,
        /// The factor at the end, in [0, 1]. Default 0 (PyTorch).
        min = 0.0,
    }
}
shape! {
    /// From `start` to 1 over the first `rise` of the training, then to `end`, both along half a cosine.
    OneCycle {
        /// Share of the training that rises, in (0, 1). Default 0.3 (PyTorch).
        rise = 0.3,
        /// The factor at the start, in [0, 1]. Default 0.04 (PyTorch's 1/25).
        start = 0.04,
        /// The factor at the end, in [0, 1]. Default 4·10⁻⁶ (PyTorch's start/10⁴).
        end = 4e-6,
    }
}
shape! {
    /// After the warm-up, 1 for a share `stable` of the remaining epochs, then a linear descent to `min` at the end of the training.
    Linear {
        /// Epochs of linear warm-up from 0, ≥ 0. Default 0.
        warmup = 0.0,
        /// Share of the epochs after the warm-up before the descent begins, in [0, 1). Default 0: linear decay from there on.
        stable = 0.0,
        /// The factor at the end, in [0, 1]. Default 0.
        min = 0.0,
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Constant(Constant::default())
    }
}

impl Schedule {
    /// `Ok` if every setting lies in its range.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for the first that does not.
    pub fn validate(&self) -> Result<()> {
        let unit = |key: &str, x: f64| check((0.0..=1.0).contains(&x), key, "a number in [0, 1]", x);
        not_negative("schedule.warmup", self.warmup())?;
        match self {
            Self::Constant(_) => Ok(()),
            Self::Step(s) => {
                positive("schedule.step.every", s.every)?;
                positive("schedule.step.gamma", s.gamma)
            }
            Self::Exponential(s) => positive("schedule.exponential.gamma", s.gamma),
            Self::Cosine(s) => unit("schedule.cosine.min", s.min),
            Self::OneCycle(s) => {
                let rise = "schedule.one_cycle.rise";
                check(s.rise > 0.0 && s.rise < 1.0, rise, "a number in (0, 1)", s.rise)?;
                unit("schedule.one_cycle.start", s.start)?;
                unit("schedule.one_cycle.end", s.end)
            }
            Self::Linear(s) => {
                let stable = "schedule.linear.stable";
                check((0.0..1.0).contains(&s.stable), stable, "a number in [0, 1)", s.stable)?;
                unit("schedule.linear.min", s.min)
            }
        }
    }

    /// The factor on η at position `x` (epochs done, fractions allowed) of a training of `epochs` epochs.
    #[must_use]
    pub fn factor(&self, x: f64, epochs: f64) -> f64 {
        let warmup = self.warmup();
        if x < warmup {
            return x / warmup;
        }
        let share = ((x - warmup) / (epochs - warmup).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        match self {
            Self::Constant(_) => 1.0,
            Self::Step(s) => s.gamma.powf((x / s.every).floor()),
            Self::Exponential(s) => s.gamma.powf(x.floor()),
            Self::Cosine(s) => cosine(1.0, s.min, share),
            Self::OneCycle(s) if share < s.rise => cosine(s.start, 1.0, share / s.rise),
            Self::OneCycle(s) => cosine(1.0, s.end, (share - s.rise) / (1.0 - s.rise)),
            Self::Linear(s) => 1.0 - (1.0 - s.min) * ((share - s.stable) / (1.0 - s.stable)).max(0.0),
        }
    }

    /// Whether the factor depends on the length of the training.
    pub(crate) fn needs_epochs(&self) -> bool {
        matches!(self, Self::Cosine(_) | Self::OneCycle(_) | Self::Linear(_))
    }

    /// Epochs of warm-up.
    pub(crate) fn warmup(&self) -> f64 {
        match self {
            Self::Constant(Constant { warmup })
            | Self::Step(Step { warmup, .. })
            | Self::Exponential(Exponential { warmup, .. })
            | Self::Cosine(Cosine { warmup, .. })
            | Self::Linear(Linear { warmup, .. }) => *warmup,
            Self::OneCycle(_) => 0.0,
        }
    }
}

/// Half a cosine from `from` to `to`.
fn cosine(from: f64, to: f64, share: f64) -> f64 {
    to + (from - to) * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
}
