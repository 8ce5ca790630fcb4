//! Names of parameters, without building a model.

use crate::{MlpConfig, ResNet18Config};

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

impl ResNet18Config {
    /// The names of [`ResNet18::parameters`](crate::ResNet18), in definition order. They do not depend on the width.
    ///
    /// ```
    /// let names = np_models::ResNet18Config::parameter_names();
    /// assert_eq!((names.len(), names[3].as_str()), (62, "layer1.0.conv1.weight"));
    /// ```
    #[must_use]
    pub fn parameter_names() -> Vec<String> {
        let mut names = Vec::new();
        let mut layer = |conv: String, norm: String| {
            names.extend([format!("{conv}.weight"), format!("{norm}.weight"), format!("{norm}.bias")]);
        };
        layer("conv1".into(), "bn1".into());
        for (stage, block) in (1..=4).flat_map(|stage| [(stage, 0), (stage, 1)]) {
            let prefix = format!("layer{stage}.{block}");
            for i in 1..=2 {
                layer(format!("{prefix}.conv{i}"), format!("{prefix}.bn{i}"));
            }
            if stage > 1 && block == 0 {
                layer(format!("{prefix}.downsample.0"), format!("{prefix}.downsample.1"));
            }
        }
        names.extend(["fc.weight".into(), "fc.bias".into()]);
        names
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::{Mlp, Model as _, ResNet18};

    #[test]
    fn they_are_the_models() {
        for hidden in [vec![], vec![3], vec![4, 2, 5]] {
            let config = MlpConfig { hidden, ..MlpConfig::default() };
            let model = Mlp::new(2, 3, &config, 0, &Device::Cpu).unwrap();
            let names: Vec<String> = model.parameters().into_iter().map(|(name, _)| name).collect();
            assert_eq!(config.parameter_names(), names);
        }
    }

    #[test]
    fn a_resnets_are_the_models() {
        for width in [1, 3] {
            let model = ResNet18::new(3, 10, &ResNet18Config { width }, 0, &Device::Cpu).unwrap();
            let names: Vec<String> = model.parameters().into_iter().map(|(name, _)| name).collect();
            assert_eq!(ResNet18Config::parameter_names(), names);
        }
    }
}
