//! Whether a data set is the published one of its name, and its title.
//!
//! A folder may contain any data in the published format. A set with an unknown digest does not get the published name. Its title is
//! `custom data in fashion-mnist (digest 0123456789ab)`, so that no figure presents it as Fashion-MNIST.

use crate::digest::{CIFAR10_JPEG, known_digest};
use crate::name::{DataName, Source};
use crate::note::is_word;

/// Whether a data set is the published one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// It is: its digest is that of the published examples, the embedded ones, or the known JPEG copies of CIFAR-10.
    Published,
    /// It may be: 50,000 + 10,000 examples under the name of CIFAR-10, whose published digest is not known here.
    Unverified,
    /// It is not: other examples, or another number of them.
    Custom,
}

/// The digits of a digest that a title shows.
const DIGITS: usize = 12;

impl Identity {
    /// The identity of a set with this digest. `examples` are its numbers of training and test examples, if they are known.
    pub fn of(name: DataName, source: Source, digest: &str, examples: Option<[usize; 2]>) -> Self {
        match known_digest(name, source) {
            Some(known) if known == digest => Self::Published,
            None if digest == CIFAR10_JPEG => Self::Published,
            // Nothing else is known of a set that is not at hand.
            None if examples.is_none_or(|examples| examples == name.examples()) => Self::Unverified,
            _ => Self::Custom,
        }
    }

    /// The identity and title of a set that has not been loaded, from its digest and from the identity and title `told` by others, such as a plan. What
    /// is told is used only where the digest decides nothing: that an unverified set is a custom one, and the variant in its title.
    pub fn of_told(name: DataName, source: Source, digest: &str, told: (Self, &str)) -> (Self, String) {
        let identity = match Self::of(name, source, digest, None) {
            Self::Unverified if told.0 == Self::Custom => Self::Custom,
            identity => identity,
        };
        let called = |variant: Option<&str>| identity.title(name, source, variant, digest);
        let plain = called(None);
        let mut words = told.1.split('(').skip(1).filter_map(|rest| rest.split([',', ')']).next());
        let is_named = |word: &str| is_word(word) && called(Some(word)) == told.1;
        let is_known = identity == Self::Published;
        let title = words.find(|word| !is_known && is_named(word)).map(|word| called(Some(word)));
        (identity, title.unwrap_or(plain))
    }

    /// The name of a set for figures. `variant` is the variant that an import has noted (`JPEG`).
    pub fn title(self, name: DataName, source: Source, variant: Option<&str>, digest: &str) -> String {
        let digits = digest.get(..DIGITS).unwrap_or(digest);
        let published = name.title(source);
        match (self, variant) {
            // With or without a note beside them.
            (Self::Published, _) if digest == CIFAR10_JPEG => format!("{published} (JPEG)"),
            (Self::Published, None) => published.to_owned(),
            (Self::Published, Some(variant)) => format!("{published} ({variant})"),
            (Self::Unverified, None) => format!("{published} (unverified, digest {digits})"),
            (Self::Unverified, Some(variant)) => format!("{published} ({variant}) (unverified, digest {digits})"),
            (Self::Custom, None) => format!("custom data in {name} (digest {digits})"),
            (Self::Custom, Some(variant)) => format!("custom data in {name} ({variant}, digest {digits})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_gets_the_published_name() {
        let other = "0123456789abcdef".repeat(4);
        let whole = Some([60_000, 10_000]);
        for name in [DataName::Mnist, DataName::FashionMnist] {
            for source in Source::ALL {
                let known = known_digest(name, source).unwrap();
                assert_eq!(Identity::of(name, source, known, None), Identity::Published);
                assert_eq!(Identity::of(name, source, &other, whole), Identity::Custom);
                assert_eq!(Identity::of(name, source, &other, None), Identity::Custom);
                let title = Identity::Custom.title(name, source, None, &other);
                assert_eq!(title, format!("custom data in {name} (digest 0123456789ab)"));
            }
            let [mini, full] = Source::ALL.map(|source| known_digest(name, source).unwrap());
            assert_eq!(
                Identity::of(name, Source::Full, mini, None),
                Identity::Custom,
                "the embedded images in a folder"
            );
            assert_eq!(Identity::of(name, Source::Mini, full, None), Identity::Custom);
        }
    }

    #[test]
    fn what_is_told_of_a_set_is_believed_where_nobody_knows_better() {
        let told = |name, digest: &str, identity, title: &str| {
            Identity::of_told(name, Source::Full, digest, (identity, title))
        };
        let (known, other) = (known_digest(DataName::Mnist, Source::Full).unwrap(), "0123456789abcdef".repeat(4));
        let mnist = (Identity::Published, "MNIST".to_owned());
        for (identity, title) in [(Identity::Custom, "Fashion-MNIST"), (Identity::Published, "MNIST (JPEG)")] {
            assert_eq!(told(DataName::Mnist, known, identity, title), mnist);
        }
        let custom = (Identity::Custom, "custom data in mnist (digest 0123456789ab)".to_owned());
        assert_eq!(told(DataName::Mnist, &other, Identity::Published, "MNIST"), custom);
        assert_eq!(told(DataName::Mnist, &other, Identity::Custom, &custom.1), custom);
        for identity in [Identity::Unverified, Identity::Custom] {
            for variant in [None, Some("JPEG"), Some("digest9"), Some("d")] {
                let title = identity.title(DataName::Cifar10, Source::Full, variant, &other);
                assert_eq!(told(DataName::Cifar10, &other, identity, &title), (identity, title));
            }
            let plain = identity.title(DataName::Cifar10, Source::Full, None, &other);
            for forged in ["CIFAR-10", "", "CIFAR-10 (", "CIFAR-10 (JPEG) (verified)", "é"] {
                assert_eq!(told(DataName::Cifar10, &other, identity, forged), (identity, plain.clone()));
            }
        }
        assert_eq!(told(DataName::Cifar10, &other, Identity::Published, "CIFAR-10").0, Identity::Unverified);
    }

    #[test]
    fn cifar_is_whole_with_its_sixty_thousand_alone() {
        let of = |digest: &str, examples| Identity::of(DataName::Cifar10, Source::Full, digest, examples);
        let other = "fedcba9876543210".repeat(4);
        assert_eq!(of(&other, Some([50_000, 10_000])), Identity::Unverified);
        for examples in [[5, 1], [10_000, 50_000], [50_000, 9_999], [50_005, 10_000]] {
            assert_eq!(of(&other, Some(examples)), Identity::Custom, "{examples:?}");
        }
        assert_eq!(of(CIFAR10_JPEG, Some([50_000, 10_000])), Identity::Published);
        let title = |identity: Identity, variant| identity.title(DataName::Cifar10, Source::Full, variant, &other);
        let copies = Identity::Published.title(DataName::Cifar10, Source::Full, None, CIFAR10_JPEG);
        assert_eq!(copies, "CIFAR-10 (JPEG)", "without a note, too");
        assert_eq!(title(Identity::Unverified, None), "CIFAR-10 (unverified, digest fedcba987654)");
        assert_eq!(title(Identity::Custom, Some("JPEG")), "custom data in cifar10 (JPEG, digest fedcba987654)");
    }
}
