//! Figure 10: the time of an optimizer step of this project and of PyTorch, and the memory limit. Drawn from the times that `cargo xtask bench --keep` keeps.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use plotters::style::RGBColor;
use serde::Deserialize;

use super::gpu_cost::Gpu;
use super::table::csv;
use super::{Figure, Scale};
use crate::bench::cuda::Measured;
use crate::draw::axis::{Axis, Limits};
use crate::draw::canvas::Fill;
use crate::draw::chart::{Bar, Bound, Layer};
use crate::draw::panel::{self, Grid, Key, Layout, Notes, Panel};
use crate::draw::theme::{self, PANEL_WIDTH};

/// Height of a row, in pixels.
const ROW: f64 = 96.0;
/// End of panel A's axis: longer bars are cut and marked.
const LONGEST: f64 = 7.0;

/// Nanoseconds per parameter of a step of the published PyTorch code, with 11 million parameters on two cores; measured once, not by this bench.
const PUBLISHED: u32 = 117;

/// A file of timings that `cargo xtask bench --keep` has written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// Unit of the times.
    #[serde(rename = "unit")]
    _unit: String,
    date: String,
    pub(crate) machine: Machine,
    threads: usize,
    commit: Option<String>,
    torch: Option<String>,
    pub(crate) ours: BTreeMap<String, f64>,
    pub(crate) theirs: BTreeMap<String, f64>,
    #[serde(default)]
    state: BTreeMap<String, f64>,
    #[serde(default)]
    memory_gb_s: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    cpu: String,
    pub(crate) cores: usize,
    #[serde(rename = "os")]
    _os: String,
}

/// The latest file of timings, by its name: of optimizers' steps, or with `models` of training rates.
pub(crate) fn latest_path(root: &Path, models: bool) -> Result<PathBuf> {
    let folder = root.join("xtask/bench/results");
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let of_a_gpu = name.ends_with("-cuda.json");
        if name.ends_with(".json") && !of_a_gpu && name.ends_with("-models.json") == models {
            paths.push(path);
        }
    }
    paths.sort();
    let Some(path) = paths.pop() else {
        bail!("`{}` has no timings\nhint: `cargo xtask bench --keep` measures them", folder.display())
    };
    Ok(path)
}

/// The latest timings of optimizers.
pub(crate) fn latest(root: &Path) -> Result<Kept> {
    let path = latest_path(root, false)?;
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("`{}` is not what `cargo xtask bench --keep` writes", path.display()))
}

/// A row: name, ours, PyTorch's, the limit.
pub(super) struct Cost {
    pub(super) key: String,
    pub(super) label: String,
    pub(super) ours: f64,
    pub(super) theirs: Option<f64>,
    pub(super) limit: Option<f64>,
}

/// Further variants of optimizers that are measured, with their labels.
const FORMS: [(&str, &str); 5] = [
    ("neuroplastic_unwatched", "NeuroPlastic, no diagnostics"),
    ("neuroplastic_controlled", "NeuroPlastic, controller"),
    ("neuroplastic_bounded", "NeuroPlastic, bounded"),
    ("neuroplastic_orthogonal", "NeuroPlastic, orthogonal"),
    ("neuroplastic_hybrid_adamw", "NeuroPlastic on AdamW"),
];

/// In each row a bar of this project above one of PyTorch, cut at `longest`.
pub(super) fn bars(costs: &[Cost], [ours, theirs]: [RGBColor; 2], longest: f64) -> Layer {
    let mut bars = Vec::new();
    for (i, cost) in costs.iter().enumerate() {
        let bar = |shift: f64, value: f64, colour| Bar {
            row: i as f64 + shift,
            value: value.min(longest),
            thickness: 0.34,
            colour,
            fill: Fill::Solid,
        };
        bars.push(bar(-0.19, cost.ours, ours));
        bars.extend(cost.theirs.map(|value| bar(0.19, value, theirs)));
    }
    Layer::Bars(bars)
}

/// The memory limits, as ticks.
pub(super) fn bounds(costs: &[Cost]) -> Layer {
    let one = |(i, cost): (usize, &Cost)| Some(Bound { row: i as f64, value: cost.limit? });
    Layer::Bounds(costs.iter().enumerate().filter_map(one).collect())
}

