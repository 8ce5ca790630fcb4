//! `np search`: draws configurations, trains them rung by rung, and says what is best.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args as ClapArgs, builder::PossibleValuesParser};
use np_record::{
    Outcome, Plan, Record, Store, can_name,
    compare::Format,
    select::{Quantity, Split, as_tuned},
    write_atomic,
};
use serde_json::{Map, Value};

use super::{
    print,
    run::{self, Shown, Sweep},
    short,
};
use crate::{
    Costs, Planned, Share, asked, cores,
    document::Document,
    error::{Error, Fault, Place, Problem, Result},
    missing,
    say::{count, say, say_refused},
    screen::human,
    search::{
        Search,
        prune::{Tried, kept, rank},
        report::{Climbed, Ended},
        write::{self, Head, Kept},
    },
    spec::{DEFAULT_SCALE, PLAIN_NAME, Request, Spec},
    table::table,
    worker::label,
};

/// Search for the best configuration of every arm: as many tried for each, chosen by held-out images, over several seeds
///
/// The file's `search` says how: `random`, or `successive_halving`, which trains many configurations for few epochs and the best of them for more.
/// Every configuration is an ordinary run: breaking it off loses nothing, the same command goes on, and `np compare`, `np report` and `np export`
/// read what it has trained. The first rung is the file's own plan; later ones are experiments in `searches/` of the store.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  np search experiments/search-rates.yaml --plan
  np search experiments/search-rates.yaml --out finals.yaml
  np search experiments/search-rates.yaml --configurations --format csv
  np compare experiments/records/quick/plans/search-rates-rung2.json")]
pub(super) struct Args {
    #[command(flatten)]
    run: run::Args,
    /// Show what is drawn and what it costs; nothing is trained or written
    #[arg(long)]
    plan: bool,
    /// Write the winners into a new experiment, with fresh seeds and without held-out images
    #[arg(long, value_name = "FILE", conflicts_with = "plan")]
    out: Option<PathBuf>,
    /// Show every configuration at every rung, instead of a line an arm
    #[arg(long, conflicts_with = "plan")]
    configurations: bool,
    /// How to print it; csv and json hold raw values
    #[arg(long, default_value = Format::default().key(), value_parser = PossibleValuesParser::new(Format::ALL.map(Format::key)))]
    format: String,
}

pub(super) fn search(args: &Args) -> Result<ExitCode> {
    let limit = args.run.limit();
    let request = args.run.experiment.request();
    let store = args.run.experiment.store()?;
    let spec = Spec::load(&request)?;
    let Some(search) = &spec.search else {
        let fault = Fault::new(Place::File(request.file.clone(), None), "there is no such section").key("search");
        let hint = "say how configurations are drawn, as in `search: {method: random, seed: 1, configurations: 20, space: {optimizer.lr: \
                    {log_uniform: [0.001, 1]}}}`; `np run` trains an experiment without one";
        return Err(fault.hint(hint).into());
    };
    let data_dir = args.run.experiment.place.data_dir.as_deref();
    let mut planned = asked(&request, data_dir, &store, args.plan)?;
    // It is for other commands.
    planned.warnings.retain(|warning| search.warning().as_ref() != Some(warning));
    let name = planned.plan.experiment.clone();
    let rungs: Vec<String> = (2..=search.rungs.len()).map(|number| write::rung_name(&name, number)).collect();
    if let Some(long) = rungs.iter().find(|rung| !can_name(rung)) {
        let expected = format!("a name with which `{long}`, that of a rung, is {PLAIN_NAME}");
        let problem = Problem::Expected { expected, got: format!("`{name}`") };
        let place = Place::File(request.file.clone(), None);
        return Err(Fault { place, key: Some("name".into()), problem, hint: Some("shorten it".into()) }.into());
    }
    if args.plan {
        return plan(search, &planned, &store);
    }
    let out = args.out.as_deref().map(|path| Out::of(path, &request, &rungs)).transpose()?;
    let mut next = Some((request.file.clone(), planned));
    let mut rungs: Vec<Climbed> = Vec::new();
    let mut survivors = everything(search);
    while let Some((file, planned)) = next.take() {
        let number = rungs.len() + 1;
        let rung = search.rungs[number - 1];
        equal(&planned.plan, search, number)?;
        say!(
            "rung {number} of {}: {} of every arm, {} each",
            search.rungs.len(),
            count(rung.configurations, "configuration"),
            count(rung.epochs as usize, "epoch")
        );
        let plan = planned.plan.clone();
        let command = run::command("search", &request);
        let code = run::train(
            &args.run,
            &Sweep { file: &file, planned, store: &store, command, limit, shown: Shown::Nothing },
        )?;
        let left = missing(&plan, &store).len();
        if code != ExitCode::SUCCESS || left > 0 {
            if code == ExitCode::SUCCESS {
                say!(
                    "rung {number} lacks {}\n  hint: once they are trained, the same command goes on",
                    count(left, "run")
                );
            }
            return Ok(code);
        }
        let climbed = climb(search, number, &plan, &store, &survivors)?;
        if let Some(next_rung) = search.rungs.get(number) {
            survivors = climbed
                .arms
                .iter()
                .map(|(arm, ranked)| (arm.clone(), kept(ranked, next_rung.configurations)))
                .collect();
            let file = write::rung_file(&store, &name, number + 1);
            let own = write::rung_name(&name, number + 1);
            let head = Head { name: &own, question: &spec.question, scale: request.scale(), file: &request.file };
            put(&file, &write::rung(search, &head, number + 1, &survivors))?;
            let asked_for =
                Request { file: file.clone(), scale: Some(request.scale().to_owned()), ..Request::default() };
            next = Some((file, asked(&asked_for, data_dir, &store, false)?));
        }
        rungs.push(climbed);
    }
    conclude(args, &spec, search, &Ended { name: &name, search, rungs: &rungs }, out)
}

