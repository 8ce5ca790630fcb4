//! The GPU panels of figure 10: the times last kept by `cargo xtask bench --device cuda --keep`, if there are any.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use plotters::style::RGBColor;

use super::cost::{Cost, Kept, bars, bounds, names, notes};
use crate::bench::cuda::Measured;
use crate::draw::axis::{Axis, Limits};
use crate::draw::panel::{Grid, Key, Panel};

/// Parameters of the ResNet-18 whose tensors are stepped: width 64, ten classes.
const PARAMETERS: f64 = 11_173_962.0;

/// Steps: key, label, and the key of the CPU's timing that tells the size of the optimizer's state.
const STEPS: [(&str, &str, &str); 13] = [
    ("sgd_momentum", "SGD, momentum", "sgd_momentum_11M"),
    ("lion", "Lion", "lion_11M"),
    ("adamw", "AdamW", "adamw_11M"),
    ("adamw, clipped by norm", "AdamW, gradients clipped", "adamw_11M"),
    ("radam", "RAdam", "radam_11M"),
    ("lars", "LARS", "lars_11M"),
    ("lamb", "LAMB", "lamb_11M"),
    ("prodigy", "Prodigy", "prodigy_11M"),
    ("neuroplastic", "NeuroPlastic, no diagnostics", "neuroplastic_unwatched_11M"),
    ("neuroplastic, diagnostics", "NeuroPlastic", "neuroplastic_11M"),
    ("neuroplastic, controlled", "NeuroPlastic, controller", "neuroplastic_controlled_11M"),
    ("hybrid of adamw", "NeuroPlastic on AdamW", "neuroplastic_hybrid_adamw_11M"),
    ("hybrid of lion", "NeuroPlastic on Lion", "neuroplastic_hybrid_lion_11M"),
];

/// Whole training steps: models, and what an optimizer adds.
const MODELS: [&str; 4] = [
    "MLP, batch 128",
    "ResNet-18, width 16, batch 128",
    "ResNet-18, width 64, batch 32",
    "ResNet-18, width 64, batch 128",
];
const WITH: [(&str, &str); 2] = [("tf32", "passes alone"), ("tf32, neuroplastic", "with its step*")];

/// The latest timings on a GPU, if there are any.
pub(super) fn latest(root: &Path) -> Result<Option<Measured>> {
    let folder = root.join("xtask/bench/results");
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with("-cuda.json") {
            paths.push(path);
        }
    }
    paths.sort();
    let Some(path) = paths.pop() else { return Ok(None) };
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let measured = serde_json::from_str(&text);
    measured
        .map(Some)
        .with_context(|| format!("`{}` is not what `cargo xtask bench --device cuda --keep` writes", path.display()))
}

/// The timings of a GPU that are drawn.
pub(super) struct Gpu<'a> {
    measured: &'a Measured,
    /// Milliseconds of steps at ResNet-18's tensors.
    steps: Vec<Cost>,
    /// Milliseconds of whole training steps; empty where none were measured.
    passes: Vec<Cost>,
}

/// The highest memory bandwidth that was measured on the GPU, in GB/s: of a copy, or of any step.
fn memory_speed(measured: &Measured) -> Option<f64> {
    let steps = measured.steps.values().filter_map(|step| step.gb_s);
    Some(steps.fold(measured.copy_gb_s?, f64::max))
}

/// A model's name without its maker and memory, for a panel's title: `H100` of `NVIDIA H100 80GB HBM3`. The caption has all of it.
fn short(device: &str) -> String {
    let is_memory = |word: &&str| word.strip_suffix("GB").is_some_and(|size| size.parse::<u32>().is_ok());
    let words = device.strip_prefix("NVIDIA ").unwrap_or(device).split(' ');
    words.take_while(|word| !is_memory(word)).collect::<Vec<_>>().join(" ")
}

