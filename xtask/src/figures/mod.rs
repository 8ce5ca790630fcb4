//! `cargo xtask figures`: draws `figures/SCALE/figN.{svg,png,csv,md}` from records, and `figures/SCALE/report.html` when all figures are drawn.
//!
//! [`source`] finds the records, and calls `np` to make missing ones. The figures are in [`fig1`], [`curves`] (2, 3, 5, 6), [`optimizers`] (4), [`space`] (7),
//! [`stability`] (8), [`evidence`] (9), [`cost`] (10), [`budgets`] (11), [`parts`] (12), [`rates`] (13), [`steps`] (14) and [`gallery`]. [`study`] has what
//! figures 11 to 14 share; [`caption`] and [`table`] write the files beside an image. The same records give the same bytes: nothing depends on the clock, the
//! machine or the checkout.

pub(crate) mod budgets;
mod caption;
pub(crate) mod cost;
mod curves;
pub(crate) mod evidence;
mod fig1;
mod gallery;
mod gpu_cost;
pub(crate) mod optimizers;
pub(crate) mod parts;
pub(crate) mod rates;
pub(crate) mod runs;
pub(crate) mod source;
pub(crate) mod space;
pub(crate) mod stability;
mod steps;
pub(crate) mod study;
mod table;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use np_record::{OutputKind, check_output, write_atomic};

use crate::draw::canvas::Drawing;
use runs::Runs;
use source::Workspace;

/// The figures that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Number {
    /// The method.
    #[value(name = "1")]
    Method,
    /// Sanity check.
    #[value(name = "2")]
    Sanity,
    /// Low data.
    #[value(name = "3")]
    LowData,
    /// Against standard optimizers.
    #[value(name = "4")]
    Optimizers,
    /// Transfer to another task.
    #[value(name = "5")]
    Transfer,
    /// Dynamics.
    #[value(name = "6")]
    Dynamics,
    /// Design space.
    #[value(name = "7")]
    DesignSpace,
    /// Stability.
    #[value(name = "8")]
    Stability,
    /// Evidence under five controls.
    #[value(name = "9")]
    Evidence,
    /// Cost of a step.
    #[value(name = "10")]
    Cost,
    /// Every optimizer at its own best rate and schedule.
    #[value(name = "11")]
    EqualBudgets,
    /// The rule without one of its parts.
    #[value(name = "12")]
    Parts,
    /// Rules at every learning rate.
    #[value(name = "13")]
    RateAndRule,
    /// Shares of the data at equal steps.
    #[value(name = "14")]
    DataOrSteps,
    /// Paths of all optimizers; has no number and no scale, and is drawn only when it is asked for.
    Gallery,
}

impl Number {
    /// The figures that are drawn if none is named.
    const ALL: [Number; 14] = [
        Number::Method,
        Number::Sanity,
        Number::LowData,
        Number::Optimizers,
        Number::Transfer,
        Number::Dynamics,
        Number::DesignSpace,
        Number::Stability,
        Number::Evidence,
        Number::Cost,
        Number::EqualBudgets,
        Number::Parts,
        Number::RateAndRule,
        Number::DataOrSteps,
    ];

    /// The figure's name in messages: `figure 2`.
    fn title(self) -> String {
        match Number::ALL.iter().position(|number| *number == self) {
            Some(at) => format!("figure {}", at + 1),
            None => "the gallery".into(),
        }
    }

    /// Whether a folder has a file of the figure.
    fn stands_in(self, folder: &Path) -> bool {
        let place = Number::ALL.iter().position(|number| *number == self);
        place.is_some_and(|at| folder.join(format!("fig{}.md", at + 1)).exists())
    }

    /// The experiments whose records the figure is drawn from: `experiments/NAME.yaml`.
    fn experiments(self) -> &'static [&'static str] {
        match self {
            Number::Method | Number::Cost | Number::Gallery => &[],
            Number::Sanity => &["fig2-sanity"],
            Number::LowData => &["fig3-low-data"],
            Number::Optimizers => &["fig4-optimizers"],
            Number::Transfer => &["fig5-transfer"],
            Number::Dynamics => &["fig6-dynamics"],
            Number::DesignSpace => &["fig7-design-space", "fig4-optimizers"],
            Number::Stability => &["fig8-stability"],
            Number::Evidence => &evidence::EXPERIMENTS,
            Number::EqualBudgets => &["fig11-equal-budgets"],
            Number::Parts => &["fig12-components"],
            Number::RateAndRule => &["fig13-rate-and-rule"],
            Number::DataOrSteps => &["fig14-data-or-steps", "fig3-low-data"],
        }
    }
}

