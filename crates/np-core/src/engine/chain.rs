//! A step as a chain of launches over all tensors that nothing waits for: passes over elements with their sums, and between them the scalar arithmetic of each tensor.
//!
//! Every tensor has a row of numbers of double precision on the machine. A pass's sums go to columns of it, arithmetic makes other columns of them, and the next pass reads those. All is
//! recorded once; in a step the host writes one table of addresses and arguments, copies it if it has changed, and queues launches.

use np_cuda::machine::Machine;
use np_cuda::table::{BUFFERS, CHUNK, Row, Table};

use crate::engine::elementwise::launched::refused;
use crate::engine::number::Number;
use crate::engine::places::{Cuts, Place};
use crate::engine::traced::arithmetic::{self, ARITHMETIC, CHUNKS, TOTALS};
use crate::engine::traced::cuda::Storage;
use crate::engine::traced::listed::{Listed, list};
use crate::engine::traced::pass::{PASS, Pass, THREADS};
use crate::engine::traced::symbol::record_all;
use crate::error::Result;

/// The machine's buffers, by their numbers; from the last on, ways of cutting tensors.
const TABLE: usize = 0;
const PARTIAL: usize = 1;
const NUMBERS: usize = 2;
const KEPT: usize = 3;
const CUTS: usize = 4;

/// A pass's formula.
pub(crate) trait Formula {
    /// Its name; and, of a tensor, in which of its forms it is done. Two tensors of the same name, form and type are done by the same operations.
    fn form(&self, tensor: usize) -> (&'static str, u32);

    /// What is done with an element of a tensor whose row of numbers is `numbers`.
    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS], numbers: &[N]) -> Pass<N>;
}

/// Arithmetic between passes.
pub(crate) trait Arithmetic {
    /// As [`Formula::form`].
    fn form(&self, tensor: usize) -> (&'static str, u32);

    /// What is made of a tensor's row, and of the row that belongs to no tensor: numbers, and which columns of its row they go to.
    fn of<N: Number>(&self, tensor: usize, own: &[N], shared: &[N]) -> Vec<(usize, N)>;
}

/// A form that has been recorded.
#[derive(Debug)]
struct Known {
    form: (&'static str, u32),
    /// None for arithmetic.
    storage: Option<Storage>,
    text: String,
    arguments: usize,
    outputs: usize,
    least: Option<usize>,
}

/// What is kept on the host from step to step.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    table: Table,
    sent: Vec<u8>,
    known: Vec<Known>,
    cuts: Cuts,
    arguments: Vec<f64>,
    texts: [String; 2],
}

/// What is launched; numbers named `at` are places in the table.
enum Launch {
    Pass { known: usize, cut: (u64, usize), at_rows: usize, at_arguments: usize, first: usize },
    Chunks { at_ranges: usize, outputs: usize, least: Option<usize>, column: usize },
    Arithmetic { known: usize, at_members: usize, at_arguments: usize, count: usize },
    Totals { at_entries: usize, count: usize, to: To, anew: bool },
}

/// Where totals go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To {
    /// To these columns of the row that belongs to no tensor.
    Shared(usize),
    /// To what is kept from step to step.
    Kept,
}

/// A step's chain, as far as it has been written down.
pub(crate) struct Links<'a, M> {
    chain: &'a mut Chain,
    machine: &'a mut M,
    places: &'a [Place],
    columns: usize,
    /// Where the tensors' numbers are.
    numbers: u64,
    /// Rows that are in the table: of which tensors, and where.
    rows: Vec<(Vec<usize>, usize)>,
    launches: Vec<Launch>,
    /// Most numbers that chunks of a pass give.
    partial: usize,
}

