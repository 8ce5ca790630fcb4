//! Scalar arithmetic as CUDA kernels: the sums of a tensor's chunks and arithmetic that was recorded for one tensor's numbers, by a block of threads for each tensor;
//! and totals over tensors.
//!
//! A tensor has a row of numbers in double precision. The rows of all tensors are one table, with the shared row at its end. All arithmetic is in double
//! precision, whatever the element type.

use std::fmt::{self, Write as _};

use np_cuda::sums::in_order;

use super::cuda::Storage;
use super::{Node, Recording};

/// Function of [`rows`].
pub const ROWS: &str = "np_rows";
/// Function of [`totals`].
pub const TOTALS: &str = "np_totals";
/// Threads of a block of [`rows`] and [`totals`].
pub const THREADS: u32 = 32;

/// Where arithmetic writes its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// To the tensor's row.
    Row,
    /// To the numbers that are kept between steps.
    Kept,
}

/// Recorded arithmetic. The recording's states are the columns of the tensor's row, then those of the shared row, then the kept numbers.
#[derive(Debug)]
pub struct Operations {
    /// The operations.
    pub recording: Recording,
    /// The index that each result is written to.
    pub to: Vec<usize>,
    /// Where results go.
    pub writes: Writes,
}

/// Source text of the kernel `np_rows(parts, arguments, numbers, tensors, kept, ranges, partial, outputs, least, column)`, with a block of [`THREADS`] threads for each part.
/// A part has the index of a tensor, that of its operations in `forms`, and that of their first argument (three `unsigned int`).
///
/// First, if `outputs` is not 0, the outputs of the tensor's chunks are added up, in order, into the columns of its row from `column` on. `ranges` has each tensor's first
/// chunk and number of chunks (two `unsigned int`). Of output `least` the minimum is taken, of the next the maximum. Then one thread does the operations.
pub fn rows<'a>(forms: impl Iterator<Item = &'a Operations>, columns: usize) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, forms, columns);
    text
}

fn write<'a>(out: &mut String, forms: impl Iterator<Item = &'a Operations>, columns: usize) -> fmt::Result {
    let sums = in_order(
        "range.count",
        "chunks[outputs * i]",
        "total = k == least ? (x < total ? x : total) : k == least + 1 ? (total < x ? x : total) : __dadd_rn(total, x);",
    );
    writeln!(
        out,
        "// Sums of chunks, in order, and scalar arithmetic of each tensor, recorded from its formula.
struct Part {{
    unsigned int member;
    unsigned int form;
    unsigned int arguments;
}};

struct Range {{
    unsigned int first;
    unsigned int count;
}};

extern \"C\" __global__ void {ROWS}(const Part *parts, const double *arguments, double *numbers, unsigned long long tensors, double *kept,
                                   const Range *ranges, const double *partial, unsigned long long outputs,
                                   unsigned long long least, unsigned long long column) {{
    const Part part = parts[blockIdx.x];
    double *const own = numbers + {columns}ull * part.member;
    for (unsigned long long k = threadIdx.x; k < outputs; k += blockDim.x) {{
        const Range range = ranges[part.member];
        const double *const chunks = partial + outputs * range.first + k;
        double total = k == least ? 1.0 / 0.0 : k == least + 1 ? -1.0 / 0.0 : 0.0;
        {sums}
        own[column + k] = total;
    }}
    __syncthreads();
    if (threadIdx.x != 0) {{
        return;
    }}
    const double *const shared = numbers + {columns}ull * tensors;
    const double *const a = arguments + part.arguments;"
    )?;
    for (form, operations) in forms.enumerate() {
        writeln!(out, "    if (part.form == {form}u) {{")?;
        operations.write(out, columns)?;
        writeln!(out, "    }}")?;
    }
    writeln!(out, "}}")
}

impl Operations {
    fn write(&self, out: &mut String, columns: usize) -> fmt::Result {
        for (place, node) in self.recording.nodes.iter().enumerate() {
            let memory = match node {
                Node::State(k) if *k < columns => format!("own[{k}]"),
                Node::State(k) if *k < 2 * columns => format!("shared[{}]", k - columns),
                Node::State(k) => format!("kept[{}]", k - 2 * columns),
                _ => String::new(),
            };
            writeln!(out, "        const double v{place} = {};", node.text(Storage::F64, &memory))?;
        }
        let written = if self.writes == Writes::Row { "own" } else { "kept" };
        let mut results = self.to.iter().zip(&self.recording.results);
        results.try_for_each(|(at, place)| writeln!(out, "        {written}[{at}] = v{place};"))
    }
}

/// Source text of the kernel `np_totals(entries, numbers, columns, tensors, totals, count, anew)`: one thread for each of `count` totals over `tensors` rows, in order.
/// `entries` has the column of each total and its kind, 0 for a sum, 1 for a minimum, 2 for a maximum (two `unsigned int`). If `anew` is 0, numbers are added to the
/// totals that are there; else the totals are replaced.
pub fn totals() -> String {
    let sums = in_order(
        "tensors",
        "numbers[columns * i + entry.column]",
        "total = entry.kind == 0u ? __dadd_rn(total, x) : entry.kind == 1u ? (x < total ? x : total) : (total < x ? x : total);",
    );
    format!(
        "// Totals over all tensors, in order.
struct Entry {{
    unsigned int column;
    unsigned int kind;
}};

extern \"C\" __global__ void {TOTALS}(const Entry *entries, const double *numbers, unsigned long long columns, unsigned long long tensors,
                                     double *totals, unsigned long long count, unsigned long long anew) {{
    const unsigned long long k = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) {{
        return;
    }}
    const Entry entry = entries[k];
    double total = anew == 0 ? totals[k] : entry.kind == 0u ? 0.0 : entry.kind == 1u ? 1.0 / 0.0 : -1.0 / 0.0;
    {sums}
    totals[k] = total;
}}
"
    )
}
