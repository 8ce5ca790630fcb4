//! The selection of training and validation examples: how many, and how they are drawn.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::sample::{Holdout, holdout, stratified_subset, stratified_subset_of, subset, subset_of};

/// How a subset is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Uniformly from all examples. The default.
    #[default]
    Plain,
    /// The same fraction of every class, up to rounding.
    Stratified,
}

/// How much of a training set is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// A fraction of it, above 0 and at most 1.
    Fraction(f64),
    /// A number of examples, at least 1.
    Count(usize),
}

/// Which examples of a training set a run trains and validates on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selection {
    /// How many of the examples that are not held out are trained on. For one seed, a smaller amount is a subset of a larger one.
    pub amount: Amount,
    /// How these are drawn.
    pub sampling: Sampling,
    /// The fraction of every class that is held out for validation, above 0 and below 1; `None` for no validation. It is drawn
    /// first, from the whole training set, so that it is the same for every amount.
    pub validation: Option<f64>,
}

impl Selection {
    /// The selected examples, as indices into a training set with these labels. The same labels and seed give the same result. `validation` is
    /// ascending, and empty if none is held out; `train` is in the order of a seeded permutation.
    ///
    /// # Errors
    /// Those of [`holdout`], and of [`subset`], [`subset_of`], [`stratified_subset`] or [`stratified_subset_of`] on the remaining examples.
    pub fn draw(&self, labels: &[u8], seed: u64) -> Result<Holdout, Error> {
        let Some(fraction) = self.validation else {
            return Ok(Holdout { train: self.subset(labels, seed)?, validation: Vec::new() });
        };
        let Holdout { train: rest, validation } = holdout(labels, fraction, seed)?;
        let labels: Vec<u8> = rest.iter().map(|&index| labels[index as usize]).collect();
        let drawn = self.subset(&labels, seed)?;
        Ok(Holdout { train: drawn.into_iter().map(|at| rest[at as usize]).collect(), validation })
    }

    fn subset(&self, labels: &[u8], seed: u64) -> Result<Vec<u32>, Error> {
        match (self.sampling, self.amount) {
            (Sampling::Plain, Amount::Fraction(fraction)) => subset(labels.len(), fraction, seed),
            (Sampling::Plain, Amount::Count(count)) => subset_of(labels.len(), count, seed),
            (Sampling::Stratified, Amount::Fraction(fraction)) => stratified_subset(labels, fraction, seed),
            (Sampling::Stratified, Amount::Count(count)) => stratified_subset_of(labels, count, seed),
        }
    }
}
