//! Tens of thousands of damaged IDX files, from one seed: the parser may refuse them, it may not panic, and what it accepts
//! keeps its promise.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use np_data::idx::{self, Kind};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

fn pick(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    (rng.next_u64() % bound.max(1) as u64) as usize
}

/// One to four of: a bit flipped, a byte replaced by a telling one, a cut, a copy of a piece appended.
fn damage(bytes: &mut Vec<u8>, reach: usize, rng: &mut ChaCha8Rng) {
    for _ in 0..1 + pick(rng, 4) {
        let at = pick(rng, bytes.len().min(reach));
        match (pick(rng, 8), bytes.get_mut(at)) {
            (0..=2, Some(byte)) => *byte ^= 1 << pick(rng, 8),
            (3..=5, Some(byte)) => *byte = [0, 1, 3, 8, 0x1f, 0x7f, 0x8b, 0xff][pick(rng, 8)],
            (6, _) => bytes.truncate(at),
            _ => bytes.extend_from_within(at..),
        }
    }
}

fn check(bytes: &[u8]) -> usize {
    let accepted = [Kind::Images, Kind::Labels].into_iter().filter_map(|kind| {
        let idx = idx::decode(bytes, Path::new("fuzz"), kind).ok()?;
        assert_eq!(idx.dims.len(), usize::from(kind.rank()));
        assert_eq!(idx.dims.iter().product::<usize>(), idx.data.len());
        Some(())
    });
    accepted.count()
}

#[test]
fn damaged_files_never_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let bases = [idx::encode(&[3, 4, 4], &[9; 48]), idx::encode(&[5], &[1, 2, 3, 4, 5])];
    let mut accepted = 0;
    for round in 0..40_000 {
        let mut bytes = bases[round % bases.len()].clone();
        damage(&mut bytes, 20, &mut rng); // most of it in the header
        accepted += check(&bytes);
    }
    // some damage falls on pixels only: had nothing been accepted, the loop would test nothing but the first check
    assert!((100..40_000).contains(&accepted), "{accepted}");
}

#[test]
fn damaged_gzip_never_panics() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let base = idx::encode(&[3, 4, 4], &(0..48).collect::<Vec<u8>>());
    for _ in 0..4_000 {
        // damage inside of a sound stream, then damage to the stream itself
        let mut bytes = base.clone();
        damage(&mut bytes, 20, &mut rng);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&bytes).unwrap();
        let mut stream = encoder.finish().unwrap();
        check(&stream);
        damage(&mut stream, usize::MAX, &mut rng);
        check(&stream);
    }
}
