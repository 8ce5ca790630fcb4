//! Convolutions by cuDNN and matrix products by cuBLAS, on candle's stream.
//!
//! Handles, descriptors and work memory are made when a shape comes up first, and kept; a call with known shapes only queues work, and may be captured in a graph.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::fmt::Display;
use std::ptr::null_mut;
use std::sync::Arc;

use cudarc::cublas::result as blas;
use cudarc::cublas::sys::{
    cublasComputeType_t as Compute, cublasGemmAlgo_t, cublasHandle_t, cublasMath_t, cublasOperation_t,
    cublasSetMathMode, cublasSetWorkspace_v2, cudaDataType_t as Stored,
};
use cudarc::cudnn::result as dnn;
use cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t, cudnnConvolutionBwdFilterAlgo_t, cudnnConvolutionFwdAlgo_t, cudnnHandle_t,
};
use cudarc::driver::CudaStream;

use crate::descriptors::Described;
use crate::engine::{Algorithm, Convolution, Direction, Engine, Math, Product, algorithms};
use crate::launch::{Kept, Queue};
use crate::machine::Machine;
use crate::{Arena, Error, Result};

/// Work memory for cuBLAS: what it asks for on a Hopper device.
pub const PRODUCT_WORKSPACE: usize = 32 << 20;

/// Most work memory that a convolution's algorithm may take.
pub const CONVOLUTION_WORKSPACE: usize = 512 << 20;

pub(crate) fn failed(what: &'static str) -> impl Fn(&dyn Display) -> Error {
    move |e| Error::Library { what, why: e.to_string() }
}

/// A convolution whose algorithms have been chosen.
#[derive(Debug)]
struct Known {
    shape: Convolution,
    described: Described,
    /// By [`Direction`]: the algorithm and the work memory that it takes.
    chosen: [Option<(Algorithm, usize)>; 3],
}

/// A device's libraries, with kernels and buffers beside them: an [`Engine`].
///
/// To be used from one thread: a cuDNN handle wants that.
#[derive(Debug)]
pub struct Libraries {
    stream: Arc<CudaStream>,
    kept: Kept,
    /// Made when a product comes up first.
    blas: Option<Blas>,
    dnn: Option<Dnn>,
    convolutions: Vec<Known>,
    workspace: Option<Arena>,
    workspace_bytes: usize,
}

#[derive(Debug)]
struct Dnn(cudnnHandle_t);

impl Drop for Dnn {
    fn drop(&mut self) {
        // SAFETY: nobody has destroyed it. There is nothing to be done about an error here.
        let _ = unsafe { dnn::destroy_handle(self.0) };
    }
}

#[derive(Debug)]
struct Blas {
    handle: cublasHandle_t,
    _workspace: Arena,
}

impl Drop for Blas {
    fn drop(&mut self) {
        // SAFETY: as above.
        let _ = unsafe { blas::destroy_handle(self.handle) };
    }
}

fn index(direction: Direction) -> usize {
    match direction {
        Direction::Forward => 0,
        Direction::BackwardData => 1,
        Direction::BackwardFilter => 2,
    }
}

