//! Folders to take along to a machine that is lent for a while, and what comes back from there.
//!
//! [`mod@write`] makes the folder: program, plans, data, what the store knows of their runs, and `run.sh`. There, [`there`] readies the data, and packs
//! what was trained into one archive of np-record's; training itself is `np run`'s, with its plans, locks and snapshots. [`collect()`] brings archives home into a store.
//!
//! ```text
//! FOLDER/run.sh, np.gz, bundle.json
//! FOLDER/experiments/NAME.yaml
//! FOLDER/experiments/records/SCALE/packs/…, snapshots/…   what is known already
//! FOLDER/data/SET/…                                       as in the data folder
//! FOLDER/parquet/SET/…                                    what an import makes a set of, there
//! ```

mod collect;
mod data;
mod kept;
mod program;
mod there;
mod write;

use std::path::Path;

use np_data::DataName;
use np_record::read_regular;
use serde::{Deserialize, Serialize};

pub(crate) use collect::plans as plans_in;
pub use collect::{Collection, collect};
pub(crate) use there::{Packed, checked, pack, ready};
pub(crate) use write::{Order, Snapshots, bundle};

use crate::{
    error::{Error, Fault, Place, Result},
    provenance::BuiltFrom,
};

/// Version of the folder's layout.
const VERSION: u32 = 1;

/// Names in a folder.
const MANIFEST: &str = "bundle.json";
pub(crate) const DATA: &str = "data";
const PARQUET: &str = "parquet";
const EXPERIMENTS: &str = "experiments";

/// What a folder says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// The version of its layout.
    bundle: u32,
    /// The version of the `np` that made it.
    made_with: String,
    /// How long to train, in minutes, if nothing else is said there.
    pub(crate) minutes: Option<f64>,
    /// For each experiment, in their order, what `np run` is given, the file first.
    pub(crate) experiments: Vec<Vec<String>>,
    /// Sets that are to be made of parquet files.
    imports: Vec<DataName>,
    /// What the program was built from, for the records; none where its tree is not at hand, or has other code by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<BuiltFrom>,
}

impl Manifest {
    /// That of the folder.
    ///
    /// # Errors
    /// A fault if it is no such folder.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let fault = |what: String| {
            let fault = Fault::new(Place::File(path.clone(), None), what);
            Error::from(fault.hint("`np bundle` makes such a folder, and `run.sh` there is how to use it"))
        };
        let bytes = match read_regular(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(fault("it is no regular file".into())),
            Err(error) => return Err(fault(error.to_string())),
        };
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))?;
        match manifest.bundle {
            VERSION => Ok(manifest),
            other => Err(fault(format!("expected a folder of version {VERSION}, got {other}"))),
        }
    }
}

/// A number of bytes as people read it.
pub(crate) fn bytes_in_words(bytes: u64) -> String {
    match bytes {
        0..100_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}
