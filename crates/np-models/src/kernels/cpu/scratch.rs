//! Memory that is used again instead of freed: what a step writes and no one outside sees.
//!
//! Fresh memory costs a page fault for every 4 KiB, which at ResNet-18's sizes is a good part of a step.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::Real;

/// Buffers of each element type.
#[derive(Default)]
pub(crate) struct Pools {
    pub(super) f32: Mutex<Pool<f32>>,
    pub(super) f64: Mutex<Pool<f64>>,
}

/// Free buffers, the one that has waited longest first, and how many elements are lent out: now, and the most at once so far.
///
/// What is free and what is lent out stay below twice that most, so that sizes that keep changing do not add up.
#[derive(Default)]
pub(crate) struct Pool<T> {
    free: Vec<Vec<T>>,
    lent: usize,
    most: usize,
}

impl<T: Real> Pool<T> {
    /// A free buffer for `len` elements, the smallest that fits, unless it would waste more than half of itself; else `None`, and room for a
    /// new one.
    fn lend(&mut self, len: usize) -> Option<Vec<T>> {
        let fits = (0..self.free.len()).filter(|&i| (len..=2 * len).contains(&self.free[i].len()));
        let found = fits.min_by_key(|&i| self.free[i].len()).map(|i| self.free.remove(i));
        self.lent += found.as_ref().map_or(len, Vec::len);
        self.most = self.most.max(self.lent);
        if found.is_none() {
            let mut kept = self.free.iter().map(Vec::len).sum::<usize>();
            while kept + self.lent > 2 * self.most && !self.free.is_empty() {
                kept -= self.free.remove(0).len();
            }
        }
        found
    }

    fn take_back(&mut self, data: Vec<T>) {
        self.lent -= data.len();
        self.free.push(data);
    }
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
        let data = T::pool(pools).lock().unwrap_or_else(PoisonError::into_inner).lend(len);
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
        T::pool(&self.pools).lock().unwrap_or_else(PoisonError::into_inner).take_back(data);
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
        assert_eq!(pools.f32.lock().unwrap().free.len(), 3);
        assert!(pools.f64.lock().unwrap().free.is_empty());
    }

    #[test]
    fn sizes_that_keep_rising_do_not_add_up() {
        let pools = Arc::new(Pools::default());
        for len in 1000..1500 {
            let both = [Buffer::<f32>::take(&pools, len), Buffer::<f32>::take(&pools, 3 * len)];
            drop(both);
            let pool = pools.f32.lock().unwrap();
            let kept: usize = pool.free.iter().map(Vec::len).sum();
            assert_eq!((pool.lent, pool.most >= 4 * len), (0, true));
            assert!(kept <= 2 * pool.most, "{kept} elements are kept, {} were the most at once", pool.most);
        }
    }
}
