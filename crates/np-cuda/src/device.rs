//! Which devices there are, and what they are: asked of the driver, before anything is computed.
#![allow(unsafe_code)]

use cudarc::driver::DriverError;
use cudarc::driver::result::{self, device};
use cudarc::{cudnn, driver, nvrtc};

use crate::{Error, Result};

/// A version as the driver and the compiler have it: major and minor.
pub type Version = (i32, i32);

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its model, as the driver names it.
    pub name: String,
    /// All of its memory, in bytes.
    pub memory: u64,
}

fn refused(what: &'static str) -> impl Fn(DriverError) -> Error {
    move |e| Error::Driver { what, why: e.to_string() }
}

/// How many devices the driver shows this process.
///
/// # Errors
/// [`Error::Driver`], also where there is none.
pub fn count() -> Result<usize> {
    result::init().map_err(refused("begin"))?;
    let count = device::get_count().map_err(refused("count the devices"))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// The devices that the driver shows this process, in its order. Nothing is opened.
///
/// # Errors
/// [`Error::Driver`], also where there is none.
pub fn devices() -> Result<Vec<Device>> {
    let one = |ordinal| {
        let found = device::get(ordinal).map_err(refused("find a device"))?;
        let name = device::get_name(found).map_err(refused("name a device"))?;
        // SAFETY: the driver has just given this device.
        let memory = unsafe { device::total_mem(found) }.map_err(refused("say what memory there is"))?;
        Ok(Device { name, memory: memory as u64 })
    };
    (0..i32::try_from(count()?).unwrap_or(i32::MAX)).map(one).collect()
}

/// The newest CUDA whose kernels the driver can load.
///
/// # Errors
/// [`Error::Driver`].
pub fn driver_version() -> Result<Version> {
    let mut version = 0;
    // SAFETY: the driver writes one number, and needs no initialisation for it.
    unsafe { driver::sys::cuDriverGetVersion(&raw mut version) }.result().map_err(refused("say its version"))?;
    Ok((version / 1000, version % 1000 / 10))
}

/// The CUDA that kernels are compiled by, and of which a driver must be that is to load them.
///
/// # Errors
/// [`Error::Compile`] if the compiler does not say.
pub fn compiler_version() -> Result<Version> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the compiler writes two numbers.
    let done = unsafe { nvrtc::sys::nvrtcVersion(&raw mut major, &raw mut minor) }.result();
    done.map_err(|e| Error::Compile { name: "version".to_string(), log: format!("{e:?}") })?;
    Ok((major, minor))
}

/// The version of cuDNN, major, minor and patch.
#[must_use]
pub fn cudnn_version() -> [usize; 3] {
    let version = cudnn::result::get_version();
    // From 9 on a major version is ten thousand, before it was a thousand.
    let major = if version < 10_000 { 1000 } else { 10_000 };
    [version / major, version % major / 100, version % 100]
}
