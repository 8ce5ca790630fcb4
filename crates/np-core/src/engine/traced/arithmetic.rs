//! Scalar arithmetic as CUDA kernels: arithmetic that was recorded for one tensor's numbers, run by a thread for each tensor, and totals over tensors.
//!
//! A tensor has a row of numbers in double precision. The rows of all tensors are one table, with the shared row at its end. All arithmetic is in double
//! precision, whatever the element type.

use std::fmt::{self, Write as _};

use super::cuda::Storage;
use super::{Node, Recording};

/// Function of [`kernel`].
pub(crate) const ARITHMETIC: &str = "np_arithmetic";
/// Function of [`chunks`].
pub(crate) const CHUNKS: &str = "np_chunks";
/// Function of [`totals`].
pub(crate) const TOTALS: &str = "np_totals";
/// Threads of a block of [`kernel`] and [`totals`].
pub(crate) const THREADS: u32 = 32;

/// Where arithmetic writes its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// To the tensor's row.
    Row,
    /// To the numbers that are kept between steps.
    Kept,
}

/// Source text of the kernel `np_arithmetic(numbers, members, count, arguments, tensors, kept)`: one thread for each of `count` tensors. `members` has their indices
/// (`unsigned int`). The results of `recording` go to the indices `to` of `writes`. The recording's states are the columns of the tensor's row, then those of the
/// shared row, then the kept numbers.
pub(crate) fn kernel(recording: &Recording, to: &[usize], columns: usize, writes: Writes) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, recording, to, columns, writes);
    text
}

fn write(out: &mut String, recording: &Recording, to: &[usize], columns: usize, writes: Writes) -> fmt::Result {
    writeln!(
        out,
        "// Scalar arithmetic of each tensor, recorded from its formula.
extern \"C\" __global__ void {ARITHMETIC}(double *numbers, const unsigned int *members, unsigned long long count,
                                         const double *arguments, unsigned long long tensors, double *kept) {{
    const unsigned long long thread = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= count) {{
        return;
    }}
    double *const own = numbers + {columns}ull * members[thread];
    const double *const shared = numbers + {columns}ull * tensors;
    const double *const a = arguments + {}ull * thread;",
        recording.arguments.len()
    )?;
    for (place, node) in recording.nodes.iter().enumerate() {
        let memory = match node {
            Node::State(k) if *k < columns => format!("own[{k}]"),
            Node::State(k) if *k < 2 * columns => format!("shared[{}]", k - columns),
            Node::State(k) => format!("kept[{}]", k - 2 * columns),
            _ => String::new(),
        };
        writeln!(out, "    const double v{place} = {};", node.text(Storage::F64, &memory))?;
    }
    let written = if writes == Writes::Row { "own" } else { "kept" };
    for (at, place) in to.iter().zip(&recording.results) {
        writeln!(out, "    {written}[{at}] = v{place};")?;
    }
    writeln!(out, "}}")
}

/// Source text of the kernel `np_chunks(ranges, partial, numbers, outputs, least, columns, column)`: one block of 32 threads for each tensor. It adds up the outputs of
/// the tensor's chunks, in order, and writes the sums to the columns of its row from `column` on. Of output `least` it takes the minimum, of the next the maximum.
pub(crate) fn chunks() -> String {
    format!(
        "// Sums of chunks, in order.
struct Range {{
    unsigned int first;
    unsigned int count;
}};

extern \"C\" __global__ void {CHUNKS}(const Range *ranges, const double *partial, double *numbers, unsigned long long outputs,
                                     unsigned long long least, unsigned long long columns, unsigned long long column) {{
    const Range range = ranges[blockIdx.x];
    for (unsigned long long k = threadIdx.x; k < outputs; k += blockDim.x) {{
        const double *const chunks = partial + outputs * range.first + k;
        double total = k == least ? 1.0 / 0.0 : k == least + 1 ? -1.0 / 0.0 : 0.0;
#pragma unroll 8
        for (unsigned int i = 0; i < range.count; i += 1) {{
            const double x = chunks[outputs * i];
            total = k == least ? (x < total ? x : total) : k == least + 1 ? (total < x ? x : total) : __dadd_rn(total, x);
        }}
        numbers[columns * blockIdx.x + column + k] = total;
    }}
}}
"
    )
}

/// Source text of the kernel `np_totals(entries, numbers, columns, tensors, totals, count, anew)`: one thread for each of `count` totals over `tensors` rows, in order.
/// `entries` has the column of each total and its kind, 0 for a sum, 1 for a minimum, 2 for a maximum (two `unsigned int`). If `anew` is 0, numbers are added to the
/// totals that are there; else the totals are replaced.
pub(crate) fn totals() -> String {
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
#pragma unroll 8
    for (unsigned long long t = 0; t < tensors; t += 1) {{
        const double x = numbers[columns * t + entry.column];
        total = entry.kind == 0u ? __dadd_rn(total, x) : entry.kind == 1u ? (x < total ? x : total) : (total < x ? x : total);
    }}
    totals[k] = total;
}}
"
    )
}
