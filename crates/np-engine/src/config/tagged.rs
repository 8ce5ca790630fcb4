//! Enums in configurations: `name`, or `{name: {fields}}`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, Visitor};

/// Defines an enum of structs with defaults, written as `{name: {fields}}`, and read from that or a bare `name`.
#[doc(hidden)]
#[macro_export]
macro_rules! tagged {
    (
        $(#[$outer:meta])*
        pub enum $name:ident { $($(#[$attribute:meta])* $variant:ident($settings:ty),)* }
    ) => {
        $(#[$outer])*
        #[derive(serde::Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$attribute])* $variant($settings),)* }

        const _: () = {
            /// What it is read as, once a bare name has become a map.
            #[derive(serde::Deserialize)]
            #[serde(rename_all = "snake_case")]
            #[allow(clippy::large_enum_variant)]
            enum Tagged { $($(#[$attribute])* $variant($settings),)* }

            impl<'de> serde::Deserialize<'de> for $name {
                fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                    Ok(match $crate::config::tagged::name_or_map(deserializer)? {
                        $(Tagged::$variant(settings) => Self::$variant(settings),)*
                    })
                }
            }
        };
    };
}

/// Reads an externally tagged enum whose variants all hold a struct with defaults, and takes a bare `name` for `{name: {}}`.
pub fn name_or_map<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct NameOrMap<T>(PhantomData<T>);
    impl<'de, T: DeserializeOwned> Visitor<'de> for NameOrMap<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a name, or a map of one name to its settings")
        }

        fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
            let nothing: [(String, ()); 0] = [];
            let settings = MapDeserializer::<_, E>::new(nothing.into_iter());
            T::deserialize(MapAccessDeserializer::new(One(Some((name, settings)), PhantomData)))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(NameOrMap(PhantomData))
}

/// A map of one entry, whose value has a deserializer of its own.
struct One<'a, V, E>(Option<(&'a str, V)>, PhantomData<E>);

impl<'de, V: Deserializer<'de, Error = E>, E: Error> MapAccess<'de> for One<'_, V, E> {
    type Error = E;

    fn next_key_seed<K: serde::de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, E> {
        use serde::de::IntoDeserializer;
        self.0.as_ref().map(|(name, _)| seed.deserialize((*name).into_deserializer())).transpose()
    }

    fn next_value_seed<S: serde::de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, E> {
        match self.0.take() {
            Some((_, value)) => seed.deserialize(value),
            None => Err(E::custom("a second value")),
        }
    }
}
