//! CUDA kernels generated from expressions. One launch serves all tensors of a step; their addresses are in a table.
//!
//! This module generates only the source text. It needs no header, and NVRTC compiles each text once: arguments, which change from step to step, are
//! read from memory. Products and sums are rounded separately, as on the CPU, whatever the compiler's options.

use std::fmt::{self, Write as _};

use np_cuda::table::{PIECE, beginning, declarations};

use super::{Expression, Node, Outcome};

/// Name of every kernel's function, `np_step(const Piece *pieces, const Tensor *tensors, const T *arguments)`. It is launched with a block of threads for each
/// piece of [`PIECE`] elements, over the tables of [`np_cuda::table`].
pub const NAME: &str = "np_step";

/// How many elements a thread loads before it computes with the first: with more it waits less for memory.
const TOGETHER: usize = 4;

impl Node {
    /// The name of the array that has its values, if they are in memory.
    pub(crate) fn memory(self) -> Option<String> {
        match self {
            Self::Theta => Some("theta".to_string()),
            Self::Gradient => Some("gradient".to_string()),
            Self::State(buffer) => Some(format!("state{buffer}")),
            _ => None,
        }
    }
}

/// How parameters and gradients are stored. State, directions and arguments are `double` with [`Storage::F64`], else `float`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// IEEE half precision. Updated parameters are rounded to nearest.
    F16,
    /// bfloat16. Updated parameters are rounded to nearest.
    Bf16,
}

impl Storage {
    /// All four types.
    pub const ALL: [Self; 4] = [Self::F32, Self::F64, Self::F16, Self::Bf16];

    /// The type of the computation.
    #[must_use]
    pub fn compute(self) -> &'static str {
        if self == Self::F64 { "double" } else { "float" }
    }

    /// The type of parameters and gradients in memory.
    pub(crate) fn stored(self) -> &'static str {
        match self {
            Self::F32 => "float",
            Self::F64 => "double",
            Self::F16 | Self::Bf16 => "unsigned short",
        }
    }

    /// Source text of the conversions `widen` and `narrow` between the stored type and that of the computation; empty if they are the same.
    pub(crate) fn conversions(self) -> &'static str {
        match self {
            Self::F32 | Self::F64 => "",
            Self::F16 => {
                r#"
__device__ __forceinline__ float widen(unsigned short x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}

__device__ __forceinline__ unsigned short narrow(float x) {
    unsigned short y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}
"#
            }
            // To the nearest, to an even last bit where two are as near; not-a-number keeps a bit of its mantissa.
            Self::Bf16 => {
                r"
__device__ __forceinline__ float widen(unsigned short x) {
    return __uint_as_float((unsigned int)x << 16);
}

__device__ __forceinline__ unsigned short narrow(float x) {
    const unsigned int bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (unsigned short)(bits >> 16 | 0x40u);
    }
    return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
"
            }
        }
    }

    fn read(self, place: &str) -> String {
        if self.conversions().is_empty() { place.to_string() } else { format!("widen({place})") }
    }

    pub(crate) fn written(self, value: &str) -> String {
        if self.conversions().is_empty() { value.to_string() } else { format!("narrow({value})") }
    }

    /// Source text of the kernel that sums the squares of gradients of this type ([`np_cuda::sums::squares`]).
    #[must_use]
    pub fn squares(self) -> String {
        let read = if self.conversions().is_empty() { "" } else { "widen" };
        np_cuda::sums::squares(self.stored(), self.compute(), self.conversions(), read)
    }

    /// A call of the CUDA intrinsic that rounds the result of `operation` to nearest, which the compiler never fuses with another operation.
    pub(crate) fn rounded(self, operation: &str, operands: &[usize]) -> String {
        let operands: Vec<String> = operands.iter().map(|place| format!("v{place}")).collect();
        let letter = if self == Self::F64 { 'd' } else { 'f' };
        format!("__{letter}{operation}_rn({})", operands.join(", "))
    }

    /// The largest finite number of the type of the computation.
    fn largest(self) -> f64 {
        if self == Self::F64 { f64::MAX } else { f32::MAX.into() }
    }

    /// `x` as an exact literal.
    fn constant(self, x: f64) -> String {
        if x.is_nan() {
            return "(0.0f / 0.0f)".to_string();
        }
        if x.is_infinite() {
            return format!("({}1.0f / 0.0f)", if x < 0.0 { "-" } else { "" });
        }
        // What is a number of single precision is written as one of double precision too.
        #[allow(clippy::cast_possible_truncation)]
        if self == Self::F64 { Hex(x).to_string() } else { format!("{}f", Hex(f64::from(x as f32))) }
    }
}

