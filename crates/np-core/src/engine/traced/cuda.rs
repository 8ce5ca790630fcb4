//! Expressions as CUDA kernels: one for all tensors of a step, over a table of chunks.
//!
//! Only the text is made here. It needs no header, and is compiled at run time (NVRTC) once for each text: arguments, which change from step to step, are read
//! from memory. Products and sums are rounded apart, as on the CPU, whatever the compiler's options.

use std::fmt::{self, Write as _};

use super::{Expression, Node, Outcome};

/// Name of every kernel's function: `np_step(const Chunk *chunks, const T *arguments)`, a block for each chunk.
pub const NAME: &str = "np_step";

/// Most buffers of state that a chunk has room for.
const BUFFERS: usize = 4;

/// A row of a kernel's table: a part of one tensor, in addresses of the device. Of the kernel's text, `struct Chunk` has the same fields in the same order.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The parameter's first element.
    pub theta: u64,
    /// The gradient's.
    pub gradient: u64,
    /// The buffers', as many as there are.
    pub state: [u64; BUFFERS],
    /// Where directions go, if the outcome is one.
    pub direction: u64,
    /// How many elements.
    pub length: u32,
    /// Which block of arguments is the tensor's, counted from 0: each is as long as [`Expression::arguments`].
    pub tensor: u32,
}

/// How parameters and gradients are stored. State, directions and arguments are `double` with the second, `float` with all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// IEEE's half precision. Steps are rounded to the nearest.
    F16,
    /// The upper half of single precision, likewise.
    Bf16,
}

impl Storage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::F32, Self::F64, Self::F16, Self::Bf16];

    /// The type that is computed in.
    fn compute(self) -> &'static str {
        if self == Self::F64 { "double" } else { "float" }
    }

    fn stored(self) -> &'static str {
        match self {
            Self::F32 => "float",
            Self::F64 => "double",
            Self::F16 | Self::Bf16 => "unsigned short",
        }
    }

    /// What stands between memory and the numbers that are computed with.
    fn conversions(self) -> &'static str {
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

    fn written(self, value: &str) -> String {
        if self.conversions().is_empty() { value.to_string() } else { format!("narrow({value})") }
    }

    /// The function that rounds the result of `operation` to the nearest, and is not contracted with another.
    fn rounded(self, operation: &str, operands: &[usize]) -> String {
        let operands: Vec<String> = operands.iter().map(|place| format!("v{place}")).collect();
        let letter = if self == Self::F64 { 'd' } else { 'f' };
        format!("__{letter}{operation}_rn({})", operands.join(", "))
    }

    /// The largest finite number of the type that is computed in.
    fn largest(self) -> f64 {
        if self == Self::F64 { f64::MAX } else { f32::MAX.into() }
    }

    /// `x` exactly.
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

/// A finite number in hexadecimal digits, which say it exactly.
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
    /// The kernel that does this to every element of every chunk, for parameters stored as `storage`.
    ///
    /// The text is a function of the expression: it is the key under which the compiled kernel may be kept.
    #[must_use]
    pub fn kernel(&self, storage: Storage) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write_kernel(&mut text, storage);
        text
    }

    fn write_kernel(&self, out: &mut String, storage: Storage) -> fmt::Result {
        let (real, stored, buffers) = (storage.compute(), storage.stored(), self.state.len());
        writeln!(
            out,
            "// One step of an element-wise optimizer, recorded from its formula. A block of threads does a chunk."
        )?;
        writeln!(out, "struct Chunk {{")?;
        writeln!(out, "    {stored} *theta;\n    const {stored} *gradient;\n    {real} *state[{BUFFERS}];")?;
        writeln!(out, "    {real} *direction;\n    unsigned int length;\n    unsigned int tensor;\n}};")?;
        writeln!(out, "{}", storage.conversions())?;
        writeln!(out, "extern \"C\" __global__ void {NAME}(const Chunk *chunks, const {real} *arguments) {{")?;
        writeln!(out, "    const Chunk chunk = chunks[blockIdx.x];")?;
        self.write_before(out, storage)?;
        writeln!(out, "    for (unsigned int i = threadIdx.x; i < chunk.length; i += blockDim.x) {{")?;
        for (place, node) in self.nodes.iter().enumerate() {
            if !matches!(node, Node::Argument(_) | Node::Constant(_) | Node::Largest) {
                writeln!(out, "        const {real} v{place} = {};", self.operation(*node, storage))?;
            }
        }
        match self.outcome {
            Outcome::Step => {
                writeln!(out, "        theta[i] = {};", storage.written(&format!("v{}", self.result)))?;
            }
            Outcome::Direction => writeln!(out, "        direction[i] = v{};", self.result)?,
        }
        for (buffer, place) in self.state.iter().enumerate().take(buffers) {
            writeln!(out, "        state{buffer}[i] = v{place};")?;
        }
        writeln!(out, "    }}\n}}")
    }

    /// What is the same for all elements of a chunk: where they are, arguments, constants.
    fn write_before(&self, out: &mut String, storage: Storage) -> fmt::Result {
        let (real, stored) = (storage.compute(), storage.stored());
        writeln!(out, "    {stored} *__restrict__ const theta = chunk.theta;")?;
        writeln!(out, "    const {stored} *__restrict__ const gradient = chunk.gradient;")?;
        for buffer in 0..self.state.len() {
            writeln!(out, "    {real} *__restrict__ const state{buffer} = chunk.state[{buffer}];")?;
        }
        if self.outcome == Outcome::Direction {
            writeln!(out, "    {real} *__restrict__ const direction = chunk.direction;")?;
        }
        writeln!(out, "    const {real} *__restrict__ const a = arguments + {}ull * chunk.tensor;", self.arguments)?;
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

    fn operation(&self, node: Node, storage: Storage) -> String {
        match node {
            Node::Theta => storage.read("theta[i]"),
            Node::Gradient => storage.read("gradient[i]"),
            Node::State(buffer) => format!("state{buffer}[i]"),
            Node::Argument(argument) => format!("a[{argument}]"),
            Node::Constant(bits) => storage.constant(f64::from_bits(bits)),
            Node::Largest => storage.constant(storage.largest()),
            Node::Negate(a) => format!("-v{a}"),
            Node::Abs(a) if storage == Storage::F64 => format!("fabs(v{a})"),
            Node::Abs(a) => format!("fabsf(v{a})"),
            Node::Sqrt(a) => storage.rounded("sqrt", &[a]),
            Node::Add(a, b) => storage.rounded("add", &[a, b]),
            Node::Subtract(a, b) => storage.rounded("sub", &[a, b]),
            Node::Multiply(a, b) => storage.rounded("mul", &[a, b]),
            Node::Divide(a, b) => storage.rounded("div", &[a, b]),
            Node::SelectLt([a, b, yes, no]) => format!("v{a} < v{b} ? v{yes} : v{no}"),
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

    /// Eight addresses: what the text's `struct Chunk` takes on a 64-bit device.
    #[test]
    fn a_chunk_has_the_size_of_its_text() {
        assert_eq!(size_of::<Chunk>(), 64);
    }
}
