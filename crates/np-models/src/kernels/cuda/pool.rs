//! The mean over an image's pixels, and the gradient of it.

use super::{Kernel, Stored};

/// `np_average(x, y, count, pixels, channels)`, a thread for each of `count` means: in the order of the pixels, as on a CPU.
#[must_use]
pub fn average(stored: Stored) -> Kernel {
    let text = format!(
        r#"// The mean of each channel of an image.
{prelude}
extern "C" __global__ void np_average(const Stored *x, Stored *y, Word count, Word pixels, Word channels) {{
    const Word i = (Word)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) {{
        return;
    }}
    const Stored *const from = x + (i / channels) * pixels * channels + i % channels;
    float sum = 0.0f;
#pragma unroll 8
    for (Word p = 0; p < pixels; p += 1) {{
        sum += load(from[p * channels]);
    }}
    y[i] = store(sum * (float)(1.0 / (double)pixels));
}}
"#,
        prelude = stored.prelude(1)
    );
    Kernel { text, name: "np_average" }
}

/// `np_average_back(dy, dx, count, pixels, channels)`, a thread for each of `count` numbers of dx; dy is of `float`.
#[must_use]
pub fn average_back(stored: Stored) -> Kernel {
    let text = format!(
        r#"// Every pixel's share of the gradient of a mean.
{prelude}
extern "C" __global__ void np_average_back(const float *dy, Stored *dx, Word count, Word pixels, Word channels) {{
    const unsigned int i = blockIdx.x * blockDim.x + threadIdx.x, width = (unsigned int)channels;
    if (i < count) {{
        const unsigned int image = i / ((unsigned int)pixels * width);
        dx[i] = store(dy[image * width + i % width] * (float)(1.0 / (double)pixels));
    }}
}}
"#,
        prelude = stored.prelude(1)
    );
    Kernel { text, name: "np_average_back" }
}
