//! `train.device` and `train.precision`: whose ids they are part of, what is refused, what is said of the GPUs that there are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;

use common::{Lab, TINY, text};
use np_record::{Gpu, Store};
use serde_json::{Value, json};

/// The plan's runs, as `np plan --json` prints them.
fn runs(lab: &Lab, args: &[&str]) -> Vec<Value> {
    let (out, _) = lab.good(&[&["plan", "tiny.yaml", "--json", "--store", "store"], args].concat());
    serde_json::from_str::<Value>(&out).unwrap()["runs"].as_array().unwrap().clone()
}

fn ids(runs: &[Value]) -> Vec<&str> {
    runs.iter().map(|run| run["id"].as_str().unwrap()).collect()
}

#[test]
fn a_device_is_part_of_an_id_and_the_cpu_is_not() {
    let lab = Lab::new(TINY);
    let plain = runs(&lab, &[]);
    for same in [&["--device", "cpu"][..], &["--set", "train.device=cpu"], &["--set", "train.precision=null"]] {
        assert_eq!(ids(&runs(&lab, same)), ids(&plain), "{same:?}");
    }
    assert_eq!(plain[0]["config"]["train"], json!({"epochs": 2, "batch_size": 32, "eval_batch_size": 1000}));

    let cuda = runs(&lab, &["--device", "cuda"]);
    assert_eq!(
        (&cuda[0]["config"]["train"]["device"], &cuda[0]["config"]["train"]["precision"]),
        (&json!("cuda"), &json!("tf32"))
    );
    assert!(ids(&cuda).iter().all(|id| !ids(&plain).contains(id)));
    for same in [
        &["--set", "train.device=cuda"][..],
        &["--set", "train.device=gpu"],
        &["--device", "cuda", "--set", "train.precision=tf32"],
    ] {
        assert_eq!(ids(&runs(&lab, same)), ids(&cuda), "{same:?}");
    }
    for precision in ["fp32", "bf16"] {
        let other = runs(&lab, &["--device", "cuda", "--set", &format!("train.precision={precision}")]);
        assert!(ids(&other).iter().all(|id| !ids(&cuda).contains(id)), "{precision}");
    }
    // As an axis, each value has its label, though the CPU is not in a configuration.
    let both = runs(&lab, &["--sweep", "train.device=cpu,cuda", "--arm", "sgd", "--seeds", "1"]);
    let labels: Vec<&Value> = both.iter().map(|run| &run["axes"]["train.device"]).collect();
    assert_eq!(labels, [&json!("cpu"), &json!("cuda")]);
    assert_eq!(ids(&both), [ids(&plain)[2], ids(&cuda)[2]]);
}

#[test]
fn how_often_a_run_is_evaluated_is_part_of_its_id_where_it_is_a_choice() {
    let lab = Lab::new(TINY);
    let plain = runs(&lab, &[]);
    assert_eq!(ids(&runs(&lab, &["--set", "train.eval_every=1"])), ids(&plain));
    let seldom = ["--set", "train.eval_every=2", "--arm", "sgd", "--seeds", "1"];
    let other = runs(&lab, &seldom);
    assert_eq!(other[0]["config"]["train"]["eval_every"], 2);
    assert!(!ids(&plain).contains(&ids(&other)[0]));
    let refused = text(&lab.np(&["plan", "tiny.yaml", "--set", "train.eval_every=0"]).stderr);
    assert!(refused.contains("`train.eval_every`: expected 1 or more, got `0`"), "{refused}");

    lab.good(&["run", "tiny.yaml", "--arm", "sgd", "--seeds", "1", "--store", "every"]);
    let (_, said) = lab.good(&[&["run", "tiny.yaml", "--store", "seldom"], &seldom[..]].concat());
    assert!(said.contains("test accuracy"), "{said}");
    let [every, seldom] = ["every", "seldom"].map(|store| lab.records(store).remove(0)["epochs"].clone());
    // What is trained is the same; after the first of two epochs nothing is evaluated.
    assert_eq!(seldom[1], every[1]);
    assert_eq!(seldom[0]["train_loss"], every[0]["train_loss"]);
    assert_eq!([&seldom[0]["test_loss"], &seldom[0]["test_accuracy"]], [&Value::Null; 2]);
    let shown = lab.good(&["show", other[0]["id"].as_str().unwrap(), "--store", "seldom"]).0;
    let row = shown.lines().find(|line| line.trim_start().starts_with("1 ")).unwrap();
    assert_eq!(row.matches('–').count(), 2, "{shown}");
    lab.good(&["export", "tiny.yaml", "--set", "train.eval_every=2", "--store", "seldom", "--out", "exported"]);
}

