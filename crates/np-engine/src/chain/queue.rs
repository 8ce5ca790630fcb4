//! Queues a planned step: copies its table if that has changed, clips gradients by their norm if the step does that, and queues all launches.

use np_cuda::machine::Machine;
use np_cuda::table::CHUNK;
use np_trace::arithmetic::{self, ROWS, TOTALS};
use np_trace::cuda::Storage;
use np_trace::pass::{PASS, THREADS};

use super::To;
use super::launched::{CUTS, Kernel, Launched, NORMS, PARTIAL, TABLE, grouped};
use crate::error::Result;
use crate::places::{Gradients, Pieces, Place, Scales, clip};

/// A launch of a planned step. Fields that begin with `at` are offsets into the table.
pub(super) enum Launch {
    Pass {
        known: usize,
        storage: Storage,
        cut: Pieces,
        at_rows: usize,
        at_arguments: usize,
        first: usize,
        count: usize,
    },
    Rows {
        /// Index of the kernel.
        text: usize,
        at_parts: usize,
        at_arguments: usize,
        /// Number of parts.
        count: usize,
        sums: Option<Sums>,
    },
    Totals {
        at_entries: usize,
        count: usize,
        to: To,
    },
}

/// The sums of a pass, to be added up over the chunks of each tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    pub(super) at_ranges: usize,
    pub(super) outputs: usize,
    pub(super) least: Option<usize>,
    pub(super) column: usize,
}

impl<M: Machine> Launched<'_, M> {
    /// Queues all launches of the step.
    pub(super) fn queue(mut self) -> Result<()> {
        let most = self.places.first().and_then(|place| place.map.norm);
        let filled = |(i, place): (usize, &Place)| (place.row.length > 0).then_some((place.storage, i));
        let (mut gradients, mut at_norms) = (vec![], 0);
        if most.is_some() {
            let groups = grouped(self.places.iter().enumerate().filter_map(filled));
            for (storage, members) in &groups {
                let chunks = self.held.cuts.of(self.machine, CUTS, &self.lengths(members), CHUNK)?;
                gradients.push(Gradients { storage: *storage, rows: self.rows_of(members.clone()) as u64, chunks });
            }
            at_norms = self.ranges(&groups.into_iter().map(|(_, members)| members).collect::<Vec<_>>());
        }
        let Self { held, machine, places, columns, numbers, kept: (_, kept), launches, partial, .. } = self;
        let bytes = held.table.bytes();
        let table = if held.sent == bytes {
            machine.reserve(TABLE, bytes.len())?
        } else {
            held.sent.clear();
            let table = machine.upload(TABLE, bytes)?;
            held.sent.extend_from_slice(bytes);
            table
        };
        let at = |place: usize| table + place as u64;
        if let Some(most) = most.filter(|_| !gradients.is_empty()) {
            gradients.iter_mut().for_each(|of| of.rows += table);
            let scales = launches.iter().filter_map(|launch| match *launch {
                Launch::Pass { known, storage, at_arguments, count, .. } => {
                    let stride = held.passes[known].arguments;
                    Some(Scales { storage, arguments: at(at_arguments), blocks: count, stride, place: 0 })
                }
                _ => None,
            });
            let scales: Vec<Scales> = scales.collect();
            clip(machine, most, &gradients, (at(at_norms), places.len()), &scales, [PARTIAL, NORMS])?;
            // Arguments are others now.
            held.sent.clear();
        }
        let partial = machine.reserve(PARTIAL, partial * size_of::<f64>())?;
        let (tensors, columns) = (places.len() as u64, columns as u64);
        for launch in &launches {
            match *launch {
                Launch::Pass { known, cut, at_rows, at_arguments, first, .. } => {
                    let Kernel { text, outputs, .. } = &held.passes[known].what;
                    let to = partial + (first * outputs * size_of::<f64>()) as u64;
                    machine.launch(text, PASS, cut.count, THREADS, &[cut.at, at(at_rows), at(at_arguments), to])?;
                }
                Launch::Rows { text, at_parts, at_arguments, count, sums } => {
                    let [at_ranges, outputs, least, column] = sums.map_or([0; 4], |sums| {
                        // Of sums that have none, no output is the least.
                        let least = sums.least.unwrap_or(sums.outputs);
                        [sums.at_ranges, sums.outputs, least, sums.column]
                    });
                    let [outputs, least, column] = [outputs, least, column].map(|x| x as u64);
                    let of_rows = [at(at_parts), at(at_arguments), numbers, tensors, kept];
                    let words = [&of_rows[..], &[at(at_ranges), partial, outputs, least, column]].concat();
                    machine.launch(&held.rows[text].1, ROWS, count, arithmetic::THREADS, &words)?;
                }
                Launch::Totals { at_entries, count, to } => {
                    let (to, anew) = match to {
                        To::Shared(column) => {
                            (numbers + (columns * tensors + column as u64) * size_of::<f64>() as u64, 1)
                        }
                        To::Kept => (kept, 0),
                    };
                    let words = [at(at_entries), numbers, columns, tensors, to, count as u64, anew];
                    let blocks = count.div_ceil(arithmetic::THREADS as usize);
                    machine.launch(&held.totals, TOTALS, blocks, arithmetic::THREADS, &words)?;
                }
            }
        }
        Ok(())
    }
}
