//! Options that every optimizer takes: groups, clipping, non-finite gradients, accumulation, schedule, rounding.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::config::plasticity::NeuroPlasticGroup;
use crate::config::rounding::Rounding;
use crate::config::schedule::Schedule;
use crate::error::{Error, Result, check, positive};

/// Settings that are the same for every optimizer; given to [`crate::Driver::with_options`].
///
/// A call of `step` checks its gradients for non-finite numbers and accumulates them. The last call of an accumulation, which is every call by
/// default, then clips the mean of the gradients and updates the parameters with η times the schedule's factor.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Settings for some of the parameters. Where several groups match a name, the last one that has a setting decides it. Default none.
    pub groups: Vec<Group>,
    /// Which tensors weight decay acts on. Default all.
    pub decay_scope: DecayScope,
    /// Gradient clipping. Default `None`.
    pub clip: Option<Clip>,
    /// What to do about a gradient with infinities or NaN. Default `propagate`, for which gradients are not checked.
    pub non_finite: NonFinite,
    /// Gradients are averaged over this many calls of `step`, and the last of these calls updates the parameters. Default 1.
    pub accumulate: Accumulate,
    /// Factor on η over the course of the training. Default constant: 1 throughout.
    pub schedule: Schedule,
    /// How parameters in half precision are rounded after a step. Default `nearest`, which loses updates that are too small.
    #[serde(skip_serializing_if = "Rounding::is_nearest")]
    pub rounding: Rounding,
}

/// Settings for the parameters whose names match a glob.
///
/// ```
/// let slower = np_core::Group { pattern: "*.bias".into(), lr_scale: Some(0.1), ..Default::default() };
/// assert_eq!(slower.weight_decay, None);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Glob over parameter names, such as `*.bias` or `layer[12].*`. `*` matches any run of characters, `.` and `/` included; `?` any one
    /// character; `{a,b}` either of the two; `[ab]` one of these characters; `[!ab]` any other. `\\` makes the next character literal. A `!` at
    /// the start matches the names that the rest of the pattern does not. [`Group::default`] has `*`. `match` in files.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Factor on η, ≥ 0. `None`: unchanged; 1 if no group sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_scale: Option<f64>,
    /// Weight decay in place of the optimizer's, ≥ 0. `None`: unchanged; the optimizer's if no group sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Whether the parameters are trained at all. `None`: unchanged; trained if no group sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
    /// Whether optimizers that work on whole matrices (Muon, Shampoo, SOAP, K-FAC, Adafactor) treat the parameters as matrices. `off` is
    /// usual for embeddings and the output layer. `None`: unchanged; on if no group sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Matrix>,
    /// Settings that only NeuroPlastic reads. Default none.
    #[serde(default, skip_serializing_if = "NeuroPlasticGroup::says_nothing")]
    pub neuroplastic: NeuroPlasticGroup,
}

impl Default for Group {
    /// A group of all parameters without any setting.
    fn default() -> Self {
        Self {
            pattern: "*".to_string(),
            lr_scale: None,
            weight_decay: None,
            training: None,
            matrix: None,
            neuroplastic: NeuroPlasticGroup::default(),
        }
    }
}

/// Whether a parameter is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Training {
    /// It is trained. The default.
    #[default]
    Trained,
    /// Its gradient is ignored, and neither it nor its state changes.
    Frozen,
}

/// Whether an optimizer that works on whole matrices treats a parameter as a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matrix {
    /// As a matrix, if it has at least two dimensions. The default.
    #[default]
    On,
    /// As a vector, whatever its shape.
    Off,
}

/// Which tensors weight decay acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DecayScope {
    /// All tensors. The default.
    #[default]
    All,
    /// Tensors of at least two dimensions, so that biases and the scales of normalisation layers do not decay. A group's `weight_decay`
    /// overrides this.
    Matrices,
}

/// Gradient clipping.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Clip {
    /// All gradients are scaled by min(1, c/(‖g‖ + 10⁻⁶)), where ‖g‖ is the norm over all parameters together (PyTorch's
    /// `clip_grad_norm_`). c > 0.
    Norm(f64),
    /// Each element of a gradient is clipped to [−c, c] (PyTorch's `clip_grad_value_`). c > 0.
    Value(f64),
}

/// What to do about a gradient with infinities or NaN.
///
/// "Overflow" below means a finite gradient whose squares the optimizer's state cannot hold, for optimizers that keep squares of gradients. In
/// single precision that is a norm above 4.6·10¹⁸ for one parameter, after clipping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NonFinite {
    /// Gradients are not checked: infinities and NaN reach the parameters, and squares that overflow stay infinite in the state. The default.
    ///
    /// Some optimizers return an error all the same. L-BFGS and K-FAC always check. Adafactor, Muon, Shampoo and SOAP check, except where
    /// their steps are kernel launches on CUDA. K-FAC, and those of the others that keep squares of the parameter, also refuse an overflow.
    #[default]
    Propagate,
    /// The step returns an error that names the parameter, and changes nothing. Also for an overflow.
    Error,
    /// The step is skipped and counted ([`Driver::skipped_steps`](crate::Driver::skipped_steps)); nothing else changes. Also for an overflow.
    /// With [`Options::accumulate`] each call is checked separately: the gradients of a skipped call are left out, and those accumulated
    /// before it are kept.
    Skip,
}

