//! What must hold for every figure, drawn from made-up records. Nothing of it is ever written below `figures/`.

mod legible;
mod made_up;
mod study;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use np_record::{EpochMetric, Hypothesis, Outcome, StatedOutcome};
use resvg::usvg;
use serde_json::Value;

use super::runs::Quantity;
use super::{Figure, Number, Scale, draw, obtain, write};
use crate::draw::font;

pub(crate) use legible::assert_legible;
use made_up::{EPOCHS, RATES, SEEDS};
pub(crate) use made_up::{experiment, made_up, write_spec};

fn draw_all() -> Vec<Figure> {
    // The timings of figure 10 are the kept ones.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut known = BTreeMap::new();
    let mut figure = |number: Number| {
        let runs = obtain(&mut known, number.experiments(), made_up).unwrap();
        draw(number, Scale::Quick, root, &runs).unwrap()
    };
    Number::ALL.into_iter().map(&mut figure).collect()
}

fn figure(name: &str) -> &'static Figure {
    FIGURES.iter().find(|figure| figure.name == name).unwrap()
}

/// Every figure, drawn once for all tests.
static FIGURES: LazyLock<Vec<Figure>> = LazyLock::new(draw_all);

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
    // 6.2 inches a panel at 300 dpi: 1860; two panels side by side in figures 2 to 6, more rows in 2, 6 and 11 to 14; named rows need more width.
    let widths = [1860, 3720, 3720, 3720, 3720, 3720, 3162, 3348, 3720, 2790, 3960, 3720, 3720, 3720];
    assert_eq!(sizes.iter().map(|[width, _]| *width).collect::<Vec<_>>(), widths);
    assert!(sizes[1][1] > sizes[2][1] && sizes[5][1] > 2 * 1350, "{sizes:?}");
    assert!(dir.path().join("out").is_dir() || std::env::var_os("XTASK_FIGURES").is_some());
}

#[test]
fn a_figure_replaces_no_file_of_another_kind_and_goes_into_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let figure = figure("fig2");
    for folder in ["notes", "store/plans", "store/runs"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    fs::write(at("notes/fig2.md"), "My notes.\n").unwrap();
    let said = format!("{:#}", write(figure, &at("notes")).unwrap_err());
    assert!(said.contains("fig2.md` is there already, and is no caption"), "{said}");
    assert_eq!(fs::read(at("notes/fig2.md")).unwrap(), b"My notes.\n");
    assert_eq!(fs::read_dir(at("notes")).unwrap().count(), 1, "none of the four is written");
    let said = format!("{:#}", write(figure, &at("store/runs")).unwrap_err());
    assert!(said.contains("is in a folder of the store `"), "{said}");
    write(figure, &at("new")).unwrap();
    write(figure, &at("new")).unwrap();
}

