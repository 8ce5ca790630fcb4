//! Source text of kernels that compute sums: first of fixed chunks, then of tensors, without atomic operations.
//!
//! The order of additions is the CPU's: in lanes within a chunk of [`CHUNK`] numbers, then lanes, chunks and tensors, each in order. So sums of the same terms have
//! the CPU's bits. Multiplications and additions are not fused, whatever the compiler's options.

use crate::table::{CHUNK, beginning, declarations};

/// Number of lanes in sums of squares of gradients: number i of a chunk is added to lane i mod 16.
pub const LANES: usize = 16;

/// Threads in a block of [`squares`] and [`norm`].
pub const THREADS: u32 = 256;

/// Name of the function of [`squares`].
pub const SQUARES: &str = "np_squares";
/// Name of the function of [`norm`].
pub const NORM: &str = "np_norm";
/// Name of the function of [`clip`].
pub const CLIP: &str = "np_clip";

/// Loads of [`in_order`] that are under way together.
const TILE: usize = 32;

/// Source text of a loop that does `add`, a statement on `x`, for `count` double-precision numbers in order. `load` is the expression of number `i`. Neither may
/// use the loop's names `tile`, `loaded` and `j`.
///
/// An addition waits for the one before it, but its number need not be waited for: 32 are loaded together.
#[must_use]
pub fn in_order(count: &str, load: &str, add: &str) -> String {
    format!(
        "for (unsigned long long tile = 0; tile < {count}; tile += {TILE}ull) {{
        double loaded[{TILE}];
#pragma unroll
        for (unsigned int j = 0; j < {TILE}u; j += 1) {{
            const unsigned long long i = tile + j;
            loaded[j] = i < {count} ? {load} : 0.0;
        }}
#pragma unroll
        for (unsigned int j = 0; j < {TILE}u; j += 1) {{
            if (tile + j < {count}) {{
                const double x = loaded[j];
                {add}
            }}
        }}
    }}"
    )
}

/// Indices of the double-precision numbers that [`norm`] and [`clip`] write.
pub mod norms {
    /// The scale for a second attempt; 0 if the sum of squares is in range.
    pub const AGAIN: usize = 0;
    /// Σ(scale · g)² over all tensors.
    pub const TOTAL: usize = 1;
    /// The scale in that sum.
    pub const SCALE: usize = 2;
    /// ‖g‖.
    pub const NORM: usize = 3;
    /// The factor on gradients from clipping.
    pub const CLIP: usize = 4;
    /// First index of Σ(scale · g)² of each tensor.
    pub const EACH: usize = 8;
}

/// Source text of the kernel `np_squares(pieces, tensors, partial, norms, first, attempt)`. It writes Σ(scale · g)² of piece k to `partial[first + k]`, with a
/// block of [`THREADS`] threads for each piece of [`CHUNK`] elements.
///
/// `stored` is the C type of gradients, `real` that of state, `read` the name of a function that converts a stored number (or empty), and `conversions`
/// its source text. At attempt 0 the scale is 1. At attempt 1 it is [`norms::AGAIN`]; if that is 0, nothing is done.
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

/// Source text of the kernel `np_norm(ranges, tensors, partial, norms, attempt)`, for one block of [`THREADS`] threads. It computes the sums of `tensors`
/// tensors and ‖g‖. `ranges` has each tensor's first piece and number of pieces, two `unsigned int`.
///
/// Attempt 0 sets [`norms::AGAIN`] to a power of two if squares or their sum are out of range. Attempt 1 then computes them again from numbers multiplied
/// by it.
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
        {chunks_in_order}
        each[t] = sum;
    }}
    __syncthreads();
    if (threadIdx.x == 0) {{
        double total = 0.0;
        {tensors_in_order}
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
        chunks_in_order = in_order("count", "chunks[i]", "sum = __dadd_rn(sum, x);"),
        tensors_in_order = in_order("tensors", "each[i]", "total = __dadd_rn(total, x);"),
    )
}

/// Source text of the kernel `np_clip(norms, most, arguments, rows, stride, place)`, for one block. It writes the factor min(1, `most`/(‖g‖ + 10⁻⁶)) to
/// [`norms::CLIP`], and to argument number `place` of each of `rows` blocks of `stride` arguments of type `real`.
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
