//! One experiment's section.

use std::collections::BTreeMap;

use maud::{Markup, PreEscaped, html};
use np_record::{
    Outcome, Table,
    compare::{Asked, Compared, Comparison, Measure, Metric, note_likenesses, pooled},
    select::{Runs, Selection},
    stats::Bootstrap,
    visible,
};

use super::{
    Study, chart, figures,
    markup::{capital, inline, table},
    tables::{comparisons, groups, provenance, results, settings, unfinished},
    views,
    views::View,
};
use crate::{error::told, shell::option};

/// A comparison, and the table beside its hypotheses; why there is none, else.
type Tables = Result<(Compared, Option<Table>), String>;

/// The figures that name an experiment.
pub(super) fn drawn(study: &Study) -> Vec<figures::Figure> {
    study.figures.as_deref().map(|folder| figures::of(folder, &study.plan.experiment)).unwrap_or_default()
}

/// The numbers that an experiment is seen by, its outcome first, and its arms compared by each.
pub(super) struct Compares {
    views: Vec<View>,
    tables: Vec<Tables>,
}

impl Compares {
    pub(super) fn of(study: &Study) -> Self {
        let views = views::views(&study.runs, study.plan.outcome.map(np_record::StatedOutcome::measure));
        let tables = views.iter().map(|view| compared(study, view.measure)).collect();
        Self { views, tables }
    }

    /// The pairs that were fixed beforehand: of the outcome alone.
    pub(super) fn hypotheses(&self) -> &[Comparison] {
        match self.tables.first() {
            Some(Ok((compared, _))) => &compared.hypotheses,
            _ => &[],
        }
    }
}

/// The section; `all` are the experiments of the page, each with the figures that name it.
pub(super) fn section(
    study: &Study,
    Compares { views, tables }: &Compares,
    drawn: &[figures::Figure],
    all: &[(&str, &[figures::Figure])],
) -> Markup {
    let name = &study.plan.experiment;
    let id = |what: &str| format!("{name}-{what}");
    let arms = arms(&study.runs);
    let outcome = study.plan.outcome.map(np_record::StatedOutcome::measure);
    let unfinished = unfinished(&study.all);
    let redraws: Vec<&String> = drawn.iter().filter_map(|figure| figure.redraw.as_ref()).collect();
    html! {
        section id=(name) aria-labelledby=(id("title")) {
            h2 id=(id("title")) { (name) }
            p.question { (inline(&study.plan.question)) }
            @if !study.about.is_empty() {
                div.about { @for paragraph in study.about.split("\n\n") { p { (inline(paragraph)) } } }
            }
            p { (outcomes(study)) }
            @if !study.foreign.is_empty() {
                ul.notes { @for remark in &study.foreign { li.warning { "Data: " (inline(remark)) } } }
            }
            @if !study.unused.is_empty() {
                ul.notes { @for why in &study.unused { li.warning { "Record not used: " (inline(&visible(why))) } } }
            }
            @if let Some(unfinished) = &unfinished {
                h3 { "What did not finish" }
                (table(unfinished, &id("unfinished")))
            }
            h3 { "Figures" }
            @for figure in drawn {
                @match figures::home(&figure.name, all).filter(|home| home != name) {
                    // Shown once: a page with seven copies of a drawing is seven times as long.
                    Some(home) => { p { (inline(figure.caption.split_inclusive('.').next().unwrap_or_default()))
                        (inline(figure.caption.split_inclusive('.').nth(1).unwrap_or_default())) " Shown under " a href={ "#" (home) } { (home) } "." } }
                    None => {
                        figure.figure {
                            div.scroll role="region" aria-label="figure" tabindex="0" { (PreEscaped(&figure.svg)) }
                            figcaption { (inline(&figure.caption)) }
                        }
                    }
                }
            }
            @if arms.len() > 1 || study.runs.len() > 1 { (views::buttons(views, name)) }
            @let curves = curves(&study.runs, &arms, views, !drawn.is_empty());
            @if drawn.is_empty() { (curves) }
            @else if !curves.0.is_empty() { details { summary { "Curves of every arm by epoch" } (curves) } }
            h3 { "Results" }
            @if let Some(selection) = &study.selection {
                (table(&selection.table(), &id("selection")))
                details {
                    summary { "Every configuration that was tried" }
                    (table(&selection.candidates(), &id("candidates")))
                }
            }
            (table(&results(&study.runs, outcome), &id("results")))
            @if arms.len() < 2 { p.soft { "There is one arm, and nothing to compare it with." } }
            @else {
                @for (view, compared) in views.iter().zip(tables) {
                    div class=(views::classes(views, |shown| shown == view)) { (comparison(compared, &|what| format!("{name}-{}-{what}", view.class))) }
                }
            }
            @if arms.len() > 1 {
                @for view in views {
                    div class=(views::classes(views, |shown| shown == view)) {
                        (table(&of_all(study, &arms[0], view.measure), &format!("{name}-{}-pooled", view.class)))
                    }
                }
            }
            h3 { "Runs" }
            p.soft { "Configuration and provenance, by arm" @if study.all.iter().any(|(run, _)| !run.axes.is_empty()) { " and axes" } ". "
                (inline("`np show ID` prints a run's every epoch.")) }
            @for (place, group) in groups(&study.all).iter().enumerate() {
                @let (common, own) = provenance(group);
                details {
                    summary { strong { (visible(&group[0].0.arm)) } @if !group[0].0.axes.is_empty() { ", " (visible(&settings(&group[0].0.axes))) } }
                    pre { code { (configuration(&group[0].0.config)) } }
                    @if own.rows.is_empty() { p.soft { "No record yet." } }
                    @else {
                        dl { @for (key, value) in &common { dt { (visible(key)) } dd { (visible(value)) } } }
                        (table(&own, &id(&format!("runs-{place}"))))
                    }
                }
            }
            h3 { "Made from" }
            dl {
                dt { "experiment" } dd { code { (study.file) } ", scale " code { (study.plan.scale) } }
                dt { "its text" } dd { "SHA-256 " code { (study.plan.spec_sha256) } }
                @if !study.plan.overrides.is_empty() { dt { "changed by" } dd { code { (visible(&study.plan.overrides.join(" "))) } } }
                @for (what, values) in sources(&study.all) { dt { (what) } dd { (visible(&values.join("; "))) } }
            }
            p { "Trained by the first command, where a record is missing; compared by the second" @if !redraws.is_empty() { "; figures drawn by the rest" } ":" }
            pre { code {
                "np run " (study.file) " --scale " (study.plan.scale) @for text in &study.plan.overrides { " " (visible(&option(text))) } "\n"
                "np compare " (study.file) " --scale " (study.plan.scale) @for text in &study.plan.overrides { " " (visible(&option(text))) }
                @for command in &redraws { "\n" (visible(command)) }
            } }
        }
    }
}

