//! Steps that the host computes: the arithmetic itself; the passes on the CPU, in chunks of a fixed size on all threads, or else by tensor operations.

use candle_core::{DType, Storage};
use np_cuda::table::BUFFERS;
use np_trace::pass::{Pass, Term};
use np_trace::{Float, Number, Outcome};
use rayon::prelude::*;

use super::{Arithmetic, Block, Chain, Formula, Numbers, Of, Step, To, Total, first_scratch, in_place, within};
use crate::apply::{Apply, Seeing, apply_all};
use crate::cpu;
use crate::cpu::CHUNK;
use crate::element::{BLOCK, Element, dispatch};
use crate::error::{Result, contract};
use crate::gradient_map::GradientMap;
use crate::gradients::Squares;
use crate::param_step::ParamStep;
use crate::state::State;

/// The greatest number of outputs of a pass.
const MOST: usize = 12;

/// Columns of a norm: Σx², and the same of scaled numbers, which are computed only if the first is out of range.
const NORM: usize = 3;

/// A step in progress.
pub(crate) struct Host<'a, 'w> {
    pub(super) work: &'a mut [ParamStep<'w>],
    pub(super) places: Vec<[Option<usize>; BUFFERS]>,
    columns: usize,
    /// All rows one after the other, the shared row last.
    rows: Vec<f64>,
    kept: &'a mut [f64],
    outcome: Outcome,
    applies: Vec<Apply>,
}

/// The outputs of a pass: `norms` squares of norms, then its own sums. Output `least`, if any, is a minimum, and the one after it a maximum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outputs {
    norms: usize,
    count: usize,
    least: Option<usize>,
}

impl Outputs {
    fn total(self, k: usize) -> Total {
        match self.least {
            Some(least) if k == least => Total::Least,
            Some(least) if k == least + 1 => Total::Most,
            _ => Total::Sum,
        }
    }

    fn nothing(self) -> [f64; MOST] {
        std::array::from_fn(|k| self.total(k).nothing())
    }
}

