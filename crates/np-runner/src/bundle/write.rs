//! Making a folder to take along: under another name first, so that it is there in full or not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use np_record::{Plan, Store, write_atomic, write_program};

use super::{
    DATA, EXPERIMENTS, MANIFEST, Manifest, VERSION, bytes_in_words,
    data::{self, Form, IMPORTS, OwnFile, Set},
    kept,
    program::{self, Program},
};
use crate::{
    Planned, asked,
    bytes::bytes_of,
    error::{Error, Fault, Place, Result},
    gpu,
    lock::Lock,
    missing,
    say::count,
    spec::{Request, default_store},
};

/// Whether runs that are under way go along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Snapshots {
    /// They do, and go on there.
    Taken,
    /// They begin anew there.
    Left,
}

/// What is wanted of a folder.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    /// The experiments, in the order in which they are trained, each with its store.
    pub(crate) experiments: Vec<(Request, Store)>,
    /// Where data is.
    pub(crate) data_dir: Option<&'a Path>,
    /// The folder that is to be made.
    pub(crate) out: &'a Path,
    /// Another program than this one.
    pub(crate) program: Option<&'a Path>,
    /// How long to train there, if nothing else is said.
    pub(crate) minutes: Option<f64>,
    /// Bytes that data and snapshots may have.
    pub(crate) limit: u64,
    pub(crate) snapshots: Snapshots,
}

/// An experiment on its way.
struct Taken<'a> {
    request: &'a Request,
    store: &'a Store,
    planned: Planned,
    open: Vec<String>,
}

/// Makes the folder; what there is to say of it, a line each.
///
/// # Errors
/// A fault if the order cannot be met, before anything is there: unknown files, data that is not at hand, more of it than is wanted. What the system says.
pub(crate) fn bundle(order: &Order<'_>) -> Result<Vec<String>> {
    let out = std::path::absolute(order.out).map_err(Error::io(order.out))?;
    check_free(order, &out)?;
    let (parent, name) = (out.parent().unwrap_or(Path::new("/")), out.file_name().unwrap_or_default());
    let mut lines = Vec::new();
    let before = open(order, order.data_dir, &mut Vec::new())?;
    let (sets, unsure) = sets(order, &before)?;
    let own: BTreeSet<OwnFile> = own_files(order, &before)?;
    check_size(order, &sets, &own, &Kept::new())?;

    fs::create_dir_all(parent).map_err(Error::io(parent))?;
    let prefix = format!(".{}.", name.to_string_lossy().chars().take(64).collect::<String>());
    let work = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).map_err(Error::io(parent))?;
    let folder = work.path();
    sets.iter().try_for_each(|set| set.bring(folder))?;
    own.iter().try_for_each(|file| file.bring(folder))?;
    // Once more, of the data that goes along: this is what the program there will see, and only now the ids of runs on imported data are known.
    let data_dir = folder.join(DATA);
    let taken = open(order, data_dir.is_dir().then_some(data_dir.as_path()), &mut lines)?;
    for Taken { request, planned, .. } in &taken {
        if let Some(fault) = planned.unread.clone() {
            return Err(fault.into());
        }
        // Of a set that is there in two forms, the one that goes along may be another set: what is known here would count for nothing there.
        let same = |one: &&Taken<'_>| one.planned.plan.experiment == planned.plan.experiment;
        let here = before.iter().find(same).filter(|one| one.planned.unread.is_none());
        if here.is_some_and(|one| !one.planned.plan.agrees_with(&planned.plan)) {
            let place = Place::File(request.file.clone(), None);
            let fault = Fault::new(place, "the parquet files beside its data are another set, and make other runs");
            return Err(fault.hint("take one of the two out of the set's folder").into());
        }
        lines.extend(planned.foreign.iter().map(|remark| format!("warning: {remark}")));
    }
    let snapshots = snapshots(order, &taken, &mut lines);
    check_size(order, &sets, &own, &snapshots)?;
    lines.extend(own.iter().map(|file| format!("data `{}`: {}", file.inside.display(), bytes_in_words(file.bytes))));
    for set in &sets {
        set.leave(folder)?;
        let how = if set.form == Form::Parquet { ", as parquet files, of which they are made there" } else { "" };
        lines.push(format!("data `{}`: {}{how}", set.name, bytes_in_words(set.bytes)));
    }
    for one in &taken {
        lines.push(put(one, folder)?);
    }
    for (id, (scale, bytes)) in snapshots {
        let to = folder.join(EXPERIMENTS).join("records").join(scale).join("snapshots").join(format!("{id}.snapshot"));
        write_atomic(&to, &bytes).map_err(Error::io(&to))?;
    }
    let Program { compressed, size, machine, source, on_gpus } = program::carried(order.program, folder)?;
    let wanting = taken.iter().flat_map(|one| &one.planned.plan.runs).filter(|run| gpu::wants(run)).count();
    if wanting > 0 && on_gpus == Some(false) {
        let place =
            Place::Option(order.program.map_or("np bundle".into(), |path| format!("--program {}", path.display())));
        let problem = format!(
            "{} a GPU, and this `np` was built without the feature `cuda`",
            if wanting == 1 { "1 run wants".into() } else { format!("{wanting} runs want") }
        );
        let hint =
            "build one with `--features cuda`, and name it by `--program`; or train on the CPU there: `--device cpu`";
        return Err(Fault::new(place, problem).hint(hint).into());
    }
    lines.push(format!(
        "program: {}, {} compressed, for {machine}",
        bytes_in_words(size),
        bytes_in_words(compressed.len() as u64)
    ));
    if source.is_none() {
        lines.push("note: records will name no commit: the program was not built from the code in this one's source tree as that is now".into());
    }
    lines.extend(unsure);
    let manifest = Manifest {
        bundle: VERSION,
        made_with: env!("CARGO_PKG_VERSION").into(),
        minutes: order.minutes,
        experiments: taken.iter().map(|one| words(one.request)).collect(),
        imports: sets.iter().filter(|set| set.form == Form::Parquet).map(|set| set.name).collect(),
        source,
    };
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| Error::io(MANIFEST)(error.into()))?;
    let file = |name: &str| folder.join(name);
    write_atomic(&file("np.gz"), &compressed).map_err(Error::io("np.gz"))?;
    write_atomic(&file(MANIFEST), format!("{text}\n").as_bytes()).map_err(Error::io(MANIFEST))?;
    write_program(&file("run.sh"), include_bytes!("run.sh")).map_err(Error::io("run.sh"))?;
    readable(folder).map_err(Error::io(folder))?;
    lines.push(format!("in all: {}", bytes_in_words(size_of(folder))));
    // An empty folder may have been made for it.
    let _ = fs::remove_dir(&out);
    fs::rename(folder, &out).map_err(Error::io(&out))?;
    // It has another name now.
    drop(work.keep());
    Ok(lines)
}

