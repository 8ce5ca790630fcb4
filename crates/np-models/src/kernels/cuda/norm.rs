//! Batch normalisation of channels-last activations, with a residual and ReLU, forward.
//!
//! Rows are pixels of all images. They are cut into chunks; of each, and each channel, a block leaves the mean and Σ (x − mean)² in `float`, taken in one pass
//! (of the differences from the chunk's first row: where that is k standard deviations off the mean, rounding is (1 + k²) times as large), and a warp a channel merges the chunks in `double`. Moments are three rows of `float`, \[channels\] each: mean, 1 / σ, γ / σ.

use super::{EACH, Kernel, Stored, TILE};

/// Where a thread is: its vector of channels `c`, its lane of rows, and the chunk of its block.
pub(super) fn place() -> String {
    format!(
        "    const unsigned int tile = channels < {TILE}u ? (unsigned int)channels : {TILE}u;
    const unsigned int across = tile / V, lanes = blockDim.x / across;
    const unsigned int tiles = ((unsigned int)channels + tile - 1u) / tile;
    const unsigned int number = blockIdx.x / tiles, lane = threadIdx.x / across;
    const unsigned int c = (blockIdx.x % tiles) * tile + (threadIdx.x % across) * V;
    const Word begin = number * chunk, left = rows - begin;
    const unsigned int length = left < chunk ? (unsigned int)left : (unsigned int)chunk;
    const bool works = lane < lanes && c < channels;
"
    )
}

/// The sum of a `double` over a warp, for all of it; in a fixed tree.
pub(super) const TOTAL: &str = "__device__ static inline double total(double x) {
    for (unsigned int offset = 16; offset > 0; offset /= 2) {
        x += __shfl_down_sync(0xffffffffu, x, offset);
    }
    return __shfl_sync(0xffffffffu, x, 0);
}
";

/// `np_norm_stats(x, partial, rows, channels, chunk)`, a block for each chunk and tile of channels: of chunk k, means to row 2k of `partial` and squares to row 2k + 1.
#[must_use]
pub fn norm_stats(stored: Stored, vector: usize) -> Kernel {
    let text = format!(
        r#"// Mean and sum of squared differences of each channel of a chunk of rows.
{prelude}
extern "C" __global__ void np_norm_stats(const Stored *__restrict__ x, float *__restrict__ partial, Word rows, Word channels,
                                         Word chunk) {{
    __shared__ float sums[V * PITCH];
    __shared__ float squares[V * PITCH];
{place}    float first[V], sum[V], square[V];
    Vector v[{EACH}];
    if (works) {{
        v[0] = *(const Vector *)(x + begin * channels + c);
    }}
#pragma unroll
    for (int j = 0; j < V; j += 1) {{
        first[j] = works ? load(v[0].at[j]) : 0.0f;
        sum[j] = 0.0f;
        square[j] = 0.0f;
    }}
    for (unsigned int r = lane; works && r < length; r += {EACH}u * lanes) {{
#pragma unroll
        for (unsigned int u = 0; u < {EACH}u; u += 1) {{
            if (r + u * lanes < length) {{
                v[u] = *(const Vector *)(x + (begin + r + u * lanes) * channels + c);
            }}
        }}
#pragma unroll
        for (unsigned int u = 0; u < {EACH}u; u += 1) {{
            if (r + u * lanes < length) {{
#pragma unroll
                for (int j = 0; j < V; j += 1) {{
                    const float difference = load(v[u].at[j]) - first[j];
                    sum[j] += difference;
                    square[j] += difference * difference;
                }}
            }}
        }}
    }}
#pragma unroll
    for (int j = 0; j < V; j += 1) {{
        sums[j * PITCH + threadIdx.x] = sum[j];
        squares[j * PITCH + threadIdx.x] = square[j];
    }}
    __syncthreads();
    // A thread a channel now.
    const unsigned int own = threadIdx.x / V, part = threadIdx.x % V, channel = (blockIdx.x % tiles) * tile + threadIdx.x;
    if (threadIdx.x < tile && channel < channels) {{
        float all = 0.0f, of_squares = 0.0f;
#pragma unroll 8
        for (unsigned int k = 0; k < lanes; k += 1) {{
            all += sums[part * PITCH + k * across + own];
            of_squares += squares[part * PITCH + k * across + own];
        }}
        const float mean = all / (float)length, left_over = of_squares - all * mean;
        partial[2 * number * channels + channel] = load(x[begin * channels + channel]) + mean;
        partial[(2 * number + 1) * channels + channel] = left_over < 0.0f ? 0.0f : left_over;
    }}
}}
"#,
        prelude = stored.prelude(vector),
        place = place(),
    );
    Kernel { text, name: "np_norm_stats" }
}