impl<'a, 'w> Host<'a, 'w> {
    pub(super) fn new<S: Step>(step: &S, work: &'a mut [ParamStep<'w>], kept: &'a mut [f64], outcome: Outcome) -> Self {
        let places = work.iter().map(|w| step.places(w.param)).collect();
        let rows = vec![0.0; (work.len() + 1) * S::COLUMNS];
        Self { work, places, columns: S::COLUMNS, rows, kept, outcome, applies: vec![] }
    }

    /// Computes the step; returns how the directions were applied or are to be.
    pub(super) fn take(mut self, step: &impl Step) -> Result<Vec<Apply>> {
        step.run(&mut self)?;
        Ok(self.applies)
    }

    pub(super) fn row(&self, tensor: usize) -> &[f64] {
        &self.rows[tensor * self.columns..(tensor + 1) * self.columns]
    }

    fn outputs(&self, formula: &impl Formula, tensor: usize) -> Outputs {
        let pass = formula.pass(tensor, 0.0, 0.0, [0.0; BUFFERS], self.row(tensor));
        let norms = formula.norms().len();
        Outputs { norms, count: norms + pass.outputs(), least: pass.least().map(|k| norms + k) }
    }

    /// Writes a pass's outputs to a tensor's row.
    fn put(&mut self, tensor: usize, column: usize, outputs: Outputs, sums: &[f64; MOST]) {
        let row = &mut self.rows[tensor * self.columns..(tensor + 1) * self.columns];
        let (norms, sums) = sums[..outputs.count].split_at(outputs.norms);
        let sums_at = column + NORM * norms.len();
        norms.iter().enumerate().for_each(|(k, x)| row[column + NORM * k] = *x);
        row[sums_at..sums_at + sums.len()].copy_from_slice(sums);
    }

    /// Computes norms whose squares leave the range of double precision again, from scaled numbers.
    fn scale_norms(&mut self, formula: &impl Formula, tensor: usize, column: usize) -> Result<()> {
        for (k, of) in formula.norms().iter().enumerate() {
            let at = column + NORM * k;
            let (place, scale) = match self.row(tensor)[at] {
                f64::INFINITY => (at + 1, Squares::SMALLER),
                0.0 => (at + 2, Squares::LARGER),
                _ => continue,
            };
            self.rows[tensor * self.columns + place] = match &self.work[tensor].param.state {
                State::Tensors(_) => self.scaled_squares(tensor, *of, scale)?,
                _ => {
                    let outputs = Outputs { norms: 0, count: 1, least: None };
                    let scaled = Scaled { of: *of, scale };
                    dispatch!(self.work[tensor].grad.dtype(), E => self.on_cpu::<E>(&scaled, &[tensor], outputs))?[0][0]
                }
            };
        }
        Ok(())
    }

    /// Runs the last pass, which writes u, and applies u.
    fn finish_in_place(&mut self, formula: &impl Formula, u: usize) -> Result<()> {
        let Self { work, places, rows, columns, applies, .. } = self;
        let finish = |(tensor, (w, how)): (usize, (&mut ParamStep<'_>, &Apply))| match w.grad.elem_count() {
            0 => Ok(()),
            _ => {
                let row = (tensor, &rows[tensor * *columns..(tensor + 1) * *columns]);
                let (formula, places) = ((formula, u), &places[tensor]);
                match w.grad.dtype() {
                    DType::F64 => in_place::finish::<f64>(formula, row, w, places, *how),
                    _ => in_place::finish::<f32>(formula, row, w, places, *how),
                }
            }
        };
        if cpu::worth_threads(work.iter().map(|w| w.grad.elem_count()).sum()) {
            work.par_iter_mut().with_max_len(1).zip(&**applies).enumerate().try_for_each(finish)
        } else {
            work.iter_mut().zip(&**applies).enumerate().try_for_each(finish)
        }
    }

    /// Runs the formula on every block of the tensors `members`, which are in order and of one element type; returns the sums of each tensor, over its chunks in
    /// order.
    fn on_cpu<E: Element>(
        &mut self,
        formula: &impl Formula,
        members: &[usize],
        outputs: Outputs,
    ) -> Result<Vec<[f64; MOST]>> {
        let (rows, columns) = (&self.rows, self.columns);
        let mut held = Vec::with_capacity(members.len());
        for (tensor, w) in self.work.iter_mut().enumerate().filter(|(tensor, _)| members.binary_search(tensor).is_ok())
        {
            let ParamStep { param, grad, map, .. } = w;
            let mut state = Slices::<E>::default();
            for (k, data) in E::buffers(&mut param.state).iter_mut().enumerate() {
                // What has another shape than the parameter is not a pass's business.
                if let Some(place) = self.places[tensor].iter().position(|place| *place == Some(k))
                    && data.len() == grad.elem_count()
                {
                    state[place] = data;
                }
            }
            held.push((tensor, grad.storage_and_layout(), param.var.storage_and_layout(), state, *map));
        }
        let mut tensors = Vec::with_capacity(held.len());
        for (tensor, (g, g_layout), (theta, theta_layout), state, map) in &mut held {
            let (Storage::Cpu(g), Storage::Cpu(theta)) = (&**g, &**theta) else {
                return Err(candle_core::Error::Msg("expected tensors on the CPU".to_string()).into());
            };
            let (g, theta) = (cpu::slice::<E>(g, g_layout)?, cpu::slice::<E>(theta, theta_layout)?);
            tensors.push((*tensor, g, theta, std::mem::take(state), *map));
        }
        let counts: Vec<usize> = tensors.iter().map(|(_, g, ..)| g.len().div_ceil(CHUNK)).collect();
        let mut partial = vec![outputs.nothing(); counts.iter().sum()];
        let (mut chunks, mut sums) = (Vec::with_capacity(partial.len()), partial.iter_mut());
        for (tensor, g, theta, state, map) in &mut tensors {
            let mut state = state.each_mut().map(|data| data.chunks_mut(CHUNK));
            let numbers = &rows[*tensor * columns..(*tensor + 1) * columns];
            for ((g, theta), sums) in g.chunks(CHUNK).zip(theta.chunks(CHUNK)).zip(sums.by_ref()) {
                let state = state.each_mut().map(|chunks| chunks.next().unwrap_or_default());
                chunks.push(Chunk::<'_, E> { tensor: *tensor, map: *map, g, theta, state, numbers, sums });
            }
        }
        cpu::for_each(
            chunks,
            #[inline(always)]
            |chunk: Chunk<'_, E>| run(formula, chunk, outputs),
        );
        let mut partial = partial.into_iter();
        let add = |mut total: [f64; MOST], sums: [f64; MOST]| {
            (0..outputs.count).for_each(|k| total[k] = outputs.total(k).add(total[k], sums[k]));
            total
        };
        Ok(counts.into_iter().map(|count| partial.by_ref().take(count).fold(outputs.nothing(), add)).collect())
    }
}

/// Whether a pass may write to the parameter: it is computed with in its own type, on the CPU.
fn updates_in_place(w: &ParamStep<'_>) -> bool {
    matches!(w.grad.dtype(), DType::F32 | DType::F64) && !matches!(w.param.state, State::Tensors(_))
}

/// A tensor's state.
pub(super) type Slices<'a, E> = [&'a mut [<E as Element>::Compute]; BUFFERS];

