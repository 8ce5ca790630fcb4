//! What a run trains and validates on: how many examples, drawn how, and how many are held out first.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::sample::{Holdout, holdout, stratified_subset, stratified_subset_of, subset, subset_of};

/// How a subset is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Every example with the same chance.
    #[default]
    Plain,
    /// The same share of every class.
    Stratified,
}

/// How much of a training set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// A share of it, above 0, at most 1.
    Fraction(f64),
    /// So many examples, 1 or more.
    Count(usize),
}

/// Which examples of a training set a run sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selection {
    /// How much of what is not held out is trained on. For one seed, less is a part of more.
    pub amount: Amount,
    /// How that is drawn.
    pub sampling: Sampling,
    /// The share of every class that is held out for validation, above 0 and below 1; `None` for no validation. It is drawn
    /// before, from the whole training set, so that it is the same for every amount.
    pub validation: Option<f64>,
}

impl Selection {
    /// The examples, as indices into a training set with these labels: a function of the labels and the seed. `validation` is
    /// empty if none is held out; `train` is in the order of a seeded permutation.
    ///
    /// # Errors
    /// Those of [`holdout`], then of [`subset`], [`subset_of`], [`stratified_subset`] or [`stratified_subset_of`] of what is left.
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
