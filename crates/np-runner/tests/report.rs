//! The report, and the tables of `np compare` beside the comparison, over a real store.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;

use common::{Lab, TINY, text};

/// The tiny experiment over two learning rates, with examples held out, that is to be selected by them.
fn swept() -> String {
    TINY.replace("fraction: 0.05", "fraction: 0.05, validation: 0.2")
        .replace("arms:\n", "sweep: {optimizer.lr: [0.1, 0.001]}\nselection: validation\narms:\n")
        .replace("question: Does it run?", "question: \"Does it <run> & `stop`?\"")
}

fn lab(text: impl AsRef<[u8]>) -> Lab {
    let lab = Lab::new(text);
    lab.good(&["run", "tiny.yaml"]);
    lab
}

#[test]
fn a_page_holds_all_that_it_needs_and_nothing_else() {
    let lab = lab(format!("# A question?\n#\n# Expected: `nothing`.\n{}", swept()));
    let (out, said) = lab.good(&["report", "tiny.yaml"]);
    assert!(out.is_empty() && said.contains("1 experiment, ") && said.contains("`report.html`"), "{said}");
    let page = fs::read_to_string(lab.path("report.html")).unwrap();
    for part in [
        "<!DOCTYPE html>",
        "Does it &lt;run&gt; &amp; <code>stop</code>?",
        "<p>A question?</p><p>Expected: <code>nothing</code>.</p>",
        "8 runs: 8 finished.",
        "each arm at its best <code>optimizer.lr</code> by validation accuracy",
        "what every arm reached",
        "paired by seed",
        "P(better than <code>full</code>)",
        "np run tiny.yaml --scale quick",
        "prefers-color-scheme: dark",
        "@media print",
        "aria-label=\"Test accuracy by epoch",
        "<th scope=\"col\">arm</th>",
        "data digest",
        "<summary>Every configuration that was tried</summary>",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // Each of the eight runs, by its id, and its configuration.
    for id in lab.results("records/quick").keys() {
        assert!(page.contains(id.as_str()), "{id}");
    }
    assert!(page.contains("lr: 0.001") && !page.contains("seed: 1"), "configurations are shown without the seed");
    // Nothing is loaded, and nothing runs but the page's own script, which the policy knows by its digest.
    let script = page.split("<script>").nth(1).unwrap().split("</script>").next().unwrap();
    let digest =
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, <sha2::Sha256 as sha2::Digest>::digest(script));
    assert!(page.contains(&format!("script-src 'sha256-{digest}';")), "{digest}");
    assert_eq!(page.matches("<script").count(), 1);
    assert!(script.len() < 4096, "a few kilobytes");
    for part in ["http:", "https:", "url(", "@import", " src=", "<link rel=\"style"] {
        assert!(!page.contains(part), "{part}");
    }
    assert!(!page.contains(&*lab.path("").to_string_lossy()), "no paths of the machine");
    // What a browser would complain of: ids twice, tags left open.
    let ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(ids.iter().enumerate().all(|(i, id)| !ids[..i].contains(id)), "{ids:?}");
    for tag in ["section", "table", "details", "figure", "div", "ul", "dl", "svg", "pre", "line", "path", "text"] {
        let opened = page.matches(&format!("<{tag} ")).count() + page.matches(&format!("<{tag}>")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }

    lab.good(&["report", "tiny.yaml", "--out", "sub/again.html"]);
    assert_eq!(fs::read_to_string(lab.path("sub/again.html")).unwrap(), page, "the same records, the same bytes");
}

#[test]
fn what_did_not_finish_is_in_the_page() {
    let lab = lab(TINY);
    let records = lab.path("records/quick/runs");
    let mut paths: Vec<_> = fs::read_dir(records).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    fs::remove_file(&paths[0]).unwrap();
    lab.good(&["report", "records/quick/plans/tiny.json"]);
    let page = fs::read_to_string(lab.path("report.html")).unwrap();
    assert!(page.contains("4 runs: 3 finished, 1 without a record."), "{page}");
    assert!(page.contains("runs that did not finish") && page.contains("no record: not trained yet, or under way"));
    assert!(!page.contains("Record not used"));

    // One that was edited is not used, and the page says why it counts as missing.
    let edited = fs::read_to_string(&paths[1]).unwrap().replacen("\"train_loss\": ", "\"train_loss\": 1", 1);
    fs::write(&paths[1], edited).unwrap();
    lab.good(&["report", "tiny.yaml"]);
    let page = fs::read_to_string(lab.path("report.html")).unwrap();
    let name = paths[1].file_name().unwrap().to_str().unwrap();
    assert!(page.contains("4 runs: 2 finished, 2 without a record."), "{page}");
    assert!(
        page.contains(&format!("Record not used: <code>runs/{name}</code> was changed after it was written")),
        "{page}"
    );
    assert!(!page.contains(&*lab.path("").to_string_lossy()), "no paths of the machine");
}

#[test]
fn figures_that_name_the_experiment_are_taken_in() {
    let lab = lab(TINY);
    fs::create_dir(lab.path("drawn")).unwrap();
    fs::write(lab.path("drawn/fig9.md"), "**Figure 9.** Seen.\n\n- experiment `tiny`\n- redraw: `draw 9`\n").unwrap();
    fs::write(lab.path("drawn/fig9.svg"), "<svg><title>nine</title></svg>").unwrap();
    lab.good(&["report", "tiny.yaml", "--figures", "drawn"]);
    let page = fs::read_to_string(lab.path("report.html")).unwrap();
    assert!(
        page.contains("<svg><title>nine</title></svg>")
            && page.contains("Figure 9. Seen.")
            && page.contains("\ndraw 9")
    );
}

#[test]
fn a_report_replaces_nothing_but_pages() {
    let lab = lab(TINY);
    let id = lab.results("records/quick").into_keys().next().unwrap();
    let (record, plan) = (format!("records/quick/runs/{id}.json"), "records/quick/plans/tiny.json");
    fs::write(lab.path("other.yaml"), TINY).unwrap();
    fs::write(lab.path("notes"), "mine").unwrap();
    let mut cases = vec![
        ("tiny.yaml", "tiny.yaml` is what it is made from\n  hint: choose another file"),
        (plan, "tiny.json` is in a folder of the store `"),
        (&record, "` is in a folder of the store `"),
        ("records/quick/runs/new.html", "` is in a folder of the store `"),
        ("other.yaml", "other.yaml` is there already, and is no HTML page: it is not replaced\n  hint: "),
        ("notes", "notes` is there already, and is no HTML page"),
    ];
    #[cfg(unix)]
    for (to, link, says) in [
        ("tiny.yaml", "spec.html", "tiny.yaml` is what it is made from"),
        (plan, "plan.html", "` is in a folder of the store `"),
        ("records/quick/runs/later.html", "later.html", "` is in a folder of the store `"),
    ] {
        std::os::unix::fs::symlink(to, lab.path(link)).unwrap();
        cases.push((link, says));
    }
    let all =
        || (lab.files("records"), ["tiny.yaml", "other.yaml", "notes"].map(|name| fs::read(lab.path(name)).unwrap()));
    let before = all();
    for (out, says) in cases {
        let output = lab.np(&["report", "tiny.yaml", "--out", out]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{out}: {said}");
        assert!(said.contains(&format!("`--out {out}`: `")) && said.contains(says), "{out}: {said}");
    }
    assert_eq!(all(), before);
    // A plan is what a page is made from, too.
    let said = text(&lab.np(&["report", plan, "--out", plan]).stderr);
    assert!(said.contains("tiny.json` is what it is made from"), "{said}");
    lab.good(&["report", "tiny.yaml", "--out", "page.html"]);
    lab.good(&["report", "tiny.yaml", "--out", "page.html"]);
}

#[test]
fn a_folder_of_figures_that_is_not_there_is_an_error() {
    let lab = lab(TINY);
    for (folder, found) in [("nowhere", "nothing"), ("tiny.yaml", "a file")] {
        let output = lab.np(&["report", "tiny.yaml", "--figures", folder]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        let says = format!("`--figures {folder}`: expected a folder of figures, found {found}\n  hint: ");
        assert!(said.contains(&says), "{said}");
        assert!(!lab.path("report.html").exists());
    }
}

#[test]
fn arms_with_axes_of_their_own_keep_their_columns() {
    let text = TINY.to_owned()
        + "  swept: {optimizer: {sgd: {lr: 0.05, momentum: 0.9}}, sweep: {optimizer.lr: [0.05, 0.01]}}\n  adam: {optimizer: adam}\n";
    let lab = lab(text);
    lab.good(&["report", "tiny.yaml"]);
    let page = fs::read_to_string(lab.path("report.html")).unwrap();
    let table = page.split("against the others, paired by seed").nth(1).unwrap();
    let table = table.split("</table>").next().unwrap();
    let columns = table.split("</thead>").next().unwrap().matches("<th ").count();
    let rows: Vec<&str> = table.split("<tr>").skip(2).collect();
    assert!(rows.len() >= 3, "{table}");
    for row in rows {
        assert_eq!(row.matches("<th ").count() + row.matches("<td").count(), columns, "{row}");
    }
    assert!(page.contains("np run tiny.yaml"), "the file is where it is, not in a folder that it is not in");
}

#[test]
fn nothing_to_report_is_said() {
    let lab = Lab::new(TINY);
    let output = lab.np(&["report"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("no experiment has records at scale `quick`\n  hint: "), "{said}");
    let output = lab.np(&["report", "tiny.yaml"]);
    assert!(text(&output.stderr).contains("none of its runs has a record yet\n  hint: train them"), "{said}");
    assert!(!lab.path("report.html").exists());

    fs::create_dir(lab.path("experiments")).unwrap();
    fs::rename(lab.path("tiny.yaml"), lab.path("experiments/tiny.yaml")).unwrap();
    lab.good(&["run", "experiments/tiny.yaml", "--seeds", "1,2"]);
    let (_, said) = lab.good(&["report"]);
    assert!(said.contains("1 experiment, "), "found by itself: {said}");
}

#[test]
fn compare_selects_as_the_file_says_or_as_asked() {
    let lab = lab(swept());
    let (out, _) = lab.good(&["compare", "tiny.yaml"]);
    assert!(out.starts_with("each arm at its best `optimizer.lr` by validation accuracy\n"), "{out}");
    assert!(out.contains("the test split had no part in it") && out.contains("paired by seed"), "{out}");
    assert!(!out.contains("too good on average"), "{out}");
    let (by_test, _) = lab.good(&["compare", "tiny.yaml", "--select", "test", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&by_test).unwrap();
    assert_eq!(json["selection"]["split"], "test");
    assert_eq!(json["selection"]["choices"][1]["candidates"].as_array().unwrap().len(), 2);
    let warnings = &json["comparisons"][0]["groups"][0]["warnings"];
    assert!(warnings.to_string().contains("chosen on the test split itself: too good on average"), "{warnings}");
    let (csv, said) = lab.good(&["compare", "tiny.yaml", "--format", "csv"]);
    assert!(csv.starts_with("metric,arm,baseline,") && said.contains("each arm at its best"), "{csv}");
    let (all, _) = lab.good(&["compare", "tiny.yaml", "--configurations", "--format", "csv"]);
    assert_eq!((all.lines().count(), all.matches(",chosen\n").count()), (5, 2), "{all}");
    let (pooled, _) = lab.good(&["compare", "tiny.yaml", "--select", "test", "--iqm"]);
    assert!(
        pooled.contains("chosen on the test split itself") && pooled.contains("`full`: optimizer.lr = "),
        "{pooled}"
    );
    let (plain, _) = lab.good(&["compare", "tiny.yaml", "--select", "none"]);
    assert!(!plain.contains("each arm at its best") && plain.contains("optimizer.lr"), "{plain}");

    let id = lab.results("records/quick").into_keys().next().unwrap();
    let (shown, _) = lab.good(&["show", &id, "--store", "records/quick"]);
    assert!(shown.contains("train %  validation loss  validation %  test loss"), "{shown}");

    // A plan keeps it, and a run's id has no part of it.
    let (plan, _) = lab.good(&["plan", "tiny.yaml", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["selection"], "validation");
    fs::write(lab.path("tiny.yaml"), swept().replace("selection: validation\n", "")).unwrap();
    let (other, _) = lab.good(&["plan", "tiny.yaml", "--json"]);
    let other: serde_json::Value = serde_json::from_str(&other).unwrap();
    assert_eq!((&other["runs"], other.get("selection")), (&plan["runs"], None));
}

#[test]
fn selection_that_cannot_be_made_says_how_it_could() {
    let lab = lab(TINY);
    let refused = |args: &[&str], says: &[&str]| {
        let output = lab.np(&[&["compare", "tiny.yaml"], args].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        says.iter().for_each(|part| assert!(said.contains(part), "{part}: {said}"));
    };
    refused(&["--select", "test"], &["`--select test`: nothing to select", "\n  hint: try values with `--sweep"]);
    refused(&["--tune", "optimizer.lr"], &["`--tune`: nothing is selected\n  hint: say `--select validation`"]);
    refused(
        &["--equal-budget=x"],
        &["'x' for '--equal-budget[=<SEED>]': expected a seed, a whole number from 0 to 1844"],
    );
    refused(&["--configurations"], &["`--configurations`: nothing is selected"]);
    refused(&["--target", "85"], &["`--target 85`: expected a share of 0 to 1", "\n  hint: accuracies are shares"]);
    refused(&["--target", "ful"], &["`--target ful`: neither a number nor an arm\n  hint: did you mean `full`?"]);
    refused(&["--profile=steps"], &["`--profile`: the time to which target?\n  hint: name it"]);
    refused(&["tiny.yaml"], &["a second experiment\n  hint: several go with `--profile` only"]);
    lab.good(&["run", "tiny.yaml", "--sweep", "optimizer.lr=0.1,0.01"]);
    refused(
        &["--sweep", "optimizer.lr=0.1,0.01", "--select", "validation"],
        &["has no validation score\n  hint: hold examples out with `data.validation`"],
    );
}

#[test]
fn an_arm_can_be_swept_by_itself_and_budgets_be_made_equal() {
    let text = TINY.replace("  sgd: {", "  sgd: {sweep: {optimizer.lr: [0.1, 0.01, 0.001]}, ");
    let lab = lab(&text);
    let (plan, _) = lab.good(&["plan", "tiny.yaml"]);
    assert!(plan.lines().next().unwrap().contains("optimizer.lr") && plan.matches("–").count() == 2, "{plan}");
    let output = lab.np(&["compare", "tiny.yaml"]);
    let said = common::text(&output.stderr);
    assert!(said.contains("no values of the axes are common to both arms\n  hint: `--select validation`"), "{said}");
    let (out, _) = lab.good(&["compare", "tiny.yaml", "--select", "test"]);
    assert!(out.contains("tuning budgets differ (configurations: `full` 1 in 2 runs, `sgd` 3 in 6 runs)"), "{out}");
    assert!(out.contains("paired by seed") && out.contains("the best of up to 3 configurations"), "{out}");
    let (out, _) = lab.good(&["compare", "tiny.yaml", "--select", "test", "--equal-budget"]);
    assert!(!out.contains("budgets differ"), "{out}");
    let (one, _) = lab.good(&["compare", "tiny.yaml", "--select", "test", "--equal-budget=1", "--configurations"]);
    assert_eq!(one.matches("not drawn").count(), 2, "{one}");
    lab.good(&["report", "tiny.yaml"]);

    fs::write(lab.path("tiny.yaml"), text.replace("[0.1, 0.01, 0.001]}", "0.1}")).unwrap();
    let said = common::text(&lab.np(&["plan", "tiny.yaml"]).stderr);
    assert!(
        said.contains("tiny.yaml:9:") && said.contains("`arms.sgd.sweep.optimizer.lr`: expected a list of values"),
        "{said}"
    );
    fs::write(lab.path("tiny.yaml"), text.replace("{optimizer.lr: [0.1, 0.01, 0.001]}", "often")).unwrap();
    let said = common::text(&lab.np(&["plan", "tiny.yaml"]).stderr);
    assert!(said.contains("`arms.sgd.sweep`: expected a map of keys to lists of values, got"), "{said}");
}

#[test]
fn other_tables_come_in_every_format() {
    let lab = lab(TINY);
    for (args, title) in [
        (vec!["--iqm"], "final test accuracy over 1 problem"),
        (vec!["--target", "0.3"], "time until test accuracy is at least the target"),
        (vec!["--target", "sgd", "--metric", "final-train-loss"], "time until training loss is at most the target"),
        (vec!["--profile"], "performance profile by 1 − final test accuracy"),
        (vec!["--profile", "--target", "0.3"], "performance profile by steps to the target"),
    ] {
        for format in ["text", "markdown", "csv", "json"] {
            let (out, _) = lab.good(&[&["compare", "tiny.yaml", "--format", format], &args[..]].concat());
            assert!(out.contains("full") && out.contains("sgd"), "{args:?} {format}: {out}");
            assert!(out.contains(title) || format == "csv", "{args:?} {format}: {out}");
        }
    }
}

#[test]
fn completions_know_the_commands() {
    let lab = Lab::new(TINY);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (script, _) = lab.good(&["completions", shell]);
        assert!(script.contains("compare") && script.contains("snapshot-every"), "{shell}");
    }
}
