//! Trains NeuroPlastic with candle's data tools: a `Dataset` of candle-datasets, and batches by its `Batcher`.
//!
//! `cargo run -p neuroplastic-data --features hub --example candle_batcher`
#![allow(clippy::print_stdout)]

use candle_core::{DType, Device, Tensor};
use candle_datasets::Batcher;
use candle_nn::{Module, Optimizer, VarBuilder, VarMap, linear, loss, seq};
use np_core::{NeuroPlastic, NeuroPlasticConfig};
use np_data::{DataName, DataSet, Source, epoch_order};

/// Trains an MLP for so many epochs, and gives its test accuracy after each.
fn train(epochs: u32, seed: u64) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
    let data = DataSet::load(DataName::FashionMnist, Source::Mini, None)?.to_candle()?;
    let (images, labels) = (data.train_images, data.train_labels.to_dtype(DType::U32)?);
    let examples: Vec<u32> = (0..).take(images.dim(0)?).collect();

    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let model = seq().add(linear(images.dim(1)?, 128, vb.pp("fc1"))?).add_fn(Tensor::relu).add(linear(
        128,
        data.labels,
        vb.pp("head"),
    )?);
    let mut optimizer = NeuroPlastic::new(variables.all_vars(), NeuroPlasticConfig::default())?;

    let mut accuracies = Vec::new();
    for epoch in 0..epochs {
        let order = epoch_order(&examples, seed, epoch);
        let rows = order.into_iter().map(|i| Ok((images.get(i as usize)?, labels.get(i as usize)?)));
        // By default, it would leave out the examples that fill no batch.
        for batch in Batcher::new_r2(rows).batch_size(64).return_last_incomplete_batch(true) {
            let (images, labels) = batch?;
            let loss = loss::cross_entropy(&model.forward(&images)?, &labels)?;
            optimizer.backward_step(&loss)?;
        }
        let classes = model.forward(&data.test_images)?.argmax(1)?.to_dtype(DType::U8)?;
        accuracies.push(classes.eq(&data.test_labels)?.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()?);
    }
    Ok(accuracies)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (epoch, accuracy) in train(10, 41)?.into_iter().enumerate() {
        println!("epoch {:2}: test accuracy {accuracy:.3}", epoch + 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    /// Chance is 0.1; initialisation is candle's, and differs from run to run.
    #[test]
    fn it_learns() {
        let accuracies = super::train(5, 41).unwrap();
        assert!(accuracies.len() == 5 && accuracies[4] > 0.6, "{accuracies:?}");
    }
}
