//! Passes with sums as launches on a machine: recorded once, with their arguments written anew for every tensor and step.

pub(crate) mod coupled;

use np_cuda::machine::Machine;
use np_cuda::table::{BUFFERS, CHUNK, Row, Table, pieces};

use crate::engine::elementwise::launched::refused;
use crate::engine::gradient_map::GradientMap;
use crate::engine::number::Number;
use crate::engine::traced::cuda::Storage;
use crate::engine::traced::listed::{Listed, list};
use crate::engine::traced::pass::Pass;
use crate::engine::traced::symbol::record_all;
use crate::error::Result;

/// The machine's buffers, by their numbers; from the last on, ways of cutting tensors.
const TABLE: usize = 0;
const PARTIAL: usize = 1;
const OUT: usize = 2;
const CUTS: usize = 3;
/// Ways of cutting tensors that are kept.
const MOST_CUTS: usize = 32;

/// A tensor of a pass: where it is, how it is stored, and what its gradient is read through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) row: Row,
    pub(crate) storage: Storage,
    pub(crate) map: GradientMap,
}

/// A pass's formula.
pub(crate) trait Formula {
    /// Its name; and, of a tensor, in which of its forms it is done. Two tensors of the same name, form and type are done by the same operations.
    fn form(&self, tensor: usize) -> (&'static str, u32);

    /// What is done with an element of a tensor.
    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS]) -> Pass<N>;
}

/// A form that has been recorded.
#[derive(Debug)]
struct Known {
    form: (&'static str, u32),
    storage: Storage,
    text: String,
    outputs: usize,
}

#[derive(Debug)]
struct Cut {
    lengths: Vec<u64>,
    at: u64,
    count: usize,
}

/// What is kept on the host from step to step.
#[derive(Debug, Default)]
pub(crate) struct Held {
    table: Table,
    known: Vec<Known>,
    cuts: Vec<Cut>,
    arguments: Vec<f64>,
}

/// Tensors that are done by one launch.
struct Group {
    known: usize,
    members: Vec<usize>,
    at_rows: usize,
    at_arguments: usize,
}

impl Held {
    /// Which of the known forms a tensor's is: recorded where it is new.
    fn known(&mut self, formula: &impl Formula, tensor: usize, place: &Place) -> usize {
        let (form, storage) = (formula.form(tensor), place.storage);
        let found = self.known.iter().position(|known| known.form == form && known.storage == storage);
        found.unwrap_or_else(|| {
            let mut pass = None;
            let recording = record_all(BUFFERS, |theta, g, state| {
                let state = std::array::from_fn(|k| state[k]);
                let symbols = formula.pass(tensor, theta, place.map.of(g), state);
                let results = symbols.results();
                pass = Some(symbols);
                results
            });
            let (text, outputs) = match pass {
                Some(pass) => (pass.kernel(&recording, storage), pass.outputs()),
                None => (String::new(), 0),
            };
            self.known.push(Known { form, storage, text, outputs });
            self.known.len() - 1
        })
    }

    /// Rows and arguments of a group.
    fn write(&mut self, group: &mut Group, places: &[Place], formula: &impl Formula) {
        group.at_rows = self.table.section();
        for (arguments, i) in (0..).zip(&group.members) {
            Row { arguments, ..places[*i].row }.push(&mut self.table);
        }
        group.at_arguments = self.table.section();
        for i in &group.members {
            self.arguments.clear();
            list(&mut self.arguments, |any: Listed| {
                formula.pass(*i, any, places[*i].map.of(any), [any; BUFFERS]);
            });
            for x in &self.arguments {
                match places[*i].storage {
                    Storage::F64 => self.table.f64(*x),
                    _ => self.table.f32(*x),
                }
            }
        }
    }

    /// Where it says how tensors of these lengths are cut, and into how many chunks.
    fn cut(&mut self, machine: &mut impl Machine, lengths: Vec<u64>) -> Result<(u64, usize)> {
        if let Some(cut) = self.cuts.iter().find(|cut| cut.lengths == lengths) {
            return Ok((cut.at, cut.count));
        }
        if self.cuts.len() == MOST_CUTS {
            self.cuts.clear();
        }
        let mut table = Table::default();
        table.pieces(pieces(&lengths, CHUNK));
        let at = machine.upload(CUTS + self.cuts.len(), table.bytes()).map_err(refused)?;
        let count = pieces(&lengths, CHUNK).count();
        self.cuts.push(Cut { lengths, at, count });
        Ok((at, count))
    }
}
