//! What a page says is what was run: foreign data, damaged or exchanged files, axes that meet, arms that are the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{collections::BTreeSet, fs, path::Path};

use common::{Lab, TINY, foreign, lab_of_full, text};
use np_record::Store;
use serde_json::{Value, json};

#[test]
fn foreign_data_is_said_wherever_its_results_are() {
    let lab = lab_of_full();
    foreign(&lab.path("data/fashion-mnist"), 0);
    let with = |args: &[&str]| lab.good(&[args, &["--data-dir", "data"]].concat());
    let (_, said) = with(&["plan", "tiny.yaml"]);
    let first = said.lines().next().unwrap();
    assert!(first.contains("; data: custom data in fashion-mnist (digest "), "{said}");
    assert!(first.ends_with("): not the published data set of that name"), "{said}");
    let (_, said) = with(&["run", "tiny.yaml"]);
    assert!(said.lines().next().unwrap().contains("; data: custom data in fashion-mnist (digest "), "{said}");
    let record = &lab.records("records/quick")[0];
    let digest = &record["data"]["digest"].as_str().unwrap()[..12];
    let title = format!("custom data in fashion-mnist (digest {digest})");
    assert_eq!((&record["data"]["title"], &record["data"]["standing"]), (&json!(title), &json!("custom")));

    let (shown, _) = lab.good(&["show", record["id"].as_str().unwrap(), "--store", "records/quick"]);
    assert!(shown.contains(&format!("{title}: not the published data set of that name")), "{shown}");
    let (table, said) = with(&["compare", "tiny.yaml"]);
    assert!(table.contains(&format!("warning: {title}: not the published")), "{table}");
    assert!(said.contains(&format!("warning: {title}")), "{said}");
    let (table, _) = with(&["compare", "tiny.yaml", "--iqm"]);
    assert!(table.contains(&format!("warning: {title}")), "{table}");
    with(&["report", "tiny.yaml"]);
    let page = fs::read_to_string(lab.path("report.html")).unwrap();
    assert!(page.contains(&format!("Data: {title}: not the published data set of that name")), "{page}");
    assert!(!page.contains("Fashion-MNIST"), "a custom set has its own name");

    // The embedded sets are known, and nothing is said of them.
    let (_, said) = lab.good(&["plan", "tiny.yaml", "--set", "data.source=mini"]);
    assert!(!said.contains("custom"), "{said}");
}

#[test]
fn every_command_asks_about_the_same_data() {
    let lab = lab_of_full();
    foreign(&lab.path("one/fashion-mnist"), 0);
    foreign(&lab.path("two/fashion-mnist"), 1);
    fs::create_dir_all(lab.path("empty")).unwrap();
    lab.good(&["run", "tiny.yaml", "--data-dir", "one"]);
    for command in ["compare", "report"] {
        lab.good(&[command, "tiny.yaml", "--data-dir", "one"]);
        for other in [&["--data-dir", "two"][..], &["--data-dir", "empty"], &[]] {
            let output = lab.np(&[&[command, "tiny.yaml"], other].concat());
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command} {other:?}: {said}");
            assert!(
                said.contains("none of its runs has a record yet\n  hint: the store's runs of it are on other data"),
                "{said}"
            );
        }
    }
    for (folder, state) in [("one", "done"), ("two", "missing"), ("empty", "missing")] {
        for command in ["plan", "status"] {
            let (table, _) = lab.good(&[command, "tiny.yaml", "--data-dir", folder]);
            assert_eq!(table.matches(state).count(), 4, "{command} {folder}: {table}");
        }
    }
    let plan = "records/quick/plans/tiny.json";
    lab.good(&["compare", plan]);
    lab.good(&["compare", plan, "--data-dir", "one"]);
    let output = lab.np(&["compare", plan, "--data-dir", "two"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("and the data at hand has `"), "{}", text(&output.stderr));
    // The other data's runs are others, beside the first.
    lab.good(&["run", "tiny.yaml", "--data-dir", "two"]);
    assert_eq!(lab.results("records/quick").len(), 8);
    lab.good(&["compare", "tiny.yaml", "--data-dir", "one"]);
}

/// The runs that a plan has, as arm, optimizer and rate.
fn rates(lab: &Lab, args: &[&str]) -> BTreeSet<String> {
    let (plan, _) = lab.good(&[&["plan", "tiny.yaml", "--json", "--seeds", "1"], args].concat());
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let told = |run: &Value| {
        let optimizer = run["config"]["optimizer"].as_object().unwrap();
        let (kind, settings) = optimizer.iter().next().unwrap();
        format!("{} {kind} {}", run["arm"].as_str().unwrap(), settings["lr"])
    };
    plan["runs"].as_array().unwrap().iter().map(told).collect()
}

