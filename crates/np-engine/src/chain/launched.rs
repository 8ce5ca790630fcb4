//! Steps as kernel launches on a [`Machine`]. Norms, sums, rows and all that is kept between steps stay on the device, so that the host waits for nothing.
//!
//! Passes, and the arithmetic between them (in a block of threads for each tensor), are recorded once. In a step the host writes a table of addresses and arguments,
//! copies it if it has changed, and queues launches. All sums except those of logarithms have the same bits as on the CPU, unless a sum leaves the range of
//! its type.

use np_cuda::machine::Machine;
use np_cuda::table::{BUFFERS, CHUNK, Row, Table};
use np_trace::Outcome;
use np_trace::arithmetic::{self, Operations, Writes};
use np_trace::cuda::Storage;
use np_trace::listed::{Listed, list};
use np_trace::symbol::record_all;

use super::derived::{Finish, with_norms};
use super::queue::{Launch, Sums};
use super::{Arithmetic, Chain, Formula, Step, To, Total, within};
use crate::apply::Apply;
use crate::elementwise::plan::storage_of;
use crate::error::Result;
use crate::param_step::ParamStep;
use crate::places::{Cuts, Place};

/// Numbers of the machine's buffers. Those from [`CUTS`] on hold the divisions of tensors into chunks.
pub(super) const TABLE: usize = 0;
pub(super) const PARTIAL: usize = 1;
const NUMBERS: usize = 2;
/// The numbers that are kept between steps.
pub(super) const KEPT: usize = 3;
pub(super) const NORMS: usize = 4;
pub(super) const CUTS: usize = 5;

/// A pass or arithmetic that has been recorded, in one form.
#[derive(Debug)]
pub(super) struct Known<T> {
    pub(super) form: Form,
    pub(super) arguments: usize,
    pub(super) what: T,
}

/// A pass's kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) text: String,
    pub(super) outputs: usize,
    least: Option<usize>,
}

/// What determines the operations that are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) name: (&'static str, u32),
    /// `None` for arithmetic.
    storage: Option<Storage>,
    /// Whether norms have the two further columns of double precision.
    wide: bool,
    /// How many numbers are kept between steps.
    kept: usize,
}

/// What the host keeps between steps.
#[derive(Debug, Default)]
pub struct Held {
    pub(super) table: Table,
    pub(super) sent: Vec<u8>,
    pub(super) passes: Vec<Known<Kernel>>,
    pub(super) operations: Vec<Known<Operations>>,
    /// The kernels of arithmetic, each with the operations that it has, in their order.
    pub(super) rows: Vec<(Vec<usize>, String)>,
    pub(super) cuts: Cuts,
    arguments: Vec<f64>,
    /// The kernel of totals.
    pub(super) totals: String,
    /// Whether the machine has the numbers that are kept between steps.
    keeps: bool,
}

/// A step that is being planned.
pub(crate) struct Launched<'a, M> {
    pub(super) held: &'a mut Held,
    pub(super) machine: &'a mut M,
    pub(super) places: &'a [Place],
    pub(super) columns: usize,
    outcome: Outcome,
    /// Whether any tensor is computed with in double precision.
    wide: bool,
    /// Address of the tensors' rows; then the number of kept numbers and their address.
    pub(super) numbers: u64,
    pub(super) kept: (usize, u64),
    /// Groups of tensors whose rows are in the table, with their offsets.
    rows: Vec<(Vec<usize>, usize)>,
    pub(super) launches: Vec<Launch>,
    /// The sums of the last pass, if no launch adds them up yet.
    pub(super) sums: Option<Sums>,
    /// The greatest number of outputs of all chunks of a pass.
    pub(super) partial: usize,
    /// The first of the two columns with keep and factor.
    applies: usize,
}

/// The place of a parameter whose own and whose gradient's addresses are in `row`, and whose buffers and scratch have the addresses `state`.
pub fn place(step: &impl Step, w: &ParamStep<'_>, row: Row, state: &[u64]) -> Place {
    let of = |place: Option<usize>| place.and_then(|k| state.get(k)).copied().unwrap_or(0);
    let row = Row { state: step.places(w.param).map(of), length: w.grad.elem_count() as u64, ..row };
    Place { row, storage: storage_of(w.grad.dtype()), map: w.map }
}