/// Every experiment that these figures are drawn from, once, in order of first use.
fn experiments(numbers: &[Number]) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for name in numbers.iter().flat_map(|number| number.experiments()) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    names
}

/// How much is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Scale {
    /// Embedded images, minutes on two cores.
    #[default]
    Quick,
    /// Full data sets, hours on two cores.
    Cpu,
    /// The published protocol.
    Paper,
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Scale::Quick => "quick",
            Scale::Cpu => "cpu",
            Scale::Paper => "paper",
        })
    }
}

/// Options of `cargo xtask figures`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How much is trained, and which records are drawn
    #[arg(long, value_enum, default_value_t)]
    scale: Scale,
    /// Numbers of the figures, or `gallery`, separated by commas [default: all that have a number]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Number>,
    /// Draw from the records that there are, and fail where something would have to be trained
    #[arg(long)]
    no_train: bool,
    /// Folder of the files [default: figures/SCALE, figures/gallery]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// The contents of a figure's files.
pub(crate) struct Figure {
    /// Name of the files, without extension.
    pub(crate) name: &'static str,
    /// The image.
    pub(crate) drawing: Drawing,
    /// The values, as CSV.
    pub(crate) table: String,
    /// The caption, as Markdown.
    pub(crate) caption: String,
}

/// The error that records are missing and training is not allowed; has the experiment and the reason.
#[derive(Debug)]
struct Untrained(String);

impl fmt::Display for Untrained {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}\nhint: without `--no-train` it is trained", self.0)
    }
}

impl std::error::Error for Untrained {}

/// Runs the command: first the figures whose runs are there, then, each as soon as they are trained, the others. A figure that cannot be drawn keeps no other from being drawn. One that lacks records, is not to be trained, and is not in the folder either, is left out: a new
/// experiment need not be trained at every scale. Where it is there already, its records must be, too.
pub(crate) fn run(options: &Options, root: &Path) -> Result<()> {
    let workspace = Workspace { root: root.to_path_buf(), scale: options.scale, ask: Workspace::planned };
    let folder = options.out.clone().unwrap_or_else(|| root.join("figures").join(options.scale.to_string()));
    let mut numbers = if options.only.is_empty() { Number::ALL.to_vec() } else { options.only.clone() };
    numbers.sort();
    numbers.dedup();
    let train = |name: &str, reason: &str| match options.no_train {
        true => Err(Untrained(format!("{name}: {reason}")).into()),
        false => workspace.train(name, reason),
    };
    let mut known = BTreeMap::new();
    let (mut failed, mut drawn): (Vec<String>, Vec<Number>) = (Vec::new(), Vec::new());
    let here = |name: &str| workspace.obtain(name, &|reason| Err(Untrained(reason.to_owned()).into()));
    let (numbers, waiting) =
        ready_first(numbers, |number| options.no_train || obtain(&mut known, number.experiments(), here).is_ok());
    for (at, number) in numbers.iter().copied().enumerate() {
        if at >= waiting {
            eprintln!("{}", next(&numbers[at..]));
        }
        let figure = match number {
            Number::Gallery => gallery::walk(root).and_then(|walks| gallery::draw(&walks)),
            _ => obtain(&mut known, number.experiments(), |name| workspace.obtain(name, &|reason| train(name, reason)))
                .and_then(|runs| draw(number, options.scale, root, &runs)),
        };
        let folder = match (number, &options.out) {
            (Number::Gallery, None) => root.join("figures/gallery"),
            _ => folder.clone(),
        };
        match figure.and_then(|figure| write(&figure, &folder)) {
            Ok(paths) => {
                paths.iter().for_each(|path| println!("{}", path.display()));
                drawn.push(number);
            }
            Err(error) if error.is::<Untrained>() && !number.stands_in(&folder) => {
                eprintln!(
                    "{} is left out, as it has not been drawn at scale `{}` yet: {}",
                    number.title(),
                    options.scale,
                    crate::told(&error)
                );
            }
            Err(error) => {
                eprintln!("{}: {}", number.title(), crate::told(&error));
                failed.push(number.title());
            }
        }
    }
    if !failed.is_empty() {
        bail!("not drawn, for the reasons above: {}", failed.join(", "));
    }
    if options.only.is_empty() {
        drawn.sort();
        let names = experiments(&drawn);
        let page = folder.join("report.html");
        workspace.report(&names, &page)?;
        println!("{}", page.display());
    }
    Ok(())
}

