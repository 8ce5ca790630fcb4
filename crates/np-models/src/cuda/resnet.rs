//! The program of ResNet-18: units of a convolution, a norm, a residual and ReLU; the mean over pixels; a linear layer.

use np_cuda::engine::{Convolution, Direction};

use super::BatchShape;
use super::builder::Builder;
use super::mlp::{backward_data, backward_parameters, forward, loss};
use super::program::{Pass, Place, Word};
use crate::kernels::cuda::{self as texts, THREADS, TILE, form};
use crate::layers::{BatchNorm2d, Window};
use crate::resnet::{BLOCKS, STAGES};
use crate::{Error, ResNet18Config, Result};

/// Blocks that sums over rows are shared out among, about: some for every processor of a large device.
const BLOCKS_OF_SUMS: usize = 512;
/// Fewest rows of a chunk.
const LEAST_ROWS: usize = 32;

/// y = activation(norm(convolution of value `input`) + value `residual`); value 0 is the images, i + 1 the output of unit i.
struct Unit {
    /// Its place in the model's order, which counts parameters and running statistics.
    layer: usize,
    inputs: usize,
    outputs: usize,
    window: Window,
    input: usize,
    residual: Option<usize>,
    relu: bool,
}

/// Units in the order of execution: a shortcut's before what adds it.
fn units(channels: usize, width: usize) -> Vec<Unit> {
    let unit = |layer, [inputs, outputs]: [usize; 2], window, input, residual, relu| Unit {
        layer,
        inputs,
        outputs,
        window,
        input,
        residual,
        relu,
    };
    let mut units = vec![unit(0, [channels, width], Window::three(1), 0, None, true)];
    let (mut layer, mut inputs) = (1, width);
    for (widths, first_stride) in STAGES {
        let outputs = widths * width;
        for block in 0..BLOCKS {
            let stride = if block == 0 { first_stride } else { 1 };
            let changes = stride != 1 || inputs != outputs;
            let input = units.len();
            units.push(unit(layer, [inputs, outputs], Window::three(stride), input, None, true));
            let (hidden, mut residual) = (units.len(), input);
            if changes {
                units.push(unit(layer + 2, [inputs, outputs], Window::one(stride), input, None, false));
                residual = units.len();
            }
            units.push(unit(layer + 1, [outputs, outputs], Window::three(1), hidden, Some(residual), true));
            layer += if changes { 3 } else { 2 };
            inputs = outputs;
        }
    }
    units
}

/// A unit with its sizes and what the way back needs of it.
struct Done {
    shape: Convolution,
    weight: Place,
    convolved: Place,
    moments: Place,
}

/// Rows of a chunk of sums, for \[rows, channels\].
fn chunk(rows: usize, channels: usize) -> usize {
    (rows * channels.div_ceil(TILE)).div_ceil(BLOCKS_OF_SUMS).max(LEAST_ROWS)
}

/// A block for each chunk of rows and tile of channels.
fn blocks(rows: usize, channels: usize, chunk: usize) -> usize {
    rows.div_ceil(chunk) * channels.div_ceil(TILE)
}

fn counts<const N: usize>(counts: [usize; N]) -> [Word; N] {
    counts.map(|count| Word::Count(count as u64))
}

fn at<const N: usize>(places: [Place; N]) -> Vec<Word> {
    places.map(Word::At).to_vec()
}

