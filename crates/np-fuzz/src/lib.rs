//! Fuzzing as an ordinary test: seeded damage to sound inputs, and a parser that may refuse them but neither panic nor take more
//! memory than its input accounts for.
//!
//! A test binary names [`Meter`] as its global allocator and runs a [`Target`] over a corpus folder and a generator. By default
//! it takes a moment; with `NP_FUZZ=1000000` in the environment all targets together make about that many
//! inputs. An input that fails is written to a temporary folder, and so is the current input of a long
//! campaign, because no test can catch a stack overflow or the end of memory.

mod damage;
mod meter;
mod target;

pub use damage::{Rng, damage, damage_tree};
pub use meter::{Meter, measure};
pub use target::{Target, memory_folder};
