//! One parser under fuzz: its corpus, its share of a campaign, and the memory that it is allowed.

use std::{
    cell::Cell,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    path::{Path, PathBuf},
    sync::Once,
};

use crate::{Rng, measure};

/// The variable that says how many inputs all targets together make.
const CAMPAIGN: &str = "NP_FUZZ";

thread_local! {
    static PARSING: Cell<bool> = const { Cell::new(false) };
}

/// A panic of a parser is told by its target, if the parser does not catch it itself: the usual account, with its backtrace, would be long,
/// and would count as the parser's memory.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if !PARSING.get() {
                usual(info);
            }
        }));
    });
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words")
}

/// A parser under fuzz.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its name, also that of the inputs it leaves behind.
    pub name: &'a str,
    /// Folder of inputs that were found once, which are tried first; each is a file.
    pub corpus: &'a Path,
    /// Inputs without a campaign, and at least with one.
    pub inputs: usize,
    /// Of a campaign's inputs, how many of a hundred are this target's.
    pub percent: usize,
    /// Bytes that the parser may hold for an empty input.
    pub base: usize,
    /// And for each byte of its input.
    pub per_byte: usize,
}

/// A folder for files that are written a million times: in memory where the system has such a one, else the usual one.
#[must_use]
pub fn memory_folder() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { env::temp_dir() }
}

impl Target<'_> {
    /// Feeds `parse` the corpus and then what `make` makes; `parse` says whether it accepted. Returns how many inputs were made, and
    /// how many of them accepted.
    ///
    /// # Panics
    /// If `parse` panics, or holds more memory than it may: the test fails, with the place where the input is kept.
    pub fn run(
        &self,
        mut make: impl FnMut(&mut Rng) -> Vec<u8>,
        mut parse: impl FnMut(&[u8]) -> bool,
    ) -> (usize, usize) {
        let campaign = env::var(CAMPAIGN).ok().and_then(|count| count.parse::<usize>().ok());
        let inputs = campaign.map_or(0, |count| (count * self.percent).div_ceil(100)).max(self.inputs);
        quiet_panics();
        for path in self.corpus_files() {
            let bytes = fs::read(&path).unwrap_or_default();
            self.check(&bytes, &mut parse, &path.display().to_string());
        }
        let (mut accepted, mut most) = (0, 0);
        for round in 0..inputs {
            let bytes = make(&mut Rng::new(round as u64));
            if campaign.is_some() {
                let _ = fs::write(self.kept("current"), &bytes);
            }
            let (good, peak) = self.check(&bytes, &mut parse, &format!("round {round}"));
            accepted += usize::from(good);
            most = most.max(peak);
        }
        let _ = fs::remove_file(self.kept("current"));
        eprintln!("{}: {inputs} inputs, {accepted} accepted, at most {most} bytes held", self.name);
        (inputs, accepted)
    }

    fn corpus_files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.corpus).into_iter().flatten().flatten().map(|e| e.path()).collect();
        files.retain(|path| path.is_file());
        files.sort();
        files
    }

    fn check(&self, bytes: &[u8], parse: &mut impl FnMut(&[u8]) -> bool, which: &str) -> (bool, usize) {
        PARSING.set(true);
        let (result, peak) = measure(|| catch_unwind(AssertUnwindSafe(|| parse(bytes))));
        PARSING.set(false);
        let allowed = self.base + self.per_byte * bytes.len();
        let what = match result {
            Ok(good) if peak <= allowed => return (good, peak),
            Ok(_) => format!("{peak} bytes held, {allowed} allowed"),
            Err(panic) => format!("a panic, `{}`", words(panic.as_ref())),
        };
        let path = self.kept("found");
        let _ = fs::write(&path, bytes);
        panic!("{}, {which}: {what}, from the {} bytes kept in `{}`", self.name, bytes.len(), path.display());
    }

    fn kept(&self, what: &str) -> PathBuf {
        memory_folder().join(format!("np-fuzz-{}-{what}", self.name))
    }
}
