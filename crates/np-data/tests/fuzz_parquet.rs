//! Damaged parquet files, and damaged images inside of sound ones: refused, with no panic and with no more memory than they account for.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used)] // the helpers, too, are tests

mod hub_files;

use std::fs;
use std::path::Path;

use hub_files::{parquet, pngs};
use np_data::hub::import;
use np_data::{DataName, Error};
use np_fuzz::{Meter, Rng, Target, damage, memory_folder};

#[global_allocator]
static METER: Meter = Meter;

#[test]
fn damaged_parquet_files() {
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let path = dir.path().join("train.parquet");
    let rows = pngs(5);
    let sound = parquet(&rows);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/parquet");
    // An image may take a megabyte to decode; a page is packed with snappy, at most 21 to 1, and read a few times over.
    let target = Target { name: "parquet", corpus: &corpus, inputs: 400, percent: 5, base: 1 << 20, per_byte: 200 };
    // The largest 32-bit number as headers of pages and the footer write it, in place of another number.
    let largest = [0xfe, 0xff, 0xff, 0xff, 0x0f];
    let make = |rng: &mut Rng| match rng.below(5) {
        0 => {
            let mut rows = rows.clone();
            damage(&mut rows[2].0, usize::MAX, &["IHDR", "IDAT", "iCCP", "PLTE", "\u{ff}"], rng);
            parquet(&rows)
        }
        1 => {
            let mut bytes = sound.clone();
            damage(&mut bytes, usize::MAX, &[], rng);
            bytes
        }
        2 => {
            let mut bytes = sound.clone();
            let at = rng.below(bytes.len());
            // Where it is longer than what it replaces, the rest moves, as in a file of its own.
            bytes.splice(at..at + 1 + rng.below(3).min(bytes.len() - at - 1), largest);
            bytes
        }
        _ => {
            // The footer, where sizes and offsets are: damaged from its end.
            let mut bytes: Vec<u8> = sound.iter().rev().copied().collect();
            damage(&mut bytes, 600, &[], rng);
            bytes.reverse();
            bytes
        }
    };
    let (inputs, good) = target.run(make, |bytes| {
        fs::write(&path, bytes).unwrap();
        // The training file is read first: that it was accepted shows in the complaint about the other, which is not there.
        let error = import(DataName::Cifar10, dir.path(), &dir.path().join("data")).unwrap_err();
        matches!(error, Error::MissingFile { .. })
    });
    assert!(good > 0 && good < inputs, "{good}");
}
