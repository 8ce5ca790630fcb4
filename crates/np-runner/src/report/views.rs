//! The numbers that a section can be seen by: the last epoch, the mean of the last ones, the losses. One is shown at a time, chosen by a radio button that
//! needs no script; a browser too old for that shows all.

use std::num::NonZeroUsize;

use maud::{Markup, html};
use np_record::{
    EpochMetric,
    compare::{Measure, Metric},
    select::Runs,
};

/// Epochs that the late mean is of where no outcome says so.
const LATE: NonZeroUsize = match NonZeroUsize::new(5) {
    Some(five) => five,
    None => NonZeroUsize::MIN,
};

/// A number that a section can be seen by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct View {
    /// The number.
    pub(super) measure: Measure,
    /// Its class in the page.
    pub(super) class: &'static str,
}

/// The views of some runs, the outcome first.
pub(super) fn views(runs: &Runs, outcome: Option<Measure>) -> Vec<View> {
    let records = || runs.iter().filter_map(|(_, record)| record.as_ref());
    let late = Measure::late(EpochMetric::TestAccuracy, LATE);
    // Of runs that have no more epochs the mean would be of all.
    let has_late = records().next().is_some() && records().all(|record| record.epochs.len() > LATE.get());
    let mut measures: Vec<Measure> = Vec::new();
    if Metric::FinalTestAccuracy.is_measured(runs) {
        measures.push(Metric::FinalTestAccuracy.into());
        measures.extend(has_late.then_some(late));
    }
    measures.extend([Metric::FinalTestLoss, Metric::FinalTrainLoss].map(Measure::from));
    if let Some(outcome) = outcome {
        measures.retain(|measure| *measure != outcome);
        measures.insert(0, outcome);
    }
    let classes = ["v0", "v1", "v2", "v3", "v4"];
    measures.into_iter().zip(classes).map(|(measure, class)| View { measure, class }).collect()
}

/// The buttons that choose between them, in a section of this name.
pub(super) fn buttons(views: &[View], section: &str) -> Markup {
    html! {
        fieldset.views {
            legend { "Seen by" }
            @for (place, view) in views.iter().enumerate() {
                label { input type="radio" name={ "view-" (section) } value=(view.class) checked[place == 0]; " " (view.measure.title()) }
            }
        }
    }
}

/// The classes of what is shown in the views that `shows`.
pub(super) fn classes(views: &[View], shows: impl Fn(&View) -> bool) -> String {
    let classes = views.iter().filter(|view| shows(view)).map(|view| view.class);
    std::iter::once("view").chain(classes).collect::<Vec<_>>().join(" ")
}
