//! CUDA graphs: launches that are captured once and replayed by one call. In small networks launching takes longer than computing.
#![allow(unsafe_code)]

use std::sync::Arc;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream};

use crate::launch::refused;
use crate::{Error, Result};

/// Captured work of one stream, which one call queues again. It uses the addresses that it was captured with: their memory must outlive it and must not
/// move.
pub struct Graph(CudaGraph);

// SAFETY: the driver's graphs belong to no thread; they must not be used by two at once, and `Graph` is not `Sync`.
unsafe impl Send for Graph {}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").finish_non_exhaustive()
    }
}

impl Graph {
    /// Captures the work that `queue` queues on `stream`, without running it.
    ///
    /// The same work must have been run once before, because compiling a kernel or allocating memory cannot be captured.
    ///
    /// # Errors
    /// Those of `queue`; [`Error::Driver`].
    pub fn capture<E: From<Error>>(
        stream: &Arc<CudaStream>,
        queue: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Self, E> {
        // Of this thread alone: others may allocate meanwhile.
        stream
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            .map_err(refused("begin a graph"))?;
        let queued = queue();
        // The capture ends whatever happened, or the stream would stay lost.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0)).map_err(refused("make a graph"));
        queued?;
        match graph? {
            Some(graph) => Ok(Self(graph)),
            None => Err(Error::Driver { what: "make a graph", why: "nothing was captured".to_string() }.into()),
        }
    }

    /// Queues the captured work on the stream that it was captured on.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn launch(&self) -> Result<()> {
        self.0.launch().map_err(refused("launch a graph"))
    }
}
