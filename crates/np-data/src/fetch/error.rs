//! Errors of fetching from the Hub.

use std::path::PathBuf;

use crate::name::DataName;

/// Why a set could not be fetched. Messages name the address or the file, what was expected and what was found;
/// [`FetchError::hint`] says what mends it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No connection, or one that was interrupted too often.
    #[error("`{url}`: expected the file, found `{found}`")]
    Connection {
        /// The address.
        url: String,
        /// The error of the system or the protocol.
        found: String,
    },
    /// The server answered with an error status.
    #[error("`{url}`: expected status 200, found {found}")]
    Status {
        /// The address.
        url: String,
        /// The status code.
        found: u16,
    },
    /// An answer without a header that the Hub sends with a file.
    #[error("`{url}`: expected {expected} in the header `{header}`, found `{found}`")]
    Header {
        /// The address.
        url: String,
        /// The header.
        header: &'static str,
        /// What its value should be.
        expected: &'static str,
        /// Its value.
        found: String,
    },
    /// The received bytes do not have the digest that the Hub states or that is known.
    #[error("`{url}`: expected {expected}, found {found}")]
    Digest {
        /// The address.
        url: String,
        /// The SHA-256 that the Hub states or that is known.
        expected: String,
        /// The SHA-256 of the received bytes.
        found: String,
    },
    /// A file that was in the Hub's cache before is damaged.
    #[error("`{path}`: expected {expected}, found {found}")]
    Cached {
        /// The file.
        path: PathBuf,
        /// The SHA-256 that the cache states or that is known.
        expected: String,
        /// The SHA-256 of the file.
        found: String,
    },
    /// The transfer failed for a reason other than the connection.
    #[error("`{url}`: expected the file in the Hub's cache, found `{found}`")]
    Transfer {
        /// The address.
        url: String,
        /// The error of hf-hub.
        found: String,
    },
    /// An invalid revision.
    #[error("revision: expected a commit, a branch or a tag, found `{found}`")]
    Revision {
        /// As given.
        found: String,
    },
    /// An invalid server address.
    #[error("endpoint: expected an address such as `https://huggingface.co`, found `{found}`")]
    Endpoint {
        /// As given.
        found: String,
    },
    /// The files are complete, but do not contain the published examples.
    #[error("`{name}`: expected the published set, digest `{expected}`, found another, digest `{found}`")]
    Unpublished {
        /// The set.
        name: DataName,
        /// The published digest.
        expected: &'static str,
        /// The digest of the fetched set.
        found: String,
    },
    /// The set's folder exists, but does not contain the set.
    #[error("`{path}`: expected no folder, or a whole set, found one with {found}")]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What the folder contains instead.
        found: String,
    },
    /// Another process is fetching the set.
    #[error("`{path}`: expected to be alone, found another fetch of the set")]
    Busy {
        /// Path of the lock file.
        path: PathBuf,
    },
}

impl FetchError {
    /// What mends it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Connection { .. } => {
                "the same command begins this file again, and keeps those that are whole; `HF_ENDPOINT` names another server"
            }
            Self::Status { found: 401 | 403, .. } => "`HF_TOKEN` holds a token that may read it",
            Self::Status { found: 404, .. } => {
                "the repository has no such file at this revision; `HF_ENDPOINT` names another server"
            }
            Self::Status { .. } => "try again later; `HF_ENDPOINT` names another server",
            Self::Header { .. } => "is `HF_ENDPOINT` a server of the Hub's kind?",
            Self::Digest { .. } => {
                "none of it is kept, fetch it again; if this stays, what lies between here and the server changes it"
            }
            Self::Cached { .. } => {
                "this file of the Hub's cache was there before and is left as it is; move it away and fetch again, or name another cache by `HF_HUB_CACHE`"
            }
            Self::Transfer { .. } => "`HF_HUB_CACHE` names another cache",
            Self::Revision { .. } => "leave it out for the commit that is known to hold the set",
            Self::Endpoint { .. } => "set or unset `HF_ENDPOINT`",
            Self::Unpublished { .. } => {
                "nothing is put in the data folder; the repository has other images at this revision, or `HF_ENDPOINT` serves others"
            }
            Self::Occupied { .. } => "move it away, or name another folder by `--data-dir`",
            Self::Busy { .. } => "wait for it",
        }
    }
}
