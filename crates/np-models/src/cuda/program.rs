//! A batch's pass as a list of operations over buffers: made and checked on any machine, run by an [`Engine`].

use np_cuda::engine::{Convolution, Direction, Engine, Math, Product};
use np_cuda::table::Table;

use super::memory::{Lifetime, arrange};
use super::{Architecture, BatchShape, ImageLayout, Precision, mlp, resnet};
pub use crate::kernels::cuda as texts;
use crate::kernels::cuda::{Kernel, Stored, THREADS};
use crate::{Error, Result};

/// What a program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Forward and backward, with dropout and statistics of the batch; running statistics move.
    Train,
    /// Forward, with running statistics.
    Evaluate,
}

/// Something that an operation reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// A buffer of the program's, by its number.
    Buffer(usize),
    /// The model's parameter of this number, in definition order.
    Parameter(usize),
    /// The gradient of that parameter, of the same shape and in `f32`.
    Gradient(usize),
    /// The model's running statistic of this number, in definition order.
    Statistic(usize),
    /// The step's number, in the device's memory.
    Position,
    /// The totals that a loss is added to.
    Totals,
    /// The images that came.
    Images,
    /// The labels that came.
    Labels,
    /// The table of weights to be packed.
    Packed,
    /// The table of gradients to be unpacked.
    Unpacked,
}

/// A parameter of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Word {
    /// An address.
    At(Place),
    /// A count.
    Count(u64),
    /// A number of double precision.
    Real(f64),
    /// The step's number, as it comes.
    Step,
}

/// A kernel with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// Which of the program's kernels.
    pub kernel: usize,
    /// Blocks of [`THREADS`] threads.
    pub blocks: usize,
    /// Its parameters.
    pub words: Vec<Word>,
    /// What it reads or writes without having it as a parameter.
    pub also: Vec<Place>,
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// A kernel of ours.
    Launch(Launch),
    /// A pass of a convolution.
    Convolve {
        /// Its sizes.
        shape: Convolution,
        /// Which pass.
        direction: Direction,
        /// Two operands and the result.
        operands: [Place; 3],
    },
    /// A matrix product.
    Multiply {
        /// Its sizes.
        product: Product,
        /// Two operands and the result.
        operands: [Place; 3],
    },
}

impl Op {
    /// Everything that it reads or writes.
    pub fn places(&self) -> Vec<Place> {
        match self {
            Self::Launch(launch) => {
                let words = launch.words.iter().filter_map(|word| match word {
                    Word::At(place) => Some(*place),
                    _ => None,
                });
                words.chain(launch.also.iter().copied()).collect()
            }
            Self::Convolve { operands, .. } | Self::Multiply { operands, .. } => operands.to_vec(),
        }
    }
}

/// A weight that convolutions take in another order or type than the parameter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// The parameter, or its gradient.
    pub plain: Place,
    /// The buffer.
    pub packed: Place,
    /// Rows.
    pub outputs: usize,
    /// Channels of the parameter.
    pub inputs: usize,
    /// Channels of the buffer.
    pub padded: usize,
    /// Numbers of the window.
    pub spatial: usize,
}

/// Addresses that a program runs with. What is captured in a graph keeps those that it was captured with.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// Of the block of [`Program::bytes`] that buffers lie in.
    pub arena: u64,
    /// Of the model's parameters.
    pub parameters: Vec<u64>,
    /// Of their gradients.
    pub gradients: Vec<u64>,
    /// Of its running statistics.
    pub statistics: Vec<u64>,
    /// Of the step's number.
    pub position: u64,
    /// Of the totals.
    pub totals: u64,
    /// Of [`Program::tables`].
    pub tables: u64,
}

/// Operations over buffers, for batches of one size.
#[derive(Debug, Clone)]
pub struct Program {
    /// Copies the batch into buffers. Its addresses may differ from step to step: it stays out of a graph.
    pub input: Launch,
    /// All the others, in order.
    pub ops: Vec<Op>,
    /// The kernels of the launches.
    pub kernels: Vec<Kernel>,
    /// Bytes of each buffer.
    pub buffers: Vec<usize>,
    /// When each is in use; the input is operation 0, and the first of `ops` is 1.
    pub lifetimes: Vec<Lifetime>,
    /// Where each begins in the block.
    pub offsets: Vec<usize>,
    /// The length of the block.
    pub bytes: usize,
    /// Weights that are packed at the beginning.
    pub packed: Vec<Weight>,
    /// Gradients that are unpacked at the end.
    pub unpacked: Vec<Weight>,
}