/// Refuses to mix a folder with what is there, and two experiments with each other.
fn check_free(order: &Order<'_>, out: &Path) -> Result<()> {
    let place = || Place::Option(format!("--out {}", order.out.display()));
    let is_empty = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    if fs::symlink_metadata(out).is_ok() && !is_empty {
        let fault = Fault::new(place(), "something is there already");
        return Err(fault.hint("name a folder that is not there yet, or remove it").into());
    }
    let mut names = BTreeSet::new();
    for (request, _) in &order.experiments {
        if !names.insert(request.file.file_stem()) {
            let fault = Fault::new(Place::File(request.file.clone(), None), "another experiment has this name");
            return Err(fault.hint("name each experiment once; two of one name go into two folders").into());
        }
    }
    Ok(())
}

/// The experiments that have something to train.
fn open<'a>(order: &'a Order<'_>, data_dir: Option<&Path>, lines: &mut Vec<String>) -> Result<Vec<Taken<'a>>> {
    let mut taken = Vec::new();
    for (request, store) in &order.experiments {
        let planned = asked(request, data_dir, store, true)?;
        let todo = missing(&planned.plan, store);
        if todo.is_empty() {
            lines.push(format!("left out: `{}`, every run has its record", planned.plan.experiment));
            continue;
        }
        let open = todo.into_iter().map(|index| planned.plan.runs[index].id.clone()).collect();
        taken.push(Taken { request, store, planned, open });
    }
    if taken.is_empty() {
        let place = Place::Option(format!("--out {}", order.out.display()));
        return Err(Fault::new(place, "nothing to take along: every run has its record").into());
    }
    Ok(taken)
}

/// The data sets that they need, and what cannot be told of the program's use of them.
fn sets(order: &Order<'_>, taken: &[Taken<'_>]) -> Result<(Vec<Set>, Option<String>)> {
    let theirs = order.program.map(program::imports);
    // One that cannot be started here is taken at its word; its own check is before its first run.
    let imports = IMPORTS && theirs != Some(Some(false));
    let names: BTreeSet<_> = taken.iter().flat_map(|one| data::needed(&one.planned.plan)).collect();
    let sets = names.into_iter().map(|name| data::find(name, order.data_dir, imports)).collect::<Result<Vec<_>>>()?;
    let unsure = (theirs == Some(None)).then(|| {
        let word = if sets.iter().any(|set| set.form == Form::Parquet) { ", nor whether it has the feature `hub`, which the data needs" } else { "" };
        format!("note: that program cannot be started here: whether it makes the same plans is not known before it is there{word}")
    });
    Ok((sets, unsure))
}

