//! Damaged experiments, options, snapshots, optimizer states and golden files: they may be refused, with no panic, no end of the stack,
//! and no more memory than their size accounts for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use candle_core::Device;
use common::TINY;
use np_core::{Backend, OptimizerConfig, OptimizerState, Options};
use np_data::{DataName, DataSet, Source};
use np_fuzz::{Meter, Rng, Target, damage, damage_tree, memory_folder};
use np_models::{Mlp, MlpConfig, Model as _};
use np_runner::{Error, News, Request, RunConfig, Snapshot, plan, replay, train};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

#[global_allocator]
static METER: Meter = Meter;

/// Keys and values of the format, and what YAML makes of a few signs.
const WORDS: [&str; 35] = [
    "arms",
    "sweep",
    "seeds",
    "scales",
    "quick",
    "model",
    "resnet18",
    "mlp",
    "hidden",
    "optimizer",
    "neuroplastic",
    "base",
    "hybrid",
    "kfac",
    "lbfgs",
    "muon",
    "options",
    "groups",
    "match",
    "*",
    "schedule",
    "cosine",
    "train",
    "epochs",
    "data.count",
    "optimizer.lr",
    "<<",
    "!!binary",
    "1e999",
    "0x7fffffffffffffff",
    "search",
    "space",
    "choice",
    "uniform",
    "int",
];

const SIGNS: [&str; 14] =
    ["&a ", "*a", "<<: ", "? ", "- ", "{", "[", "|\n", ">\n", "!!map ", "%YAML 9.9\n---\n", "\t", "\u{feff}", "...\n"];

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

/// An experiment with most of what one can say.
const RICH: &str = "\
name: x
question: What can be said?
data: {name: fashion-mnist, source: mini, count: 100, sampling: stratified, validation: 0.1, augment: crop_flip}
model: {mlp: {hidden: [8, 4], dropout: 0.1}}
train: {epochs: 2, batch_size: 32, eval_batch_size: 100}
options: {clip: {norm: 1.0}, accumulate: 2, schedule: {cosine: {}}, groups: [{match: 'fc1.*', lr_scale: 2}]}
seeds: [1, 2]
arms:
  full: {optimizer: {neuroplastic: {lr: 0.1, coefficient: {scale: 2.0, warmup_epochs: 1}}}}
  adamw: {optimizer: adamw, train: {epochs: 3}}
sweep: {data.count: [50, 100], train.batch_size: [16, 32]}
scales: {cpu: {train: {epochs: 5}}, paper: {seeds: [1, 2, 3]}}
";

/// One that draws its configurations.
const SEARCHED: &str = "\
name: x
question: What is best?
outcome: {metric: test_loss, last_epochs: 2}
data: {count: 60, validation: 0.1}
model: {mlp: {hidden: [8]}}
train: {epochs: 4}
seeds: [1, 2]
search: {method: successive_halving, seed: 1, configurations: 3, min_epochs: 1, reduction: 2, space: {train.batch_size: {int: [8, 32]}}}
arms:
  sgd: {optimizer: sgd, space: {optimizer.lr: {log_uniform: [0.01, 1]}, optimizer.momentum: {uniform: [0, 0.9]}}}
  adam: {optimizer: adam, space: {options.schedule: {choice: [constant, cosine]}}}
";

fn experiment(rng: &mut Rng) -> Vec<u8> {
    let text = match rng.below(3) {
        0 => RICH.to_owned(),
        1 => SEARCHED.to_owned(),
        _ => TINY.replace("name: tiny", "name: x"),
    };
    if rng.below(2) == 0 {
        let mut bytes = text.into_bytes();
        let words: &[&str] = if rng.below(2) == 0 { &SIGNS } else { &WORDS };
        damage(&mut bytes, usize::MAX, words, rng);
        return bytes;
    }
    let mut tree: Value = serde_yaml::from_str(&text).unwrap();
    damage_tree(&mut tree, &WORDS, rng);
    // JSON is YAML too, but for a few signs.
    if rng.below(2) == 0 { tree.to_string().into_bytes() } else { serde_yaml::to_string(&tree).unwrap().into_bytes() }
}

