//! A server on the loopback that speaks the Hub's protocol, and behaves as badly as a test wants.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use np_data::fetch::Hub;
use sha2::{Digest as _, Sha256};

use crate::hub_files::{parquet, pngs};

/// The commit that every revision means.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the server behaves.
#[derive(Default)]
pub(crate) struct Behaviour {
    /// Bytes of a body, after which the connection ends.
    pub(crate) cut: Option<usize>,
    /// Bodies that are cut; all, where this is not said.
    pub(crate) cuts: Option<usize>,
    /// Answers to the next questions about a file (`HEAD`), instead of the answer.
    pub(crate) heads: VecDeque<u16>,
    /// Answers to the next requests for bytes, instead of bytes; with a page that says so.
    pub(crate) statuses: VecDeque<u16>,
    /// Requests for bytes that get no answer at all, until the server ends.
    pub(crate) silent: usize,
    /// The same, of questions about a file, but for as many as come before.
    pub(crate) silent_heads: Option<usize>,
    /// The test set is not for everybody.
    pub(crate) no_test: bool,
    /// A bit of every body is flipped.
    pub(crate) wrong_bytes: bool,
    /// Bytes that follow the end of every body, which is said nowhere.
    pub(crate) endless: bool,
    /// Instead of the digest, the size and the commit.
    pub(crate) etag: Option<String>,
    pub(crate) size: Option<u64>,
    pub(crate) commit: Option<String>,
    /// What it was asked: method, path, token.
    pub(crate) log: Vec<(String, String, Option<String>)>,
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
    let token = headers.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
    });
    let mut how = behaviour.lock().unwrap();
    how.log.push((method.clone(), path.clone(), token));
    let commit = how.commit.clone().unwrap_or(COMMIT.to_owned());
    let manners = format!("Connection: close\r\nX-Repo-Commit: {commit}\r\n");
    let bytes = if path.contains("train") { train } else { test };
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(rest) = path.strip_prefix("/datasets/uoft-cs/") {
        // The repository has another name by now.
        let head = format!(
            "HTTP/1.1 307 Temporary Redirect\r\n{manners}Location: /datasets/new/{rest}\r\nContent-Length: 0\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes());
        return None;
    }
    if let Some(file) = path.strip_prefix("/datasets/").and_then(|rest| rest.rsplit('/').next()) {
        if method == "HEAD" {
            match how.silent_heads {
                Some(0) => return Some(stream),
                Some(ref mut before) => *before -= 1,
                None => {}
            }
            let refused = (how.no_test && file.starts_with("test")).then_some(403);
            if let Some(status) = refused.or_else(|| how.heads.pop_front()) {
                let _ =
                    stream.write_all(format!("HTTP/1.1 {status} No\r\n{manners}Content-Length: 0\r\n\r\n").as_bytes());
                return None;
            }
        }
        let etag = how.etag.clone().unwrap_or(digest);
        let size = how.size.unwrap_or(bytes.len() as u64);
        let location = format!("Location: http://{}/cdn/{file}?signature=x\r\n", stream.local_addr().unwrap());
        let linked = format!("X-Linked-Size: {size}\r\nX-Linked-ETag: \"{etag}\"\r\nETag: \"not this\"\r\n");
        let _ = stream.write_all(
            format!("HTTP/1.1 302 Found\r\n{manners}{location}{linked}Content-Length: 0\r\n\r\n").as_bytes(),
        );
        return None;
    }
    if how.silent > 0 {
        how.silent -= 1;
        return Some(stream);
    }
    if let Some(status) = how.statuses.pop_front() {
        let page = format!("<html>{status}</html>");
        let length = page.len();
        let _ = stream
            .write_all(format!("HTTP/1.1 {status} No\r\n{manners}Content-Length: {length}\r\n\r\n{page}").as_bytes());
        return None;
    }
    let mut body = bytes.to_vec();
    if how.wrong_bytes {
        *body.last_mut().unwrap() ^= 1;
    }
    if how.endless {
        // Without a length, a body goes on until the connection ends.
        body.extend(vec![7; 1 << 20]);
        let head = format!("HTTP/1.1 200 OK\r\n{manners}\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        return None;
    }
    let head = format!("HTTP/1.1 200 OK\r\n{manners}Content-Length: {}\r\n\r\n", body.len());
    if how.cuts != Some(0) {
        body.truncate(how.cut.unwrap_or(usize::MAX));
        how.cuts = how.cuts.map(|left| left - 1);
    }
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

    /// This server, with the Hub's cache in `cache`, and no token but the one that a test gives.
    pub(crate) fn hub(&self, cache: &Path) -> Hub {
        Hub {
            endpoint: format!("http://{}/", self.address),
            token: Some("hf_test".to_owned()),
            cache: Some(cache.to_path_buf()),
            // What is known of the published commit does not hold for what a test serves.
            revision: Some("main".to_owned()),
            tries: 3,
            wait: Duration::from_millis(2),
            silence: Duration::from_secs(20),
        }
    }

    /// How often bytes of a file were asked for.
    pub(crate) fn transfers(&self, file: &str) -> usize {
        let how = self.behaviour.lock().unwrap();
        let asked =
            |(method, path, _): &&(String, String, _)| method == "GET" && path.contains("/cdn/") && path.contains(file);
        how.log.iter().filter(asked).count()
    }

    /// How often it was asked anything.
    pub(crate) fn asked(&self) -> usize {
        self.behaviour.lock().unwrap().log.len()
    }
}
