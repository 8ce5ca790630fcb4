//! The host as an engine: kernels compiled as C++, convolutions and products as plain loops in double precision.
#![allow(unsafe_code, clippy::unwrap_used)]

use candle_core::{DType, Tensor};
use libloading::Library;
use np_cuda::Result;
use np_cuda::engine::{Convolution, Direction, Engine, Math, Product};
use np_cuda::machine::Machine;
use np_models::Model;
use np_models::cuda::program::{Addresses, texts};
use np_models::cuda::{Architecture, BatchShape, ImageLayout, Pass, Precision, Program, Totals};

use crate::host::{Host, SHIM, address, compile};

/// Kernels, compiled together: what C++ wants besides takes longer than a kernel.
pub(crate) struct HostEngine {
    buffers: Host,
    texts: Vec<String>,
    compiled: Library,
    _folder: tempfile::TempDir,
}

impl HostEngine {
    pub(crate) fn new<'a>(kernels: impl IntoIterator<Item = &'a texts::Kernel>) -> Self {
        let (mut texts, mut source, mut cases) = (Vec::new(), SHIM.to_owned(), String::new());
        for kernel in kernels {
            if texts.contains(&kernel.text) {
                continue;
            }
            let (number, text) = (texts.len(), kernel.text.replace("extern \"C\"", ""));
            let together = text.contains("__sync") || text.contains("__shfl");
            source += &format!(
                "namespace k{number} {{\n#undef V\n#undef QUARTER\n#undef RELU\n#undef FROM_Y\n#undef TWO\n#undef WRITE\n{text}\n}}\n"
            );
            let name = format!("k{number}::{}", kernel.name);
            cases += &format!(
                "case {number}: wrong = misfit({name}, words, count); \
                 if (wrong == -1) {{ run_grid({name}, blocks, threads, words, {together}); }} break;\n"
            );
            texts.push(kernel.text.clone());
        }
        source += &format!(
            "extern \"C\" int run(unsigned which, unsigned blocks, unsigned threads, const unsigned long long *words, unsigned count) \
             {{ int wrong = -3; switch (which) {{\n{cases}}} return wrong; }}\n"
        );
        let folder = tempfile::tempdir().unwrap();
        let (file, library) = (folder.path().join("kernels.cpp"), folder.path().join("kernels.so"));
        std::fs::write(&file, source).unwrap();
        compile(&file, &library);
        // SAFETY: it has nothing that runs when it is loaded.
        let library = unsafe { Library::new(&library) }.unwrap();
        Self { buffers: Host::default(), texts, compiled: library, _folder: folder }
    }
}

impl Machine for HostEngine {
    fn upload(&mut self, buffer: usize, bytes: &[u8]) -> Result<u64> {
        self.buffers.upload(buffer, bytes)
    }

    fn reserve(&mut self, buffer: usize, bytes: usize) -> Result<u64> {
        self.buffers.reserve(buffer, bytes)
    }

    fn launch(&mut self, text: &str, name: &str, blocks: usize, threads: u32, words: &[u64]) -> Result<()> {
        type Run = unsafe extern "C" fn(u32, u32, u32, *const u64, u32) -> i32;
        let which = self.texts.iter().position(|known| known == text).unwrap() as u32;
        // SAFETY: the type is the one written above; words are what the kernel's parameters are, as far as `misfit` sees.
        let wrong = unsafe {
            let run = self.compiled.get::<Run>(b"run\0").unwrap();
            run(which, u32::try_from(blocks).unwrap(), threads, words.as_ptr(), u32::try_from(words.len()).unwrap())
        };
        assert_eq!(wrong, -1, "{name}: word {wrong} of {words:x?}");
        Ok(())
    }

    fn numbers(&mut self, buffer: usize, count: usize) -> Result<Vec<f64>> {
        self.buffers.numbers(buffer, count)
    }
}

/// `len` numbers at an address, as they are stored.
fn read(math: Math, address: u64, len: usize) -> Vec<f64> {
    // SAFETY: addresses are of buffers of the program, which are as long as its shapes say.
    unsafe {
        match math {
            Math::Bf16 => {
                let from = std::slice::from_raw_parts(address as *const u16, len);
                from.iter().map(|x| f64::from(f32::from_bits(u32::from(*x) << 16))).collect()
            }
            _ => std::slice::from_raw_parts(address as *const f32, len).iter().map(|x| f64::from(*x)).collect(),
        }
    }
}

fn write(math: Math, address: u64, values: &[f64]) {
    // SAFETY: as above.
    unsafe {
        match math {
            Math::Bf16 => {
                let to = std::slice::from_raw_parts_mut(address as *mut u16, values.len());
                for (to, x) in to.iter_mut().zip(values) {
                    let bits = (*x as f32).to_bits();
                    *to = ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16;
                    if x.is_nan() {
                        *to = 0x7fc0;
                    }
                }
            }
            _ => {
                let to = std::slice::from_raw_parts_mut(address as *mut f32, values.len());
                to.iter_mut().zip(values).for_each(|(to, x)| *to = *x as f32);
            }
        }
    }
}