#[test]
fn axes_mean_the_same_in_any_order() {
    let want: BTreeSet<String> = ["a sgd 0.1", "a sgd 0.2", "a adamw 0.1", "a adamw 0.2"].map(str::to_owned).into();
    let base = TINY[..TINY.find("arms:").unwrap()].to_owned();
    let both =
        ["optimizer.lr: [0.1, 0.2], optimizer: [sgd, adamw]", "optimizer: [sgd, adamw], optimizer.lr: [0.1, 0.2]"];
    for axes in both {
        let file = format!("{base}optimizer: adam\narms: {{a: }}\nsweep: {{{axes}}}\n");
        assert_eq!(rates(&Lab::new(file), &[]), want, "{axes}");
        let arm = format!("{base}optimizer: adam\narms: {{a: {{sweep: {{{axes}}}}}}}\n");
        assert_eq!(rates(&Lab::new(arm), &[]), want, "{axes}");
        let scale = format!("{base}optimizer: adam\narms: {{a: }}\nscales: {{quick: {{sweep: {{{axes}}}}}}}\n");
        assert_eq!(rates(&Lab::new(scale), &[]), want, "{axes}");
    }
    let lab = Lab::new(format!("{base}optimizer: adam\narms: {{a: }}\n"));
    let (lr, kind) = (["--sweep", "optimizer.lr=0.1,0.2"], ["--sweep", "optimizer=sgd,adamw"]);
    assert_eq!(rates(&lab, &[lr, kind].concat()), want);
    assert_eq!(rates(&lab, &[kind, lr].concat()), want);
    // A child on the command line, its parent in the file, and the other way round.
    let file = Lab::new(format!("{base}optimizer: adam\narms: {{a: }}\nsweep: {{optimizer: [sgd, adamw]}}\n"));
    assert_eq!(rates(&file, &lr), want);
    let file = Lab::new(format!("{base}optimizer: adam\narms: {{a: }}\nsweep: {{optimizer.lr: [0.1, 0.2]}}\n"));
    assert_eq!(rates(&file, &kind), want);
    let sgd: BTreeSet<String> = want.iter().filter(|run| run.contains("sgd")).cloned().collect();
    assert_eq!(rates(&file, &["--set", "optimizer=sgd"]), sgd);
    let set = ["--set", "optimizer.lr=0.1", "--set", "optimizer=sgd"];
    assert_eq!(rates(&lab, &set), BTreeSet::from(["a sgd 0.1".to_owned()]));
}

#[test]
fn one_value_is_said_once() {
    let file = |sweep: &str, own: &str| {
        let arms = TINY.replace("sgd: {optimizer", &format!("sgd: {{{own}optimizer"));
        Lab::new(format!("{arms}{sweep}"))
    };
    let refused = |lab: &Lab, args: &[&str], says: &[&str]| {
        for command in ["plan", "run"] {
            let output = lab.np(&[&[command, "tiny.yaml", "--arm", "sgd"], args].concat());
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
            assert!(said.contains("  hint: "), "{said}");
            says.iter().for_each(|part| assert!(said.contains(part), "`{part}`: {said}"));
        }
        assert!(!lab.path("records").exists());
    };
    let two = file("sweep: {optimizer.lr: [0.1], optimizer.sgd.lr: [0.2, 0.3]}\n", "");
    let says = ["tiny.yaml:10:", "`optimizer.sgd.lr`: the axis `sweep.optimizer.lr` sets this value too"];
    refused(&two, &[], &says);
    let inside = file("sweep: {optimizer: [{sgd: {lr: 0.1}}], optimizer.lr: [0.2]}\n", "");
    refused(&inside, &[], &["`optimizer.sgd.lr`: the axis `sweep.optimizer` sets this value too"]);
    let own = file("sweep: {optimizer.lr: [0.1]}\n", "sweep: {optimizer.sgd.lr: [0.2]}, ");
    refused(&own, &[], &["tiny.yaml:9:", "the axis `sweep.optimizer.lr` sets this value too"]);

    let plain = file("", "");
    let (sweep, set) = (["--sweep", "optimizer.lr=0.1,0.2"], ["--set", "optimizer.lr=0.1"]);
    refused(
        &plain,
        &[sweep, set].concat(),
        &["`--set optimizer.lr=0.1`: `optimizer.sgd.lr`: `--sweep optimizer.lr=0.1,0.2` sets"],
    );
    refused(
        &plain,
        &[&set[..], &["--set", "optimizer.sgd.lr=0.2"]].concat(),
        &["`--set optimizer.lr=0.1` sets this value too"],
    );
    refused(&plain, &["--sweep", "optimizer.lr=0.1", "--sweep", "optimizer.sgd.lr=1"], &["sets this value too"]);
    refused(&plain, &["--arm", "sgd"], &["`--arm sgd`: arm `sgd` is named twice"]);
    let swept = file("sweep: {optimizer.lr: [0.1, 0.2]}\n", "");
    refused(&swept, &set, &["`--set optimizer.lr=0.1`: ", "the axis `sweep.optimizer.lr` sets this value too"]);
    // An axis of the same key takes the place of the file's, as the hint says.
    assert_eq!(rates(&swept, &["--arm", "sgd", "--sweep", "optimizer.lr=0.1"]).len(), 1);
}