impl<'a> Gpu<'a> {
    /// The rows, in ascending order of the steps' times. The sizes of the optimizers' state are from `cpu`.
    pub(super) fn of(measured: &'a Measured, cpu: &Kept) -> Self {
        let speed = memory_speed(measured);
        let step = |(name, label, kept): &(&str, &str, &str)| {
            let key = format!("resnet18/{name}");
            let ours = measured.steps.get(&key)?.done_ms;
            let limit = cpu.bytes(kept).zip(speed).map(|(bytes, speed)| PARAMETERS * bytes / speed * 1e-6);
            Some(Cost { theirs: measured.torch_step(&key), key, label: (*label).into(), ours, limit })
        };
        let mut steps: Vec<Cost> = STEPS.iter().filter_map(step).collect();
        steps.sort_by(|a, b| a.ours.total_cmp(&b.ours));
        let pass = |model: &str, (which, label): &(&str, &str)| {
            let key = format!("{model}, {which}");
            let ours = *measured.passes.get(&key)?;
            Some(Cost { theirs: measured.torch_pass(&key), key, label: format!("{model}, {label}"), ours, limit: None })
        };
        let passes = MODELS.iter().flat_map(|model| WITH.iter().filter_map(|with| pass(model, with))).collect();
        Self { measured, steps, passes }
    }

    /// Panel C, and panel D if whole training steps were measured.
    pub(super) fn panels(&self, keys: &[Key], colours: [RGBColor; 2]) -> Vec<Panel> {
        let panel = |title: &str, costs: &[Cost], limited: bool| {
            let values = costs.iter().flat_map(|cost| [Some(cost.ours), cost.theirs]).flatten().chain([0.0]);
            let limit = limited.then(|| Key::bound("memory alone"));
            Panel {
                title: format!("{}: {title}", short(&self.measured.device)),
                x: Axis::linear("Milliseconds a step", values, Limits::POSITIVE),
                y: names(costs),
                layers: vec![bars(costs, colours, f64::INFINITY), bounds(costs)],
                key: keys.iter().cloned().chain(limit).collect(),
                grid: Grid::Rows,
                notes: notes(costs),
            }
        };
        let limited = self.steps.iter().any(|cost| cost.limit.is_some());
        let mut panels = vec![panel("ResNet-18's tensors", &self.steps, limited)];
        if !self.passes.is_empty() {
            panels.push(panel("a training step, TF32", &self.passes, false));
        }
        panels
    }

    /// The number of rows of each panel.
    pub(super) fn rows(&self) -> Vec<usize> {
        [self.steps.len(), self.passes.len()].into_iter().filter(|rows| *rows > 0).collect()
    }

    /// Rows of the CSV: panel, key, unit, this project's time, PyTorch's, the limit. Rows that are not drawn have no panel.
    pub(super) fn table(&self) -> Vec<Vec<String>> {
        let text = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let unit = || "ms_per_step".to_owned();
        let line = |panel: &str, cost: &Cost| {
            vec![panel.into(), cost.key.clone(), unit(), cost.ours.to_string(), text(cost.theirs), text(cost.limit)]
        };
        let drawn = |key: &String| self.steps.iter().any(|cost| cost.key == *key);
        let others = self.measured.steps.iter().filter(|(key, _)| !drawn(key));
        let others = others.map(|(key, step)| {
            let (ours, theirs) = (step.done_ms.to_string(), text(self.measured.torch_step(key)));
            vec![String::new(), key.clone(), unit(), ours, theirs, String::new()]
        });
        let drawn = self.steps.iter().map(|cost| line("C", cost)).chain(self.passes.iter().map(|cost| line("D", cost)));
        drawn.chain(others).collect()
    }

    /// What the panels show, for the caption.
    pub(super) fn caption(&self) -> String {
        let speed = memory_speed(self.measured)
            .map_or_else(String::new, |speed| format!(", and the tick the time of the same memory at {speed:.0} GB/s"));
        let whole = if self.passes.is_empty() {
            String::new()
        } else {
            " D: a forward and a backward pass there, PyTorch's in the faster of its two layouts; with a step (*), ours of NeuroPlastic with diagnostics, PyTorch's of fused AdamW, which is less work; PyTorch is eager, ours one graph.".into()
        };
        format!(
            " C: milliseconds of a step on one {} at ResNet-18's 62 tensors, 11.2 million parameters in all, one after another, the best of several rounds; PyTorch's is the \
             faster of fused and `foreach`{speed}.{whole} The table also has the MLP's six tensors and methods of whole matrices.",
            self.measured.device
        )
    }

