//! Made-up records, and what must hold for every figure drawn from them. Nothing of it is ever written below `figures/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use np_record::{
    DataInfo, Epoch, Machine, ModelInfo, Outcome, Phases, Plan, PlannedRun, Provenance, Record, SCHEMA, SEMANTICS,
};
use resvg::usvg;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::runs::Runs;
use super::{Figure, Number, Scale, draw, write};
use crate::draw::font;

const ARMS: [&str; 3] = ["full", "gradient-only", "gradient-only-matched"];
const SEEDS: [u64; 3] = [41, 42, 43];
const EPOCHS: usize = 10;

pub(crate) fn write_spec(root: &Path, name: &str, text: &str) {
    fs::create_dir_all(root.join("experiments")).unwrap();
    fs::write(root.join(format!("experiments/{name}.yaml")), text).unwrap();
}

/// A plan of the kind that `np` makes for a figure's experiment, and a plausible record for each run.
pub(crate) fn experiment(name: &str, spec: &str) -> (Plan, Vec<Record>) {
    let (data, fractions): (&[&str], &[f64]) = match name {
        "fig3-low-data" => (&["fashion-mnist"], &[0.1, 0.25, 0.5, 1.0]),
        _ => (&["mnist", "fashion-mnist"], &[1.0]),
    };
    let (mut runs, mut records) = (Vec::new(), Vec::new());
    for arm in ARMS {
        for data in data {
            for &fraction in fractions {
                for seed in SEEDS {
                    let run = planned(arm, data, fraction, seed, fractions.len() > 1);
                    records.push(record(&run, data, fraction));
                    runs.push(run);
                }
            }
        }
    }
    let spec_sha256 = Sha256::digest(spec).iter().map(|byte| format!("{byte:02x}")).collect();
    let (experiment, question, scale) = (name.into(), "does the full rule help?".into(), "quick".into());
    (
        Plan { schema: SCHEMA, experiment, question, scale, spec_sha256, overrides: Vec::new(), selection: None, runs },
        records,
    )
}

fn planned(arm: &str, data: &str, fraction: f64, seed: u64, with_fraction: bool) -> PlannedRun {
    let bounds = if arm == "gradient-only" { [0.5, 1.5] } else { [0.2, 2.0] };
    let config = json!({
        "data": { "name": data, "fraction": fraction },
        "optimizer": { "neuroplastic": { "rule": arm, "coefficient": { "min": bounds[0], "max": bounds[1] } } },
        "seed": seed,
    });
    let mut axes = BTreeMap::from([("data.name".to_string(), Value::from(data))]);
    if with_fraction {
        axes.insert("data.fraction".into(), fraction.into());
    }
    let data_digest: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    PlannedRun { id: PlannedRun::id_of(&config, &data_digest), arm: arm.into(), seed, axes, config, data_digest }
}

fn record(run: &PlannedRun, data: &str, fraction: f64) -> Record {
    // A number in −1 … 1 that depends on the run only.
    let noise = |salt: usize| {
        let hash = Sha256::digest(format!("{} {salt}", run.id));
        f64::from(hash[0]) / 127.5 - 1.0
    };
    let arm = ARMS.iter().position(|arm| *arm == run.arm).unwrap() as f64;
    let ceiling = if data == "mnist" { 0.976 } else { 0.878 } + 0.045 * fraction.log10() - 0.0035 * arm;
    let epoch = |i: usize| {
        let (x, learnt) = (i as f64, 1.0 - 0.55 * (-0.55 * i as f64).exp());
        let diagnostics = [
            ("alpha_mean", [1.05, 0.86, 0.82][arm as usize] - 0.15 / x + 0.004 * noise(i)),
            ("alpha_std", [0.62, 0.38, 0.55][arm as usize] + 0.01 * noise(i + 20)),
            ("raw_gradient_norm", 9.0 + 6.0 / x + 0.5 * arm + 0.3 * noise(i + 40)),
            ("effective_update_norm", [29.4, 27.4, 30.2][arm as usize] + 3.0 / x + 0.5 * noise(i + 60)),
            ("alpha_fraction_near_min", 0.24 + 0.06 * arm + 0.01 * noise(i + 80)),
            ("alpha_fraction_near_max", 0.17 - 0.03 * arm + 0.01 * noise(i + 100)),
        ];
        Epoch {
            epoch: i,
            steps: 16 * i,
            lr: 0.1,
            train_loss: 0.28 + 0.012 * arm + 0.5 * (1.0 - learnt) - 0.09 * fraction.log10() + 0.006 * noise(i + 200),
            train_accuracy: 0.9,
            test_loss: 0.3,
            test_accuracy: ceiling - 0.22 * (1.0 - learnt) + 0.0035 * noise(i + 300),
            validation: None,
            diagnostics: diagnostics.map(|(key, value)| (key.to_string(), value)).into(),
        }
    };
    let title = if data == "mnist" { "MNIST (made up)" } else { "Fashion-MNIST (made up)" };
    let mut record = Record {
        schema: SCHEMA,
        id: run.id.clone(),
        semantics: SEMANTICS,
        config: run.config.clone(),
        data: DataInfo {
            name: data.into(),
            title: title.into(),
            digest: run.data_digest.clone(),
            train_examples: (2000.0 * fraction) as usize,
            test_examples: 1000,
            validation_examples: 0,
        },
        model: ModelInfo { title: "MLP 784-256-256-10".into(), parameters: 269_322 },
        outcome: Outcome::Finished,
        epochs: (1..=EPOCHS).map(epoch).collect(),
        result_sha256: String::new(),
        timing: vec![Phases::default(); EPOCHS],
        optimizer: None,
        provenance: Provenance {
            machine: Machine { cpu: "a processor".into(), cores: 2, os: "linux x86_64".into() },
            threads: 1,
            commit: Some("0123456789abcdef0123".into()),
            dirty: Some(false),
            versions: BTreeMap::new(),
            command: "np run".into(),
            started: "2026-01-01T00:00:00Z".into(),
            memory_peak_bytes: None,
        },
    };
    record.result_sha256 = record.digest_result();
    record
}