#[test]
fn arms_that_are_the_same_are_not_compared() {
    let same = "  sgd: {optimizer: {sgd: {lr: 0.05, momentum: 0.9}}}\n  spelt: {optimizer: {sgd: {lr: 0.05, momentum: 0.9, nesterov: false}}}\n";
    let lab = Lab::new(format!("{}arms:\n{same}", &TINY[..TINY.find("arms:").unwrap()]));
    let says = "`spelt`: same configuration as `sgd`, nothing to compare";
    assert!(lab.good(&["plan", "tiny.yaml"]).1.contains(says));
    assert!(lab.good(&["run", "tiny.yaml"]).1.contains(says));
    assert_eq!(lab.results("records/quick").len(), 2);
    let says = "`sgd`: same configuration as `spelt`, nothing to compare";
    for format in ["text", "markdown", "csv", "json"] {
        let output = lab.np(&["compare", "tiny.yaml", "--format", format]);
        assert_eq!(output.status.code(), Some(1));
        let (table, said) = (text(&output.stdout), text(&output.stderr));
        assert!(table.contains(says) && said.contains(says), "{table} {said}");
        assert!(!table.contains("+0.00"), "{table}");
    }
    let (table, _) = lab.good(&["compare", "tiny.yaml", "--iqm"]);
    assert!(
        table.contains("`spelt`: same configuration as `sgd`, nothing to compare") && !table.contains("0.50"),
        "{table}"
    );
    lab.good(&["report", "tiny.yaml"]);
    let page = fs::read_to_string(lab.path("report.html")).unwrap();
    assert!(page.contains("same configuration as <code>spelt</code>, nothing to compare"), "{page}");
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, serde_json::to_vec_pretty(&value).unwrap()).unwrap();
}

