//! Batch normalisation, with a residual and ReLU, backward.
//!
//! ```text
//! dz = dy where the activation passed, else 0;   dγ = Σ dz (x − μ) / σ,   dβ = Σ dz
//! dx = a dz + b (x − μ) + c,   a = γ / σ,   b = −a · dγ / (σ · rows),   c = −a · dβ / rows
//! ```

use super::norm::{TOTAL, place};
use super::{EACH, Kernel, Stored};

/// What [`norm_back_sums`] does besides: bits of one word.
pub mod form {
    /// There is a ReLU.
    pub const RELU: u64 = 1;
    /// What passed is seen from y, for there was a residual; else it is worked out from x, as it was forward.
    pub const FROM_Y: u64 = 2;
    /// dy is the sum of two gradients.
    pub const TWO: u64 = 4;
    /// dz is written down.
    pub const WRITE: u64 = 8;
}

/// `np_norm_back_sums(x, moments, beta, dy, second, y, dz, partial, rows, channels, chunk)`, a block for each chunk and tile of channels: of chunk k,
/// Σ dz (x − μ) to row 2k of `partial`, Σ dz to row 2k + 1; with a text for each [`form`].
#[must_use]
pub fn norm_back_sums(stored: Stored, vector: usize, form: u64) -> Kernel {
    let text = format!(
        r#"// Sums of gradients of a chunk of rows, and what of a gradient passed the activation.
{prelude}#define RELU {relu}
#define FROM_Y {from_y}
#define TWO {two}
#define WRITE {write}
extern "C" __global__ void np_norm_back_sums(const Stored *__restrict__ x, const float *__restrict__ moments,
                                             const float *__restrict__ beta, const Stored *__restrict__ dy,
                                             const Stored *__restrict__ second, const Stored *__restrict__ y,
                                             Stored *__restrict__ dz, float *__restrict__ partial, Word rows, Word channels,
                                             Word chunk) {{
    __shared__ float products[V * PITCH];
    __shared__ float sums[V * PITCH];
{place}    float product[V], sum[V], mean[V], scale[V], bias[V];
#pragma unroll
    for (int j = 0; j < V; j += 1) {{
        product[j] = 0.0f;
        sum[j] = 0.0f;
        mean[j] = works ? moments[c + j] : 0.0f;
        scale[j] = works ? moments[2 * channels + c + j] : 0.0f;
        bias[j] = works ? beta[c + j] : 0.0f;
    }}
    for (unsigned int r = lane; works && r < length; r += 2u * lanes) {{
        Vector v[2], g[2], other[2], out[2];
#pragma unroll
        for (unsigned int u = 0; u < 2u; u += 1) {{
            const Word at = (begin + r + u * lanes) * channels + c;
            if (r + u * lanes < length) {{
                v[u] = *(const Vector *)(x + at);
                g[u] = *(const Vector *)(dy + at);
                if (TWO) {{
                    other[u] = *(const Vector *)(second + at);
                }}
                if (FROM_Y) {{
                    out[u] = *(const Vector *)(y + at);
                }}
            }}
        }}
#pragma unroll
        for (unsigned int u = 0; u < 2u; u += 1) {{
            if (r + u * lanes < length) {{
                Vector result;
#pragma unroll
                for (int j = 0; j < V; j += 1) {{
                    const float centred = load(v[u].at[j]) - mean[j];
                    const float forward = FROM_Y ? load(out[u].at[j]) : centred * scale[j] + bias[j];
                    float gradient = load(g[u].at[j]);
                    gradient = TWO ? gradient + load(other[u].at[j]) : gradient;
                    gradient = RELU && forward <= 0.0f ? 0.0f : gradient;
                    product[j] += gradient * centred;
                    sum[j] += gradient;
                    result.at[j] = store(gradient);
                }}
                if (WRITE) {{
                    *(Vector *)(dz + (begin + r + u * lanes) * channels + c) = result;
                }}
            }}
        }}
    }}
#pragma unroll
    for (int j = 0; j < V; j += 1) {{
        products[j * PITCH + threadIdx.x] = product[j];
        sums[j * PITCH + threadIdx.x] = sum[j];
    }}
    __syncthreads();
    // A thread a channel now.
    const unsigned int own = threadIdx.x / V, part = threadIdx.x % V, channel = (blockIdx.x % tiles) * tile + threadIdx.x;
    if (threadIdx.x < tile && channel < channels) {{
        float of_products = 0.0f, all = 0.0f;
#pragma unroll 8
        for (unsigned int k = 0; k < lanes; k += 1) {{
            of_products += products[part * PITCH + k * across + own];
            all += sums[part * PITCH + k * across + own];
        }}
        partial[2 * number * channels + channel] = of_products;
        partial[(2 * number + 1) * channels + channel] = all;
    }}
}}
"#,
        prelude = stored.prelude(vector),
        place = place(),
        relu = form & form::RELU,
        from_y = form & form::FROM_Y,
        two = form & form::TWO,
        write = form & form::WRITE,
    );
    Kernel { text, name: "np_norm_back_sums" }
}

