//! The homeostatic stabiliser: limits on the size of an update.

use std::fmt;

use np_engine::config::plasticity::Third;
use np_engine::error::{Result, check, not_negative, positive};
use np_trace::Number;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::layers::Position;

hyper_parameters! {
    /// A clip of each tensor's update norm, then a gain that depends on its root mean square. `null` disables either.
    ///
    /// ```text
    /// n = ‖u‖;   if n > U:  u ← u · U/(n + ε)
    /// r = √(mean(u²) + ε);  G = clip(1 + τ (R ℓ − r), 0.5, 1.5)
    /// θ ← θ − η_eff · G · u
    /// ```
    ///
    /// With the defaults the gain differs from 1 by 0.01 at most, and usually by far less: the norm clip has the main effect. The name `off` in
    /// place of a map of settings disables both.
    #[serde(remote = "Self")]
    pub struct Stabilizer {
        /// U > 0, largest norm of a tensor's update u, before η; `null`: no clip. Default 1 (paper).
        pub max_update_norm: Option<f64> = Some(1.0);
        /// Settings of the gain G; `null`: G = 1. Default on (published code).
        pub rms_gain: Option<RmsGain> = Some(RmsGain::default());
        /// ε > 0, added to the norm in the clip and under the root in the gain. Default 10⁻⁸ (published code).
        pub eps: f64 = 1e-8, positive;
    }
}

hyper_parameters! {
    /// The gain G of the [`Stabilizer`], which moves the root mean square of a tensor's update towards a target.
    pub struct RmsGain {
        /// R > 0, target root mean square. Default 0.02 (published code).
        pub target: f64 = 0.02, positive;
        /// τ ≥ 0, adaptation rate. Default 0.01 (published code).
        pub rate: f64 = 0.01, not_negative;
        /// ℓ for the early, middle and late third of the model's tensors, > 0. Default 1 each.
        pub layer_scale: LayerScale = LayerScale::default();
    }
}

hyper_parameters! {
    /// ℓ, a factor on the target for each third of the model's n tensors. A tensor's third is that of its index from 0 in model order, unless a
    /// group names another ([`NeuroPlasticGroup`](crate::NeuroPlasticGroup)).
    pub struct LayerScale {
        /// ℓ where index < ⌈n/3⌉, > 0. Default 1 (published code).
        pub early: f64 = 1.0, positive;
        /// ℓ where ⌈n/3⌉ ≤ index < ⌈2n/3⌉, > 0. Default 1 (published code).
        pub middle: f64 = 1.0, positive;
        /// ℓ where index ≥ ⌈2n/3⌉, > 0. Default 1 (published code).
        pub late: f64 = 1.0, positive;
    }
}

impl Serialize for Stabilizer {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Stabilizer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct StabilizerVisitor;
        impl<'de> Visitor<'de> for StabilizerVisitor {
            type Value = Stabilizer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off`, or a map of settings")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<Stabilizer, E> {
                if name == "off" { Ok(Stabilizer::off()) } else { Err(E::invalid_value(Unexpected::Str(name), &self)) }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Stabilizer, A::Error> {
                Stabilizer::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(StabilizerVisitor)
    }
}

impl Stabilizer {
    /// Neither clip nor gain: u is used as it is. `off` in files.
    #[must_use]
    pub fn off() -> Self {
        Self { max_update_norm: None, rms_gain: None, ..Self::default() }
    }

    pub(super) fn validate(&self) -> Result<()> {
        if let Some(u) = self.max_update_norm {
            check(u.is_finite() && u > 0.0, "max_update_norm", "a number > 0, or `null`", u)?;
        }
        if let Some(gain) = &self.rms_gain {
            gain.in_range().map_err(|e| e.below("rms_gain"))?;
            gain.layer_scale.in_range().map_err(|e| e.below("rms_gain.layer_scale"))?;
        }
        self.in_range()
    }

    /// The factor of an update with `square_sum` = Σu² over `elements` elements: clip and gain together.
    pub(super) fn factor<N: Number>(&self, square_sum: N, elements: usize, at: Position) -> N {
        let (real, norm) = (N::from_f64, square_sum.sqrt());
        let clip = match self.max_update_norm {
            Some(max) => held(norm, real(max), real(self.eps)),
            None => N::ONE,
        };
        let Some(gain) = &self.rms_gain else { return clip };
        let rms = (clip * clip * square_sum / real(elements.max(1) as f64) + real(self.eps)).sqrt();
        let LayerScale { early, middle, late } = gain.layer_scale;
        let scale = match at.third() {
            Third::Early => early,
            Third::Middle => middle,
            Third::Late => late,
        };
        let target = real(gain.target * scale);
        clip * (N::ONE + real(gain.rate) * (target - rms)).clip(real(0.5), real(1.5))
    }
}

/// The factor that brings a norm down to `max`: max/(norm + ε), or 1 if the norm is not above `max`.
pub(super) fn held<N: Number>(norm: N, max: N, eps: N) -> N {
    N::select_lt(max, norm, max / (norm + eps), N::ONE)
}