/// What one task works on: the same range of a tensor, its gradient and its states.
struct Chunk<'a, E: Element> {
    tensor: usize,
    map: GradientMap,
    g: &'a [E],
    theta: &'a [E],
    state: Slices<'a, E>,
    numbers: &'a [f64],
    sums: &'a mut [f64; MOST],
}

#[inline(always)]
fn run<E: Element>(formula: &impl Formula, mut chunk: Chunk<'_, E>, outputs: Outputs) {
    let zero = <E::Compute as Number>::ZERO;
    let (mut wide_g, mut wide_theta) = ([zero; BLOCK], [zero; BLOCK]);
    let mut spare = [[zero; BLOCK]; 3];
    let mut at = 0;
    while at < chunk.g.len() {
        let end = (at + BLOCK).min(chunk.g.len());
        let g = E::read_mapped(&chunk.g[at..end], chunk.map, &mut wide_g);
        let theta = E::read(&chunk.theta[at..end], &mut wide_theta);
        let state = chunk.state.each_mut().map(|data| if data.is_empty() { &mut [] } else { &mut data[at..end] });
        let spare = spare.each_mut().map(|data| &mut data[..]);
        let block = Block { theta, g, state, spare };
        formula.block(chunk.tensor, block, chunk.numbers, &mut chunk.sums[..outputs.count]);
        at = end;
    }
}

impl Chain for Host<'_, '_> {
    fn norm_columns(&self) -> usize {
        NORM
    }

