//! A block of a device's memory at a fixed address.
#![allow(unsafe_code)]

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream};

use crate::launch::{address, refused};
use crate::{Error, Result};

/// A block of device memory, allocated once; its address does not change.
#[derive(Debug)]
pub struct Arena {
    memory: CudaSlice<u8>,
    address: u64,
}

impl Arena {
    /// A block of at least `bytes` bytes, filled with 0.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn new(stream: &Arc<CudaStream>, bytes: usize) -> Result<Self> {
        let memory = stream.alloc_zeros::<u8>(bytes.max(256)).map_err(refused("allocate"))?;
        let address = address(stream, &memory, 0, 0)?;
        Ok(Self { memory, address })
    }

    /// The address of the block, a multiple of 256.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The first `count` 64-bit words. Waits until all work queued on `stream` is done.
    ///
    /// # Errors
    /// [`Error::Driver`]; [`Error::Range`] if the block is smaller.
    pub fn read(&self, stream: &Arc<CudaStream>, count: usize) -> Result<Vec<u64>> {
        let end = count * size_of::<u64>();
        let Some(view) = self.memory.try_slice(0..end) else {
            return Err(Error::Range { start: 0, end, len: self.memory.len() });
        };
        let mut bytes = vec![0u8; end];
        stream.memcpy_dtoh(&view, &mut bytes).map_err(refused("copy from the device"))?;
        stream.synchronize().map_err(refused("wait"))?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(words.iter().map(|x| u64::from_ne_bytes(*x)).collect())
    }

    /// Queues filling the block with 0.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn clear(&mut self, stream: &Arc<CudaStream>) -> Result<()> {
        stream.memset_zeros(&mut self.memory).map_err(refused("write zeros"))
    }
}

/// Free and total memory of the stream's device, in bytes.
///
/// # Errors
/// [`Error::Driver`].
pub fn memory(stream: &CudaStream) -> Result<(u64, u64)> {
    let (free, all) = stream.context().mem_get_info().map_err(refused("say what memory is free"))?;
    Ok((free as u64, all as u64))
}