#[test]
fn an_edited_record_is_named_and_left_out_and_made_anew() {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml"]);
    let whole = lab.results("records/quick");
    let (ids, runs): (Vec<&String>, _) = (whole.keys().collect(), lab.path("records/quick/runs"));
    let path = runs.join(format!("{}.json", ids[0]));
    let sound = fs::read(&path).unwrap();
    let other = fs::read(runs.join(format!("{}.json", ids[1]))).unwrap();
    type Change<'a> = &'a dyn Fn(&mut Value);
    let changes: [(&str, Change<'_>); 8] = [
        ("another run", &|record| {
            *record = serde_json::from_slice(&other).unwrap();
            record["id"] = json!(ids[0]);
        }),
        ("semantics", &|record| record["semantics"] = json!(1)),
        ("title", &|record| record["data"]["title"] = json!("MNIST")),
        ("timing", &|record| record["timing"][0]["forward"] = json!(0.001)),
        ("machine", &|record| record["provenance"]["machine"]["cpu"] = json!("a faster one")),
        ("examples", &|record| record["data"]["test_examples"] = json!(10_000)),
        ("without its digest", &|record| {
            record.as_object_mut().unwrap().shift_remove("record_sha256");
        }),
        ("a result", &|record| record["epochs"][0]["test_accuracy"] = json!(0.99)),
    ];
    for (what, change) in changes {
        edit(&path, change);
        let name = format!("{}.json`", ids[0]);
        for args in
            [&["plan", "tiny.yaml"][..], &["compare", "tiny.yaml"], &["report", "tiny.yaml"], &["status", "tiny.yaml"]]
        {
            let (_, said) = lab.good(args);
            let line = said.lines().find(|line| line.starts_with("warning: not used: ")).unwrap_or_default();
            let hint = said.lines().any(|line| line.starts_with("  hint: ") && line.contains("`np run`"));
            assert!(line.contains(&name) && hint, "{what}: {args:?}: {said}");
        }
        assert_eq!(lab.np(&["show", ids[0], "--store", "records/quick"]).status.code(), Some(1), "{what}");
        let (_, said) = lab.good(&["run", "tiny.yaml"]);
        assert!(said.contains("set aside as `"), "{what}: {said}");
        assert_eq!(lab.results("records/quick"), whole, "{what}");
        assert!(fs::read_dir(&runs).unwrap().count() > 4, "{what}: kept aside");
        fs::write(&path, &sound).unwrap();
    }
}

#[test]
fn an_edited_plan_is_refused_and_an_experiment_answered_from_its_text() {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml"]);
    let (table, _) = lab.good(&["compare", "tiny.yaml"]);
    let path = lab.path("records/quick/plans/tiny.json");
    let sound = fs::read(&path).unwrap();
    let arms = |plan: &mut Value| {
        for run in plan["runs"].as_array_mut().unwrap() {
            run["arm"] = json!(if run["arm"] == "sgd" { "full" } else { "sgd" });
        }
    };
    let seed = |plan: &mut Value| plan["runs"].as_array_mut().unwrap().retain(|run| run["seed"] == 1);
    let changes: [&dyn Fn(&mut Value); 3] = [&arms, &seed, &|plan| plan["question"] = json!("Is it fast?")];
    for change in changes {
        // As edited, and as forged with a digest that fits.
        for forged in [false, true] {
            edit(&path, change);
            if forged {
                let mut plan: np_record::Plan = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
                plan.plan_sha256 = None;
                Store::open(lab.path("records/quick")).unwrap().write_plan(&plan).unwrap();
            }
            let output = lab.np(&["compare", "records/quick/plans/tiny.json"]);
            let said = text(&output.stderr);
            assert!(!output.status.success() && said.contains("tiny.json") && said.contains("hint: "), "{said}");
            assert_eq!(lab.good(&["compare", "tiny.yaml"]).0, table, "the text of the experiment decides");
            let (_, said) = lab.good(&["status", "--store", "records/quick"]);
            assert!(said.contains("warning: not used: ") && said.contains("tiny.json"), "{said}");
            lab.good(&["run", "tiny.yaml"]);
            assert_eq!(fs::read(&path).unwrap(), sound, "made anew");
        }
    }
}

#[test]
fn a_plan_that_was_made_with_options_is_what_its_text_and_they_give() {
    let lab = Lab::new(TINY);
    let args = [
        "run",
        "tiny.yaml",
        "--sweep",
        "optimizer.lr=0.1,0.2",
        "--set",
        "train.epochs=1",
        "--seeds",
        "3",
        "--arm",
        "sgd",
    ];
    lab.good(&args);
    let name = fs::read_dir(lab.path("records/quick/plans")).unwrap().next().unwrap().unwrap().file_name();
    let (table, said) = lab.good(&["status", "--store", "records/quick"]);
    assert!(table.matches("done").count() == 2 && !said.contains("warning"), "{name:?}: {said}");
}

/// What planning costs depends on the runs asked for: damage to a record of another plan is not even seen.
#[test]
fn a_plan_reads_its_own_records_and_few_others() {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml"]);
    let runs = lab.path("records/quick/runs");
    let record = lab.records("records/quick")[0].clone();
    let store = Store::open(lab.path("records/quick")).unwrap();
    for i in 0..300 {
        fs::write(runs.join(format!("{i:016x}.json")), record.to_string()).unwrap();
    }
    assert_eq!(store.some_ids(64).unwrap().len(), 64);
    assert!(!lab.good(&["plan", "tiny.yaml"]).1.contains("not used"));
    let (_, said) = lab.good(&["plan", "tiny.yaml", "--seeds", "1,2,3"]);
    assert!(said.contains("2 runs to train: about "), "the pace of its own records: {said}");
}

#[test]
fn a_named_folder_without_the_set_is_said_and_one_with_a_part_of_it_refused() {
    let lab = lab_of_full();
    foreign(&lab.path("one/fashion-mnist"), 0);
    lab.good(&["run", "tiny.yaml", "--data-dir", "one"]);
    fs::create_dir_all(lab.path("empty/fashion-mnist")).unwrap();
    let says = "warning: not of the data folder that is named: ";
    let (_, said) = lab.good(&["status", "tiny.yaml", "--data-dir", "empty"]);
    assert!(said.contains(says) && said.contains("empty/fashion-mnist"), "{said}");
    for command in ["compare", "report"] {
        let (_, said) = lab.good(&[command, "records/quick/plans/tiny.json", "--data-dir", "empty"]);
        assert!(said.contains(says), "{said}");
        let (_, said) = lab.good(&[command, "records/quick/plans/tiny.json"]);
        assert!(!said.contains(says), "{said}");
    }
    // Three files of four are not nothing.
    fs::remove_file(lab.path("one/fashion-mnist/train-images-idx3-ubyte")).unwrap();
    for file in ["tiny.yaml", "records/quick/plans/tiny.json"] {
        let output = lab.np(&["compare", file, "--data-dir", "one"]);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains("train-images-idx3-ubyte"), "{file}: {said}");
    }
}

