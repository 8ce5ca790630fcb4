//! The SHA-256 digest of a data set, and the known digests of the published sets.
//!
//! The digest covers pixels and labels, not files: compression, file names and time stamps do not matter. It is SHA-256 over
//! the bytes `np-data/1\n`, then for `train` and then for `test`: the split's name and `\n`; channels, height, width and number
//! of examples, each as a little-endian 64-bit integer; the labels; the pixels. Lengths come before contents, so that two
//! different sets cannot give the same bytes.

use sha2::{Digest, Sha256};

use crate::dataset::Split;
use crate::name::{DataName, Source};

/// The digest of a data set, as the module describes: 64 lower-case hexadecimal digits.
pub fn digest(train: &Split, test: &Split) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"np-data/1\n");
    for (name, split) in [("train\n", train), ("test\n", test)] {
        hasher.update(name);
        for size in split.shape.iter().chain([&split.len()]) {
            hasher.update((*size as u64).to_le_bytes());
        }
        hasher.update(&split.labels);
        hasher.update(&split.images);
    }
    hex(&hasher.finalize())
}

/// Bytes as lower-case hexadecimal digits, two each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of the official set: the embedded one for [`Source::Mini`], the complete 60,000 + 10,000 for [`Source::Full`].
///
/// `None` for CIFAR-10: it has no embedded set, and the digest of its published files is not known here.
pub fn known_digest(name: DataName, source: Source) -> Option<&'static str> {
    Some(match (name, source) {
        (DataName::Mnist, Source::Mini) => "a4d04a88d03b95bcc7e8053cbe7d2cfc0c7896fc38f9730fa4e1c4ff4782387a",
        (DataName::Mnist, Source::Full) => "f2ac7c019843045901dd686167bb3192802d94b34d673a45cd688f8c018c41a7",
        (DataName::FashionMnist, Source::Mini) => "247b28574bc8c50640049e39116aa005223578e173a6d3784ab698e0b898988c",
        (DataName::FashionMnist, Source::Full) => "432fc532388bc818baf0bd7925f7bba505422e75ee135cfc24e264e81fa61c76",
        (DataName::Cifar10, _) => return None,
    })
}

/// The digest of the JPEG copies of CIFAR-10 that the committed records were made with.
pub(crate) const CIFAR10_JPEG: &str = "43fe5e11e0acf11803d9dd2227bb0c46060bc3ba977a21d9b598ebf55c2c5975";

#[cfg(test)]
mod tests {
    use super::*;

    fn split(images: &[u8], labels: &[u8], shape: [usize; 3]) -> Split {
        Split { images: images.to_vec(), labels: labels.to_vec(), shape }
    }

    #[test]
    fn the_definition_is_pinned() {
        // Python: sha256(b'np-data/1\n' b'train\n' + pack('<4Q', 1, 1, 2, 1) + b'\3\7\10' + b'test\n' + pack('<4Q', 1, 1, 2, 0))
        let one = split(&[7, 8], &[3], [1, 1, 2]);
        let none = split(&[], &[], [1, 1, 2]);
        assert_eq!(digest(&one, &none), "6f9079416e1e8d5c54b47b085a02b7d2aa9ee9bf361b010729ab567b8ade714c");
    }

    #[test]
    fn every_part_counts() {
        let base = split(&[1, 2, 3, 4], &[0, 1], [1, 1, 2]);
        let others = [
            split(&[1, 2, 3, 5], &[0, 1], [1, 1, 2]),
            split(&[1, 2, 3, 4], &[1, 1], [1, 1, 2]),
            split(&[1, 2, 3, 4], &[0, 1], [1, 2, 1]),
        ];
        let reference = digest(&base, &base);
        for other in &others {
            assert_ne!(digest(other, &base), reference);
            assert_ne!(digest(&base, other), reference);
            assert_ne!(digest(&base, other), digest(other, &base));
        }
    }
}
