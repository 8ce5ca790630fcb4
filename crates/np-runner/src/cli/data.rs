//! `np data`: the data sets that an experiment can name, where they are, whether they are whole, and how they come from the Hub.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};
use np_data::{DataName, DataSet, Error as DataError, Identity, Source, folder_of, known_digest, sets_right_in};

use super::{print, short};
use crate::{
    error::{Fault, Place, Result, list as listed, told},
    say::{count, say},
    table::table,
};

/// List, check, fetch or import data sets
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show every data set: from where it comes, how many examples it has, and its digest
    List(Folder),
    /// Read every data set that is there, and compare its digest; exit code 1 if one is damaged, nobody can tell, or the folder has none, 2 if it is not there
    Verify(Folder),
    /// Fetch a data set from the Hub, or from its cache, into the data folder, and check it
    Fetch {
        /// `mnist`, `fashion-mnist` or `cifar10`
        name: DataName,
        /// A commit, a branch or a tag of the Hub's repository; by default the commit that is known to hold the set
        #[arg(long, value_name = "REVISION")]
        revision: Option<String>,
        #[command(flatten)]
        folder: Folder,
    },
    /// Make a data set of the Hub's parquet files, in the data folder
    #[cfg(feature = "hub")]
    Import {
        /// Folder with `train*.parquet` and `test*.parquet`
        from: PathBuf,
        /// Which data set it is
        #[arg(long, default_value_t = DataName::Cifar10)]
        name: DataName,
        #[command(flatten)]
        folder: Folder,
    },
}

#[derive(Debug, ClapArgs)]
struct Folder {
    /// Folder of the published data files: `DIR/mnist/train-images-idx3-ubyte.gz`, …
    #[arg(long, value_name = "DIR", env = np_data::DATA_DIR_ENV)]
    data_dir: Option<PathBuf>,
}

/// What became of looking for a data set.
enum Found {
    Whole(Box<DataSet>),
    /// It has the numbers of examples, and a digest that is not known here: nobody can tell whether they are the published ones.
    Unverified(Box<DataSet>),
    /// There is nothing under its name.
    Missing,
    /// Something is there, and it is not the data set; what is wrong, and what mends it.
    Damaged(String, Option<String>),
}

pub(super) fn data(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::List(folder) => list(folder.data_dir.as_deref()),
        Command::Verify(folder) => verify(folder.data_dir.as_deref()),
        Command::Fetch { name, revision, folder } => {
            let to = folder.data_dir.as_deref().ok_or(DataError::NoFolder { name: *name })?;
            fetch(*name, to, revision.clone())
        }
        #[cfg(feature = "hub")]
        Command::Import { from, name, folder } => {
            let to = folder.data_dir.as_deref().ok_or(DataError::NoFolder { name: *name })?;
            made(&np_data::hub::import(*name, from, to)?)
        }
    }
}

#[cfg(not(feature = "hub"))]
fn fetch(name: DataName, to: &Path, _: Option<String>) -> Result<ExitCode> {
    let place = Place::Option(format!("np data fetch {name}"));
    let to = crate::shell::quoted(&short(to));
    let command = format!("cargo run --bin np --features neuroplastic-runner/hub -- data fetch {name} --data-dir {to}");
    let hint = format!("build it with the network at every call, as `cargo np` builds it without: `{command}`");
    Err(Fault::new(place, "this `np` was built without the network").hint(hint).into())
}

