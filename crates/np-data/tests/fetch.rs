//! Fetching, from a server on the loopback that speaks the Hub's protocol and behaves badly.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used)] // the helpers, too, are tests

mod hub_files;
#[path = "hub_files/server.rs"]
mod server;

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::Duration;

use hub_files::{grey, parquet, pngs};
use np_data::fetch::{FetchError, Hub, Progress};
use np_data::{DATA_DIR_ENV, DataName, DataSet, Error, Source};
use server::{Server, serve};

/// Fetches CIFAR-10; with what was heard of tries that ended early.
fn fetch(hub: &Hub, dir: &Path) -> (Result<DataSet, Error>, usize) {
    let mut again = 0;
    let result =
        hub.fetch(DataName::Cifar10, dir, &mut |progress| again += usize::from(matches!(progress, Progress::Again(_))));
    (result, again)
}

/// The error of a fetch that leaves nothing which looks whole.
fn refused(hub: &Hub, dir: &Path) -> String {
    let error = fetch(hub, dir).0.unwrap_err();
    assert!(matches!(error, Error::Fetch(_)), "{error}");
    assert!(!dir.join("cifar10").exists());
    assert!(DataSet::load(DataName::Cifar10, Source::Full, Some(dir)).is_err());
    error.to_string()
}

/// Names of the files in the folder of what is under way.
fn under_way(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join(".fetch/cifar10")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn a_set_comes_through_redirects_and_only_once() {
    let server = Server::cifar();
    let dir = tempfile::tempdir().unwrap();
    let mut heard = Vec::new();
    let set = server.hub().fetch(DataName::Cifar10, dir.path(), &mut |progress| {
        if let Progress::Bytes { file, size, here } = progress {
            heard.push((file.to_owned(), size, here));
        }
    });
    let set = set.unwrap();
    assert_eq!((set.train.len(), set.test.len()), (10, 2));
    assert_eq!(DataSet::load(DataName::Cifar10, Source::Full, Some(dir.path())).unwrap(), set);
    assert_eq!(
        heard.last().map(|(file, size, here)| (file.as_str(), size == here)),
        Some(("test-00000-of-00001.parquet", true))
    );
    assert!(!dir.path().join(".fetch").exists(), "nothing is left of the way");
    assert_eq!((server.ranges("train"), server.ranges("test")), (vec![None], vec![None]));

    let asked = server.behaviour.lock().unwrap().log.len();
    assert_eq!(fetch(&server.hub(), dir.path()).0.unwrap(), set);
    assert_eq!(server.behaviour.lock().unwrap().log.len(), asked, "it is there: nobody is asked");
}

#[test]
fn what_was_cut_off_goes_on_where_it_ended() {
    let server = Server::cifar();
    let size = parquet(&pngs(10)).len();
    let cut = size / 5;
    server.set(|how| how.cut = Some(cut));
    let dir = tempfile::tempdir().unwrap();
    let (set, again) = fetch(&server.hub(), dir.path());
    set.unwrap();
    // A fifth at a time, more often than there are tries: each has brought something.
    assert!(again >= 5, "{again}");
    let ranges = server.ranges("train");
    assert_eq!(ranges[..5], [None, Some(cut), Some(2 * cut), Some(3 * cut), Some(4 * cut)]);

    // And from one command to the next.
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub { tries: 1, ..server.hub() };
    let said = refused(&hub, dir.path());
    assert!(said.contains("hint: the same command goes on from what has arrived"), "{said}");
    let left = under_way(dir.path());
    assert!(left.len() == 1 && left[0].ends_with(".partial"), "{left:?}");
    server.set(|how| (how.cut, how.log) = (None, Vec::new()));
    fetch(&hub, dir.path()).0.unwrap();
    assert_eq!((server.ranges("train"), server.ranges("test")), (vec![Some(cut)], vec![None]));
}

#[test]
fn a_file_that_is_here_is_not_fetched_again() {
    let server = Server::cifar();
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub { tries: 1, ..server.hub() };
    // The first file comes, the second does not.
    server.set(|how| how.cut = Some(parquet(&pngs(10)).len() - 1));
    refused(&hub, dir.path());
    server.set(|how| (how.cut, how.log) = (None, Vec::new()));
    fetch(&hub, dir.path()).0.unwrap();
    assert_eq!(server.ranges("train").len() + server.ranges("test").len(), 2, "the last byte, and the other file");
}

#[test]
fn a_server_without_ranges_starts_again() {
    let server = Server::cifar();
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub { tries: 1, ..server.hub() };
    server.set(|how| how.cut = Some(1_000));
    refused(&hub, dir.path());
    server.set(|how| (how.cut, how.no_ranges) = (None, true));
    let (set, _) = fetch(&hub, dir.path());
    assert_eq!(set.unwrap().train.len(), 10);
    assert_eq!(server.ranges("train"), [None, Some(1_000)]);
}

#[test]
fn ranges_that_do_not_fit_start_again() {
    let server = Server::cifar();
    let dir = tempfile::tempdir().unwrap();
    server.set(|how| how.cut = Some(1_000));
    refused(&Hub { tries: 1, ..server.hub() }, dir.path());
    server.set(|how| (how.cut, how.wrong_ranges, how.log) = (None, true, Vec::new()));
    let (set, again) = fetch(&server.hub(), dir.path());
    assert!(set.is_ok() && again == 1, "{again}");
    assert_eq!(server.ranges("train"), [Some(1_000), None]);
}

#[test]
fn wrong_bytes_are_refused_and_not_kept() {
    let server = Server::cifar();
    server.set(|how| how.wrong_bytes = true);
    let dir = tempfile::tempdir().unwrap();
    let said = refused(&server.hub(), dir.path());
    assert!(said.contains("train-00000-of-00001.parquet`: expected ") && said.contains("with the SHA-256 `"), "{said}");
    assert!(said.contains("hint: none of it is kept"), "{said}");
    assert!(under_way(dir.path()).is_empty(), "{:?}", under_way(dir.path()));
    // Also where the beginning was right, and the rest is not.
    server.set(|how| (how.wrong_bytes, how.cut) = (false, Some(1_000)));
    refused(&Hub { tries: 1, ..server.hub() }, dir.path());
    server.set(|how| (how.wrong_bytes, how.cut) = (true, None));
    refused(&server.hub(), dir.path());
    assert!(under_way(dir.path()).is_empty());
    server.set(|how| how.wrong_bytes = false);
    fetch(&server.hub(), dir.path()).0.unwrap();
}

#[test]
fn a_refusal_is_final_and_a_bad_moment_is_not() {
    let server = Server::cifar();
    let dir = tempfile::tempdir().unwrap();
    server.set(|how| how.statuses = VecDeque::from([404]));
    let said = refused(&server.hub(), dir.path());
    assert!(said.contains("expected status 200 or 206, found 404\nhint: "), "{said}");
    server.set(|how| how.statuses = VecDeque::from([403]));
    assert!(refused(&server.hub(), dir.path()).contains("found 403"));
    assert_eq!(server.ranges("train").len(), 1, "asked once");

    server.set(|how| how.statuses = VecDeque::from([500; 10]));
    assert!(refused(&server.hub(), dir.path()).contains("found 500"));
    assert_eq!(server.ranges("train").len(), 4, "three tries more");

    server.set(|how| how.statuses = VecDeque::from([503, 429]));
    let (set, again) = fetch(&server.hub(), dir.path());
    assert!(set.is_ok() && again == 2, "{again}");
}

#[test]
fn silence_is_not_waited_for_without_end() {
    let server = Server::cifar();
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub { silence: Duration::from_millis(300), tries: 2, ..server.hub() };
    server.set(|how| how.silent = 1_000);
    let said = refused(&hub, dir.path());
    assert!(said.contains("timeout") && said.contains("hint: the same command goes on"), "{said}");
    server.set(|how| how.silent = 1);
    let (set, again) = fetch(&Hub { silence: Duration::from_secs(2), ..server.hub() }, dir.path());
    assert!(set.is_ok() && again == 1, "{again}");
}

#[test]
fn answers_that_make_no_sense_are_named() {
    let server = Server::cifar();
    let dir = tempfile::tempdir().unwrap();
    server.set(|how| how.etag = Some("0123456789abcdef0123456789abcdef01234567".into()));
    let said = refused(&server.hub(), dir.path());
    assert!(said.contains("expected a SHA-256 in the header `x-linked-etag`, found `\"0123456789"), "{said}");
    server.set(|how| (how.etag, how.size) = (None, Some(1 << 40)));
    let said = refused(&server.hub(), dir.path());
    assert!(said.contains("in the header `x-linked-size`, found `1099511627776`"), "{said}");
    // It says more than it has.
    server.set(|how| how.size = Some(1 << 20));
    let said = refused(&server.hub(), dir.path());
    assert!(said.contains("of 1048576 bytes`"), "{said}");
    let hub = Hub { endpoint: "http://127.0.0.1:1".into(), ..server.hub() };
    assert!(refused(&hub, dir.path()).contains("hint: the same command"), "nobody is there");
}

#[test]
fn what_is_in_the_place_already_stays() {
    let server = Server::cifar();
    let dir = tempfile::tempdir().unwrap();
    let mine = dir.path().join("cifar10/mine.txt");
    fs::create_dir(dir.path().join("cifar10")).unwrap();
    fs::write(&mine, "mine").unwrap();
    let error = fetch(&server.hub(), dir.path()).0.unwrap_err();
    assert!(matches!(error, Error::Fetch(FetchError::Occupied { .. })), "{error}");
    assert!(error.to_string().contains("hint: move it away"), "{error}");
    assert_eq!(fs::read(&mine).unwrap(), b"mine");
    assert!(server.behaviour.lock().unwrap().log.is_empty(), "nobody was asked");
    // An empty folder is no obstacle.
    fs::remove_file(mine).unwrap();
    fetch(&server.hub(), dir.path()).0.unwrap();
}

#[test]
fn two_at_once_are_one_too_many() {
    let server = Server::cifar();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(".fetch")).unwrap();
    let lock = fs::File::create(dir.path().join(".fetch/cifar10.lock")).unwrap();
    lock.lock().unwrap();
    assert!(refused(&server.hub(), dir.path()).contains("found another fetch of the set"));
    drop(lock);
    fetch(&server.hub(), dir.path()).0.unwrap();
}

