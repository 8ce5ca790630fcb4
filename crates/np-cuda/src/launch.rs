//! A CUDA device as a [`Machine`]: kernels, buffers and launches on one of candle's streams.
//!
//! Work is queued in the order of the calls, after what candle has queued before. Only [`Machine::numbers`] waits. candle's stream belongs to the calling
//! thread: call this from the thread that has computed the data.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaFunction, CudaSlice, CudaStream, DevicePtr, DriverError, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};

use crate::graph::Graph;
use crate::machine::Machine;
use crate::replay::{Capturing, Replays};
use crate::{Error, Result};

/// Compiled kernels of each device, by its number: function and text, one after the other.
static KERNELS: Mutex<Option<HashMap<usize, HashMap<String, CudaFunction>>>> = Mutex::new(None);

/// Most bytes that one copy takes along: so much the driver keeps in memory of its own at once, and the call returns before the copy is done.
const COPY: usize = 32 * 1024;

pub(crate) fn refused(what: &'static str) -> impl Fn(DriverError) -> Error {
    move |e| Error::Driver { what, why: e.to_string() }
}

/// The function `name` of this text, compiled the first time that this device is asked for it.
///
/// Division and square root are IEEE's, products and sums are not contracted.
fn function(stream: &CudaStream, text: &str, name: &str) -> Result<CudaFunction> {
    let context = stream.context();
    let mut kernels = KERNELS.lock().unwrap_or_else(PoisonError::into_inner);
    let kernels = kernels.get_or_insert_default().entry(context.ordinal()).or_default();
    if let Some(function) = kernels.get(text) {
        return Ok(function.clone());
    }
    let (major, minor) = context.compute_capability().map_err(refused("say what it can compute"))?;
    let options = CompileOptions {
        fmad: Some(false),
        prec_div: Some(true),
        prec_sqrt: Some(true),
        ftz: Some(false),
        options: vec![format!("--gpu-architecture=compute_{major}{minor}")],
        ..CompileOptions::default()
    };
    let compiled = compile_ptx_with_opts(text, options).map_err(|e| {
        let log = match &e {
            CompileError::CompileError { log, .. } => log.to_string_lossy().into_owned(),
            other => other.to_string(),
        };
        Error::Compile { name: name.to_string(), log }
    })?;
    let module = context.load_module(compiled).map_err(refused("load a kernel"))?;
    let function = module.load_function(name).map_err(refused("find a kernel's function"))?;
    kernels.insert(text.to_string(), function.clone());
    Ok(function)
}

/// A device's buffers and compiled kernels that are kept from step to step, such as those of an optimizer.
#[derive(Debug, Default)]
pub struct Kept {
    buffers: Vec<Option<CudaSlice<u8>>>,
    /// By their texts. They are some dozens at most, and few are of the same length: comparing costs less than a hash of a text would.
    kernels: Vec<(String, CudaFunction)>,
}

impl Kept {
    /// The first `count` double-precision numbers of a buffer. Waits until all work queued on the device is done.
    ///
    /// # Errors
    /// [`Error::Driver`]; [`Error::Range`] if the buffer is smaller.
    pub fn numbers(&self, stream: &Arc<CudaStream>, buffer: usize, count: usize) -> Result<Vec<f64>> {
        let end = count * size_of::<f64>();
        let memory = self.buffers.get(buffer).and_then(Option::as_ref);
        let Some(view) = memory.and_then(|memory| memory.try_slice(0..end)) else {
            return Err(Error::Range { start: 0, end, len: memory.map_or(0, CudaSlice::len) });
        };
        // Whoever reads may be another thread than the one whose stream the work is on.
        stream.context().synchronize().map_err(refused("wait"))?;
        let mut bytes = vec![0u8; end];
        stream.memcpy_dtoh(&view, &mut bytes).map_err(refused("copy from the device"))?;
        stream.synchronize().map_err(refused("wait"))?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(words.iter().map(|x| f64::from_ne_bytes(*x)).collect())
    }
}

/// Launches of a stream that are replayed as graphs; kept beside the [`Kept`] of the same steps.
pub type Graphs = Replays<Graph>;