/// The arms of some runs, in order of appearance.
fn arms(runs: &Runs) -> Vec<String> {
    let mut arms: Vec<String> = Vec::new();
    for (run, _) in runs {
        if !arms.contains(&run.arm) {
            arms.push(run.arm.clone());
        }
    }
    arms
}

/// The tables of a comparison; each has an id of its own in the page.
fn comparison(compared: &Tables, id: &dyn Fn(&str) -> String) -> Markup {
    html! {
        @match compared {
            Ok((compared, beside)) => {
                @if !compared.hypotheses.is_empty() {
                    p { (capital(&compared.heading())) "." }
                    (table(&comparisons(&compared.hypotheses), &id("hypotheses")))
                }
                @if !compared.untested.is_empty() {
                    ul.notes { @for lost in &compared.untested { li.warning { (inline(lost)) } } }
                }
                @if let Some(beside) = beside { (table(beside, &id("beside"))) }
                @if !compared.exploratory.is_empty() {
                    p { (capital(Compared::EXPLORATORY)) "." }
                    (table(&comparisons(&compared.exploratory), &id("comparison")))
                }
            }
            Err(why) => { p.soft { "No comparison: " (inline(why)) } }
        }
    }
}

/// The hypotheses, and the first arm against each of the others, with the table beside them; in words why not, where the plan does not allow it.
fn compared(study: &Study, measure: Measure) -> Tables {
    let made = Compared::of(&study.plan, &study.runs, &Asked { measure: Some(measure), ..Asked::default() });
    let mut compared = made.map_err(|error| told(&error, error.hint()))?;
    if let Some(caveat) = study.selection.as_ref().and_then(Selection::caveat) {
        compared.warn(&caveat);
    }
    let beside = compared.beside(&study.runs).map_err(|error| told(&error, error.hint()))?;
    Ok((compared, beside))
}

/// The arms over all problems, with a note of those that do not differ.
fn of_all(study: &Study, baseline: &str, metric: Measure) -> Table {
    let mut table = pooled(&study.runs, baseline, metric, &Bootstrap::default());
    note_likenesses(&mut table, &study.runs);
    table
}

