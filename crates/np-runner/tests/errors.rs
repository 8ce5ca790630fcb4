//! Every mistake gives one message that says where, what and how to mend it, exit code 2, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Lab, TINY, text};

/// A mistake: what it is, the file's text, the arguments after the file, and what the message must say.
struct Case {
    what: &'static str,
    text: Vec<u8>,
    args: &'static [&'static str],
    says: &'static [&'static str],
}

/// The tiny experiment with one piece of its text replaced.
fn with(old: &str, new: &str) -> Vec<u8> {
    assert!(TINY.contains(old), "{old}");
    TINY.replace(old, new).into_bytes()
}

fn case(what: &'static str, text: Vec<u8>, args: &'static [&'static str], says: &'static [&'static str]) -> Case {
    Case { what, text, args, says }
}

fn cases() -> Vec<Case> {
    let tiny = || TINY.as_bytes().to_vec();
    let full = || with("source: mini", "source: full");
    vec![
        case(
            "unknown key at the top",
            with("seeds:", "sedes:"),
            &[],
            &["tiny.yaml:6:1: `sedes`: there is no such key", "hint: did you mean `seeds`?"],
        ),
        case(
            "unknown key in an arm's optimizer",
            with("warmup_epochs", "warmup"),
            &[],
            &[
                "tiny.yaml:8:72: `optimizer.neuroplastic.coefficient.warmup`: there is no such key",
                "hint: did you mean `warmup_epochs`?",
            ],
        ),
        case(
            "unknown key in an arm",
            with("sgd: {optimizer", "sgd: {optimiser"),
            &[],
            &["tiny.yaml:9:9: `arms.sgd.optimiser`", "hint: did you mean `optimizer`?"],
        ),
        case(
            "wrong type",
            with("epochs: 2", "epochs: many"),
            &[],
            &["tiny.yaml:5:9: `train.epochs`: expected a whole number, 0 or more, got `many`"],
        ),
        case(
            "a text instead of a list",
            with("hidden: [16]", "hidden: wide"),
            &[],
            &["tiny.yaml:4:15: `model.mlp.hidden`: expected a list, got `wide`"],
        ),
        case(
            "negative rate",
            with("lr: 0.05", "lr: -0.05"),
            &[],
            &["tiny.yaml:9:27: `optimizer.sgd.lr`: expected ", "got `-0.05`"],
        ),
        case(
            "empty sweep",
            [tiny(), b"sweep: {data.name: []}\n".to_vec()].concat(),
            &[],
            &["tiny.yaml:10:9: `sweep.data.name`: expected at least one value", "hint: "],
        ),
        case(
            "empty sweep option",
            tiny(),
            &["--sweep", "optimizer.lr="],
            &["`--sweep optimizer.lr=`: `optimizer.lr`: expected at least one value"],
        ),
        case(
            "empty seeds",
            with("[1, 2]", "[]"),
            &[],
            &["tiny.yaml:6:1: `seeds`: expected at least one seed", "hint: "],
        ),
        case("one seed twice", with("[1, 2]", "[1, 1]"), &[], &["tiny.yaml:6:1: `seeds`: seed `1` stands here twice"]),
        case("a seed that is no number", tiny(), &["--seeds", "1,two"], &["`--seeds 1,two`", "got `two`", "hint: "]),
        case(
            "missing data folder",
            full(),
            &["--data-dir", "nowhere"],
            &["tiny.yaml:3:21: `data.source`: `nowhere`: expected a folder, found nothing", "hint: the layout is"],
        ),
        case(
            "broken data file",
            full(),
            &["--data-dir", "broken"],
            &["tiny.yaml:3:21: `data.source`: `broken/mnist/train-images-idx3-ubyte`: expected an IDX file"],
        ),
        case(
            "unknown data set",
            with("name: mnist", "name: fashoin-mnist"),
            &[],
            &["tiny.yaml:3:8: `data.name`: there is no `fashoin-mnist` here", "hint: did you mean `fashion-mnist`?"],
        ),
        case(
            "unknown optimizer",
            with("{sgd: {lr", "{sdg: {lr"),
            &[],
            &["tiny.yaml:9:21: `optimizer`: there is no `sdg` here", "hint: did you mean `sgd`?"],
        ),
        case(
            "no optimizer",
            with("{optimizer: {sgd: {lr: 0.05, momentum: 0.9}}}", "{}"),
            &[],
            &[
                "tiny.yaml:9:3: `optimizer`: neither the arm nor the base has an optimizer",
                "hint: choose from `neuroplastic`",
            ],
        ),
        case(
            "no optimizer, and a sweep of its rate",
            [
                with("{optimizer: {sgd: {lr: 0.05, momentum: 0.9}}}", "{}"),
                b"sweep: {optimizer.lr: [0.1, 0.2]}\n".to_vec(),
            ]
            .concat(),
            &[],
            &[
                "tiny.yaml:9:3: `optimizer`: neither the arm nor the base has an optimizer",
                "hint: choose from `neuroplastic`",
            ],
        ),
        case(
            "a line search over clipped gradients",
            [with("{sgd: {lr: 0.05, momentum: 0.9}}", "lbfgs"), b"options: {clip: {norm: 1.0}}\n".to_vec()].concat(),
            &[],
            &[
                "tiny.yaml:10:11: `options.clip`: expected none with an optimizer that searches along a line, got `{\"norm\":1.0}`",
            ],
        ),
        case(
            "a line search over several batches",
            with("{sgd: {lr: 0.05, momentum: 0.9}}", "lbfgs"),
            &["--set", "options.accumulate=2"],
            &[
                "`--set options.accumulate=2`: `options.accumulate`: expected 1 with an optimizer that searches",
                "got `2`",
            ],
        ),
        case(
            "unknown scale",
            [tiny(), b"scales: {paper: {}}\n".to_vec()].concat(),
            &["--scale", "papre"],
            &["`--scale papre`: `tiny.yaml` has no scale `papre`", "hint: did you mean `paper`?"],
        ),
        case("unknown arm", tiny(), &["--arm", "fulll"], &["`--arm fulll`", "hint: did you mean `full`?"]),
        case(
            "bad --set path",
            tiny(),
            &["--set", "train.epoch=3"],
            &["`--set train.epoch=3`: `train.epoch`: there is no such key", "hint: did you mean `epochs`?"],
        ),
        case(
            "bad head of a --set path",
            tiny(),
            &["--set", "optimiser.lr=3"],
            &["`--set optimiser.lr=3`: `optimiser.lr`: there is no such key", "hint: did you mean `optimizer`?"],
        ),
        case(
            "bad --set value",
            tiny(),
            &["--set", "train.epochs=soon"],
            &["`--set train.epochs=soon`: `train.epochs`: expected a whole number, 0 or more, got `soon`"],
        ),
        case("--set without a value", tiny(), &["--set", "train.epochs"], &["expected `key=value`", "hint: as in "]),
        case(
            "--set below a number",
            tiny(),
            &["--set", "train.epochs.x=1"],
            &["`--set train.epochs.x=1`: `train.epochs`"],
        ),
        case("YAML syntax", with("[1, 2]", "[1, 2"), &[], &["tiny.yaml:7:", "not valid YAML"]),
        case(
            "duplicate key",
            with("question:", "name: tiny\nquestion:"),
            &[],
            &["tiny.yaml:2:1: `name`: this key stands here twice", "hint: "],
        ),
        case(
            "missing arms",
            with(&TINY[TINY.find("arms:").unwrap()..], ""),
            &[],
            &["tiny.yaml: `arms`: this key is missing"],
        ),
        case(
            "no arms",
            with(&TINY[TINY.find("arms:").unwrap()..], "arms: {}\n"),
            &[],
            &["tiny.yaml:7:1: `arms`: expected at least one arm", "hint: "],
        ),
        case(
            "zero batch size",
            with("batch_size: 32", "batch_size: 0"),
            &[],
            &["tiny.yaml:5:20: `train.batch_size`: expected 1 or more, got `0`"],
        ),
        case(
            "dropout 1.5",
            with("dropout: 0.1", "dropout: 1.5"),
            &[],
            &["tiny.yaml:4:29: `model.mlp.dropout`: expected at least 0 and below 1, got `1.5`"],
        ),
        case(
            "a layer of no width",
            with("[16]", "[16, 0]"),
            &[],
            &["`model.mlp.hidden.1`: expected at least 1, got `0`"],
        ),
        case(
            "fraction 0",
            with("fraction: 0.05", "fraction: 0"),
            &[],
            &["tiny.yaml:3:35: `data.fraction`: expected a number above 0 and at most 1, got `0`"],
        ),
        case(
            "a fraction of nothing",
            with("fraction: 0.05", "fraction: 0.0001"),
            &[],
            &["tiny.yaml:3:35: `data.fraction`: leaves none of the 2000 training examples"],
        ),
        case(
            "not a number",
            with("lr: 0.05", "lr: .nan"),
            &[],
            &["tiny.yaml:9:27: `arms.sgd.optimizer.sgd.lr`", "got `.nan`"],
        ),
        case(
            "a misspelt scale",
            [tiny(), b"scales: {quikc: {train: {epochs: 1}}}\n".to_vec()].concat(),
            &[],
            &["tiny.yaml:10:10: `scales.quikc`: there is no such scale", "hint: did you mean `quick`?"],
        ),
        case(
            "a wrong type in a scale that is not asked for",
            [tiny(), b"scales: {paper: {train: {epochs: many}}}\n".to_vec()].concat(),
            &[],
            &["tiny.yaml:10:26: `train.epochs`: expected a whole number, 0 or more, got `many`"],
        ),
        case(
            "a value that does not fit the file's",
            tiny(),
            &["--arm", "full", "--set", "train.epochs=3", "--set", "optimizer.coefficient.min=5"],
            &["`--set optimizer.coefficient.min=5`: `optimizer.neuroplastic.coefficient.max`: expected", "got `2`"],
        ),
        case(
            "one swept value twice",
            [tiny(), b"sweep: {optimizer.lr: [0.1, 1, 0.10]}\n".to_vec()].concat(),
            &[],
            &["tiny.yaml:10:9: `sweep.optimizer.lr`: `0.1` stands here twice", "hint: "],
        ),
        case(
            "one swept value twice in an option",
            tiny(),
            &["--sweep", "train.epochs=1,2,1"],
            &["`--sweep train.epochs=1,2,1`: `train.epochs`: `1` stands here twice"],
        ),
        case(
            "a group that matches nothing",
            [tiny(), b"options: {groups: [{match: 'fc3.*', lr_scale: 2}]}\n".to_vec()].concat(),
            &[],
            &[
                "tiny.yaml:10:21: `options.groups.0.match`: expected a glob that matches a parameter (fc1.weight",
                "got `fc3.*`",
            ],
        ),
        case(
            "another name, and something else",
            with("name: tiny", "name: small").iter().copied().chain(*b"sedes: 3\n").collect(),
            &[],
            &["tiny.yaml:10:1: `sedes`: there is no such key"],
        ),
        case(
            "another name",
            with("name: tiny", "name: small"),
            &[],
            &["tiny.yaml:1:1: `name`: expected the file's name, `tiny`, got `small`", "hint: "],
        ),
        case(
            "not UTF-8",
            [b"name: tiny\nquestion: \xff\n".to_vec(), tiny()].concat(),
            &[],
            &["tiny.yaml:2:11: not UTF-8 text", "hint: "],
        ),
        case("an empty file", Vec::new(), &[], &["tiny.yaml", "expected a map of keys at the top", "hint: "]),
        case(
            "sweep of a key that an arm lacks",
            tiny(),
            &["--sweep", "optimizer.coefficient.scale=1,2"],
            &[
                "`--sweep optimizer.coefficient.scale=1,2`: `optimizer.sgd.coefficient`: there is no such key in arm `sgd`",
            ],
        ),
    ]
}

/// Asserts that `np` refuses in the way that mistakes are refused.
fn refused(lab: &Lab, what: &str, args: &[&str], says: &[&str]) {
    let output = lab.np(args);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{what}: {err}");
    assert_eq!(out, "", "{what}: nothing goes to standard output");
    assert!(err.starts_with("error: "), "{what}: {err}");
    assert_eq!(err.matches("error:").count(), 1, "{what}: one message: {err}");
    let hints = err.lines().skip(1).filter(|line| line.starts_with("  hint: ")).count();
    assert_eq!(hints + 1, err.lines().count(), "{what}: a line, and at most a hint: {err}");
    for banned in ["f64", "usize", "struct ", "enum ", "panicked", "backtrace", "Error {", "::"] {
        assert!(!err.contains(banned), "{what}: `{banned}` is not for people: {err}");
    }
    for part in says {
        assert!(err.contains(part), "{what}: expected `{part}` in: {err}");
    }
}

#[test]
fn every_mistake_is_named_and_nothing_is_written() {
    for Case { what, text, args, says } in cases() {
        let lab = Lab::new(text);
        std::fs::create_dir_all(lab.path("broken/mnist")).unwrap();
        std::fs::write(lab.path("broken/mnist/train-images-idx3-ubyte"), "not images").unwrap();
        for command in ["run", "plan"] {
            let args = [&[command, "tiny.yaml", "--store", "store"], args].concat();
            refused(&lab, what, &args, says);
            assert!(!lab.path("store").exists(), "{what}: the store was created");
            assert!(!lab.path("records").exists(), "{what}: a store was created");
        }
    }
}

#[test]
fn full_data_can_be_planned_without_its_files_and_not_trained() {
    let lab = Lab::new(with("source: mini", "source: full"));
    let says = ["tiny.yaml:3:21: `data.source`", "hint: ", "--data-dir"];
    refused(&lab, "no data folder named", &["run", "tiny.yaml", "--store", "store"], &says);
    assert!(!lab.path("store").exists());
    let (_, said) = lab.good(&["plan", "tiny.yaml", "--store", "store"]);
    let words = "ids are those of the published data, or of an earlier plan; to train, tiny.yaml:3:21: `data.source`";
    assert!(said.contains(words), "{said}");
}

#[test]
fn a_missing_file_names_its_neighbours() {
    let lab = Lab::new(TINY);
    let args = ["run", "tinny.yaml", "--store", "store"];
    refused(
        &lab,
        "spec file missing",
        &args,
        &["tinny.yaml: there is no such file", "hint: did you mean `tiny.yaml`?"],
    );
    refused(&lab, "a folder", &["run", ".", "--store", "store"], &["expected a file, got a folder"]);
    assert!(!lab.path("store").exists());
}

#[test]
fn a_mistake_leaves_an_existing_store_as_it_was() {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml", "--store", "store", "--set", "train.epochs=1", "--arm", "sgd"]);
    let before = lab.files("store");
    assert!(before.len() >= 3);
    refused(&lab, "bad value", &["run", "tiny.yaml", "--store", "store", "--set", "optimizer.lr=-1"], &["got `-1`"]);
    assert_eq!(lab.files("store"), before);
}

#[test]
fn other_commands_refuse_in_the_same_way() {
    let lab = Lab::new(TINY);
    refused(
        &lab,
        "nothing trained",
        &["compare", "tiny.yaml"],
        &["none of its runs has a record yet", "hint: train them"],
    );
    refused(&lab, "no such plan", &["compare", "plans/tiny.json"], &["there is no such plan", "hint: "]);
    refused(&lab, "one arm", &["compare", "tiny.yaml", "--arm", "sgd"], &["none of its runs has a record yet"]);
    refused(&lab, "an empty id", &["show", ""], &["`np show \"\"`: expected the id of a run", "hint: "]);
    refused(&lab, "no such id", &["show", "beef"], &["no record has such an id", "hint: "]);
    refused(&lab, "no such optimizer", &["optimizers", "sdg"], &["hint: did you mean `sgd`?"]);
    refused(
        &lab,
        "no such plan to work on",
        &["exec", "tiny", "0", "--store", "store"],
        &["the store has no such plan"],
    );
}
