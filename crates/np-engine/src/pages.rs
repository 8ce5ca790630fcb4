//! Large pages for the memory of state.
//!
//! A step goes through all of its state. Where memory is in pages of 4 KB, looking pages up takes a fifth to a third of a step of a large model. Linux gives large pages
//! to those that ask for them, if `/sys/kernel/mm/transparent_hugepage/enabled` is `madvise` (with `always` nobody has to ask). State is no larger for it, since all of
//! it is used; writing to it first may take longer, while the system finds a page. `prctl(PR_SET_THP_DISABLE)` turns it off for a process.

/// Size of a large page.
#[cfg(target_os = "linux")]
const LARGE: usize = 2 << 20;

/// `n` zeros, in large pages where there is room for one.
pub(crate) fn zeros<T: Clone + Default>(n: usize) -> Vec<T> {
    let mut zeros = vec![T::default(); n];
    ask(&mut zeros);
    zeros
}

/// Asks for large pages. Those that have been written to stay as they are.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "a call of the system")]
fn ask<T>(data: &mut [T]) {
    let begin = data.as_mut_ptr().cast::<u8>();
    let skipped = begin.align_offset(LARGE);
    let length = size_of_val(data).saturating_sub(skipped) / LARGE * LARGE;
    if length > 0 {
        // SAFETY: the range is within `data`, which is borrowed mutably. The advice changes no contents, and where the system does not follow it nothing is lost.
        unsafe { libc::madvise(begin.add(skipped).cast(), length, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn ask<T>(_: &mut [T]) {}

#[cfg(test)]
mod tests {
    use super::zeros;

    #[test]
    fn zeros_are_zeros_whatever_their_number() {
        for n in [0, 1, 1000, 3 << 20] {
            let mut all = zeros::<f32>(n);
            assert!(all.len() == n && all.iter().all(|x| x.to_bits() == 0), "{n}");
            all.iter_mut().for_each(|x| *x = 1.0);
            assert!(all.iter().all(|x| *x == 1.0), "{n}");
        }
    }
}
