//! What the bits of a decomposition depend on: the instruction set and the caches of this CPU.
//!
//! Optimizers that decompose matrices are not [`np_core::Rule::portable`]. Their records and snapshots say on what they were computed, and a run that
//! goes on where that is another says so.

use std::fs;

/// The CPU's instruction set and the sizes of its caches: `AVX-512, caches 48K 2048K 245760K`.
pub(crate) fn arithmetic() -> String {
    let caches = (0..8).filter_map(cache).collect::<Vec<_>>();
    match caches.as_slice() {
        [] => instructions().to_owned(),
        caches => format!("{}, caches {}", instructions(), caches.join(" ")),
    }
}

/// Its size, if there is a cache of this index, and it is one of data.
fn cache(index: usize) -> Option<String> {
    let folder = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
    let read = |name: &str| fs::read_to_string(format!("{folder}/{name}")).ok().map(|text| text.trim().to_owned());
    (read("type")? != "Instruction").then(|| read("size"))?
}

fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "AVX-512";
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            return "AVX2";
        }
    }
    std::env::consts::ARCH
}

/// `past`, what a run was trained on so far, with `now` behind it if that is another; and then, if there is any past, a sentence for the log.
pub(crate) fn going_on(mut past: Vec<String>, now: String) -> (Vec<String>, Option<String>) {
    let remark = past.last().filter(|last| **last != now).map(|last| {
        format!("resumed on another kind of CPU ({now}, before {last}): from here on the bits are those of this one")
    });
    if past.last() != Some(&now) {
        past.push(now);
    }
    (past, remark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_cpu_is_said_and_kept() {
        let (past, remark) = going_on(Vec::new(), "AVX2".to_owned());
        assert_eq!((past.as_slice(), remark), (["AVX2".to_owned()].as_slice(), None));
        let (past, remark) = going_on(past, "AVX2".to_owned());
        assert_eq!((past.len(), remark), (1, None));
        let (past, remark) = going_on(past, "AVX-512, caches 48K".to_owned());
        assert_eq!(past, ["AVX2", "AVX-512, caches 48K"]);
        assert!(remark.is_some_and(|text| text.contains("(AVX-512, caches 48K, before AVX2)")));
    }

    #[test]
    fn this_cpu_has_an_arithmetic() {
        assert!(!arithmetic().is_empty());
        assert_eq!(arithmetic(), arithmetic());
    }
}