impl Chain {
    /// Begins a step over these tensors, each with a row of so many columns.
    pub(crate) fn begin<'a, M: Machine>(
        &'a mut self,
        machine: &'a mut M,
        places: &'a [Place],
        columns: usize,
    ) -> Result<Links<'a, M>> {
        self.table.clear();
        self.cuts.begin();
        if self.texts[0].is_empty() {
            self.texts = [arithmetic::chunks(), arithmetic::totals()];
        }
        let bytes = (places.len() + 1) * columns * size_of::<f64>();
        let numbers = machine.reserve(NUMBERS, bytes).map_err(refused)?;
        let (rows, launches, partial) = (vec![], vec![], 0);
        Ok(Links { chain: self, machine, places, columns, numbers, rows, launches, partial })
    }

    fn find(&self, form: (&'static str, u32), storage: Option<Storage>) -> Option<usize> {
        self.known.iter().position(|known| known.form == form && known.storage == storage)
    }

    /// Which of the known forms a tensor's pass is: recorded where it is new.
    fn known_pass(&mut self, formula: &impl Formula, tensor: usize, place: &Place, columns: usize) -> usize {
        let (form, storage) = (formula.form(tensor), place.storage);
        self.find(form, Some(storage)).unwrap_or_else(|| {
            let mut pass = None;
            let recording = record_all(BUFFERS + columns, |theta, g, all| {
                let state = std::array::from_fn(|k| all[k]);
                let symbols = formula.pass(tensor, theta, place.map.of(g), state, &all[BUFFERS..]);
                let results = symbols.results();
                pass = Some(symbols);
                results
            });
            let (text, outputs, least) = match pass {
                Some(pass) => (pass.kernel(&recording, storage), pass.outputs(), pass.least()),
                None => (String::new(), 0, None),
            };
            let (storage, arguments) = (Some(storage), recording.arguments);
            self.known.push(Known { form, storage, text, arguments, outputs, least });
            self.known.len() - 1
        })
    }

    /// The same of arithmetic.
    fn known_arithmetic(&mut self, arithmetic: &impl Arithmetic, tensor: usize, columns: usize) -> usize {
        let form = arithmetic.form(tensor);
        self.find(form, None).unwrap_or_else(|| {
            let mut to = vec![];
            let recording = record_all(2 * columns, |_, _, all| {
                let (columns, results) =
                    arithmetic.of(tensor, &all[..columns], &all[columns..]).into_iter().unzip::<_, _, _, Vec<_>>();
                to = columns;
                results
            });
            let text = arithmetic::kernel(&recording, &to, columns);
            let (storage, arguments, outputs, least) = (None, recording.arguments, 0, None);
            self.known.push(Known { form, storage, text, arguments, outputs, least });
            self.known.len() - 1
        })
    }

    /// Appends what `f` lists: as many arguments as the form has that it is written for.
    fn list(&mut self, known: usize, f: impl FnOnce(Listed)) -> Result<()> {
        self.arguments.clear();
        list(&mut self.arguments, f);
        let Known { form, arguments, storage, .. } = &self.known[known];
        if self.arguments.len() != *arguments {
            let message = format!("{form:?} has {} arguments where it has {arguments}", self.arguments.len());
            return Err(candle_core::Error::Msg(message).into());
        }
        for x in &self.arguments {
            match storage {
                Some(Storage::F64) | None => self.table.f64(*x),
                Some(_) => self.table.f32(*x),
            }
        }
        Ok(())
    }

    /// What is kept from step to step: `count` totals. It waits for them.
    #[cfg(test)]
    pub(crate) fn kept(machine: &mut impl Machine, count: usize) -> Result<Vec<f64>> {
        machine.numbers(KEPT, count).map_err(refused)
    }

    /// The rows of all tensors in the last step. It waits for them.
    pub(crate) fn rows(machine: &mut impl Machine, tensors: usize, columns: usize) -> Result<Vec<Vec<f64>>> {
        let all = machine.numbers(NUMBERS, tensors * columns).map_err(refused)?;
        Ok(all.chunks(columns).map(<[f64]>::to_vec).collect())
    }
}

/// The buffer of what is kept, on a device.
#[cfg(feature = "cuda")]
pub(crate) const KEPT_BUFFER: usize = KEPT;

