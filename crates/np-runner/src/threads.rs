//! The threads that this process computes on: as many as asked for and as there are cores, started before anything needs them, so that a
//! system that has no more gives an error instead of a panic in the middle of a product.

use std::{error::Error as _, io};

use rayon::ThreadPoolBuilder;

use crate::{
    error::{Error, Result},
    provenance::cores,
    say::count,
};

/// As many as can be of use, of so many that were asked for.
pub(crate) fn allowed(threads: usize) -> usize {
    threads.clamp(1, cores())
}

/// Starts this process's threads, if that has not been done.
///
/// # Errors
/// [`Error::Start`] if the system gives no more.
pub(crate) fn start(threads: usize) -> Result<()> {
    let Err(error) = ThreadPoolBuilder::new().num_threads(threads).build_global() else { return Ok(()) };
    match error.source().and_then(|cause| cause.downcast_ref::<io::Error>()) {
        Some(cause) => Err(Error::start(count(threads, "thread"))(io::Error::new(cause.kind(), cause.to_string()))),
        // Started before, by a program that uses this as a library.
        None => Ok(()),
    }
}

/// As many as this process would start by itself: those of `RAYON_NUM_THREADS`, else one a core; no more than cores.
pub(crate) fn by_default() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok()).filter(|n| *n > 0);
    allowed(asked.unwrap_or(usize::MAX))
}