#[test]
fn every_table_says_of_foreign_data_and_of_arms_that_do_not_differ() {
    // `rounding` acts on half precision alone, and one rate of two is the same.
    let alike = "  same: {optimizer: {sgd: {lr: 0.05, momentum: 0.9}}, options: {rounding: compensated}}\n";
    let lab = Lab::new(
        TINY.replace("data: {name: mnist, source: mini, fraction: 0.05}", "data: {name: mnist, source: full}") + alike,
    );
    foreign(&lab.path("data/mnist"), 0);
    let with = |args: &[&str]| lab.good(&[args, &["--data-dir", "data", "--seeds", "1"]].concat());
    with(&["run", "tiny.yaml"]);
    let same = "the same results to the bit: these arms do not differ in anything that acts";
    for table in [&["--target", "0.05"][..], &["--profile"], &["--costs"], &["--iqm"], &["--against", "sgd"]] {
        let (out, _) = with(&[&["compare", "tiny.yaml"], table].concat());
        assert!(out.contains(same) && out.contains("warning: custom data in mnist (digest "), "{table:?}: {out}");
    }
    with(&["report", "tiny.yaml", "--out", "page.html"]);
    assert!(fs::read_to_string(lab.path("page.html")).unwrap().contains(same));
    let (_, said) = lab.good(&["status", "--store", "records/quick"]);
    assert!(said.contains("; data: custom data in mnist (digest "), "{said}");
    let output =
        lab.np(&["compare", "tiny.yaml", "--data-dir", "data", "--seeds", "1", "--arm", "sgd", "--arm", "same"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("`sgd` and `same`: the same results to the bit"), "{}", text(&output.stderr));
}

#[test]
fn arms_that_are_the_same_at_one_value_are_warned_of_at_plan() {
    let arms = TINY.split("arms:").next().unwrap();
    let text =
        "arms: {a: {sweep: {optimizer.lr: [0.1, 0.2]}}, b: {sweep: {optimizer.lr: [0.1, 0.3]}}}\noptimizer: sgd\n";
    let (_, said) = Lab::new(format!("{arms}{text}")).good(&["plan", "tiny.yaml"]);
    assert!(
        said.contains("warning: `b`: same configuration as `a` at `optimizer.lr` = `0.1`, nothing to compare"),
        "{said}"
    );
}

#[test]
fn a_reason_cannot_pass_for_a_line_of_its_own() {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml", "--seeds", "1", "--arm", "sgd"]);
    let mut record: np_record::Record = serde_json::from_value(lab.records("records/quick")[0].clone()).unwrap();
    record.outcome = np_record::Outcome::Failed { reason: "x\ndata     Fashion-MNIST, 60000".into() };
    let store = np_record::Store::open(lab.path("records/quick")).unwrap();
    fs::remove_file(store.record_path(&record.id).unwrap()).unwrap();
    (record.epochs, record.timing, record.optimizer) = (Vec::new(), Vec::new(), None);
    record.result_sha256 = record.digest_result();
    store.write_record(&record).unwrap();
    let (shown, _) = lab.good(&["show", &record.id, "--store", "records/quick"]);
    assert_eq!(shown.lines().filter(|line| line.starts_with("data ")).count(), 1, "{shown}");
    assert!(shown.contains(r"failed: x\ndata     Fashion-MNIST"), "{shown}");
    lab.good(&["report", "tiny.yaml", "--seeds", "1", "--arm", "sgd"]);
    let page = fs::read_to_string(lab.path("report.html")).unwrap();
    assert!(page.contains(r"failed: x\ndata     Fashion-MNIST"), "{page}");
}