pub(super) fn build(
    builder: &mut Builder,
    config: &ResNet18Config,
    classes: usize,
    shape: &BatchShape,
    images: usize,
) -> Result<()> {
    config.validate()?;
    config.parameter_shapes(shape.channels, classes)?;
    let units = units(shape.channels, config.width);
    // Tensor cores want channels in groups of sixteen bytes; only the images have fewer.
    let padded = shape.channels.next_multiple_of(16 / builder.stored.bytes());
    let [x, labels] = builder.input(shape, images, padded, false);
    let mut values = vec![x];
    let mut sizes = vec![[shape.height, shape.width, padded]];
    let mut done: Vec<Done> = Vec::with_capacity(units.len());
    for unit in &units {
        let [height, width, inputs] = sizes[unit.input];
        let Window { kernel, stride, padding } = unit.window;
        let shape = Convolution {
            images,
            height,
            width,
            inputs,
            outputs: unit.outputs,
            kernel,
            stride,
            padding,
            math: builder.math,
        };
        if unit.window.outputs(height).is_none() || unit.window.outputs(width).is_none() {
            return Err(Error::config("height", "that of images that the convolutions leave something of", height));
        }
        if u32::try_from(shape.output_len().max(shape.input_len())).is_err() {
            return Err(Error::config("images", "few enough for 2³² numbers a layer", images));
        }
        let weight = builder.weight(3 * unit.layer, [unit.outputs, unit.inputs, inputs, kernel * kernel]);
        let convolved = builder.activations(shape.output_len());
        builder.convolve(shape, Direction::Forward, [values[unit.input], weight, convolved]);
        let moments = moments(builder, unit, &shape, convolved)?;
        let y = builder.activations(shape.output_len());
        let residual = unit.residual.map_or(convolved, |value| values[value]);
        let vector = builder.stored.vector(unit.outputs);
        let mut words = at([convolved, moments, Place::Parameter(3 * unit.layer + 2), residual, y]);
        let (rows, block) = (shape.output_rows(), texts::rows_of_block(unit.outputs, vector));
        let forms = [unit.relu, unit.residual.is_some()].map(usize::from);
        words.extend(counts([rows, unit.outputs, block, forms[0], forms[1]]));
        builder.launch(texts::norm_apply(builder.stored, vector), blocks(rows, unit.outputs, block), words);
        values.push(y);
        sizes.push([shape.output_height(), shape.output_width(), unit.outputs]);
        done.push(Done { shape, weight, convolved, moments });
    }
    let (Some(&last), Some(&[height, width, channels])) = (values.last(), sizes.last()) else { return Ok(()) };
    let head = 3 * units.len();
    let weight = builder.weight(head, [classes, channels, channels, 1]);
    let features = builder.activations(images * channels);
    let means = [images * channels, height * width, channels];
    let mut words = at([last, features]);
    words.extend(counts(means));
    builder.launch(texts::average(builder.stored), means[0].div_ceil(THREADS as usize), words);
    let linear = [images, classes, channels];
    let z = forward(builder, features, weight, linear);
    let dz = loss(builder, z, head + 1, labels, [images, classes]);
    if builder.pass == Pass::Evaluate {
        return Ok(());
    }
    backward_parameters(builder, [features, dz], head, linear);
    let of_features = backward_data(builder, dz, weight, linear);
    let count = images * height * width * channels;
    let dy = builder.activations(count);
    let mut words = at([of_features, dy]);
    words.extend(counts([count, height * width, channels]));
    builder.launch(texts::average_back(builder.stored), count.div_ceil(THREADS as usize), words);
    let mut gradients: Vec<Vec<Place>> = vec![Vec::new(); values.len()];
    gradients[units.len()].push(dy);
    for (i, (unit, done)) in units.iter().zip(&done).enumerate().rev() {
        let (dc, passed) = back_through_norm(builder, unit, done, values[i + 1], &gradients[i + 1])?;
        if let Some(value) = unit.residual {
            gradients[value].push(passed);
        }
        let sizes = [unit.outputs, unit.inputs, done.shape.inputs, unit.window.kernel * unit.window.kernel];
        let dw = builder.weight_gradient(3 * unit.layer, sizes);
        builder.convolve(done.shape, Direction::BackwardFilter, [values[unit.input], dc, dw]);
        if unit.input > 0 {
            let dx = builder.activations(done.shape.input_len());
            builder.convolve(done.shape, Direction::BackwardData, [dc, done.weight, dx]);
            gradients[unit.input].push(dx);
        }
    }
    Ok(())
}