impl Program {
    /// For batches of `images`.
    ///
    /// # Errors
    /// [`Error::Config`] for sizes that are out of range.
    pub fn new(
        architecture: &Architecture,
        shape: &BatchShape,
        images: usize,
        precision: Precision,
        pass: Pass,
    ) -> Result<Self> {
        for (field, size) in
            [("images", images), ("channels", shape.channels), ("height", shape.height), ("width", shape.width)]
        {
            if size == 0 {
                return Err(Error::config(field, "at least 1", 0));
            }
        }
        let mut builder = Builder::new(precision, pass);
        match architecture {
            Architecture::Mlp { config, classes, seed } => {
                mlp::build(&mut builder, config, *classes, *seed, shape, images)?;
            }
            Architecture::ResNet18 { config, classes } => resnet::build(&mut builder, config, *classes, shape, images)?,
        }
        builder.finish()
    }

    /// The passes of convolutions, and whether there are matrix products.
    #[must_use]
    pub fn needs(&self) -> (Vec<(Convolution, Direction)>, bool) {
        let convolutions = self.ops.iter().filter_map(|op| match op {
            Op::Convolve { shape, direction, .. } => Some((*shape, *direction)),
            _ => None,
        });
        (convolutions.collect(), self.ops.iter().any(|op| matches!(op, Op::Multiply { .. })))
    }

    fn address(&self, at: &Addresses, place: Place) -> Result<u64> {
        let of = |list: &[u64], number: usize| {
            list.get(number).copied().ok_or_else(|| Error::config("parameters", "as many as the program has", number))
        };
        Ok(match place {
            Place::Buffer(number) => at.arena + self.offsets[number] as u64,
            Place::Parameter(number) => of(&at.parameters, number)?,
            Place::Gradient(number) => of(&at.gradients, number)?,
            Place::Statistic(number) => of(&at.statistics, number)?,
            Place::Position => at.position,
            Place::Totals => at.totals,
            Place::Packed => at.tables,
            Place::Unpacked => at.tables + (self.packed.len() * 64) as u64,
            Place::Images | Place::Labels => return Err(Error::config("images", "an operand of the input alone", "another's")),
        })
    }

    /// The tables of weights, for the device: packed ones, then unpacked ones.
    ///
    /// # Errors
    /// [`Error::Config`] where `at` has too few addresses.
    pub fn tables(&self, at: &Addresses) -> Result<Vec<u8>> {
        let mut table = Table::default();
        for weights in [&self.packed, &self.unpacked] {
            let mut first = 0;
            for weight in weights {
                table.u64(self.address(at, weight.plain)?);
                table.u64(self.address(at, weight.packed)?);
                for count in [weight.inputs, weight.padded, weight.spatial, first, 0, 0] {
                    table.u64(count as u64);
                }
                first += weight.outputs;
            }
        }
        // So that a table that is empty has an address, too.
        table.u64(0);
        Ok(table.bytes().to_vec())
    }

    fn launch(&self, engine: &mut dyn Engine, at: &Addresses, launch: &Launch, batch: [u64; 3]) -> Result<()> {
        let mut words = Vec::with_capacity(launch.words.len());
        for word in &launch.words {
            words.push(match word {
                Word::At(Place::Images) => batch[0],
                Word::At(Place::Labels) => batch[1],
                Word::At(place) => self.address(at, *place)?,
                Word::Count(count) => *count,
                Word::Real(x) => x.to_bits(),
                Word::Step => batch[2],
            });
        }
        let Kernel { text, name } = &self.kernels[launch.kernel];
        Ok(engine.launch(text, name, launch.blocks, THREADS, &words)?)
    }

    /// Queues the input: the batch at these addresses, as step `step`.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn load(&self, engine: &mut dyn Engine, at: &Addresses, images: u64, labels: u64, step: u64) -> Result<()> {
        self.launch(engine, at, &self.input, [images, labels, step])
    }

    /// Queues everything else.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn run(&self, engine: &mut dyn Engine, at: &Addresses) -> Result<()> {
        for op in &self.ops {
            match op {
                Op::Launch(launch) => self.launch(engine, at, launch, [0; 3])?,
                Op::Convolve { shape, direction, operands } => {
                    let [a, b, c] = *operands;
                    let operands = [self.address(at, a)?, self.address(at, b)?, self.address(at, c)?];
                    engine.convolve(shape, *direction, operands)?;
                }
                Op::Multiply { product, operands } => {
                    let [a, b, c] = *operands;
                    let operands = [self.address(at, a)?, self.address(at, b)?, self.address(at, c)?];
                    engine.multiply(product, operands)?;
                }
            }
        }
        Ok(())
    }
}

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
    fn new(precision: Precision, pass: Pass) -> Self {
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
    pub(super) fn weight_gradient(&mut self, parameter: usize, [outputs, inputs, padded, spatial]: [usize; 4]) -> Place {
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

    fn finish(mut self) -> Result<Program> {
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
