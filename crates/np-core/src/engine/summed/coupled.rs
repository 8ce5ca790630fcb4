//! Steps of rules whose elements are coupled through sums, as launches on a machine: passes, and between them the scalar arithmetic of
//! [stages](crate::engine::scalar_stage). Everything of a step is in one table, which is copied once; nothing is waited for.

use np_cuda::machine::Machine;
use np_cuda::sums::{self, norms};
use np_cuda::table::{BUFFERS, CHUNK};

use super::{Formula, Group};
use crate::engine::elementwise::launched::refused;
use crate::engine::gradients::Squares;
use crate::engine::number::Number;
use crate::engine::places::Place;
use crate::engine::scalar_stage::{self, STAGE, Stage};
use crate::engine::traced::arithmetic::{self, CHUNKS};
use crate::engine::traced::cuda::Storage;
use crate::engine::traced::listed::{Listed, list};
use crate::engine::traced::pass::{PASS, Pass, THREADS, Target, Term};
use crate::error::Result;

/// The machine's buffers, by their numbers: what is shared is in one of two; from the last on, ways of cutting tensors.
const TABLE: usize = 0;
const PARTIAL: usize = 1;
const OUT: usize = 2;
const NORMS: usize = 3;
const SHARED: [usize; 2] = [4, 5];
const CUTS: usize = 6;

/// Arguments of a pass before those of its formula: what its gradient is read through.
const OF_MAP: usize = 2;

/// A stage that has been recorded.
#[derive(Debug)]
struct Known {
    form: (&'static str, u32),
    /// How many sums and shared numbers it reads.
    reads: [usize; 2],
    text: String,
}

/// What is kept on the host from step to step.
#[derive(Debug, Default)]
pub(crate) struct Held {
    passes: super::Held,
    stages: Vec<Known>,
    /// How many numbers are shared, and in which buffer they are; none before they are there.
    shared: Option<(usize, usize)>,
}

/// A pass of a step, in the table.
struct Planned {
    groups: Vec<Group>,
    /// Of each group, bytes of a tensor's arguments.
    strides: Vec<usize>,
    outputs: usize,
    chunks: usize,
    /// Of each place, its row among the sums, and where its arguments begin; none of what the pass leaves out.
    rows: Vec<Option<(usize, usize)>>,
    tensors: usize,
    at_ranges: usize,
    /// Where its sums are among all, in numbers; after those of the tensors come those of all together.
    at_sums: usize,
}

/// A stage of a step, in the table.
#[derive(Debug, Clone, Copy)]
struct PlannedStage {
    known: usize,
    entries: usize,
    at_entries: usize,
    at_arguments: usize,
    sums: Sums,
    /// Whether it changes what is shared.
    moves: bool,
}

/// Which sums a stage reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sums {
    /// None.
    Nothing,
    /// Each tensor's own, of the pass of this number.
    Own(usize),
    /// Those of all tensors together.
    Total(usize),
}

/// A step: passes and stages are added, all is copied, and then they are launched in the order in which they are asked for.
pub(crate) struct Run<'a, M: Machine> {
    machine: &'a mut M,
    held: &'a mut Held,
    places: &'a [Place],
    passes: Vec<Planned>,
    stages: Vec<PlannedStage>,
    table: u64,
    sums: u64,
}

impl<'a, M: Machine> Run<'a, M> {
    pub(crate) fn new(machine: &'a mut M, held: &'a mut Held, places: &'a [Place]) -> Self {
        held.passes.table.clear();
        held.passes.cuts.begin();
        Self { machine, held, places, passes: vec![], stages: vec![], table: 0, sums: 0 }
    }