#[test]
fn drawn_twice_the_bytes_are_the_same() {
    for (a, b) in FIGURES.iter().zip(draw_all()) {
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
    assert!(texts.len() > 20 && strokes.len() > 5);
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
    let rows = |name: &str| figure(name).table.lines().count() - 1;
    let with_seeds = 1 + SEEDS.len();
    let differences = 4 * 2 * (with_seeds + 1);
    assert_eq!(
        rows("fig2"),
        5 * 2 * EPOCHS + differences,
        "arms × data sets × epochs; other arms × data sets, each with Holm's p"
    );
    assert_eq!(rows("fig3"), 5 * 4 * 2 * with_seeds, "arms × fractions × panels");
    assert_eq!(rows("fig4"), 4 * EPOCHS + 4 * RATES.len() * with_seeds, "curves, and arms × rates");
    assert_eq!(rows("fig5"), 3 * 2 * EPOCHS * with_seeds, "arms × panels × epochs, each mean with its seeds");
    assert_eq!(rows("fig6"), (4 * 3 + 3 * 2) * EPOCHS, "arms × (A, B, C), and three of them × D twice");
    assert_eq!(rows("fig7"), 6 * with_seeds + 2, "variants, tuned SGD and AdamW");
    assert_eq!(rows("fig8"), (5 * RATES.len() - 2) * with_seeds + 2, "arms × rates, two of which diverged");
    assert_eq!(rows("fig9"), (6 * 4 + 5) * (with_seeds + 1), "settings × controls, each with Holm's p");
    let diverged = "A,fashion-mnist,none,test_accuracy_percent,learning_rate,0.3,,,,,0\n";
    assert!(figure("fig8").table.contains(diverged), "{}", figure("fig8").table);
    let table = &figure("fig2").table;
    assert!(table.starts_with("panel,data,arm,quantity,x_name,x,seed,value,low,high,n\nA,mnist,full,"), "{table}");
}

#[test]
fn captions_say_what_it_was_made_from_and_what_it_cannot_show() {
    for figure in FIGURES.iter().filter(|figure| !["fig1", "fig10"].contains(&figure.name)) {
        for part in [
            "scale `quick`, experiment `fig",
            " (made up), digest `",
            "(269322 parameters); 10 epochs",
            "commit: `0123456789ab`",
            "machine: a processor, 2 cores, linux x86_64, 1 thread a run",
            "selected on the MNIST test set",
        ] {
            assert!(figure.caption.contains(part), "{}: {part}\n{}", figure.name, figure.caption);
        }
        assert!(figure.caption.contains("Over 3 seeds (41, 42, 43)"), "{}\n{}", figure.name, figure.caption);
    }
    for name in ["fig2", "fig3", "fig4", "fig5", "fig7", "fig9"] {
        assert!(figure(name).caption.contains("cannot go below p = 0.25"), "{}", figure(name).caption);
    }
    for name in ["fig2", "fig3", "fig5", "fig6"] {
        assert!(figure(name).caption.contains("`gradient-only` [0.5, 1.5]"), "{}", figure(name).caption);
    }
    assert!(figure("fig4").caption.contains("each arm at its best `optimizer.lr` by validation accuracy"));
    assert!(
        figure("fig4").caption.contains("experiment `fig4-optimizers`, 36 runs"),
        "all rates, not the chosen ones alone"
    );
    assert!(figure("fig8").caption.contains("| no norm clip |"));
    for name in ["fig4", "fig8", "fig9"] {
        assert!(
            figure(name).caption.contains("\n- warm-up and plasticity scale of NeuroPlastic"),
            "{}",
            figure(name).caption
        );
    }
    assert!(
        figure("fig10").caption.contains(" GB/s at which the fastest of these steps moved memory"),
        "{}",
        figure("fig10").caption
    );
    assert!(figure("fig9").caption.contains("Holm over a family of 24 comparisons"), "{}", figure("fig9").caption);
}

#[test]
fn the_cells_of_a_heat_map_say_what_diverged() {
    let source = &figure("fig8").drawing.source;
    assert_eq!(source.matches("diverged").count(), 2, "two cells of which no run finished");
}

#[test]
fn the_controls_agree_on_what_they_pair() {
    let runs: Vec<_> = super::evidence::EXPERIMENTS.iter().map(|name| made_up(name).unwrap()).collect();
    let runs: Vec<_> = runs.iter().collect();
    let sources = super::evidence::Sources::of(&runs).unwrap();
    assert!(super::evidence::Sources::of(&runs[1..]).is_err());
    let evidence = super::evidence::Evidence::gather(&sources).unwrap();
    let settings = |comparison: &np_record::compare::Comparison| -> Vec<Value> {
        comparison.groups.iter().map(|group| group.axes["setting"].clone()).collect()
    };
    let want = [
        "MNIST",
        "Fashion-MNIST",
        "Fashion-MNIST, 50 %",
        "Fashion-MNIST, 25 %",
        "Fashion-MNIST, 10 %",
        "CIFAR-10, ResNet",
    ];
    for (comparison, control) in evidence.comparisons.iter().zip(super::evidence::CONTROLS) {
        // The last control has no runs of the ResNet.
        let there = if control.1 == "coefficient-one" { &want[..5] } else { &want[..] };
        assert_eq!(settings(comparison), there);
        assert!(comparison.groups.iter().all(|group| group.difference.as_ref().is_some_and(|d| d.values.len() == 3)));
        assert_eq!(comparison.family, if control.1 == "coefficient-one" { 5 } else { 24 });
    }
    // By hand: the difference of two records of one seed.
    let of = |arm: &str| sources.sanity.on("mnist").unwrap().last(arm, Quantity::TestAccuracy).unwrap()[&42];
    let found = evidence.comparisons[0].groups[0].difference.as_ref().unwrap().values[&42];
    assert!((100.0 * found - (of("full") - of("gradient-only"))).abs() < 1e-9);
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

#[test]
fn a_caption_begins_with_what_was_fixed_beforehand() {
    let mut runs = made_up("fig2-sanity").unwrap();
    let note = "- exploratory: not fixed in the experiment's file before its runs";
    assert!(super::curves::sanity(Scale::Quick, &runs).unwrap().caption.contains(note), "nothing was fixed");
    let metric = EpochMetric::TestAccuracy;
    runs.plan.outcome =
        Some(StatedOutcome { metric, last_epochs: 5.try_into().unwrap(), direction: metric.direction() });
    let (arm, against) = ("full".into(), "gradient-only-matched".into());
    runs.plan.hypotheses = vec![Hypothesis { arm, against, name: Some("the rule helps".into()) }];
    let caption = super::curves::sanity(Scale::Quick, &runs).unwrap().caption;
    let places = [
        "fixed in the experiment's file before its runs: the outcome (test accuracy, mean of the last 5 epochs)",
        "the rule helps: test accuracy, mean of the last 5 epochs (%, more is better): `full` against `gradient-only-matched`",
        "Holm over a family of 2 comparisons\n",
        "| final test accuracy (%) |",
        "| final training loss (nats) |",
        "exploratory: not fixed in the experiment's file before its runs",
        "mean of the last 5 epochs (%, more is better): `full` against `gradient-only`",
    ];
    let places = places.map(|part| caption.find(part).unwrap_or_else(|| panic!("{part}\n{caption}")));
    assert!(places.is_sorted(), "{places:?}\n{caption}");
    // By hand: the last five epochs of a pair.
    let late = |arm: &str| {
        let part = runs.on("mnist").unwrap();
        let epochs = part.arm(arm).unwrap()[&42].epochs.clone();
        epochs[EPOCHS - 5..].iter().map(|epoch| epoch.test_accuracy.unwrap()).sum::<f64>() / 5.0
    };
    let measure = runs.plan.outcome.unwrap().measure();
    let of = |arm: &str| measure.of(runs.on("mnist").unwrap().arm(arm).unwrap()[&42]).unwrap();
    assert!((of("full") - late("full")).abs() < 1e-12);
}

#[test]
fn many_diverged_runs_are_counted() {
    let mut runs = made_up("fig6-dynamics").unwrap();
    for (_, record) in runs.runs.iter_mut().filter(|(run, _)| run.arm != "gradient-only-matched").take(7) {
        record.outcome = Outcome::Diverged { epoch: 4, step: 50 };
        record.epochs.truncate(3);
    }
    let runs = runs.on("fashion-mnist").unwrap();
    let gone = runs.runs.iter().filter(|(_, record)| record.outcome != Outcome::Finished).count();
    let figure = super::curves::dynamics(Scale::Quick, &runs).unwrap();
    assert!(gone > 0 && figure.caption.contains("diverged"), "{gone}\n{}", figure.caption);
    let mut runs = made_up("fig2-sanity").unwrap();
    for (_, record) in runs.runs.iter_mut().take(8) {
        record.outcome = Outcome::Diverged { epoch: 4, step: 50 };
        record.epochs.truncate(3);
    }
    let figure = super::curves::sanity(Scale::Quick, &runs).unwrap();
    assert!(figure.caption.contains("- 8 runs diverged (6 of `full`, 2 of `gradient-only`)"), "{}", figure.caption);
}

#[test]
fn an_arm_without_a_choice_is_left_out_and_told() {
    let mut runs = made_up("fig4-optimizers").unwrap();
    for (_, record) in runs.runs.iter_mut().filter(|(run, _)| run.arm == "sgd-momentum" && run.seed == 42) {
        record.outcome = Outcome::Diverged { epoch: 4, step: 50 };
        record.epochs.truncate(3);
    }
    let figure = super::optimizers::draw(Scale::Quick, &runs).unwrap();
    assert!(figure.caption.contains("no rate of `sgd-momentum` can be chosen"), "{}", figure.caption);
    assert!(!figure.table.contains("A,cifar10,sgd-momentum"), "not in A");
    assert!(figure.table.contains("B,cifar10,sgd-momentum"), "what finished is in B");
    let error = super::space::draw(Scale::Quick, &made_up("fig7-design-space").unwrap(), &runs).err().unwrap();
    assert!(error.to_string().contains("no rate of `sgd-momentum` can be chosen"), "{error}");
}

#[test]
fn the_design_table_has_every_variant_the_best_first() {
    let (mut runs, standard) = (made_up("fig7-design-space").unwrap(), made_up("fig4-optimizers").unwrap());
    for (_, record) in runs.runs.iter_mut().filter(|(run, _)| run.arm == "bounded") {
        record.outcome = Outcome::Diverged { epoch: 4, step: 50 };
        record.epochs.truncate(3);
    }
    let table = crate::results::design::table(&runs, &standard).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().skip(2).map(|row| row.trim_matches('|').split('|').collect()).collect();
    assert_eq!(rows.len(), 7, "six variants and SGD: {table}");
    assert!(rows.iter().all(|row| row.len() == 6), "{table}");
    assert!(rows[6][0].contains("ounded") && rows[6][1].contains("diverged"), "the last: {table}");
    let mean = |row: &Vec<&str>| row[1].split_whitespace().next().unwrap().parse::<f64>().unwrap();
    assert!(rows[..6].is_sorted_by(|a, b| mean(a) >= mean(b)), "{table}");
    let differences = rows[..6].iter().filter(|row| row[2].contains(" of 3 ahead") && row[4].contains(" of 3 ahead"));
    assert_eq!(differences.count(), 5, "of all but SGD: {table}");
}

#[test]
fn runs_that_were_not_trained_alike_are_not_paired() {
    let mut runs = made_up("fig7-design-space").unwrap();
    runs.runs[0].0.config["train"] = serde_json::json!({"epochs": 12});
    let error = super::space::draw(Scale::Quick, &runs, &made_up("fig4-optimizers").unwrap()).err().unwrap();
    assert!(error.to_string().contains("were not trained alike: `train` is {\"epochs\":12} and null"), "{error}");
}

#[test]
fn runs_that_a_sweep_tells_apart_are_not_mixed() {
    let error = made_up("fig4-optimizers").unwrap().last("adam", Quantity::TestAccuracy).unwrap_err().to_string();
    assert!(error.contains("arm `adam` has several runs of seed 41"), "{error}");
    assert!(error.contains("they differ in `data.name`, `optimizer.lr`"), "{error}");
}
