//! Passes with sums as launches on a machine: recorded once, with their arguments written anew for every tensor and step.

pub(crate) mod coupled;

use np_cuda::machine::Machine;
use np_cuda::table::{BUFFERS, CHUNK, Row, Table, pieces};

use crate::engine::elementwise::launched::refused;
use crate::engine::gradient_map::GradientMap;
use crate::engine::number::Number;
use crate::engine::traced::cuda::Storage;
use crate::engine::traced::listed::{Listed, list};
use crate::engine::traced::pass::{GATHER, PASS, Pass, THREADS, gather};
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
    least: Option<usize>,
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
    /// Runs a pass over all tensors; gives each one's numbers, in the order of [`Pass::outputs`], none of those that are empty. It waits for them, if there are some.
    pub(crate) fn run(
        &mut self,
        machine: &mut impl Machine,
        places: &[Place],
        formula: &impl Formula,
    ) -> Result<Vec<Vec<f64>>> {
        let mut groups: Vec<Group> = Vec::new();
        for (i, place) in places.iter().enumerate().filter(|(_, place)| place.row.length > 0) {
            let known = self.known(formula, i, place);
            match groups.iter_mut().find(|group| group.known == known) {
                Some(group) => group.members.push(i),
                None => groups.push(Group { known, members: vec![i], at_rows: 0, at_arguments: 0 }),
            }
        }
        let mut sums = vec![vec![]; places.len()];
        let Some(outputs) = groups.first().map(|group| self.known[group.known].outputs) else { return Ok(sums) };
        let least = self.known[groups[0].known].least;

        self.table.clear();
        for group in &mut groups {
            self.write(group, places, formula);
        }
        let at_ranges = self.table.section();
        let (mut first, mut tensors) = (0, 0);
        for place in groups.iter().flat_map(|group| &group.members) {
            let count = u32::try_from(places[*place].row.length.div_ceil(CHUNK as u64)).unwrap_or(u32::MAX);
            self.table.u32(first);
            self.table.u32(count);
            (first, tensors) = (first + count, tensors + 1);
        }
        let table = machine.upload(TABLE, self.table.bytes()).map_err(refused)?;
        let partial = machine.reserve(PARTIAL, first as usize * outputs * size_of::<f64>()).map_err(refused)?;
        let mut done = 0;
        for group in &groups {
            let lengths: Vec<u64> = group.members.iter().map(|i| places[*i].row.length).collect();
            let (cut, count) = self.cut(machine, lengths)?;
            let to = partial + (done * outputs * size_of::<f64>()) as u64;
            let words = [cut, table + group.at_rows as u64, table + group.at_arguments as u64, to];
            machine.launch(&self.known[group.known].text, PASS, count, THREADS, &words).map_err(refused)?;
            done += count;
        }
        if outputs == 0 {
            return Ok(sums);
        }
        let out = machine.reserve(OUT, tensors * outputs * size_of::<f64>()).map_err(refused)?;
        let words = [table + at_ranges as u64, partial, out, outputs as u64, least.map_or(u64::MAX - 1, |k| k as u64)];
        machine.launch(&gather(), GATHER, tensors, 32, &words).map_err(refused)?;
        let numbers = machine.numbers(OUT, tensors * outputs).map_err(refused)?;
        let members = groups.iter().flat_map(|group| &group.members);
        members.zip(numbers.chunks(outputs)).for_each(|(i, numbers)| sums[*i] = numbers.to_vec());
        Ok(sums)
    }

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
            let (text, outputs, least) = match pass {
                Some(pass) => (pass.kernel(&recording, storage), pass.outputs(), pass.least()),
                None => (String::new(), 0, None),
            };
            self.known.push(Known { form, storage, text, outputs, least });
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