/// Number of calls of `step` whose gradients are averaged for one update. Default 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Accumulate(pub NonZeroUsize);

impl Default for Accumulate {
    fn default() -> Self {
        Self(NonZeroUsize::MIN)
    }
}

impl Options {
    /// `Ok` if every setting lies in its range and every group's pattern is a valid glob.
    ///
    /// # Errors
    /// [`Error::Config`] for the first that does not.
    pub fn validate(&self) -> Result<()> {
        for (i, group) in self.groups.iter().enumerate() {
            if let Err(e) = fast_glob::validate(&group.pattern) {
                let expected = format!("a glob ({e})");
                return Err(Error::Config { key: format!("groups.{i}.match"), expected, got: group.pattern.clone() });
            }
            let settings = [("lr_scale", group.lr_scale), ("weight_decay", group.weight_decay)];
            for (field, x) in settings.into_iter().filter_map(|(field, x)| Some((field, x?))) {
                check(x >= 0.0 && x.is_finite(), &format!("groups.{i}.{field}"), "a number ≥ 0", x)?;
            }
        }
        match self.clip {
            None => {}
            Some(Clip::Norm(c)) => positive("clip.norm", c)?,
            Some(Clip::Value(c)) => positive("clip.value", c)?,
        }
        self.schedule.validate()
    }

    /// `Ok` if each group matches at least one of `names`: one that matches none is taken for a mistake.
    pub(crate) fn fits(&self, names: &[&str]) -> Result<()> {
        for (i, group) in self.groups.iter().enumerate() {
            if !names.iter().any(|name| group.matches(name)) {
                let some: Vec<_> = names.iter().take(8).copied().collect();
                let expected = format!("a glob that matches a parameter ({}{})", some.join(", "), dots(names.len()));
                return Err(Error::Config { key: format!("groups.{i}.match"), expected, got: group.pattern.clone() });
            }
        }
        Ok(())
    }

    /// What the groups say of parameter `name` with `rank` dimensions.
    pub(crate) fn of(&self, name: &str, rank: usize) -> Settings {
        let mut settings = Settings { rounding: self.rounding, ..Settings::default() };
        if self.decay_scope == DecayScope::Matrices && rank < 2 {
            settings.weight_decay = Some(0.0);
        }
        for group in self.groups.iter().filter(|g| g.matches(name)) {
            settings.lr_scale = group.lr_scale.unwrap_or(settings.lr_scale);
            settings.weight_decay = group.weight_decay.or(settings.weight_decay);
            settings.training = group.training.unwrap_or(settings.training);
            settings.matrix = group.matrix.unwrap_or(settings.matrix);
            settings.neuroplastic = settings.neuroplastic.or(group.neuroplastic);
        }
        settings
    }
}

fn dots(names: usize) -> &'static str {
    if names > 8 { ", …" } else { "" }
}

impl Group {
    fn matches(&self, name: &str) -> bool {
        // The matcher is one of files: it stops at `/`, and goes by bytes. A name has no folders, so that something is put in place of `/` that means
        // nothing, and every character outside ASCII gets a byte of its own.
        let mut others = Vec::new();
        let mut plain = |text: &str| -> Vec<u8> {
            let byte = |c: char| match u8::try_from(c) {
                Ok(b'/') => 1,
                Ok(ascii) if ascii.is_ascii() => ascii,
                _ => {
                    let at = others.iter().position(|other| *other == c).unwrap_or(others.len());
                    if at == others.len() {
                        others.push(c);
                    }
                    u8::try_from(0x80 + at).unwrap_or(u8::MAX)
                }
            };
            text.chars().map(byte).collect()
        };
        let (pattern, name) = (plain(&self.pattern), plain(name));
        fast_glob::glob_match(pattern, name)
    }
}

/// What holds for one parameter once all groups have been looked at.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Factor on η.
    pub lr_scale: f64,
    /// Weight decay in place of the optimizer's.
    pub weight_decay: Option<f64>,
    /// Whether it is trained.
    pub training: Training,
    /// Whether rules of whole matrices treat it as one.
    pub matrix: Matrix,
    /// What only NeuroPlastic reads.
    pub neuroplastic: NeuroPlasticGroup,
    /// How it is rounded in half precision.
    pub rounding: Rounding,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lr_scale: 1.0,
            weight_decay: None,
            training: Training::Trained,
            matrix: Matrix::On,
            neuroplastic: NeuroPlasticGroup::default(),
            rounding: Rounding::Nearest,
        }
    }
}
