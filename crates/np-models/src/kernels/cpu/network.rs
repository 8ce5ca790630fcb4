//! A network of convolutions with norms, run forward and backward over buffers that are used again from step to step.
//!
//! Between layers, candle allocates every activation and every gradient anew, and adds each gradient to zeros first. Here a
//! whole network is one operation: what lies between its layers never becomes a tensor. `network_op.rs` ties it to candle's graph.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::batch_norm_rows::{self as rows, BatchMoments, Moments, Passed, Source};
use super::conv2d::{self, ConvShape};
use super::gemm::Destination;
use super::scratch::{Buffer, Pools};
use super::{Real, pool, with_slice};
use crate::layers::{Activation, Window};

/// y = activation(norm(convolution of value `input`) + value `residual`).
///
/// Values are numbered: 0 is the network's input, i + 1 the output of unit i.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) conv: Tensor,
    pub(crate) window: Window,
    /// γ and β.
    pub(crate) affine: [Tensor; 2],
    pub(crate) input: usize,
    pub(crate) residual: Option<usize>,
    pub(crate) activation: Activation,
}

/// Units in the order of their execution, then the average over pixels; every value but the last has a later user.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) units: Vec<Unit>,
    /// The numbers that images of this size lead to.
    shapes: Vec<ConvShape>,
    pools: Arc<Pools>,
}

/// Where a unit's norm takes its statistics from.
pub(super) enum Norms<T> {
    Batch,
    Running(Vec<Moments<T>>),
}

/// Everything that a backward pass needs of a forward pass.
pub(super) struct Saved<T: Real> {
    values: Vec<Buffer<T>>,
    convolved: Vec<Buffer<T>>,
    moments: Vec<Moments<T>>,
    source: Source,
}

/// What a forward pass leaves.
pub(super) struct Forward<T: Real> {
    /// \[images, channels\].
    pub(super) features: Vec<T>,
    /// `None` unless asked for.
    pub(super) saved: Option<Saved<T>>,
    /// The batch's statistics of each norm; empty if running ones were used.
    pub(super) batches: Vec<BatchMoments>,
}

/// The gradients that a backward pass leaves.
pub(super) struct Gradients<T> {
    /// Of the input, channels-last, if it was asked for.
    pub(super) x: Option<Vec<T>>,
    /// Of each unit's convolution, γ and β.
    pub(super) units: Vec<[Vec<T>; 3]>,
}

impl Network {
    /// For images of \[n, channels, h, w\].
    pub(crate) fn new(units: Vec<Unit>, x: &[usize], pools: Arc<Pools>) -> Result<Self> {
        let &[n, channels, h, w] = x else {
            candle_core::bail!("a network's input of {x:?}");
        };
        let mut sizes = vec![[n, h, w, channels]];
        let mut shapes = Vec::with_capacity(units.len());
        for unit in &units {
            let shape = ConvShape::new(&sizes[unit.input], unit.conv.dims(), unit.window)?;
            sizes.push([n, shape.oh, shape.ow, shape.outputs]);
            shapes.push(shape);
        }
        Ok(Self { units, shapes, pools })
    }

    /// Images, height and width of the last value.
    pub(crate) fn last(&self) -> Option<(usize, usize, usize)> {
        self.shapes.last().map(|shape| (shape.images, shape.oh, shape.ow))
    }

    fn take<T: Real>(&self, len: usize) -> Buffer<T> {
        Buffer::take(&self.pools, len)
    }

    /// The number of the last unit that uses each value.
    fn last_uses(&self) -> Vec<usize> {
        let mut last = vec![0; self.units.len() + 1];
        for (i, unit) in self.units.iter().enumerate() {
            last[unit.input] = i;
            if let Some(residual) = unit.residual {
                last[residual] = i;
            }
        }
        last
    }

    /// Pixels and channels of the last value.
    fn head(&self) -> (usize, usize) {
        self.shapes.last().map_or((1, 1), |shape| (shape.outputs_per_image(), shape.outputs))
    }

