//! What surrounds a rule, for every optimizer: groups, clipping, non-finite gradients, accumulation, schedule.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::config::plasticity::NeuroPlasticGroup;
use crate::config::rounding::Rounding;
use crate::config::schedule::Schedule;
use crate::error::{Error, Result, check, positive};

/// Settings of the driver, the same for every optimizer; given to [`crate::Driver::with_options`].
///
/// A step goes: accumulate → look for numbers that are not finite → clip → rule, with η times the schedule's factor.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Settings for some of the parameters; of the groups that match a name, the last to give a setting decides it. Default none.
    pub groups: Vec<Group>,
    /// Which tensors decay. Default all.
    pub decay_scope: DecayScope,
    /// Gradient clipping. Default none.
    pub clip: Option<Clip>,
    /// What to do about a gradient with numbers that are not finite. Default `propagate`, which costs nothing.
    pub non_finite: NonFinite,
    /// Gradients are averaged over this many calls of `step`, and the last of them updates. Default 1.
    pub accumulate: Accumulate,
    /// η over the training. Default constant.
    pub schedule: Schedule,
    /// How parameters in half precision are rounded after a step. Default `nearest`, which loses changes that are too small.
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
    /// Glob over names: `*` any run of characters, `.` and `/` included, `?` any one, `{a,b}` either, `[ab]` one of these, `[!ab]` any other, `\\` before one
    /// of them the character itself, and all that the rest does not match after a first `!`. `*.bias`, `layer[12].*`. `*` in [`Group::default`].
    #[serde(rename = "match")]
    pub pattern: String,
    /// Factor on η, ≥ 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_scale: Option<f64>,
    /// wd in place of the optimizer's, ≥ 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Whether the parameters are trained at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
    /// Whether optimizers of matrices (Muon, Shampoo, SOAP, K-FAC, Adafactor) see the parameters as such; `off` for embeddings and the
    /// layer that gives the classes, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Matrix>,
    /// What it says to NeuroPlastic alone.
    #[serde(default, skip_serializing_if = "NeuroPlasticGroup::says_nothing")]
    pub neuroplastic: NeuroPlasticGroup,
}

impl Default for Group {
    /// All parameters, and nothing said of them.
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
    /// It is.
    #[default]
    Trained,
    /// Its gradient is ignored, and neither it nor its state changes.
    Frozen,
}

/// Whether an optimizer of matrices sees a parameter as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matrix {
    /// It does, where it has two dimensions or more.
    #[default]
    On,
    /// It is a vector, whatever its shape.
    Off,
}

/// Which tensors weight decay acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DecayScope {
    /// All.
    #[default]
    All,
    /// Those with at least two dimensions: no decay of biases and of normalisation's scales. A group's `weight_decay` comes before this.
    Matrices,
}

/// Gradient clipping.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Clip {
    /// All gradients are scaled by min(1, c/(‖g‖ + 10⁻⁶)), ‖g‖ the norm over all parameters together (`clip_grad_norm_`).
    Norm(f64),
    /// Each number is held to [−c, c] (`clip_grad_value_`).
    Value(f64),
}

/// What to do about a gradient with numbers that are not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NonFinite {
    /// Nothing: they reach the parameters. Optimizers of whole matrices, but on CUDA devices, and L-BFGS make it an error all the same, and they and NeuroPlastic
    /// also refuse finite numbers whose squares overflow in their state (10²⁰ in single precision). In an element-wise optimizer such a square is infinite for good.
    #[default]
    Propagate,
    /// An error that names the parameter; nothing has changed. So for squares that overflow, where the optimizer keeps squares.
    Error,
    /// The step is skipped and counted; nothing else has changed. So for squares that overflow. Where gradients are accumulated, each call is judged by
    /// itself: a bad one is left out, and those before it stay.
    Skip,
}

/// Number of calls of `step` that make an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Accumulate(pub NonZeroUsize);

impl Default for Accumulate {
    fn default() -> Self {
        Self(NonZeroUsize::MIN)
    }
}

impl Options {
    /// Whether every setting lies in its range.
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

    /// Whether each group matches one of `names`: one that does not is a slip of the pen.
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
pub(crate) struct Settings {
    pub(crate) lr_scale: f64,
    pub(crate) weight_decay: Option<f64>,
    pub(crate) training: Training,
    pub(crate) matrix: Matrix,
    pub(crate) neuroplastic: NeuroPlasticGroup,
    pub(crate) rounding: Rounding,
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