    /// The note of the file of timings, if it has one.
    pub(super) fn note(&self) -> Option<String> {
        self.measured.note.as_ref().map(|note| format!("the GPU's times: {note}"))
    }

    /// The device, software and date of the timings.
    pub(super) fn made_from(&self) -> String {
        let Measured { device, driver, date, commit, torch, .. } = self.measured;
        let commit: String = commit.as_deref().unwrap_or("unknown").chars().take(12).collect();
        let torch = torch.as_deref().unwrap_or("none");
        format!("`.ci/gpu.sh` on {device}, driver {driver}, {date}, commit `{commit}`; PyTorch {torch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(passes: &str) -> Measured {
        let text = format!(
            r#"{{"date": "2026-11-26", "device": "NVIDIA H200", "driver": "580.95.05", "commit": null, "torch": "2.11.0", "copy_gb_s": 4240.0,
                "steps": {{"resnet18/adamw": {{"done_ms": 0.08, "queued_ms": 0.05, "gb_s": 3900.0}}, "resnet18/sgd_momentum": {{"done_ms": 0.06, "queued_ms": 0.05}},
                           "mlp/adamw": {{"done_ms": 0.014, "queued_ms": 0.013}}}},
                "torch_steps": {{"resnet18/adamw/fused": 0.182, "resnet18/adamw/foreach": 0.94}}, "passes": {passes}, "torch_passes": {{"MLP, batch 128, tf32, adamw": 0.99}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_title_has_room_for_a_models_name() {
        for (device, name) in [
            ("NVIDIA H100 80GB HBM3", "H100"),
            ("NVIDIA H200", "H200"),
            ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090"),
            ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"),
        ] {
            assert_eq!(short(device), name);
        }
    }

    #[test]
    fn steps_have_limits_and_passes_a_panel_where_there_are_some() {
        let cpu = r#"{"unit": "", "date": "", "machine": {"cpu": "", "cores": 2, "os": ""}, "threads": 2, "commit": null, "torch": null,
            "ours": {}, "theirs": {}, "state": {"adamw_11M": 2.0}}"#;
        let cpu: Kept = serde_json::from_str(cpu).unwrap();
        let [none, some] =
            ["{}", r#"{"MLP, batch 128, tf32, neuroplastic": 0.2, "MLP, batch 128, tf32": 0.1}"#].map(measured);
        let (without, with) = (Gpu::of(&none, &cpu), Gpu::of(&some, &cpu));
        let colours = [RGBColor(0, 0, 0); 2];
        assert_eq!([without.panels(&[], colours).len(), with.panels(&[], colours).len()], [1, 2]);
        assert_eq!((without.rows(), with.rows()), (vec![2], vec![2, 2]));
        assert!(!without.caption().contains(" D: ") && with.caption().contains(" D: "), "{}", with.caption());
        // 28 bytes for each of 11,173,962 parameters at 4,240 GB/s; of SGD's nothing is said of what it keeps.
        let lines: Vec<String> = with.table().iter().map(|line| line.join(",")).collect();
        assert!(lines[0].starts_with("C,resnet18/sgd_momentum,ms_per_step,0.06,,"), "{lines:?}");
        assert!(lines[1].starts_with("C,resnet18/adamw,ms_per_step,0.08,0.182,0.0737"), "{lines:?}");
        let mlp = "\"MLP, batch 128, tf32, neuroplastic\",ms_per_step,0.2,0.99,".replace('"', "");
        assert_eq!(lines[3], format!("D,{mlp}"));
        assert_eq!(lines[4], ",mlp/adamw,ms_per_step,0.014,,");
    }
}
