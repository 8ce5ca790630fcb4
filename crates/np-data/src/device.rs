//! Batches on a device: the bytes of a split are uploaded once, and a kernel gathers, shifts, mirrors and normalises each batch.
//!
//! Random crops are drawn on the host ([`Views`](crate::Views)) and uploaded with the order of a pass, eight bytes for each example. A batch is then one
//! launch without a copy. It has the same bits as [`Preparation::fill`]: both look up bytes in the same table.

use std::ops::Range;

use np_cuda::machine::Machine;

use crate::augment::View;
use crate::dataset::Split;
use crate::error::Error;
use crate::prepare::{Pass, Preparation};

/// Threads in a block of the kernel.
pub const THREADS: u32 = 256;

/// Name of the kernel's function.
pub const PREPARE: &str = "np_prepare";

/// Number of buffers of a [`Machine`] that a [`DeviceSplit`] uses, from the given one on.
pub const BUFFERS: usize = 4;

/// Bytes of an example in the order of a pass: its index, and its view.
const ENTRY: usize = 8;

/// An error of batches on a device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The images cannot be prepared as requested.
    #[error(transparent)]
    Data(#[from] Error),
    /// An error of the device, its driver or its compiler.
    #[error(transparent)]
    Device(#[from] np_cuda::Error),
    /// The batch's range lies outside of the pass.
    #[error("expected examples among the {expected} of the pass, found {} to {}", found.start, found.end)]
    Range {
        /// Number of examples in the pass.
        expected: usize,
        /// The range of the batch.
        found: Range<usize>,
    },
}

/// The memory layout of a batch's pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PixelOrder {
    /// Plane by plane, `B×C×H×W`. The default.
    #[default]
    Planes,
    /// Channels last, `B×H×W×C`.
    Interleaved,
}

/// A split in the memory of a device.
#[derive(Clone, Debug)]
pub struct DeviceSplit {
    preparation: Preparation,
    text: String,
    /// Numbers of an image as it is prepared.
    size: usize,
    examples: usize,
    first_buffer: usize,
    images: u64,
    labels: u64,
    tables: u64,
    order: u64,
    /// Examples of the pass.
    ordered: usize,
}

impl DeviceSplit {
    /// Uploads `split` to `machine`, into its buffers `first_buffer` to `first_buffer` + [`BUFFERS`] − 1. Its batches will be prepared by `preparation`,
    /// with pixels in the layout `order`.
    ///
    /// # Errors
    /// [`DeviceError::Data`] for images that cannot be prepared this way; [`DeviceError::Device`].
    pub fn upload(
        machine: &mut impl Machine,
        first_buffer: usize,
        split: &Split,
        preparation: &Preparation,
        order: PixelOrder,
    ) -> Result<Self, DeviceError> {
        let shape = preparation.layout.shape(split.shape)?;
        let tables = preparation.normalization.tables();
        if tables.len() != 1 && tables.len() != shape[0] {
            return Err(Error::ChannelMismatch { expected: shape[0], found: tables.len() }.into());
        }
        let numbers: Vec<u8> = tables.iter().flatten().flat_map(|number| number.to_ne_bytes()).collect();
        Ok(Self {
            preparation: preparation.clone(),
            text: kernel(split.shape, shape, tables.len(), order),
            size: shape.iter().product(),
            examples: split.len(),
            first_buffer,
            images: machine.upload(first_buffer, &split.images)?,
            labels: machine.upload(first_buffer + 1, &split.labels)?,
            tables: machine.upload(first_buffer + 2, &numbers)?,
            order: 0,
            ordered: 0,
        })
    }

    /// Begins a pass over the examples at `indices`, in this order: uploads their indices and augmentation.
    ///
    /// # Errors
    /// [`DeviceError::Data`] with [`Error::IndexOutOfRange`]; [`DeviceError::Device`].
    pub fn begin(&mut self, machine: &mut impl Machine, indices: &[u32], pass: Pass) -> Result<(), DeviceError> {
        let mut views = self.preparation.views(pass);
        let mut bytes = Vec::with_capacity(ENTRY * indices.len());
        for &index in indices {
            if index as usize >= self.examples {
                return Err(Error::IndexOutOfRange { expected: self.examples, found: index }.into());
            }
            bytes.extend(entry(index, views.of(index)));
        }
        self.order = machine.upload(self.first_buffer + 3, &bytes)?;
        self.ordered = indices.len();
        Ok(())
    }

