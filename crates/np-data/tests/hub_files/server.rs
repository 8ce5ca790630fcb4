//! A server on the loopback that speaks the Hub's protocol, and behaves as badly as a test wants.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use np_data::fetch::Hub;
use sha2::{Digest as _, Sha256};

use crate::hub_files::{parquet, pngs};

const MANNERS: &str = "\
Connection: close\r
X-Repo-Commit: 0123456789abcdef0123456789abcdef01234567\r
";

/// How the server behaves.
#[derive(Default)]
pub(crate) struct Behaviour {
    /// Bytes of a body, after which the connection ends.
    pub(crate) cut: Option<usize>,
    /// Answers to the next requests for bytes, instead of bytes.
    pub(crate) statuses: VecDeque<u16>,
    /// Requests for bytes that get no answer at all, until the server ends.
    pub(crate) silent: usize,
    /// Ranges are ignored.
    pub(crate) no_ranges: bool,
    /// Ranges begin elsewhere than asked for.
    pub(crate) wrong_ranges: bool,
    /// A bit of every body is flipped.
    pub(crate) wrong_bytes: bool,
    /// Instead of the digest and the size.
    pub(crate) etag: Option<String>,
    pub(crate) size: Option<u64>,
    /// What it was asked: method, path, range.
    pub(crate) log: Vec<(String, String, Option<usize>)>,
}

pub(crate) struct Server {
    address: SocketAddr,
    pub(crate) behaviour: Arc<Mutex<Behaviour>>,
    /// Dropped at the end: whoever is silent ends then.
    _end: mpsc::Sender<()>,
}

/// A server that has these two files, train and test, for at most a thousand connections.
pub(crate) fn serve(train: Vec<u8>, test: Vec<u8>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let behaviour = Arc::new(Mutex::new(Behaviour::default()));
    let shared = Arc::clone(&behaviour);
    let (end, ended) = mpsc::channel::<()>();
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().take(1_000).flatten() {
            if let Some(silent) = answer(stream, [&train, &test], &shared) {
                held.push(silent);
            }
            if ended.try_recv() == Err(mpsc::TryRecvError::Disconnected) {
                return;
            }
        }
    });
    Server { address, behaviour, _end: end }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Wakes it up, to see that it is not needed any longer once the sender is gone.
        let address = self.address;
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            drop(TcpStream::connect(address));
        });
    }
}

/// Answers one request; gives back a stream that is to be held and not answered.
fn answer(mut stream: TcpStream, [train, test]: [&[u8]; 2], behaviour: &Mutex<Behaviour>) -> Option<TcpStream> {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next()?;
    let mut words = request.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = headers.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let value = value.strip_prefix("bytes=")?.strip_suffix('-')?;
        name.eq_ignore_ascii_case("range").then(|| value.parse().unwrap())
    });
    let mut how = behaviour.lock().unwrap();
    how.log.push((method.clone(), path.clone(), range));
    let bytes = if path.contains("train") { train } else { test };
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(rest) = path.strip_prefix("/datasets/uoft-cs/") {
        // The repository has another name by now.
        let head = format!(
            "HTTP/1.1 307 Temporary Redirect\r\n{MANNERS}Location: /datasets/new/{rest}\r\nContent-Length: 0\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes());
        return None;
    }
    if let Some(file) = path.strip_prefix("/datasets/").and_then(|rest| rest.rsplit('/').next()) {
        let etag = how.etag.clone().unwrap_or(digest);
        let size = how.size.unwrap_or(bytes.len() as u64);
        let status = if how.statuses.front() == Some(&404) { "404 Not Found" } else { "302 Found" };
        let location = format!("Location: http://{}/cdn/{file}?signature=x\r\n", stream.local_addr().unwrap());
        let linked = format!("X-Linked-Size: {size}\r\nX-Linked-ETag: \"{etag}\"\r\nETag: \"not this\"\r\n");
        let _ = stream
            .write_all(format!("HTTP/1.1 {status}\r\n{MANNERS}{location}{linked}Content-Length: 0\r\n\r\n").as_bytes());
        return None;
    }
    if how.silent > 0 {
        how.silent -= 1;
        return Some(stream);
    }
    if let Some(status) = how.statuses.pop_front() {
        let _ = stream.write_all(format!("HTTP/1.1 {status} No\r\n{MANNERS}Content-Length: 0\r\n\r\n").as_bytes());
        return None;
    }
    let from = range.filter(|_| !how.no_ranges).unwrap_or(0);
    if from >= bytes.len() {
        let _ = stream.write_all(format!("HTTP/1.1 416 No\r\n{MANNERS}Content-Length: 0\r\n\r\n").as_bytes());
        return None;
    }
    let mut body = bytes[from..].to_vec();
    if how.wrong_bytes {
        *body.last_mut().unwrap() ^= 1;
    }
    let status = if from > 0 {
        let says = if how.wrong_ranges { from + 1 } else { from };
        format!("206 Partial Content\r\nContent-Range: bytes {says}-{}/{}", bytes.len() - 1, bytes.len())
    } else {
        "200 OK".to_owned()
    };
    let head = format!("HTTP/1.1 {status}\r\n{MANNERS}Content-Length: {}\r\n\r\n", body.len());
    body.truncate(how.cut.unwrap_or(usize::MAX));
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    None
}

impl Server {
    pub(crate) fn cifar() -> Self {
        serve(parquet(&pngs(10)), parquet(&pngs(2)))
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    pub(crate) fn hub(&self) -> Hub {
        let wait = Duration::from_millis(1);
        Hub { endpoint: format!("http://{}/", self.address), tries: 3, wait, silence: Duration::from_secs(20) }
    }

    /// The ranges of requests for bytes of a file.
    pub(crate) fn ranges(&self, file: &str) -> Vec<Option<usize>> {
        let how = self.behaviour.lock().unwrap();
        let bytes =
            how.log.iter().filter(|(method, path, _)| method == "GET" && path.contains("/cdn/") && path.contains(file));
        bytes.map(|(.., range)| *range).collect()
    }
}
