//! Launches that are queued as one: which are, in what order they reach the machine, and that nothing overtakes what it depends on.
#![allow(clippy::unwrap_used)]

use np_cuda::machine::Machine;
use np_cuda::replay::{Capturing, Launching, Replaying, Replays};
use np_cuda::{Error, Result};

/// What a machine was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Upload(usize, Vec<u8>),
    Reserve(usize, usize),
    Launch(String, Vec<u64>),
    Capture(usize),
    Replay(usize),
    Numbers,
}

use Asked::{Capture, Launch, Numbers, Replay, Reserve, Upload};

/// Writes down what it is asked for. A graph is its number.
#[derive(Default)]
struct Written {
    asked: Vec<Asked>,
    graphs: usize,
    /// Launches so far that are refused.
    refuses: bool,
    /// Captures that were asked for, if these are refused.
    refused_captures: Option<usize>,
}

impl Machine for Written {
    fn upload(&mut self, buffer: usize, bytes: &[u8]) -> Result<u64> {
        self.asked.push(Upload(buffer, bytes.to_vec()));
        Ok(buffer as u64)
    }

    fn reserve(&mut self, buffer: usize, bytes: usize) -> Result<u64> {
        self.asked.push(Reserve(buffer, bytes));
        Ok(buffer as u64)
    }

    fn launch(&mut self, _: &str, name: &str, _: usize, _: u32, words: &[u64]) -> Result<()> {
        if self.refuses {
            return Err(Error::Driver { what: "launch a kernel", why: "it was told to".to_string() });
        }
        self.asked.push(Launch(name.to_string(), words.to_vec()));
        Ok(())
    }

    fn numbers(&mut self, _: usize, count: usize) -> Result<Vec<f64>> {
        self.asked.push(Numbers);
        Ok(vec![0.0; count])
    }
}

impl Capturing for Written {
    type Graph = usize;

    fn capture(&mut self, launch: impl FnOnce(&mut Self) -> Result<()>) -> Result<usize> {
        if let Some(count) = &mut self.refused_captures {
            *count += 1;
            return Err(Error::Driver { what: "capture launches", why: "it was told to".to_string() });
        }
        let before = self.asked.len();
        launch(self)?;
        // Captured is not run.
        self.asked.truncate(before);
        self.graphs += 1;
        self.asked.push(Capture(self.graphs));
        Ok(self.graphs)
    }

    fn replay(&mut self, graph: &usize) -> Result<()> {
        self.asked.push(Replay(*graph));
        Ok(())
    }
}

fn launched(name: &str, words: &[u64]) -> Asked {
    Launch(name.to_string(), words.to_vec())
}

/// A step of two launches with this word, after a copy; what the machine was asked for in it.
fn step(machine: &mut Written, replays: &mut Replays<usize>, launching: Launching, word: u64) -> Vec<Asked> {
    machine.asked.clear();
    let mut ours = Replaying::new(machine, replays, launching);
    ours.upload(0, &[7]).unwrap();
    ours.launch("text of a", "a", 1, 1, &[1, word]).unwrap();
    ours.reserve(1, 8).unwrap();
    ours.launch("text of b", "b", 1, 1, &[word]).unwrap();
    ours.launch("text of c", "c", 0, 1, &[]).unwrap();
    ours.finish().unwrap();
    std::mem::take(&mut machine.asked)
}

#[test]
fn what_was_launched_before_is_replayed() {
    let (mut machine, mut replays) = (Written::default(), Replays::default());
    let mut next = |word| step(&mut machine, &mut replays, Launching::Graph, word);
    let copied = Upload(0, vec![7]);
    let each = |word| [launched("a", &[1, word]), launched("b", &[word])];
    // In the first step a buffer grows: what was launched before it is queued first.
    let [a, b] = each(5);
    assert_eq!(next(5), [copied.clone(), a, Reserve(1, 8), b]);
    // From then on its launches are one list: one by one at first.
    let [a, b] = each(5);
    assert_eq!(next(5), [copied.clone(), Reserve(1, 8), a, b]);
    assert_eq!(next(5), [copied.clone(), Reserve(1, 8), Capture(1), Replay(1)]);
    assert_eq!(next(5), [copied.clone(), Reserve(1, 8), Replay(1)]);
    // Another list, which takes turns with the first.
    let [a, b] = each(6);
    assert_eq!(next(6), [copied.clone(), Reserve(1, 8), a, b]);
    assert_eq!(next(5), [copied.clone(), Reserve(1, 8), Replay(1)]);
    assert_eq!(next(6), [copied.clone(), Reserve(1, 8), Capture(2), Replay(2)]);
    assert_eq!(next(5), [copied, Reserve(1, 8), Replay(1)]);
}

