//! What the commands print, end to end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Lab, TINY, text};

fn trained() -> Lab {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml"]);
    lab
}

#[test]
fn plan_says_what_is_done_and_what_the_rest_costs() {
    let lab = Lab::new(TINY);
    let (table, said) = lab.good(&["plan", "tiny.yaml"]);
    assert_eq!(table.lines().count(), 5, "{table}");
    assert_eq!(table.matches("missing").count(), 4, "{table}");
    assert!(said.contains("4 runs to train: no record of the like"), "{said}");
    // 784 × 16 + 16 × 10 multiply-adds; 100 examples three times and 1,000 once; 2 epochs; 4 runs.
    assert!(
        said.contains("work: 2.6e8 floating-point operations, 0.0 s of a machine that sustains 10 TFLOP/s"),
        "{said}"
    );
    let (_, said) = lab.good(&["plan", "tiny.yaml", "--tflops", "0.00001"]);
    assert!(said.contains("26 s of a machine that sustains 0.00001 TFLOP/s"), "{said}");
    assert_eq!(lab.np(&["plan", "tiny.yaml", "--tflops", "0"]).status.code(), Some(2));
    assert!(!lab.path("records").exists(), "a plan writes nothing");

    lab.good(&["run", "tiny.yaml", "--seeds", "1"]);
    let (table, said) = lab.good(&["plan", "tiny.yaml"]);
    assert_eq!((table.matches("done").count(), table.matches("missing").count()), (2, 2), "{table}");
    assert!(said.contains("2 runs to train: about "), "{said}");
}

/// Bytes that `np` reads, by the kernel's count: a process has those of its ended children added to its own.
#[cfg(target_os = "linux")]
fn read_by(lab: &Lab, args: &[&str]) -> Option<u64> {
    let np = lab.command(args);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", r#""$@" >/dev/null || exit 1; cat /proc/$$/io || :"#, "sh"]).arg(np.get_program());
    let output = shell.args(np.get_args()).current_dir(lab.path("")).env_remove("NP_DATA_DIR").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().find_map(|line| line.strip_prefix("rchar: "))?.parse().ok()
}

/// What a plan of four runs reads does not grow with the store that it is in.
#[cfg(target_os = "linux")]
#[test]
fn a_plan_reads_few_records_of_others() {
    let lab = trained();
    // Of the records that there are none has this pace: some others are looked at.
    let asked = [&["plan", "tiny.yaml"][..], &["plan", "tiny.yaml", "--set", "model.hidden=[17]"]];
    let Some(before) = asked.iter().map(|args| read_by(&lab, args)).collect::<Option<Vec<u64>>>() else {
        println!("skipped: this kernel does not count what is read");
        return;
    };
    // As long as a record; an estimate leaves out what is none.
    let (runs, record) = (lab.path("records/quick/runs"), vec![b' '; 4096]);
    for i in 0..2000 {
        std::fs::write(runs.join(format!("{i:016x}.json")), &record).unwrap();
    }
    // 64 of 2,000 may be read, and some kilobytes that are not records.
    let most = 70 * record.len() as u64;
    for (args, before) in asked.iter().zip(before) {
        let more = read_by(&lab, args).unwrap().saturating_sub(before);
        assert!(more < most, "{args:?}: {more} bytes more, of records of {}", record.len());
    }
}