/// What a norm normalises with: the batch's statistics, or running ones.
fn moments(builder: &mut Builder, unit: &Unit, shape: &Convolution, convolved: Place) -> Result<Place> {
    let (channels, rows) = (unit.outputs, shape.output_rows());
    let moments = builder.numbers(3 * channels);
    let gamma = Place::Parameter(3 * unit.layer + 1);
    let running = [Place::Statistic(2 * unit.layer), Place::Statistic(2 * unit.layer + 1)];
    if builder.pass == Pass::Evaluate {
        let mut words = at([gamma, running[0], running[1], moments]);
        words.extend(counts([channels]));
        words.push(Word::Real(BatchNorm2d::EPSILON));
        builder.launch(texts::norm_running(), channels.div_ceil(THREADS as usize), words);
        return Ok(moments);
    }
    if rows < 2 {
        return Err(Error::config(
            "images",
            "so many that a channel has two values in the last stage, in training",
            shape.images,
        ));
    }
    let (vector, chunk) = (builder.stored.vector(channels), chunk(rows, channels));
    let chunks = rows.div_ceil(chunk);
    let partial = builder.numbers(2 * chunks * channels);
    let mut words = at([convolved, partial]);
    words.extend(counts([rows, channels, chunk]));
    builder.launch(texts::norm_stats(builder.stored, vector), blocks(rows, channels, chunk), words);
    let mut words = at([partial, gamma, running[0], running[1], moments]);
    words.extend(counts([rows, channels, chunk]));
    words.extend([BatchNorm2d::EPSILON, BatchNorm2d::MOMENTUM].map(Word::Real));
    builder.launch(texts::norm_merge(), channels.div_ceil(8), words);
    Ok(moments)
}

/// From the gradients of a unit's output to that of what its convolution gave, and to what passed its activation.
fn back_through_norm(
    builder: &mut Builder,
    unit: &Unit,
    done: &Done,
    y: Place,
    dy: &[Place],
) -> Result<(Place, Place)> {
    let (first, second) = match *dy {
        [first] => (first, None),
        [first, second] => (first, Some(second)),
        _ => return Err(Error::config("units", "ones whose outputs have one or two users", dy.len())),
    };
    let (channels, rows, count) = (unit.outputs, done.shape.output_rows(), done.shape.output_len());
    let (vector, chunk) = (builder.stored.vector(channels), chunk(rows, channels));
    let chunks = rows.div_ceil(chunk);
    let (gamma, beta) = (3 * unit.layer + 1, 3 * unit.layer + 2);
    let partial = builder.numbers(2 * chunks * channels);
    let mut form = if unit.relu { form::RELU } else { 0 };
    form |= if unit.residual.is_some() { form::FROM_Y } else { 0 };
    form |= if second.is_some() { form::TWO } else { 0 };
    let writes = form & (form::FROM_Y | form::TWO) != 0;
    let passed = if writes { builder.activations(count) } else { first };
    form |= if writes { form::WRITE } else { 0 };
    // Words that the form says are not looked at have some address all the same.
    let y = if unit.residual.is_some() { y } else { first };
    let mut words =
        at([done.convolved, done.moments, Place::Parameter(beta), first, second.unwrap_or(first), y, passed, partial]);
    words.extend(counts([rows, channels, chunk]));
    builder.launch(texts::norm_back_sums(builder.stored, vector, form), blocks(rows, channels, chunk), words);
    let coefficients = builder.numbers(2 * channels);
    let mut words = at([partial, done.moments, Place::Gradient(gamma), Place::Gradient(beta), coefficients]);
    words.extend(counts([rows, channels, chunk]));
    builder.launch(texts::norm_back_merge(), channels.div_ceil(8), words);
    let dc = builder.activations(count);
    let mut words = at([done.convolved, done.moments, Place::Parameter(beta), coefficients, passed, dc]);
    let block = texts::rows_of_block(channels, vector);
    words.extend(counts([rows, channels, block, usize::from(unit.relu && !writes)]));
    builder.launch(texts::norm_back_data(builder.stored, vector), blocks(rows, channels, block), words);
    Ok((dc, passed))
}
