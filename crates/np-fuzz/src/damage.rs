//! Seeded damage: to bytes, and to trees of JSON values.

use serde_json::{Map, Number, Value, json};

/// A small generator of the SplitMix family; the same seed gives the same damage everywhere.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator for this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound.max(1) as u64) as usize
    }

    /// One of these.
    pub fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// Bytes that mean something to many formats.
const BYTES: [u8; 10] = [0, 1, 3, 8, 0x1f, 0x7f, 0x80, 0x8b, 0xfe, 0xff];

/// Lengths that a header may lie about: small, at the borders of 16, 31, 32 and 63 bits, and all ones.
const LENGTHS: [u64; 9] = [0, 1, 0xffff, 1 << 24, 0x7fff_ffff, 0xffff_ffff, 1 << 40, i64::MAX as u64, u64::MAX];

/// Damages `bytes` one to four times, within the first `reach`: a bit flipped, a byte replaced, a length written over in either byte
/// order, a word of `words` put in, a piece cut out or said twice, the end cut off.
pub fn damage(bytes: &mut Vec<u8>, reach: usize, words: &[&str], rng: &mut Rng) {
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len().min(reach));
        let rest = bytes.len() - at;
        match rng.below(8) {
            0 | 1 if rest > 0 => bytes[at] ^= 1 << rng.below(8),
            2 if rest > 0 => bytes[at] = *rng.of(&BYTES),
            3 => {
                let (width, length) = (*rng.of(&[2, 4, 8]), *rng.of(&LENGTHS));
                let big = rng.below(2) == 0;
                for i in 0..width.min(rest) {
                    bytes[at + i] = (length >> (8 * if big { width - 1 - i } else { i })) as u8;
                }
            }
            4 if !words.is_empty() => drop(bytes.splice(at..at, rng.of(words).bytes())),
            5 => drop(bytes.drain(at..at + rng.below(rest.min(64) + 1))),
            6 => {
                let piece = bytes[at..at + rng.below(rest.min(64) + 1)].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            _ => bytes.truncate(at),
        }
    }
}

/// Values that a field of another kind does not expect.
fn stranger(rng: &mut Rng) -> Value {
    let numbers = [0.0, -1.0, 1e-320, 1e308, 4_294_967_296.0, 9_007_199_254_740_993.0, 0.5];
    match rng.below(12) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(""),
        3 => json!([]),
        4 => json!({}),
        5 => json!(u64::MAX),
        6 => json!(i64::MIN),
        7 => Number::from_f64(*rng.of(&numbers)).map_or(Value::Null, Value::Number),
        8 => json!("a.b\u{0}\u{1f600}\n:"),
        9 => json!({"kind": "x"}),
        10 => json!([[[[[]]]]]),
        _ => (0..100).fold(json!(1), |inner, _| json!([inner])),
    }
}

/// Damages a tree in one to three places: a value replaced by a stranger or by another of its own, a key renamed, dropped, or put
/// there with a stranger, a list emptied or said twice.
pub fn damage_tree(tree: &mut Value, words: &[&str], rng: &mut Rng) {
    for _ in 0..=rng.below(3) {
        let mut count = 0;
        visit(tree, &mut |_| count += 1);
        let (from, to) = (rng.below(count), rng.below(count));
        let mut borrowed = Value::Null;
        let mut at = 0;
        visit(tree, &mut |value| {
            if at == from {
                borrowed = value.clone();
            }
            at += 1;
        });
        at = 0;
        let mut seed = Rng::new(rng.bits());
        visit(tree, &mut |value| {
            if at == to {
                change(value, &borrowed, words, &mut seed);
            }
            at += 1;
        });
    }
}

fn change(value: &mut Value, borrowed: &Value, words: &[&str], rng: &mut Rng) {
    match (value, rng.below(4)) {
        (Value::Object(map), 1..) if !map.is_empty() => {
            let key = map.keys().nth(rng.below(map.len())).cloned().unwrap_or_default();
            match rng.below(3) {
                0 => drop(map.remove(&key)),
                1 => {
                    let renamed =
                        |k: String| if k == key && !words.is_empty() { (*rng.of(words)).to_owned() } else { k };
                    let entries: Vec<_> = std::mem::take(map).into_iter().collect();
                    let mut renamed = renamed;
                    *map = entries.into_iter().map(|(k, v)| (renamed(k), v)).collect::<Map<_, _>>();
                }
                _ if !words.is_empty() => drop(map.insert((*rng.of(words)).to_owned(), borrowed.clone())),
                _ => drop(map.insert(key, stranger(rng))),
            }
        }
        (Value::Array(items), 2) => items.clear(),
        (Value::Array(items), 3) => items.extend(items.clone()),
        (Value::Number(number), 3) => {
            if let Some(next) = number.as_f64().and_then(|x| Number::from_f64(x * -1.5)) {
                *number = next;
            }
        }
        (Value::String(text), 3) if !words.is_empty() => (*rng.of(words)).clone_into(text),
        (value, 0) => *value = borrowed.clone(),
        (value, _) => *value = stranger(rng),
    }
}

/// Calls `f` with every value of a tree, from the top.
fn visit(value: &mut Value, f: &mut impl FnMut(&mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| visit(item, f)),
        Value::Object(map) => map.values_mut().for_each(|item| visit(item, f)),
        _ => {}
    }
    f(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_damage_and_most_of_it_is_damage() {
        let mut changed = 0;
        for seed in 0..200 {
            let make = || {
                let (mut bytes, mut tree) =
                    (b"some bytes of a file".to_vec(), json!({"a": [1, 2, {"b": "c"}], "d": 0.5}));
                let mut rng = Rng::new(seed);
                damage(&mut bytes, usize::MAX, &["x"], &mut rng);
                damage_tree(&mut tree, &["a", "e"], &mut rng);
                (bytes, tree)
            };
            let (bytes, tree) = make();
            assert_eq!(make(), (bytes.clone(), tree.clone()));
            changed +=
                usize::from(bytes != b"some bytes of a file" && tree != json!({"a": [1, 2, {"b": "c"}], "d": 0.5}));
        }
        assert!(changed > 150, "{changed}");
    }
}