impl<M: Machine> Links<'_, M> {
    /// A pass over all tensors; its sums go to the columns from `column` on, zero for those that are empty.
    pub(crate) fn pass(&mut self, formula: &impl Formula, column: usize) -> Result<()> {
        let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
        for (i, place) in self.places.iter().enumerate().filter(|(_, place)| place.row.length > 0) {
            let known = self.chain.known_pass(formula, i, place, self.columns);
            match groups.iter_mut().find(|(other, _)| *other == known) {
                Some((_, members)) => members.push(i),
                None => groups.push((known, vec![i])),
            }
        }
        let Some((outputs, least)) =
            groups.first().map(|(known, _)| (self.chain.known[*known].outputs, self.chain.known[*known].least))
        else {
            return Ok(());
        };
        let (mut ranges, mut first) = (vec![[0; 2]; self.places.len()], 0);
        for (known, members) in groups {
            let lengths: Vec<u64> = members.iter().map(|i| self.places[*i].row.length).collect();
            let cut = self.chain.cuts.of(self.machine, CUTS, lengths)?;
            let mut at = first;
            for i in &members {
                let count = u32::try_from(self.places[*i].row.length.div_ceil(CHUNK as u64)).unwrap_or(u32::MAX);
                ranges[*i] = [at, count];
                at += count;
            }
            let at_arguments = self.chain.table.section();
            for i in &members {
                let map = self.places[*i].map;
                let numbers = vec![Listed; self.columns];
                self.chain.list(known, |any| {
                    formula.pass(*i, any, map.of(any), [any; BUFFERS], &numbers);
                })?;
            }
            let at_rows = self.rows_of(members);
            self.launches.push(Launch::Pass { known, cut, at_rows, at_arguments, first: first as usize });
            first = at;
        }
        if outputs > 0 {
            let at_ranges = self.chain.table.section();
            ranges.iter().flatten().for_each(|x| self.chain.table.u32(*x));
            self.partial = self.partial.max(first as usize * outputs);
            self.launches.push(Launch::Chunks { at_ranges, outputs, least, column });
        }
        Ok(())
    }

    /// Scalar arithmetic of every tensor, of those that are empty too.
    pub(crate) fn arithmetic(&mut self, arithmetic: &impl Arithmetic) -> Result<()> {
        let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
        for i in 0..self.places.len() {
            let known = self.chain.known_arithmetic(arithmetic, i, self.columns);
            match groups.iter_mut().find(|(other, _)| *other == known) {
                Some((_, members)) => members.push(i),
                None => groups.push((known, vec![i])),
            }
        }
        let numbers = vec![Listed; self.columns];
        for (known, members) in groups {
            let at_members = self.chain.table.section();
            members.iter().for_each(|i| self.chain.table.u32(u32::try_from(*i).unwrap_or(u32::MAX)));
            let at_arguments = self.chain.table.section();
            for i in &members {
                self.chain.list(known, |_| {
                    arithmetic.of(*i, &numbers, &numbers);
                })?;
            }
            self.launches.push(Launch::Arithmetic { known, at_members, at_arguments, count: members.len() });
        }
        Ok(())
    }

    /// Totals of columns over all tensors, in their order: for each, the column, and 0 for the sum, 1 for the least, 2 for the most.
    pub(crate) fn totals(&mut self, entries: impl IntoIterator<Item = [usize; 2]>, to: To, anew: bool) {
        let (at_entries, mut count) = (self.chain.table.section(), 0);
        for x in entries {
            x.iter().for_each(|x| self.chain.table.u32(u32::try_from(*x).unwrap_or(u32::MAX)));
            count += 1;
        }
        self.launches.push(Launch::Totals { at_entries, count, to, anew });
    }

    /// Queues all of it.
    pub(crate) fn run(self) -> Result<()> {
        let Self { chain, machine, places, columns, numbers, launches, partial, .. } = self;
        let bytes = chain.table.bytes();
        let table = if chain.sent == bytes {
            machine.reserve(TABLE, bytes.len()).map_err(refused)?
        } else {
            chain.sent.clear();
            let table = machine.upload(TABLE, bytes).map_err(refused)?;
            chain.sent.extend_from_slice(bytes);
            table
        };
        let partial = machine.reserve(PARTIAL, partial * size_of::<f64>()).map_err(refused)?;
        let at = |place: usize| table + place as u64;
        let (tensors, columns) = (places.len() as u64, columns as u64);
        for launch in &launches {
            match *launch {
                Launch::Pass { known, cut: (cut, blocks), at_rows, at_arguments, first } => {
                    let Known { text, outputs, .. } = &chain.known[known];
                    let to = partial + (first * outputs * size_of::<f64>()) as u64;
                    machine.launch(text, PASS, blocks, THREADS, &[cut, at(at_rows), at(at_arguments), to])
                }
                Launch::Chunks { at_ranges, outputs, least, column } => {
                    let least = least.map_or(u64::MAX - 1, |k| k as u64);
                    let words = [at(at_ranges), partial, numbers, outputs as u64, least, columns, column as u64];
                    machine.launch(&chain.texts[0], CHUNKS, places.len(), arithmetic::THREADS, &words)
                }
                Launch::Arithmetic { known, at_members, at_arguments, count } => {
                    let words = [numbers, at(at_members), count as u64, at(at_arguments), tensors];
                    let blocks = count.div_ceil(arithmetic::THREADS as usize);
                    machine.launch(&chain.known[known].text, ARITHMETIC, blocks, arithmetic::THREADS, &words)
                }
                Launch::Totals { at_entries, count, to, anew } => {
                    let to = match to {
                        To::Shared(column) => numbers + (columns * tensors + column as u64) * size_of::<f64>() as u64,
                        To::Kept => machine.reserve(KEPT, count * size_of::<f64>()).map_err(refused)?,
                    };
                    let words = [at(at_entries), numbers, columns, tensors, to, count as u64, u64::from(anew)];
                    let blocks = count.div_ceil(arithmetic::THREADS as usize);
                    machine.launch(&chain.texts[1], TOTALS, blocks, arithmetic::THREADS, &words)
                }
            }
            .map_err(refused)?;
        }
        Ok(())
    }

    /// Where in the table the rows of `members` are.
    fn rows_of(&mut self, members: Vec<usize>) -> usize {
        if let Some((_, at)) = self.rows.iter().find(|(other, _)| *other == members) {
            return *at;
        }
        let at = self.chain.table.section();
        for (arguments, i) in (0..).zip(&members) {
            let numbers = self.numbers + (i * self.columns * size_of::<f64>()) as u64;
            Row { arguments, numbers, ..self.places[*i].row }.push(&mut self.chain.table);
        }
        self.rows.push((members, at));
        at
    }
}