    /// Queues the preparation of a batch: the pass's examples in the range `examples`. Pixels are written to the address `pixels` in single precision, labels to
    /// the address `labels` as `unsigned int`.
    ///
    /// The memory at both addresses must be large enough. This is not checked, as in [`Machine::launch`].
    ///
    /// # Errors
    /// [`DeviceError::Range`] for a range outside of the pass; [`DeviceError::Device`].
    pub fn batch(
        &self,
        machine: &mut impl Machine,
        examples: Range<usize>,
        pixels: u64,
        labels: u64,
    ) -> Result<(), DeviceError> {
        if examples.start > examples.end || examples.end > self.ordered {
            return Err(DeviceError::Range { expected: self.ordered, found: examples });
        }
        let (first, count) = (examples.start as u64, examples.len() as u64);
        let blocks = (examples.len() * self.size).div_ceil(THREADS as usize);
        let words = [self.images, self.labels, self.tables, self.order, pixels, labels, first, count];
        Ok(machine.launch(&self.text, PREPARE, blocks, THREADS, &words)?)
    }
}

/// An example in the order of a pass, as the kernel's `Entry`. Windows reach a few pixels past an image.
fn entry(index: u32, view: View) -> [u8; ENTRY] {
    let [a, b, c, d] = index.to_ne_bytes();
    let offset = |pixels: i32| (pixels.clamp(-128, 127) as i8).to_ne_bytes()[0];
    [a, b, c, d, offset(view.down), offset(view.right), u8::from(view.mirrored), 0]
}

/// Source text of the kernel `np_prepare(images, labels, tables, order, pixels, out, first, count)`, with a thread for each number of the batch.
///
/// It prepares `count` examples of the pass's order from number `first` on. `stored` and `shape` are channels, height and width of images as stored and as
/// prepared. `tables` is the number of normalisation tables of 256 numbers: one for each channel, or 1 for all.
#[must_use]
pub fn kernel(stored: [usize; 3], shape: [usize; 3], tables: usize, order: PixelOrder) -> String {
    let [planes, height, width] = stored;
    let [channels, rows, columns] = shape;
    let centred = |outer: usize, inner: usize| -((outer as i64 - inner as i64) / 2);
    let (top, left) = (centred(rows, height), centred(columns, width));
    let size = channels * rows * columns;
    let place = match order {
        PixelOrder::Planes => format!(
            "const int channel = at / {}, row = at / {columns} % {rows}, column = at % {columns};",
            rows * columns
        ),
        PixelOrder::Interleaved => format!(
            "const int channel = at % {channels}, row = at / {}, column = at / {channels} % {columns};",
            channels * columns
        ),
    };
    format!(
        r#"// A batch of a split's images: gathered, shifted, mirrored and normalised.
struct Entry {{
    unsigned int index;
    signed char down, right;
    unsigned char mirrored, unused;
}};

extern "C" __global__ void {PREPARE}(const unsigned char *images, const unsigned char *labels, const float *tables, const Entry *order,
                                      float *pixels, unsigned int *out, unsigned long long first, unsigned long long count) {{
    const unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count * {size}ull) {{
        return;
    }}
    const unsigned long long example = i / {size}ull;
    const int at = (int)(i % {size}ull);
    {place}
    const Entry entry = order[first + example];
    const int y = row + ({top}) + entry.down;
    const int x = (entry.mirrored ? {last} - column : column) + ({left}) + entry.right;
    unsigned int pixel = 0;
    if (y >= 0 && y < {height} && x >= 0 && x < {width}) {{
        pixel = images[entry.index * {image}ull + (channel % {planes}) * {plane} + y * {width} + x];
    }}
    pixels[i] = tables[(channel % {tables}) * 256 + pixel];
    if (at == 0) {{
        out[example] = labels[entry.index];
    }}
}}
"#,
        last = columns.saturating_sub(1),
        image = planes * height * width,
        plane = height * width,
    )
}