#[test]
fn what_a_device_cannot_do_is_refused_when_it_is_planned() {
    let cuda = TINY.replace("batch_size: 32", "batch_size: 32, device: cuda");
    let wants = |optimizer: &str| cuda.replace("{sgd: {lr: 0.05, momentum: 0.9}}", optimizer);
    for (text, args, says) in [
        (
            TINY.replace("batch_size: 32", "batch_size: 32, precision: bf16"),
            &[][..],
            "tiny.yaml:5:36: `train.precision`: expected none (`null`) on the CPU, which has single precision alone, or `train.device: cuda`, got `bf16`",
        ),
        (
            cuda.replace("cuda", "cuda, precision: fp16"),
            &[],
            "tiny.yaml:5:50: `train.precision`: there is no `fp16` here\n  hint: did you mean `bf16`?",
        ),
        (
            cuda.replace("cuda", "tpu"),
            &[],
            "tiny.yaml:5:36: `train.device`: there is no `tpu` here\n  hint: did you mean `gpu`?",
        ),
        (
            wants("lbfgs"),
            &[],
            "`optimizer.lbfgs`: expected another optimizer on `cuda`, where a model evaluates a batch once and `lbfgs` wants more, or `train.device: cpu`",
        ),
        (
            wants("kfac"),
            &[],
            "`optimizer.kfac`: expected another optimizer on `cuda`, where a model keeps no records of its layers and `kfac`",
        ),
        (
            TINY.replace("{sgd: {lr: 0.05, momentum: 0.9}}", "lbfgs"),
            &["--device", "cuda"],
            "`--set train.device=cuda`: `optimizer.lbfgs`: expected another optimizer on `cuda`",
        ),
    ] {
        let lab = Lab::new(&text);
        let output = lab.np(&[&["plan", "tiny.yaml", "--store", "store"], args].concat());
        let said = common::text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(says), "expected\n{says}\nin\n{said}");
        assert!(!lab.path("store").exists());
    }
    let lab = Lab::new(TINY);
    let output = lab.np(&["run", "tiny.yaml", "--device", "tpu"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("[possible values: cpu, cuda]"), "{}", text(&output.stderr));
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_program_without_cuda_trains_nothing_on_a_gpu_and_leaves_nothing() {
    let lab = Lab::new(TINY);
    for more in [&[][..], &["--launcher", "slurm"]] {
        let output = lab.np(&[&["run", "tiny.yaml", "--device", "cuda", "--store", "store"], more].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("error: this `np` was built without CUDA, and `train.device` is `cuda`\n  hint: build it"),
            "{said}"
        );
        assert!(!lab.path("store").exists());
    }
}

#[cfg(all(unix, not(feature = "cuda")))]
#[test]
fn a_plan_says_which_gpus_there_are_and_that_nobody_has_measured() {
    use std::os::unix::fs::PermissionsExt as _;

    let lab = Lab::new(TINY);
    fs::create_dir(lab.path("bin")).unwrap();
    let fake = "#!/bin/sh\ncase $1 in\n-L) printf 'GPU 0: NVIDIA H200 (UUID: GPU-a)\\nGPU 1: NVIDIA H200 (UUID: GPU-b)\\n';;\n*) printf 'NVIDIA H200, 100\\n';;\nesac\n";
    fs::write(lab.path("bin/nvidia-smi"), fake).unwrap();
    fs::set_permissions(lab.path("bin/nvidia-smi"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", lab.path("bin").display(), std::env::var("PATH").unwrap());
    let said = |visible: Option<&str>, path: &str, more: &[&str]| {
        let mut command = lab.command(&[&["plan", "tiny.yaml", "--device", "cuda"], more].concat());
        command.env("PATH", path).env_remove("CUDA_VISIBLE_DEVICES");
        visible.map(|visible| command.env("CUDA_VISIBLE_DEVICES", visible));
        let output = command.output().unwrap();
        assert!(output.status.success());
        text(&output.stderr)
    };
    let first = said(None, &path, &[]);
    assert!(first.contains("4 runs to train on a GPU: no estimate: neither a record nor a kept step time is of the like\nGPUs here: 2\n"), "{first}");
    assert!(!first.contains("warning"), "{first}");
    assert!(said(Some("1"), &path, &[]).contains("GPUs here: 1\n"));
    let none = said(Some(""), &path, &[]);
    assert!(none.contains("note: no GPU is in reach: `CUDA_VISIBLE_DEVICES` is ``\n"), "{none}");
    assert!(said(None, "/nowhere", &[]).contains("note: no GPU is in reach: `nvidia-smi`: "));
    // 100 MiB are fewer than a hidden layer of 20,000 wants.
    let large = said(None, &path, &["--set", "model.hidden=[20000]"]);
    assert!(
        large.contains("warning: a run wants about ") && large.contains("`NVIDIA H200` has 105 MB\n  hint: "),
        "{large}"
    );
}

#[test]
fn a_record_says_which_gpu_it_is_of() {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml", "--store", "store", "--arm", "sgd", "--seeds", "1", "--set", "train.epochs=1"]);
    let store = Store::open(lab.path("store")).unwrap();
    let id = lab.records("store")[0]["id"].as_str().unwrap().to_owned();
    let (shown, _) = lab.good(&["show", &id, "--store", "store"]);
    assert!(!shown.contains("gpu") && !shown.contains("GPU"), "{shown}");
    assert!(lab.records("store")[0].pointer("/provenance/machine/gpu").is_none());

    let mut record = store.read_record(&id).unwrap().unwrap();
    let digest = record.result_sha256.clone();
    record.provenance.machine.gpu = Some(Gpu {
        name: "NVIDIA H200".into(),
        driver: Some("580.95.05".into()),
        cuda: "13.0".into(),
        cudnn: Some("9.13.0".into()),
    });
    for phases in &mut record.timing {
        *phases = np_record::Phases { steps: 3.0, evaluation: 1.0, ..Default::default() };
    }
    record.record_sha256 = None;
    store.write_record(&record).unwrap();
    let read = store.read_record(&id).unwrap().unwrap();
    assert_eq!((&read.provenance.machine.gpu, &read.result_sha256), (&record.provenance.machine.gpu, &digest));
    let (shown, _) = lab.good(&["show", &id, "--store", "store"]);
    let gpu = "NVIDIA H200, driver 580.95.05, CUDA 13.0, cuDNN 9.13.0";
    assert!(shown.contains(&format!("\ngpu      {gpu}\n")), "{shown}");
    assert!(shown.contains("steps 3.0 s") && !shown.contains("backward"), "{shown}");
    lab.good(&["report", "tiny.yaml", "--store", "store", "--arm", "sgd", "--seeds", "1", "--set", "train.epochs=1"]);
    let page = fs::read_to_string(lab.path("report.html")).unwrap();
    assert!(page.contains(&format!("; {gpu}")), "{page}");
}
