//! Passes with sums as launches on a machine: recorded once, with their arguments written anew for every tensor and step.

pub(crate) mod coupled;

use np_cuda::table::{BUFFERS, Row, Table};

use crate::engine::number::Number;
use crate::engine::places::{Cuts, Place};
use crate::engine::traced::cuda::Storage;
use crate::engine::traced::listed::{Listed, list};
use crate::engine::traced::pass::Pass;
use crate::engine::traced::symbol::record_all;

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

/// What is kept on the host from step to step.
#[derive(Debug, Default)]
pub(crate) struct Held {
    table: Table,
    known: Vec<Known>,
    cuts: Cuts,
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
}
