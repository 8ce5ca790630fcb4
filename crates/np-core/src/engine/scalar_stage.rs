//! The scalar arithmetic between two passes as a kernel: recorded from the text that the host computes by, in double precision, a thread for each tensor.
//!
//! A stage reads the sums of a pass and what all tensors share, and writes numbers where a later pass has its arguments, and what is shared from here on. So
//! nothing between two passes waits for the device.

use std::fmt::{self, Write as _};

use crate::engine::number::Number;
use crate::engine::traced::cuda::Storage;
use crate::engine::traced::symbol::record_all;
use crate::engine::traced::{Node, Recording};

/// Function of every stage: `np_stage(entries, tensors, arguments, sums, before, after, table)`, one block of [`THREADS`].
pub(crate) const STAGE: &str = "np_stage";

/// Threads of its block.
pub(crate) const THREADS: u32 = 128;

/// The scalar arithmetic of a tensor.
pub(crate) trait Stage {
    /// Its name, and in which of its forms it is done: the same for all tensors of a step.
    fn form(&self) -> (&'static str, u32);

    /// From the sums of a pass, and from what all tensors share: numbers for a later pass's first arguments.
    fn given<N: Number>(&self, tensor: usize, sums: &[N], shared: &[N]) -> Vec<N>;

    /// What is shared from here on; none, if that does not change. The first tensor's arguments are taken.
    fn shared<N: Number>(&self, _tensor: usize, _sums: &[N], _shared: &[N]) -> Vec<N> {
        vec![]
    }
}

/// All results, with the arguments that they make in their order.
pub(crate) fn results<N: Number>(stage: &impl Stage, tensor: usize, sums: &[N], shared: &[N]) -> (Vec<N>, usize) {
    let mut all = stage.given(tensor, sums, shared);
    let given = all.len();
    all.extend(stage.shared(tensor, sums, shared));
    (all, given)
}

/// The kernel of a stage over `sums` sums and `shared` numbers.
pub(crate) fn kernel(stage: &impl Stage, tensor: usize, sums: usize, shared: usize) -> String {
    let mut given = 0;
    let recording = record_all(sums + shared, |_, _, all| {
        let (results, count) = results(stage, tensor, &all[..sums], &all[sums..]);
        given = count;
        results
    });
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_kernel(&mut text, &recording, sums, given);
    text
}

fn write_kernel(out: &mut String, recording: &Recording, sums: usize, given: usize) -> fmt::Result {
    writeln!(
        out,
        "// Scalar arithmetic between two passes, recorded from its formula. A thread does a tensor.
struct Entry {{
    unsigned long long row;
    unsigned long long to;
    unsigned long long wide;
}};

extern \"C\" __global__ void {STAGE}(const Entry *entries, unsigned long long tensors, const double *arguments,
                                    const double *sums, const double *before, double *after, unsigned char *table) {{
    for (unsigned long long t = threadIdx.x; t < tensors; t += blockDim.x) {{
        const Entry entry = entries[t];
        const double *const s = sums + {sums}ull * entry.row;
        const double *const a = arguments + {}ull * t;",
        recording.arguments,
    )?;
    for (place, node) in recording.nodes.iter().enumerate() {
        let memory = match *node {
            Node::State(k) if k < sums => format!("s[{k}]"),
            Node::State(k) => format!("before[{}]", k - sums),
            _ => String::new(),
        };
        writeln!(out, "        const double v{place} = {};", node.text(Storage::F64, &memory))?;
    }
    let (to, shared) = recording.results.split_at(given);
    for (condition, real) in [("entry.wide != 0", "double"), ("entry.wide == 0", "float")] {
        writeln!(out, "        if ({condition}) {{\n            {real} *const to = ({real} *)(table + entry.to);")?;
        to.iter().enumerate().try_for_each(|(k, place)| writeln!(out, "            to[{k}] = ({real})v{place};"))?;
        writeln!(out, "        }}")?;
    }
    if !shared.is_empty() {
        writeln!(out, "        if (t == 0) {{")?;
        shared.iter().enumerate().try_for_each(|(k, place)| writeln!(out, "            after[{k}] = v{place};"))?;
        writeln!(out, "        }}")?;
    }
    writeln!(out, "    }}\n}}")
}
