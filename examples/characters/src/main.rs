//! A program like `np` with a task of its own: a character-level language model, a GRU of candle-nn on a text.
//!
//! The text is the Apache licence, which is always at hand, or a file in the data folder. Run it with an experiment:
//! `cargo run --bin characters -- run examples/characters/experiments/characters.yaml`.

use std::{fs, path::Path, path::PathBuf, process::ExitCode};

use candle_core::{DType, Device, Tensor};
use candle_nn::{Embedding, GRU, GRUConfig, Linear, Module as _, RNN as _};
use np_models::Mode;
use np_runner::{
    AboutData, Examples, Half, Loss, NamedVars, OutOfRange, Picked, Task, TaskMetric, TaskResult, Tasks, VarModel,
};
use serde::{Deserialize, Serialize};

/// What an experiment may say under `task: {characters: {…}}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// A text in the data folder; without one, the licence.
    text: Option<PathBuf>,
    /// Characters that are read at a time.
    window: usize,
    /// Size of the embedding and of the state.
    hidden: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { text: None, window: 32, hidden: 32 }
    }
}

/// A text as numbers of its characters; windows of it are the examples, the last tenth of them for testing.
struct Text {
    characters: Vec<u32>,
    kinds: usize,
    about: AboutData,
}

struct Net {
    embedding: Embedding,
    gru: GRU,
    head: Linear,
}

struct Characters;

impl Task for Characters {
    type Settings = Settings;
    type Data = Text;
    type Model = VarModel<Net>;
    type Batch = [Tensor; 2];

    fn name(&self) -> &'static str {
        "characters"
    }

    fn metrics(&self) -> Vec<TaskMetric> {
        vec![TaskMetric::lower("bits_per_character")]
    }

    fn validate(&self, settings: &Settings) -> Result<(), OutOfRange> {
        OutOfRange::check(settings.window > 0, "window", "1 or more", &settings.window)?;
        OutOfRange::check((1..=4096).contains(&settings.hidden), "hidden", "1 to 4096", &settings.hidden)
    }

    fn data(&self, settings: &Settings, folder: Option<&Path>) -> TaskResult<Text> {
        let bytes = match &settings.text {
            None => include_bytes!("../../../LICENSE-APACHE").to_vec(),
            Some(file) => fs::read(folder.ok_or("no data folder: name it with `--data-dir`")?.join(file))?,
        };
        let mut alphabet = bytes.clone();
        alphabet.sort_unstable();
        alphabet.dedup();
        let number = |byte: &u8| alphabet.partition_point(|other| other < byte) as u32;
        let name = settings.text.as_ref().map_or("licence".into(), |file| file.display().to_string());
        let about = AboutData::new(&name, &name, &np_runner::sha256(&bytes));
        Ok(Text { characters: bytes.iter().map(number).collect(), kinds: alphabet.len(), about })
    }

    /// Settings of the model make no other data.
    fn data_key(&self, settings: &Settings) -> String {
        format!("{:?}", settings.text)
    }

    fn files(&self, settings: &Settings) -> Vec<PathBuf> {
        settings.text.iter().cloned().collect()
    }

    fn about(&self, _: &Settings, text: &Text) -> AboutData {
        text.about.clone()
    }

    fn examples(&self, settings: &Settings, text: &Text, _seed: u64) -> TaskResult<Examples> {
        let windows = text.characters.len().saturating_sub(1) / settings.window;
        let test = windows / 10;
        if test == 0 {
            return Err("the text is shorter than ten windows".into());
        }
        Ok(Examples { train: (0..).take(windows - test).collect(), validation: Vec::new(), test })
    }

    fn model(&self, settings: &Settings, text: &Text, seed: u64, device: &Device) -> TaskResult<VarModel<Net>> {
        let (kinds, hidden) = (text.kinds, settings.hidden);
        let vars = NamedVars::new(seed);
        let vb = vars.builder(DType::F32, device);
        let embedding = candle_nn::embedding(kinds, hidden, vb.pp("embedding"))?;
        let gru = candle_nn::gru(hidden, hidden, GRUConfig::default(), vb.pp("gru"))?;
        let head = candle_nn::linear(hidden, kinds, vb.pp("head"))?;
        Ok(vars.model(format!("GRU {kinds}-{hidden}-{kinds}"), Net { embedding, gru, head }))
    }

    fn batch(&self, settings: &Settings, text: &Text, picked: Picked<'_>, device: &Device) -> TaskResult<[Tensor; 2]> {
        let (window, n) = (settings.window, picked.examples.len());
        let first = match picked.half {
            Half::Train => 0,
            Half::Test => self.examples(settings, text, 0)?.train.len(),
        };
        let windows = |shift: usize| -> candle_core::Result<Tensor> {
            let of = |example: &u32| text.characters[(first + *example as usize) * window + shift..][..window].to_vec();
            Tensor::from_vec(picked.examples.iter().flat_map(of).collect(), (n, window), device)
        };
        Ok([windows(0)?, windows(1)?])
    }

    fn loss(&self, net: &VarModel<Net>, [inputs, targets]: &[Tensor; 2], _: Mode) -> TaskResult<Loss> {
        let states = net.gru.seq(&net.embedding.forward(inputs)?)?;
        let states: Vec<&Tensor> = states.iter().map(|state| &state.h).collect();
        let logits = net.head.forward(&Tensor::stack(&states, 1)?)?.flatten_to(1)?;
        let loss = candle_nn::loss::cross_entropy(&logits, &targets.flatten_all()?)?;
        let n = inputs.dim(0)? as f64;
        Ok(Loss::new(loss)?.with_sums(|mean| vec![n * mean / std::f64::consts::LN_2]))
    }
}

fn main() -> ExitCode {
    let tasks = Tasks::builtin().with(Characters).version("characters", env!("CARGO_PKG_VERSION"));
    np_runner::cli::main_with(tasks)
}