/// Of MNIST the published digest is known: a repository that has other images is found out.
#[test]
fn another_set_under_the_name_is_refused() {
    let server = serve(parquet(&grey(&[7; 784 * 3], &[0, 1, 2])), parquet(&grey(&[8; 784], &[3])));
    let dir = tempfile::tempdir().unwrap();
    let error = server.hub().fetch(DataName::Mnist, dir.path(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Fetch(FetchError::Unpublished { .. })), "{error}");
    assert!(!dir.path().join("mnist").exists() && !dir.path().join(".fetch/mnist").exists());
}

/// The real set where `NP_DATA_DIR` has it, as the Hub would serve it.
#[test]
fn the_real_mnist_arrives_as_published() {
    let Some(from) = std::env::var_os(DATA_DIR_ENV) else { return };
    let Ok(real) = DataSet::load(DataName::Mnist, Source::Full, Some(Path::new(&from))) else { return };
    let file = |split: &np_data::Split| parquet(&grey(&split.images, &split.labels));
    let server = serve(file(&real.train), file(&real.test));
    server.set(|how| how.cut = Some(3_000_000));
    let dir = tempfile::tempdir().unwrap();
    let set = server.hub().fetch(DataName::Mnist, dir.path(), &mut |_| {}).unwrap();
    assert_eq!(set, real);
    assert!(set.is_official());
}