#[test]
fn damaged_experiments() {
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let file = dir.path().join("x.yaml");
    let request = Request { file: file.clone(), ..Request::default() };
    // A set of images is loaded for its labels; each run has its tree; a handful of bytes can name a thousand runs.
    let target =
        Target { name: "yaml", corpus: &corpus("yaml"), inputs: 1_500, percent: 15, base: 64 << 20, per_byte: 4_096 };
    let (inputs, good) = target.run(experiment, |bytes| {
        fs::write(&file, bytes).unwrap();
        match plan(&request, None) {
            Ok(planned) => !planned.plan.runs.is_empty(),
            Err(Error::Fault(_)) => false,
            Err(other) => panic!("{other}"),
        }
    });
    assert!(good > 0 && good < inputs, "{good}");
}

#[test]
fn options_without_sense() {
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let file = dir.path().join("x.yaml");
    fs::write(&file, RICH).unwrap();
    let sound =
        ["optimizer.lr=0.05", "train={epochs: 3}", "model.mlp.hidden=[4, 4]", "data.count=10,20", "options.groups=[]"];
    let target =
        Target { name: "option", corpus: &corpus("option"), inputs: 500, percent: 5, base: 64 << 20, per_byte: 4_096 };
    let make = |rng: &mut Rng| {
        let mut bytes = rng.of(&sound).as_bytes().to_vec();
        damage(&mut bytes, usize::MAX, if rng.below(2) == 0 { &SIGNS } else { &WORDS }, rng);
        bytes
    };
    let (inputs, good) = target.run(make, |bytes| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let with = |set: Vec<String>, sweep: Vec<String>, seeds: Option<String>| {
            let request = Request { file: file.clone(), set, sweep, seeds, ..Request::default() };
            plan(&request, None).is_ok()
        };
        let set = with(vec![text.clone()], vec![], None);
        set | with(vec![], vec![text.clone()], None) | with(vec![], vec![], Some(text))
    });
    assert!(good > 0 && good < inputs, "{good}");
}

/// Aliases that stand for more than any memory holds, nesting without end, a product without end.
#[test]
fn bombs() {
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let file = dir.path().join("x.yaml");
    let request = Request { file: file.clone(), ..Request::default() };
    let mut laughs = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
    for level in 1..20 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        let _ = writeln!(laughs, "a{level}: &a{level} [{before}]");
    }
    let values = |from: usize| (from..from + 100).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let sweep = format!(
        "sweep: {{train.epochs: [{0}], train.batch_size: [{0}], train.eval_batch_size: [{0}], data.count: [{0}]}}",
        values(1)
    );
    let grid = TINY.replace("name: tiny", "name: x").replace("fraction: 0.05", "validation: 0.1") + &sweep;
    let deep = |open: &str| format!("{RICH}x: {}", open.repeat(200_000));
    let bombs = [
        (laughs, "with every alias written out"),
        (format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a, ".repeat(100_000)), "with every alias written out"),
        (grid, "expected at most 10000 runs, of all arms, values and seeds, got 400000000"),
        (format!("{RICH}x: {}", "[".repeat(40)), "lists and maps within one another"),
        // The scanner looks ahead, and has a limit of its own.
        (deep("["), "not valid YAML: recursion limit exceeded"),
        (deep("{a: "), "x.yaml"),
        (deep("- "), "x.yaml"),
        (deep("? "), "x.yaml"),
        (format!("{RICH}sweep: {{optimizer{}: [1]}}", ".a".repeat(100_000)), "x.yaml"),
        ("x".repeat(3 << 20), "expected an experiment of at most 1048576 bytes, got more"),
    ];
    for (text, expected) in bombs {
        fs::write(&file, text).unwrap();
        let (result, peak) = np_fuzz::measure(|| plan(&request, None));
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(peak < 64 << 20, "{peak} bytes for: {error}");
    }
    fs::write(&file, RICH).unwrap();
    let set = vec![format!("optimizer{}=1", ".a".repeat(60_000))];
    let error = plan(&Request { set, ..request }, None).unwrap_err().to_string();
    assert!(error.ends_with("expected a path of at most 32 keys, got 60001"), "{error}");
    let endless = Request { file: "/dev/zero".into(), ..Request::default() };
    if endless.file.exists() {
        assert!(plan(&endless, None).unwrap_err().to_string().contains("at most 1048576 bytes"));
    }
}