/// `np_norm_back_merge(partial, moments, dgamma, dbeta, coefficients, rows, channels, chunk)`, a warp a channel: dγ and dβ, and b and c, \[channels\] each.
#[must_use]
pub fn norm_back_merge() -> Kernel {
    let text = format!(
        r#"// Gradients of gamma and beta from the sums of chunks, and what the gradient of x needs of them.
typedef unsigned long long Word;
{TOTAL}
extern "C" __global__ void np_norm_back_merge(const float *partial, const float *moments, float *dgamma, float *dbeta,
                                              float *coefficients, Word rows, Word channels, Word chunk) {{
    const Word c = (Word)blockIdx.x * 8u + threadIdx.x / 32u, lane = threadIdx.x % 32u;
    const Word chunks = (rows + chunk - 1) / chunk;
    double product = 0.0, sum = 0.0;
    if (c < channels) {{
#pragma unroll 8
        for (Word k = lane; k < chunks; k += 32u) {{
            product += (double)partial[2 * k * channels + c];
            sum += (double)partial[(2 * k + 1) * channels + c];
        }}
    }}
    product = total(product);
    sum = total(sum);
    if (c < channels && lane == 0) {{
        const double inverse = (double)moments[channels + c], a = (double)moments[2 * channels + c];
        const double of_gamma = product * inverse;
        dgamma[c] = (float)of_gamma;
        dbeta[c] = (float)sum;
        coefficients[c] = (float)(-a * of_gamma * inverse / (double)rows);
        coefficients[channels + c] = (float)(-a * sum / (double)rows);
    }}
}}
"#
    );
    Kernel { text, name: "np_norm_back_merge" }
}

/// `np_norm_back_data(x, moments, beta, coefficients, dz, dx, rows, channels, chunk, relu)`, a block for each chunk and tile of channels; where `relu` is not 0, `dz` is dy,
/// of which ReLU has yet to take its part.
#[must_use]
pub fn norm_back_data(stored: Stored, vector: usize) -> Kernel {
    let text = format!(
        r#"// The gradient of what was normalised.
{prelude}
extern "C" __global__ void np_norm_back_data(const Stored *__restrict__ x, const float *__restrict__ moments,
                                             const float *__restrict__ beta, const float *__restrict__ coefficients,
                                             const Stored *__restrict__ dz, Stored *__restrict__ dx, Word rows, Word channels,
                                             Word chunk, Word relu) {{
{place}    if (!works) {{
        return;
    }}
    float mean[V], scale[V], bias[V], slope[V], constant[V];
#pragma unroll
    for (int j = 0; j < V; j += 1) {{
        mean[j] = moments[c + j];
        scale[j] = moments[2 * channels + c + j];
        bias[j] = beta[c + j];
        slope[j] = coefficients[c + j];
        constant[j] = coefficients[channels + c + j];
    }}
    for (unsigned int r = lane; r < length; r += {EACH}u * lanes) {{
        Vector v[{EACH}], g[{EACH}];
#pragma unroll
        for (unsigned int u = 0; u < {EACH}u; u += 1) {{
            const Word at = (begin + r + u * lanes) * channels + c;
            if (r + u * lanes < length) {{
                v[u] = *(const Vector *)(x + at);
                g[u] = *(const Vector *)(dz + at);
            }}
        }}
#pragma unroll
        for (unsigned int u = 0; u < {EACH}u; u += 1) {{
            if (r + u * lanes < length) {{
                Vector out;
#pragma unroll
                for (int j = 0; j < V; j += 1) {{
                    const float centred = load(v[u].at[j]) - mean[j];
                    float gradient = load(g[u].at[j]);
                    gradient = relu != 0 && centred * scale[j] + bias[j] <= 0.0f ? 0.0f : gradient;
                    out.at[j] = store(gradient * scale[j] + centred * slope[j] + constant[j]);
                }}
                *(Vector *)(dx + (begin + r + u * lanes) * channels + c) = out;
            }}
        }}
    }}
}}
"#,
        prelude = stored.prelude(vector),
        place = place(),
    );
    Kernel { text, name: "np_norm_back_data" }
}
