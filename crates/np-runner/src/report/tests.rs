//! The page of made-up experiments.
