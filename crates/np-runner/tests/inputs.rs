//! First contact: what people, editors, shells and other machines hand us, and what comes of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;

use common::{Lab, TINY, text};
use serde_json::Value;

fn plan(lab: &Lab, args: &[&str]) -> Value {
    serde_json::from_str(&lab.good(&[&["plan", "tiny.yaml", "--json"], args].concat()).0).unwrap()
}

/// `np plan` of the laboratory's file, which must be refused; what it says.
fn refused(lab: &Lab, args: &[&str]) -> String {
    let output = lab.np(args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_file() {
    let (plain, marked) = (Lab::new(TINY), Lab::new(format!("\u{feff}{TINY}")));
    assert_eq!(plan(&plain, &[])["runs"], plan(&marked, &[])["runs"]);
    fs::write(marked.path("old.yaml"), "\u{feff}experiment: {epochs: 5}\n").unwrap();
    let (yaml, _) = marked.good(&["import", "old.yaml"]);
    assert!(yaml.contains("epochs: 5"), "{yaml}");
}

#[test]
fn a_variable_set_to_nothing_is_not_set() {
    let lab = Lab::new(TINY);
    for args in
        [&["plan", "tiny.yaml"][..], &["data", "list"], &["data", "verify"], &["run", "tiny.yaml", "--seeds", "1"]]
    {
        let output = lab.command(args).env("NP_DATA_DIR", "").output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    }
    let output =
        lab.command(&["plan", "tiny.yaml", "--set", "data.source=full"]).env("NP_DATA_DIR", "").output().unwrap();
    assert!(text(&output.stderr).contains("pass `--data-dir DIR` or set `NP_DATA_DIR`"), "{}", text(&output.stderr));
}

#[test]
fn maps_can_be_merged_and_faults_in_them_have_a_place() {
    let shared =
        "  full: &base {optimizer: {sgd: {lr: 0.05, momentum: 0.9}}}\n  sgd: {<<: *base, train: {epochs: 1}}\n";
    let arms = |arms: &str| format!("{}arms:\n{arms}", TINY.split("arms:\n").next().unwrap());
    let runs = plan(&Lab::new(arms(shared)), &["--seeds", "1"])["runs"].clone();
    assert_eq!(runs[0]["config"]["optimizer"], runs[1]["config"]["optimizer"]);
    assert_eq!((&runs[0]["config"]["train"]["epochs"], &runs[1]["config"]["train"]["epochs"]), (&2.into(), &1.into()));
    let said = refused(&Lab::new(arms(&shared.replace("momentum", "momentun"))), &["plan", "tiny.yaml"]);
    assert!(said.contains("tiny.yaml:8:") && said.contains("did you mean `momentum`?"), "{said}");
    let said = refused(&Lab::new(arms(&shared.replace("*base", "[*base, 3]"))), &["plan", "tiny.yaml"]);
    assert!(said.contains("tiny.yaml:9:9: `arms.sgd.<<`: expected a map, or a list of maps"), "{said}");
}

#[test]
fn a_range_of_seeds_has_both_its_ends() {
    let seeds = |plan: &Value| -> Vec<u64> {
        let runs = plan["runs"].as_array().unwrap();
        runs.iter().filter(|run| run["arm"] == "sgd").map(|run| run["seed"].as_u64().unwrap()).collect()
    };
    for (written, want) in
        [("1..4", vec![1, 2, 3, 4]), ("[7, 1..3]", vec![7, 1, 2, 3]), ("[18446744073709551615]", vec![u64::MAX])]
    {
        let lab = Lab::new(TINY.replace("[1, 2]", written));
        assert_eq!(seeds(&plan(&lab, &[])), want, "{written}");
        assert_eq!(seeds(&plan(&lab, &["--seeds", "10..12,5"])), [10, 11, 12, 5]);
    }
    let lab = Lab::new(TINY);
    let (_, said) = lab.good(&["plan", "tiny.yaml", "--seeds", "1..10"]);
    assert!(said.contains("seeds: 1 to 10\n") && said.contains("20 runs to train"), "{said}");
    assert_eq!(plan(&lab, &["--seeds", "1..2"]), plan(&lab, &[]), "the file's own seeds make no other plan");
    for (seeds, says) in [
        ("0..18446744073709551615", "expected at most 10000 seeds, got 18446744073709551616"),
        ("3..1", "expected whole numbers, 0 or more, or ranges such as `1..10`, both ends included, got `3..1`"),
        ("1..3,2", "seed `2` stands here twice"),
    ] {
        let said = refused(&lab, &["plan", "tiny.yaml", "--seeds", seeds]);
        assert!(said.contains(says), "{said}");
        let file = Lab::new(TINY.replace("[1, 2]", seeds));
        let said = refused(&file, &["plan", "tiny.yaml"]);
        assert!(said.contains("tiny.yaml:6:1: `seeds`: "), "{said}");
    }
}

#[test]
fn sizes_that_no_machine_has_are_refused_at_plan() {
    let lab = Lab::new(TINY);
    let (_, said) = lab.good(&["plan", "tiny.yaml"]);
    // MLP 784-16-10: 12,730 parameters; the largest run has NeuroPlastic's three states and its scratch.
    assert!(said.contains("memory of a run: about ") && said.contains("parameters 51 kB, gradients 51 kB"), "{said}");
    for (set, says) in [
        (
            "model.hidden=[1000000000000, 1000000000000]",
            "`model.mlp.hidden`: expected widths that make at most 1073741824 parameters",
        ),
        ("model.hidden=[18446744073709551615]", "`model.mlp.hidden`: expected widths that make at most"),
        ("model={resnet18: {width: 18446744073709551615}}", "expected "),
        ("optimizer={lbfgs: {history: 18446744073709551615}}", ""),
        ("train.epochs=4294967295", ""),
        ("train.batch_size=18446744073709551615", ""),
        ("train.eval_batch_size=18446744073709551615", ""),
    ] {
        for command in [&["plan", "tiny.yaml", "--set", set][..], &["plan", "tiny.yaml", "--json", "--set", set]] {
            match says {
                "" => drop(lab.good(command)),
                says => {
                    let said = refused(&lab, command);
                    assert!(said.contains(says), "{said}");
                }
            }
        }
    }
    lab.good(&[
        "run",
        "tiny.yaml",
        "--arm",
        "sgd",
        "--seeds",
        "18446744073709551615",
        "--set",
        "train.batch_size=18446744073709551615",
    ]);
}

#[test]
fn characters_that_cannot_be_seen_are_refused_in_names_and_spelled_out() {
    for (old, new, says) in [
        (
            "  sgd:",
            "  \"s\\e[31mgd\":",
            r"tiny.yaml:9:3: expected text without control characters, got `s\u{1b}[31mgd`",
        ),
        ("  sgd:", "  \"s\\ngd\":", r"expected text without control characters, got `s\ngd`"),
        ("  sgd:", "  \"s\\u202egd\":", r"got `s\u{202e}gd`"),
        ("Does it run?", "\"Does \\x9b31m it?\"", r"got `Does \u{9b}31m it?`"),
        ("name: mnist", "name: \"mn\\x07ist\"", r"got `mn\u{7}ist`"),
    ] {
        let said = refused(&Lab::new(TINY.replacen(old, new, 1)), &["plan", "tiny.yaml"]);
        assert!(said.contains(says), "{said}");
    }
    let lab = Lab::new(TINY.replace("Does it run?", "|\n  Does it\n  run?\n"));
    lab.good(&["plan", "tiny.yaml"]);
    // A path and an option; and what clap repeats, which leaves escapes out.
    for args in [&["plan", "a\u{1b}[2J.yaml"][..], &["plan", "tiny.yaml", "--arm", "\u{1b}[2J"]] {
        let said = refused(&lab, args);
        assert!(said.contains(r"\u{1b}[2J"), "{said}");
    }
    assert!(refused(&lab, &["plan", "--wrong\u{202e}"]).contains(r"--wrong\u{202e}"));
}

#[test]
fn what_was_edited_into_a_store_reaches_no_output_raw() {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml"]);
    let path = lab.path("records/quick/plans/tiny.json");
    let edited = fs::read_to_string(&path).unwrap().replace("\"arm\": \"sgd\"", "\"arm\": \"=1+1\\u001b[31m|\"");
    fs::write(&path, edited).unwrap();
    for format in ["text", "markdown", "csv"] {
        for args in [&["compare", "records/quick/plans/tiny.json"][..], &["status", "--store", "records/quick"]] {
            let output = lab.np(&[args, &["--format", format]].concat());
            let (out, said) = (text(&output.stdout), text(&output.stderr));
            assert!(!out.contains('\u{1b}') && !said.contains('\u{1b}'), "{args:?} {format}: {out}{said}");
            // Such a plan is not the one of its digest: it is named, and nothing of it shown.
            assert!(said.contains("tiny.json"), "{args:?} {format}: {out}{said}");
        }
    }
    let output = lab.np(&["report", "records/quick/plans/tiny.json"]);
    if output.status.success() {
        assert!(!fs::read_to_string(lab.path("report.html")).unwrap().contains('\u{1b}'));
    }
}

#[test]
fn a_name_that_cannot_be_a_plans_is_refused_at_plan() {
    let lab = Lab::new(TINY);
    let long = "x".repeat(195);
    for name in ["two words", "-v", "ti:ny", "end.", long.as_str()] {
        let file = format!("./{name}.yaml");
        fs::write(lab.path(&file), TINY.replace("name: tiny", &format!("name: \"{name}\""))).unwrap();
        for command in ["plan", "run"] {
            let said = refused(&lab, &[command, &file]);
            assert!(said.contains(":1:1: `name`: expected a name of letters, digits"), "{said}");
        }
    }
    assert!(!lab.path("records").exists());
}

#[test]
fn two_files_of_one_name_do_not_replace_each_others_plan() {
    let lab = Lab::new(TINY);
    for folder in ["a", "b"] {
        fs::create_dir(lab.path(folder)).unwrap();
        fs::write(lab.path(&format!("{folder}/tiny.yaml")), TINY).unwrap();
    }
    let run = |file: &'static str| ["run", file, "--store", "s", "--arm", "sgd"];
    lab.good(&["run", "a/tiny.yaml", "--store", "s"]);
    let kept = fs::read(lab.path("s/plans/tiny.json")).unwrap();
    lab.good(&["run", "b/tiny.yaml", "--store", "s"]);
    assert_eq!(fs::read(lab.path("s/plans/tiny.json")).unwrap(), kept, "of the same text it is the same plan");
    lab.good(&["run", "a/tiny.yaml", "--store", "s"]);

    fs::write(lab.path("b/tiny.yaml"), TINY.replace("epochs: 2", "epochs: 1")).unwrap();
    for command in [
        &["run", "b/tiny.yaml", "--store", "s"][..],
        &["plan", "b/tiny.yaml", "--store", "s"],
        &["plan", "b/tiny.yaml", "--store", "s", "--json"],
    ] {
        let said = refused(&lab, command);
        assert!(said.contains("the plan `tiny` in `s` is of another file") && said.contains("--store"), "{said}");
    }
    assert_eq!(fs::read(lab.path("s/plans/tiny.json")).unwrap(), kept);
    lab.good(&["run", "b/tiny.yaml", "--store", "other"]);

    // The same with overrides, whose plan has a name of its own.
    lab.good(&run("a/tiny.yaml"));
    assert!(refused(&lab, &run("b/tiny.yaml")).contains("is of another file"));

    // A file that was edited is the same one; a file that has gone keeps nobody from its name.
    fs::write(lab.path("a/tiny.yaml"), TINY.replace("[1, 2]", "[1]")).unwrap();
    lab.good(&["run", "a/tiny.yaml", "--store", "s"]);
    fs::remove_file(lab.path("a/tiny.yaml")).unwrap();
    lab.good(&["run", "b/tiny.yaml", "--store", "s"]);
}

#[test]
fn an_import_is_what_was_imported_and_nothing_else() {
    let lab = Lab::new(TINY);
    let import = |yaml: &str, args: &[&str]| {
        fs::write(lab.path("old.yaml"), yaml).unwrap();
        lab.np(&[&["import", "old.yaml"], args].concat())
    };
    let evil = r#"experiment: {run_name: "x\nseeds: [99]\n#", dataset: "y\nsweep: {}", scheduler: "z\u2028arms: {}"}"#;
    let output = import(evil, &[]);
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
    let tame = evil.replace("\\n", " ").replace("\\u2028", " ");
    let said = text(&import(&tame, &[]).stderr);
    assert!(
        said.contains("`experiment.run_name`: expected a name of letters") && said.contains("--name NAME"),
        "{said}"
    );
    assert!(text(&import(&tame, &["--name", "a\nb: c"]).stderr).contains("expected a name of letters"));
    let output = import(&tame, &["--name", "fine"]);
    let yaml: serde_yaml::Value = serde_yaml::from_slice(&output.stdout).unwrap();
    assert_eq!((&yaml["name"], &yaml["seeds"]), (&"fine".into(), &serde_yaml::from_str("[41]").unwrap()));
    assert!(yaml.get("sweep").is_none() && yaml["arms"].get("imported").is_some());

    // A key of the file's, which is repeated in a comment, and the file's own name.
    let output = import("experiment: {epochs: 1}\n\"a\\nb: c\": 1\n", &["--lenient", "--name", "fine"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    fs::write(lab.path("o\nsweep: {}"), "experiment: {epochs: 1}\n").unwrap();
    let output = lab.np(&["import", "o\nsweep: {}", "--name", "fine"]);
    let yaml: serde_yaml::Value = serde_yaml::from_slice(&output.stdout).unwrap();
    assert!(yaml.get("sweep").is_none());
}

#[cfg(unix)]
#[test]
fn a_report_goes_where_it_is_sent() {
    use std::os::unix::fs::FileTypeExt as _;

    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml", "--store", "s"]);
    let report = |out: &str| lab.good(&["report", "tiny.yaml", "--store", "s", "--out", out]).0;
    report("page.html");
    let page = fs::read_to_string(lab.path("page.html")).unwrap();
    assert_eq!(report("/dev/stdout"), page);
    report("/dev/null");
    assert!(fs::symlink_metadata("/dev/null").unwrap().file_type().is_char_device());
    std::os::unix::fs::symlink("page.html", lab.path("link.html")).unwrap();
    fs::write(lab.path("page.html"), "").unwrap();
    report("link.html");
    assert!(fs::symlink_metadata(lab.path("link.html")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(lab.path("page.html")).unwrap(), page);
}

#[test]
fn a_number_beyond_all_ranges_is_told_the_range() {
    // 2^64, one more than the largest seed.
    for (seeds, key) in [("[1, 18446744073709551616]", "`seeds.1`"), ("18446744073709551616", "`seeds`")] {
        let said = refused(&Lab::new(TINY.replace("[1, 2]", seeds)), &["plan", "tiny.yaml"]);
        let range =
            format!("{key}: expected a whole number of at most 18446744073709551615, got `18446744073709551616`");
        assert!(said.contains(&range) && !said.contains("u128") && !said.contains("YAML value"), "{said}");
    }
    let lab = Lab::new(TINY);
    let said = refused(&lab, &["plan", "tiny.yaml", "--seeds", "1,18446744073709551616"]);
    assert!(said.contains(": expected seeds of at most 18446744073709551615, got `18446744073709551616`"), "{said}");
    for (args, says) in [
        (["--set", "train.epochs=18446744073709551616"], "`train.epochs`: expected a whole number of at most 1844"),
        (
            ["--set", "optimizer.lr=.nan"],
            "`--set optimizer.lr=.nan`: `optimizer.lr`: expected a finite number, got `.nan`",
        ),
        (["--sweep", "optimizer.lr=1,.inf"], "`optimizer.lr`: expected a finite number, got `.inf`"),
        (["--set", "optimizer={sgd: {lr: .nan}}"], "`optimizer.sgd.lr`: expected a finite number, got `.nan`"),
    ] {
        let said = refused(&lab, &[&["plan", "tiny.yaml"][..], &args].concat());
        assert!(said.contains(says) && !said.contains("``"), "{said}");
    }
}

#[test]
fn what_looks_like_nothing_is_refused_in_names() {
    for c in ['\u{200b}', '\u{ad}', '\u{3164}', '\u{2063}', '\u{e0041}'] {
        let said = refused(&Lab::new(format!("{TINY}  sgd{c}: {{optimizer: sgd}}\n")), &["plan", "tiny.yaml"]);
        assert!(said.contains(&format!("\\u{{{:x}}}", u32::from(c))) && !said.contains(c), "{said}");
    }
}

/// A plan has its runs, its scale and its store.
#[test]
fn what_would_change_a_plan_is_refused() {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml"]);
    let plan = "records/quick/plans/tiny.json";
    for option in [
        ["--seeds", "1"],
        ["--set", "optimizer.lr=0.5"],
        ["--sweep", "optimizer.lr=0.5"],
        ["--arm", "sgd"],
        ["--scale", "paper"],
        ["--store", "other"],
    ] {
        for command in ["compare", "report"] {
            let said = refused(&lab, &[&[command, plan][..], &option].concat());
            let says = format!(
                "error: `{}`: `{plan}` is a plan, and what it holds cannot be changed\n  hint: ",
                option.join(" ")
            );
            assert!(said.starts_with(&says), "{command}: {said}");
        }
        if option[0] != "--store" {
            let said = refused(&lab, &[&["status", "--store", "records/quick"][..], &option].concat());
            assert!(said.contains("there is no experiment that it is about\n  hint: "), "{said}");
        }
    }
    lab.good(&["compare", plan]);
    lab.good(&["status", "--store", "records/quick"]);
}

#[test]
fn a_key_that_two_options_sweep_is_refused() {
    let lab = Lab::new(format!("{TINY}sweep: {{train.epochs: [1, 2]}}\n"));
    let said = refused(&lab, &["plan", "tiny.yaml", "--sweep", "optimizer.lr=1,2", "--sweep", "optimizer.lr=3"]);
    let says = "`--sweep optimizer.lr=3`: `optimizer.lr`: `--sweep optimizer.lr=1,2` sweeps this key too\n  hint: ";
    assert!(said.contains(says), "{said}");
    // Over the file an option has the last word: two arms, two seeds, one value.
    assert_eq!(plan(&lab, &["--sweep", "train.epochs=1"])["runs"].as_array().unwrap().len(), 4);
}

#[test]
fn a_value_of_an_arm_that_an_axis_sweeps_away_is_warned_of() {
    let swept = |arm: &str, axis: &str| Lab::new(format!("{TINY}  own: {arm}\nsweep: {axis}\n"));
    let says = "warning: arm `own`: no run has its own `optimizer.sgd.lr`, `0.7`: the axis `";
    let arm = "{optimizer: {sgd: {lr: 0.7}}}";
    for axis in ["{optimizer.lr: [0.1, 0.2]}", "{optimizer.sgd.lr: [0.1]}"] {
        let lab = match axis.contains("sgd") {
            true => Lab::new(format!("{}  own: {arm}\nsweep: {axis}\n", TINY.split("  full:").next().unwrap())),
            false => swept(arm, axis),
        };
        let (_, said) = lab.good(&["plan", "tiny.yaml"]);
        assert!(said.contains(says), "{axis}: {said}");
    }
    // Listed; said by nobody but an option; or of another key.
    let (_, said) = swept(arm, "{optimizer.lr: [0.1, 0.7]}").good(&["plan", "tiny.yaml"]);
    assert!(!said.contains("arm `own`"), "{said}");
    let (_, said) = swept(arm, "{train.epochs: [1]}").good(&["plan", "tiny.yaml", "--sweep", "optimizer.lr=0.1,0.2"]);
    assert!(!said.contains("arm `own`"), "{said}");
    // Said where it is run, too.
    let lab = swept("{train: {epochs: 9}, optimizer: sgd}", "{train.epochs: [1]}");
    let (_, said) = lab.good(&["run", "tiny.yaml", "--seeds", "1", "--arm", "own"]);
    assert!(
        said.contains("warning: arm `own`: no run has its own `train.epochs`, `9`: the axis `train.epochs` does"),
        "{said}"
    );
}
