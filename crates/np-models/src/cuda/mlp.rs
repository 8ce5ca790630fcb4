//! The program of a multi-layer perceptron.

use np_cuda::engine::Product;

use super::BatchShape;
use super::builder::Builder;
use super::program::{Pass, Place, Word};
use crate::kernels::DropoutMask;
use crate::kernels::cuda as texts;
use crate::kernels::cuda::THREADS;
use crate::{MlpConfig, Result};

/// Numbers of a block of the activations' kernel.
const ACTIVATED: usize = 8192;
/// Columns of a block of the kernel that adds up columns.
const COLUMNS: usize = 32;

pub(super) fn build(
    builder: &mut Builder,
    config: &MlpConfig,
    classes: usize,
    seed: u64,
    shape: &BatchShape,
    images: usize,
) -> Result<()> {
    config.validate()?;
    let inputs = shape.channels * shape.height * shape.width;
    config.parameter_shapes(inputs, classes)?;
    let widths: Vec<usize> = [inputs].into_iter().chain(config.hidden.iter().copied()).chain([classes]).collect();
    // Pixels of a channel after another, as the CPU's images are flattened.
    let [x, labels] = builder.input(shape, images, shape.channels, true);
    let weights: Vec<Place> =
        widths.windows(2).enumerate().map(|(l, pair)| builder.weight(2 * l, [pair[1], pair[0], pair[0], 1])).collect();
    let layers = weights.len();
    let mut values = vec![x];
    let (threshold, scale) = match builder.pass {
        Pass::Train => DropoutMask::rounded(config.dropout),
        Pass::Evaluate => (0, 1.0),
    };
    for l in 0..layers - 1 {
        let z = forward(builder, values[l], weights[l], [images, widths[l + 1], widths[l]]);
        let count = images * widths[l + 1];
        let h = builder.activations(count);
        let mut words = [z, Place::Parameter(2 * l + 1), h, Place::Position].map(Word::At).to_vec();
        words.extend([count as u64, widths[l + 1] as u64, u64::from(threshold)].map(Word::Count));
        words.extend([Word::Real(scale), Word::Count(seed), Word::Count(l as u64)]);
        builder.launch(texts::activate(builder.stored), count.div_ceil(ACTIVATED), words);
        values.push(h);
    }
    let last = layers - 1;
    let z = forward(builder, values[last], weights[last], [images, classes, widths[last]]);
    let mut dz = loss(builder, z, 2 * last + 1, labels, [images, classes]);
    if builder.pass == Pass::Evaluate {
        return Ok(());
    }
    for l in (0..layers).rev() {
        let sizes = [images, widths[l + 1], widths[l]];
        backward_parameters(builder, [values[l], dz], 2 * l, sizes);
        if l == 0 {
            break;
        }
        let dh = backward_data(builder, dz, weights[l], sizes);
        let count = images * widths[l];
        dz = builder.activations(count);
        let mut words = [dh, values[l], dz].map(Word::At).to_vec();
        words.extend([Word::Count(count as u64), Word::Real(scale)]);
        builder.launch(texts::activate_back(builder.stored), count.div_ceil(THREADS as usize), words);
    }
    Ok(())
}

/// z = x Wᵀ, in `f32`, for \[rows, outputs, inputs\].
pub(super) fn forward(builder: &mut Builder, x: Place, weight: Place, [rows, outputs, inputs]: [usize; 3]) -> Place {
    let z = builder.numbers(rows * outputs);
    let math = builder.math;
    let product = Product { rows, columns: outputs, inner: inputs, transpose_a: false, transpose_b: true, math };
    builder.multiply(product, [x, weight, z]);
    z
}

/// The loss of logits z, before the bias of parameter 2 · `layer` + 1 is added; gives the gradient of the logits.
pub(super) fn loss(builder: &mut Builder, z: Place, bias: usize, labels: Place, [rows, classes]: [usize; 2]) -> Place {
    let dz = builder.activations(rows * classes);
    let mut words = [z, Place::Parameter(bias), labels, dz, Place::Position, Place::Totals].map(Word::At).to_vec();
    words.extend([rows, classes, usize::from(builder.pass == Pass::Train)].map(|n| Word::Count(n as u64)));
    builder.launch(texts::loss(builder.stored), 1, words);
    dz
}

/// The gradients of bias and weight of a layer of x, from dz.
pub(super) fn backward_parameters(
    builder: &mut Builder,
    [x, dz]: [Place; 2],
    weight: usize,
    [rows, outputs, inputs]: [usize; 3],
) {
    let mut words = [dz, Place::Gradient(weight + 1)].map(Word::At).to_vec();
    words.extend([rows, outputs].map(|n| Word::Count(n as u64)));
    builder.launch(texts::column_sums(builder.stored), outputs.div_ceil(COLUMNS), words);
    let math = builder.math;
    let product = Product { rows: outputs, columns: inputs, inner: rows, transpose_a: true, transpose_b: false, math };
    builder.multiply(product, [dz, x, Place::Gradient(weight)]);
}

/// The gradient of x, in `f32`.
pub(super) fn backward_data(
    builder: &mut Builder,
    dz: Place,
    weight: Place,
    [rows, outputs, inputs]: [usize; 3],
) -> Place {
    let dx = builder.numbers(rows * inputs);
    let math = builder.math;
    let product = Product { rows, columns: inputs, inner: outputs, transpose_a: false, transpose_b: false, math };
    builder.multiply(product, [dz, weight, dx]);
    dx
}