    /// The tensors, in their order.
    pub(crate) fn places(&self) -> &'a [Place] {
        self.places
    }

    /// Puts what all tensors share on the machine, where it is not there: before the stages that read it are added.
    pub(crate) fn share(&mut self, numbers: &[f64]) -> Result<()> {
        if self.held.shared.is_none() {
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_ne_bytes()).collect();
            self.machine.upload(SHARED[0], &bytes).map_err(refused)?;
            self.held.shared = Some((numbers.len(), 0));
        }
        Ok(())
    }

    /// Adds a pass over the tensors that `takes` says; gives its number.
    pub(crate) fn pass(&mut self, formula: &impl Formula, takes: impl Fn(usize) -> bool) -> usize {
        let (places, held) = (self.places, &mut self.held.passes);
        let mut groups: Vec<Group> = Vec::new();
        for (i, place) in places.iter().enumerate().filter(|(i, place)| place.row.length > 0 && takes(*i)) {
            let known = held.known(formula, i, place);
            match groups.iter_mut().find(|group| group.known == known) {
                Some(group) => group.members.push(i),
                None => groups.push(Group { known, members: vec![i], at_rows: 0, at_arguments: 0 }),
            }
        }
        let outputs = groups.first().map_or(0, |group| held.known[group.known].outputs);
        let (mut found, mut strides, mut chunks) = (vec![None; places.len()], vec![], 0);
        for group in &mut groups {
            held.write(group, places, formula);
            let stride = (held.table.bytes().len() - group.at_arguments) / group.members.len();
            for (k, i) in group.members.iter().enumerate() {
                let count = places[*i].row.length.div_ceil(CHUNK as u64);
                found[*i] = Some((chunks, count, group.at_arguments + k * stride));
                chunks += count;
            }
            strides.push(stride);
        }
        // Sums are in the order of the tensors.
        let (at_ranges, mut tensors, mut rows) = (held.table.section(), 0, vec![None; places.len()]);
        for (row, (first, count, arguments)) in rows.iter_mut().zip(&found).filter_map(|(row, x)| Some((row, (*x)?))) {
            for x in [first, count] {
                held.table.u32(u32::try_from(x).unwrap_or(u32::MAX));
            }
            *row = Some((tensors, arguments));
            tensors += 1;
        }
        held.table.u32(0);
        held.table.u32(u32::try_from(tensors).unwrap_or(u32::MAX));
        let at_sums = self.passes.last().map_or(0, |last| last.at_sums + (last.tensors + 1) * last.outputs);
        let chunks = usize::try_from(chunks).unwrap_or(usize::MAX);
        self.passes.push(Planned { groups, strides, outputs, chunks, rows, tensors, at_ranges, at_sums });
        self.passes.len() - 1
    }

    /// Adds a stage that reads `sums` and gives the tensors of the pass of number `to` their first arguments; gives its number.
    pub(crate) fn stage(&mut self, stage: &impl Stage, sums: Sums, to: usize) -> usize {
        let shared = self.held.shared.map_or(0, |(count, _)| count);
        let count = match sums {
            Sums::Nothing => 0,
            Sums::Own(pass) | Sums::Total(pass) => self.passes[pass].outputs,
        };
        let tensors: Vec<(usize, usize, usize)> = (0..self.places.len())
            .filter_map(|i| {
                let (_, arguments) = self.passes[to].rows[i]?;
                let row = if let Sums::Own(pass) = sums { self.passes[pass].rows[i]?.0 } else { 0 };
                Some((i, row, arguments))
            })
            .collect();
        let known = tensors.first().map_or(0, |(first, ..)| self.known(stage, *first, [count, shared]));
        let table = &mut self.held.passes.table;
        let at_entries = table.section();
        for (i, row, arguments) in &tensors {
            let wide = self.places[*i].storage == Storage::F64;
            let real = if wide { size_of::<f64>() } else { size_of::<f32>() };
            [*row, arguments + OF_MAP * real, usize::from(wide)].iter().for_each(|x| table.u64(*x as u64));
        }
        let (at_arguments, mut moves) = (table.section(), false);
        for (i, ..) in &tensors {
            let arguments = &mut self.held.passes.arguments;
            arguments.clear();
            list(arguments, |any: Listed| {
                let (all, given) =
                    scalar_stage::results(stage, *i, vec![any; count].as_slice(), vec![any; shared].as_slice());
                moves = all.len() > given;
            });
            arguments.iter().for_each(|x| table.f64(*x));
        }
        self.stages.push(PlannedStage { known, entries: tensors.len(), at_entries, at_arguments, sums, moves });
        self.stages.len() - 1
    }

    /// Copies the table; brings the norm of the gradients of pass `all`, which has every tensor, down to `clip`, for all passes.
    pub(crate) fn upload(&mut self, clip: Option<f64>, all: usize) -> Result<()> {
        self.table = self.machine.upload(TABLE, self.held.passes.table.bytes()).map_err(refused)?;
        let count = self.passes.last().map_or(0, |last| last.at_sums + (last.tensors + 1) * last.outputs);
        self.sums = self.machine.reserve(OUT, count * size_of::<f64>()).map_err(refused)?;
        match clip {
            Some(most) if self.passes[all].tensors > 0 => self.clip(all, most),
            _ => Ok(()),
        }
    }

    /// Which of the known stages it is: recorded where it is new.
    fn known(&mut self, stage: &impl Stage, tensor: usize, reads: [usize; 2]) -> usize {
        let (stages, form) = (&mut self.held.stages, stage.form());
        stages.iter().position(|known| known.form == form && known.reads == reads).unwrap_or_else(|| {
            let text = scalar_stage::kernel(stage, tensor, reads[0], reads[1]);
            stages.push(Known { form, reads, text });
            stages.len() - 1
        })
    }

    /// As steps of rules that treat every element alike have it ([`crate::engine::elementwise::launched`]); the factor becomes the first argument of every tensor.
    fn clip(&mut self, all: usize, most: f64) -> Result<()> {
        let (places, planned) = (self.places, &self.passes[all]);
        let partial = self.machine.reserve(PARTIAL, planned.chunks * size_of::<f64>()).map_err(refused)?;
        let out = self.machine.reserve(NORMS, (norms::EACH + planned.tensors) * size_of::<f64>()).map_err(refused)?;
        for attempt in [0, 1] {
            let mut first = 0;
            for group in &planned.groups {
                let lengths = group.members.iter().map(|i| places[*i].row.length).collect();
                let (cut, count) = self.held.passes.cuts.of(self.machine, CUTS, lengths)?;
                let words = [cut, self.table + group.at_rows as u64, partial, out, first, attempt];
                let text = self.held.passes.known[group.known].storage.squares();
                self.machine.launch(&text, sums::SQUARES, count, sums::THREADS, &words).map_err(refused)?;
                first += count as u64;
            }
            let words = [self.table + planned.at_ranges as u64, planned.tensors as u64, partial, out, attempt];
            self.machine.launch(&sums::norm(), sums::NORM, 1, sums::THREADS, &words).map_err(refused)?;
        }
        for (group, stride) in self.passes.iter().flat_map(|pass| pass.groups.iter().zip(&pass.strides)) {
            let real = self.held.passes.known[group.known].storage.compute();
            let stride = stride / if real == "double" { size_of::<f64>() } else { size_of::<f32>() };
            let arguments = self.table + group.at_arguments as u64;
            let words = [out, most.to_bits(), arguments, group.members.len() as u64, stride as u64, 0];
            self.machine.launch(&sums::clip(real), sums::CLIP, 1, sums::THREADS, &words).map_err(refused)?;
        }
        Ok(())
    }

    /// Runs the pass of this number, and adds up its sums; those of all tensors too, if a stage wants them.
    pub(crate) fn launch(&mut self, pass: usize) -> Result<()> {
        let planned = &self.passes[pass];
        let real = size_of::<f64>();
        let (outputs, held) = (planned.outputs, &mut self.held.passes);
        let partial = self.machine.reserve(PARTIAL, planned.chunks * outputs * real).map_err(refused)?;
        let mut done = 0;
        for group in &planned.groups {
            let lengths = group.members.iter().map(|i| self.places[*i].row.length).collect();
            let (cut, count) = held.cuts.of(self.machine, CUTS, lengths)?;
            let [rows, arguments] = [group.at_rows, group.at_arguments].map(|at| self.table + at as u64);
            let words = [cut, rows, arguments, partial + (done * outputs * real) as u64];
            self.machine.launch(&held.known[group.known].text, PASS, count, THREADS, &words).map_err(refused)?;
            done += count;
        }
        if outputs == 0 || planned.tensors == 0 {
            return Ok(());
        }
        let text = arithmetic::chunks();
        let ranges = self.table + planned.at_ranges as u64;
        let to = self.sums + (planned.at_sums * real) as u64;
        // None of the sums is a least or a most; each tensor's stand one after another.
        let words = |range, from, to| [range, from, to, outputs as u64, u64::MAX - 1, outputs as u64, 0];
        let each = words(ranges, partial, to);
        self.machine.launch(&text, CHUNKS, planned.tensors, arithmetic::THREADS, &each).map_err(refused)?;
        if self.stages.iter().any(|stage| stage.sums == Sums::Total(pass)) {
            let [range, total] = [planned.tensors * 2 * size_of::<u32>(), planned.tensors * outputs * real];
            let all = words(ranges + range as u64, to, to + total as u64);
            self.machine.launch(&text, CHUNKS, 1, arithmetic::THREADS, &all).map_err(refused)?;
        }
        Ok(())
    }

    /// Runs the stage of this number.
    pub(crate) fn scalars(&mut self, stage: usize) -> Result<()> {
        let PlannedStage { known, entries, at_entries, at_arguments, sums, moves } = self.stages[stage];
        if entries == 0 {
            return Ok(());
        }
        let sums = match sums {
            // An address that is there, and not read.
            Sums::Nothing => self.table,
            Sums::Own(pass) => self.sums + (self.passes[pass].at_sums * size_of::<f64>()) as u64,
            Sums::Total(pass) => {
                let Planned { at_sums, tensors, outputs, .. } = self.passes[pass];
                self.sums + ((at_sums + tensors * outputs) * size_of::<f64>()) as u64
            }
        };
        let (mut before, mut after) = (self.table, self.table);
        if let Some((count, now)) = &mut self.held.shared {
            before = self.machine.reserve(SHARED[*now], *count * size_of::<f64>()).map_err(refused)?;
            if moves {
                *now = 1 - *now;
                after = self.machine.reserve(SHARED[*now], *count * size_of::<f64>()).map_err(refused)?;
            }
        }
        let [entries_at, arguments] = [at_entries, at_arguments].map(|at| self.table + at as u64);
        let words = [entries_at, entries as u64, arguments, sums, before, after, self.table];
        let text = &self.held.stages[known].text;
        self.machine.launch(text, STAGE, 1, scalar_stage::THREADS, &words).map_err(refused)?;
        Ok(())
    }
}