/// A finite number as a hexadecimal literal, which is exact.
struct Hex(f64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MANTISSA: u32 = 52;
        let bits = self.0.to_bits();
        let (exponent, mantissa) = (bits >> MANTISSA & 0x7ff, bits & ((1 << MANTISSA) - 1));
        let (lead, exponent) = match (exponent, mantissa) {
            (0, 0) => (0, 0),
            (0, _) => (0, -1022),
            (e, _) => (1, i64::try_from(e).unwrap_or(0) - 1023),
        };
        let digits = format!("{mantissa:013x}");
        let digits = digits.trim_end_matches('0');
        let (sign, point) =
            (if self.0.is_sign_negative() { "-" } else { "" }, if digits.is_empty() { "" } else { "." });
        write!(f, "{sign}0x{lead}{point}{digits}p{exponent:+}")
    }
}

impl Expression {
    /// Source text of the kernel that evaluates the expression for every element of every tensor, for parameters stored as `storage`.
    ///
    /// The text depends on the expression and `storage` only, so that it can serve as the key of a cache of compiled kernels.
    #[must_use]
    pub fn kernel(&self, storage: Storage) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write_kernel(&mut text, storage);
        text
    }

    fn write_kernel(&self, out: &mut String, storage: Storage) -> fmt::Result {
        let (real, stored) = (storage.compute(), storage.stored());
        writeln!(
            out,
            "// One step of an element-wise optimizer, recorded from its formula. A block of threads does a piece of a tensor."
        )?;
        write!(out, "{}", declarations(stored, real))?;
        writeln!(out, "{}", storage.conversions())?;
        writeln!(
            out,
            "extern \"C\" __global__ void {NAME}(const Piece *pieces, const Tensor *tensors, const {real} *arguments) {{"
        )?;
        write!(out, "{}", beginning(PIECE))?;
        self.write_before(out, storage)?;
        writeln!(
            out,
            "    for (unsigned int first = threadIdx.x; first < length; first += {TOGETHER}u * blockDim.x) {{"
        )?;
        // All loads come before the first store, which a compiler could not move them over.
        let loads: Vec<(usize, String)> =
            (0..).zip(&self.nodes).filter_map(|(place, node)| Some((place, node.memory()?))).collect();
        for (place, memory) in &loads {
            let of = if memory.starts_with("state") { real } else { stored };
            writeln!(out, "        {of} r{place}[{TOGETHER}];")?;
        }
        Self::write_loop(out, |out| {
            loads.iter().try_for_each(|(place, memory)| writeln!(out, "                r{place}[k] = {memory}[i];"))
        })?;
        Self::write_loop(out, |out| {
            for (place, node) in self.nodes.iter().enumerate() {
                if !matches!(node, Node::Argument(_) | Node::Constant(_) | Node::Largest) {
                    writeln!(out, "                const {real} v{place} = {};", self.operation(place, storage))?;
                }
            }
            match self.outcome {
                Outcome::Step => {
                    writeln!(out, "                theta[i] = {};", storage.written(&format!("v{}", self.result)))?;
                }
                Outcome::Direction => writeln!(out, "                direction[i] = v{};", self.result)?,
            }
            let mut state = self.state.iter().enumerate();
            state.try_for_each(|(buffer, place)| writeln!(out, "                state{buffer}[i] = v{place};"))
        })?;
        writeln!(out, "    }}\n}}")
    }

    /// Writes a loop over the elements that a thread handles together.
    fn write_loop(out: &mut String, body: impl FnOnce(&mut String) -> fmt::Result) -> fmt::Result {
        writeln!(out, "#pragma unroll")?;
        writeln!(out, "        for (unsigned int k = 0; k < {TOGETHER}u; k += 1) {{")?;
        writeln!(out, "            const unsigned int i = first + k * blockDim.x;")?;
        writeln!(out, "            if (i < length) {{")?;
        body(out)?;
        writeln!(out, "            }}\n        }}")
    }

    /// Writes what is the same for all elements of a piece: pointers, arguments and constants.
    fn write_before(&self, out: &mut String, storage: Storage) -> fmt::Result {
        let (real, stored) = (storage.compute(), storage.stored());
        writeln!(out, "    {stored} *__restrict__ const theta = tensor.theta + start;")?;
        writeln!(out, "    const {stored} *__restrict__ const gradient = tensor.gradient + start;")?;
        for buffer in 0..self.state.len() {
            writeln!(out, "    {real} *__restrict__ const state{buffer} = tensor.state[{buffer}] + start;")?;
        }
        if self.outcome == Outcome::Direction {
            writeln!(out, "    {real} *__restrict__ const direction = tensor.direction + start;")?;
        }
        writeln!(
            out,
            "    const {real} *__restrict__ const a = arguments + {}ull * tensor.arguments;",
            self.arguments
        )?;
        for (place, node) in self.nodes.iter().enumerate() {
            match node {
                Node::Argument(argument) => writeln!(out, "    const {real} v{place} = a[{argument}];")?,
                Node::Constant(bits) => {
                    writeln!(out, "    const {real} v{place} = {};", storage.constant(f64::from_bits(*bits)))?;
                }
                Node::Largest => writeln!(out, "    const {real} v{place} = {};", storage.constant(storage.largest()))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn operation(&self, place: usize, storage: Storage) -> String {
        self.nodes[place].text(storage, &format!("r{place}[k]"))
    }
}

impl Node {
    /// The operation as C code, with operands `v0`, `v1`, … by index; `memory` is the expression that reads its value, if that is in memory.
    pub(crate) fn text(self, storage: Storage, memory: &str) -> String {
        match self {
            Self::Theta | Self::Gradient => storage.read(memory),
            Self::State(_) => memory.to_string(),
            Self::Argument(argument) => format!("a[{argument}]"),
            Self::Constant(bits) => storage.constant(f64::from_bits(bits)),
            Self::Largest => storage.constant(storage.largest()),
            Self::Negate(a) => format!("-v{a}"),
            Self::Abs(a) if storage == Storage::F64 => format!("fabs(v{a})"),
            Self::Abs(a) => format!("fabsf(v{a})"),
            Self::Sqrt(a) => storage.rounded("sqrt", &[a]),
            Self::Add(a, b) => storage.rounded("add", &[a, b]),
            Self::Subtract(a, b) => storage.rounded("sub", &[a, b]),
            Self::Multiply(a, b) => storage.rounded("mul", &[a, b]),
            Self::Divide(a, b) => storage.rounded("div", &[a, b]),
            Self::SelectLt([a, b, yes, no]) => format!("v{a} < v{b} ? v{yes} : v{no}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As C's `printf("%a")` has them, but for the lead of what is below the least normal number.
    #[test]
    fn numbers_are_written_exactly() {
        let hex = [
            (0.0, "0x0p+0"),
            (-0.0, "-0x0p+0"),
            (1.0, "0x1p+0"),
            (0.1, "0x1.999999999999ap-4"),
            (-1.5, "-0x1.8p+0"),
            (1e300, "0x1.7e43c8800759cp+996"),
            (5e-324, "0x0.0000000000001p-1022"),
            (f64::MAX, "0x1.fffffffffffffp+1023"),
        ];
        for (x, text) in hex {
            assert_eq!(Hex(x).to_string(), text);
        }
        assert_eq!(Storage::F32.constant(0.1), "0x1.99999ap-4f");
        assert_eq!(Storage::Bf16.constant(Storage::Bf16.largest()), "0x1.fffffep+127f");
    }
}