/// All configurations of every arm.
fn everything(search: &Search) -> Kept {
    search.arms.iter().map(|arm| (arm.name.clone(), (0..arm.points.len()).collect())).collect()
}

/// Checks that every arm of a rung's plan has the same budget: as many runs, no two the same, of as many epochs.
fn equal(plan: &Plan, search: &Search, number: usize) -> Result<()> {
    let rung = search.rungs[number - 1];
    let runs = rung.configurations * search.seeds.len();
    for arm in &search.arms {
        let own = plan.runs.iter().filter(|run| run.arm == arm.name);
        let ids: BTreeSet<&str> = own.clone().map(|run| run.id.as_str()).collect();
        let epochs: u64 = own.filter_map(|run| run.config.pointer("/train/epochs")?.as_u64()).sum();
        let (wanted, got) = ((runs, runs as u64 * u64::from(rung.epochs)), (ids.len(), epochs));
        if wanted != got {
            let expected = format!("{} and {} epochs, as of every arm", count(wanted.0, "run"), wanted.1);
            let problem = Problem::Expected {
                expected,
                got: format!("{} and {} of arm `{}`", count(got.0, "run"), got.1, arm.name),
            };
            let place = Place::Option(format!("rung {number} of `{}`", plan.experiment));
            return Err(Fault { place, key: None, problem, hint: None }.into());
        }
    }
    Ok(())
}

/// Ranks the configurations of every arm by the records of a rung; all of its runs have one.
fn climb(search: &Search, number: usize, plan: &Plan, store: &Store, survivors: &Kept) -> Result<Climbed> {
    let rung = search.rungs[number - 1];
    let reading = store.records_of(plan);
    say_refused(&reading.refused);
    let mut arms = Vec::new();
    for (arm, numbers) in survivors {
        let own: Vec<_> = reading.runs.iter().filter(|(run, _)| run.arm == *arm).collect();
        // In the plan's order, which is that of configurations and seeds.
        let tried = own.chunks(search.seeds.len()).zip(numbers).map(|(runs, &configuration)| {
            let score = |(run, record): &&(np_record::PlannedRun, Option<Record>)| {
                let score = score(search, number, record.as_ref());
                score.map(|score| (run.seed, score)).ok_or_else(|| {
                    let fault = Fault::new(Place::Option(label(run)), "its record has no accuracy on held-out images");
                    Error::from(fault.hint("remove the record, and the same command trains it again"))
                })
            };
            let scores: BTreeMap<u64, Option<f64>> = runs.iter().map(score).collect::<Result<_>>()?;
            Ok(Tried { configuration, scores })
        });
        let tried = tried.collect::<Result<Vec<Tried>>>()?;
        let ranked = rank(&tried).map_err(|unfit| {
            let text = format!("arm `{arm}` cannot be ranked: {unfit}");
            Fault::new(Place::Option(format!("rung {number} of `{}`", plan.experiment)), text)
        })?;
        arms.push((arm.clone(), ranked));
    }
    Ok(Climbed { rung, arms })
}

