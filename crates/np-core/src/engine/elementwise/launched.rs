//! A planned step on a machine: the table goes there, gradients are clipped by their norm if that is left to the step, and every launch is made.

use np_cuda::machine::Machine;
use np_cuda::sums::{self, norms};
use np_cuda::table::{CHUNK, PIECE, Row, Table, pieces};

use super::Elementwise;
use super::plan::{Launch, plan};
use crate::engine::apply::Apply;
use crate::engine::param_step::ParamStep;
use crate::engine::traced::cuda::{NAME, Storage};
use crate::engine::traced::{Expression, Outcome};
use crate::error::{Error, Result};

/// Threads of a block of an element-wise kernel.
const THREADS: u32 = 256;

/// The machine's buffers, by their numbers; from the last on there are two for each launch, its pieces and its chunks.
const TABLE: usize = 0;
const PARTIAL: usize = 1;
const NORMS: usize = 2;
const CUTS: usize = 3;

/// What is kept on the host from step to step.
#[derive(Debug, Default)]
pub(crate) struct Held {
    table: Table,
    /// What of the table is on the machine as it was written; nothing where a launch has written into it.
    sent: Vec<u8>,
    texts: Vec<(Expression, Storage, String)>,
    cuts: Vec<[Cut; 2]>,
}

/// How the tensors of a launch are cut into pieces, where on the machine it says so, and how many pieces there are.
#[derive(Debug, Default)]
struct Cut {
    lengths: Vec<u64>,
    at: u64,
    count: usize,
}

impl Cut {
    /// Cuts tensors of `lengths` into pieces of `size`: copies nothing where they are as long as before.
    fn settle(&mut self, machine: &mut impl Machine, buffer: usize, lengths: &[u64], size: usize) -> Result<()> {
        if self.lengths != lengths {
            let mut table = Table::default();
            table.pieces(pieces(lengths, size));
            self.at = machine.upload(buffer, table.bytes()).map_err(refused)?;
            self.lengths = lengths.to_vec();
            self.count = pieces(lengths, size).count();
        }
        Ok(())
    }
}

/// An error of the machine as one of this crate.
pub(crate) fn refused(e: np_cuda::Error) -> Error {
    candle_core::Error::wrap(e).into()
}

impl Held {
    /// A step of all of `work`; `row` says where a parameter is.
    pub(crate) fn step<R: Elementwise>(
        &mut self,
        machine: &mut impl Machine,
        rule: &R,
        work: &mut [ParamStep<'_>],
        outcome: Outcome,
        row: impl Fn(&ParamStep<'_>) -> Result<Row>,
    ) -> Result<Vec<Apply>> {
        let (launches, applies) = plan(rule, work, outcome, &mut self.table, row)?;
        let clip = work.first().and_then(|w| w.map.norm);
        let at_ranges = self.table.section();
        if clip.is_some() {
            Launch::ranges(&launches, CHUNK).for_each(|x| self.table.u32(x));
        }
        let table = self.send(machine, clip.is_some())?;
        self.cuts.resize_with(launches.len().max(self.cuts.len()), Default::default);
        if let Some(most) = clip {
            self.clip(machine, &launches, table, at_ranges as u64, most)?;
        }
        for (i, launch) in launches.iter().enumerate() {
            let cut = &mut self.cuts[i][0];
            cut.settle(machine, CUTS + 2 * i, &launch.lengths, PIECE)?;
            let words = [cut.at, table + launch.at_rows as u64, table + launch.at_arguments as u64];
            let count = cut.count;
            machine.launch(self.text(launch), NAME, count, THREADS, &words).map_err(refused)?;
        }
        Ok(applies)
    }

    /// Copies the table where it is another than in the step before, or launches have written into that; gives its address.
    fn send(&mut self, machine: &mut impl Machine, written: bool) -> Result<u64> {
        let bytes = self.table.bytes();
        if !written && self.sent == bytes {
            return machine.reserve(TABLE, bytes.len()).map_err(refused);
        }
        self.sent.clear();
        let table = machine.upload(TABLE, bytes).map_err(refused)?;
        if !written {
            self.sent.extend_from_slice(bytes);
        }
        Ok(table)
    }

    /// The text of a launch's kernel, written once.
    fn text(&mut self, launch: &Launch) -> &str {
        let known = |(expression, storage, _): &(Expression, Storage, String)| {
            *storage == launch.storage && *expression == launch.expression
        };
        let place = self.texts.iter().position(known).unwrap_or_else(|| {
            let text = launch.expression.kernel(launch.storage);
            self.texts.push((launch.expression.clone(), launch.storage, text));
            self.texts.len() - 1
        });
        &self.texts[place].2
    }

    /// Brings the norm of all gradients down to `most`: what they are multiplied with goes into the launches' arguments, on the machine.
    fn clip(
        &mut self,
        machine: &mut impl Machine,
        launches: &[Launch],
        table: u64,
        at_ranges: u64,
        most: f64,
    ) -> Result<()> {
        let tensors: usize = launches.iter().map(|launch| launch.lengths.len()).sum();
        for (i, launch) in launches.iter().enumerate() {
            self.cuts[i][1].settle(machine, CUTS + 2 * i + 1, &launch.lengths, CHUNK)?;
        }
        let chunks: usize = self.cuts[..launches.len()].iter().map(|[_, chunks]| chunks.count).sum();
        let partial = machine.reserve(PARTIAL, chunks * size_of::<f64>()).map_err(refused)?;
        let out = machine.reserve(NORMS, (norms::EACH + tensors) * size_of::<f64>()).map_err(refused)?;
        for attempt in [0, 1] {
            let mut first = 0;
            for (launch, [_, cut]) in launches.iter().zip(&self.cuts) {
                let words = [cut.at, table + launch.at_rows as u64, partial, out, first, attempt];
                let text = launch.storage.squares();
                machine.launch(&text, sums::SQUARES, cut.count, sums::THREADS, &words).map_err(refused)?;
                first += cut.count as u64;
            }
            let words = [table + at_ranges, tensors as u64, partial, out, attempt];
            machine.launch(&sums::norm(), sums::NORM, 1, sums::THREADS, &words).map_err(refused)?;
        }
        for launch in launches {
            let arguments = table + launch.at_arguments as u64;
            let [blocks, stride, place] =
                [launch.blocks(), launch.expression.arguments(), launch.scale].map(|count| count as u64);
            let words = [out, most.to_bits(), arguments, blocks, stride, place];
            let text = sums::clip(launch.storage.compute());
            machine.launch(&text, sums::CLIP, 1, THREADS, &words).map_err(refused)?;
        }
        Ok(())
    }
}
