//! Draws the embedded mini data sets from the full ones and writes them to `mini/` in this crate.
//!
//! `cargo run -p neuroplastic-data --example make_mini -- DATA_DIR`, where `DATA_DIR` contains `mnist/` and `fashion-mnist/`. The same seed
//! gives the same examples in the same order. It prints the digests for `src/digest.rs`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use flate2::{Compression, GzBuilder};
use np_data::{DataName, DataSet, Error, Source, Split, balanced_subset, idx};

const SEED: u64 = 2026;
const TRAIN_PER_CLASS: usize = 200;
const TEST_PER_CLASS: usize = 100;

fn main() -> ExitCode {
    let Some(data_dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: make_mini DATA_DIR");
        return ExitCode::from(2);
    };
    match make(&data_dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(data_dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("mini");
    for name in DataName::ALL.into_iter().filter(|name| name.has(Source::Mini)) {
        let full = DataSet::load(name, Source::Full, Some(data_dir))?;
        if !full.is_official() {
            return Err(format!("`{name}`: expected the official set, found digest `{}`", full.digest).into());
        }
        let folder = mini.join(name.as_str());
        fs::create_dir_all(&folder)?;
        write(&folder, "train", &draw(&full.train, TRAIN_PER_CLASS)?)?;
        write(&folder, "t10k", &draw(&full.test, TEST_PER_CLASS)?)?;
        // The folder has the layout of a full one, so it can be read back as one.
        let made = DataSet::load(name, Source::Full, Some(&mini))?;
        writeln!(io::stdout(), "{name} {}", made.digest)?;
    }
    Ok(())
}

/// The drawn examples, as a split of their own, in the shuffled order in which they were drawn.
fn draw(split: &Split, per_class: usize) -> Result<Split, Error> {
    let drawn = balanced_subset(&split.labels, per_class, SEED)?;
    let images = drawn.iter().filter_map(|&i| split.image(i as usize)).flatten().copied().collect();
    let labels = drawn.iter().map(|&i| split.labels[i as usize]).collect();
    Ok(Split { images, labels, shape: split.shape })
}

fn write(folder: &Path, part: &str, split: &Split) -> io::Result<()> {
    let [_, height, width] = split.shape;
    let images = idx::encode(&[split.len(), height, width], &split.images);
    let labels = idx::encode(&[split.len()], &split.labels);
    for (file, bytes) in [("images-idx3", images), ("labels-idx1", labels)] {
        let path = folder.join(format!("{part}-{file}-ubyte.gz"));
        let mut gzip = GzBuilder::new().mtime(0).write(File::create(path)?, Compression::best());
        gzip.write_all(&bytes)?;
        gzip.finish()?;
    }
    Ok(())
}
