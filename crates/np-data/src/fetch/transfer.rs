//! Runs hf-hub's transfer on a separate thread, and gives it up after too long a time without data.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use hf_hub::progress::{DownloadEvent, FileStatus, ProgressEvent, ProgressHandler};
use hf_hub::{HFClient, HFClientSync, HFError, HFRepositorySync, RepoTypeDataset};

use super::ask::{Remote, ask, in_full};
use super::place::Place;
use super::{FetchError, Hub, Trouble};
use crate::error::Error;

/// The Hub, its cache, and a repository in it.
pub(super) struct Repository {
    hub: HFClientSync,
    cache: PathBuf,
}

/// A file that is in the cache now.
pub(super) struct Arrived {
    /// Where.
    pub(super) path: PathBuf,
    /// Whether its bytes came now; else they were there before.
    pub(super) now: bool,
}

/// What is heard of a transfer.
enum Heard {
    /// The server's answer.
    Remote(Remote),
    /// Bytes that are here.
    Bytes(u64),
    /// Bytes are transferred, not found.
    Moving,
    /// The end.
    End(Result<PathBuf, Trouble>),
}

impl Repository {
    pub(super) fn new(hub: &Hub) -> Result<Self, Error> {
        // `localhost:8080` is an address too, of the scheme `localhost`.
        if !["http://", "https://"].iter().any(|scheme| hub.endpoint.starts_with(scheme)) {
            return Err(FetchError::Endpoint { found: hub.endpoint.clone() }.into());
        }
        let refuse = |error: &HFError| FetchError::Transfer { url: hub.endpoint.clone(), found: in_full(error) };
        let http = reqwest::Client::builder()
            .connect_timeout(hub.silence)
            .read_timeout(hub.silence)
            .user_agent(concat!("np/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| FetchError::Transfer { url: hub.endpoint.clone(), found: in_full(&error) })?;
        let mut builder = HFClient::builder()
            .endpoint(&hub.endpoint)
            .client(http)
            .retry_max_attempts(hub.tries.saturating_sub(1) as usize)
            .retry_base_delay(hub.wait / 2);
        if let Some(token) = &hub.token {
            builder = builder.token(token);
        }
        if let Some(cache) = &hub.cache {
            builder = builder.cache_dir(cache);
        }
        let client = builder.build().map_err(|error| match error {
            HFError::Url(_) => FetchError::Endpoint { found: hub.endpoint.clone() },
            error => refuse(&error),
        })?;
        let cache = client.cache_dir().to_path_buf();
        let hub = HFClientSync::from_inner(client).map_err(|error| refuse(&error))?;
        Ok(Self { hub, cache })
    }

    fn of(&self, place: &Place) -> HFRepositorySync<RepoTypeDataset> {
        self.hub.dataset(place.owner, place.repository)
    }

    /// Both files of a set, if the cache has them; nobody is asked.
    pub(super) fn cached(&self, place: &Place) -> Option<[PathBuf; 2]> {
        let repository = self.of(place);
        let find = |file: &String| {
            repository.download_file().filename(file).revision(&place.revision).local_files_only(true).send().ok()
        };
        Some([find(&place.files[0])?, find(&place.files[1])?])
    }

    /// Brings a file into the cache, unless it is there; `known` is its SHA-256 where that is known beforehand.
    pub(super) fn bring(
        &self,
        hub: &Hub,
        place: &Place,
        file: &str,
        url: &str,
        known: Option<&'static str>,
        watch: &mut dyn FnMut(u64, u64),
    ) -> Result<(Arrived, Remote), Trouble> {
        let (heard, hears) = mpsc::channel();
        let (repository, file, url_there) = (self.of(place), file.to_owned(), url.to_owned());
        let (token, silence) = (hub.token.clone(), hub.silence);
        // On its own thread, since neither library may wait inside of an asynchronous program's threads.
        let spawned = thread::Builder::new().name("np-fetch".to_owned()).spawn(move || {
            let end = ask(&url_there, token.as_deref(), silence).and_then(|remote| {
                if let Some(known) = known.filter(|known| !known.eq_ignore_ascii_case(&remote.sha256)) {
                    let expected = format!("bytes with the SHA-256 `{known}`");
                    let found = format!("that the server has `{}`", remote.sha256);
                    return Err(FetchError::Digest { url: url_there, expected, found }.into());
                }
                let commit = remote.commit.clone();
                let _ = heard.send(Heard::Remote(remote));
                let handler = Handler(heard.clone());
                let result = repository.download_file().filename(file).revision(commit).progress(handler).send();
                result.map_err(|error| trouble(&url_there, &error))
            });
            let _ = heard.send(Heard::End(end));
        });
        let connection = |found: String| FetchError::Connection { url: url.to_owned(), found };
        spawned.map_err(|error| connection(error.to_string()))?;

        // hf-hub repeats a request by itself, as often as it is told to.
        let patience = hub.silence.saturating_mul(hub.tries) + hub.wait.saturating_mul(1 << hub.tries.min(10));
        let (mut last, mut here, mut now, mut remote) = (Instant::now(), 0, false, None::<Remote>);
        loop {
            match hears.recv_timeout(patience.saturating_sub(last.elapsed())) {
                Ok(Heard::Remote(answer)) => {
                    last = Instant::now();
                    watch(0, answer.size);
                    remote = Some(answer);
                }
                Ok(Heard::Moving) => now = true,
                Ok(Heard::Bytes(bytes)) => {
                    let size = remote.as_ref().map_or(0, |remote| remote.size);
                    if bytes > size {
                        let expected = format!("{size} bytes");
                        return Err(
                            FetchError::Digest { url: url.to_owned(), expected, found: "more".to_owned() }.into()
                        );
                    }
                    if bytes > here {
                        (last, here) = (Instant::now(), bytes);
                        watch(here, size);
                    }
                }
                Ok(Heard::End(end)) => {
                    let path = end?;
                    let remote = remote.ok_or_else(|| connection("an end without a beginning".to_owned()))?;
                    return Ok((Arrived { path, now }, remote));
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(connection(format!("nothing for {} s", patience.as_secs_f32())).into());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(connection("a transfer that stopped".to_owned()).into());
                }
            }
        }
    }

    /// Takes what came now, and is wrong, out of the cache: the name in the snapshot and the bytes behind it.
    pub(super) fn remove(&self, arrived: &Path) {
        let bytes = arrived.canonicalize();
        let _ = std::fs::remove_file(arrived);
        if let (Ok(bytes), Ok(cache)) = (bytes, self.cache.canonicalize())
            && bytes.starts_with(cache)
        {
            let _ = std::fs::remove_file(bytes);
        }
    }
}

/// What an error of hf-hub means for those who would try again.
fn trouble(url: &str, error: &HFError) -> Trouble {
    let found = in_full(error);
    let url = url.to_owned();
    match error {
        HFError::Request { .. } | HFError::Xet { .. } | HFError::RateLimited { .. } => {
            Trouble::Passing(FetchError::Connection { url, found })
        }
        HFError::Http { context } => {
            let status = context.status;
            let error = FetchError::Status { url, found: status.as_u16() };
            if status.is_server_error() { Trouble::Passing(error) } else { error.into() }
        }
        HFError::AuthRequired { context } | HFError::Forbidden { context } => {
            FetchError::Status { url, found: context.status.as_u16() }.into()
        }
        HFError::EntryNotFound { .. } | HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => {
            FetchError::Status { url, found: 404 }.into()
        }
        _ => FetchError::Transfer { url, found }.into(),
    }
}

/// Passes on what hf-hub tells.
struct Handler(Sender<Heard>);

impl ProgressHandler for Handler {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else { return };
        match event {
            DownloadEvent::Progress { files } => {
                for file in files {
                    if file.status != FileStatus::Complete {
                        let _ = self.0.send(Heard::Moving);
                    }
                    let _ = self.0.send(Heard::Bytes(file.bytes_completed));
                }
            }
            DownloadEvent::AggregateProgress { bytes_completed, .. } => {
                let _ = self.0.send(Heard::Moving);
                let _ = self.0.send(Heard::Bytes(*bytes_completed));
            }
            DownloadEvent::Start { .. } | DownloadEvent::Complete => {}
        }
    }
}

/// The longest wait between two tries.
pub(super) fn pause(wait: Duration, failures: u32) -> Duration {
    wait.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)).min(32))
}