    /// From the images, channels-first; `keep`: whether a backward pass will follow.
    pub(super) fn forward<T: Real>(&self, x: &[T], norms: Norms<T>, keep: bool, epsilon: f64) -> Result<Forward<T>> {
        let last_uses = self.last_uses();
        let first = &self.shapes[0];
        let mut values: Vec<Option<Buffer<T>>> = Vec::with_capacity(self.units.len() + 1);
        let mut input = self.take(x.len());
        channels_last(x, first.inputs_per_image(), first.inputs, &mut input);
        values.push(Some(input));
        let (mut convolved, mut batches) = (Vec::new(), Vec::new());
        let (mut running, source) = match norms {
            Norms::Batch => (None, Source::Batch),
            Norms::Running(moments) => (Some(moments.into_iter()), Source::Running),
        };
        let mut all_moments = Vec::with_capacity(self.units.len());
        for (i, (unit, shape)) in self.units.iter().zip(&self.shapes).enumerate() {
            let mut y = self.take(shape.output_len());
            let batch = with_slice::<T, _>(&unit.conv, |weight| {
                let x = value(&values, unit.input)?;
                match source {
                    Source::Batch => conv2d::forward_with_moments(shape, x, weight, &mut y).map(Some),
                    Source::Running => conv2d::forward(shape, x, weight, &mut y).map(|()| None),
                }
            })?;
            let moments = match (&mut running, batch) {
                (_, Some(batch)) => {
                    let moments = batch.moments(epsilon);
                    batches.push(batch);
                    Some(moments)
                }
                (Some(running), None) => running.next(),
                (None, None) => None,
            };
            let Some(moments) = moments else { candle_core::bail!("no statistics for norm {i}") };
            let residual = unit.residual.map(|r| value(&values, r)).transpose()?;
            let mut out = self.take(shape.output_len());
            with_slice::<T, _>(&unit.affine[0], |weight| {
                with_slice::<T, _>(&unit.affine[1], |bias| {
                    rows::forward(&y, &moments, [weight, bias], residual, unit.activation, &mut out);
                    Ok(())
                })
            })?;
            values.push(Some(out));
            all_moments.push(moments);
            if keep {
                convolved.push(y);
            } else {
                for used in [Some(unit.input), unit.residual].into_iter().flatten().filter(|&v| last_uses[v] == i) {
                    values[used] = None;
                }
            }
        }
        let (pixels, channels) = self.head();
        let mut features = vec![T::ZERO; first.images * channels];
        pool::forward(value(&values, self.units.len())?, pixels, channels, &mut features);
        let saved = keep.then(|| Saved {
            values: values.into_iter().flatten().collect(),
            convolved,
            moments: all_moments,
            source,
        });
        Ok(Forward { features, saved, batches })
    }

    /// From the gradient of the features; that of the input only if `of_input`.
    pub(super) fn backward<T: Real>(&self, saved: &Saved<T>, dy: &[T], of_input: bool) -> Result<Gradients<T>> {
        let mut gradients: Vec<Option<Buffer<T>>> = (0..=self.units.len()).map(|_| None).collect();
        let (pixels, channels) = self.head();
        let mut last = self.take(dy.len() * pixels);
        pool::backward(dy, pixels, channels, &mut last);
        gradients[self.units.len()] = Some(last);
        let mut of_units = Vec::with_capacity(self.units.len());
        for (i, (unit, shape)) in self.units.iter().zip(&self.shapes).enumerate().rev() {
            let Some(mut dy) = gradients[i + 1].take() else { candle_core::bail!("nothing uses value {}", i + 1) };
            let y = unit.residual.map(|_| &*saved.values[i + 1]);
            let [weight, bias] = &unit.affine;
            let (of_norm, dc) = with_slice::<T, _>(weight, |weight| {
                with_slice::<T, _>(bias, |bias| {
                    let (x, moments) = (&saved.convolved[i], &saved.moments[i]);
                    let passed = Passed { x, moments, affine: [weight, bias], activation: unit.activation };
                    let of_norm = rows::backward_parameters(passed, y, &mut dy);
                    let Some(residual) = unit.residual else {
                        rows::backward_data(passed, &of_norm, saved.source, None, &mut dy);
                        return Ok((of_norm, dy));
                    };
                    let mut dc = self.take(dy.len());
                    rows::backward_data(passed, &of_norm, saved.source, Some(&dy), &mut dc);
                    match &mut gradients[residual] {
                        Some(sum) => add(sum, &dy),
                        none => *none = Some(dy),
                    }
                    Ok((of_norm, dc))
                })
            })?;
            let mut dw = vec![T::ZERO; unit.conv.elem_count()];
            conv2d::backward_weights(shape, &saved.values[unit.input], &dc, &mut dw)?;
            of_units.push([dw, of_norm.weight, of_norm.bias]);
            if unit.input > 0 || of_input {
                let (mut dx, destination) = match gradients[unit.input].take() {
                    Some(sum) => (sum, Destination::Add),
                    None => (self.take(shape.input_len()), Destination::Overwrite),
                };
                with_slice::<T, _>(&unit.conv, |weight| {
                    conv2d::backward_data(shape, weight, &dc, &mut dx, destination)
                })?;
                gradients[unit.input] = Some(dx);
            }
        }
        of_units.reverse();
        Ok(Gradients { x: gradients.swap_remove(0).map(|dx| dx.to_vec()), units: of_units })
    }
}

fn value<T: Real>(values: &[Option<Buffer<T>>], number: usize) -> Result<&[T]> {
    match values.get(number) {
        Some(Some(value)) => Ok(value),
        _ => candle_core::bail!("value {number} of a network is not there"),
    }
}

/// \[n, channels, pixels\] → \[n, pixels, channels\].
fn channels_last<T: Real>(x: &[T], pixels: usize, channels: usize, y: &mut [T]) {
    y.par_chunks_exact_mut(pixels * channels).zip(x.par_chunks_exact(pixels * channels)).for_each(|(y, x)| {
        for (c, x) in x.chunks_exact(pixels).enumerate() {
            for (y, &x) in y[c..].iter_mut().step_by(channels).zip(x) {
                *y = x;
            }
        }
    });
}

fn add<T: Real>(sum: &mut [T], other: &[T]) {
    const CHUNK: usize = 8192;
    sum.par_chunks_mut(CHUNK).zip(other.par_chunks(CHUNK)).for_each(|(sum, other)| {
        for (s, &o) in sum.iter_mut().zip(other) {
            *s += o;
        }
    });
}