    fn pass(&mut self, formula: &impl Formula, column: usize) -> Result<()> {
        let takes: Vec<usize> = (0..self.work.len()).filter(|tensor| formula.takes(*tensor)).collect();
        let Some(first) = takes.first() else { return Ok(()) };
        let outputs = self.outputs(formula, *first);
        let name = || formula.form(*first).0;
        contract(outputs.count <= MOST, name(), || {
            (format!("at most {MOST} norms and sums"), outputs.count.to_string())
        })?;
        within(column + (NORM - 1) * outputs.norms + outputs.count, self.columns, name)?;
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let (by_operations, on_cpu): (Vec<usize>, Vec<usize>) = takes
                .iter()
                .filter(|tensor| self.work[**tensor].grad.dtype() == dtype)
                .partition(|tensor| matches!(self.work[**tensor].param.state, State::Tensors(_)));
            if !on_cpu.is_empty() {
                let sums = dispatch!(dtype, E => self.on_cpu::<E>(formula, &on_cpu, outputs))?;
                on_cpu.iter().zip(sums).for_each(|(tensor, sums)| self.put(*tensor, column, outputs, &sums));
            }
            if !by_operations.is_empty() {
                let sums = self.on_tensors(formula, &by_operations)?;
                for (tensor, of) in by_operations.iter().zip(sums) {
                    let mut sums = outputs.nothing();
                    sums.iter_mut().zip(of).for_each(|(sum, x)| *sum = x);
                    self.put(*tensor, column, outputs, &sums);
                }
            }
        }
        takes.iter().try_for_each(|tensor| match self.work[*tensor].grad.elem_count() {
            0 => Ok(()),
            _ => self.scale_norms(formula, *tensor, column),
        })
    }

    fn arithmetic(&mut self, arithmetic: &impl Arithmetic) -> Result<()> {
        let (rows, shared) = self.rows.split_at_mut(self.work.len() * self.columns);
        for (tensor, own) in rows.chunks_mut(self.columns).enumerate() {
            for (column, x) in arithmetic.of(tensor, Numbers { own, shared, kept: self.kept }) {
                within(column + 1, self.columns, || arithmetic.form(tensor).0)?;
                own[column] = x;
            }
        }
        Ok(())
    }

    fn keep(&mut self, arithmetic: &impl Arithmetic) -> Result<()> {
        let (tensors, kept) = (self.work.len(), &*self.kept);
        let own = &self.rows[tensors * self.columns..];
        for (place, x) in arithmetic.of(tensors, Numbers { own, shared: own, kept }) {
            within(place + 1, self.kept.len(), || arithmetic.form(tensors).0)?;
            self.kept[place] = x;
        }
        Ok(())
    }

    fn totals(&mut self, entries: impl IntoIterator<Item = (usize, Total)>, to: To) -> Result<()> {
        let (rows, shared) = self.rows.split_at_mut(self.work.len() * self.columns);
        for (k, (column, total)) in entries.into_iter().enumerate() {
            within(column + 1, self.columns, || "totals")?;
            match to {
                To::Shared(first) => within(first + k + 1, self.columns, || "totals")?,
                To::Kept => within(k + 1, self.kept.len(), || "totals")?,
            }
            let each = rows.chunks(self.columns).map(|row| row[column]);
            let add = |sum, x| total.add(sum, x);
            match to {
                To::Shared(first) => shared[first + k] = each.fold(total.nothing(), add),
                To::Kept => self.kept[k] = each.fold(self.kept[k], add),
            }
        }
        Ok(())
    }

    fn finish(&mut self, formula: &impl Formula, u: usize, at: usize, squares: Option<usize>) -> Result<bool> {
        fn idle<F: Formula>(_: &F) -> bool {
            F::IDLE
        }
        for (tensor, (places, w)) in self.places.iter().zip(&*self.work).enumerate() {
            let name = formula.form(tensor).0;
            within(squares.map_or(at + 2, |column| (at + 2).max(column + 1)), self.columns, || name)?;
            first_scratch(name, places[u], w.param)?;
        }
        let apply = |tensor| Apply { keep: self.row(tensor)[at], factor: self.row(tensor)[at + 1] };
        self.applies = (0..self.work.len()).map(apply).collect();
        if !idle(formula) {
            let all = self.work.iter().enumerate();
            let mut all = all.map(|(tensor, w)| updates_in_place(w) && self.outputs(formula, tensor).count == 0);
            if self.outcome == Outcome::Step && squares.is_none() && all.all(|fits| fits) {
                return self.finish_in_place(formula, u).map(|()| false);
            }
            self.pass(formula, 0)?;
        }
        if self.outcome == Outcome::Direction {
            return Ok(false);
        }
        let seeing = if squares.is_some() { Seeing::Squares } else { Seeing::Nothing };
        let seen = apply_all(self.work, &self.applies, seeing)?;
        if let Some(column) = squares {
            seen.into_iter().enumerate().for_each(|(tensor, x)| self.rows[tensor * self.columns + column] = x);
        }
        Ok(squares.is_some())
    }
}

/// The formula Σ(scale·x)².
struct Scaled {
    of: Of,
    scale: f64,
}

impl Formula for Scaled {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("scaled", 0)
    }

    fn pass<N: Number>(&self, _: usize, theta: N, g: N, state: [N; BUFFERS], _: &[N]) -> Pass<N> {
        let x = match self.of {
            Of::Theta => theta,
            Of::Gradient => g,
            Of::State(k) => state[k],
        };
        Pass::summing(vec![], vec![Term::Square(N::from_f64(self.scale) * x)])
    }

    #[inline(always)]
    fn block<T: Float>(&self, _: usize, block: Block<'_, T>, _: &[f64], sums: &mut [f64]) {
        let xs: &[T] = match self.of {
            Of::Theta => block.theta,
            Of::Gradient => block.g,
            Of::State(k) => &*block.state[k],
        };
        sums[0] += xs.iter().map(|x| (x.to_f64() * self.scale).powi(2)).sum::<f64>();
    }
}
