//! A list of launches captured once and replayed as one: what small networks wait for is not the device but the launching.
#![allow(unsafe_code)]

use std::sync::Arc;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream};

use crate::launch::refused;
use crate::{Error, Result};

/// Work of one stream, to be queued again by one call. What addresses it was captured with, it keeps: the memory must outlive it and stay where it is.
pub struct Graph(CudaGraph);

// SAFETY: the driver's graphs belong to no thread; they must not be used by two at once, and `Graph` is not `Sync`.
unsafe impl Send for Graph {}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").finish_non_exhaustive()
    }
}

impl Graph {
    /// What `queue` queues on `stream`, which is not done now.
    ///
    /// Everything in it must have been done once before: a kernel that has yet to be compiled, or memory that has yet to be found, cannot be captured.
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

    /// Queues all of it once more, on the stream that it was captured on.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn launch(&self) -> Result<()> {
        self.0.launch().map_err(refused("launch a graph"))
    }
}
