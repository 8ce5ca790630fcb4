//! What follows a matrix product: bias, ReLU and dropout in one pass, their gradients, and the gradient of a bias.
//!
//! A dropout mask is the CPU's, bit for bit: 16 bits of ChaCha8 an element, under a key of seed, layer and step (`layers::ReluDropout`). The step's number is in the
//! device's memory.

use super::{Kernel, Stored};

/// `np_activate(z, bias, h, position, count, outputs, threshold, scale, seed, layer)`, a block for 8192 of `count` numbers:
/// h = max(z + bias, 0) · scale, or 0 where the draw is below `threshold`, which is 0 where nothing is dropped.
#[must_use]
pub fn activate(stored: Stored) -> Kernel {
    let text = format!(
        r#"// Bias, ReLU and dropout.
{prelude}
__device__ static inline unsigned int rotated(unsigned int x, unsigned int by) {{ return (x << by) | (x >> (32u - by)); }}

#define QUARTER(a, b, c, d)                \
    a += b; d = rotated(d ^ a, 16u);       \
    c += d; b = rotated(b ^ c, 12u);       \
    a += b; d = rotated(d ^ a, 8u);        \
    c += d; b = rotated(b ^ c, 7u);

// Which of 32 elements are kept, from block `number` of the key's stream: an element has 16 bits of it, the lower half of a word first.
__device__ static inline unsigned int kept(const unsigned int *key, Word number, unsigned int threshold) {{
    unsigned int x[16], begin[16];
    begin[0] = 0x61707865u;
    begin[1] = 0x3320646eu;
    begin[2] = 0x79622d32u;
    begin[3] = 0x6b206574u;
#pragma unroll
    for (int i = 0; i < 8; i += 1) {{
        begin[4 + i] = key[i];
    }}
    begin[12] = (unsigned int)number;
    begin[13] = (unsigned int)(number >> 32);
    begin[14] = 0u;
    begin[15] = 0u;
#pragma unroll
    for (int i = 0; i < 16; i += 1) {{
        x[i] = begin[i];
    }}
#pragma unroll
    for (int round = 0; round < 4; round += 1) {{
        QUARTER(x[0], x[4], x[8], x[12])
        QUARTER(x[1], x[5], x[9], x[13])
        QUARTER(x[2], x[6], x[10], x[14])
        QUARTER(x[3], x[7], x[11], x[15])
        QUARTER(x[0], x[5], x[10], x[15])
        QUARTER(x[1], x[6], x[11], x[12])
        QUARTER(x[2], x[7], x[8], x[13])
        QUARTER(x[3], x[4], x[9], x[14])
    }}
    unsigned int mask = 0u;
#pragma unroll
    for (int i = 0; i < 16; i += 1) {{
        const unsigned int word = x[i] + begin[i];
        mask |= (unsigned int)((word & 0xffffu) >= threshold) << (2 * i);
        mask |= (unsigned int)((word >> 16) >= threshold) << (2 * i + 1);
    }}
    return mask;
}}

extern "C" __global__ void np_activate(const float *z, const float *bias, Stored *h, const Word *position, Word count,
                                       Word outputs, Word threshold, double scale, Word seed, Word layer) {{
    __shared__ unsigned int masks[256];
    const Word first = (Word)blockIdx.x * 8192u;
    if (threshold != 0u) {{
        const Word step = position[0];
        unsigned int key[8];
        key[0] = (unsigned int)seed;
        key[1] = (unsigned int)(seed >> 32);
        key[2] = (unsigned int)layer;
        key[3] = (unsigned int)(layer >> 32);
        key[4] = (unsigned int)step;
        key[5] = (unsigned int)(step >> 32);
        key[6] = 0x706f7264u;
        key[7] = 0x0074756fu;
        masks[threadIdx.x] = kept(key, first / 32u + threadIdx.x, (unsigned int)threshold);
    }} else {{
        masks[threadIdx.x] = 0xffffffffu;
    }}
    __syncthreads();
    const float factor = (float)scale;
    for (unsigned int i = threadIdx.x; i < 8192u && first + i < count; i += blockDim.x) {{
        const float y = z[first + i] + bias[(first + i) % outputs];
        const bool keeps = (masks[i / 32u] >> (i % 32u)) & 1u;
        h[first + i] = store(!keeps || y <= 0.0f ? 0.0f : y * factor);
    }}
}}
"#,
        prelude = stored.prelude(1)
    );
    Kernel { text, name: "np_activate" }
}

/// `np_activate_back(dh, h, dz, count, scale)`, a thread a number: what of dh, of `float`, passed.
#[must_use]
pub fn activate_back(stored: Stored) -> Kernel {
    let text = format!(
        r#"// The gradient before ReLU and dropout: an output above 0 is one that was kept.
{prelude}
extern "C" __global__ void np_activate_back(const float *dh, const Stored *h, Stored *dz, Word count, double scale) {{
    const Word i = (Word)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) {{
        dz[i] = store(load(h[i]) <= 0.0f ? 0.0f : dh[i] * (float)scale);
    }}
}}
"#,
        prelude = stored.prelude(1)
    );
    Kernel { text, name: "np_activate_back" }
}

/// `np_column_sums(dz, db, rows, columns)`, a block for 32 columns: each in eight lanes of rows, in double precision.
#[must_use]
pub fn column_sums(stored: Stored) -> Kernel {
    let text = format!(
        r#"// The sums of columns: the gradient of a bias.
{prelude}
extern "C" __global__ void np_column_sums(const Stored *dz, float *db, Word rows, Word columns) {{
    __shared__ double lanes[256];
    const unsigned int column = threadIdx.x % 32u, lane = threadIdx.x / 32u;
    const Word c = (Word)blockIdx.x * 32u + column;
    double sum = 0.0;
    if (c < columns) {{
#pragma unroll 4
        for (Word r = lane; r < rows; r += 8u) {{
            sum += (double)load(dz[r * columns + c]);
        }}
    }}
    lanes[threadIdx.x] = sum;
    __syncthreads();
    if (lane == 0u && c < columns) {{
        for (unsigned int i = 1; i < 8u; i += 1) {{
            sum += lanes[i * 32u + column];
        }}
        db[c] = (float)sum;
    }}
}}
"#,
        prelude = stored.prelude(1)
    );
    Kernel { text, name: "np_column_sums" }
}
