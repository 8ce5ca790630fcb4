//! The experiments of this repository: each one plans at its default scale, and figures share the runs that they can share.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use np_record::{Plan, Store};
use np_runner::{Request, missing, plan};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments")
}

fn planned(name: &str) -> Plan {
    let request = Request { file: folder().join(format!("{name}.yaml")), ..Request::default() };
    plan(&request, None).unwrap().plan
}

fn ids(plan: &Plan) -> BTreeSet<&str> {
    plan.runs.iter().map(|run| run.id.as_str()).collect()
}

#[test]
fn every_experiment_plans_and_says_what_to_expect_and_what_it_costs() {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    assert!(!files.is_empty());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let head: String = text.lines().take_while(|line| line.starts_with('#')).collect();
        assert!(head.contains("Expected") && head.contains("Cost"), "{}", path.display());
        let plan = planned(&path.file_stem().unwrap().to_string_lossy());
        assert!(plan.question.ends_with('?'), "{}", plan.question);
        assert!(!plan.runs.is_empty());
    }
}

#[test]
fn figures_share_their_runs() {
    let (sanity, low, dynamics) = (planned("fig2-sanity"), planned("fig3-low-data"), planned("fig6-dynamics"));
    let (sanity, low, dynamics) = (ids(&sanity), ids(&low), ids(&dynamics));
    assert_eq!((sanity.len(), low.len(), dynamics.len()), (30, 60, 12), "no two runs of a figure are the same");
    assert!(dynamics.is_subset(&sanity), "figure 6 is drawn from figure 2's runs");
    assert!(dynamics.is_subset(&low), "the whole training set is figure 2's run");
    let (standard, transfer, space) =
        (planned("fig4-optimizers"), planned("fig5-transfer"), planned("fig7-design-space"));
    let rates = planned("fig9-best-rate-cifar");
    let (standard, transfer, space, rates) = (ids(&standard), ids(&transfer), ids(&space), ids(&rates));
    let shared = |a: &BTreeSet<&str>, b: &BTreeSet<&str>| a.intersection(b).count();
    assert_eq!(shared(&transfer, &standard), 3, "the full rule at 0.1 is figure 4's");
    assert_eq!(shared(&space, &transfer), 3, "the direct formulation is figure 5's full rule");
    assert_eq!(
        (shared(&rates, &standard), shared(&rates, &transfer)),
        (12, 6),
        "the full rule at every rate, both at 0.1"
    );
}

#[test]
fn the_zoo_has_an_arm_for_every_optimizer() {
    let kind = |optimizer: &serde_json::Value| optimizer.as_object().unwrap().keys().next().unwrap().clone();
    let plan = planned("zoo");
    let kinds: BTreeSet<String> = plan.runs.iter().map(|run| kind(&run.config["optimizer"])).collect();
    let registered = np_core::OptimizerConfig::KINDS.iter().map(|&kind| kind.to_owned());
    assert_eq!(kinds, registered.collect());
    let base =
        |run: &np_record::PlannedRun| run.config.pointer("/optimizer/neuroplastic/formulation/hybrid/base").map(kind);
    assert!(plan.runs.iter().filter_map(base).any(|base| base == "lion"), "a hybrid of another optimizer");
}

#[test]
fn committed_records_need_no_data() {
    for name in ["fig2-sanity", "fig3-low-data", "fig6-dynamics"] {
        let file = folder().join(format!("{name}.yaml"));
        let request = Request { file, scale: Some("cpu".into()), ..Request::default() };
        let planned = plan(&request, None).unwrap();
        let store = Store::open(folder().join("records/cpu")).unwrap();
        assert!(planned.unread.is_some());
        let kept = store.read_plan(name).unwrap().unwrap();
        assert!(kept.agrees_with(&planned.plan), "{name}: as planned with the data at hand");
        let reading = store.records_of(&kept);
        assert!(reading.refused.is_empty() && reading.runs.iter().all(|(_, record)| record.is_some()), "{name}");
        assert!(missing(&planned.plan, &store).is_empty());
    }
}
