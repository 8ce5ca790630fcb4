//! Softmax cross-entropy of a batch: loss and counts added to totals on the device, and the gradient of the logits.

use super::{Kernel, Stored};

/// Words of the totals, and what they are.
pub mod totals {
    /// Σ of losses, a `double`.
    pub const LOSS: usize = 0;
    /// Rows whose first largest logit is the label's.
    pub const CORRECT: usize = 1;
    /// Rows.
    pub const EXAMPLES: usize = 2;
    /// 1 + the number of the first step whose loss was not finite; 0 where there was none.
    pub const NOT_FINITE: usize = 3;
    /// How many words there are.
    pub const WORDS: usize = 8;
}

/// `np_loss(z, bias, labels, dz, position, totals, rows, classes, backward)`, one block: logits are z + bias; dz = (softmax − one-hot) / rows unless `backward` is 0.
///
/// A label that is no class makes the loss not-a-number.
#[must_use]
pub fn loss(stored: Stored) -> Kernel {
    let text = format!(
        r#"// Cross-entropy of a batch, its gradient, and sums over batches.
{prelude}
extern "C" __global__ void np_loss(const float *z, const float *bias, const unsigned int *labels, Stored *dz,
                                   const Word *position, double *totals, Word rows, Word classes, Word backward) {{
    __shared__ double losses[256];
    __shared__ Word counts[256];
    const float share = 1.0f / (float)rows;
    double loss = 0.0;
    Word correct = 0;
    for (Word r = threadIdx.x; r < rows; r += blockDim.x) {{
        const float *const row = z + r * classes;
        const Word label = labels[r];
        float most = row[0] + bias[0];
        for (Word c = 1; c < classes; c += 1) {{
            const float x = row[c] + bias[c];
            most = x > most ? x : most;
        }}
        float sum = 0.0f;
        for (Word c = 0; c < classes; c += 1) {{
            sum += expf((row[c] + bias[c]) - most);
        }}
        const bool known = label < classes;
        const float of_label = known ? row[label] + bias[label] : 0.0f;
        bool right = known;
        for (Word c = 0; c < classes; c += 1) {{
            const float x = row[c] + bias[c];
            right = right && (c < label ? x < of_label : x <= of_label);
            if (backward != 0) {{
                const float p = expf(x - most) / sum * share;
                dz[r * classes + c] = store(c == label ? p - share : p);
            }}
        }}
        loss += known ? (double)(logf(sum) + (most - of_label)) : (double)__uint_as_float(0x7fc00000u);
        correct += right ? 1u : 0u;
    }}
    losses[threadIdx.x] = loss;
    counts[threadIdx.x] = correct;
    __syncthreads();
    for (unsigned int half = 128; half > 0; half /= 2) {{
        if (threadIdx.x < half) {{
            losses[threadIdx.x] += losses[threadIdx.x + half];
            counts[threadIdx.x] += counts[threadIdx.x + half];
        }}
        __syncthreads();
    }}
    if (threadIdx.x == 0) {{
        Word *const words = (Word *)totals;
        totals[{loss}] += losses[0];
        words[{correct}] += counts[0];
        words[{examples}] += rows;
        if (!(losses[0] - losses[0] == 0.0) && words[{not_finite}] == 0) {{
            words[{not_finite}] = position[0] + 1;
        }}
    }}
}}
"#,
        prelude = stored.prelude(1),
        loss = totals::LOSS,
        correct = totals::CORRECT,
        examples = totals::EXAMPLES,
        not_finite = totals::NOT_FINITE,
    );
    Kernel { text, name: "np_loss" }
}
