//! A batch into a program's buffers: images in its order and type, with channels that are 0 where a convolution wants more than there are; labels; the step's number.

use super::{Kernel, Stored};

/// `np_input(images, labels, x, kept_labels, position, step, count, pixels, channels, padded, image_channel, image_pixel, channel, pixel)`, a thread a pixel:
/// x at i·pixels·padded + p·`pixel` + c·`channel` from images at i·pixels·channels + p·`image_pixel` + c·`image_channel`.
#[must_use]
pub fn input(stored: Stored) -> Kernel {
    let text = format!(
        r#"// Images, labels and the step's number to where a program has them.
{prelude}
extern "C" __global__ void np_input(const float *images, const unsigned int *labels, Stored *x, unsigned int *kept,
                                    Word *position, Word step, Word count, Word pixels, Word channels, Word padded,
                                    Word image_channel, Word image_pixel, Word channel, Word pixel) {{
    const Word i = (Word)blockIdx.x * blockDim.x + threadIdx.x;
    if (i == 0) {{
        position[0] = step;
    }}
    if (i < count) {{
        kept[i] = labels[i];
    }}
    if (i >= count * pixels) {{
        return;
    }}
    const Word image = i / pixels, p = i % pixels;
    const float *const from = images + image * pixels * channels + p * image_pixel;
    Stored *const to = x + image * pixels * padded + p * pixel;
    for (Word c = 0; c < padded; c += 1) {{
        to[c * channel] = store(c < channels ? from[c * image_channel] : 0.0f);
    }}
}}
"#,
        prelude = stored.prelude(1)
    );
    Kernel { text, name: "np_input" }
}