/// `np_norm_merge(partial, gamma, running_mean, running_var, moments, rows, channels, chunk, epsilon, momentum)`, a warp a channel; it moves the running statistics.
#[must_use]
pub fn norm_merge() -> Kernel {
    let text = format!(
        r#"// Moments of all rows from those of chunks, and running statistics.
typedef unsigned long long Word;
{TOTAL}
extern "C" __global__ void np_norm_merge(const float *partial, const float *gamma, float *running_mean, float *running_var,
                                         float *moments, Word rows, Word channels, Word chunk, double epsilon,
                                         double momentum) {{
    const Word c = (Word)blockIdx.x * 8u + threadIdx.x / 32u, lane = threadIdx.x % 32u;
    const Word chunks = (rows + chunk - 1) / chunk;
    double sum = 0.0, square = 0.0;
    if (c < channels) {{
#pragma unroll 8
        for (Word k = lane; k < chunks; k += 32u) {{
            const Word left = rows - k * chunk;
            sum += (double)(left < chunk ? left : chunk) * (double)partial[2 * k * channels + c];
        }}
    }}
    const double mean = total(sum) / (double)rows;
    if (c < channels) {{
#pragma unroll 8
        for (Word k = lane; k < chunks; k += 32u) {{
            const Word left = rows - k * chunk;
            const double difference = (double)partial[2 * k * channels + c] - mean;
            square += (double)partial[(2 * k + 1) * channels + c]
                      + (double)(left < chunk ? left : chunk) * difference * difference;
        }}
    }}
    square = total(square);
    if (c < channels && lane == 0) {{
        const float inverse = (float)(1.0 / sqrt(square / (double)rows + epsilon));
        moments[c] = (float)mean;
        moments[channels + c] = inverse;
        moments[2 * channels + c] = gamma[c] * inverse;
        const float keep = (float)(1.0 - momentum), take = (float)momentum;
        const float unbiased = (float)(square / (double)(rows - 1));
        running_mean[c] = running_mean[c] * keep + (float)mean * take;
        running_var[c] = running_var[c] * keep + unbiased * take;
    }}
}}
"#
    );
    Kernel { text, name: "np_norm_merge" }
}

/// `np_norm_running(gamma, running_mean, running_var, moments, channels, epsilon)`, a thread a channel: the moments of an evaluation.
#[must_use]
pub fn norm_running() -> Kernel {
    let text = r#"// Moments from running statistics.
typedef unsigned long long Word;
extern "C" __global__ void np_norm_running(const float *gamma, const float *running_mean, const float *running_var,
                                           float *moments, Word channels, double epsilon) {
    const Word c = (Word)blockIdx.x * blockDim.x + threadIdx.x;
    if (c < channels) {
        const float inverse = (float)(1.0 / sqrt((double)running_var[c] + epsilon));
        moments[c] = running_mean[c];
        moments[channels + c] = inverse;
        moments[2 * channels + c] = gamma[c] * inverse;
    }
}
"#;
    Kernel { text: text.to_owned(), name: "np_norm_running" }
}

/// `np_norm_apply(x, moments, beta, residual, y, rows, channels, chunk, relu, adds)`, a block for each chunk and tile of channels:
/// y = max(γ (x − μ) / σ + β + residual, 0), the last two where `adds` and `relu` are not 0.
#[must_use]
pub fn norm_apply(stored: Stored, vector: usize) -> Kernel {
    let text = format!(
        r#"// Normalisation, residual and ReLU.
{prelude}
extern "C" __global__ void np_norm_apply(const Stored *__restrict__ x, const float *__restrict__ moments,
                                         const float *__restrict__ beta, const Stored *__restrict__ residual,
                                         Stored *__restrict__ y, Word rows, Word channels, Word chunk, Word relu, Word adds) {{
{place}    if (!works) {{
        return;
    }}
    float mean[V], scale[V], bias[V];
#pragma unroll
    for (int j = 0; j < V; j += 1) {{
        mean[j] = moments[c + j];
        scale[j] = moments[2 * channels + c + j];
        bias[j] = beta[c + j];
    }}
    for (unsigned int r = lane; r < length; r += {EACH}u * lanes) {{
        Vector v[{EACH}], other[{EACH}];
#pragma unroll
        for (unsigned int u = 0; u < {EACH}u; u += 1) {{
            const Word at = (begin + r + u * lanes) * channels + c;
            if (r + u * lanes < length) {{
                v[u] = *(const Vector *)(x + at);
                if (adds != 0) {{
                    other[u] = *(const Vector *)(residual + at);
                }}
            }}
        }}
#pragma unroll
        for (unsigned int u = 0; u < {EACH}u; u += 1) {{
            if (r + u * lanes < length) {{
                Vector out;
#pragma unroll
                for (int j = 0; j < V; j += 1) {{
                    float value = (load(v[u].at[j]) - mean[j]) * scale[j] + bias[j];
                    value = adds != 0 ? value + load(other[u].at[j]) : value;
                    out.at[j] = store(relu != 0 && value <= 0.0f ? 0.0f : value);
                }}
                *(Vector *)(y + (begin + r + u * lanes) * channels + c) = out;
            }}
        }}
    }}
}}
"#,
        prelude = stored.prelude(vector),
        place = place(),
    );
    Kernel { text, name: "np_norm_apply" }
}
