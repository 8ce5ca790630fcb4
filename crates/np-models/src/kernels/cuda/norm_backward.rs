//! Batch normalisation, with a residual and ReLU, backward.
//!
//! ```text
//! dz = dy where the activation passed, else 0;   dγ = Σ dz (x − μ) / σ,   dβ = Σ dz
//! dx = a dz + b (x − μ) + c,   a = γ / σ,   b = −a · dγ / (σ · rows),   c = −a · dβ / rows
//! ```

use super::norm::{TOTAL, place};
use super::{Kernel, Stored};

/// What [`norm_back_sums`] does besides, in one word.
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

/// `np_norm_back_sums(x, moments, beta, dy, second, y, dz, partial, rows, channels, chunk, form)`, a block for each chunk and tile of channels: of chunk k,
/// Σ dz (x − μ) to row 2k of `partial`, Σ dz to row 2k + 1.
#[must_use]
pub fn norm_back_sums(stored: Stored, vector: usize) -> Kernel {
    let text = format!(
        r#"// Sums of gradients of a chunk of rows, and what of a gradient passed the activation.
{prelude}
extern "C" __global__ void np_norm_back_sums(const Stored *x, const float *moments, const float *beta, const Stored *dy,
                                             const Stored *second, const Stored *y, Stored *dz, float *partial, Word rows,
                                             Word channels, Word chunk, Word form) {{
    __shared__ float products[256 * V];
    __shared__ float sums[256 * V];
{place}    float product[V], sum[V], mean[V], scale[V], bias[V];
#pragma unroll
    for (int j = 0; j < V; j += 1) {{
        product[j] = 0.0f;
        sum[j] = 0.0f;
        mean[j] = works ? moments[c + j] : 0.0f;
        scale[j] = works ? moments[2 * channels + c + j] : 0.0f;
        bias[j] = works ? beta[c + j] : 0.0f;
    }}
    if (works) {{
#pragma unroll 2
        for (unsigned int r = lane; r < length; r += lanes) {{
            const Word at = (begin + r) * channels + c;
            const Vector v = *(const Vector *)(x + at), g = *(const Vector *)(dy + at);
            Vector other = g, out = g, result;
            if ((form & {two}u) != 0) {{
                other = *(const Vector *)(second + at);
            }}
            if ((form & {from_y}u) != 0) {{
                out = *(const Vector *)(y + at);
            }}
#pragma unroll
            for (int j = 0; j < V; j += 1) {{
                const float centred = load(v.at[j]) - mean[j];
                const float forward = (form & {from_y}u) != 0 ? load(out.at[j]) : centred * scale[j] + bias[j];
                float gradient = load(g.at[j]);
                gradient = (form & {two}u) != 0 ? gradient + load(other.at[j]) : gradient;
                gradient = (form & {relu}u) != 0 && forward <= 0.0f ? 0.0f : gradient;
                product[j] += gradient * centred;
                sum[j] += gradient;
                result.at[j] = store(gradient);
            }}
            if ((form & {write}u) != 0) {{
                *(Vector *)(dz + at) = result;
            }}
        }}
    }}
#pragma unroll
    for (int j = 0; j < V; j += 1) {{
        products[threadIdx.x * V + j] = product[j];
        sums[threadIdx.x * V + j] = sum[j];
    }}
    __syncthreads();
    for (unsigned int offset = 128; offset > 0; offset /= 2) {{
        if (works && lane < offset && lane + offset < lanes) {{
            const unsigned int other = threadIdx.x + offset * across;
#pragma unroll
            for (int j = 0; j < V; j += 1) {{
                product[j] += products[other * V + j];
                sum[j] += sums[other * V + j];
                products[threadIdx.x * V + j] = product[j];
                sums[threadIdx.x * V + j] = sum[j];
            }}
        }}
        __syncthreads();
    }}
    if (works && lane == 0) {{
#pragma unroll
        for (int j = 0; j < V; j += 1) {{
            partial[2 * number * channels + c + j] = product[j];
            partial[(2 * number + 1) * channels + c + j] = sum[j];
        }}
    }}
}}
"#,
        prelude = stored.prelude(vector),
        place = place(),
        relu = form::RELU,
        from_y = form::FROM_Y,
        two = form::TWO,
        write = form::WRITE,
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

/// `np_norm_back_data(x, moments, beta, coefficients, dz, dx, vectors, channels, relu)`, a thread a vector; where `relu` is not 0, `dz` is dy, of which ReLU has yet to take
/// its part.
#[must_use]
pub fn norm_back_data(stored: Stored, vector: usize) -> Kernel {
    let text = format!(
        r#"// The gradient of what was normalised.
{prelude}
extern "C" __global__ void np_norm_back_data(const Stored *x, const float *moments, const float *beta,
                                             const float *coefficients, const Stored *dz, Stored *dx, Word vectors,
                                             Word channels, Word relu) {{
    const unsigned int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= vectors) {{
        return;
    }}
    const unsigned int c = i % ((unsigned int)channels / V) * V;
    const Vector v = ((const Vector *)x)[i], g = ((const Vector *)dz)[i];
    Vector out;
#pragma unroll
    for (int j = 0; j < V; j += 1) {{
        const float centred = load(v.at[j]) - moments[c + j], scale = moments[2 * channels + c + j];
        float gradient = load(g.at[j]);
        gradient = relu != 0 && centred * scale + beta[c + j] <= 0.0f ? 0.0f : gradient;
        out.at[j] = store(gradient * scale + centred * coefficients[c + j] + coefficients[channels + c + j]);
    }}
    ((Vector *)dx)[i] = out;
}}
"#,
        prelude = stored.prelude(vector)
    );
    Kernel { text, name: "np_norm_back_data" }
}
