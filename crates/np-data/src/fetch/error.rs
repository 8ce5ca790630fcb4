//! What can go wrong on the way from the Hub.

use std::path::PathBuf;

use crate::name::DataName;

/// Why a set could not be fetched. Messages name the address or the file, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No connection, or one that ended too often; what has arrived is kept.
    #[error(
        "`{url}`: expected the file, found `{found}`\nhint: the same command goes on from what has arrived; `HF_ENDPOINT` names another server"
    )]
    Connection {
        /// The address.
        url: String,
        /// What the system or the protocol said.
        found: String,
    },
    /// The server refused.
    #[error("`{url}`: expected status 200 or 206, found {found}\nhint: `HF_ENDPOINT` names another server")]
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
    /// The bytes are not those that the Hub has the digest of.
    #[error(
        "`{url}`: expected {expected}, found {found}\nhint: none of it is kept, fetch it again; if this stays, what lies between here and the server changes it"
    )]
    Digest {
        /// The address.
        url: String,
        /// Size and SHA-256 as the Hub says.
        expected: String,
        /// Those of what arrived.
        found: String,
    },
    /// A whole file, but not the published examples.
    #[error(
        "`{name}`: expected the published set, digest `{expected}`, found another, digest `{found}`\nhint: none of it is kept; the repository has changed, or `HF_ENDPOINT` serves another"
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

impl FetchError {
    /// Whether the server has no such range as was asked for, or sent another.
    pub(super) fn is_about_range(&self) -> bool {
        matches!(self, Self::Status { found: 416, .. } | Self::Header { header: "content-range", .. })
    }
}