/// Sorts figures whose runs are there before those that need training; also returns the index of the first of the latter.
fn ready_first(numbers: Vec<Number>, ready: impl FnMut(&Number) -> bool) -> (Vec<Number>, usize) {
    let (mut order, waiting): (Vec<_>, Vec<_>) = numbers.into_iter().partition(ready);
    let from = order.len();
    order.extend(waiting);
    (order, from)
}

/// A message such as `figure 3 next, from fig3-low-data; then figures 5, 7`. It has no estimate of the time, because `np run` prints one.
fn next(numbers: &[Number]) -> String {
    let Some((first, others)) = numbers.split_first() else { return String::new() };
    let mut text = format!("{} next, from {}", first.title(), first.experiments().join(", "));
    if !others.is_empty() {
        let others: Vec<_> = others.iter().map(|number| number.title().replace("figure ", "")).collect();
        text += &format!("; then {} {}", if others.len() == 1 { "figure" } else { "figures" }, others.join(", "));
    }
    text
}

/// The runs of experiments. Those of an experiment that several figures show are obtained once, and then taken from `known`.
fn obtain<'k>(
    known: &'k mut BTreeMap<&'static str, Runs>,
    names: &[&'static str],
    obtain: impl Fn(&str) -> Result<Runs>,
) -> Result<Vec<&'k Runs>> {
    for name in names {
        if !known.contains_key(name) {
            known.insert(name, obtain(name)?);
        }
    }
    Ok(names.iter().filter_map(|name| known.get(name)).collect())
}

/// Draws a figure from the runs of its experiments.
fn draw(number: Number, scale: Scale, root: &Path, runs: &[&Runs]) -> Result<Figure> {
    match (number, runs) {
        (Number::Method, []) => fig1::draw(scale),
        (Number::Sanity, [runs]) => curves::sanity(scale, runs),
        (Number::LowData, [runs]) => curves::low_data(scale, runs),
        (Number::Optimizers, [runs]) => optimizers::draw(scale, runs),
        (Number::Transfer, [runs]) => curves::transfer(scale, runs),
        (Number::Dynamics, [runs]) => curves::dynamics(scale, runs),
        (Number::DesignSpace, [runs, standard]) => space::draw(scale, runs, standard),
        (Number::Stability, [runs]) => stability::draw(scale, runs),
        (Number::Evidence, runs) => evidence::draw(scale, &evidence::Sources::of(runs)?),
        (Number::EqualBudgets, [runs]) => budgets::draw(scale, runs),
        (Number::Parts, [runs]) => parts::draw(scale, runs),
        (Number::RateAndRule, [runs]) => rates::draw(scale, runs),
        (Number::DataOrSteps, [runs, low_data]) => steps::draw(scale, runs, low_data),
        (Number::Cost, []) => cost::draw(scale, &cost::latest(root)?, gpu_cost::latest(root)?.as_ref()),
        (_, runs) => bail!("{} is not drawn from {} experiments", number.title(), runs.len()),
    }
}

/// The files of a figure, with a check of how each begins. A table can begin with anything.
const KINDS: [(&str, OutputKind); 4] = [
    ("svg", OutputKind { name: "drawing", is: |start| start.starts_with(b"<svg") }),
    ("png", OutputKind { name: "picture", is: |start| start.starts_with(b"\x89PNG") }),
    ("csv", OutputKind { name: "table", is: |_| true }),
    ("md", OutputKind { name: "caption", is: |start| start.starts_with(b"**") }),
];

/// Writes the four files of a figure, and returns their paths. It is an error to write into a store of records, or over a file of another kind.
fn write(figure: &Figure, folder: &Path) -> Result<[PathBuf; 4]> {
    let Figure { name, drawing, table, caption } = figure;
    let paths = KINDS.map(|(extension, _)| folder.join(format!("{name}.{extension}")));
    for (path, (_, kind)) in paths.iter().zip(KINDS) {
        check_output(path, kind, &[])?;
    }
    let contents = [drawing.svg.as_bytes(), &drawing.png, table.as_bytes(), caption.as_bytes()];
    for (path, bytes) in paths.iter().zip(contents) {
        write_atomic(path, bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(paths)
}
