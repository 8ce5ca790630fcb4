//! The embedded sets, and the full ones where `NP_DATA_DIR` names a folder that holds them.

use std::path::PathBuf;

use np_data::{DATA_DIR_ENV, DataName, DataSet, Source, Split, known_digest};

/// The sets of grey images, which are embedded.
const GREY: [DataName; 2] = [DataName::Mnist, DataName::FashionMnist];

fn class_counts(split: &Split) -> [usize; 10] {
    let mut counts = [0; 10];
    for &label in &split.labels {
        counts[usize::from(label)] += 1;
    }
    counts
}

/// Mean and standard deviation of all pixels, in units of the pixel range.
fn statistics(split: &Split) -> (f64, f64) {
    let n = split.images.len() as f64;
    let mean = split.images.iter().map(|&p| f64::from(p)).sum::<f64>() / n;
    let variance = split.images.iter().map(|&p| (f64::from(p) - mean).powi(2)).sum::<f64>() / n;
    (mean / 255.0, variance.sqrt() / 255.0)
}

/// The statistics of the full training sets, as they are quoted everywhere: mean, standard deviation.
fn published(name: DataName) -> (f64, f64) {
    match name {
        DataName::Mnist => (0.1307, 0.3081),
        DataName::FashionMnist => (0.2860, 0.3530),
        DataName::Cifar10 => unreachable!("not grey"),
    }
}

#[test]
fn the_mini_sets_are_balanced_official_and_plausible() {
    for name in GREY {
        let set = DataSet::load(name, Source::Mini, None).unwrap();
        assert_eq!(Some(set.digest.as_str()), known_digest(name, Source::Mini));
        assert_eq!(set.digest, DataSet::digest_of(name, Source::Mini, None).unwrap());
        assert!(set.is_official());
        assert_eq!((set.name, set.source, set.classes), (name, Source::Mini, 10));
        assert_eq!(class_counts(&set.train), [200; 10]);
        assert_eq!(class_counts(&set.test), [100; 10]);
        for split in [&set.train, &set.test] {
            assert_eq!(split.shape, [1, 28, 28]);
            assert_eq!(split.images.len(), split.len() * 28 * 28);
            // the mean grey of single images scatters by about 0.05 (MNIST) and 0.15 (Fashion-MNIST): 3 standard errors of the
            // mean of 1,000 images are 0.005 and 0.015
            let ((mean, std), (mean_full, std_full)) = (statistics(split), published(name));
            assert!((mean - mean_full).abs() < 0.015 && (std - std_full).abs() < 0.015, "{name}: {mean}, {std}");
            // shuffled: a sorted set would start with one class only
            let start: std::collections::HashSet<_> = split.labels[..50].iter().collect();
            assert!(start.len() > 5, "{start:?}");
        }
        let distinct: std::collections::HashSet<_> =
            [&set.train, &set.test].into_iter().flat_map(|split| split.images.chunks_exact(784)).collect();
        assert!(distinct.len() >= 2_990, "{}", distinct.len()); // the originals hold a few doubles
    }
}

#[test]
fn titles_say_what_a_figure_must_say() {
    let titles = DataName::ALL.map(|name| Source::ALL.map(|source| name.title(source)));
    assert_eq!(titles, [["MNIST (mini)", "MNIST"], ["Fashion-MNIST (mini)", "Fashion-MNIST"], ["CIFAR-10"; 2]]);
    assert_eq!(DataSet::load(DataName::Mnist, Source::Mini, None).unwrap().title, "MNIST (mini)");
}

#[test]
fn the_full_sets_are_official() {
    let Some(dir) = std::env::var_os(DATA_DIR_ENV).map(PathBuf::from) else { return };
    for name in GREY {
        if !dir.join(name.as_str()).is_dir() {
            continue;
        }
        let set = DataSet::load(name, Source::Full, Some(&dir)).unwrap();
        assert_eq!(Some(set.digest.as_str()), known_digest(name, Source::Full));
        assert!(set.is_official());
        assert_eq!((set.train.len(), set.test.len()), (60_000, 10_000));
        let ((mean, std), (mean_full, std_full)) = (statistics(&set.train), published(name));
        assert!((mean - mean_full).abs() < 1e-4 && (std - std_full).abs() < 1e-4, "{mean}, {std}"); // four digits quoted
    }
}