/// A stream of a CUDA device, with its kept buffers and kernels.
#[derive(Debug)]
pub struct Queue<'a> {
    stream: Arc<CudaStream>,
    kept: &'a mut Kept,
}

impl<'a> Queue<'a> {
    /// A queue on `stream`, the stream that candle's device computes on.
    #[must_use]
    pub fn new(stream: Arc<CudaStream>, kept: &'a mut Kept) -> Self {
        Self { stream, kept }
    }

    fn buffer(&mut self, number: usize, bytes: usize) -> Result<&mut CudaSlice<u8>> {
        let buffers = &mut self.kept.buffers;
        buffers.resize_with(buffers.len().max(number + 1), || None);
        let fits = buffers[number].as_ref().is_some_and(|memory| memory.len() >= bytes);
        let memory = match buffers[number].take() {
            Some(memory) if fits => memory,
            _ => {
                let bytes = bytes.next_power_of_two().max(1024);
                self.stream.alloc_zeros(bytes).map_err(refused("allocate"))?
            }
        };
        Ok(buffers[number].insert(memory))
    }
}

/// The address of element `start` of a tensor's memory, of which elements `start` to `end` will be used.
///
/// It is valid for launches that are queued on the stream before the memory is freed. A dropped tensor is freed in the order of its stream.
///
/// # Errors
/// [`Error::Range`] if the range exceeds the memory.
pub fn address<T>(stream: &CudaStream, slice: &CudaSlice<T>, start: usize, end: usize) -> Result<u64> {
    if start > end || end > slice.len() {
        return Err(Error::Range { start, end, len: slice.len() });
    }
    let (address, _used) = slice.device_ptr(stream);
    Ok(address + (start * size_of::<T>()) as u64)
}

impl Machine for Queue<'_> {
    fn upload(&mut self, buffer: usize, bytes: &[u8]) -> Result<u64> {
        let stream = self.stream.clone();
        let memory = self.buffer(buffer, bytes.len())?;
        for (i, part) in bytes.chunks(COPY).enumerate() {
            let mut to = memory.slice_mut(i * COPY..i * COPY + part.len());
            stream.memcpy_htod(part, &mut to).map_err(refused("copy to the device"))?;
        }
        address(&stream, memory, 0, 0)
    }

    fn reserve(&mut self, buffer: usize, bytes: usize) -> Result<u64> {
        let stream = self.stream.clone();
        address(&stream, self.buffer(buffer, bytes)?, 0, 0)
    }

    fn launch(&mut self, text: &str, name: &str, blocks: usize, threads: u32, words: &[u64]) -> Result<()> {
        if blocks == 0 {
            return Ok(());
        }
        let blocks =
            u32::try_from(blocks).map_err(|e| Error::Driver { what: "launch a kernel", why: e.to_string() })?;
        let place = match self.kept.kernels.iter().position(|(known, _)| known == text) {
            Some(place) => place,
            None => {
                let function = function(&self.stream, text, name)?;
                self.kept.kernels.push((text.to_string(), function));
                self.kept.kernels.len() - 1
            }
        };
        let mut launch = self.stream.launch_builder(&self.kept.kernels[place].1);
        for word in words {
            launch.arg(word);
        }
        let config = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: parameters are as many as the kernel has, eight bytes each, by its caller's word; what they address was allocated when they were taken, and
        // is freed in the order of this stream, after the launch.
        unsafe { launch.launch(config) }.map_err(refused("launch a kernel"))?;
        Ok(())
    }

    fn numbers(&mut self, buffer: usize, count: usize) -> Result<Vec<f64>> {
        self.kept.numbers(&self.stream, buffer, count)
    }
}

impl Capturing for Queue<'_> {
    type Graph = Graph;

    fn capture(&mut self, launch: impl FnOnce(&mut Self) -> Result<()>) -> Result<Graph> {
        let stream = self.stream.clone();
        Graph::capture(&stream, || launch(self))
    }

    fn replay(&mut self, graph: &Graph) -> Result<()> {
        graph.launch()
    }
}
