//! `np watch` beside a sweep: what is done and what is not, without a terminal as one picture.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Lab, TINY};

#[test]
fn a_picture_shows_what_is_done_and_the_curves() {
    let lab = Lab::new(TINY);
    let (before, _) = lab.good(&["watch", "tiny.yaml"]);
    for part in ["tiny (quick)  4 runs: 4 missing", "0 % of the epochs", "0/2", "no epoch is kept yet", "nothing runs"]
    {
        assert!(before.contains(part), "{part}\n{before}");
    }
    lab.good(&["run", "tiny.yaml", "--arm", "full"]);
    let (after, _) = lab.good(&["watch", "tiny.yaml", "--once"]);
    for part in ["2 done, 2 missing", "50 % of the epochs", "2/2", "epoch 2"] {
        assert!(after.contains(part), "{part}\n{after}");
    }
    // The mean of both seeds' last epochs, as `np compare` has it.
    let accuracy = |record: &serde_json::Value| record["epochs"][1]["test_accuracy"].as_f64().unwrap();
    let records = lab.records("records/quick");
    let mean = records.iter().map(accuracy).sum::<f64>() / records.len() as f64;
    assert!(after.contains(&format!("{:.2} ±", 100.0 * mean)), "{mean}\n{after}");
    assert_eq!(after.lines().count(), 30);
}
