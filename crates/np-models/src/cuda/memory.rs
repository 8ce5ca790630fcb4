//! Where buffers lie, so that those in use at the same time do not overlap; and what a model takes in all.

use np_cuda::engine::Direction;

use super::{Architecture, BatchShape, Pass, Precision, Program};
use crate::Result;

/// Buffers begin at multiples of this many bytes.
pub const ALIGNMENT: usize = 256;

/// The first and the last operation that touches a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// That writes it.
    pub first: usize,
    /// After which it may be overwritten.
    pub last: usize,
}

impl Lifetime {
    /// Whether both are in use at some time.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Offsets of buffers of these sizes, and the length of the block that they lie in: the largest first, each at the lowest place that is free for as long as it lives.
#[must_use]
pub fn arrange(sizes: &[usize], lifetimes: &[Lifetime]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(sizes[i]), i));
    let mut offsets = vec![0; sizes.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(sizes.len());
    let mut end = 0;
    for &i in &order {
        let mut taken: Vec<[usize; 2]> = placed
            .iter()
            .filter(|&&j| lifetimes[j].meets(lifetimes[i]))
            .map(|&j| [offsets[j], offsets[j] + sizes[j].next_multiple_of(ALIGNMENT)])
            .collect();
        taken.sort_unstable();
        let size = sizes[i].next_multiple_of(ALIGNMENT);
        let mut at = 0;
        for [begin, ends] in taken {
            if at + size <= begin {
                break;
            }
            at = at.max(ends);
        }
        offsets[i] = at;
        end = end.max(at + size);
        placed.push(i);
    }
    (offsets, end)
}

/// Bytes that a model takes on a device, without its optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryPlan {
    /// Parameters and running statistics.
    pub parameters: u64,
    /// Gradients of the parameters.
    pub gradients: u64,
    /// Activations, their gradients, and copies of the weights: the larger of what training and evaluation take, which share their memory.
    pub activations: u64,
    /// What libraries work in: an allowance, until a device has been asked.
    pub workspace: u64,
}

impl MemoryPlan {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.parameters + self.gradients + self.activations + self.workspace
    }
}

impl std::fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        write!(
            f,
            "{} MiB: parameters {}, gradients {}, activations {}, work memory {}",
            mib(self.total()),
            mib(self.parameters),
            mib(self.gradients),
            mib(self.activations),
            mib(self.workspace)
        )
    }
}

/// What a model and its largest batches take on a device.
///
/// ```
/// use np_models::cuda::{Architecture, BatchShape, ImageLayout, Precision, memory_plan};
/// use np_models::ResNet18Config;
///
/// # fn main() -> np_models::Result<()> {
/// let model = Architecture::ResNet18 { config: ResNet18Config { width: 64 }, classes: 10 };
/// let batch = BatchShape { images: 128, evaluation: 500, channels: 3, height: 32, width: 32, layout: ImageLayout::ChannelsLast };
/// let plan = memory_plan(&model, &batch, Precision::Tf32)?;
/// assert_eq!(plan.gradients, 4 * 11_173_962);
/// // Half the bytes an activation.
/// assert!(memory_plan(&model, &batch, Precision::Bf16)?.activations < plan.activations);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) for sizes that are out of range.
pub fn memory_plan(architecture: &Architecture, shape: &BatchShape, precision: Precision) -> Result<MemoryPlan> {
    let (shapes, statistics) = match architecture {
        Architecture::Mlp { config, classes, .. } => {
            let inputs = shape.channels * shape.height * shape.width;
            (config.parameter_shapes(inputs, *classes)?, 0)
        }
        Architecture::ResNet18 { config, classes } => {
            let shapes = config.parameter_shapes(shape.channels, *classes)?;
            // A mean and a variance for each γ and β; the last two shapes are the linear layer's.
            let statistics =
                shapes[..shapes.len() - 2].iter().filter(|shape| shape.len() == 1).map(|shape| shape[0]).sum();
            (shapes, statistics)
        }
    };
    let parameters: usize = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
    let train = Program::new(architecture, shape, shape.images, precision, Pass::Train)?;
    let mut activations = train.bytes;
    if shape.evaluation > 0 {
        activations =
            activations.max(Program::new(architecture, shape, shape.evaluation, precision, Pass::Evaluate)?.bytes);
    }
    let (convolutions, products) = train.needs();
    // The gradient of a filter is added up in single precision, in a few parts.
    let filters = convolutions.iter().filter(|(_, direction)| *direction == Direction::BackwardFilter);
    let workspace = filters.map(|(shape, _)| 16 * shape.filter_len()).max().unwrap_or(0);
    Ok(MemoryPlan {
        parameters: 4 * (parameters + statistics) as u64,
        gradients: 4 * parameters as u64,
        activations: activations as u64,
        workspace: (workspace + if products { 32 << 20 } else { 0 }) as u64,
    })
}
