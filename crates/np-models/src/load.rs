//! Loads named tensors, such as a checkpoint of this crate or of PyTorch, into a model.

use std::collections::HashMap;

use candle_core::Tensor;

use crate::{Error, Model, Result};

/// What PyTorch's batch norms save and this crate does not keep.
const IGNORED: &str = ".num_batches_tracked";

/// Sets every parameter and buffer of `model` to the tensor of its name, converted to its device and element type.
///
/// If one does not fit, nothing is set. Entries `num_batches_tracked`, which PyTorch's batch norms save, are ignored.
///
/// ```
/// use candle_core::Device;
/// use np_models::{Mlp, MlpConfig, Model, load};
///
/// # fn main() -> np_models::Result<()> {
/// let build = |seed| Mlp::new(4, 2, &MlpConfig { hidden: vec![3], dropout: 0.0 }, seed, &Device::Cpu);
/// let (from, to) = (build(1)?, build(2)?);
/// // As `candle_core::safetensors::load` returns them. Copies, because a clone of a parameter's tensor shares its memory.
/// let copies = from.parameters().into_iter().map(|(name, var)| Ok((name, var.as_tensor().copy()?)));
/// let tensors = copies.collect::<np_models::Result<_>>()?;
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
/// [`Error::Tensor`] for a tensor that is missing, has another shape, is not of a floating-point type, or does not belong to the model; errors of
/// candle.
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
    let moved: Vec<Tensor> = wanted
        .iter()
        .zip(found)
        // A parameter's own tensor, or a view of one, is what candle refuses to set, and what setting another would change.
        .map(|((_, var), tensor)| Ok(tensor.to_device(var.device())?.to_dtype(var.dtype())?.copy()?))
        .collect::<Result<_>>()?;
    for ((_, var), tensor) in wanted.iter().zip(&moved) {
        var.set(tensor)?;
    }
    Ok(())
}
