//! Where the Hub has each data set: repository, commit and files, and where else its cache may hold them.

use crate::name::DataName;

/// A set's two parquet files, train and test, at one revision of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Owner of the repository; empty where the Hub knows it by a short name.
    pub(super) owner: &'static str,
    /// Name of the repository.
    pub(super) repository: &'static str,
    /// A commit, a branch or a tag.
    pub(super) revision: String,
    /// Paths in the repository: train, test.
    pub(super) files: [String; 2],
    /// SHA-256 of the two files, where they are known beforehand.
    pub(super) known: Option<[&'static str; 2]>,
}

/// The revision in which the Hub keeps its own conversion of every set to parquet, and from which candle-datasets reads.
const CONVERTED: &str = "refs/convert/parquet";

/// The commit that is fetched where no other is asked for.
fn commit(name: DataName) -> &'static str {
    match name {
        DataName::Mnist => "77f3279092a1c1579b2250db8eafed0ad422088c",
        DataName::FashionMnist => "531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2",
        DataName::Cifar10 => "0b2714987fa478483af9968de7c934580d0bb9a2",
    }
}

/// Digests of CIFAR-10's files at its commit, as those who pin them elsewhere agree. MNIST and Fashion-MNIST need none: the digest of their
/// pixels is known.
const CIFAR10: [&str; 2] = [
    "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
    "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
];

/// Where a set is fetched from: at `revision`, or at the commit that is known to hold it.
pub(super) fn place(name: DataName, revision: Option<&str>) -> Place {
    let (owner, repository, folder) = match name {
        DataName::Mnist => ("ylecun", "mnist", "mnist"),
        DataName::FashionMnist => ("zalando-datasets", "fashion_mnist", "fashion_mnist"),
        DataName::Cifar10 => ("uoft-cs", "cifar10", "plain_text"),
    };
    let files = ["train", "test"].map(|part| format!("{folder}/{part}-00000-of-00001.parquet"));
    let revision = revision.unwrap_or(commit(name)).to_owned();
    let known = (name == DataName::Cifar10 && revision == commit(name)).then_some(CIFAR10);
    Place { owner, repository, revision, files, known }
}

/// Where the Hub's cache may hold the set besides, from programs that read the Hub's own conversion.
pub(super) fn converted(name: DataName) -> Place {
    let Place { owner, repository, files, .. } = place(name, None);
    let owner = if name == DataName::Cifar10 { "" } else { owner };
    let files = files.map(|file| file.replace("-00000-of-00001.parquet", "/0000.parquet"));
    Place { owner, repository, revision: CONVERTED.to_owned(), files, known: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_at_one_commit_unless_another_revision_is_asked_for() {
        for name in DataName::ALL {
            let pinned = place(name, None);
            assert!(pinned.revision.len() == 40 && pinned.revision.bytes().all(|byte| byte.is_ascii_hexdigit()));
            assert_eq!(place(name, Some(&pinned.revision)), pinned);
            let main = place(name, Some("main"));
            assert_eq!((main.revision.as_str(), main.known, main.files), ("main", None, pinned.files));
        }
        assert!(place(DataName::Cifar10, None).known.is_some());
        // The paths that candle-datasets 0.11 reads.
        let files = DataName::ALL.map(|name| converted(name).files[0].clone());
        assert_eq!(
            files,
            ["mnist/train/0000.parquet", "fashion_mnist/train/0000.parquet", "plain_text/train/0000.parquet"]
        );
    }
}
