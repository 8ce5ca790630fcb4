//! Named tensors into a model: a checkpoint of this crate or of PyTorch.

use std::collections::HashMap;

use candle_core::Tensor;

use crate::{Error, Model, Result};

/// What PyTorch's batch norms save and this crate does not keep.
const IGNORED: &str = ".num_batches_tracked";

/// Sets every parameter and buffer of `model` to the tensor of its name, moved to its device and element type.
///
/// Nothing is set unless all fit. `num_batches_tracked`, which PyTorch's batch norms save, is passed over.
///
/// ```
/// use candle_core::Device;
/// use np_models::{Mlp, MlpConfig, Model, load};
///
/// # fn main() -> np_models::Result<()> {
/// let build = |seed| Mlp::new(4, 2, &MlpConfig { hidden: vec![3], dropout: 0.0 }, seed, &Device::Cpu);
/// let (from, to) = (build(1)?, build(2)?);
/// // As `candle_core::safetensors::load` returns them.
/// let tensors = from.parameters().into_iter().map(|(name, var)| (name, var.as_tensor().clone())).collect();
/// load(&to, &tensors)?;
/// for ((_, a), (_, b)) in from.parameters().iter().zip(to.parameters()) {
///     assert_eq!(a.flatten_all()?.to_vec1::<f32>()?, b.flatten_all()?.to_vec1::<f32>()?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Error::Tensor`] with the name of a tensor that is missing, of another shape, not of a float, or not the model's; candle's own.
pub fn load(model: &dyn Model, tensors: &HashMap<String, Tensor>) -> Result<()> {
    let wanted: Vec<_> = model.parameters().into_iter().chain(model.buffers()).collect();
    let mut found = Vec::with_capacity(wanted.len());
    for (name, var) in &wanted {
        let expected = || format!("{:?} of a float", var.dims());
        match tensors.get(name) {
            Some(tensor) if tensor.dims() == var.dims() && tensor.dtype().is_float() => found.push(tensor),
            Some(tensor) => {
                return Err(Error::tensor(name, expected(), format!("{:?} of {:?}", tensor.dims(), tensor.dtype())));
            }
            None => return Err(Error::tensor(name, expected(), "nothing")),
        }
    }
    let mut unknown: Vec<_> = tensors
        .iter()
        .filter(|(name, _)| !name.ends_with(IGNORED) && !wanted.iter().any(|(known, _)| known == *name))
        .collect();
    unknown.sort_by_key(|(name, _)| *name);
    if let Some((name, tensor)) = unknown.first() {
        let got = format!("{:?} of {:?}", tensor.dims(), tensor.dtype());
        return Err(Error::tensor(*name, format!("absent from a checkpoint of {}", model.title()), got));
    }
    for ((_, var), tensor) in wanted.iter().zip(found) {
        var.set(&tensor.to_device(var.device())?.to_dtype(var.dtype())?)?;
    }
    Ok(())
}
