//! The CUDA devices of this process, and the versions of driver, compiler and cuDNN.
#![allow(unsafe_code)]

use cudarc::driver::DriverError;
use cudarc::driver::result::{self, device};
use cudarc::{cudnn, driver, nvrtc};

use crate::{Error, Result};

/// A version of driver or compiler: major, minor.
pub type Version = (i32, i32);

/// A CUDA device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The driver's name of the model.
    pub name: String,
    /// Total memory in bytes.
    pub memory: u64,
}

fn refused(what: &'static str) -> impl Fn(DriverError) -> Error {
    move |e| Error::Driver { what, why: e.to_string() }
}

/// Number of devices that are visible to this process.
///
/// # Errors
/// [`Error::Driver`], also if there is no driver.
pub fn count() -> Result<usize> {
    result::init().map_err(refused("begin"))?;
    let count = device::get_count().map_err(refused("count the devices"))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// The devices that are visible to this process, in the driver's order. No context is created on them.
///
/// # Errors
/// [`Error::Driver`], also if there is no driver.
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

/// The newest version of CUDA that the driver supports.
///
/// # Errors
/// [`Error::Driver`].
pub fn driver_version() -> Result<Version> {
    let mut version = 0;
    // SAFETY: the driver writes one number, and needs no initialisation for it.
    unsafe { driver::sys::cuDriverGetVersion(&raw mut version) }.result().map_err(refused("say its version"))?;
    Ok((version / 1000, version % 1000 / 10))
}

/// The version of CUDA's run-time compiler (NVRTC). The driver must support at least this version to load the kernels.
///
/// # Errors
/// [`Error::Compile`] if the compiler does not state its version.
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
