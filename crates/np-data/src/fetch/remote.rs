//! The Hub's protocol, as far as one file needs it.
//!
//! `GET /datasets/REPOSITORY/resolve/REVISION/FILE` is answered by a redirect to where the bytes are, with the file's size and SHA-256 in
//! `X-Linked-Size` and `X-Linked-ETag`; where it is answered by the bytes themselves, they are in `Content-Length` and `ETag`. Bytes can be
//! asked for from a position on (`Range`), and a server may ignore that (200 instead of 206).

use std::io::Read;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{HeaderMap, Uri};

use super::{FetchError, Trouble};

/// The largest file that is fetched; that of CIFAR-10 has 120 MB.
const LARGEST: u64 = 1 << 30;

/// Redirects within the server, as of a renamed repository.
const REDIRECTS: usize = 5;

/// What the Hub says of a file.
pub(super) struct Remote {
    /// In hex.
    pub(super) sha256: String,
    /// In bytes.
    pub(super) size: u64,
}

/// The bytes of a file from a position on.
pub(super) struct Chunk {
    pub(super) from: u64,
    pub(super) body: Box<dyn Read>,
}

/// Asks a server of the Hub's kind.
pub(super) struct Client {
    /// Follows redirects.
    follow: Agent,
    /// Shows them.
    stay: Agent,
}

fn text<'a>(headers: &'a HeaderMap, header: &str) -> Option<&'a str> {
    headers.get(header)?.to_str().ok()
}

fn fault(url: &str, header: &'static str, expected: &'static str, found: Option<&str>) -> FetchError {
    FetchError::Header { url: url.to_owned(), header, expected, found: found.unwrap_or("nothing").to_owned() }
}

/// Whether another try may go better.
fn status(url: &str, code: u16) -> Trouble {
    let error = FetchError::Status { url: url.to_owned(), found: code };
    if code >= 500 || code == 429 { Trouble::Passing { here: 0, error } } else { error.into() }
}

fn broken(url: &str) -> impl Fn(ureq::Error) -> Trouble {
    let url = url.to_owned();
    move |error| Trouble::Passing {
        here: 0,
        error: FetchError::Connection { url: url.clone(), found: error.to_string() },
    }
}

impl Client {
    pub(super) fn new(silence: Duration) -> Self {
        let agent = |redirects: u32| -> Agent {
            Agent::config_builder()
                .max_redirects(redirects)
                .max_redirects_will_error(redirects > 0)
                .http_status_as_error(false)
                .accept_encoding("identity")
                .user_agent(concat!("np/", env!("CARGO_PKG_VERSION")))
                .timeout_connect(Some(silence))
                .timeout_recv_response(Some(silence))
                .timeout_per_read(Some(silence))
                .build()
                .into()
        };
        Self { follow: agent(REDIRECTS as u32), stay: agent(0) }
    }

    /// What the Hub says of the file at `url`.
    pub(super) fn ask(&self, url: &str) -> Result<Remote, Trouble> {
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS {
            let answer = self.stay.head(&at).call().map_err(broken(url))?;
            let (code, headers) = (answer.status().as_u16(), answer.headers());
            let linked = text(headers, "x-linked-etag");
            match code {
                200..300 => {}
                300..400 if linked.is_some() => {}
                300..400 => {
                    let location = text(headers, "location");
                    at = location
                        .and_then(|location| join(&at, location))
                        .ok_or_else(|| fault(url, "location", "an address", location))?;
                    continue;
                }
                code => return Err(status(url, code)),
            }
            let (header, etag) = match linked {
                Some(etag) => ("x-linked-etag", Some(etag)),
                None => ("etag", text(headers, "etag")),
            };
            let sha256 = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase());
            let is_digest = |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let sha256 = sha256.filter(is_digest).ok_or_else(|| fault(url, header, "a SHA-256", etag))?;
            let (header, size) = match text(headers, "x-linked-size") {
                Some(size) => ("x-linked-size", Some(size)),
                None => ("content-length", text(headers, "content-length")),
            };
            let number = size.and_then(|size| size.parse().ok()).filter(|size| (1..=LARGEST).contains(size));
            let size = number.ok_or_else(|| fault(url, header, "a size from 1 to 1073741824 bytes", size))?;
            return Ok(Remote { sha256, size });
        }
        Err(fault(url, "location", "at most 5 redirects", Some("more")).into())
    }

    /// The bytes of the file at `url` from position `from` on, or from its start where the server knows no ranges.
    pub(super) fn get(&self, url: &str, from: u64, size: u64) -> Result<Chunk, Trouble> {
        let request = self.follow.get(url);
        let request = if from > 0 { request.header("Range", format!("bytes={from}-")) } else { request };
        let answer = request.call().map_err(broken(url))?;
        let from = match answer.status().as_u16() {
            200 => 0,
            206 => {
                let range = text(answer.headers(), "content-range");
                let promised = format!("bytes {from}-{}/{size}", size - 1);
                if range != Some(promised.as_str()) {
                    return Err(fault(url, "content-range", "the range that was asked for", range).into());
                }
                from
            }
            code => return Err(status(url, code)),
        };
        Ok(Chunk { from, body: Box::new(answer.into_body().into_reader()) })
    }
}

/// The address that a `Location` means, seen from `base`.
fn join(base: &str, location: &str) -> Option<String> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.to_owned());
    }
    let uri: Uri = base.parse().ok()?;
    location.starts_with('/').then(|| Some(format!("{}://{}{location}", uri.scheme_str()?, uri.authority()?)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_seen_from_where_one_is() {
        let base = "http://127.0.0.1:80/datasets/a/resolve/main/b";
        assert_eq!(join(base, "/c/d?e=f").unwrap(), "http://127.0.0.1:80/c/d?e=f");
        assert_eq!(join(base, "https://other/c").unwrap(), "https://other/c");
        assert_eq!(join(base, "c"), None);
    }
}