/// Both times, as text beside each row.
pub(super) fn notes(costs: &[Cost]) -> Option<Notes> {
    let digits = |value: f64| if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") };
    let line = |(i, cost): (usize, &Cost)| {
        (i as f64, format!("{} / {}", digits(cost.ours), cost.theirs.map_or_else(|| "–".into(), digits)))
    };
    Some(Notes { head: "ours / PyTorch".into(), lines: costs.iter().enumerate().map(line).collect() })
}

/// An axis with the rows' labels.
pub(super) fn names(costs: &[Cost]) -> Axis {
    Axis::rows(costs.iter().map(|cost| cost.label.clone()).collect())
}

/// Draws the figure.
pub(crate) fn draw(scale: Scale, kept: &Kept, measured: Option<&Measured>) -> Result<Figure> {
    let large = kept.rows("11M")?;
    let matrices = kept.matrices();
    let colours = [theme::arm("full")?.colour, theme::GREY];
    let [ours, theirs] = colours;
    let keys = [Key::bar(ours, "ours"), Key::bar(theirs, "PyTorch")];
    let limited = large.iter().any(|cost| cost.limit.is_some());
    let layers = vec![bars(&large, colours, LONGEST), bounds(&large)];
    let mut x = Axis::linear("Nanoseconds a parameter and step", [0.0, LONGEST], Limits::POSITIVE);
    x.high = LONGEST;
    let element_wise = Panel {
        title: "11 million parameters".into(),
        x,
        y: names(&large),
        layers,
        key: keys.iter().cloned().chain(limited.then(|| Key::bound("memory alone"))).collect(),
        grid: Grid::Rows,
        notes: notes(&large),
    };
    let mut x = Axis::logarithmic("Nanoseconds a parameter and step", &[1.0, 30_000.0]);
    x.ticks.retain(|(_, label)| !label.is_empty());
    x.low = 1.0;
    let with_matrices = Panel {
        title: "Matrix methods, at their own sizes".into(),
        x,
        y: names(&matrices),
        layers: vec![bars(&matrices, colours, f64::INFINITY)],
        key: [&keys[..], &[Key::remark("(logarithmic)")]].concat(),
        grid: Grid::Rows,
        notes: notes(&matrices),
    };
    let wide = 1.5 * PANEL_WIDTH;
    let gpu = measured.map(|measured| Gpu::of(measured, kept));
    let (mut panels, mut rows) = (vec![element_wise, with_matrices], vec![large.len(), matrices.len()]);
    if let Some(gpu) = &gpu {
        panels.extend(gpu.panels(&keys, colours));
        rows.extend(gpu.rows());
    }
    let drawing = panel::figure("Figure 10: cost", &panels, Layout::of_rows(1, wide, &rows, ROW), &[])?;
    let (table, caption) = (kept.table(&[large, matrices], gpu.as_ref()), kept.caption(scale, gpu.as_ref()));
    Ok(Figure { name: "fig10", drawing, table, caption })
}

/// Steps that are measured on a single matrix: key and label.
const MATRICES: [(&str, &str); 6] = [
    ("adafactor_matrix", "Adafactor, 1024 × 1024"),
    ("muon_matrix", "Muon, 1024 × 1024"),
    ("soap_block", "SOAP, 256 × 256"),
    ("shampoo_block", "Shampoo, 256 × 256"),
    ("kfac_mlp", "K-FAC, the MLP"),
    ("lbfgs_mlp", "L-BFGS, the MLP"),
];

impl Kept {
    /// The row of timing `key`, labelled `label`; `None` if it was not measured.
    fn cost(&self, key: &str, label: String) -> Option<Cost> {
        let ours = *self.ours.get(key)?;
        let limit = self.bytes(key).zip(self.memory_speed()).map(|(bytes, speed)| bytes / speed);
        Some(Cost { key: key.into(), label, ours, theirs: self.theirs.get(key).copied(), limit })
    }

    /// The least number of bytes that a step moves per parameter: it reads and writes the parameter, reads the gradient, and reads and writes the state, in
    /// numbers of four bytes.
    pub(super) fn bytes(&self, key: &str) -> Option<f64> {
        self.state.get(key).map(|state| (3.0 + 2.0 * state) * 4.0)
    }

    /// The highest memory bandwidth that was measured on this machine, in bytes per nanosecond: of a plain loop, or of any step of this project or of PyTorch at a
    /// size that fits in no cache.
    fn memory_speed(&self) -> Option<f64> {
        let large = |(key, time): (&String, &f64)| Some(self.bytes(key).filter(|_| key.ends_with("_11M"))? / time);
        let steps = self.ours.iter().chain(&self.theirs).filter_map(large);
        Some(steps.fold(self.memory_gb_s?, f64::max))
    }

