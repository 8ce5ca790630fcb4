//! The data of a run: which set, which of its examples, in which shape, varied how.

use np_data::{Amount, Augmentation, DataName, Identity, Layout, Preparation, Sampling, Selection, Source};
use np_record::{Record, Standing};
use serde::{Deserialize, Serialize};

use crate::config::OutOfRange;

/// The data set of a run.
///
/// What came later than `fraction` is left out of a configuration where it has its default, so that the ids of older runs stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Which one. Default `mnist`.
    pub name: DataName,
    /// `mini`, the images embedded in this program, or `full`, the published files. Default `mini`.
    pub source: Source,
    /// Share of the training split that is trained on, above 0, at most 1; drawn by the run's seed, and for one seed nested
    /// across fractions. Default 1.
    pub fraction: f64,
    /// So many examples instead of a share, 1 or more; nested like fractions. `fraction` is then 1. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// Whether the subset is drawn `plain` or `stratified`, class by class. Default `plain`.
    #[serde(skip_serializing_if = "is_default")]
    pub sampling: Sampling,
    /// Share of the training split, of every class, that is held out for validation, above 0, below 1: drawn by the run's seed
    /// before the subset, which is then of what is left. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
    /// How training images are varied: `none`, or `crop_flip`, a window of the image with 4 black pixels around it, mirrored
    /// every other time; by seed, epoch and image. Default `none`.
    #[serde(skip_serializing_if = "is_default")]
    pub augment: Augmentation,
    /// The shape of images: `stored`, or `rgb32`, 3×32×32 with black around and a grey plane three times. Default `stored`.
    #[serde(skip_serializing_if = "is_default")]
    pub layout: Layout,
}

/// What a record says of a set's identity.
pub(crate) fn standing(identity: Identity) -> Standing {
    match identity {
        Identity::Published => Standing::Published,
        Identity::Unverified => Standing::Unverified,
        Identity::Custom => Standing::Custom,
    }
}

/// What a record says of its data, as configuration and digest tell it: its own words are under no digest but one that whoever edits it can write
/// anew. Those of a configuration that is not one of this version stay.
pub(crate) fn described(mut record: Record) -> Record {
    let read = |pointer| record.config.pointer(pointer).cloned().unwrap_or_default();
    let name = serde_json::from_value::<DataName>(read("/data/name"));
    let (Ok(name), Ok(source)) = (name, serde_json::from_value::<Source>(read("/data/source"))) else { return record };
    let data = &mut record.data;
    let told = match data.standing {
        Standing::Published => Identity::Published,
        Standing::Unverified => Identity::Unverified,
        Standing::Custom => Identity::Custom,
    };
    let (identity, title) = Identity::of_told(name, source, &data.digest, (told, &data.title));
    (data.name, data.title, data.standing) = (name.to_string(), title, standing(identity));
    record
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            name: DataName::Mnist,
            source: Source::Mini,
            fraction: 1.0,
            count: None,
            sampling: Sampling::Plain,
            validation: None,
            augment: Augmentation::None,
            layout: Layout::Stored,
        }
    }
}

impl DataConfig {
    /// Checks what types cannot: every range.
    pub(crate) fn validate(&self) -> Result<(), OutOfRange> {
        let check = |ok: bool, key: &str, expected: &str, got: &dyn std::fmt::Display| match ok {
            true => Ok(()),
            false => Err(OutOfRange { key: key.into(), expected: expected.into(), got: got.to_string() }),
        };
        let share = self.fraction > 0.0 && self.fraction <= 1.0;
        check(share, "data.fraction", "a number above 0 and at most 1", &self.fraction)?;
        if let Some(count) = self.count {
            check(count > 0, "data.count", "1 or more", &count)?;
            check(self.fraction == 1.0, "data.fraction", "`1`, because `data.count` says how many", &self.fraction)?;
        }
        if let Some(share) = self.validation {
            check(share > 0.0 && share < 1.0, "data.validation", "a number above 0 and below 1", &share)?;
        }
        Ok(())
    }

    /// Which examples are trained on, and which are held out.
    pub(crate) fn selection(&self) -> Selection {
        let amount = self.count.map_or(Amount::Fraction(self.fraction), Amount::Count);
        Selection { amount, sampling: self.sampling, validation: self.validation }
    }

    /// How images become batches.
    pub(crate) fn preparation(&self) -> Preparation {
        Preparation { normalization: self.name.normalization(), layout: self.layout, augmentation: self.augment }
    }

    /// The shape of its images as the model sees them, channels first.
    pub(crate) fn shape(&self) -> Result<[usize; 3], OutOfRange> {
        self.layout.shape(self.name.shape()).map_err(|error| OutOfRange {
            key: "data.layout".into(),
            expected: "a layout that fits the images".into(),
            got: error.to_string(),
        })
    }

    /// The key that says how much is taken.
    pub(crate) fn amount_key(&self) -> &'static str {
        if self.count.is_some() { "count" } else { "fraction" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_its_default_is_not_written() {
        let text = serde_json::to_string(&DataConfig::default()).unwrap();
        assert_eq!(text, r#"{"name":"mnist","source":"mini","fraction":1.0}"#);
        let all = DataConfig {
            count: Some(10),
            sampling: Sampling::Stratified,
            validation: Some(0.1),
            augment: Augmentation::CropFlip,
            layout: Layout::Rgb32,
            ..DataConfig::default()
        };
        let text = serde_json::to_string(&all).unwrap();
        assert!(text.ends_with(
            r#""count":10,"sampling":"stratified","validation":0.1,"augment":"crop_flip","layout":"rgb32"}"#
        ));
        assert_eq!(serde_json::from_str::<DataConfig>(&text).unwrap(), all);
    }
}