/// The files in the data folder that the program's own tasks read.
fn own_files(order: &Order<'_>, taken: &[Taken<'_>]) -> Result<BTreeSet<OwnFile>> {
    let files = taken.iter().map(|one| data::own_files(&one.planned.plan, order.data_dir));
    Ok(files.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Snapshots by the runs' ids, each with its scale.
type Kept<'a> = BTreeMap<String, (&'a str, Vec<u8>)>;

/// The snapshots of the runs that are under way.
fn snapshots<'a>(order: &Order<'_>, taken: &'a [Taken<'_>], lines: &mut Vec<String>) -> Kept<'a> {
    let (mut found, mut busy) = (BTreeMap::new(), 0);
    for Taken { store, open, planned, .. } in taken {
        for id in open {
            busy += usize::from(matches!(Lock::is_held(store, id), Ok(true)));
            if order.snapshots == Snapshots::Taken
                && let Some(kept) = kept::latest(store, id)
            {
                found.insert(id.clone(), (planned.plan.scale.as_str(), kept.bytes));
            }
        }
    }
    if busy > 0 {
        lines.push(format!("note: {} of it being trained here just now", count(busy, "run")));
    }
    if !found.is_empty() {
        let bytes = found.values().map(|(_, bytes)| bytes.len() as u64).sum();
        lines.push(format!("{} under way, {}", count(found.len(), "run"), bytes_in_words(bytes)));
    }
    found
}

/// Refuses more than is wanted, and says what takes how much.
fn check_size(order: &Order<'_>, sets: &[Set], own: &BTreeSet<OwnFile>, snapshots: &Kept<'_>) -> Result<()> {
    let kept: u64 = snapshots.values().map(|(_, bytes)| bytes.len() as u64).sum();
    let files = own.iter().map(|file| file.bytes).sum::<u64>();
    let all = kept + files + sets.iter().map(|set| set.bytes).sum::<u64>();
    if all <= order.limit {
        return Ok(());
    }
    let mut parts: Vec<String> =
        sets.iter().map(|set| format!("`{}` {}", set.name, bytes_in_words(set.bytes))).collect();
    let mut hint = "take fewer experiments, or allow more with `--limit MIB`".to_owned();
    parts.extend(own.iter().map(|file| format!("`{}` {}", file.inside.display(), bytes_in_words(file.bytes))));
    if kept > 0 {
        parts.push(format!("snapshots of {} {}", count(snapshots.len(), "run"), bytes_in_words(kept)));
        hint += "; `--no-snapshots` leaves runs that are under way to begin anew";
    }
    let expanded = |set: &Set| set.name == np_data::DataName::Cifar10 && set.form == Form::Files;
    if sets.iter().any(expanded) {
        hint += "; the Hub's parquet files of `cifar10` are smaller: put them into its folder, and build with `--features hub`";
    }
    let text = format!(
        "data and snapshots take {}, more than {}: {}",
        bytes_in_words(all),
        bytes_in_words(order.limit),
        parts.join(", ")
    );
    Err(Fault::new(Place::Option(format!("--out {}", order.out.display())), text).hint(hint).into())
}

/// Puts an experiment into the folder: its file, its plan, and the records that there are.
fn put(one: &Taken<'_>, folder: &Path) -> Result<String> {
    let Taken { request, store, planned, open } = one;
    let plan: &Plan = &planned.plan;
    let file = folder.join(EXPERIMENTS).join(request.file.file_name().unwrap_or_default());
    write_atomic(&file, &bytes_of(&request.file)?).map_err(Error::io(&file))?;
    let there = Store::open(default_store(&file, &plan.scale))?;
    there.write_plan(plan)?;
    let open: BTreeSet<&String> = open.iter().collect();
    let mut seen = BTreeSet::new();
    for run in plan.runs.iter().filter(|run| seen.insert(&run.id) && !open.contains(&run.id)) {
        if let Some(bytes) = store.give_done(run)? {
            there.take_record(store.root(), &run.id, &bytes)?;
        }
    }
    there.pack(&plan.experiment)?;
    Ok(format!("{} ({}): {} of {} to train", plan.experiment, plan.scale, open.len(), count(seen.len(), "run")))
}

/// What `np run` is given for an experiment, there.
fn words(request: &Request) -> Vec<String> {
    let file = Path::new(EXPERIMENTS).join(request.file.file_name().unwrap_or_default());
    let mut words = vec![file.to_string_lossy().into_owned(), "--scale".into(), request.scale().into()];
    let mut option = |name: &str, values: &[String]| {
        words.extend(values.iter().flat_map(|value| [name.to_owned(), value.clone()]));
    };
    option("--set", &request.set);
    option("--sweep", &request.sweep);
    option("--arm", &request.arms);
    option("--seeds", request.seeds.as_slice());
    words
}

/// A temporary folder is its owner's alone: this one is for all that the mask lets in.
fn readable(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // Made as any folder is, to see what the mask leaves.
        let probe = folder.join(".probe");
        fs::create_dir(&probe)?;
        let mode = fs::metadata(&probe)?.permissions().mode();
        fs::remove_dir(&probe)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size =
        |path: PathBuf| if path.is_dir() { size_of(&path) } else { fs::metadata(&path).map_or(0, |about| about.len()) };
    entries.map(|entry| size(entry.path())).sum()
}
