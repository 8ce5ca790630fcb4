//! Kernels run on the host: their text is compiled as C++ by the machine's `c++`; the threads of a block take turns, block after block.
//!
//! What a compiler for devices makes of the text is another matter; but indices, tables, barriers and the order of additions are the text's.
#![allow(unsafe_code, clippy::unwrap_used, clippy::print_stdout, dead_code, unreachable_pub)]

use std::path::Path;
use std::process::Command;

use libloading::Library;
use np_cuda::Result;
use np_cuda::machine::Machine;
use np_cuda::replay::Capturing;

/// What a device has and C++ has not.
pub const SHIM: &str = include_str!("shim.hpp");

/// A compiled kernel.
pub struct HostKernel {
    lib: Library,
    _folder: tempfile::TempDir,
}

/// Whether there is a compiler.
pub fn compiler() -> bool {
    let found = Command::new("c++").arg("--version").output().is_ok_and(|out| out.status.success());
    if !found {
        println!("not tried: no `c++`");
    }
    found
}

/// Compiles a file of C++ as a library.
pub fn compile(source: &Path, library: &Path) {
    let mut command = Command::new("c++");
    command.args(["-std=c++20", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-pthread", "-w", "-o"]);
    let out = command.arg(library).arg(source).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

impl HostKernel {
    /// The kernel of this text whose function is `name`.
    pub fn new(text: &str, name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (folder.path().join("kernel.cpp"), folder.path().join("kernel.so"));
        let ends = format!(
            "{SHIM}\n{text}\nextern \"C\" int run(unsigned blocks, unsigned threads, const unsigned long long *words, unsigned count) \
             {{ const int wrong = misfit({name}, words, count); \
                if (wrong == -1) {{ run_grid({name}, blocks, threads, words, {}); }} return wrong; }}\n",
            text.contains("__sync") || text.contains("__shfl"),
        );
        std::fs::write(&source, ends).unwrap();
        compile(&source, &library);
        // SAFETY: it has nothing that runs when it is loaded.
        Self { lib: unsafe { Library::new(&library) }.unwrap(), _folder: folder }
    }

    /// Runs `blocks` blocks of `threads` threads; parameters are `words` of eight bytes: as many as the kernel has, and where one is an address, one that is there and aligned.
    pub fn launch(&self, blocks: usize, threads: u32, words: &[u64]) {
        // SAFETY: the type is the one written above; the caller's words are what the kernel's parameters are, as far as can be seen before they are used.
        let wrong = unsafe {
            let run = self.lib.get::<unsafe extern "C" fn(u32, u32, *const u64, u32) -> i32>(b"run\0").unwrap();
            run(u32::try_from(blocks).unwrap(), threads, words.as_ptr(), u32::try_from(words.len()).unwrap())
        };
        assert_ne!(wrong, -2, "{} words are not as many as the kernel's parameters", words.len());
        assert_eq!(wrong, -1, "word {wrong} of {words:x?} is no address that its parameter can have");
    }
}

/// The address of memory that a kernel reads or writes.
pub fn address<T>(memory: &mut [T]) -> u64 {
    memory.as_mut_ptr() as u64
}

/// Launches that are replayed: text, function, blocks, threads, words.
pub type Captured = Vec<(String, String, usize, u32, Vec<u64>)>;

/// The host as a machine. Kernels are compiled as they come up.
#[derive(Default)]
pub struct Host {
    buffers: Vec<Vec<u64>>,
    kernels: Vec<(String, HostKernel)>,
    /// How often each function was launched, in the order in which they came up first.
    pub launched: Vec<(String, usize)>,
    /// How often numbers were waited for.
    pub waits: usize,
    /// How often bytes were copied to it.
    pub uploads: usize,
    /// What is captured just now.
    captured: Option<Captured>,
    /// How often launches were replayed.
    pub replays: usize,
}

impl Capturing for Host {
    type Graph = Captured;

    fn capture(&mut self, launch: impl FnOnce(&mut Self) -> Result<()>) -> Result<Captured> {
        self.captured = Some(vec![]);
        launch(self)?;
        Ok(self.captured.take().unwrap())
    }

    fn replay(&mut self, graph: &Captured) -> Result<()> {
        self.replays += 1;
        graph
            .iter()
            .try_for_each(|(text, name, blocks, threads, words)| self.launch(text, name, *blocks, *threads, words))
    }
}

impl Machine for Host {
    fn upload(&mut self, buffer: usize, bytes: &[u8]) -> Result<u64> {
        let place = self.reserve(buffer, bytes.len())?;
        self.uploads += 1;
        for (word, bytes) in self.buffers[buffer].iter_mut().zip(bytes.chunks(8)) {
            let mut whole = word.to_ne_bytes();
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(whole);
        }
        Ok(place)
    }

    fn reserve(&mut self, buffer: usize, bytes: usize) -> Result<u64> {
        self.buffers.resize_with(self.buffers.len().max(buffer + 1), Vec::new);
        let memory = &mut self.buffers[buffer];
        if memory.len() < bytes.div_ceil(8) {
            *memory = vec![u64::MAX; bytes.div_ceil(8)];
        }
        Ok(address(memory))
    }

    fn launch(&mut self, text: &str, name: &str, blocks: usize, threads: u32, words: &[u64]) -> Result<()> {
        if let Some(captured) = &mut self.captured {
            captured.push((text.to_string(), name.to_string(), blocks, threads, words.to_vec()));
            return Ok(());
        }
        let place = self.kernels.iter().position(|(known, _)| known == text).unwrap_or_else(|| {
            self.kernels.push((text.to_string(), HostKernel::new(text, name)));
            self.kernels.len() - 1
        });
        self.kernels[place].1.launch(blocks, threads, words);
        match self.launched.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => self.launched.push((name.to_string(), 1)),
        }
        Ok(())
    }

    fn numbers(&mut self, buffer: usize, count: usize) -> Result<Vec<f64>> {
        self.waits += 1;
        Ok(self.buffers[buffer][..count].iter().map(|x| f64::from_bits(*x)).collect())
    }
}
