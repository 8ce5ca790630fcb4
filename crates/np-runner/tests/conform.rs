//! `np conform` and `np import`, through the binary.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn np(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_np")).args(args).output().unwrap()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../np-core/tests/golden").join(name)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn golden_files_pass_a_line_each() {
    let (one, two) = (golden("rule_default.safetensors"), golden("adamw.safetensors"));
    for extra in [&[][..], &["--tensors"]] {
        let args = [&["conform", one.to_str().unwrap(), two.to_str().unwrap()], extra].concat();
        let output = np(&args);
        let lines = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{lines}");
        assert_eq!(lines.lines().filter(|line| line.starts_with("ok ")).count(), 2, "{lines}");
        assert!(lines.contains("12 steps") && lines.contains("% of tolerance at `"), "{lines}");
    }
}

#[test]
fn a_changed_number_fails_and_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.safetensors");
    let mut bytes = std::fs::read(golden("rule_default.safetensors")).unwrap();
    // The header is a length of 8 bytes and as much JSON, which gives each tensor's place in what follows.
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let offset = json["param.5.head.bias"]["data_offsets"][0].as_u64().unwrap();
    let at = 8 + header + usize::try_from(offset).unwrap();
    bytes[at..at + 4].copy_from_slice(&9f32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let output = np(&["conform", path.to_str().unwrap()]);
    let line = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.starts_with("FAILED") && line.contains("at `param.5.head.bias[0]`: expected 9e0, got "), "{line}");
}

#[test]
fn what_is_no_golden_file_is_said() {
    let output = np(&["conform", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("expected a safetensors file"), "{}", text(&output.stderr));
    let output = np(&["conform", "nowhere.safetensors"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stderr), "error: nowhere.safetensors: there is no such file\n");
}

const PUBLISHED: &str = "
experiment: {dataset: fashion_mnist, batch_size: 64, epochs: 5, lr: 0.05, optimizer: neuroplastic, seed: 42,
  scheduler: exponential, scheduler_gamma: 0.9, gradient_accumulation_steps: 2, run_name: imported-run, output_dir: runs/x}
plasticity: {mode: rule_based, layerwise: true, hybrid_base: sgd_momentum, layer_scope: head_only, plasticity_scale: 2.0}
homeostatic: {max_update_norm: 1.5}
";

#[test]
fn an_import_can_be_planned_and_says_what_it_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("published.yaml");
    std::fs::write(&source, PUBLISHED).unwrap();
    let output = np(&["import", source.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stderr),
        "not carried over: `experiment.output_dir`\nnot carried over: `plasticity.layerwise`\n"
    );
    let experiment = folder.path().join("imported-run.yaml");
    std::fs::write(&experiment, &output.stdout).unwrap();

    let plan = np(&["plan", experiment.to_str().unwrap(), "--json"]);
    assert_eq!(plan.status.code(), Some(0), "{}", text(&plan.stderr));
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let config = &plan["runs"][0]["config"];
    assert_eq!(config["seed"], 42);
    assert_eq!(config["data"]["name"], "fashion-mnist");
    assert_eq!(config["options"]["schedule"]["exponential"]["gamma"], 0.9);
    assert_eq!(config["options"]["accumulate"], 2);
    let optimizer = &config["optimizer"]["neuroplastic"];
    assert_eq!(optimizer["lr"], 0.05);
    assert_eq!(optimizer["coefficient"]["scale"], 2.0);
    assert_eq!(optimizer["stabilizer"]["max_update_norm"], 1.5);
    assert_eq!(optimizer["formulation"]["hybrid"]["scope"], "classifier_only");
}

#[test]
fn a_misspelt_field_of_an_import_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("published.yaml");
    for (old, new, says) in [
        (
            "layer_scope:",
            "layer_scop:",
            "`plasticity.layer_scop`: there is no such field\n  hint: did you mean `layer_scope`?",
        ),
        (
            "homeostatic:",
            "homoestatic:",
            "`homoestatic`: there is no such section\n  hint: did you mean `homeostatic`?",
        ),
    ] {
        std::fs::write(&source, PUBLISHED.replace(old, new)).unwrap();
        let output = np(&["import", source.to_str().unwrap()]);
        let error = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{error}");
        assert!(error.contains(says), "{error}");
        let output = np(&["import", source.to_str().unwrap(), "--lenient"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stderr).contains("which nobody knows, did you mean"), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("name: imported-run"));
    }
}

#[test]
fn a_wrong_value_in_an_import_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("published.yaml");
    std::fs::write(&source, "plasticity:\n  plasticity_scale: high\n").unwrap();
    let output = np(&["import", source.to_str().unwrap()]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(error.contains("published.yaml:2:3: `plasticity.plasticity_scale`: invalid type"), "{error}");
}
