//! Batch normalisation of channels-last activations, with a residual and ReLU, forward.
//!
//! Rows are pixels of all images. They are cut into chunks; of each, and each channel, a block leaves the mean and Σ (x − mean)² in `float`, taken in one pass
//! (Welford), and a warp a channel merges the chunks in `double`. Moments are three rows of `float`, \[channels\] each: mean, 1 / σ, γ / σ.

use super::{Kernel, Stored, TILE};

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
extern "C" __global__ void np_norm_stats(const Stored *x, float *partial, Word rows, Word channels, Word chunk) {{
    __shared__ float means[256 * V];
    __shared__ float squares[256 * V];
    __shared__ unsigned int counts[256];
{place}    float mean[V], square[V];
    unsigned int n = 0;
#pragma unroll
    for (int j = 0; j < V; j += 1) {{
        mean[j] = 0.0f;
        square[j] = 0.0f;
    }}
    if (works) {{
#pragma unroll 4
        for (unsigned int r = lane; r < length; r += lanes) {{
            const Vector v = *(const Vector *)(x + (begin + r) * channels + c);
            n += 1;
            const float share = 1.0f / (float)n;
#pragma unroll
            for (int j = 0; j < V; j += 1) {{
                const float value = load(v.at[j]), difference = value - mean[j];
                mean[j] += difference * share;
                square[j] += difference * (value - mean[j]);
            }}
        }}
    }}
    counts[threadIdx.x] = n;
#pragma unroll
    for (int j = 0; j < V; j += 1) {{
        means[threadIdx.x * V + j] = mean[j];
        squares[threadIdx.x * V + j] = square[j];
    }}
    __syncthreads();
    for (unsigned int offset = 128; offset > 0; offset /= 2) {{
        if (works && lane < offset && lane + offset < lanes) {{
            const unsigned int other = threadIdx.x + offset * across;
            const unsigned int others = counts[other], all = n + others;
            if (others > 0) {{
                const float share = (float)others / (float)all;
#pragma unroll
                for (int j = 0; j < V; j += 1) {{
                    const float difference = means[other * V + j] - mean[j];
                    mean[j] += difference * share;
                    square[j] += squares[other * V + j] + difference * difference * ((float)n * share);
                    means[threadIdx.x * V + j] = mean[j];
                    squares[threadIdx.x * V + j] = square[j];
                }}
                n = all;
                counts[threadIdx.x] = n;
            }}
        }}
        __syncthreads();
    }}
    if (works && lane == 0) {{
#pragma unroll
        for (int j = 0; j < V; j += 1) {{
            partial[2 * number * channels + c + j] = mean[j];
            partial[(2 * number + 1) * channels + c + j] = square[j];
        }}
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
        for (Word k = lane; k < chunks; k += 32u) {{
            const Word left = rows - k * chunk;
            sum += (double)(left < chunk ? left : chunk) * (double)partial[2 * k * channels + c];
        }}
    }}
    const double mean = total(sum) / (double)rows;
    if (c < channels) {{
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

/// `np_norm_apply(x, moments, beta, residual, y, vectors, channels, relu, adds)`, a thread a vector: y = max(γ (x − μ) / σ + β + residual, 0), the last two where
/// `adds` and `relu` are not 0.
#[must_use]
pub fn norm_apply(stored: Stored, vector: usize) -> Kernel {
    let text = format!(
        r#"// Normalisation, residual and ReLU.
{prelude}
extern "C" __global__ void np_norm_apply(const Stored *x, const float *moments, const float *beta, const Stored *residual,
                                         Stored *y, Word vectors, Word channels, Word relu, Word adds) {{
    const unsigned int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= vectors) {{
        return;
    }}
    const unsigned int c = i % ((unsigned int)channels / V) * V;
    const Vector v = ((const Vector *)x)[i];
    Vector r = v, out;
    if (adds != 0) {{
        r = ((const Vector *)residual)[i];
    }}
#pragma unroll
    for (int j = 0; j < V; j += 1) {{
        float value = (load(v.at[j]) - moments[c + j]) * moments[2 * channels + c + j] + beta[c + j];
        value = adds != 0 ? value + load(r.at[j]) : value;
        out.at[j] = store(relu != 0 && value <= 0.0f ? 0.0f : value);
    }}
    ((Vector *)y)[i] = out;
}}
"#,
        prelude = stored.prelude(vector)
    );
    Kernel { text, name: "np_norm_apply" }
}
