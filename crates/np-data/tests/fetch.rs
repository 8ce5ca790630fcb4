//! Fetching by hf-hub, from a server on the loopback that speaks the Hub's protocol and behaves badly.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used)] // the helpers, too, are tests

mod hub_files;
#[path = "hub_files/server.rs"]
mod server;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hub_files::{grey, parquet};
use np_data::fetch::{FetchError, Hub, Progress};
use np_data::{DATA_DIR_ENV, DataName, DataSet, Error, Source};
use server::{COMMIT, Server, serve};

/// A data folder and a cache for one test.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn cache(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    /// Everything in the cache but its locks: files with their contents, and names that stand for them.
    fn cached(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.cache()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.ends_with(".locks") || path.extension().is_some_and(|extension| extension == "incomplete") {
                    continue;
                } else if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push((path.clone(), fs::read(&path).unwrap_or_default()));
                }
            }
        }
        found.sort();
        found
    }
}

/// Fetches CIFAR-10; with what was heard of tries that ended early.
fn fetch(hub: &Hub, place: &Place) -> (Result<DataSet, Error>, usize) {
    let mut again = 0;
    let result = hub.fetch(DataName::Cifar10, &place.data(), &mut |progress| {
        again += usize::from(matches!(progress, Progress::Again(_)));
    });
    (result, again)
}

/// The error of a fetch that leaves nothing in the data folder.
fn refused(hub: &Hub, place: &Place) -> String {
    let error = fetch(hub, place).0.unwrap_err();
    assert!(matches!(error, Error::Fetch(_)), "{error}");
    assert_eq!(fs::read_dir(place.data()).unwrap().count(), 0, "{error}");
    let said = format!("{error}\nhint: {}", error.hint().unwrap());
    assert!(!said.ends_with('.'), "{said}");
    said
}

#[test]
fn a_set_comes_through_redirects_and_only_once() {
    let (server, place) = (Server::cifar(), Place::new());
    let mut heard = Vec::new();
    let set = server.hub(&place.cache()).fetch(DataName::Cifar10, &place.data(), &mut |progress| {
        if let Progress::Bytes { file, size, here } = progress {
            heard.push((file.to_owned(), size, here));
        }
    });
    let set = set.unwrap();
    assert_eq!((set.train.len(), set.test.len()), (10, 2));
    assert_eq!(DataSet::load(DataName::Cifar10, Source::Full, Some(&place.data())).unwrap(), set);
    let last = heard.last().map(|(file, size, here)| (file.as_str(), size == here));
    assert_eq!(last, Some(("test-00000-of-00001.parquet", true)));
    assert!(!place.data().join(".fetch").exists(), "nothing is left of the way");
    assert_eq!((server.transfers("train"), server.transfers("test")), (1, 1));
    // The token went to the server; of the other file the commit was asked for that the first had.
    let log = &server.behaviour.lock().unwrap().log;
    assert!(log.iter().all(|(_, path, token)| path.contains("/cdn/") || token.as_deref() == Some("Bearer hf_test")));
    let asked = |file: &str, revision: &str| {
        log.iter().any(|(_, path, _)| path.contains(&format!("/resolve/{revision}/plain_text/{file}")))
    };
    assert!(asked("train", "main") && asked("test", COMMIT) && !asked("test", "main"), "{log:?}");
}

#[test]
fn what_is_there_or_in_the_cache_is_not_asked_for() {
    let (server, place) = (Server::cifar(), Place::new());
    let hub = Hub { revision: Some(COMMIT.to_owned()), ..server.hub(&place.cache()) };
    let set = fetch(&hub, &place).0.unwrap();
    let asked = server.asked();
    assert_eq!(fetch(&hub, &place).0.unwrap(), set, "it is there");
    fs::remove_dir_all(place.data()).unwrap();
    let nobody = Hub { endpoint: "http://127.0.0.1:1".to_owned(), ..hub };
    assert_eq!(fetch(&nobody, &place).0.unwrap(), set, "it is in the cache");
    assert_eq!(server.asked(), asked);
}

