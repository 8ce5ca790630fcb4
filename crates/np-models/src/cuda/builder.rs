//! Writing a [`Program`]: operations in order, buffers as they are wanted, weights in the order that products take.

use np_cuda::engine::{Convolution, Direction, Math, Product};

use super::memory::{Lifetime, arrange};
use super::program::{Launch, Op, Pass, Place, Program, Weight, Word};
use super::{BatchShape, ImageLayout, Precision};
use crate::kernels::cuda::{self as texts, Kernel, Stored, THREADS};
use crate::{Error, Result};

/// A program that is being written.
pub(super) struct Builder {
    pub(super) pass: Pass,
    pub(super) stored: Stored,
    pub(super) math: Math,
    input: Option<Launch>,
    ops: Vec<Op>,
    kernels: Vec<Kernel>,
    buffers: Vec<usize>,
    packed: Vec<Weight>,
    unpacked: Vec<Weight>,
}

impl Builder {
    pub(super) fn new(precision: Precision, pass: Pass) -> Self {
        let (stored, math) = match precision {
            Precision::Fp32 => (Stored::Single, Math::Single),
            Precision::Tf32 => (Stored::Single, Math::Tf32),
            Precision::Bf16 => (Stored::Bf16, Math::Bf16),
        };
        Self {
            pass,
            stored,
            math,
            input: None,
            ops: Vec::new(),
            kernels: Vec::new(),
            buffers: Vec::new(),
            packed: Vec::new(),
            unpacked: Vec::new(),
        }
    }

    /// A buffer of `count` numbers of `bytes` each.
    pub(super) fn buffer(&mut self, count: usize, bytes: usize) -> Place {
        self.buffers.push(count * bytes);
        Place::Buffer(self.buffers.len() - 1)
    }

    /// A buffer of activations.
    pub(super) fn activations(&mut self, count: usize) -> Place {
        self.buffer(count, self.stored.bytes())
    }

    /// A buffer of `f32`.
    pub(super) fn numbers(&mut self, count: usize) -> Place {
        self.buffer(count, 4)
    }

    fn kernel(&mut self, kernel: Kernel) -> usize {
        self.kernels.iter().position(|known| *known == kernel).unwrap_or_else(|| {
            self.kernels.push(kernel);
            self.kernels.len() - 1
        })
    }

    pub(super) fn launch(&mut self, kernel: Kernel, blocks: usize, words: Vec<Word>) {
        let kernel = self.kernel(kernel);
        self.ops.push(Op::Launch(Launch { kernel, blocks, words, also: Vec::new() }));
    }

    pub(super) fn convolve(&mut self, shape: Convolution, direction: Direction, operands: [Place; 3]) {
        self.ops.push(Op::Convolve { shape, direction, operands });
    }

    pub(super) fn multiply(&mut self, product: Product, operands: [Place; 3]) {
        self.ops.push(Op::Multiply { product, operands });
    }

    /// The batch as \[images, pixels, channels\], with channels to `padded`, or, where there are none to be added, image by image with pixels last if
    /// `pixels_last`. Gives images and labels.
    pub(super) fn input(&mut self, shape: &BatchShape, images: usize, padded: usize, pixels_last: bool) -> [Place; 2] {
        let pixels = shape.height * shape.width;
        let (x, labels) = (self.activations(images * pixels * padded), self.buffer(images, 4));
        let from = match shape.layout {
            ImageLayout::ChannelsFirst => [pixels, 1],
            ImageLayout::ChannelsLast => [1, shape.channels],
        };
        let to = if pixels_last { [pixels, 1] } else { [1, padded] };
        let mut words = [Place::Images, Place::Labels, x, labels, Place::Position].map(Word::At).to_vec();
        words.push(Word::Step);
        let counts = [images, pixels, shape.channels, padded, from[0], from[1], to[0], to[1]];
        words.extend(counts.map(|count| Word::Count(count as u64)));
        let kernel = self.kernel(texts::input(self.stored));
        let blocks = (images * pixels).div_ceil(THREADS as usize);
        self.input = Some(Launch { kernel, blocks, words, also: Vec::new() });
        [x, labels]
    }

    /// A parameter in the order and type of products: packed where they differ from its own.
    pub(super) fn weight(&mut self, parameter: usize, [outputs, inputs, padded, spatial]: [usize; 4]) -> Place {
        let plain = Place::Parameter(parameter);
        if self.stored == Stored::Single && padded == inputs && spatial == 1 {
            return plain;
        }
        let packed = self.activations(outputs * padded * spatial);
        self.packed.push(Weight { plain, packed, outputs, inputs, padded, spatial });
        packed
    }

    /// Where a convolution leaves the gradient of a parameter, for it to be unpacked at the end.
    pub(super) fn weight_gradient(
        &mut self,
        parameter: usize,
        [outputs, inputs, padded, spatial]: [usize; 4],
    ) -> Place {
        let plain = Place::Gradient(parameter);
        if self.stored == Stored::Single && padded == inputs && spatial == 1 {
            return plain;
        }
        let packed = self.activations(outputs * padded * spatial);
        self.unpacked.push(Weight { plain, packed, outputs, inputs, padded, spatial });
        packed
    }

    fn table(&mut self, kernel: Kernel, weights: &[Weight], table: Place) -> Option<Op> {
        let blocks = weights.iter().map(|weight| weight.outputs).sum();
        if blocks == 0 {
            return None;
        }
        let words = vec![Word::At(table), Word::Count(weights.len() as u64)];
        let also = weights.iter().flat_map(|weight| [weight.plain, weight.packed]).collect();
        let kernel = self.kernel(kernel);
        Some(Op::Launch(Launch { kernel, blocks, words, also }))
    }

    pub(super) fn finish(mut self) -> Result<Program> {
        let Some(input) = self.input.take() else {
            return Err(Error::config("program", "one with an input", "none"));
        };
        let (packed, unpacked) = (std::mem::take(&mut self.packed), std::mem::take(&mut self.unpacked));
        if let Some(op) = self.table(texts::pack(self.stored), &packed, Place::Packed) {
            self.ops.insert(0, op);
        }
        if let Some(op) = self.table(texts::unpack(self.stored), &unpacked, Place::Unpacked) {
            self.ops.push(op);
        }
        let first = Op::Launch(input.clone());
        let mut lifetimes = vec![None; self.buffers.len()];
        for (time, op) in [&first].into_iter().chain(&self.ops).enumerate() {
            for place in op.places() {
                if let Place::Buffer(number) = place {
                    let lifetime: &mut Option<Lifetime> = &mut lifetimes[number];
                    lifetime.get_or_insert(Lifetime { first: time, last: time }).last = time;
                }
            }
        }
        // A buffer that nothing touches takes no room.
        let lifetimes: Vec<_> = lifetimes.into_iter().map(|l| l.unwrap_or(Lifetime { first: 0, last: 0 })).collect();
        let (offsets, bytes) = arrange(&self.buffers, &lifetimes);
        Ok(Program {
            input,
            ops: self.ops,
            kernels: self.kernels,
            buffers: self.buffers,
            lifetimes,
            offsets,
            bytes,
            packed,
            unpacked,
        })
    }
}