/// A safetensors file taken apart: the JSON of its header, and its data.
fn taken_apart(bytes: &[u8]) -> (Value, &[u8]) {
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    (serde_json::from_slice(header).unwrap(), data)
}

/// Damage to a safetensors file: to its bytes, or to the tree of its header, with the length made to fit.
fn damaged(bytes: &[u8], words: &[&str], rng: &mut Rng) -> Vec<u8> {
    if rng.below(2) == 0 {
        let mut bytes = bytes.to_vec();
        damage(&mut bytes, 2_000, words, rng);
        return bytes;
    }
    let (mut header, data) = taken_apart(bytes);
    // A text in the metadata that is JSON itself is a tree too.
    let inner = ["spec", "progress"].into_iter().find(|key| header["__metadata__"][*key].is_string());
    match inner.filter(|_| rng.below(2) == 0) {
        Some(key) => {
            let mut tree = serde_json::from_str(header["__metadata__"][key].as_str().unwrap()).unwrap();
            damage_tree(&mut tree, words, rng);
            header["__metadata__"][key] = tree.to_string().into();
        }
        None => damage_tree(&mut header, words, rng),
    }
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

const TENSOR_WORDS: [&str; 12] = [
    "__metadata__",
    "data_offsets",
    "shape",
    "dtype",
    "F64",
    "U8",
    "BF16",
    "18446744073709551615",
    "-1",
    "NaN",
    "none",
    "1e999",
];

/// Header and metadata as trees and maps; the tensors once more.
const PER_BYTE: usize = 300;

fn small_model(seed: u64) -> Mlp {
    let config = MlpConfig { hidden: vec![3], ..MlpConfig::default() };
    Mlp::new(4, 2, &config, seed, &Device::Cpu).unwrap()
}

fn optimizer(kind: &str, model: &Mlp) -> Box<dyn np_core::AnyOptimizer> {
    let config: OptimizerConfig = serde_json::from_value(json!({ kind: {} })).unwrap();
    config.build_with(model.parameters(), Options::default(), Backend::Auto).unwrap()
}

#[test]
fn damaged_states_of_optimizers() {
    let model = small_model(1);
    let kinds = ["neuroplastic", "adamw", "shampoo", "kfac", "lbfgs", "schedule_free_adamw"];
    let kinds: Vec<&str> = kinds.into_iter().filter(|kind| OptimizerConfig::KINDS.contains(kind)).collect();
    assert!(kinds.len() > 4, "{kinds:?}");
    let states: Vec<(&str, Vec<u8>)> =
        kinds.iter().map(|kind| (*kind, optimizer(kind, &model).state().unwrap().to_safetensors().unwrap())).collect();
    let target = Target {
        name: "state",
        corpus: &corpus("state"),
        inputs: 2_000,
        percent: 8,
        base: 1 << 20,
        per_byte: PER_BYTE,
    };
    let mut which = 0;
    let (inputs, good) = target.run(
        |rng| damaged(&rng.of(&states).1.clone(), &TENSOR_WORDS, rng),
        |bytes| {
            let Ok(state) = OptimizerState::from_safetensors(bytes) else { return false };
            which += 1;
            // Its own kind, where it still says one, and another.
            let kind = states
                .iter()
                .map(|(kind, _)| *kind)
                .find(|kind| *kind == state.kind)
                .unwrap_or(kinds[which % kinds.len()]);
            optimizer(kind, &model).load_state(&state).is_ok()
        },
    );
    assert!(good > 0 && good < inputs, "{good}");
}

#[test]
fn damaged_checkpoints_of_models() {
    let model = small_model(1);
    let tensors = model.parameters().into_iter().map(|(name, var)| (name, var.as_tensor().clone()));
    let sound = safetensors::serialize(tensors.collect::<Vec<_>>(), None).unwrap();
    let target = Target {
        name: "checkpoint",
        corpus: &corpus("checkpoint"),
        inputs: 1_000,
        percent: 3,
        base: 1 << 20,
        per_byte: PER_BYTE,
    };
    let (inputs, good) = target.run(
        |rng| damaged(&sound, &TENSOR_WORDS, rng),
        |bytes| {
            let Ok(tensors) = candle_core::safetensors::load_buffer(bytes, &Device::Cpu) else { return false };
            np_models::load(&model, &tensors).is_ok()
        },
    );
    assert!(good > 0 && good < inputs, "{good}");
}

/// A snapshot of a run, as a file, with the run that it is of.
fn snapshot() -> Vec<u8> {
    let config = json!({
        "data": {"name": "mnist", "source": "mini", "fraction": 0.01}, "model": {"mlp": {"hidden": [2], "dropout": 0.0}},
        "train": {"epochs": 2, "batch_size": 32}, "optimizer": {"adamw": {}}, "seed": 1,
    });
    let config: RunConfig = serde_json::from_value(config).unwrap();
    let data = DataSet::load(DataName::Mnist, Source::Mini, None).unwrap().into();
    let mut bytes = Vec::new();
    train(&config, &data, None, &mut |news| {
        if let News::Epoch(_, _, Some(state)) = news {
            bytes = state.snapshot("id")?.to_bytes()?;
        }
        Ok(())
    })
    .unwrap();
    bytes
}

#[test]
fn damaged_snapshots() {
    let sound = snapshot();
    let model = small_model(1);
    let end = sound.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let target = Target {
        name: "snapshot",
        corpus: &corpus("snapshot"),
        inputs: 1_000,
        percent: 5,
        base: 1 << 20,
        per_byte: PER_BYTE,
    };
    let make = |rng: &mut Rng| {
        if rng.below(8) == 0 {
            let mut bytes = sound.clone();
            damage(&mut bytes, usize::MAX, &[], rng);
            return bytes;
        }
        // With the digest made to fit: what a faulty writer would leave.
        let rest = damaged(&sound[end..], &TENSOR_WORDS, rng);
        let digest: String = Sha256::digest(&rest).iter().map(|byte| format!("{byte:02x}")).collect();
        [format!("np-snapshot 1 {digest}\n").as_bytes(), &rest].concat()
    };
    let (inputs, good) = target.run(make, |bytes| {
        let Ok(snapshot) = Snapshot::from_bytes(bytes, "id") else { return false };
        // It is of another model than this one: that is said, whatever else is wrong with it.
        assert!(snapshot.restore(&small_model(2), optimizer("adamw", &model).as_mut()).is_err());
        true
    });
    assert!(good > 0 && good < inputs, "{good}");
}

#[test]
fn damaged_golden_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../np-core/tests/golden");
    let names = ["adamw", "rule_default", "muon"];
    let files = names.map(|name| fs::read(folder.join(format!("{name}.safetensors"))).unwrap());
    // A replay keeps the optimizer's state and work space.
    let target = Target {
        name: "golden",
        corpus: &corpus("golden"),
        inputs: 300,
        percent: 5,
        base: 16 << 20,
        per_byte: PER_BYTE,
    };
    let (inputs, good) = target
        .run(|rng| damaged(&rng.of(&files).clone(), &TENSOR_WORDS, rng), |bytes| replay(bytes, Backend::Auto).is_ok());
    assert!(good > 0 && good < inputs, "{good}");
}
