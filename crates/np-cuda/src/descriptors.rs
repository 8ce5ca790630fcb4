//! cuDNN's descriptors of a convolution, which are destroyed when they are dropped.
#![allow(unsafe_code)]

use std::ffi::c_int;

use cudarc::cudnn::result as dnn;
use cudarc::cudnn::sys::{
    cudnnConvolutionDescriptor_t, cudnnConvolutionMode_t, cudnnDataType_t, cudnnFilterDescriptor_t, cudnnMathType_t,
    cudnnTensorDescriptor_t, cudnnTensorFormat_t,
};

use crate::Result;
use crate::engine::{Convolution, Math};
use crate::libraries::failed;

macro_rules! descriptor {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $create:path, $destroy:path) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name(pub(crate) $raw);

        impl $name {
            fn new() -> std::result::Result<Self, dnn::CudnnError> {
                $create().map(Self)
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: nobody has destroyed it. There is nothing to be done about an error here.
                let _ = unsafe { $destroy(self.0) };
            }
        }
    };
}

descriptor!(
    /// Of x or y.
    Tensor, cudnnTensorDescriptor_t, dnn::create_tensor_descriptor, dnn::destroy_tensor_descriptor
);
descriptor!(
    /// Of w.
    Filter, cudnnFilterDescriptor_t, dnn::create_filter_descriptor, dnn::destroy_filter_descriptor
);
descriptor!(
    /// Of stride, padding and arithmetic.
    How, cudnnConvolutionDescriptor_t, dnn::create_convolution_descriptor, dnn::destroy_convolution_descriptor
);

/// A convolution as cuDNN knows it: gradients have the descriptors of what they are gradients of.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) x: Tensor,
    pub(crate) w: Filter,
    pub(crate) y: Tensor,
    pub(crate) how: How,
}

impl Described {
    pub(crate) fn new(shape: &Convolution) -> Result<Self> {
        let say = failed("describe a convolution");
        let size = |n: usize| c_int::try_from(n).map_err(|e| say(&e));
        let (stored, math) = match shape.math {
            // Tensor cores would round the factors.
            Math::Single => (cudnnDataType_t::CUDNN_DATA_FLOAT, cudnnMathType_t::CUDNN_FMA_MATH),
            // Which takes TF32 where there is such a thing. `ALLOW_CONVERSION` would go as far as half precision.
            Math::Tf32 => (cudnnDataType_t::CUDNN_DATA_FLOAT, cudnnMathType_t::CUDNN_DEFAULT_MATH),
            Math::Bf16 => (cudnnDataType_t::CUDNN_DATA_BFLOAT16, cudnnMathType_t::CUDNN_TENSOR_OP_MATH),
        };
        let last = cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let images = size(shape.images)?;
        let (inputs, outputs) = (size(shape.inputs)?, size(shape.outputs)?);
        let (kernel, stride, padding) = (size(shape.kernel)?, size(shape.stride)?, size(shape.padding)?);
        let x_sizes = [images, inputs, size(shape.height)?, size(shape.width)?];
        let y_sizes = [images, outputs, size(shape.output_height())?, size(shape.output_width())?];
        let make = || {
            let all = Self { x: Tensor::new()?, w: Filter::new()?, y: Tensor::new()?, how: How::new()? };
            // SAFETY: all of them live.
            unsafe {
                dnn::set_tensor4d_descriptor(all.x.0, last, stored, x_sizes)?;
                dnn::set_tensor4d_descriptor(all.y.0, last, stored, y_sizes)?;
                dnn::set_filter4d_descriptor(all.w.0, stored, last, [outputs, inputs, kernel, kernel])?;
                dnn::set_convolution2d_descriptor(
                    all.how.0,
                    padding,
                    padding,
                    stride,
                    stride,
                    1,
                    1,
                    cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                    cudnnDataType_t::CUDNN_DATA_FLOAT,
                )?;
                dnn::set_convolution_math_type(all.how.0, math)?;
            }
            Ok::<_, dnn::CudnnError>(all)
        };
        make().map_err(|e| say(&e))
    }
}
