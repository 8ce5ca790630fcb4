//! The plan of a step's launches: which kernels run, over which tensors, with which arguments. The host makes it, for addresses on a device or, in tests, on
//! the host.
//!
//! Parameters with the same expression and element type share a launch. Those that also have equal arguments share a block of arguments and are recorded once.

use candle_core::DType;
use np_cuda::table::{Row, Table};
use np_trace::cuda::Storage;
use np_trace::{Expression, Outcome, Traced};

use super::trace::trace_mapped;
use super::{Elementwise, StepInfo, around, at};
use crate::apply::Apply;
use crate::error::Result;
use crate::gradient_map::GradientMap;
use crate::param_step::ParamStep;

/// A launch of one kernel over several tensors.
#[derive(Debug)]
pub struct Launch {
    /// The step of an element.
    pub expression: Expression,
    /// The type that its tensors are stored in.
    pub storage: Storage,
    /// The index, among the arguments, of the gradient's factor, which clipping sets.
    pub scale: usize,
    /// Each tensor's number of elements.
    pub lengths: Vec<u64>,
    /// The index of each tensor in the step, among those that are not empty.
    places: Vec<usize>,
    rows: Vec<Row>,
    arguments: Vec<Vec<f64>>,
    /// Table offset of the rows.
    pub at_rows: usize,
    /// Table offset of the arguments.
    pub at_arguments: usize,
}

impl Launch {
    /// The number of blocks of arguments.
    pub fn blocks(&self) -> usize {
        self.arguments.len()
    }

    /// For every tensor of the step that is not empty, in order: the number of its first piece of `size` elements, then how many it has. Pieces are numbered
    /// through all launches.
    pub fn ranges(launches: &[Self], size: usize) -> impl Iterator<Item = u32> {
        let mut ranges = vec![[0; 2]; launches.iter().map(|launch| launch.lengths.len()).sum()];
        let mut first = 0;
        for launch in launches {
            for (place, length) in launch.places.iter().zip(&launch.lengths) {
                let count = u32::try_from(length.div_ceil(size as u64)).unwrap_or(u32::MAX);
                ranges[*place] = [first, count];
                first += count;
            }
        }
        ranges.into_iter().flatten()
    }

    fn write(&mut self, table: &mut Table) {
        self.at_rows = table.section();
        self.rows.iter().for_each(|row| row.push(table));
        self.at_arguments = table.section();
        for x in self.arguments.iter().flatten() {
            match self.storage {
                Storage::F64 => table.f64(*x),
                _ => table.f32(*x),
            }
        }
    }
}

/// What determines the operations and arguments of a parameter's step. Parameters with equal keys differ only in their addresses.
#[derive(Debug, PartialEq)]
struct Key {
    storage: Storage,
    t: u64,
    lr: f64,
    weight_decay: f64,
    numbers: Vec<f64>,
    map: GradientMap,
}

/// The recorded step of all parameters with one key.
struct Recorded {
    key: Key,
    numbers: Vec<f64>,
    apply: Apply,
    launch: usize,
    block: u64,
}

/// How parameters of `dtype` are stored.
pub(crate) fn storage_of(dtype: DType) -> Storage {
    match dtype {
        DType::F64 => Storage::F64,
        DType::F16 => Storage::F16,
        DType::BF16 => Storage::Bf16,
        _ => Storage::F32,
    }
}

/// Plans a step of all of `work`: writes `table`, and returns the launches and how each parameter's direction is applied. `row` gives the addresses of a parameter and
/// its gradient, then of its buffers and scratch. The parameters' own numbers advance by a step.
///
/// Rows and blocks of arguments are in the order in which parameters first need them, which is the same in every step of the same parameters.
pub fn plan<R: Elementwise>(
    rule: &R,
    work: &mut [ParamStep<'_>],
    outcome: Outcome,
    table: &mut Table,
    row: impl Fn(&ParamStep<'_>) -> Result<(Row, Vec<u64>)>,
) -> Result<(Vec<Launch>, Vec<Apply>)> {
    let (mut launches, mut recorded) = (Vec::<Launch>::new(), Vec::<Recorded>::new());
    let (mut applies, mut filled) = (Vec::with_capacity(work.len()), 0);
    for w in work {
        let (storage, map) = (storage_of(w.grad.dtype()), w.map);
        let mut now = at(rule, w);
        let (t, lr, weight_decay) = (now.t, now.lr, now.weight_decay);
        let key = Key { storage, t, lr, weight_decay, numbers: now.numbers.to_vec(), map };
        let found = match recorded.iter().position(|other| other.key == key) {
            Some(found) => found,
            None => {
                recorded.push(record(rule, &mut now, key, outcome, &mut launches));
                recorded.len() - 1
            }
        };
        let Recorded { numbers, apply, launch, block, .. } = &recorded[found];
        w.param.numbers.clone_from(numbers);
        applies.push(*apply);
        let length = w.grad.elem_count() as u64;
        if length > 0 {
            let ((row, all), buffers) = (row(w)?, w.param.buffers.len());
            let of = |k: usize| all.get(k).copied().unwrap_or(0);
            let state = std::array::from_fn(|k| if k < buffers { of(k) } else { 0 });
            let direction = of(buffers);
            launches[*launch].rows.push(Row { state, direction, length, arguments: *block, ..row });
            launches[*launch].lengths.push(length);
            launches[*launch].places.push(filled);
            filled += 1;
        }
    }
    launches.retain(|launch| !launch.rows.is_empty());
    table.clear();
    launches.iter_mut().for_each(|launch| launch.write(table));
    Ok((launches, applies))
}

fn record<R: Elementwise>(
    rule: &R,
    now: &mut StepInfo<'_>,
    key: Key,
    outcome: Outcome,
    launches: &mut Vec<Launch>,
) -> Recorded {
    let (around, apply) = around(rule, now);
    let (Traced { expression, arguments }, scale) = trace_mapped(rule, now, around, key.map, outcome);
    let same = |launch: &Launch| launch.storage == key.storage && launch.expression == expression;
    let launch = launches.iter().position(same).unwrap_or_else(|| {
        let (lengths, places, rows, arguments) = (vec![], vec![], vec![], vec![]);
        let (storage, at_rows, at_arguments) = (key.storage, 0, 0);
        launches.push(Launch { expression, storage, scale, lengths, places, rows, arguments, at_rows, at_arguments });
        launches.len() - 1
    });
    let blocks = &mut launches[launch].arguments;
    blocks.push(arguments);
    Recorded { key, numbers: now.numbers.to_vec(), apply, launch, block: blocks.len() as u64 - 1 }
}