#[test]
fn plan_resolves_overrides_and_axes() {
    let lab = Lab::new(TINY);
    let json = |args: &[&str]| -> serde_json::Value {
        let args = [&["plan", "tiny.yaml", "--json"], args].concat();
        serde_json::from_str(&lab.good(&args).0).unwrap()
    };
    let plain = json(&[]);
    assert_eq!(plain["experiment"], "tiny");
    let order: Vec<String> =
        plain["runs"].as_array().unwrap().iter().map(|r| format!("{} {}", r["arm"], r["seed"])).collect();
    assert_eq!(order, ["\"full\" 1", "\"full\" 2", "\"sgd\" 1", "\"sgd\" 2"]);
    assert_eq!(plain["runs"][0]["config"]["train"]["eval_batch_size"], 1000, "defaults are spelled out");

    let swept =
        json(&["--set", "optimizer.lr=0.5", "--sweep", "data.fraction=0.05,0.1", "--seeds", "9", "--arm", "sgd"]);
    assert_ne!(swept["experiment"], "tiny", "the plan of the file as written stays");
    let runs = swept["runs"].as_array().unwrap();
    let axes: Vec<&serde_json::Value> = runs.iter().map(|run| &run["axes"]["data.fraction"]).collect();
    assert_eq!(axes, [0.05, 0.1]);
    assert!(runs.iter().all(|run| run["config"]["optimizer"]["sgd"]["lr"] == 0.5));

    assert_eq!(json(&["--seeds", "1,2"]), plain, "the file's own seeds make no other plan");

    let swapped = json(&["--set", "optimizer=adamw"]);
    assert_eq!(swapped["runs"][0]["id"], swapped["runs"][2]["id"], "the same run in two arms");
}

#[test]
fn a_kind_may_be_left_out_where_the_file_says_none() {
    let plain = TINY.replace("model: {mlp: {hidden: [16], dropout: 0.1}}\n", "");
    let lab = Lab::new(format!("{plain}options: {{clip: {{norm: 1.0}}}}\n"));
    let config = |args: &[&str]| -> serde_json::Value {
        let (json, _) = lab.good(&[&["plan", "tiny.yaml", "--json", "--arm", "full"], args].concat());
        let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
        plan["runs"][0]["config"].clone()
    };
    let short = config(&["--set", "model.hidden=[16]", "--set", "options.schedule.warmup=1"]);
    let long = config(&["--set", "model.mlp.hidden=[16]", "--set", "options.schedule.constant.warmup=1"]);
    assert_eq!(short, long);
    assert_eq!(short["model"]["mlp"]["hidden"], serde_json::json!([16]));
    assert_eq!(
        config(&["--sweep", "model.hidden=[16],[8]"])["model"],
        config(&["--set", "model.hidden=[16]"])["model"]
    );
    assert!(config(&["--set", "model=mlp"])["model"]["mlp"].is_object());
    let said = text(&lab.np(&["plan", "tiny.yaml", "--set", "model.hiden=[16]"]).stderr);
    assert!(
        said.contains("`model.mlp.hiden`: there is no such key in arm `full`\n  hint: did you mean `hidden`?"),
        "{said}"
    );
    // Another kind is named.
    let said = text(&lab.np(&["plan", "tiny.yaml", "--set", "model.resnet18={}"]).stderr);
    assert!(!said.contains("mlp"), "{said}");
}

#[test]
fn a_key_without_its_section_is_told_with_it() {
    let lab = Lab::new(TINY);
    for (option, key, meant) in [
        ("--set epochs=3", "epochs", "train.epochs"),
        ("--sweep lr=0.1,0.2", "lr", "optimizer.lr"),
        ("--set train.lr=3", "train.lr", "optimizer.lr"),
    ] {
        let words: Vec<&str> = option.split(' ').collect();
        let said = text(&lab.np(&[&["plan", "tiny.yaml"], &words[..]].concat()).stderr);
        let problem = format!("error: `{option}`: `{key}`: there is no such key");
        assert!(said.starts_with(&problem) && said.contains(&format!("  hint: did you mean `{meant}`?")), "{said}");
    }
    let said = text(&Lab::new(format!("{TINY}epochs: 3\n")).np(&["plan", "tiny.yaml"]).stderr);
    let says = "error: tiny.yaml:10:1: `epochs`: there is no such key\n  hint: did you mean `train.epochs`?\n";
    assert_eq!(said, says);
}

