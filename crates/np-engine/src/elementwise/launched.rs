//! Runs a planned step on a machine: copies its table if that has changed, clips gradients by their norm if the step does that, and queues its launches.

use np_cuda::machine::Machine;
use np_cuda::table::{CHUNK, PIECE, Row, Table};
use np_trace::cuda::{NAME, Storage};
use np_trace::{Expression, Outcome};

use super::Elementwise;
use super::plan::{Launch, plan};
use crate::apply::Apply;
use crate::error::Result;
use crate::param_step::ParamStep;
use crate::places::{Cuts, Gradients, Scales, clip};

/// Threads of a block of an element-wise kernel.
const THREADS: u32 = 256;

/// Numbers of the machine's buffers. Those from [`CUTS`] on hold the divisions of tensors into pieces.
const TABLE: usize = 0;
const PARTIAL: usize = 1;
const NORMS: usize = 2;
const CUTS: usize = 3;

/// What the host keeps between steps.
#[derive(Debug, Default)]
pub struct Held {
    table: Table,
    /// The table as it is on the machine; empty if launches have written to it.
    sent: Vec<u8>,
    texts: Vec<(Expression, Storage, String)>,
    cuts: Cuts,
}

impl Held {
    /// Queues a step of all of `work`. `row` gives the addresses of a parameter and its gradient, then of its buffers and scratch.
    pub fn step<R: Elementwise>(
        &mut self,
        machine: &mut impl Machine,
        rule: &R,
        work: &mut [ParamStep<'_>],
        outcome: Outcome,
        row: impl Fn(&ParamStep<'_>) -> Result<(Row, Vec<u64>)>,
    ) -> Result<Vec<Apply>> {
        let (launches, applies) = plan(rule, work, outcome, &mut self.table, row)?;
        let clips = work.first().and_then(|w| w.map.norm);
        let at_ranges = self.table.section();
        if clips.is_some() {
            Launch::ranges(&launches, CHUNK).for_each(|x| self.table.u32(x));
        }
        let table = self.send(machine, clips.is_some())?;
        self.cuts.begin();
        if let Some(most) = clips {
            let (mut gradients, mut scales, mut tensors) = (vec![], vec![], 0);
            for launch in &launches {
                let (storage, lengths) = (launch.storage, &launch.lengths);
                let chunks = self.cuts.of(machine, CUTS, lengths, CHUNK)?;
                gradients.push(Gradients { storage, rows: table + launch.at_rows as u64, chunks });
                let (arguments, blocks) = (table + launch.at_arguments as u64, launch.blocks());
                let (stride, place) = (launch.expression.arguments(), launch.scale);
                scales.push(Scales { storage, arguments, blocks, stride, place });
                tensors += lengths.len();
            }
            clip(machine, most, &gradients, (table + at_ranges as u64, tensors), &scales, [PARTIAL, NORMS])?;
        }
        for launch in &launches {
            let pieces = self.cuts.of(machine, CUTS, &launch.lengths, PIECE)?;
            let words = [pieces.at, table + launch.at_rows as u64, table + launch.at_arguments as u64];
            machine.launch(self.text(launch), NAME, pieces.count, THREADS, &words)?;
        }
        Ok(applies)
    }

    /// Copies the table unless the machine has the same one; returns its address. `written` says that launches of this step will write to it.
    fn send(&mut self, machine: &mut impl Machine, written: bool) -> Result<u64> {
        let bytes = self.table.bytes();
        if !written && self.sent == bytes {
            return Ok(machine.reserve(TABLE, bytes.len())?);
        }
        self.sent.clear();
        let table = machine.upload(TABLE, bytes)?;
        if !written {
            self.sent.extend_from_slice(bytes);
        }
        Ok(table)
    }

    /// The source text of a launch's kernel, generated once.
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
}
