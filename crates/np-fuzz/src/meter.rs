//! An allocator that counts what the current thread holds.
#![allow(unsafe_code, reason = "an allocator is unsafe to implement; this one hands everything to the system's")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// No parser may hold more, whatever its input: beyond it memory runs out, so that a faulty one does not take the machine along.
const CAP: isize = 2 << 30;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, with a count a thread: `#[global_allocator] static METER: np_fuzz::Meter = np_fuzz::Meter;`.
#[derive(Debug, Clone, Copy)]
pub struct Meter;

/// Whether so many bytes more may be held; counts them if so.
fn take(bytes: usize) -> bool {
    let held = HELD.get().saturating_add(bytes.cast_signed());
    if held > CAP {
        return false;
    }
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
    true
}

fn give(bytes: usize) {
    HELD.set(HELD.get() - bytes.cast_signed());
}

// SAFETY: every call is the system allocator's, with the arguments that it was made with; null means out of memory there too.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        if take(layout.size()) { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        if take(layout.size()) { unsafe { System.alloc_zeroed(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !take(size) {
            return std::ptr::null_mut();
        }
        give(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What `work` gives, and the most bytes that it held at a time on this thread beyond what was held before. Only with [`Meter`] as
/// the global allocator; else 0.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, usize::try_from(PEAK.get() - before).unwrap_or(0))
}