/// What a run reached; nothing, inside, of one that diverged, and nothing at all of one that says nothing.
fn score(search: &Search, number: usize, record: Option<&Record>) -> Option<Option<f64>> {
    let record = record?;
    match record.outcome {
        Outcome::Diverged { .. } => Some(None),
        Outcome::Failed { .. } => None,
        Outcome::Finished => {
            let last = search.last_epochs(search.rungs[number - 1]);
            let score = Split::Validation.score(Quantity::Accuracy, record, last)?;
            Some(Some(score).filter(|score| score.is_finite()))
        }
    }
}

/// Writes a file, unless it says the same already.
fn put(path: &Path, text: &str) -> Result<()> {
    if std::fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes()) {
        return Ok(());
    }
    write_atomic(path, text.as_bytes()).map_err(Error::io(path))
}

/// The experiment that is to be written.
struct Out<'a> {
    path: &'a Path,
    name: String,
}

impl<'a> Out<'a> {
    /// Checks a path before anything is trained.
    fn of(path: &'a Path, request: &Request, rungs: &[String]) -> Result<Self> {
        let place = || Place::Option(format!("--out {}", path.display()));
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let yaml = path.extension().is_some_and(|extension| extension == "yaml");
        if !yaml || !can_name(&name) {
            let problem = Problem::Expected {
                expected: format!("a file `NAME.yaml`, {PLAIN_NAME}"),
                got: format!("`{}`", path.display()),
            };
            return Err(
                Fault { place: place(), key: None, problem, hint: Some("as in `--out finals.yaml`".into()) }.into()
            );
        }
        if path.file_stem() == request.file.file_stem() || rungs.contains(&name) {
            let fault = Fault::new(place(), "an experiment of the same name as the search, or one of its rungs");
            return Err(fault.hint("choose another name; plans are kept under it").into());
        }
        let out = Self { path, name };
        match std::fs::read_to_string(path) {
            Ok(text) if !text.starts_with(write::FINALS) => Err(out.taken()),
            _ => Ok(out),
        }
    }

    /// Another file is in its place.
    fn taken(&self) -> Error {
        let fault = Fault::new(Place::File(self.path.to_owned(), None), "another file is there, and is not replaced");
        fault.hint("remove it, or choose another name with `--out`").into()
    }

    /// Writes the finals, unless another text is there.
    fn write(&self, text: &str) -> Result<()> {
        let there = std::fs::read(self.path).ok();
        if there.is_some_and(|bytes| bytes != text.as_bytes()) {
            return Err(self.taken());
        }
        put(self.path, text)
    }
}

