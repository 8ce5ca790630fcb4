//! Generates the source text of a pass's kernel.

use std::fmt::{self, Write as _};

use np_cuda::table::{BUFFERS, CHUNK, beginning, declarations};

use super::cuda::Storage;
use super::pass::{LANES, PASS, Pass, THREADS, Target, Term, WARPS, WATCH_LANES, WATCHED};
use super::{Node, Recording};
use crate::pass::BLOCK;

/// Elements whose loads a thread has under way together.
const TOGETHER: usize = 4;

/// What a kernel is generated from.
pub(super) struct Writer<'a> {
    pub(super) pass: &'a Pass<usize>,
    pub(super) recording: &'a Recording,
    pub(super) storage: Storage,
    pub(super) least: Option<usize>,
}

impl Writer<'_> {
    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        let Self { pass, storage, .. } = self;
        let (real, stored, terms, outputs) = (storage.compute(), storage.stored(), pass.terms.len(), pass.outputs());
        writeln!(
            out,
            "// A pass over all tensors, recorded from its formula. A block of threads does a chunk, a warp a block of it."
        )?;
        write!(out, "{}", declarations(stored, real))?;
        writeln!(out, "{}", storage.conversions())?;
        // Two blocks of threads have registers on a multiprocessor; in double precision they might not be enough.
        let blocks = if self.widens() { ", 2" } else { "" };
        writeln!(
            out,
            "extern \"C\" __global__ void __launch_bounds__({THREADS}{blocks}) {PASS}(const Piece *pieces, const Tensor *tensors, const {real} *arguments,"
        )?;
        writeln!(out, "                                   double *partial) {{")?;
        if outputs > 0 {
            writeln!(out, "    __shared__ double totals[{WARPS}][{outputs}];")?;
        }
        if terms > 0 {
            writeln!(out, "    __shared__ {real} lanes[{terms}][{WARPS}][{LANES}];")?;
            if self.widens() {
                writeln!(out, "    __shared__ double wide_lanes[{terms}][{WARPS}][{LANES}];")?;
            }
        }
        if pass.log_ratio.is_some() {
            writeln!(out, "    __shared__ double logs[{WARPS}][{LANES}];")?;
        }
        if pass.watched.is_some() {
            writeln!(out, "    __shared__ {real} watched[3][{WARPS}][{WATCH_LANES}];")?;
            writeln!(out, "    __shared__ {real} seen[4][{WARPS}][{LANES}];")?;
        }
        write!(out, "{}", beginning(CHUNK))?;
        self.write_places(out)?;
        self.write_loop(out)?;
        if outputs > 0 {
            self.write_totals(out)?;
        }
        writeln!(out, "}}")
    }

    /// Writes the pointers to the elements, and the values that are the same for all elements.
    fn write_places(&self, out: &mut String) -> fmt::Result {
        let (real, stored) = (self.storage.compute(), self.storage.stored());
        writeln!(out, "    {stored} *const theta = tensor.theta + start;")?;
        writeln!(out, "    const {stored} *const gradient = tensor.gradient + start;")?;
        let mut buffers: Vec<usize> = self.recording.nodes.iter().filter_map(|node| node.buffer()).collect();
        buffers.extend(self.pass.writes.iter().filter_map(|(target, _)| match target {
            Target::State(buffer) => Some(*buffer),
            Target::Theta => None,
        }));
        buffers.sort_unstable();
        buffers.dedup();
        for buffer in buffers {
            writeln!(out, "    {real} *const state{buffer} = tensor.state[{buffer}] + start;")?;
        }
        writeln!(
            out,
            "    const {real} *const a = arguments + {}ull * tensor.arguments;",
            self.recording.arguments.len()
        )?;
        for (place, node) in self.recording.nodes.iter().enumerate().filter(|(_, node)| node.is_same_for_all()) {
            let memory = match node {
                Node::State(k) => format!("({real})tensor.numbers[{}]", k - BUFFERS),
                _ => String::new(),
            };
            writeln!(out, "    const {real} v{place} = {};", node.text(self.storage, &memory))?;
        }
        writeln!(out, "    const unsigned int lane = threadIdx.x % {LANES}u;")?;
        writeln!(out, "    const unsigned int warp = threadIdx.x / {LANES}u;")?;
        writeln!(out, "    const unsigned int begin = {BLOCK}u * warp;")?;
        writeln!(
            out,
            "    const unsigned int count = begin >= length ? 0u : length - begin < {BLOCK}u ? length - begin : {BLOCK}u;"
        )
    }

    fn write_loop(&self, out: &mut String) -> fmt::Result {
        let Self { pass, storage, .. } = self;
        let real = storage.compute();
        for term in 0..pass.terms.len() {
            writeln!(out, "    {real} s{term} = 0;")?;
            if self.widens() {
                writeln!(out, "    double w{term} = 0.0;")?;
            }
        }
        if pass.log_ratio.is_some() {
            writeln!(out, "    double above = 1.0, below = 1.0, log_sum = 0.0;")?;
        }
        if pass.watched.is_some() {
            writeln!(
                out,
                "    {real} pivot = 0, off = 0, off2 = 0, delta2 = 0, least = 0, most = 0, low = 0, high = 0;"
            )?;
        }
        let nodes = || self.recording.nodes.iter().enumerate().filter(|(_, node)| !node.is_same_for_all());
        let loads: Vec<(usize, String)> = nodes().filter_map(|(place, node)| Some((place, node.memory()?))).collect();
        writeln!(out, "    for (unsigned int first = 0; first < count; first += {}u) {{", TOGETHER * LANES)?;
        // All loads come before the first store, which a compiler could not move them over.
        for (place, memory) in &loads {
            let of = if memory.starts_with("state") { real } else { storage.stored() };
            writeln!(out, "        {of} r{place}[{TOGETHER}];")?;
        }
        Self::begin_elements(out)?;
        writeln!(out, "        if (here) {{")?;
        for (place, memory) in &loads {
            writeln!(out, "            r{place}[e] = {memory}[i];")?;
        }
        writeln!(out, "        }}\n        }}")?;
        Self::begin_elements(out)?;
        if pass.watched.is_some() {
            writeln!(out, "        {real} alpha = 0, delta = 0;")?;
        }
        writeln!(out, "        if (here) {{")?;
        for (place, node) in nodes() {
            let text = node.text(*storage, &format!("r{place}[e]"));
            writeln!(out, "            const {real} v{place} = {text};")?;
        }
        for (target, place) in &pass.writes {
            match target {
                Target::Theta => writeln!(out, "            theta[i] = {};", storage.written(&format!("v{place}")))?,
                Target::State(buffer) => writeln!(out, "            state{buffer}[i] = v{place};")?,
            }
        }
        for (k, term) in pass.terms.iter().enumerate() {
            let (narrow, wide) = match *term {
                Term::Sum(x) => (format!("v{x}"), format!("(double)v{x}")),
                Term::Square(x) => (storage.rounded("mul", &[x, x]), format!("__dmul_rn((double)v{x}, (double)v{x})")),
                Term::Dot(x, y) => (storage.rounded("mul", &[x, y]), format!("__dmul_rn((double)v{x}, (double)v{y})")),
            };
            writeln!(out, "            s{k} = {}(s{k}, {narrow});", self.add())?;
            if self.widens() {
                writeln!(out, "            w{k} = __dadd_rn(w{k}, {wide});")?;
            }
        }
        if let Some([x, y, eps]) = pass.log_ratio {
            writeln!(out, "            above = __dmul_rn(above, v{x} > v{eps} ? v{x} : v{eps});")?;
            writeln!(out, "            below = __dmul_rn(below, v{y} > v{eps} ? v{y} : v{eps});")?;
        }
        if let Some([alpha, delta, near, far]) = pass.watched {
            writeln!(out, "            alpha = v{alpha};\n            delta = v{delta};")?;
            writeln!(
                out,
                "            low += v{alpha} <= v{near} ? 1 : 0;\n            high += v{alpha} >= v{far} ? 1 : 0;"
            )?;
        }
        writeln!(out, "        }}")?;
        if pass.log_ratio.is_some() {
            // Sixteen factors are far from the ends of double precision.
            writeln!(out, "        if (k % {}u == {}u) {{", 16 * LANES, 15 * LANES)?;
            writeln!(
                out,
                "            log_sum += log(above / below);\n            above = 1.0;\n            below = 1.0;"
            )?;
            writeln!(out, "        }}")?;
        }
        if pass.watched.is_some() {
            self.write_watch(out)?;
        }
        writeln!(out, "        }}\n    }}")
    }

    /// Writes the beginning of a loop over the elements that a thread handles together, a row of a warp's block each.
    fn begin_elements(out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "#pragma unroll
        for (unsigned int e = 0; e < {TOGETHER}u; e += 1) {{
        const unsigned int k = first + {LANES}u * e;
        const unsigned int i = begin + k + lane;
        const bool here = k + lane < count;"
        )
    }

    /// Writes the sums of [`Pass::watched`]. They have half as many lanes as a warp has threads: each thread of the first half adds its own element, then that
    /// of a thread of the other half.
    fn write_watch(&self, out: &mut String) -> fmt::Result {
        let (real, add) = (self.storage.compute(), self.add());
        let (sub, mul) = (add.replace("add", "sub"), add.replace("add", "mul"));
        writeln!(
            out,
            "        if (k == 0) {{
            pivot = __shfl_sync(0xffffffffu, alpha, 0);
            least = pivot;
            most = pivot;
        }}
        const {real} next = __shfl_down_sync(0xffffffffu, alpha, {WATCH_LANES}u);
        const {real} next_delta = __shfl_down_sync(0xffffffffu, delta, {WATCH_LANES}u);
        if (lane < {WATCH_LANES}u && here) {{
            const {real} d = {sub}(alpha, pivot);
            off = {add}(off, d);
            off2 = {add}(off2, {mul}(d, d));
            delta2 = {add}(delta2, {mul}(delta, delta));
        }}
        if (lane < {WATCH_LANES}u && k + lane + {WATCH_LANES}u < count) {{
            const {real} d = {sub}(next, pivot);
            off = {add}(off, d);
            off2 = {add}(off2, {mul}(d, d));
            delta2 = {add}(delta2, {mul}(next_delta, next_delta));
        }}
        if (here) {{
            least = alpha < least ? alpha : least;
            most = most < alpha ? alpha : most;
        }}"
        )
    }

    /// Writes the additions of lanes, in order, by one thread for each sum, and then of blocks, in order.
    fn write_totals(&self, out: &mut String) -> fmt::Result {
        let (terms, outputs) = (self.pass.terms.len(), self.pass.outputs());
        for k in 0..terms {
            writeln!(out, "    lanes[{k}][warp][lane] = s{k};")?;
            if self.widens() {
                writeln!(out, "    wide_lanes[{k}][warp][lane] = w{k};")?;
            }
        }
        if self.pass.log_ratio.is_some() {
            writeln!(out, "    logs[warp][lane] = log_sum + log(above / below);")?;
        }
        if self.pass.watched.is_some() {
            writeln!(out, "    if (lane < {WATCH_LANES}u) {{")?;
            for (k, sum) in ["off", "off2", "delta2"].iter().enumerate() {
                writeln!(out, "        watched[{k}][warp][lane] = {sum};")?;
            }
            writeln!(out, "    }}")?;
            for (k, sum) in ["least", "most", "low", "high"].iter().enumerate() {
                writeln!(out, "    seen[{k}][warp][lane] = {sum};")?;
            }
        }
        writeln!(out, "    __syncthreads();")?;
        if terms > 0 {
            let squares = self.pass.terms.iter().map(|term| matches!(term, Term::Square(_)));
            let mask: u32 = squares.enumerate().map(|(k, square)| u32::from(square) << k).sum();
            writeln!(
                out,
                "    if (count > 0u && lane < {terms}u) {{
        double total = 0.0;
        for (unsigned int l = 0; l < {LANES}u; l += 1) {{
            total = __dadd_rn(total, (double)lanes[lane][warp][l]);
        }}"
            )?;
            if self.widens() {
                writeln!(
                    out,
                    "        if (__dsub_rn(total, total) != 0.0 || (({mask}u >> lane & 1u) != 0u && total == 0.0)) {{
            total = 0.0;
            for (unsigned int l = 0; l < {LANES}u; l += 1) {{
                total = __dadd_rn(total, wide_lanes[lane][warp][l]);
            }}
        }}"
                )?;
            }
            writeln!(out, "        totals[warp][lane] = total;\n    }}")?;
        }
        if self.pass.log_ratio.is_some() {
            writeln!(
                out,
                "    if (count > 0u && lane == {LANES}u - 1u) {{
        double total = 0.0;
        for (unsigned int l = 0; l < {LANES}u; l += 1) {{
            total += logs[warp][l];
        }}
        totals[warp][{terms}] = total;
    }}"
            )?;
        }
        if self.pass.watched.is_some() {
            self.write_watched(out)?;
        }
        let least = self.least.map_or(-1, usize::cast_signed);
        writeln!(
            out,
            "    __syncthreads();
    if (threadIdx.x < {outputs}u) {{
        const int k = (int)threadIdx.x;
        double total = k == {least} ? 1.0 / 0.0 : k == {least} + 1 && k > 0 && {least} >= 0 ? -1.0 / 0.0 : 0.0;
        for (unsigned int w = 0; {BLOCK}u * w < length; w += 1) {{
            const double x = totals[w][k];
            if ({least} >= 0 && k == {least}) {{
                total = x < total ? x : total;
            }} else if ({least} >= 0 && k == {least} + 1) {{
                total = total < x ? x : total;
            }} else {{
                total = __dadd_rn(total, x);
            }}
        }}
        partial[{outputs}ull * blockIdx.x + threadIdx.x] = total;
    }}"
        )
    }

    fn write_watched(&self, out: &mut String) -> fmt::Result {
        let at = self.pass.outputs() - WATCHED;
        writeln!(
            out,
            "    if (count > 0u && lane == 0u) {{
        double sums[3] = {{0.0, 0.0, 0.0}};
        double low_count = 0.0, high_count = 0.0, smallest = 1.0 / 0.0, largest = -1.0 / 0.0;
        for (unsigned int l = 0; l < {WATCH_LANES}u; l += 1) {{
            for (unsigned int s = 0; s < 3u; s += 1) {{
                sums[s] = __dadd_rn(sums[s], (double)watched[s][warp][l]);
            }}
        }}
        for (unsigned int l = 0; l < {LANES}u; l += 1) {{
            smallest = (double)seen[0][warp][l] < smallest ? (double)seen[0][warp][l] : smallest;
            largest = largest < (double)seen[1][warp][l] ? (double)seen[1][warp][l] : largest;
            low_count += (double)seen[2][warp][l];
            high_count += (double)seen[3][warp][l];
        }}
        const double n = (double)count, c = (double)pivot;
        double *const to = totals[warp] + {at};
        to[0] = sums[2];
        to[1] = __dadd_rn(__dmul_rn(n, c), sums[0]);
        to[2] = __dadd_rn(__dadd_rn(__dmul_rn(__dmul_rn(n, c), c), __dmul_rn(__dmul_rn(2.0, c), sums[0])), sums[1]);
        to[3] = smallest;
        to[4] = largest;
        to[5] = low_count;
        to[6] = high_count;
    }}"
        )
    }

    /// Whether sums are also computed in double precision, for those that leave the range of the type of the computation.
    fn widens(&self) -> bool {
        self.storage != Storage::F64
    }

    /// The CUDA function that adds and rounds to nearest.
    fn add(&self) -> &'static str {
        if self.storage == Storage::F64 { "__dadd_rn" } else { "__fadd_rn" }
    }
}

impl Node {
    /// Whether the node is the same for all elements of a tensor. States after the last buffer are numbers of the tensor's row.
    fn is_same_for_all(self) -> bool {
        match self {
            Self::Argument(_) | Self::Constant(_) | Self::Largest => true,
            Self::State(k) => k >= BUFFERS,
            _ => false,
        }
    }

    fn buffer(self) -> Option<usize> {
        if let Self::State(buffer) = self { Some(buffer).filter(|k| *k < BUFFERS) } else { None }
    }
}