/// Also a set that another program has put into the cache: of the published commit, of a branch, or of the Hub's own conversion.
#[cfg(unix)]
#[test]
fn a_set_that_others_have_cached_is_found_without_a_network() {
    let mini = DataSet::load(DataName::Mnist, Source::Mini, None).unwrap();
    let file = |split: &np_data::Split| parquet(&grey(&split.images, &split.labels));
    let files = [file(&mini.train), file(&mini.test)];
    let table = [
        (None, "snapshots/77f3279092a1c1579b2250db8eafed0ad422088c", "mnist/PART-00000-of-00001.parquet"),
        (Some("main"), &*format!("snapshots/{COMMIT}"), "mnist/PART-00000-of-00001.parquet"),
        (None, &*format!("snapshots/{COMMIT}"), "mnist/PART/0000.parquet"),
    ];
    for (revision, snapshot, names) in table {
        let place = Place::new();
        let repository = place.cache().join("datasets--ylecun--mnist");
        for (reference, bytes) in [("main", COMMIT), ("refs/convert/parquet", COMMIT)] {
            let path = repository.join("refs").join(reference);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        for (part, bytes) in ["train", "test"].into_iter().zip(&files) {
            let digest = sha256(bytes);
            fs::create_dir_all(repository.join("blobs")).unwrap();
            fs::write(repository.join("blobs").join(&digest), bytes).unwrap();
            let name = repository.join(snapshot).join(names.replace("PART", part));
            fs::create_dir_all(name.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(repository.join("blobs").join(&digest), name).unwrap();
        }
        let before = place.cached();
        let hub = Hub {
            endpoint: "http://127.0.0.1:1".to_owned(),
            cache: Some(place.cache()),
            revision: revision.map(str::to_owned),
            tries: 1,
            ..Hub::default()
        };
        // It gets as far as the pixels, which are not all of MNIST's.
        let error = hub.fetch(DataName::Mnist, &place.data(), &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::Fetch(FetchError::Unpublished { .. })), "{names}: {error}");
        assert_eq!(place.cached(), before);
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_was_cut_off_is_begun_again() {
    let (server, place) = (Server::cifar(), Place::new());
    let hub = server.hub(&place.cache());
    server.set(|how| (how.cut, how.cuts) = (Some(1_000), Some(2)));
    let (set, again) = fetch(&hub, &place);
    assert!(set.is_ok() && again == 2, "{again} {set:?}");
    assert_eq!((server.transfers("train"), server.transfers("test")), (3, 1));

    // And from one command to the next.
    let (server, place) = (Server::cifar(), Place::new());
    let hub = server.hub(&place.cache());
    server.set(|how| how.cut = Some(1_000));
    let said = refused(&hub, &place);
    assert!(said.contains("hint: the same command begins this file again"), "{said}");
    assert_eq!(server.transfers("train"), 3, "as often as there are tries");
    assert_eq!(place.cached(), [], "nothing that looks whole");
    server.set(|how| how.cut = None);
    fetch(&hub, &place).0.unwrap();
}

#[test]
fn a_file_that_is_here_is_not_fetched_again() {
    let (server, place) = (Server::cifar(), Place::new());
    let hub = Hub { tries: 1, ..server.hub(&place.cache()) };
    // The first file comes, the second does not.
    server.set(|how| how.no_test = true);
    let said = refused(&hub, &place);
    assert!(said.contains("test-00000-of-00001.parquet`: expected status 200, found 403"), "{said}");
    server.set(|how| how.no_test = false);
    fetch(&hub, &place).0.unwrap();
    assert_eq!((server.transfers("train"), server.transfers("test")), (1, 1));
}

#[test]
fn wrong_bytes_are_refused_and_not_kept() {
    let (server, place) = (Server::cifar(), Place::new());
    let hub = server.hub(&place.cache());
    server.set(|how| how.wrong_bytes = true);
    let said = refused(&hub, &place);
    assert!(said.contains("train-00000-of-00001.parquet`: expected bytes with the SHA-256 `"), "{said}");
    assert!(said.contains("hint: none of it is kept"), "{said}");
    assert_eq!(place.cached(), [], "no other program takes them for the file");
    // Also where a beginning was right.
    server.set(|how| (how.wrong_bytes, how.cut) = (false, Some(1_000)));
    refused(&hub, &place);
    server.set(|how| (how.wrong_bytes, how.cut) = (true, None));
    refused(&hub, &place);
    assert_eq!(place.cached(), []);
    // And where more come than were promised.
    server.set(|how| (how.wrong_bytes, how.endless) = (false, true));
    let said = refused(&hub, &place);
    assert!(said.contains(" bytes, found more\nhint: none of it is kept"), "{said}");
    server.set(|how| how.endless = false);
    // The lock of what is still under way is hf-hub's; another cache has none.
    fetch(&server.hub(&place.0.path().join("other")), &place).0.unwrap();
}

/// What lies in the cache before is the user's: it is refused, named, and left.
#[cfg(unix)]
#[test]
fn damage_in_the_cache_is_named_and_left() {
    let (server, place) = (Server::cifar(), Place::new());
    let hub = server.hub(&place.cache());
    let hub = Hub { revision: Some(COMMIT.to_owned()), ..hub };
    fetch(&hub, &place).0.unwrap();
    fs::remove_dir_all(place.data()).unwrap();
    let bytes = place.cached().into_iter().find(|(path, _)| path.parent().unwrap().ends_with("blobs")).unwrap().0;
    fs::write(&bytes, "<!doctype html><title>Sign in").unwrap();
    let before = place.cached();
    let said = refused(&hub, &place);
    for part in [bytes.file_name().unwrap().to_str().unwrap(), "an HTML page", "is left as it is", "`HF_HUB_CACHE`"] {
        assert!(said.contains(part), "`{said}` lacks `{part}`");
    }
    // Found under another revision: its bytes are there, its name is not.
    let other = "fedcba9876543210fedcba9876543210fedcba98";
    server.set(|how| how.commit = Some(other.to_owned()));
    let said = refused(&Hub { revision: Some(other.to_owned()), ..hub }, &place);
    assert!(said.contains("is left as it is"), "{said}");
    let after = place.cached();
    assert!(before.iter().all(|entry| after.contains(entry)), "nothing is gone");
    fs::remove_file(bytes).unwrap();
    fetch(&server.hub(&place.cache()), &place).0.unwrap();
}

#[test]
fn a_refusal_is_final_and_a_bad_moment_is_not() {
    let (server, place) = (Server::cifar(), Place::new());
    let hub = server.hub(&place.cache());
    server.set(|how| how.heads = VecDeque::from([404]));
    let said = refused(&hub, &place);
    assert!(said.contains("expected status 200, found 404\nhint: "), "{said}");
    server.set(|how| how.heads = VecDeque::from([401]));
    let said = refused(&hub, &place);
    assert!(said.contains("found 401\nhint: `HF_TOKEN`"), "{said}");
    assert_eq!(server.transfers("train"), 0);

    server.set(|how| how.heads = VecDeque::from([500; 10]));
    assert!(refused(&hub, &place).contains("found 500"));
    server.set(|how| how.heads = VecDeque::from([503, 429]));
    let (set, again) = fetch(&hub, &place);
    assert!(set.is_ok() && again == 2, "{again}");
}

/// hf-hub takes the page of an error for the file's bytes; the digest finds it out.
#[test]
fn the_page_of_an_error_is_not_taken_for_the_file() {
    for status in [403, 404, 503] {
        let (server, place) = (Server::cifar(), Place::new());
        let hub = server.hub(&place.cache());
        server.set(|how| how.statuses = VecDeque::from([status; 3]));
        let said = refused(&hub, &place);
        assert!(said.contains("found `") && said.contains("an HTML page"), "{status}: {said}");
        assert_eq!(place.cached(), []);
        server.set(|how| how.statuses.clear());
        fetch(&hub, &place).0.unwrap();
    }
    // Of a bad moment hf-hub itself asks again.
    let (server, place) = (Server::cifar(), Place::new());
    server.set(|how| how.statuses = VecDeque::from([503, 429]));
    fetch(&server.hub(&place.cache()), &place).0.unwrap();
    assert_eq!(server.transfers("train"), 3);
}

#[test]
fn silence_is_not_waited_for_without_end() {
    let (server, place) = (Server::cifar(), Place::new());
    let hub = Hub { silence: Duration::from_millis(300), tries: 2, ..server.hub(&place.cache()) };
    server.set(|how| how.silent_heads = Some(0));
    let said = refused(&hub, &place);
    assert!(said.contains("hint: the same command begins this file again"), "{said}");
    // Our question is answered, hf-hub's is not.
    server.set(|how| how.silent_heads = Some(1));
    assert!(refused(&hub, &place).contains("found `nothing for "));
    server.set(|how| (how.silent_heads, how.silent) = (None, 1_000));
    refused(&hub, &place);
    server.set(|how| how.silent = 1);
    let hub = Hub { silence: Duration::from_secs(2), ..server.hub(&place.0.path().join("other")) };
    fetch(&hub, &place).0.unwrap();
    assert_eq!(server.transfers("test"), 1);
}

/// hf-hub would make names of files of these.
#[test]
fn answers_that_make_no_sense_are_named_and_written_nowhere() {
    let (server, place) = (Server::cifar(), Place::new());
    let hub = server.hub(&place.cache());
    let outside = place.0.path().join("outside");
    for etag in ["0123456789abcdef0123456789abcdef01234567", "../../../outside", outside.to_str().unwrap()] {
        server.set(|how| how.etag = Some(etag.to_owned()));
        let said = refused(&hub, &place);
        assert!(said.contains("expected a SHA-256 in the header `x-linked-etag`, found `\""), "{said}");
    }
    server.set(|how| (how.etag, how.commit) = (None, Some("../../../../outside".to_owned())));
    let said = refused(&hub, &place);
    assert!(said.contains("expected a commit of 40 hexadecimal digits in the header `x-repo-commit`"), "{said}");
    assert!(!outside.exists() && server.transfers("train") == 0);
    server.set(|how| (how.commit, how.size) = (None, Some(1 << 40)));
    let said = refused(&hub, &place);
    assert!(said.contains("in the header `x-linked-size`, found `1099511627776`"), "{said}");
    for revision in ["../main", "", "a b", "main/", "refs//x", "/etc", ".hidden"] {
        let said = refused_early(&Hub { revision: Some(revision.to_owned()), ..hub.clone() }, &place);
        assert!(said.contains("revision: expected a commit"), "{said}");
    }
    for endpoint in ["not an address", "localhost:80", "http://", "file:///etc"] {
        let said = refused(&Hub { endpoint: endpoint.to_owned(), ..hub.clone() }, &place);
        assert!(said.contains("endpoint: expected an address") && said.contains("`HF_ENDPOINT`"), "{said}");
    }
    let nobody = Hub { endpoint: "http://127.0.0.1:1".to_owned(), ..hub };
    assert!(refused(&nobody, &place).contains("hint: the same command"), "nobody is there");
}

/// Refused before anything is touched.
fn refused_early(hub: &Hub, place: &Place) -> String {
    fetch(hub, place).0.unwrap_err().to_string()
}

/// CIFAR-10's files are known by their digests at the published commit: a server that has others is found out before a byte is fetched.
#[test]
fn the_published_commit_has_the_published_files() {
    let (server, place) = (Server::cifar(), Place::new());
    let said = refused(&Hub { revision: None, ..server.hub(&place.cache()) }, &place);
    assert!(said.contains("resolve/0b2714987fa478483af9968de7c934580d0bb9a2/plain_text/train"), "{said}");
    assert!(said.contains("expected bytes with the SHA-256 `8428b53a") && said.contains("found that the server has `"));
    assert_eq!(server.transfers("train"), 0);
}

#[test]
fn what_is_in_the_place_already_stays() {
    let (server, place) = (Server::cifar(), Place::new());
    let hub = server.hub(&place.cache());
    let mine = place.data().join("cifar10/mine.txt");
    fs::create_dir_all(place.data().join("cifar10")).unwrap();
    fs::write(&mine, "mine").unwrap();
    let error = fetch(&hub, &place).0.unwrap_err();
    assert!(matches!(error, Error::Fetch(FetchError::Occupied { .. })), "{error}");
    assert!(error.hint().unwrap().starts_with("move it away"), "{error}");
    assert_eq!(fs::read(&mine).unwrap(), b"mine");
    assert_eq!(server.asked(), 0, "nobody was asked");
    // An empty folder is no obstacle.
    fs::remove_file(mine).unwrap();
    fetch(&hub, &place).0.unwrap();
}

#[test]
fn two_at_once_are_one_too_many() {
    let (server, place) = (Server::cifar(), Place::new());
    let hub = server.hub(&place.cache());
    fs::create_dir_all(place.data().join(".fetch")).unwrap();
    let lock = fs::File::create(place.data().join(".fetch/cifar10.lock")).unwrap();
    lock.lock().unwrap();
    assert!(refused_early(&hub, &place).contains("found another fetch of the set"));
    drop(lock);
    fetch(&hub, &place).0.unwrap();
}

/// Of MNIST the published digest is known: a repository that has other images is found out.
#[test]
fn another_set_under_the_name_is_refused() {
    let server = serve(parquet(&grey(&[7; 784 * 3], &[0, 1, 2])), parquet(&grey(&[8; 784], &[3])));
    let place = Place::new();
    let error = server.hub(&place.cache()).fetch(DataName::Mnist, &place.data(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Fetch(FetchError::Unpublished { .. })), "{error}");
    assert!(!place.data().join("mnist").exists() && !place.data().join(".fetch").exists());
}

/// The real set where `NP_DATA_DIR` has it, as the Hub would serve it.
#[test]
fn the_real_mnist_arrives_as_published() {
    let Some(from) = std::env::var_os(DATA_DIR_ENV) else { return };
    let Ok(real) = DataSet::load(DataName::Mnist, Source::Full, Some(Path::new(&from))) else { return };
    let file = |split: &np_data::Split| parquet(&grey(&split.images, &split.labels));
    let server = serve(file(&real.train), file(&real.test));
    server.set(|how| (how.cut, how.cuts) = (Some(3_000_000), Some(1)));
    let place = Place::new();
    let set = server.hub(&place.cache()).fetch(DataName::Mnist, &place.data(), &mut |_| {}).unwrap();
    assert_eq!(set, real);
    assert!(set.is_official());
}
