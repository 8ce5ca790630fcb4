//! A batch's pass as a list of operations over buffers: made and checked on any machine, run by an [`Engine`].

use np_cuda::engine::{Convolution, Direction, Engine, Product};
use np_cuda::table::Table;

use super::builder::Builder;
use super::memory::Lifetime;
use super::{Architecture, BatchShape, Precision, mlp, resnet};
pub use crate::kernels::cuda as texts;
use crate::kernels::cuda::{Kernel, THREADS};
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
            Place::Images | Place::Labels => {
                return Err(Error::config("images", "an operand of the input alone", "another's"));
            }
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
        self.ops.iter().try_for_each(|op| self.queue(engine, at, op))
    }

    /// Queues one of [`Self::ops`].
    ///
    /// # Errors
    /// Those of the engine.
    pub fn queue(&self, engine: &mut dyn Engine, at: &Addresses, op: &Op) -> Result<()> {
        let places =
            |[a, b, c]: [Place; 3]| Ok::<_, Error>([self.address(at, a)?, self.address(at, b)?, self.address(at, c)?]);
        match op {
            Op::Launch(launch) => self.launch(engine, at, launch, [0; 3])?,
            Op::Convolve { shape, direction, operands } => engine.convolve(shape, *direction, places(*operands)?)?,
            Op::Multiply { product, operands } => engine.multiply(product, places(*operands)?)?,
        }
        Ok(())
    }
}
