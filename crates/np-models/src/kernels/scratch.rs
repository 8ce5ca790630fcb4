//! Memory that is used again instead of freed: what a step writes and no one outside sees.
//!
//! Fresh memory costs a page fault for every 4 KiB, which at ResNet-18's sizes is a good part of a step.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::Real;

/// Free buffers of each element type.
#[derive(Default)]
pub(crate) struct Pools {
    pub(super) f32: Mutex<Vec<Vec<f32>>>,
    pub(super) f64: Mutex<Vec<Vec<f64>>>,
}

impl Pools {
    /// Those of the whole process, for what lives within one kernel.
    fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<Pools>> = LazyLock::new(Arc::default);
        SHARED.clone()
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pools").finish_non_exhaustive()
    }
}

/// A slice that returns to its pool when it is dropped.
pub(crate) struct Buffer<T: Real> {
    data: Vec<T>,
    len: usize,
    pools: Arc<Pools>,
}

impl<T: Real> Buffer<T> {
    /// `len` elements that hold whatever was left in them.
    pub(super) fn take(pools: &Arc<Pools>, len: usize) -> Self {
        let mut free = T::free(pools).lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that fits, unless it would waste more than half of itself.
        let fits = (0..free.len()).filter(|&i| (len..=2 * len).contains(&free[i].len()));
        let data = fits.min_by_key(|&i| free[i].len()).map(|i| free.swap_remove(i));
        drop(free);
        Self { data: data.unwrap_or_else(|| vec![T::ZERO; len]), len, pools: pools.clone() }
    }

    /// As [`Self::take`], for what lives within one kernel.
    pub(super) fn scratch(len: usize) -> Self {
        Self::take(&Pools::shared(), len)
    }
}

impl<T: Real> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.data[..self.len]
    }
}

impl<T: Real> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[..self.len]
    }
}

impl<T: Real> Drop for Buffer<T> {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        T::free(&self.pools).lock().unwrap_or_else(PoisonError::into_inner).push(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_for_sizes_it_fits() {
        let pools = Arc::new(Pools::default());
        let mut first = Buffer::<f32>::take(&pools, 100);
        first[0] = 7.0;
        drop(first);
        assert_eq!(Buffer::<f32>::take(&pools, 60)[0], 7.0);
        assert_eq!(Buffer::<f32>::take(&pools, 60).len(), 60);
        let (larger, small) = (Buffer::<f32>::take(&pools, 101), Buffer::<f32>::take(&pools, 49));
        assert_eq!((larger[0], small[0]), (0.0, 0.0), "too large for it, and too small");
        drop((larger, small));
        assert_eq!(pools.f32.lock().unwrap().len(), 3);
        assert!(pools.f64.lock().unwrap().is_empty());
    }
}
