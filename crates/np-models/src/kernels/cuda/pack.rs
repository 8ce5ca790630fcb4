//! Weights between the order that parameters have, \[outputs, inputs, kernel, kernel\] in `float`, and the one that convolutions take, \[outputs, kernel, kernel,
//! inputs\] as activations are stored. All weights of a model go in one launch, a block an output.

use super::{Kernel, Stored};

/// A row of the table of [`pack`] and [`unpack`]; eight words.
const ROW: &str = "struct Weight {
    Word plain;
    Word packed;
    Word inputs;
    Word padded;
    Word spatial;
    Word first;
    Word spare[2];
};

// The weight that a block is of: the last that begins at it or before.
__device__ static inline Word find(const Weight *weights, Word count, Word block) {
    Word low = 0, high = count;
    while (high - low > 1) {
        const Word middle = (low + high) / 2;
        if (weights[middle].first <= block) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}
";

/// `np_pack(weights, count)`: inputs that a convolution has beyond the parameter's are 0.
#[must_use]
pub fn pack(stored: Stored) -> Kernel {
    let text = format!(
        r#"// Parameters to the order and type that convolutions take.
{prelude}{ROW}
extern "C" __global__ void np_pack(const Weight *weights, Word count) {{
    const Weight weight = weights[find(weights, count, blockIdx.x)];
    const Word output = blockIdx.x - weight.first;
    const float *__restrict__ const from = (const float *)weight.plain + output * weight.inputs * weight.spatial;
    Stored *__restrict__ const to = (Stored *)weight.packed + output * weight.padded * weight.spatial;
    const unsigned int padded = (unsigned int)weight.padded, spatial = (unsigned int)weight.spatial;
    const unsigned int inputs = (unsigned int)weight.inputs;
    // No division but these: of a thread's next number the input is so much further, and now and then a place.
    const unsigned int inputs_on = blockDim.x % padded, places_on = blockDim.x / padded;
    unsigned int input = threadIdx.x % padded, place = threadIdx.x / padded;
#pragma unroll 4
    for (unsigned int i = threadIdx.x; i < padded * spatial; i += blockDim.x) {{
        to[i] = store(input < inputs ? from[input * spatial + place] : 0.0f);
        input += inputs_on;
        place += places_on + (input >= padded ? 1u : 0u);
        input -= input >= padded ? padded : 0u;
    }}
}}
"#,
        prelude = stored.prelude(1)
    );
    Kernel { text, name: "np_pack" }
}

/// `np_unpack(weights, count)`: gradients the other way, from `packed` to `plain`.
#[must_use]
pub fn unpack(stored: Stored) -> Kernel {
    let text = format!(
        r#"// Gradients of weights to the order and type that parameters have.
{prelude}{ROW}
extern "C" __global__ void np_unpack(const Weight *weights, Word count) {{
    const Weight weight = weights[find(weights, count, blockIdx.x)];
    const Word output = blockIdx.x - weight.first;
    const Stored *__restrict__ const from = (const Stored *)weight.packed + output * weight.padded * weight.spatial;
    float *__restrict__ const to = (float *)weight.plain + output * weight.inputs * weight.spatial;
    const unsigned int inputs = (unsigned int)weight.inputs, spatial = (unsigned int)weight.spatial;
    const unsigned int padded = (unsigned int)weight.padded;
    const unsigned int places_on = blockDim.x % spatial, inputs_on = blockDim.x / spatial;
    unsigned int place = threadIdx.x % spatial, input = threadIdx.x / spatial;
#pragma unroll 4
    for (unsigned int i = threadIdx.x; i < inputs * spatial; i += blockDim.x) {{
        to[i] = load(from[place * padded + input]);
        place += places_on;
        input += inputs_on + (place >= spatial ? 1u : 0u);
        place -= place >= spatial ? spatial : 0u;
    }}
}}
"#,
        prelude = stored.prelude(1)
    );
    Kernel { text, name: "np_unpack" }
}