fn made_up(name: &str) -> anyhow::Result<Runs> {
    let (plan, records) = experiment(name, "");
    Ok(Runs { runs: plan.runs.iter().cloned().zip(records).collect(), plan })
}

/// Every figure, drawn once for all tests.
static FIGURES: LazyLock<Vec<Figure>> = LazyLock::new(|| draw(&Number::ALL, Scale::Quick, made_up).unwrap());

/// Text boxes (outlines, not line boxes) and straight strokes of a drawing, in its own units.
#[derive(Default)]
struct Inventory {
    texts: Vec<(String, usvg::Rect)>,
    strokes: Vec<[(f32, f32); 2]>,
}

impl Inventory {
    fn of(source: &str) -> (Self, usvg::Size) {
        let options = usvg::Options { fontdb: font::database(), ..usvg::Options::default() };
        let tree = usvg::Tree::from_str(source, &options).unwrap();
        let mut inventory = Self::default();
        inventory.collect(tree.root());
        (inventory, tree.size())
    }

    fn collect(&mut self, group: &usvg::Group) {
        for node in group.children() {
            match node {
                usvg::Node::Group(inner) => self.collect(inner),
                usvg::Node::Text(text) => {
                    let words = text.chunks().iter().map(usvg::TextChunk::text).collect();
                    self.texts.push((words, text.flattened().abs_bounding_box()));
                }
                usvg::Node::Path(path) if path.stroke().is_some() => {
                    let mut last = (0.0, 0.0);
                    for segment in path.data().segments() {
                        match segment {
                            usvg::tiny_skia_path::PathSegment::MoveTo(p) => last = (p.x, p.y),
                            usvg::tiny_skia_path::PathSegment::LineTo(p) => {
                                self.strokes.push([last, (p.x, p.y)]);
                                last = (p.x, p.y);
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// Whether a straight line from `a` to `b` passes through the box: clipping after Liang and Barsky.
fn crosses([a, b]: [(f32, f32); 2], inside: usvg::Rect) -> bool {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let (mut enter, mut leave) = (0.0_f32, 1.0_f32);
    for (step, room) in
        [(-dx, a.0 - inside.left()), (dx, inside.right() - a.0), (-dy, a.1 - inside.top()), (dy, inside.bottom() - a.1)]
    {
        if step == 0.0 && room < 0.0 {
            return false;
        }
        if step < 0.0 {
            enter = enter.max(room / step);
        } else if step > 0.0 {
            leave = leave.min(room / step);
        }
    }
    enter <= leave
}

#[test]
fn every_figure_has_its_files_and_sizes() {
    let dir = tempfile::tempdir().unwrap();
    // XTASK_FIGURES=DIR keeps them, to be looked at.
    let folder = std::env::var_os("XTASK_FIGURES").map_or_else(|| dir.path().join("out"), Into::into);
    let sizes = FIGURES.iter().map(|figure| {
        let [svg, png, csv, md] = write(figure, &folder).unwrap();
        assert!(fs::read_to_string(svg).unwrap().starts_with("<svg "));
        assert!(csv.is_file() && md.is_file());
        let png = fs::read(png).unwrap();
        [&png[16..20], &png[20..24]].map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()))
    });
    let sizes: Vec<[u32; 2]> = sizes.collect();
    // 6.2 inches a panel at 300 dpi: 1860; two panels side by side in figures 2, 3 and 6, two rows in 6.
    assert_eq!(sizes.iter().map(|[width, _]| *width).collect::<Vec<_>>(), [1860, 3720, 3720, 3720]);
    assert!(sizes[1][1] == sizes[2][1] && sizes[3][1] > 2 * 1350, "{sizes:?}");
    assert!(dir.path().join("out").is_dir() || std::env::var_os("XTASK_FIGURES").is_some());
}

#[test]
fn drawn_twice_the_bytes_are_the_same() {
    for (a, b) in FIGURES.iter().zip(draw(&Number::ALL, Scale::Quick, made_up).unwrap()) {
        assert_eq!(a.drawing.svg, b.drawing.svg);
        assert_eq!(a.drawing.png, b.drawing.png);
        assert_eq!((&a.table, &a.caption), (&b.table, &b.caption));
    }
}

#[test]
fn no_text_overlaps_text_or_a_line_or_leaves_the_page() {
    FIGURES.iter().for_each(assert_nothing_overlaps);
}

pub(crate) fn assert_nothing_overlaps(figure: &Figure) {
    let (Inventory { texts, strokes }, page) = Inventory::of(&figure.drawing.source);
    let name = figure.name;
    assert!(texts.len() > 20 && strokes.len() > 20);
    for (i, (words, place)) in texts.iter().enumerate() {
        assert!(place.left() > 0.0 && place.top() > 0.0, "{name}: `{words}` leaves the page");
        assert!(place.right() < page.width() && place.bottom() < page.height(), "{name}: `{words}`");
        for (other, there) in &texts[..i] {
            let apart = place.right() <= there.left()
                || there.right() <= place.left()
                || place.bottom() <= there.top()
                || there.bottom() <= place.top();
            assert!(apart, "{name}: `{words}` overlaps `{other}`");
        }
        for stroke in &strokes {
            assert!(!crosses(*stroke, *place), "{name}: a line crosses `{words}`: {stroke:?} {place:?}");
        }
    }
}

#[test]
fn the_tables_hold_what_is_plotted() {
    let rows: Vec<usize> = FIGURES.iter().map(|figure| figure.table.lines().count() - 1).collect();
    // Arms × data sets × epochs; arms × fractions × panels × (mean and 3 seeds); arms × epochs × (A, B, C, and D twice).
    assert_eq!(rows[1..], [3 * 2 * EPOCHS, 3 * 4 * 2 * 4, 3 * EPOCHS * 5]);
    let table = &FIGURES[1].table;
    assert!(table.starts_with("panel,data,arm,quantity,x_name,x,seed,value,low,high,n\nA,mnist,full,"), "{table}");
}

#[test]
fn captions_say_what_it_was_made_from_and_what_it_cannot_show() {
    for figure in &FIGURES[1..] {
        for part in [
            "Over 3 seeds (41, 42, 43)",
            "± 1 sample standard deviation",
            "scale `quick`, experiment `fig",
            "Fashion-MNIST (made up), digest `",
            "model: MLP 784-256-256-10 (269322 parameters); 10 epochs",
            "commit: `0123456789ab`",
            "machine: a processor, 2 cores, linux x86_64, 1 thread a run",
            "selected on the MNIST test set",
            "`gradient-only` [0.5, 1.5]",
        ] {
            assert!(figure.caption.contains(part), "{part}\n{}", figure.caption);
        }
        assert!(figure.name == "fig6" || figure.caption.contains("cannot go below p = 0.25"), "{}", figure.caption);
    }
}

#[test]
fn a_diverged_run_is_drawn_as_far_as_it_came_and_told() {
    let mut runs = made_up("fig2-sanity").unwrap();
    let (run, record) = &mut runs.runs[0];
    record.outcome = Outcome::Diverged { epoch: 4, step: 50 };
    record.epochs.truncate(3);
    assert_eq!((run.arm.as_str(), run.seed), ("full", 41));
    let figure = super::curves::sanity(Scale::Quick, &runs).unwrap();
    assert!(
        figure.caption.contains("`full`, seed 41, `data.name` = `\"mnist\"`: diverged in epoch 4"),
        "{}",
        figure.caption
    );
    let n_at = |epoch: usize| {
        let start = format!("A,mnist,full,test_accuracy_percent,epoch,{epoch},");
        figure.table.lines().find(|line| line.starts_with(&start)).unwrap().rsplit(',').next().unwrap().to_string()
    };
    assert_eq!((n_at(3), n_at(4)), ("3".into(), "2".into()));
}