impl Held {
    /// Plans and queues a step; `kept` are the kept numbers, for a machine that does not have them. If only directions are wanted, waits for the numbers that say
    /// how to apply them, and returns these.
    pub fn step<S: Step>(
        &mut self,
        machine: &mut impl Machine,
        step: &S,
        places: &[Place],
        kept: &[f64],
        outcome: Outcome,
    ) -> Result<Vec<Apply>> {
        self.table.clear();
        self.cuts.begin();
        if self.totals.is_empty() {
            self.totals = arithmetic::totals();
        }
        let numbers = machine.reserve(NUMBERS, (places.len() + 1) * S::COLUMNS * size_of::<f64>())?;
        let at_kept = match kept {
            // An address that is there, and not read.
            [] => numbers,
            _ if self.keeps => machine.reserve(KEPT, size_of_val(kept))?,
            _ => machine.upload(KEPT, &kept.iter().flat_map(|x| x.to_ne_bytes()).collect::<Vec<u8>>())?,
        };
        self.keeps = true;
        let wide = places.iter().any(|place| place.storage == Storage::F64);
        let (kept, columns) = ((kept.len(), at_kept), S::COLUMNS);
        let (rows, launches, sums, partial, applies) = (vec![], vec![], None, 0, 0);
        let mut chain = Launched {
            held: self,
            machine,
            places,
            columns,
            outcome,
            wide,
            numbers,
            kept,
            rows,
            launches,
            sums,
            partial,
            applies,
        };
        step.run(&mut chain)?;
        chain.add_sums();
        let at = chain.applies;
        chain.queue()?;
        match outcome {
            Outcome::Step => Ok(vec![]),
            Outcome::Direction => {
                let rows = machine.numbers(NUMBERS, places.len() * columns)?;
                Ok(rows.chunks(columns).map(|row| Apply { keep: row[at], factor: row[at + 1] }).collect())
            }
        }
    }

    /// Whether the machine has the numbers that are kept between steps.
    #[cfg(feature = "cuda")]
    pub(super) fn keeps(&self) -> bool {
        self.keeps
    }

    /// From here on, the machine's kept numbers are out of date.
    pub fn forget(&mut self) {
        self.keeps = false;
    }

    /// The machine's `count` kept numbers. Waits for them.
    ///
    /// # Errors
    /// Those of the machine.
    pub fn kept(machine: &mut impl Machine, count: usize) -> Result<Vec<f64>> {
        Ok(machine.numbers(KEPT, count)?)
    }

    /// Appends the arguments that `f` lists to the table. An error if their number is not that of the recorded form.
    pub(super) fn list(&mut self, (form, count): (Form, usize), f: impl FnOnce(Listed)) -> Result<()> {
        self.arguments.clear();
        list(&mut self.arguments, f);
        if self.arguments.len() != count {
            let message = format!("{form:?} has {} arguments where it has {count}", self.arguments.len());
            return Err(candle_core::Error::Msg(message).into());
        }
        for x in &self.arguments {
            match form.storage {
                Some(Storage::F64) | None => self.table.f64(*x),
                Some(_) => self.table.f32(*x),
            }
        }
        Ok(())
    }
}

/// The index of `form` among the known ones; a new one is recorded.
pub(super) fn known<T>(all: &mut Vec<Known<T>>, form: Form, record: impl FnOnce() -> (usize, T)) -> usize {
    all.iter().position(|known| known.form == form).unwrap_or_else(|| {
        let (arguments, what) = record();
        all.push(Known { form, arguments, what });
        all.len() - 1
    })
}

/// Groups members by their key; groups and members are in the order of first appearance.
pub(super) fn grouped<K: PartialEq>(each: impl Iterator<Item = (K, usize)>) -> Vec<(K, Vec<usize>)> {
    let mut groups: Vec<(K, Vec<usize>)> = vec![];
    for (key, member) in each {
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, members)) => members.push(member),
            None => groups.push((key, vec![member])),
        }
    }
    groups
}

impl<M: Machine> Launched<'_, M> {
    pub(super) fn form(&self, name: (&'static str, u32), storage: Option<Storage>) -> Form {
        Form { name, storage, wide: self.wide, kept: self.kept.0 }
    }

    fn known_pass(&mut self, formula: &impl Formula, tensor: usize) -> usize {
        let (place, columns, wide) = (&self.places[tensor], self.columns, self.wide);
        let form = self.form(formula.form(tensor), Some(place.storage));
        known(&mut self.held.passes, form, || {
            let mut pass = None;
            let recording = record_all(BUFFERS + columns, |theta, g, all| {
                let state = std::array::from_fn(|k| all[k]);
                let g = place.map.of(g);
                let symbols = with_norms(formula, (tensor, place, wide), theta, g, state, &all[BUFFERS..]);
                let results = symbols.results();
                pass = Some(symbols);
                results
            });
            let kernel = pass.and_then(|pass| {
                let text = pass.kernel(&recording, place.storage)?;
                Some(Kernel { text, outputs: pass.outputs(), least: pass.least() })
            });
            let Some(kernel) = kernel else { unreachable!("the recording is the pass's own") };
            (recording.arguments.len(), kernel)
        })
    }

    /// The numbers of elements of `members`.
    pub(super) fn lengths(&self, members: &[usize]) -> Vec<u64> {
        members.iter().map(|i| self.places[*i].row.length).collect()
    }

    /// The table offset of the rows of `members`, which are appended if they are not there yet.
    pub(super) fn rows_of(&mut self, members: Vec<usize>) -> usize {
        if let Some((_, at)) = self.rows.iter().find(|(other, _)| *other == members) {
            return *at;
        }
        let at = self.held.table.section();
        for (arguments, i) in (0..).zip(&members) {
            let numbers = self.numbers + (i * self.columns * size_of::<f64>()) as u64;
            Row { arguments, numbers, ..self.places[*i].row }.push(&mut self.held.table);
        }
        self.rows.push((members, at));
        at
    }

    /// Appends to the table, for every tensor, the first and the number of its chunks, which are numbered through all groups; returns the offset.
    pub(super) fn ranges(&mut self, groups: &[Vec<usize>]) -> usize {
        let (mut ranges, mut first) = (vec![[0; 2]; self.places.len()], 0);
        for i in groups.iter().flatten() {
            let count = u32::try_from(self.places[*i].row.length.div_ceil(CHUNK as u64)).unwrap_or(u32::MAX);
            ranges[*i] = [first, count];
            first += count;
        }
        let at = self.held.table.section();
        ranges.iter().flatten().for_each(|x| self.held.table.u32(*x));
        at
    }
}

