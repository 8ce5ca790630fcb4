//! `np pack` and `np unpack`: the records of a plan in one compressed file, and back.

use std::{path::PathBuf, process::ExitCode};

use clap::Args as ClapArgs;
use np_record::{Packed, Store};

use super::short;
use crate::{
    error::{Error, Fault, Place, Result},
    say::{count, say},
    spec::{Request, default_store},
};

/// Put a plan and its records into one compressed file, and remove the loose files once it has been read back
///
/// Every command reads packed records as it reads loose ones, and a packed run is done. Runs that are not done stay loose, and so does what is trained
/// later, until it is packed again. Stores with packs merge by copying their files.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  np pack experiments/fig2-sanity.yaml --scale cpu
  np pack --store experiments/records/cpu")]
pub(super) struct Args {
    #[command(flatten)]
    what: What,
}

/// Bring packed records back as loose files
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  np unpack experiments/fig2-sanity.yaml --scale cpu
  np unpack --store experiments/records/cpu")]
pub(super) struct UnpackArgs {
    #[command(flatten)]
    what: What,
}

/// Which plans.
#[derive(Debug, ClapArgs)]
struct What {
    /// Experiments, or plans in a store (`STORE/plans/NAME.json`) [default: every plan of the store that is named]
    #[arg(value_name = "FILE|PLAN")]
    files: Vec<PathBuf>,
    /// The scale of the experiments [default: quick]
    #[arg(long, value_name = "NAME")]
    scale: Option<String>,
    /// Folder of plans and records [default: `experiments/records/SCALE` above the file, else `records/SCALE` beside it]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

impl What {
    /// The plans with their stores, each with what a message calls it.
    fn plans(&self) -> Result<Vec<(Store, String, Place)>> {
        if self.files.is_empty() {
            let Some(folder) = &self.store else {
                let fault =
                    Fault::new(Place::Option("np pack".into()), "expected an experiment or a store, got neither");
                return Err(fault.hint("name experiments, or a store with `--store DIR`").into());
            };
            if let Some(scale) = &self.scale {
                let place = Place::Option(format!("--scale {scale}"));
                let fault = Fault::new(place, "there is no experiment that it is about");
                return Err(fault.hint("name the experiment as well, or leave the option out").into());
            }
            let store = Store::open(folder)?;
            let names = store.plans()?;
            if names.is_empty() {
                let fault = Fault::new(Place::File(folder.clone(), None), "a store without plans");
                return Err(fault.hint("`np run` of an experiment writes its plan").into());
            }
            let whole = |name| (store.clone(), name, Place::File(folder.clone(), None));
            return Ok(names.into_iter().map(whole).collect());
        }
        let mut plans = Vec::new();
        for file in &self.files {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let is_plan = file.extension().is_some_and(|extension| extension == "json");
            let scale = Request { scale: self.scale.clone(), ..Request::default() };
            let folder = match (&self.store, is_plan) {
                (Some(folder), _) => folder.clone(),
                (None, false) => default_store(file, scale.scale()),
                (None, true) => {
                    let absolute = std::path::absolute(file).map_err(Error::io(file))?;
                    absolute.ancestors().nth(2).map(PathBuf::from).unwrap_or_default()
                }
            };
            plans.push((Store::open(folder)?, name, Place::File(file.clone(), None)));
        }
        Ok(plans)
    }
}

fn no_plan(store: &Store, place: Place) -> Error {
    let fault = Fault::new(place, format!("`{}` has no plan of it", short(store.root())));
    fault.hint("`np run` writes it; `--scale` or `--store` names another folder").into()
}

pub(super) fn pack(args: &Args) -> Result<ExitCode> {
    for (store, name, place) in args.what.plans()? {
        let Some(packed) = store.pack(&name)? else { return Err(no_plan(&store, place)) };
        let Packed { path, files, loose_bytes, packed_bytes, moved, left } = packed;
        let (path, loose, packed) = (short(&path.unwrap_or_default()), kilobytes(loose_bytes), kilobytes(packed_bytes));
        let left = if left > 0 { format!("; {} not done, and not packed", count(left, "run")) } else { String::new() };
        say!(
            "{name}: {}, {loose} in {packed}: `{path}`; {} removed{left}",
            count(files, "file"),
            count(moved, "loose file")
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn unpack(args: &UnpackArgs) -> Result<ExitCode> {
    for (store, name, place) in args.what.plans()? {
        if store.read_plan(&name)?.is_none() {
            return Err(no_plan(&store, place));
        }
        let Packed { path, moved, .. } = store.unpack(&name)?;
        match path {
            Some(path) => say!("{name}: {} written; removed `{}`", count(moved, "loose file"), short(&path)),
            None => say!("{name}: nothing of it is packed"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn kilobytes(bytes: u64) -> String {
    format!("{} kB", bytes.div_ceil(1000))
}
