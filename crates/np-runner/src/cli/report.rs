//! `np report`: what experiments asked and found, as one HTML page.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args as ClapArgs;
use np_record::{OutputKind, Store, check_output, select::Budget, write_output};

use super::{
    OverrideArgs, PlaceArgs, short,
    source::{Choose, Source, folder, read, refused},
};
use crate::{
    asked,
    error::{Error, Fault, Place, Result},
    report::{Study, page},
    say::{count, say},
    spec::DEFAULT_SCALE,
};

/// Write what experiments asked and found as one HTML page that needs nothing else
///
/// Question, figures, comparisons with intervals and exact tests, how arms were selected, what did not finish, and every run's configuration
/// and provenance. The page loads nothing, reads on a phone, in the dark and on paper, and is the same for the same records.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  np report experiments/fig2-sanity.yaml
  np report --scale cpu --out report.html
  np report experiments/fig2-sanity.yaml --sweep optimizer.lr=0.3,0.1,0.03")]
pub(super) struct Args {
    /// Experiments, or plans in a store (`STORE/plans/NAME.json`) [default: every experiment of the folder `experiments` of this folder or one
    /// above it that has records]
    #[arg(value_name = "FILE|PLAN")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// Where to write it; an HTML page that is there is replaced, no other file, and what is no regular file, such as `/dev/stdout`, is written into
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
    /// Folder of figures that were drawn before, taken in where their caption names the experiment [default: `figures/SCALE` beside
    /// the folder `experiments`]
    #[arg(long, value_name = "DIR")]
    figures: Option<PathBuf>,
}

pub(super) fn report(args: &Args) -> Result<ExitCode> {
    let files = if args.files.is_empty() { all(args)? } else { args.files.clone() };
    let option = |name: &str, path: &Path| Place::Option(format!("{name} {}", path.display()));
    check_output(&args.out, OutputKind::HTML, &files)
        .map_err(|error| refused(option("--out", &args.out), &error, error.hint()))?;
    if let Some(folder) = args.figures.as_ref().filter(|folder| !folder.is_dir()) {
        let found = if folder.exists() { "a file" } else { "nothing" };
        let fault = Fault::new(option("--figures", folder), format!("expected a folder of figures, found {found}"));
        return Err(fault
            .hint("`cargo xtask figures` draws them; without the option `figures/SCALE` is looked at")
            .into());
    }
    let studies: Vec<Study> = files.iter().map(|file| study(args, file)).collect::<Result<_>>()?;
    let page = page(&studies);
    write_output(&args.out, page.as_bytes()).map_err(Error::io(&args.out))?;
    say!("{}, {} kB: `{}`", count(studies.len(), "experiment"), page.len().div_ceil(1000), short(&args.out));
    Ok(ExitCode::SUCCESS)
}

fn study(args: &Args, file: &Path) -> Result<Study> {
    let Source { plan, all, runs, selection, foreign, unused } =
        read(file, &args.overrides, &args.place, &Choose::AsWritten, &[], Budget::Planned)?;
    let written = file.extension().is_none_or(|extension| extension != "json");
    let about = if written { about(&fs::read_to_string(file).map_err(Error::io(file))?) } else { String::new() };
    let home = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let home = home.ancestors().find(|folder| folder.join("experiments").is_dir()).map(Path::to_owned);
    let figures = args.figures.clone().or_else(|| Some(home?.join("figures").join(&plan.scale)));
    // A page says nothing of the folders of the machine that it was made on.
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let folder = std::path::absolute(file).ok().and_then(|path| Some(path.parent()?.ends_with("experiments")));
    let file = match written {
        true if folder == Some(false) => name.into_owned(),
        true => format!("experiments/{name}"),
        false => format!("experiments/{}.yaml", plan.experiment.split('.').next().unwrap_or_default()),
    };
    // Figures are of the experiment as written.
    let figures = figures.filter(|_| plan.overrides.is_empty());
    Ok(Study { plan, all, runs, selection, foreign, unused, about, file, figures }.named_shortly())
}

/// Every experiment that has a record at this scale, in the order of their names.
fn all(args: &Args) -> Result<Vec<PathBuf>> {
    let here = std::env::current_dir().unwrap_or_default();
    let home = here.ancestors().map(|folder| folder.join("experiments")).find(|folder| folder.is_dir());
    let entries = home.as_deref().map(fs::read_dir).and_then(std::result::Result::ok).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let request = args.overrides.request(&file);
        let store = Store::open(folder(&request, &args.place))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // A plan of another scale; one that is damaged says nothing of that.
        let other = store.read_plan(&name).is_ok_and(|plan| plan.is_none_or(|plan| plan.scale != request.scale()));
        if other {
            continue;
        }
        let plan = asked(&request, args.place.data_dir.as_deref(), &store, true)?.plan;
        if plan.runs.iter().any(|run| matches!(store.record_of(run), Ok(Some(_)))) {
            found.push(file);
        }
    }
    if found.is_empty() {
        let scale = args.overrides.scale.as_deref().unwrap_or(DEFAULT_SCALE);
        let fault =
            Fault::new(Place::Option("np report".into()), format!("no experiment has records at scale `{scale}`"));
        return Err(fault.hint("name the experiments, or another `--scale`; `np run FILE` trains").into());
    }
    Ok(found)
}

/// The comment at the head of an experiment file, its paragraphs apart by an empty line.
fn about(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().take_while(|line| line.starts_with('#'));
    let mut paragraphs = vec![String::new()];
    for line in lines.map(|line| line.trim_start_matches('#').trim()) {
        match (line.is_empty(), paragraphs.last_mut()) {
            (true, _) => paragraphs.push(String::new()),
            (false, Some(last)) if last.is_empty() => last.push_str(line),
            (false, Some(last)) => {
                last.push(' ');
                last.push_str(line);
            }
            (false, None) => {}
        }
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    paragraphs.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_file_is_what_it_says_about_itself() {
        let text = "# One: a question?\n#\n# It is\n#  long.\n#\n#\n# Cost: none.\nname: x\n# not this\n";
        assert_eq!(about(text), "One: a question?\n\nIt is long.\n\nCost: none.");
        assert_eq!(about("name: x\n"), "");
        assert_eq!(about(&format!("\u{feff}{text}")), about(text), "with a byte order mark");
    }
}
