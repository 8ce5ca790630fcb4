//! A request before each transfer: commit, size and SHA-256 of the file.
//!
//! hf-hub makes the same request, and uses the answer as file names in its cache: `ETag` for the bytes, `X-Repo-Commit` for the folder. A server
//! could make it write to any path. So the answer is checked here first. It also gives the size, and fixes one commit for both files
//! of a set. No file is transferred here.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::redirect::Policy;

use super::{FetchError, Trouble};

/// The largest file that is fetched; that of CIFAR-10 has 120 MB.
const LARGEST: u64 = 1 << 30;

/// Redirects within the server, as of a renamed repository.
const REDIRECTS: usize = 5;

/// What the Hub says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    /// The commit that the revision means: 40 hexadecimal digits.
    pub(super) commit: String,
    /// 64 hexadecimal digits.
    pub(super) sha256: String,
    /// In bytes.
    pub(super) size: u64,
}

/// Asks for the file at `url`; redirects to other servers, where the bytes are, are not followed.
pub(super) fn ask(url: &str, token: Option<&str>, silence: Duration) -> Result<Remote, Trouble> {
    let broken = |error: reqwest::Error| {
        Trouble::Passing(FetchError::Connection { url: url.to_owned(), found: in_full(&error.without_url()) })
    };
    let client = Client::builder()
        .redirect(Policy::none())
        .connect_timeout(silence)
        .timeout(silence)
        .user_agent(concat!("np/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(broken)?;
    let mut at = url.to_owned();
    for _ in 0..=REDIRECTS {
        let request = client.head(&at);
        let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
        let answer = request.send().map_err(broken)?;
        match answer.status() {
            status if status.is_redirection() => match text(&answer, "location") {
                Some(location) if location.starts_with('/') && !location.starts_with("//") => {
                    at = answer.url().join(location).map_or_else(|_| location.to_owned(), String::from);
                }
                _ => return Ok(remote(url, &answer)?),
            },
            status if status.is_success() => return Ok(remote(url, &answer)?),
            status => {
                let error = FetchError::Status { url: url.to_owned(), found: status.as_u16() };
                let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                return Err(if passes { Trouble::Passing(error) } else { error.into() });
            }
        }
    }
    Err(fault(url, "location", "at most 5 redirects", Some("more")).into())
}

fn remote(url: &str, answer: &Response) -> Result<Remote, FetchError> {
    let hex = |found: &str, digits: usize| found.len() == digits && found.bytes().all(|byte| byte.is_ascii_hexdigit());
    let either = |linked, plain| text(answer, linked).map_or((plain, text(answer, plain)), |text| (linked, Some(text)));

    let (header, etag) = either("x-linked-etag", "etag");
    let sha256 = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"')).filter(|sha256| hex(sha256, 64));
    let sha256 = sha256.ok_or_else(|| fault(url, header, "a SHA-256", etag))?.to_owned();

    let found = text(answer, "x-repo-commit");
    let commit = found.filter(|commit| hex(commit, 40)).map(str::to_owned);
    let commit = commit.ok_or_else(|| fault(url, "x-repo-commit", "a commit of 40 hexadecimal digits", found))?;

    let (header, found) = either("x-linked-size", "content-length");
    let size = found.and_then(|size| size.parse().ok()).filter(|size| (1..=LARGEST).contains(size));
    let size = size.ok_or_else(|| fault(url, header, "a size from 1 to 1073741824 bytes", found))?;
    Ok(Remote { commit, sha256, size })
}

fn text<'a>(answer: &'a Response, header: &str) -> Option<&'a str> {
    answer.headers().get(header)?.to_str().ok()
}

fn fault(url: &str, header: &'static str, expected: &'static str, found: Option<&str>) -> FetchError {
    FetchError::Header { url: url.to_owned(), header, expected, found: found.unwrap_or("nothing").to_owned() }
}

/// What an error says with its causes, on one line.
pub(super) fn in_full(error: &dyn StdError) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let further = error.to_string();
        // Some repeat their cause.
        if !said.contains(&further) {
            said = format!("{said}: {further}");
        }
        cause = error.source();
    }
    said.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(400).collect()
}
