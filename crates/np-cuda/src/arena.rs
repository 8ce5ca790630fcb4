//! One block of a device's memory, asked for once.
#![allow(unsafe_code)]

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream};

use crate::launch::{address, refused};
use crate::{Error, Result};

/// Memory whose address stays the same as long as it lives.
#[derive(Debug)]
pub struct Arena {
    memory: CudaSlice<u8>,
    address: u64,
}

impl Arena {
    /// So many bytes, all 0.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn new(stream: &Arc<CudaStream>, bytes: usize) -> Result<Self> {
        let memory = stream.alloc_zeros::<u8>(bytes.max(256)).map_err(refused("allocate"))?;
        let address = address(stream, &memory, 0, 0)?;
        Ok(Self { memory, address })
    }

    /// Where it begins: at a multiple of 256.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its first `count` words, once all that the device was asked for is done.
    ///
    /// # Errors
    /// [`Error::Driver`]; [`Error::Range`] where there are not as many.
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

    /// Writes 0 to all of it, behind what has been queued.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn clear(&mut self, stream: &Arc<CudaStream>) -> Result<()> {
        stream.memset_zeros(&mut self.memory).map_err(refused("write zeros"))
    }
}

/// Bytes of the device's memory that are free, and all that it has.
///
/// # Errors
/// [`Error::Driver`].
pub fn memory(stream: &CudaStream) -> Result<(u64, u64)> {
    let (free, all) = stream.context().mem_get_info().map_err(refused("say what memory is free"))?;
    Ok((free as u64, all as u64))
}