impl<M: Machine> Chain for Launched<'_, M> {
    fn norm_columns(&self) -> usize {
        if self.wide { 3 } else { 1 }
    }

    fn pass(&mut self, formula: &impl Formula, column: usize) -> Result<()> {
        self.add_sums();
        let takes = |i: &usize| self.places[*i].row.length > 0 && formula.takes(*i);
        let takes: Vec<usize> = (0..self.places.len()).filter(takes).collect();
        let known: Vec<(usize, usize)> = takes.into_iter().map(|i| (self.known_pass(formula, i), i)).collect();
        let groups = grouped(known.into_iter());
        // Where no tensor takes it, its sums are those of nothing, and not what a step before has left.
        let known = groups.first().map(|(known, _)| *known);
        let known = known.unwrap_or_else(|| self.known_pass(formula, 0));
        let Known { form, what: Kernel { outputs, least, .. }, .. } = &self.held.passes[known];
        let (outputs, least) = (*outputs, *least);
        within(column + outputs, self.columns, || form.name.0)?;
        let (forms, members): (Vec<usize>, Vec<Vec<usize>>) = groups.into_iter().unzip();
        let mut first = 0;
        for (known, members) in forms.into_iter().zip(&members) {
            let cut = self.held.cuts.of(self.machine, CUTS, &self.lengths(members), CHUNK)?;
            let at_arguments = self.held.table.section();
            let numbers = vec![Listed; self.columns];
            let Known { form, arguments, .. } = self.held.passes[known];
            for i in members {
                let place = &self.places[*i];
                self.held.list((form, arguments), |any| {
                    let g = place.map.of(any);
                    with_norms(formula, (*i, place, self.wide), any, g, [any; BUFFERS], &numbers);
                })?;
            }
            let (storage, count) = (self.places[members[0]].storage, members.len());
            let at_rows = self.rows_of(members.clone());
            self.launches.push(Launch::Pass { known, storage, cut, at_rows, at_arguments, first, count });
            first += cut.count;
        }
        if outputs > 0 {
            let at_ranges = self.ranges(&members);
            self.partial = self.partial.max(first * outputs);
            self.sums = Some(Sums { at_ranges, outputs, least, column });
        }
        Ok(())
    }

    fn arithmetic(&mut self, arithmetic: &impl Arithmetic) -> Result<()> {
        let tensors = 0..self.places.len();
        let known: Vec<(usize, usize)> =
            tensors.map(|i| (i, self.known_arithmetic(arithmetic, i, Writes::Row))).collect();
        self.launch_rows(arithmetic, &known)
    }

    fn keep(&mut self, arithmetic: &impl Arithmetic) -> Result<()> {
        self.add_sums();
        let shared = self.places.len();
        let known = self.known_arithmetic(arithmetic, shared, Writes::Kept);
        self.launch_rows(arithmetic, &[(shared, known)])
    }

    fn totals(&mut self, entries: impl IntoIterator<Item = (usize, Total)>, to: To) -> Result<()> {
        self.add_sums();
        let (at_entries, mut count) = (self.held.table.section(), 0);
        for (column, total) in entries {
            within(column + 1, self.columns, || "totals")?;
            self.held.table.u32(u32::try_from(column).unwrap_or(u32::MAX));
            self.held.table.u32(total as u32);
            count += 1;
        }
        match to {
            To::Shared(first) => within(first + count, self.columns, || "totals")?,
            To::Kept => within(count, self.kept.0, || "totals")?,
        }
        self.launches.push(Launch::Totals { at_entries, count, to });
        Ok(())
    }

    fn finish(&mut self, formula: &impl Formula, u: usize, at: usize, squares: Option<usize>) -> Result<bool> {
        self.applies = at;
        match self.outcome {
            Outcome::Direction => self.pass(formula, 0).map(|()| false),
            Outcome::Step => {
                let finish = Finish { formula, u, at, squares: squares.is_some() };
                self.pass(&finish, squares.unwrap_or(0)).map(|()| squares.is_some())
            }
        }
    }
}
