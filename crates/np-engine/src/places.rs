//! The tensors of launches: their addresses, their division into chunks, and the norm for gradient clipping.

use np_cuda::machine::Machine;
use np_cuda::sums::{self, norms};
use np_cuda::table::{Row, Table, pieces};
use np_trace::cuda::Storage;

use crate::error::Result;
use crate::gradient_map::GradientMap;

/// How many divisions are kept before all are forgotten.
const MOST: usize = 32;

/// A tensor: its addresses, how it is stored, and what is applied to its gradient as it is read.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub(crate) row: Row,
    pub(crate) storage: Storage,
    pub(crate) map: GradientMap,
}

/// Divisions of lists of tensors into pieces. Each is in a separate buffer of the machine and is kept between steps.
#[derive(Debug, Default)]
pub(crate) struct Cuts(Vec<Cut>);

#[derive(Debug)]
struct Cut {
    lengths: Vec<u64>,
    size: usize,
    pieces: Pieces,
}

/// A division into pieces: its address on the machine, and the number of pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pieces {
    pub(crate) at: u64,
    pub(crate) count: usize,
}

impl Cuts {
    /// To be called at the beginning of a step: forgets all divisions if they have become too many. Addresses from [`of`](Self::of) are valid until the next call.
    pub(crate) fn begin(&mut self) {
        if self.0.len() > MOST {
            self.0.clear();
        }
    }

    /// The division of tensors of these `lengths` into pieces of at most `size` elements, copied to the machine if it is new, to one of the buffers from `first` on.
    pub(crate) fn of(
        &mut self,
        machine: &mut impl Machine,
        first: usize,
        lengths: &[u64],
        size: usize,
    ) -> Result<Pieces> {
        if let Some(cut) = self.0.iter().find(|cut| cut.lengths == lengths && cut.size == size) {
            return Ok(cut.pieces);
        }
        let mut table = Table::default();
        table.pieces(pieces(lengths, size));
        let at = machine.upload(first + self.0.len(), table.bytes())?;
        let pieces = Pieces { at, count: pieces(lengths, size).count() };
        self.0.push(Cut { lengths: lengths.to_vec(), size, pieces });
        Ok(pieces)
    }
}

/// Gradients of one element type: the address of their tensors' rows, and their division into chunks.
pub(crate) struct Gradients {
    pub(crate) storage: Storage,
    pub(crate) rows: u64,
    pub(crate) chunks: Pieces,
}

/// Blocks of arguments, `stride` apart, in each of which argument `place` is the factor of the gradient.
pub(crate) struct Scales {
    pub(crate) storage: Storage,
    pub(crate) arguments: u64,
    pub(crate) blocks: usize,
    pub(crate) stride: usize,
    pub(crate) place: usize,
}

/// Queues the clipping of all gradients to the norm `most`: the machine computes their norm and writes the gradients' factor into the arguments `scales`. `ranges` is
/// the address of each tensor's range of chunks, for `tensors` tensors; `partial` and `out` are the buffers of the sums and norms.
pub(crate) fn clip(
    machine: &mut impl Machine,
    most: f64,
    gradients: &[Gradients],
    (ranges, tensors): (u64, usize),
    scales: &[Scales],
    [partial, out]: [usize; 2],
) -> Result<()> {
    let chunks: usize = gradients.iter().map(|of| of.chunks.count).sum();
    let partial = machine.reserve(partial, chunks * size_of::<f64>())?;
    let out = machine.reserve(out, (norms::EACH + tensors) * size_of::<f64>())?;
    for attempt in [0, 1] {
        let mut first = 0;
        for Gradients { storage, rows, chunks } in gradients {
            let words = [chunks.at, *rows, partial, out, first, attempt];
            machine.launch(&storage.squares(), sums::SQUARES, chunks.count, sums::THREADS, &words)?;
            first += chunks.count as u64;
        }
        machine.launch(
            &sums::norm(),
            sums::NORM,
            1,
            sums::THREADS,
            &[ranges, tensors as u64, partial, out, attempt],
        )?;
    }
    for Scales { storage, arguments, blocks, stride, place } in scales {
        let [blocks, stride, place] = [*blocks, *stride, *place].map(|count| count as u64);
        let words = [out, most.to_bits(), *arguments, blocks, stride, place];
        machine.launch(&sums::clip(storage.compute()), sums::CLIP, 1, sums::THREADS, &words)?;
    }
    Ok(())
}