    /// All optimizers at a size, in ascending order of this project's times.
    fn rows(&self, size: &str) -> Result<Vec<Cost>> {
        let known = theme::shown().into_iter().map(|(kind, _, label)| (kind, label)).chain(FORMS);
        let mut seen: Vec<&str> = Vec::new();
        let mut costs: Vec<Cost> = Vec::new();
        for (kind, label) in known {
            if !seen.contains(&kind) {
                seen.push(kind);
                costs.extend(self.cost(&format!("{kind}_{size}"), label.into()));
            }
        }
        let measured = self.ours.keys().filter_map(|key| key.strip_suffix(size)?.strip_suffix('_'));
        if let Some(unknown) = measured.into_iter().find(|kind| !seen.contains(kind)) {
            bail!(
                "`{unknown}` was measured and has no name\nhint: give it a row in crates/np-core/src/optim/rows.rs, or in `FORMS` of cost.rs"
            );
        }
        costs.sort_by(|a, b| a.ours.total_cmp(&b.ours));
        Ok(costs)
    }

    fn matrices(&self) -> Vec<Cost> {
        let mut costs: Vec<Cost> = MATRICES.iter().filter_map(|(key, label)| self.cost(key, (*label).into())).collect();
        costs.sort_by(|a, b| a.ours.total_cmp(&b.ours));
        costs
    }

    fn table(&self, panels: &[Vec<Cost>; 2], gpu: Option<&Gpu<'_>>) -> String {
        let mut rows = vec![["panel", "key", "unit", "ours", "pytorch", "memory_limit"].map(String::from).to_vec()];
        for (letter, costs) in ["A", "B"].iter().zip(panels) {
            rows.extend(costs.iter().map(|cost| {
                let text = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
                let (letter, unit) = ((*letter).into(), "ns_per_parameter".into());
                vec![letter, cost.key.clone(), unit, cost.ours.to_string(), text(cost.theirs), text(cost.limit)]
            }));
        }
        if let Some(gpu) = gpu {
            rows.extend(gpu.table());
        }
        csv(&rows)
    }

    fn caption(&self, scale: Scale, gpu: Option<&Gpu<'_>>) -> String {
        let torch = self.torch.as_deref().unwrap_or("none");
        let of_gpu = gpu.map_or_else(String::new, Gpu::caption);
        let note = gpu.and_then(Gpu::note).map_or_else(String::new, |note| format!("- {note}\n"));
        let from_gpu = gpu.map_or_else(String::new, |gpu| format!("- {}\n", gpu.made_from()));
        let speed = self.memory_speed().map_or_else(String::new, |speed| {
            format!(
                " The black tick is the time that memory alone takes: parameter and state read and written once, the gradient read once, at the {speed:.0} GB/s \
                 at which the fastest of these steps moved memory."
            )
        });
        format!(
            "**Figure 10. Cost.** Time of one optimizer step in nanoseconds a parameter, ours and PyTorch's (its fastest form: fused where there is \
one, else the faster of the loop over tensors and `foreach`; for what torch lacks, the packages pytorch_optimizer, schedulefree and prodigyopt), \
measured in turn on the same threads, the best of several rounds.{speed} A: one tensor of 11 million parameters, bars beyond {LONGEST} \
cut. NeuroPlastic gathers its diagnostics, but where the label says otherwise; the \
published PyTorch code takes {PUBLISHED} ns. B: methods that work on whole matrices, at sizes that they can be measured at, logarithmic.{of_gpu}\n\
\n\
Notes:\n\
\n\
- at 11 million parameters nothing stays in a cache, and the speed of memory drifts by a fifth within minutes: differences below that are none\n\
- our L-BFGS works in double precision, PyTorch's in single; PyTorch's Muon orthogonalises in bfloat16, for which a CPU without such instructions converts\n\
- the published code's {PUBLISHED} ns are no measurement of this bench: its authors' code is not part of it\n\
{note}\n\
Made from:\n\
\n\
- `cargo xtask bench --keep` on {}, {} cores, {} threads, {}, commit `{}`; PyTorch {torch}\n\
{from_gpu}\
- redraw: `cargo xtask figures --scale {scale} --only 10`; the timings are those of the machines above at every scale\n",
            self.machine.cpu,
            self.machine.cores,
            self.threads,
            self.date,
            self.commit.as_deref().unwrap_or("unknown").chars().take(12).collect::<String>(),
        )
    }
}