#[cfg(feature = "hub")]
fn fetch(name: DataName, to: &Path, revision: Option<String>) -> Result<ExitCode> {
    use indicatif::{ProgressBar, ProgressStyle};
    use np_data::fetch::{ENDPOINT_ENV, Hub, Progress};

    // hf-hub would take an empty one for the folder that it is started in.
    let folders = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"];
    if let Some(empty) = folders.iter().find(|name| std::env::var_os(name).is_some_and(|value| value.is_empty())) {
        let fault =
            Fault::new(Place::Option((*empty).to_owned()), "expected the folder of the Hub's cache, found it empty");
        return Err(fault.hint(format!("unset `{empty}`, or let it name a folder")).into());
    }
    let mut hub = Hub { revision, ..Hub::default() };
    if let Some(endpoint) = std::env::var(ENDPOINT_ENV).ok().filter(|endpoint| !endpoint.is_empty()) {
        hub.endpoint = endpoint;
    }
    hub.token = std::env::var("HF_TOKEN").ok().filter(|token| !token.trim().is_empty());
    let style = ProgressStyle::with_template("{bar:24} {bytes}/{total_bytes} {msg} · {bytes_per_sec} · {eta} left");
    let bar = if crate::screen::can_draw() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut begun = String::new();
    let set = hub.fetch(name, to, &mut |progress| match progress {
        Progress::There => say!("{name}: there already"),
        Progress::Cached(path) => say!("{name}: from the Hub's cache, `{}`", path.display()),
        Progress::Bytes { file, size, here } => {
            if begun != file {
                file.clone_into(&mut begun);
                bar.suspend(|| say!("{file}: {size} bytes from {}, {here} of them here", hub.endpoint));
                bar.set_message(begun.clone());
                bar.set_length(size);
                bar.reset();
            }
            bar.set_position(here);
        }
        Progress::Again(why) => bar.suspend(|| say!("trying again: {}", why.lines().next().unwrap_or_default())),
        Progress::Importing => {
            bar.finish_and_clear();
            say!("converting");
        }
    });
    bar.finish_and_clear();
    made(&set?)
}

/// Says what is there now.
#[cfg(feature = "hub")]
fn made(set: &DataSet) -> Result<ExitCode> {
    let (train, test) = (set.train.len(), set.test.len());
    let verdict = if set.is_official() { ", as published" } else { "" };
    print(&format!("{}: {train} + {test} examples, digest {}{verdict}\n", set.title, set.digest))?;
    Ok(ExitCode::SUCCESS)
}

fn look(name: DataName, source: Source, data_dir: Option<&Path>) -> Found {
    match DataSet::load(name, source, data_dir) {
        Ok(set) => match known_digest(name, source) {
            Some(known) if known != set.digest => {
                let text = format!(
                    "`{name}`: expected the published set, digest `{known}`, found {} + {} examples, digest `{}`",
                    set.train.len(),
                    set.test.len(),
                    set.digest
                );
                Found::Damaged(text, None)
            }
            _ if set.identity == Identity::Custom => {
                let [train, test] = name.examples();
                let text = format!(
                    "`{name}`: expected {train} + {test} examples, found {} + {} examples, digest `{}`",
                    set.train.len(),
                    set.test.len(),
                    set.digest
                );
                Found::Damaged(text, None)
            }
            _ if set.identity == Identity::Unverified => Found::Unverified(Box::new(set)),
            _ => Found::Whole(Box::new(set)),
        },
        Err(DataError::NoFolder { .. } | DataError::MissingFolder { .. }) => Found::Missing,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Found::Damaged(format!("{error}{cause}"), error.hint())
        }
    }
}

/// Every set from every source that has it.
fn all() -> impl Iterator<Item = (DataName, Source)> {
    let pairs = DataName::ALL.into_iter().flat_map(|name| Source::ALL.map(|source| (name, source)));
    pairs.filter(|&(name, source)| name.has(source))
}