#[test]
fn few_lists_are_kept() {
    let (mut machine, mut replays) = (Written::default(), Replays::default());
    for word in [1, 1, 1, 2, 3, 4, 5, 6, 7, 8] {
        step(&mut machine, &mut replays, Launching::Graph, word);
    }
    let last = |asked: Vec<Asked>| asked.last().cloned().unwrap();
    assert_eq!(last(step(&mut machine, &mut replays, Launching::Graph, 1)), Replay(1), "eight are");
    for word in 2..=9 {
        step(&mut machine, &mut replays, Launching::Graph, word);
    }
    assert_eq!(last(step(&mut machine, &mut replays, Launching::Graph, 1)), launched("b", &[1]), "and no ninth");
}

#[test]
fn one_by_one_is_as_it_is_asked_for() {
    let (mut machine, mut replays) = (Written::default(), Replays::default());
    for _ in 0..3 {
        let asked = step(&mut machine, &mut replays, Launching::Each, 5);
        let none_of_c = asked.iter().filter(|asked| **asked != launched("c", &[])).cloned().collect::<Vec<_>>();
        let [a, b] = [launched("a", &[1, 5]), launched("b", &[5])];
        assert_eq!(none_of_c, [Upload(0, vec![7]), a, Reserve(1, 8), b]);
    }
}

#[test]
fn nothing_overtakes_a_launch_that_could_notice_it() {
    let (mut machine, mut replays) = (Written::default(), Replays::default());
    let mut ours = Replaying::new(&mut machine, &mut replays, Launching::Graph);
    ours.launch("text of a", "a", 1, 1, &[]).unwrap();
    ours.upload(0, &[1]).unwrap();
    ours.launch("text of b", "b", 1, 1, &[]).unwrap();
    ours.numbers(0, 1).unwrap();
    ours.launch("text of c", "c", 1, 1, &[]).unwrap();
    ours.finish().unwrap();
    let expected = [launched("a", &[]), Upload(0, vec![1]), launched("b", &[]), Numbers, launched("c", &[])];
    assert_eq!(machine.asked, expected);
}

#[test]
fn launches_that_are_not_captured_are_queued_one_by_one() {
    let mut machine = Written { refused_captures: Some(0), ..Written::default() };
    let mut replays = Replays::default();
    for _ in 0..4 {
        let asked = step(&mut machine, &mut replays, Launching::Graph, 5);
        let [a, b] = [launched("a", &[1, 5]), launched("b", &[5])];
        assert!(
            asked.ends_with(&[Reserve(1, 8), a.clone(), b.clone()]) || asked.ends_with(&[a, Reserve(1, 8), b]),
            "{asked:?}"
        );
    }
    assert_eq!(machine.refused_captures, Some(1), "and not asked for again");
}

#[test]
fn what_an_error_has_left_is_forgotten() {
    let (mut machine, mut replays) = (Written::default(), Replays::default());
    machine.refuses = true;
    let mut ours = Replaying::new(&mut machine, &mut replays, Launching::Graph);
    ours.launch("text of a", "a", 1, 1, &[]).unwrap();
    ours.launch("text of b", "b", 1, 1, &[]).unwrap();
    assert!(ours.finish().is_err());
    let mut ours = Replaying::new(&mut machine, &mut replays, Launching::Graph);
    ours.launch("text of a", "a", 1, 1, &[]).unwrap();
    machine.refuses = false;
    let asked = step(&mut machine, &mut replays, Launching::Graph, 5);
    assert_eq!(asked[..2], [Upload(0, vec![7]), launched("a", &[1, 5])]);
}