impl Libraries {
    /// On the stream that candle's device computes on.
    #[must_use]
    pub fn new(stream: Arc<CudaStream>) -> Self {
        Self {
            stream,
            kept: Kept::default(),
            blas: None,
            dnn: None,
            convolutions: Vec::new(),
            workspace: None,
            workspace_bytes: 0,
        }
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Gets ready for a program: chooses algorithms for these passes, and makes room for what they work in, for all of them in one place.
    ///
    /// Gives the bytes of work memory. A graph that was captured before must not be launched after this, where it gives more than the last time.
    ///
    /// # Errors
    /// [`Error::Library`] where there is no algorithm; [`Error::Driver`] where there is no memory.
    pub fn prepare(&mut self, passes: &[(Convolution, Direction)], products: bool) -> Result<usize> {
        let mut most = self.workspace_bytes;
        for (shape, direction) in passes {
            let place = self.known(shape)?;
            most = most.max(self.choose(place, *direction)?.1);
        }
        if most > self.workspace_bytes {
            self.workspace = None;
            self.workspace = Some(Arena::new(&self.stream, most)?);
            self.workspace_bytes = most;
        }
        if products {
            self.blas()?;
        }
        Ok(most + if products { PRODUCT_WORKSPACE } else { 0 })
    }

    fn dnn(&mut self) -> Result<cudnnHandle_t> {
        if let Some(handle) = &self.dnn {
            return Ok(handle.0);
        }
        let say = failed("begin cuDNN");
        self.stream.context().bind_to_thread().map_err(|e| say(&e))?;
        let handle = Dnn(dnn::create_handle().map_err(|e| say(&e))?);
        // SAFETY: both live.
        unsafe { dnn::set_stream(handle.0, self.stream.cu_stream().cast()) }.map_err(|e| say(&e))?;
        Ok(self.dnn.insert(handle).0)
    }

    fn blas(&mut self) -> Result<cublasHandle_t> {
        if let Some(blas) = &self.blas {
            return Ok(blas.handle);
        }
        let say = failed("begin cuBLAS");
        self.stream.context().bind_to_thread().map_err(|e| say(&e))?;
        let workspace = Arena::new(&self.stream, PRODUCT_WORKSPACE)?;
        let address = workspace.address();
        let handle = blas::create_handle().map_err(|e| say(&e))?;
        let blas = self.blas.insert(Blas { handle, _workspace: workspace });
        // SAFETY: handle, stream and work memory live as long as each other. The memory is set after the stream, which would take it away.
        unsafe {
            blas::set_stream(blas.handle, self.stream.cu_stream().cast()).map_err(|e| say(&e))?;
            let status = cublasSetWorkspace_v2(blas.handle, address as *mut c_void, PRODUCT_WORKSPACE);
            status.result().map_err(|e| say(&e))?;
        }
        Ok(blas.handle)
    }

    /// The place of a shape among those that are known.
    fn known(&mut self, shape: &Convolution) -> Result<usize> {
        if let Some(place) = self.convolutions.iter().position(|known| known.shape == *shape) {
            return Ok(place);
        }
        self.convolutions.push(Known { shape: *shape, described: Described::new(shape)?, chosen: [None; 3] });
        Ok(self.convolutions.len() - 1)
    }

    /// The algorithm of a pass, and its work memory.
    fn choose(&mut self, place: usize, direction: Direction) -> Result<(Algorithm, usize)> {
        if let Some(chosen) = self.convolutions[place].chosen[index(direction)] {
            return Ok(chosen);
        }
        let handle = self.dnn()?;
        let known = &mut self.convolutions[place];
        let mut why = String::from("its algorithms need too much work memory");
        for algorithm in algorithms(direction) {
            match workspace(handle, &known.described, direction, *algorithm) {
                Ok(bytes) if bytes <= CONVOLUTION_WORKSPACE => {
                    known.chosen[index(direction)] = Some((*algorithm, bytes));
                    return Ok((*algorithm, bytes));
                }
                Ok(_) => {}
                Err(e) => why = e.to_string(),
            }
        }
        Err(Error::Library {
            what: "find a deterministic algorithm for a convolution",
            why: format!("{why}: {:?} of {:?}", direction, known.shape),
        })
    }
}

fn forward(algorithm: Algorithm) -> cudnnConvolutionFwdAlgo_t {
    match algorithm {
        Algorithm::ImplicitGemm => cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
        _ => cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
    }
}

const DATA: cudnnConvolutionBwdDataAlgo_t = cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
const FILTER: cudnnConvolutionBwdFilterAlgo_t = cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;

/// Bytes that an algorithm works in; an error where the library does not have it for this shape.
fn workspace(
    handle: cudnnHandle_t,
    d: &Described,
    direction: Direction,
    algorithm: Algorithm,
) -> std::result::Result<usize, dnn::CudnnError> {
    // SAFETY: handle and descriptors live.
    unsafe {
        match direction {
            Direction::Forward => {
                dnn::get_convolution_forward_workspace_size(handle, d.x.0, d.w.0, d.how.0, d.y.0, forward(algorithm))
            }
            Direction::BackwardData => {
                dnn::get_convolution_backward_data_workspace_size(handle, d.w.0, d.y.0, d.how.0, d.x.0, DATA)
            }
            Direction::BackwardFilter => {
                dnn::get_convolution_backward_filter_workspace_size(handle, d.x.0, d.y.0, d.how.0, d.w.0, FILTER)
            }
        }
    }
}

impl Machine for Libraries {
    fn upload(&mut self, buffer: usize, bytes: &[u8]) -> Result<u64> {
        Queue::new(self.stream.clone(), &mut self.kept).upload(buffer, bytes)
    }

    fn reserve(&mut self, buffer: usize, bytes: usize) -> Result<u64> {
        Queue::new(self.stream.clone(), &mut self.kept).reserve(buffer, bytes)
    }

