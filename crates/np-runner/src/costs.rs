//! What each arm of a plan reaches, and what its optimizer costs: a line an arm, in every format of a comparison.

use std::collections::{BTreeMap, BTreeSet};

use np_record::{Outcome, Phases, PlannedRun, Record, compare::Format, stats};
use serde::Serialize;
use serde_json::Value;

use crate::{table, worker::plain};

/// One arm, at one combination of the other axes. Means over the runs that finished; none where there are none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Costs {
    /// The arm.
    pub(crate) arm: String,
    /// The values of the axes.
    pub(crate) axes: BTreeMap<String, Value>,
    /// Runs of the plan.
    pub(crate) runs: usize,
    /// Those that finished.
    pub(crate) finished: usize,
    /// Share of the test split classified rightly after the last epoch.
    pub(crate) final_test_accuracy: Option<f64>,
    /// Wall time of the optimizer in a step, in milliseconds.
    pub(crate) optimizer_ms_per_step: Option<f64>,
    /// Wall time of the training, all phases, in seconds.
    pub(crate) training_seconds: Option<f64>,
    /// Bytes of the optimizer's saved state a parameter; none where a record does not say.
    pub(crate) state_bytes_per_parameter: Option<f64>,
}

/// The costs of a plan's arms, in its order.
pub(crate) fn costs(runs: &[(PlannedRun, Option<Record>)]) -> Vec<Costs> {
    // The first run of a group stands for it.
    let mut groups: Vec<(&PlannedRun, Vec<Option<&Record>>)> = Vec::new();
    for (run, record) in runs {
        match groups.iter_mut().find(|(first, _)| (&first.arm, &first.axes) == (&run.arm, &run.axes)) {
            Some((_, records)) => records.push(record.as_ref()),
            None => groups.push((run, vec![record.as_ref()])),
        }
    }
    groups.into_iter().map(|(first, records)| of_arm(&first.arm, &first.axes, &records)).collect()
}

fn of_arm(arm: &str, axes: &BTreeMap<String, Value>, records: &[Option<&Record>]) -> Costs {
    let finished: Vec<&Record> =
        records.iter().flatten().copied().filter(|record| record.outcome == Outcome::Finished).collect();
    let mean = |value: &dyn Fn(&Record) -> Option<f64>| {
        let values: Option<Vec<f64>> = finished.iter().map(|record| value(record)).collect();
        values.and_then(|values| stats::mean(&values))
    };
    let seconds = |record: &Record, phase: fn(&Phases) -> f64| record.timing.iter().map(phase).sum::<f64>();
    Costs {
        arm: arm.to_owned(),
        axes: axes.clone(),
        runs: records.len(),
        finished: finished.len(),
        final_test_accuracy: mean(&|record| record.last()?.test_accuracy),
        optimizer_ms_per_step: mean(&|record| {
            // Steps that a device takes in one have no part that is the optimizer's.
            let apart = record.timing.iter().all(|phases| phases.steps == 0.0);
            apart.then_some(seconds(record, |phases| phases.optimizer) * 1e3 / record.last()?.steps as f64)
        }),
        training_seconds: mean(&|record| Some(seconds(record, Phases::total))),
        state_bytes_per_parameter: mean(&|record| {
            Some(record.optimizer?.state_bytes as f64 / record.model.parameters as f64)
        }),
    }
}

/// The costs as text.
pub(crate) fn render(costs: &[Costs], format: Format) -> String {
    if format == Format::Json {
        return np_record::visible_json(&serde_json::to_string_pretty(costs).unwrap_or_default()) + "\n";
    }
    let axes: BTreeSet<&str> = costs.iter().flat_map(|of| of.axes.keys().map(String::as_str)).collect();
    let raw = format == Format::Csv;
    let names: [&str; 6] = match raw {
        true => [
            "final_test_accuracy",
            "optimizer_ms_per_step",
            "training_seconds",
            "state_bytes_per_parameter",
            "finished",
            "runs",
        ],
        false => {
            ["test accuracy %", "optimizer, ms a step", "training, s", "state, bytes a parameter", "finished", "runs"]
        }
    };
    let header: Vec<&str> = ["arm"].into_iter().chain(axes.iter().copied()).chain(names).collect();
    let number = |value: Option<f64>, scale: f64, decimals: usize| match (value, raw) {
        (Some(value), true) => value.to_string(),
        (Some(value), false) => format!("{:.decimals$}", value * scale),
        (None, true) => String::new(),
        (None, false) => "–".to_owned(),
    };
    let rows: Vec<Vec<String>> = costs
        .iter()
        .map(|of| {
            let mut row = vec![of.arm.clone()];
            row.extend(axes.iter().map(|&axis| of.axes.get(axis).map(plain).unwrap_or_default()));
            row.extend([
                number(of.final_test_accuracy, 100.0, 2),
                number(of.optimizer_ms_per_step, 1.0, 3),
                number(of.training_seconds, 1.0, 1),
                number(of.state_bytes_per_parameter, 1.0, 2),
                of.finished.to_string(),
                of.runs.to_string(),
            ]);
            row
        })
        .collect();
    table::render(&header, &names, &rows, format)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Costs {
        Costs {
            arm: "a, b".into(),
            axes: BTreeMap::from([("data.name".into(), "mnist".into())]),
            runs: 2,
            finished: 1,
            final_test_accuracy: Some(0.8125),
            optimizer_ms_per_step: Some(0.25),
            training_seconds: Some(3.0),
            state_bytes_per_parameter: None,
        }
    }

    #[test]
    fn every_format_holds_the_same_numbers() {
        let text = |format| render(&[one()], format);
        assert_eq!(
            text(Format::Csv),
            "arm,data.name,final_test_accuracy,optimizer_ms_per_step,training_seconds,state_bytes_per_parameter,finished,runs\n\
             \"a, b\",mnist,0.8125,0.25,3,,1,2\n"
        );
        let markdown = text(Format::Markdown);
        assert!(markdown.ends_with("|\n| a, b | mnist | 81.25 | 0.250 | 3.0 | – | 1 | 2 |\n"), "{markdown}");
        assert!(markdown.contains("\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"), "{markdown}");
        let row = text(Format::Text);
        assert!(row.lines().nth(1).unwrap().starts_with("a, b  mnist"), "{row}");
        let json: Value = serde_json::from_str(&text(Format::Json)).unwrap();
        assert_eq!(json[0]["final_test_accuracy"], 0.8125);
        assert!(json[0]["state_bytes_per_parameter"].is_null());
    }
}
