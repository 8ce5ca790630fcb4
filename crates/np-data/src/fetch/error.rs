//! What can go wrong on the way from the Hub.

use std::path::PathBuf;

use crate::name::DataName;

/// Why a set could not be fetched. Messages name the address or the file, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No connection, or one that ended too often.
    #[error(
        "`{url}`: expected the file, found `{found}`\nhint: the same command begins this file again, and keeps those that are whole; `HF_ENDPOINT` names another server"
    )]
    Connection {
        /// The address.
        url: String,
        /// What the system or the protocol said.
        found: String,
    },
    /// The server refused.
    #[error("`{url}`: expected status 200, found {found}\nhint: {}", remedy(*found))]
    Status {
        /// The address.
        url: String,
        /// Its answer.
        found: u16,
    },
    /// An answer without what the Hub says of a file.
    #[error(
        "`{url}`: expected {expected} in the header `{header}`, found `{found}`\nhint: is `HF_ENDPOINT` a server of the Hub's kind?"
    )]
    Header {
        /// The address.
        url: String,
        /// The header.
        header: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Other bytes arrived than those that the Hub has, or that are known, under this name.
    #[error(
        "`{url}`: expected {expected}, found {found}\nhint: none of it is kept, fetch it again; if this stays, what lies between here and the server changes it"
    )]
    Digest {
        /// The address.
        url: String,
        /// SHA-256 as the Hub says, or as it is known.
        expected: String,
        /// What arrived.
        found: String,
    },
    /// A file that the Hub's cache had before is damaged.
    #[error(
        "`{path}`: expected {expected}, found {found}\nhint: this file of the Hub's cache was there before and is left as it is; move it away and fetch again, or name another cache by `HF_HUB_CACHE`"
    )]
    Cached {
        /// The file.
        path: PathBuf,
        /// SHA-256 as the cache says, or as it is known.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The transfer itself failed, other than by its connection.
    #[error("`{url}`: expected the file in the Hub's cache, found `{found}`\nhint: `HF_HUB_CACHE` names another cache")]
    Transfer {
        /// The address.
        url: String,
        /// What hf-hub said.
        found: String,
    },
    /// A revision that cannot be one.
    #[error(
        "revision: expected a commit, a branch or a tag, found `{found}`\nhint: leave it out for the commit that is known to hold the set"
    )]
    Revision {
        /// As given.
        found: String,
    },
    /// A server's address that cannot be one.
    #[error(
        "endpoint: expected an address such as `https://huggingface.co`, found `{found}`\nhint: set or unset `HF_ENDPOINT`"
    )]
    Endpoint {
        /// As given.
        found: String,
    },
    /// Whole files, but not the published examples.
    #[error(
        "`{name}`: expected the published set, digest `{expected}`, found another, digest `{found}`\nhint: nothing is put in the data folder; the repository has other images at this revision, or `HF_ENDPOINT` serves others"
    )]
    Unpublished {
        /// The set.
        name: DataName,
        /// The published digest.
        expected: &'static str,
        /// That of what arrived.
        found: String,
    },
    /// There is something in the set's place already, and not the set.
    #[error(
        "`{path}`: expected no folder, or a whole set, found one with {found}\nhint: move it away, or name another folder by `--data-dir`"
    )]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it as the set.
        found: String,
    },
    /// Another process is at it.
    #[error("`{path}`: expected to be alone, found another fetch of the set\nhint: wait for it")]
    Busy {
        /// The lock.
        path: PathBuf,
    },
}

/// What mends a status.
fn remedy(status: u16) -> &'static str {
    match status {
        401 | 403 => "`HF_TOKEN` holds a token that may read it",
        404 => "the repository has no such file at this revision; `HF_ENDPOINT` names another server",
        _ => "try again later; `HF_ENDPOINT` names another server",
    }
}