/// `18 runs: 17 finished, 1 diverged`
fn outcomes(study: &Study) -> String {
    let count = |test: fn(&Option<Outcome>) -> bool| {
        let outcome = |record: &np_record::Record| record.outcome.clone();
        study.all.iter().filter(|(_, record)| test(&record.as_ref().map(outcome))).count()
    };
    let parts = [
        ("finished", count(|outcome| matches!(outcome, Some(Outcome::Finished)))),
        ("diverged", count(|outcome| matches!(outcome, Some(Outcome::Diverged { .. })))),
        ("failed", count(|outcome| matches!(outcome, Some(Outcome::Failed { .. })))),
        ("without a record", count(Option::is_none)),
    ];
    let said: Vec<String> = parts.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}")).collect();
    format!("{}: {}.", crate::say::count(study.all.len(), "run"), said.join(", "))
}

/// A chart a problem and number, with one key for all of them.
fn curves(runs: &Runs, arms: &[String], views: &[View], drawn: bool) -> Markup {
    let names: Vec<&str> = arms.iter().map(String::as_str).collect();
    if names.len() > chart::MOST {
        return html! {
            @if !drawn { p.soft { "No curves: they are drawn for up to " (chart::MOST) " arms, and here are " (names.len()) "." } }
        };
    }
    let mut problems: Vec<&BTreeMap<String, serde_json::Value>> = Vec::new();
    for (run, _) in runs {
        if !problems.contains(&&run.axes) {
            problems.push(&run.axes);
        }
    }
    let charts = |metric: Metric| -> Vec<(String, Vec<chart::Curve>)> {
        let of = |axes: &&BTreeMap<String, serde_json::Value>| {
            let here: Runs = runs.iter().filter(|(run, _)| run.axes == **axes).cloned().collect();
            (settings(axes), chart::curves(&here, &names, metric))
        };
        problems.iter().take(chart::MOST_CHARTS).map(of).filter(|(_, curves)| !curves.is_empty()).collect()
    };
    let mut metrics: Vec<Metric> = Vec::new();
    for metric in views.iter().map(|view| view.measure.metric()) {
        if !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    let all: Vec<_> =
        metrics.iter().map(|metric| (*metric, charts(*metric))).filter(|(_, of)| !of.is_empty()).collect();
    if all.is_empty() {
        return html! { p.soft { "No curves: no run has finished." } };
    }
    let several = runs.iter().any(|(run, _)| run.seed != runs[0].0.seed);
    html! {
        ul.arms { @for (place, name) in names.iter().enumerate() { li { (chart::key(place)) (name) } } }
        @for (metric, charts) in &all {
            div class=(views::classes(views, |view| view.measure.metric() == *metric)) {
                p { (capital(metric.title().trim_start_matches("final "))) @if metric.unit() == "%" { " in per cent" }
                    " after each epoch, as the records have it" @if several { ": mean over seeds, band ± 1 sample standard deviation; a pointer on a line, or a click, shows its seeds" } "." }
                div.charts {
                    @for (title, curves) in charts {
                        figure { @if !title.is_empty() { figcaption { (title) } } (chart::chart(curves, &names, *metric, title)) }
                    }
                }
            }
        }
        @if problems.len() > chart::MOST_CHARTS { p.soft { (problems.len() - chart::MOST_CHARTS) " more are not drawn." } }
    }
}

/// A configuration as YAML, without the seed, which the runs of a group do not share.
fn configuration(config: &serde_json::Value) -> String {
    let mut config = config.clone();
    if let Some(map) = config.as_object_mut() {
        map.shift_remove("seed");
    }
    serde_yaml::to_string(&config).unwrap_or_default().trim_end().to_owned()
}

/// Data, models, code and machines behind some runs, each value once.
fn sources(runs: &Runs) -> Vec<(&'static str, Vec<String>)> {
    let records = || runs.iter().filter_map(|(_, record)| record.as_ref());
    let each = |of: &dyn Fn(&np_record::Record) -> String| {
        let mut values: Vec<String> = Vec::new();
        for record in records() {
            let value = of(record);
            if !values.contains(&value) {
                values.push(value);
            }
        }
        values
    };
    let code = |record: &np_record::Record| match (&record.provenance.commit, record.provenance.dirty) {
        (Some(commit), Some(true)) => format!("{commit} with uncommitted changes"),
        (Some(commit), _) => commit.clone(),
        (None, _) => "unknown".into(),
    };
    let machine = |record: &np_record::Record| {
        let machine = &record.provenance.machine;
        let gpu = machine.gpu.as_ref().map(|gpu| format!("; {gpu}")).unwrap_or_default();
        format!("{}, {}, {}{gpu}", machine.cpu, crate::say::count(machine.cores, "core"), machine.os)
    };
    vec![
        (
            "data",
            each(&|record| {
                format!("{}, digest {}", record.data.title, &record.data.digest[..12.min(record.data.digest.len())])
            }),
        ),
        ("model", each(&|record| format!("{}, {} parameters", record.model.title, record.model.parameters))),
        ("commit", each(&code)),
        ("machine", each(&machine)),
    ]
}
