//! The report: one HTML page of what experiments asked and found, that needs nothing but itself.
//!
//! | here | what |
//! |---|---|
//! | [`verdicts`] | what came out of the pairs that were fixed beforehand, first |
//! | [`study`] | one experiment's section |
//! | [`views`] | the numbers that a section can be seen by |
//! | [`axes`] | what problems are called |
//! | [`tables`] | the tables that only a page has |
//! | [`chart`], [`figures`] | curves drawn from the records, and figures drawn before |
//! | [`markup`] | text and tables as HTML |
//!
//! The same records give the same bytes: nothing here looks at the clock or the machine. The page loads nothing (no script, font, or
//! picture of elsewhere), and its policy forbids it. Its one script, which sorts and filters tables, is its own, known to the policy by its digest; without
//! it all can be read.

mod axes;
mod chart;
mod figures;
mod markup;
mod study;
mod tables;
mod verdicts;
mod views;

use std::path::PathBuf;

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use maud::{DOCTYPE, PreEscaped, html};
use np_record::{Plan, compare::Comparison, select::Runs, select::Selection, visible};
use sha2::{Digest as _, Sha256};

use self::study::Compares;
use crate::shell::option;

/// What one experiment's section is made of.
#[derive(Debug)]
pub(crate) struct Study {
    /// The plan.
    pub(crate) plan: Plan,
    /// Every run of the plan.
    pub(crate) all: Runs,
    /// Those that are compared: after a selection those of the chosen configurations.
    pub(crate) runs: Runs,
    /// How they were selected.
    pub(crate) selection: Option<Selection>,
    /// What it is trained on and is not the published set of that name, a sentence each.
    pub(crate) foreign: Vec<String>,
    /// Why records that are there are not used, a sentence each.
    pub(crate) unused: Vec<String>,
    /// What the experiment file says about itself, the comment at its head.
    pub(crate) about: String,
    /// The file as a command would name it, `experiments/NAME.yaml`.
    pub(crate) file: String,
    /// Where figures that were drawn before are, if anywhere.
    pub(crate) figures: Option<PathBuf>,
}

impl Study {
    /// The study with its axes as the page names them.
    #[must_use]
    pub(crate) fn named_shortly(mut self) -> Self {
        axes::shorten(&mut self.all, &mut self.runs);
        self
    }
}

const STYLE: &str = include_str!("style.css");

const SCRIPT: &str = include_str!("script.js");

/// Nothing is loaded; styles, the (empty) icon and the script are the page's own, and no other script runs.
fn policy() -> String {
    let digest = STANDARD.encode(Sha256::digest(SCRIPT));
    format!(
        "default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
}

/// The whole page.
pub(crate) fn page(studies: &[Study]) -> String {
    let mut scales: Vec<&str> = studies.iter().map(|study| study.plan.scale.as_str()).collect();
    scales.dedup();
    let scales = scales.join(", ");
    let title = match studies {
        [one] => format!("{} at scale {scales}", one.plan.experiment),
        many => format!("{} experiments at scale {scales}", many.len()),
    };
    let drawn: Vec<Vec<figures::Figure>> = studies.iter().map(study::drawn).collect();
    let named = studies.iter().zip(&drawn).map(|(study, drawn)| (study.plan.experiment.as_str(), drawn.as_slice()));
    let named: Vec<(&str, &[figures::Figure])> = named.collect();
    let files: Vec<&str> = studies.iter().map(|study| study.file.as_str()).collect();
    // Those of the command line are of all; a plan has its own, and is named by its file.
    let changes: &[String] = studies.first().map_or(&[], |study| &study.plan.overrides);
    let changes = if studies.iter().all(|study| study.plan.overrides == changes) { changes } else { &[] };
    let compares: Vec<Compares> = studies.iter().map(Compares::of).collect();
    let of = studies.iter().zip(&compares);
    let fixed: Vec<(&str, &[Comparison])> =
        of.map(|(study, compares)| (study.plan.experiment.as_str(), compares.hypotheses())).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(policy());
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    a.skip href="#main" { "to the results" }
                    h1 { (title) }
                    p.soft { "Made from records alone; the page is complete in itself." }
                    @if studies.len() > 1 {
                        nav aria-label="experiments" {
                            ul { @for study in studies { li { a href={ "#" (study.plan.experiment) } { (study.plan.experiment) } } } }
                        }
                    }
                }
                main #main {
                    (verdicts::overview(&fixed))
                    @for ((study, compares), drawn) in studies.iter().zip(&compares).zip(&drawn) {
                        (study::section(study, compares, drawn, &named))
                    }
                }
                footer {
                    p { "This page again:" }
                    pre { code { "np report " (files.join(" ")) " --scale " (scales) @for text in changes { " " (visible(&option(text))) } } }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    // Names and messages are others': what cannot be seen is spelled out.
    np_record::visible_lines(&page.into_string()).into_owned() + "\n"
}