/// Prints the report and the winners, and writes the finals.
fn conclude(args: &Args, spec: &Spec, search: &Search, ended: &Ended<'_>, out: Option<Out<'_>>) -> Result<ExitCode> {
    let format: Format = args.format.parse().unwrap_or_default();
    let table = if args.configurations { ended.configurations() } else { ended.table() };
    // Of the first rung's runs, which differ from the winner's whole training in their epochs alone.
    let tree = |arm: &str, configuration: usize| {
        let mut own = spec.runs.iter().filter(|run| run.arm == arm);
        own.nth(configuration * search.seeds.len()).map(|run| (arm.to_owned(), write::parts(&run.tree.value)))
    };
    let winners: Vec<(String, Map<String, Value>)> =
        search.arms.iter().filter_map(|arm| tree(&arm.name, ended.winner(&arm.name)?.configuration)).collect();
    let mut text = table.render(format);
    if matches!(format, Format::Text) && !winners.is_empty() {
        text += &format!("\nthe winners, as a part of an experiment:\n\n{}", write::fragment(search, &winners));
    }
    print(&text)?;
    if matches!(format, Format::Csv) {
        ended.warnings().iter().for_each(|warning| say!("{warning}"));
    }
    let request = args.run.experiment.request();
    let whole = winners.len() == search.arms.len();
    match out {
        Some(_) if winners.is_empty() => say!("nothing is written: no arm has a winner"),
        Some(out) => {
            let head =
                Head { name: &out.name, question: &spec.question, scale: request.scale(), file: &spec.document.path };
            let text = write::finals(search, &head, &winners);
            as_chosen(&out, &text, spec, search, ended, head.scale)?;
            out.write(&text)?;
            let scale = if head.scale == DEFAULT_SCALE { String::new() } else { format!(" --scale {}", head.scale) };
            say!(
                "the finals, {} of {} each: `{}`\n  hint: `np run {}{scale}` trains them",
                count(winners.len(), "arm"),
                count(search.final_seeds.len(), "seed"),
                short(out.path),
                crate::shell::quoted(&short(out.path))
            );
        }
        None => {}
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fails where an arm of the finals would be trained otherwise than it was chosen, but for what must differ: its seeds, and the images that were held out.
fn as_chosen(out: &Out<'_>, text: &str, spec: &Spec, search: &Search, ended: &Ended<'_>, scale: &str) -> Result<()> {
    let document = Document::of(out.path, text.as_bytes().to_vec())?;
    let request = Request { file: out.path.to_owned(), scale: Some(scale.to_owned()), ..Request::default() };
    let finals = Spec::of(document, &request)?;
    let epochs = search.rungs.last().map_or(0, |rung| rung.epochs);
    for run in &finals.runs {
        let winner = ended.winner(&run.arm).map(|winner| winner.configuration * search.seeds.len());
        let chosen = winner.and_then(|place| spec.runs.iter().filter(|run_of| run_of.arm == run.arm).nth(place));
        let chosen = chosen.map(|chosen| {
            let mut config = chosen.config.clone();
            config.train.epochs = epochs;
            as_tuned(&serde_json::to_value(config).unwrap_or_default())
        });
        if chosen != serde_json::to_value(&run.config).ok().map(|config| as_tuned(&config))
            || search.seeds.contains(&run.config.seed)
        {
            let text = format!("arm `{}` would not be trained as it was chosen", run.arm);
            return Err(Fault::new(Place::File(out.path.to_owned(), None), text).into());
        }
    }
    Ok(())
}

/// Shows the configurations, and what they cost.
fn plan(search: &Search, planned: &Planned, store: &Store) -> Result<ExitCode> {
    let keys: Vec<&str> = search
        .arms
        .iter()
        .flat_map(|arm| &arm.space)
        .map(|one| one.key.as_str())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let rows: Vec<Vec<String>> = search
        .arms
        .iter()
        .flat_map(|arm| arm.points.iter().enumerate().map(move |(number, point)| (arm, number, point)))
        .map(|(arm, number, point)| {
            let values = keys.iter().map(|key| point.get(*key).map_or_else(|| "–".to_owned(), np_record::words));
            [arm.name.clone(), number.to_string()].into_iter().chain(values).collect()
        })
        .collect();
    let header: Vec<&str> = ["arm", "no."].into_iter().chain(keys.iter().copied()).collect();
    print(&table(&header, &["no."], &rows))?;
    let Planned { plan, .. } = planned;
    say!("{} ({}): {}, records in `{}`", plan.experiment, plan.scale, search.method.key(), short(store.root()));
    for warning in &planned.warnings {
        say!("warning: {warning}");
    }
    for (place, rung) in search.rungs.iter().enumerate() {
        let runs = rung.configurations * search.seeds.len() * search.arms.len();
        let (configurations, epochs) =
            (count(rung.configurations, "configuration"), count(rung.epochs as usize, "epoch"));
        say!("rung {}: {configurations} of every arm, {epochs} each: {}", place + 1, count(runs, "run"));
    }
    say!("budget, {}", search.budget_in_words());
    let todo = missing(plan, store);
    say!("first rung: {} of {} trained", plan.runs.len() - todo.len(), plan.runs.len());
    let records = store.records_of(plan).runs;
    let costs = Costs::of(store, &records)?;
    let of_runs: Option<f64> =
        plan.runs.iter().zip(&planned.examples).map(|(run, &examples)| costs.of_run(run, examples)).sum();
    let first = search.rungs.first().map_or(0, |rung| rung.configurations as u64 * u64::from(rung.epochs))
        * search.seeds.len() as u64;
    match of_runs {
        Some(seconds) => {
            let whole = seconds * search.budget() as f64 / (first.max(1)) as f64;
            let jobs = Share::of(cores(), plan.runs.len(), None, None).jobs;
            say!("the whole search: about {}, {jobs} at a time", human(whole / jobs as f64));
        }
        None => say!("the whole search: no record of the like to estimate the time from"),
    }
    if let Some(fault) = &planned.unread {
        say!("to train, {}", fault.told());
    }
    Ok(ExitCode::SUCCESS)
}