impl Held {
    /// What all tensors share, if it is there. This waits.
    pub(crate) fn shared(&self, machine: &mut impl Machine) -> Result<Option<Vec<f64>>> {
        let Some((count, now)) = self.shared else { return Ok(None) };
        machine.numbers(SHARED[now], count).map(Some).map_err(refused)
    }

    /// What is shared is the host's again.
    pub(crate) fn unshare(&mut self) {
        self.shared = None;
    }
}

/// What gives Σx² of a tensor's numbers, wherever the sum is in range. In double precision that may be of x multiplied with a power of two; `wide` says whether any
/// tensor of the pass is computed in it.
pub(crate) fn squares<N: Number>(x: N, place: &Place, wide: bool) -> Vec<Term<N>> {
    if !wide {
        return vec![Term::Square(x)];
    }
    // Squares of single precision are summed in double precision where they have to be.
    let scales = if place.storage == Storage::F64 { [Squares::SMALLER, Squares::LARGER] } else { [1.0; 2] };
    let [smaller, larger] = scales.map(|scale| N::from_f64(scale) * x);
    vec![Term::Square(x), Term::Square(smaller), Term::Square(larger)]
}

/// The root of what [`squares`] has given.
pub(crate) fn norm<N: Number>(sums: &[N]) -> N {
    let [plain, smaller, larger] = match *sums {
        [plain, smaller, larger] => [plain, smaller, larger],
        [plain, ..] => return plain.sqrt(),
        [] => return N::ZERO,
    };
    let (small, large) = (N::from_f64(Squares::SMALLER), N::from_f64(Squares::LARGER));
    let near = plain.if_zero(larger.sqrt() / large, plain.sqrt());
    N::select_lt(N::MAX, plain, smaller.sqrt() / small, near)
}

/// Whether a tensor of a pass is computed with in double precision.
pub(crate) fn is_wide(places: &[Place]) -> bool {
    places.iter().any(|place| place.storage == Storage::F64)
}

/// θ ← keep·θ − factor·u, u in the scratch at `u`; the factor is given by a stage where there is none.
pub(crate) struct Finish<'a> {
    pub(crate) keep: &'a [f64],
    pub(crate) factor: Option<&'a [f64]>,
    pub(crate) u: usize,
}

impl Formula for Finish<'_> {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("finish", u32::try_from(self.u).unwrap_or(u32::MAX))
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, _: N, state: [N; BUFFERS]) -> Pass<N> {
        let factor = N::from_f64(self.factor.map_or(f64::NAN, |factor| factor[tensor]));
        Pass::writing(vec![(Target::Theta, N::from_f64(self.keep[tensor]) * theta - factor * state[self.u])])
    }
}