fn list(data_dir: Option<&Path>) -> Result<ExitCode> {
    let mut rows = Vec::new();
    for (name, source) in all() {
        let place = match (source, data_dir) {
            (Source::Mini, _) => "embedded".to_owned(),
            (Source::Full, Some(dir)) => folder_of(name, dir).display().to_string(),
            (Source::Full, None) => "no data folder".to_owned(),
        };
        let (examples, digest) = match look(name, source, data_dir) {
            Found::Whole(set) => (format!("{} + {}", set.train.len(), set.test.len()), set.digest[..16].to_owned()),
            Found::Unverified(set) => {
                (format!("{} + {}, unverified", set.train.len(), set.test.len()), set.digest[..16].to_owned())
            }
            Found::Missing => ("missing".to_owned(), String::new()),
            Found::Damaged(..) => ("damaged or incomplete".to_owned(), String::new()),
        };
        rows.push(vec![name.to_string(), source.to_string(), examples, digest, place]);
    }
    print(&table(&["data", "source", "examples", "digest", "where"], &[], &rows))?;
    if let Some((text, hint)) = data_dir.and_then(too_deep) {
        say!("note: {}", told(text, Some(hint)));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with a data folder that has a set's files right in it, as the set's own folder does, and how it should be named.
fn too_deep(dir: &Path) -> Option<(String, String)> {
    let sets = sets_right_in(dir);
    let (folder, names) = (dir.display(), listed(sets.iter().map(|name| name.as_str())));
    let above = std::path::absolute(dir).ok().and_then(|dir| dir.parent().map(Path::to_owned));
    let hint = match (&sets[..], above) {
        ([], _) => return None,
        ([name], Some(above)) if folder_of(*name, &above) == std::path::absolute(dir).unwrap_or_default() => {
            format!("name the folder above it: `--data-dir {}`", short(&above))
        }
        (many, _) => {
            let places = many.iter().map(|name| dir.join(name.as_str()).display().to_string());
            format!("move them into a folder of the set's name: {}", listed(places))
        }
    };
    Some((format!("files of {names} lie right in `{folder}`, and are not looked for there"), hint))
}

fn verify(data_dir: Option<&Path>) -> Result<ExitCode> {
    if let Some(dir) = data_dir.filter(|dir| !dir.is_dir()) {
        let found = if dir.exists() { "a file" } else { "nothing" };
        let problem = format!("expected a folder, found {found}");
        let hint = format!("name the folder that holds `mnist`, … by `--data-dir` or `{}`", np_data::DATA_DIR_ENV);
        return Err(Fault::new(Place::Option(dir.display().to_string()), problem).hint(hint).into());
    }
    let (mut damaged, mut unverified, mut missing, mut full) = (0, 0, 0, 0);
    for (name, source) in all() {
        full += usize::from(source == Source::Full);
        match look(name, source, data_dir) {
            Found::Whole(set) => {
                // The title says which form of a set it is: `CIFAR-10 (JPEG)`.
                print(&format!("{name} {source}: {}, as published ({})\n", set.title, set.digest))?;
            }
            Found::Unverified(set) => {
                unverified += 1;
                let verdict = "unverified: its digest is not a published one that is known here";
                print(&format!("{name} {source}: {verdict} ({})\n", set.digest))?;
            }
            Found::Missing => {
                missing += 1;
                print(&format!("{name} {source}: missing\n"))?;
            }
            Found::Damaged(what, hint) => {
                damaged += 1;
                print(&format!("{name} {source}: damaged\n"))?;
                say!("error: {}", told(what, hint));
            }
        }
    }
    for (n, what) in [(damaged, "damaged"), (unverified, "unverified")] {
        if n > 0 {
            say!("{} {what}", count(n, "data set"));
        }
    }
    let Some(dir) = data_dir.filter(|_| missing == full) else {
        return Ok(if damaged + unverified > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    };
    let none = format!("`{}`: none of the data sets is there", dir.display());
    let (text, hint) = match too_deep(dir) {
        Some((why, hint)) => (format!("{none}: {why}"), hint),
        None => {
            let layout = "the layout is `DIR/mnist/train-images-idx3-ubyte.gz`, …";
            (none, format!("{layout}; name `DIR` by `--data-dir` or `{}`", np_data::DATA_DIR_ENV))
        }
    };
    say!("error: {}", told(text, Some(hint)));
    Ok(ExitCode::FAILURE)
}
