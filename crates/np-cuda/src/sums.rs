//! Texts of kernels that add up: in two stages, fixed chunks and then tensors, without atomics.
//!
//! The order of additions is the CPU's: within a chunk of [`CHUNK`] numbers in lanes, lanes in order, chunks in order, tensors in order. So a sum of terms that are
//! the same has the same bits. Nothing is contracted, whatever the compiler's options.

use crate::table::{CHUNK, beginning, declarations};

/// Lanes of the sums of squares of gradients: number i of a chunk is added to lane i mod 16.
pub const LANES: usize = 16;

/// Threads of a block of [`squares`] and [`norm`].
pub const THREADS: u32 = 256;

/// Function of [`squares`].
pub const SQUARES: &str = "np_squares";
/// Function of [`norm`].
pub const NORM: &str = "np_norm";
/// Function of [`clip`].
pub const CLIP: &str = "np_clip";

/// What [`norm`] and [`clip`] leave, in numbers of double precision.
pub mod norms {
    /// What to multiply numbers with before they are squared once more; 0 where the sum is in range.
    pub const AGAIN: usize = 0;
    /// Σ(scale · g)² of all tensors.
    pub const TOTAL: usize = 1;
    /// The scale in it.
    pub const SCALE: usize = 2;
    /// ‖g‖.
    pub const NORM: usize = 3;
    /// What clipping multiplies gradients with.
    pub const CLIP: usize = 4;
    /// Σ(scale · g)² of each tensor begins here.
    pub const EACH: usize = 8;
}

/// `np_squares(pieces, tensors, partial, norms, first, attempt)`, a block of [`THREADS`] for each piece of [`CHUNK`] elements: Σ(scale · g)² of piece k to
/// `partial[first + k]`, for gradients stored as `stored` and read by `read`, with what it needs in `conversions`.
///
/// At attempt 0 the scale is 1; at attempt 1 it is what `norms` asks for, or nothing is done.
#[must_use]
pub fn squares(stored: &str, real: &str, conversions: &str, read: &str) -> String {
    const TILE: usize = 2048;
    format!(
        r#"// Sums of squares of a chunk's gradients, in {LANES} lanes of double precision.
{declarations}{conversions}
extern "C" __global__ void {SQUARES}(const Piece *pieces, const Tensor *tensors, double *partial, const double *norms,
                                      unsigned long long first, unsigned long long attempt) {{
    __shared__ double terms[{TILE}];
    __shared__ double lanes[{LANES}];
    const double scale = attempt == 0 ? 1.0 : norms[{again}];
    if (scale == 0.0) {{
        return;
    }}
{beginning}    const {stored} *const gradient = tensor.gradient + start;
    double lane = 0.0;
    for (unsigned int begin = 0; begin < length; begin += {TILE}u) {{
        const unsigned int count = length - begin < {TILE}u ? length - begin : {TILE}u;
        for (unsigned int i = threadIdx.x; i < count; i += blockDim.x) {{
            const double x = __dmul_rn((double){read}(gradient[begin + i]), scale);
            terms[i] = __dmul_rn(x, x);
        }}
        __syncthreads();
        if (threadIdx.x < {LANES}u) {{
#pragma unroll 8
            for (unsigned int i = threadIdx.x; i < count; i += {LANES}u) {{
                lane = __dadd_rn(lane, terms[i]);
            }}
        }}
        __syncthreads();
    }}
    if (threadIdx.x < {LANES}u) {{
        lanes[threadIdx.x] = lane;
    }}
    __syncthreads();
    if (threadIdx.x == 0) {{
        double sum = 0.0;
        for (unsigned int i = 0; i < {LANES}u; i += 1) {{
            sum = __dadd_rn(sum, lanes[i]);
        }}
        partial[first + blockIdx.x] = sum;
    }}
}}
"#,
        declarations = declarations(stored, real),
        beginning = beginning(CHUNK),
        again = norms::AGAIN,
    )
}

/// `np_norm(ranges, tensors, partial, norms, attempt)`, one block of [`THREADS`]: the sums of `tensors` tensors, of which `ranges` has the first piece and their
/// count (two `unsigned int` each), and ‖g‖.
///
/// After attempt 0, [`norms::AGAIN`] says whether squares, or their sum, are out of range: then attempt 1 takes them once more of numbers that have been multiplied with a power
/// of two.
#[must_use]
pub fn norm() -> String {
    format!(
        r#"// Sums of chunks, in order, and of tensors, in order; and the norm of all.
struct Range {{
    unsigned int first;
    unsigned int count;
}};

extern "C" __global__ void {NORM}(const Range *ranges, unsigned long long tensors, const double *partial, double *norms,
                                   unsigned long long attempt) {{
    const double scale = attempt == 0 ? 1.0 : norms[{again}];
    if (scale == 0.0) {{
        return;
    }}
    double *const each = norms + {each};
    for (unsigned long long t = threadIdx.x; t < tensors; t += blockDim.x) {{
        const double *const chunks = partial + ranges[t].first;
        const unsigned int count = ranges[t].count;
        double sum = 0.0;
#pragma unroll 8
        for (unsigned int i = 0; i < count; i += 1) {{
            sum = __dadd_rn(sum, chunks[i]);
        }}
        each[t] = sum;
    }}
    __syncthreads();
    if (threadIdx.x == 0) {{
        double total = 0.0;
        for (unsigned long long t = 0; t < tensors; t += 1) {{
            total = __dadd_rn(total, each[t]);
        }}
        const bool finite = __dsub_rn(total, total) == 0.0;
        norms[{again}] = attempt != 0 ? scale : !finite ? 0x1p-600 : total == 0.0 && tensors > 0 ? 0x1p+600 : 0.0;
        norms[{total}] = total;
        norms[{scale}] = scale;
        norms[{norm}] = __ddiv_rn(__dsqrt_rn(total), scale);
    }}
}}
"#,
        again = norms::AGAIN,
        total = norms::TOTAL,
        scale = norms::SCALE,
        norm = norms::NORM,
        each = norms::EACH,
    )
}

/// `np_clip(norms, most, arguments, rows, stride, place)`, one block: what brings the norm down to `most`, or 1, to [`norms::CLIP`], and to argument `place` of
/// each of `rows` blocks of `stride` arguments of type `real`.
#[must_use]
pub fn clip(real: &str) -> String {
    format!(
        r#"// What gradients are multiplied with so that the norm of all is at most what is asked for; not-a-number where the norm is none.
extern "C" __global__ void {CLIP}(double *norms, double most, {real} *arguments, unsigned long long rows,
                                   unsigned long long stride, unsigned long long place) {{
    const double norm = norms[{norm}];
    const double far = __ddiv_rn(__dmul_rn(norms[{scale}], most), __dsqrt_rn(norms[{total}]));
    const double near = __ddiv_rn(most, __dadd_rn(norm, 1e-6));
    const double factor = norm > 0x1.fffffffffffffp+1023 ? far : near;
    const double clip = factor >= 1.0 ? 1.0 : factor;
    for (unsigned long long row = threadIdx.x; row < rows; row += blockDim.x) {{
        arguments[stride * row + place] = ({real})clip;
    }}
    if (threadIdx.x == 0) {{
        norms[{clip}] = clip;
    }}
}}
"#,
        total = norms::TOTAL,
        scale = norms::SCALE,
        norm = norms::NORM,
        clip = norms::CLIP,
    )
}
