//! The tensors of launches over a table: where each is, and how launches cut them into chunks.

use np_cuda::machine::Machine;
use np_cuda::table::{CHUNK, Row, Table, pieces};

use crate::engine::elementwise::launched::refused;
use crate::engine::gradient_map::GradientMap;
use crate::engine::traced::cuda::Storage;
use crate::error::Result;

/// Ways of cutting tensors that are kept from step to step.
const MOST: usize = 32;

/// A tensor: where it is, how it is stored, and what its gradient is read through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) row: Row,
    pub(crate) storage: Storage,
    pub(crate) map: GradientMap,
}

/// Ways of cutting tensors into chunks, each in a buffer of its own of the machine.
#[derive(Debug, Default)]
pub(crate) struct Cuts(Vec<Cut>);

#[derive(Debug)]
struct Cut {
    lengths: Vec<u64>,
    at: u64,
    count: usize,
}

impl Cuts {
    /// Begins a step, in which addresses of [`of`](Self::of) stay: ways that have become too many are forgotten here.
    pub(crate) fn begin(&mut self) {
        if self.0.len() > MOST {
            self.0.clear();
        }
    }

    /// Where the machine has it how tensors of these lengths are cut, and into how many chunks; buffers are those from `first` on.
    pub(crate) fn of(&mut self, machine: &mut impl Machine, first: usize, lengths: Vec<u64>) -> Result<(u64, usize)> {
        if let Some(cut) = self.0.iter().find(|cut| cut.lengths == lengths) {
            return Ok((cut.at, cut.count));
        }
        let mut table = Table::default();
        table.pieces(pieces(&lengths, CHUNK));
        let at = machine.upload(first + self.0.len(), table.bytes()).map_err(refused)?;
        let count = pieces(&lengths, CHUNK).count();
        self.0.push(Cut { lengths, at, count });
        Ok((at, count))
    }
}
