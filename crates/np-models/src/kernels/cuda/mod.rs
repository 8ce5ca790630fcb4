//! Texts of the kernels that models run on CUDA devices. No text depends on sizes: those are parameters, of eight bytes each.
//!
//! Sums go in fixed chunks and fixed trees, without atomics, and depend on shapes alone: the same bits every time. Activations are [`Stored`]; arithmetic is in
//! `float`, totals over chunks in `double`. A text compiles for a device and, with a few definitions before it, as C++.

mod input;
mod linear;
mod loss;
mod norm;
mod norm_backward;
mod pack;
mod pool;

pub use input::input;
pub use linear::{activate, activate_back, column_sums};
pub use loss::{loss, totals};
pub use norm::{norm_apply, norm_merge, norm_running, norm_stats};
pub use norm_backward::{form, norm_back_data, norm_back_merge, norm_back_sums};
pub use pack::{pack, unpack};
pub use pool::{average, average_back};

/// Threads of a block of every kernel here.
pub const THREADS: u32 = 256;

/// Channels of a block of a norm, at most.
pub const TILE: usize = 128;

/// Rows that a thread of a norm takes at once, at most: so many loads are on their way together.
const EACH: usize = 4;

/// Rows that a block of [`norm_apply`] and [`norm_back_data`] takes: [`EACH`] for every thread.
#[must_use]
pub fn rows_of_block(channels: usize, vector: usize) -> usize {
    EACH * (THREADS as usize * vector / channels.min(TILE)).max(1)
}

/// How activations are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stored {
    /// As `float`.
    Single,
    /// As `bf16`, the upper half of a `float`, rounded to the nearest even one.
    Bf16,
}

impl Stored {
    /// Bytes of a number.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Single => 4,
            Self::Bf16 => 2,
        }
    }

    /// Numbers that a thread takes at once where there are so many channels: sixteen bytes, or one.
    #[must_use]
    pub fn vector(self, channels: usize) -> usize {
        let most = 16 / self.bytes();
        if channels.is_multiple_of(most) { most } else { 1 }
    }

    /// `Stored`, `load`, `store`, and `Vector` of so many numbers.
    fn prelude(self, vector: usize) -> String {
        let conversions = match self {
            Self::Single => {
                "typedef float Stored;
__device__ static inline float load(Stored x) { return x; }
__device__ static inline Stored store(float x) { return x; }
"
            }
            Self::Bf16 => {
                "typedef unsigned short Stored;
__device__ static inline float load(Stored x) { return __uint_as_float((unsigned int)x << 16); }
__device__ static inline Stored store(float x) {
    const unsigned int bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (Stored)((bits >> 16) | 0x40u);
    }
    return (Stored)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
"
            }
        };
        format!(
            "typedef unsigned long long Word;
{conversions}#define V {vector}
#define PITCH ({THREADS} + 32 / V)
struct alignas({}) Vector {{
    Stored at[V];
}};
",
            vector * self.bytes()
        )
    }
}

/// The text of a kernel and the name of its function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its text.
    pub text: String,
    /// Its function.
    pub name: &'static str,
}
