//! Scalar arithmetic as CUDA kernels: what is recorded of one tensor's numbers, by a thread for each tensor, and totals over tensors.
//!
//! A tensor has a row of numbers of double precision; those of all tensors are one table, with a row for what belongs to none of them at its end. All is computed in double
//! precision, whatever the tensors are stored as.

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

/// Where results go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// To the tensor's row.
    Row,
    /// To what is kept from step to step.
    Kept,
}

/// `np_arithmetic(numbers, members, count, arguments, tensors, kept)`, a thread for each of `count` tensors, whose rows `members` has (an `unsigned int` each): results of
/// `recording` go to the places `to` of what is written. State k is column k of the tensor's row, then of the last row of the table, then of what is kept.
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

/// `np_chunks(ranges, partial, numbers, outputs, least, columns, column)`, a block of 32 threads for each tensor: its chunks' numbers added up in order, to the columns from
/// `column` on of its row; but `least` is the least of them, and the next the most.
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

/// `np_totals(entries, numbers, columns, tensors, totals, count, anew)`, a thread for each of `count` totals over `tensors` rows, in order; `entries` has the column of each, and
/// what it is: 0 for a sum, 1 for the least, 2 for the most (two `unsigned int`). Totals go on from what they are, or, `anew`, from nothing.
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