/// Calls `f` with the places in x, w and y of every product of a convolution.
fn each(s: &Convolution, mut f: impl FnMut(usize, usize, usize)) {
    for n in 0..s.images {
        for oy in 0..s.output_height() {
            for ox in 0..s.output_width() {
                for ky in 0..s.kernel {
                    for kx in 0..s.kernel {
                        let (y, x) = (oy * s.stride + ky, ox * s.stride + kx);
                        if y < s.padding || x < s.padding || y - s.padding >= s.height || x - s.padding >= s.width {
                            continue;
                        }
                        let from = ((n * s.height + y - s.padding) * s.width + x - s.padding) * s.inputs;
                        let to = ((n * s.output_height() + oy) * s.output_width() + ox) * s.outputs;
                        for o in 0..s.outputs {
                            let w = ((o * s.kernel + ky) * s.kernel + kx) * s.inputs;
                            for c in 0..s.inputs {
                                f(from + c, w + c, to + o);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Engine for HostEngine {
    fn convolve(&mut self, s: &Convolution, direction: Direction, [a, b, c]: [u64; 3]) -> Result<()> {
        let (x, w, y) = (s.input_len(), s.filter_len(), s.output_len());
        let [la, lb, lc] = match direction {
            Direction::Forward => [x, w, y],
            Direction::BackwardData => [y, w, x],
            Direction::BackwardFilter => [x, y, w],
        };
        let (a, b, mut out) = (read(s.math, a, la), read(s.math, b, lb), vec![0.0; lc]);
        each(s, |x, w, y| match direction {
            Direction::Forward => out[y] += a[x] * b[w],
            Direction::BackwardData => out[x] += a[y] * b[w],
            Direction::BackwardFilter => out[w] += a[x] * b[y],
        });
        write(s.math, c, &out);
        Ok(())
    }

    fn multiply(&mut self, p: &Product, [a, b, c]: [u64; 3]) -> Result<()> {
        let (a, b) = (read(p.math, a, p.rows * p.inner), read(p.math, b, p.inner * p.columns));
        let mut out = vec![0.0; p.rows * p.columns];
        for r in 0..p.rows {
            for k in 0..p.inner {
                let x = if p.transpose_a { a[k * p.rows + r] } else { a[r * p.inner + k] };
                for j in 0..p.columns {
                    out[r * p.columns + j] += x * if p.transpose_b { b[j * p.inner + k] } else { b[k * p.columns + j] };
                }
            }
        }
        write(Math::Single, c, &out);
        Ok(())
    }
}

/// A model's copy in the host's memory, with its programs.
pub(crate) struct HostRun {
    engine: HostEngine,
    shape: BatchShape,
    programs: [(Program, Addresses); 2],
    _memory: Vec<Vec<u64>>,
    _parameters: Vec<Vec<f32>>,
    /// As the last step has left them.
    pub(crate) gradients: Vec<Vec<f32>>,
    /// Running statistics.
    pub(crate) statistics: Vec<Vec<f32>>,
    totals: [Vec<u64>; 2],
}

fn single(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

impl HostRun {
    pub(crate) fn new(architecture: &Architecture, model: &dyn Model, shape: BatchShape, precision: Precision) -> Self {
        let made = [(Pass::Train, shape.images), (Pass::Evaluate, shape.evaluation)]
            .map(|(pass, images)| Program::new(architecture, &shape, images, precision, pass).unwrap());
        let mut engine = HostEngine::new(made.iter().flat_map(|program| &program.kernels));
        let mut parameters: Vec<_> = model.parameters().iter().map(|(_, var)| single(var)).collect();
        let mut gradients: Vec<_> = parameters.iter().map(|p| vec![f32::NAN; p.len()]).collect();
        let mut statistics: Vec<_> = model.buffers().iter().map(|(_, var)| single(var)).collect();
        let mut totals = [vec![0u64; texts::totals::WORDS], vec![0u64; texts::totals::WORDS]];
        let mut memory = Vec::new();
        let programs = [0, 1].map(|number| {
            let program = made[number].clone();
            // Nothing but not-a-numbers, whatever they are read as.
            let (mut arena, mut position) = (vec![u64::MAX; program.bytes / 8 + 32], vec![0u64; 1]);
            let mut at = Addresses {
                arena: address(&mut arena).next_multiple_of(256),
                parameters: parameters.iter_mut().map(|p| address(p)).collect(),
                gradients: gradients.iter_mut().map(|p| address(p)).collect(),
                statistics: statistics.iter_mut().map(|p| address(p)).collect(),
                position: address(&mut position),
                totals: address(&mut totals[number]),
                tables: 0,
            };
            memory.extend([arena, position]);
            at.tables = engine.upload(number, &program.tables(&at).unwrap()).unwrap();
            (program, at)
        });
        Self { engine, shape, programs, _memory: memory, _parameters: parameters, gradients, statistics, totals }
    }

    fn pass(&mut self, number: usize, images: &Tensor, labels: &[u32], step: u64) {
        let images = match self.shape.layout {
            ImageLayout::ChannelsFirst => images.clone(),
            ImageLayout::ChannelsLast => images.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap(),
        };
        let (mut images, mut labels) = (single(&images), labels.to_vec());
        let (program, at) = &self.programs[number];
        program.load(&mut self.engine, at, address(&mut images), address(&mut labels), step).unwrap();
        program.run(&mut self.engine, at).unwrap();
    }

    pub(crate) fn step(&mut self, images: &Tensor, labels: &[u32], step: u64) {
        self.pass(0, images, labels, step);
    }

    pub(crate) fn evaluate(&mut self, images: &Tensor, labels: &[u32]) {
        self.pass(1, images, labels, 0);
    }

    pub(crate) fn totals(&self, pass: Pass) -> Totals {
        Totals::from_words(&self.totals[usize::from(pass == Pass::Evaluate)])
    }
}
