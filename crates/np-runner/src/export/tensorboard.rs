//! A run as TensorBoard's event file: scalars by step.
//!
//! The form is three messages of numbers and one word each in TensorFlow's record framing, which is written here in full: of the crates for it one has stood still for
//! years, with a protocol compiler of an old version, and the other names no licence.

use np_record::{Phases, PlannedRun, Record};

/// The folder of a run below that of its experiment: arm, values of its axes, seed. TensorBoard calls the run so.
pub(crate) fn folder_of(run: &PlannedRun) -> String {
    let mut name = run.arm.clone();
    for (axis, value) in &run.axes {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        name += &format!(",{axis}={value}");
    }
    // What no file system refuses, and no path goes up by.
    let kept = |c: char| if c.is_alphanumeric() || ",=._-".contains(c) { c } else { '_' };
    let wanted = name;
    let name: String = wanted.chars().map(kept).collect();
    let kept = name.trim_start_matches('.');
    // Names that were changed or are long could meet another's: the run's id tells them apart.
    let folder = match kept == wanted && (1..=LONGEST).contains(&kept.len()) {
        true => kept.to_owned(),
        false => format!("{},{}", kept.chars().take(LONGEST / 4).collect::<String>(), run.id),
    };
    format!("{folder}/seed-{}", run.seed)
}

/// Bytes of a folder's name that every file system takes, with something to spare.
const LONGEST: usize = 200;

/// The bytes of an event file. Its clock begins at 0 and counts the seconds of training.
pub(crate) fn events(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    let mut version = Vec::new();
    number(&mut version, 1, 0.0);
    bytes(&mut version, 3, b"brain.Event:2");
    frame(&mut out, &version);
    let mut seconds = 0.0;
    for (place, epoch) in record.epochs.iter().enumerate() {
        seconds += record.timing.get(place).map_or(0.0, Phases::total);
        let scalars = [
            ("train/loss", Some(epoch.train_loss)),
            ("train/accuracy", epoch.train_accuracy),
            ("test/loss", epoch.test_loss),
            ("test/accuracy", epoch.test_accuracy),
            ("train/lr", Some(epoch.lr)),
            ("validation/loss", epoch.validation.map(|score| score.loss)),
            ("validation/accuracy", epoch.validation.and_then(|score| score.accuracy)),
        ];
        let mut scalars: Vec<(String, f64)> =
            scalars.into_iter().filter_map(|(tag, value)| Some((tag.to_owned(), value?))).collect();
        scalars.extend(epoch.metrics.iter().map(|(name, value)| (name.replacen('_', "/", 1), *value)));
        scalars.extend(epoch.diagnostics.iter().map(|(name, value)| (format!("diagnostics/{name}"), *value)));
        let mut event = Vec::new();
        number(&mut event, 1, seconds);
        key(&mut event, 2, 0);
        varint(&mut event, epoch.steps as u64);
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut scalar = Vec::new();
            bytes(&mut scalar, 1, tag.as_bytes());
            key(&mut scalar, 2, 5);
            #[expect(clippy::cast_possible_truncation, reason = "a scalar is of single precision there")]
            scalar.extend((value as f32).to_le_bytes());
            bytes(&mut summary, 1, &scalar);
        }
        bytes(&mut event, 5, &summary);
        frame(&mut out, &event);
    }
    out
}

/// A field's number and kind: 0 a varint, 1 eight bytes, 2 a length and bytes, 5 four bytes.
fn key(out: &mut Vec<u8>, field: u64, kind: u64) {
    varint(out, field << 3 | kind);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

fn number(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// Length, its checksum, the message, its checksum.
fn frame(out: &mut Vec<u8>, message: &[u8]) {
    let length = (message.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked(&length).to_le_bytes());
    out.extend(message);
    out.extend(masked(message).to_le_bytes());
}

/// A checksum that is not that of data which holds its own checksum.
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli, RFC 3720).
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // RFC 3720, B.4: 32 bytes of zeros, of ones, and 0 to 31.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }

    #[test]
    fn a_number_of_many_bits_takes_several_bytes() {
        let written = |value: u64| {
            let mut out = Vec::new();
            varint(&mut out, value);
            out
        };
        // The example of the protocol's documentation.
        assert_eq!(written(150), [0x96, 0x01]);
        assert_eq!(written(1), [1]);
        assert_eq!(written(u64::MAX).len(), 10);
    }

    #[test]
    fn a_folder_stays_below_its_experiment() {
        let run = |arm: &str| PlannedRun {
            id: "0123".into(),
            arm: arm.into(),
            seed: 7,
            axes: [("optimizer.lr".to_owned(), serde_json::json!(0.1))].into(),
            config: serde_json::Value::Null,
            data_digest: String::new(),
        };
        assert_eq!(folder_of(&run("adamw")), "adamw,optimizer.lr=0.1/seed-7");
        assert_eq!(folder_of(&run("../../etc")), "_.._etc,optimizer.lr=0.1,0123/seed-7");
        let bare = PlannedRun { axes: std::collections::BTreeMap::new(), ..run("..") };
        assert_eq!(folder_of(&bare), ",0123/seed-7");
        let long = folder_of(&run(&"α".repeat(300)));
        assert!(long.len() < 255 && long.ends_with(",0123/seed-7"), "{long}");
    }
}