    fn launch(&mut self, text: &str, name: &str, blocks: usize, threads: u32, words: &[u64]) -> Result<()> {
        Queue::new(self.stream.clone(), &mut self.kept).launch(text, name, blocks, threads, words)
    }

    fn numbers(&mut self, buffer: usize, count: usize) -> Result<Vec<f64>> {
        self.kept.numbers(&self.stream, buffer, count)
    }
}

impl Engine for Libraries {
    fn convolve(&mut self, shape: &Convolution, direction: Direction, operands: [u64; 3]) -> Result<()> {
        let place = self.known(shape)?;
        let (algorithm, bytes) = self.choose(place, direction)?;
        if bytes > self.workspace_bytes {
            self.prepare(&[(*shape, direction)], false)?;
        }
        let handle = self.dnn()?;
        let d = &self.convolutions[place].described;
        let (one, zero) = (&raw const ONE, &raw const ZERO);
        let (one, zero) = (one.cast::<c_void>(), zero.cast::<c_void>());
        let work = self.workspace.as_ref().map_or(null_mut(), |arena| arena.address() as *mut c_void);
        let [a, b] = [operands[0] as *const c_void, operands[1] as *const c_void];
        let result = operands[2] as *mut c_void;
        // SAFETY: handle and descriptors live, work memory is as much as was asked for, and the operands are what the descriptors say by the caller's word.
        let done = unsafe {
            match direction {
                Direction::Forward => dnn::convolution_forward(
                    handle,
                    one,
                    d.x.0,
                    a,
                    d.w.0,
                    b,
                    d.how.0,
                    forward(algorithm),
                    work,
                    bytes,
                    zero,
                    d.y.0,
                    result,
                ),
                Direction::BackwardData => dnn::convolution_backward_data(
                    handle, one, d.w.0, b, d.y.0, a, d.how.0, DATA, work, bytes, zero, d.x.0, result,
                ),
                Direction::BackwardFilter => dnn::convolution_backward_filter(
                    handle, one, d.x.0, a, d.y.0, b, d.how.0, FILTER, work, bytes, zero, d.w.0, result,
                ),
            }
        };
        done.map_err(|e| failed("run a convolution")(&e))
    }

    fn multiply(&mut self, product: &Product, operands: [u64; 3]) -> Result<()> {
        let handle = self.blas()?;
        let say = failed("run a matrix product");
        let size = |n: usize| c_int::try_from(n).map_err(|e| say(&e));
        let (rows, columns, inner) = (size(product.rows)?, size(product.columns)?, size(product.inner)?);
        let (stored, compute, mode) = match product.math {
            Math::Single => (Stored::CUDA_R_32F, Compute::CUBLAS_COMPUTE_32F, cublasMath_t::CUBLAS_DEFAULT_MATH),
            Math::Tf32 => {
                (Stored::CUDA_R_32F, Compute::CUBLAS_COMPUTE_32F_FAST_TF32, cublasMath_t::CUBLAS_TF32_TENSOR_OP_MATH)
            }
            Math::Bf16 => (Stored::CUDA_R_16BF, Compute::CUBLAS_COMPUTE_32F, cublasMath_t::CUBLAS_DEFAULT_MATH),
        };
        let op = |transposed| {
            if transposed { cublasOperation_t::CUBLAS_OP_T } else { cublasOperation_t::CUBLAS_OP_N }
        };
        let lda = if product.transpose_a { rows } else { inner };
        let ldb = if product.transpose_b { inner } else { columns };
        let (one, zero) = (&raw const ONE, &raw const ZERO);
        let [a, b] = [operands[0] as *const c_void, operands[1] as *const c_void];
        // SAFETY: cuBLAS counts down columns, where a matrix of rows is its own transpose: cᵀ = op(b)ᵀ op(a)ᵀ. Operands are as large as the product says by
        // the caller's word.
        let done = unsafe {
            cublasSetMathMode(handle, mode).result().map_err(|e| say(&e))?;
            blas::gemm_ex(
                handle,
                op(product.transpose_b),
                op(product.transpose_a),
                columns,
                rows,
                inner,
                one.cast(),
                b,
                stored,
                ldb,
                a,
                stored,
                lda,
                zero.cast(),
                operands[2] as *mut c_void,
                Stored::CUDA_R_32F,
                columns,
                compute,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        done.map_err(|e| say(&e))
    }
}

/// Factors of a result and of what was there before.
static ONE: f32 = 1.0;
static ZERO: f32 = 0.0;
