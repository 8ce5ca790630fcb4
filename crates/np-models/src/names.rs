//! Names of parameters without a model: what a harness checks before anything is built.

use crate::MlpConfig;

impl MlpConfig {
    /// The names of [`Mlp::parameters`](crate::Mlp), in definition order.
    ///
    /// ```
    /// use np_models::MlpConfig;
    ///
    /// let config = MlpConfig { hidden: vec![8], ..MlpConfig::default() };
    /// assert_eq!(config.parameter_names(), ["fc1.weight", "fc1.bias", "head.weight", "head.bias"]);
    /// ```
    #[must_use]
    pub fn parameter_names(&self) -> Vec<String> {
        let layers = (1..=self.hidden.len()).map(|i| format!("fc{i}")).chain(["head".to_owned()]);
        layers.flat_map(|layer| [format!("{layer}.weight"), format!("{layer}.bias")]).collect()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::{Mlp, Model as _};

    #[test]
    fn they_are_the_models() {
        for hidden in [vec![], vec![3], vec![4, 2, 5]] {
            let config = MlpConfig { hidden, ..MlpConfig::default() };
            let model = Mlp::new(2, 3, &config, 0, &Device::Cpu).unwrap();
            let names: Vec<String> = model.parameters().into_iter().map(|(name, _)| name).collect();
            assert_eq!(config.parameter_names(), names);
        }
    }
}