#[test]
fn a_batch_larger_than_the_data_is_warned_of() {
    let lab = Lab::new(TINY);
    let (_, said) = lab.good(&["plan", "tiny.yaml", "--set", "train.batch_size=1000000"]);
    let warning =
        "warning: an epoch is a single step: `train.batch_size` is `1000000`, more than the 100 training examples";
    assert_eq!(said.matches("warning").count(), 1, "{said}");
    assert!(said.contains(warning), "{said}");
}

#[test]
fn lists_can_be_swept_and_an_arm_can_say_nothing() {
    let text = TINY.replace("arms:\n", "optimizer: adam\narms:\n  plain:\n");
    let lab = Lab::new(text);
    let args = ["plan", "tiny.yaml", "--json", "--arm", "plain", "--seeds", "1", "--sweep", "model.hidden=[8],[16, 4]"];
    let plan: serde_json::Value = serde_json::from_str(&lab.good(&args).0).unwrap();
    let hidden: Vec<String> = plan["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["config"]["model"]["mlp"]["hidden"].to_string())
        .collect();
    assert_eq!(hidden, ["[8]", "[16,4]"]);
    assert!(plan["runs"][0]["config"]["optimizer"]["adam"]["lr"].is_number());
}

#[test]
fn one_run_in_two_arms_is_trained_once() {
    let lab = Lab::new(TINY);
    let (table, said) = lab.good(&["run", "tiny.yaml", "--set", "optimizer=adamw", "--seeds", "1"]);
    assert!(said.contains("2 runs") && said.contains("training 1,"), "{said}");
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(!lab.path("records/quick/plans/tiny.json").exists());
}

#[test]
fn scales_lie_over_everything() {
    let text = format!(
        "{TINY}scales:\n  paper: {{train: {{epochs: 1}}, seeds: [5], arms: {{sgd: {{optimizer: {{sgd: {{lr: 0.3}}}}}}}}}}\n"
    );
    let lab = Lab::new(text);
    let (plan, _) = lab.good(&["plan", "tiny.yaml", "--scale", "paper", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["scale"], "paper");
    let runs = plan["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    let sgd = &runs[1]["config"];
    assert_eq!((&sgd["seed"], &sgd["train"]["epochs"]), (&5.into(), &1.into()));
    assert_eq!(
        sgd["optimizer"]["sgd"],
        serde_json::json!({
            "lr": 0.3, "momentum": 0.9, "dampening": 0.0, "nesterov": false, "weight_decay": 0.0
        })
    );
}

#[test]
fn compare_prints_every_format() {
    let lab = trained();
    for format in ["text", "markdown", "csv", "json"] {
        let (out, _) = lab.good(&["compare", "tiny.yaml", "--format", format]);
        assert!(out.contains("full") && out.contains("sgd"), "{format}: {out}");
    }
    let (by_plan, _) = lab.good(&["compare", "records/quick/plans/tiny.json"]);
    assert_eq!(by_plan, lab.good(&["compare", "tiny.yaml"]).0);
    let (turned, _) = lab.good(&["compare", "tiny.yaml", "--against", "full", "--format", "json"]);
    let turned: serde_json::Value = serde_json::from_str(&turned).unwrap();
    assert_eq!((&turned["arm"], &turned["baseline"]), (&"sgd".into(), &"full".into()));
}

#[test]
fn nothing_to_compare_is_said() {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml", "--arm", "sgd", "--seeds", "1"]);
    let output = lab.np(&["compare", "tiny.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nothing to compare: no seed has a finished run of both arms\n  hint: "));
    let output = lab.np(&["compare", "tiny.yaml", "--arm", "sgd", "--seeds", "1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("nothing to compare: there is one arm, `sgd`\n  hint: leave out `--arm`"));
    let (_, said) = lab.good(&["run", "tiny.yaml", "--arm", "sgd", "--seeds", "2"]);
    assert!(said.contains(": 1 run, records in") && said.contains("test loss"), "{said}");
}

/// Does what a hint says, in a shell: the command in back-ticks behind `before`.
fn heed(lab: &Lab, said: &str, before: &str) -> String {
    let command = said.split(before).nth(1).unwrap_or_else(|| panic!("{before}: {said}")).split('`').nth(1).unwrap();
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_np")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell = std::process::Command::new("sh");
    let output =
        shell.args(["-c", command]).current_dir(lab.path("")).env("PATH", path).env_remove("NP_DATA_DIR").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    command.to_owned()
}

#[test]
fn a_hint_names_a_command_that_does_it() {
    let lab = Lab::new(TINY);
    let set = "model.mlp={hidden: [8], dropout: 0.1}";
    let options = ["tiny.yaml", "--store", "my store", "--seeds", "7,8", "--set", set, "--set", "train.epochs=1"];
    let asked = |command| [&[command][..], &options].concat();
    for command in ["compare", "report"] {
        let output = lab.np(&asked(command));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        let hint = "hint: train them: `np run tiny.yaml --set 'model.mlp={hidden: [8], dropout: 0.1}' --set train.epochs=1 \
             --seeds 7,8 --store 'my store'`";
        assert!(said.contains(hint), "{said}");
    }
    // Where a part is missing: the other seed of one arm.
    lab.good(&[&asked("run")[..], &["--arm", "full"]].concat());
    let output = lab.np(&asked("compare"));
    assert_eq!(output.status.code(), Some(1));
    heed(&lab, &text(&output.stderr), "shows what is there, ");
    lab.good(&asked("compare"));

    // Of a plan in a store, from another folder than the experiment's.
    lab.good(&["run", "tiny.yaml", "--store", "s", "--seeds", "3", "--set", "train.epochs=1"]);
    for (path, _) in lab.files("s/runs") {
        std::fs::remove_file(path).unwrap();
    }
    let plan = lab.files("s/plans").into_keys().next().unwrap();
    let plan = plan.to_str().unwrap();
    let said = text(&lab.np(&["compare", plan]).stderr);
    let command = heed(&lab, &said, "train them: ");
    assert!(command.contains("--set train.epochs=1 --seeds 3 --store "), "{command}");
    lab.good(&["compare", plan]);
}

#[test]
fn where_another_files_plan_is_in_the_way_that_is_said() {
    let lab = Lab::new(TINY);
    for (folder, text) in [("a", TINY.to_owned()), ("b", TINY.replace("epochs: 2", "epochs: 1"))] {
        std::fs::create_dir(lab.path(folder)).unwrap();
        std::fs::write(lab.path(&format!("{folder}/tiny.yaml")), text).unwrap();
    }
    lab.good(&["run", "a/tiny.yaml", "--store", "s"]);
    let output = lab.np(&["report", "a/tiny.yaml", "b/tiny.yaml", "--store", "s"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("b/tiny.yaml: the plan `tiny` in `s` is of another file") && !said.contains("np run"),
        "{said}"
    );
}

#[test]
fn a_value_may_begin_with_a_hyphen() {
    let lab = Lab::new(format!("{TINY}  '-2': {{optimizer: sgd}}\n"));
    lab.good(&["run", "tiny.yaml", "--arm", "-2", "--arm", "sgd"]);
    lab.good(&["compare", "tiny.yaml", "--arm", "sgd", "--arm", "-2", "--against", "-2"]);
    lab.good(&["compare", "tiny.yaml", "--target", "-1", "--metric", "final-train-loss"]);
    for (args, says) in [
        (&["compare", "--target", "-1"][..], "`--target -1`: expected a share of 0 to 1"),
        (&["plan", "--seeds", "-1"], "`--seeds -1`: expected "),
        (&["plan", "--seeds", "-3..-1"], "`--seeds -3..-1`: expected "),
        (&["plan", "--arm", "-3"], "`--arm -3`: "),
        (&["plan", "--set", "-x=1"], "`--set -x=1`: `-x`: there is no such key"),
        (&["plan", "--tflops", "-1"], "expected a number above 0"),
        (&["run", "--jobs", "-1"], "'-1' for '--jobs <N>': expected a whole number from 1 to 65535"),
        (&["run", "--threads", "x"], "'x' for '--threads <N>': expected a whole number from 1 to 65535"),
    ] {
        let output = lab.np(&[&args[..1], &["tiny.yaml"], &args[1..]].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(says) && !said.contains("as a value, use"), "{args:?}: {said}");
    }
}

#[test]
fn show_prints_a_record_by_the_beginning_of_its_id() {
    let lab = trained();
    let id = lab.results("records/quick").into_keys().next().unwrap();
    let (out, _) = lab.good(&["show", &id[..6], "--store", "records/quick"]);
    for part in [id.as_str(), "finished", "np run tiny.yaml", "MLP 784-16-10", "test loss", "optimizer:"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (json, _) = lab.good(&["show", &id, "--store", "records/quick", "--json"]);
    let record: serde_json::Value = serde_json::from_str(&json).unwrap();
    let provenance = record["provenance"].to_string();
    assert!(!provenance.contains(&*lab.path("").to_string_lossy()), "no paths of the machine: {provenance}");
}

#[test]
fn every_record_says_how_it_was_made() {
    let lab = trained();
    for record in lab.records("records/quick") {
        let provenance = &record["provenance"];
        let word = |value: &serde_json::Value| value.as_str().is_some_and(|text| !text.is_empty());
        for key in ["cpu", "os"] {
            assert!(word(&provenance["machine"][key]), "{key}: {provenance}");
        }
        for key in ["np", "candle", "rustc"] {
            assert!(word(&provenance["versions"][key]), "{key}: {provenance}");
        }
        assert!(provenance["machine"]["cores"].as_u64() >= Some(1) && provenance["threads"].as_u64() >= Some(1));
        assert!(word(&provenance["started"]) && provenance["command"] == "np run tiny.yaml", "{provenance}");
        assert_eq!(record["data"]["digest"].as_str().map(str::len), Some(64));
        // The commit that the code under test was built from, or none, with the reason said when the run was made.
        assert_eq!(provenance["commit"].is_null(), provenance["dirty"].is_null(), "{provenance}");
        if cfg!(target_os = "linux") {
            // A process with candle in it has some megabytes; this one trains on a hundred small images.
            let peak = provenance["memory_peak_bytes"].as_u64().unwrap();
            assert!((1 << 20..1 << 33).contains(&peak), "{peak}");
        }
    }
}

#[test]
fn optimizers_prints_what_an_experiment_can_say() {
    let lab = Lab::new(TINY);
    let (list, _) = lab.good(&["optimizers"]);
    assert!(list.contains("\nadam                 Adam, with coupled weight decay (L2 regularisation)\n"), "{list}");
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, np_core::OptimizerConfig::KINDS);
    for name in names {
        let (yaml, _) = lab.good(&["optimizers", name]);
        assert!(yaml.starts_with("# ") && yaml.contains("\n#     "), "a formula: {yaml}");
        assert!(yaml.contains("\n    # η, "), "what its settings are: {yaml}");
        let prose = yaml.lines().filter(|line| line.contains("# ") && !line.starts_with("#     "));
        prose.for_each(|line| assert!(line.chars().count() <= 100, "{line}"));
        let settings: serde_yaml::Value = serde_yaml::from_str(&yaml).unwrap();
        let json = serde_json::to_string(&settings["optimizer"]).unwrap();
        let set = format!("optimizer={json}");
        lab.good(&["plan", "tiny.yaml", "--set", &set]);
    }
    let (page, _) = lab.good(&["optimizers", "neuroplastic"]);
    for instead in ["bounded_residual", "orthogonal_residual", "hybrid", "controller"] {
        assert!(page.contains(&format!(" {instead}:\n")), "what may stand instead: {page}");
    }
}

#[test]
fn help_has_examples() {
    let lab = Lab::new(TINY);
    let output = lab.np(&["--help"]);
    assert!(text(&output.stdout).contains("np run experiments/fig2-sanity.yaml"));
    assert!(!text(&output.stdout).contains("exec"), "the worker's command is not for people");
}
