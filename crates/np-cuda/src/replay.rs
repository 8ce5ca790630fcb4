//! Launches that are the same step after step, queued as one: a machine before a machine.
//!
//! What is launched through [`Replaying`] is written down first. What is copied to the device is copied at once: numbers that change from step to step (rates, gates, counts of
//! steps) are in the device's memory before anything is queued, and so the launches themselves stay the same. A list of launches that has been seen twice is captured, and from
//! then on is queued by one call.

use crate::Result;
use crate::machine::Machine;

/// How launches reach a device. The numbers are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Launching {
    /// Those that were seen before as one graph. The default.
    #[default]
    Graph,
    /// Always one by one: more work for the host.
    Each,
}

/// A machine that can queue several launches as one.
pub trait Capturing: Machine {
    /// Such launches.
    type Graph;

    /// What `launch` launches, which is not run now. All of it has been launched before.
    ///
    /// # Errors
    /// Those of `launch`; [`crate::Error::Driver`].
    fn capture(&mut self, launch: impl FnOnce(&mut Self) -> Result<()>) -> Result<Self::Graph>;

    /// Runs them once more.
    ///
    /// # Errors
    /// [`crate::Error::Driver`].
    fn replay(&mut self, graph: &Self::Graph) -> Result<()>;
}

/// Most lists that are kept, the one that was seen last first. A step has one or two: what is counted anew at an epoch's beginning has another first step, and
/// numbers that are read from one place and written to another change places from step to step.
const LISTS: usize = 8;

/// A kernel's launch.
#[derive(Debug, PartialEq, Eq)]
struct Launch {
    kernel: usize,
    blocks: usize,
    threads: u32,
    /// How many of the list's words are its own.
    words: usize,
}

/// Launches in their order.
#[derive(Debug, Default, PartialEq, Eq)]
struct List {
    launches: Vec<Launch>,
    words: Vec<u64>,
}

/// A list that was seen, and its graph from the second time on.
#[derive(Debug)]
struct Seen<G> {
    list: List,
    graph: Option<G>,
    /// The machine has refused to capture it: it is launched one by one from then on.
    refused: bool,
}

/// What is kept from step to step: lists of launches, and their graphs.
#[derive(Debug)]
pub struct Replays<G> {
    /// Texts, with their functions.
    kernels: Vec<(String, String)>,
    list: List,
    seen: Vec<Seen<G>>,
    /// Most bytes that each buffer was asked for.
    rooms: Vec<usize>,
}

impl<G> Default for Replays<G> {
    fn default() -> Self {
        Self { kernels: vec![], list: List::default(), seen: vec![], rooms: vec![] }
    }
}

/// A machine whose launches are written down, and queued when all of them are known: at [`Replaying::finish`], and before anything that they could notice.
#[derive(Debug)]
pub struct Replaying<'a, M: Capturing> {
    machine: &'a mut M,
    replays: &'a mut Replays<M::Graph>,
    launching: Launching,
}

impl<'a, M: Capturing> Replaying<'a, M> {
    /// Before `machine`, whose buffers are asked for with the same `replays` always.
    pub fn new(machine: &'a mut M, replays: &'a mut Replays<M::Graph>, launching: Launching) -> Self {
        // What an error has left.
        replays.list = List::default();
        Self { machine, replays, launching }
    }

    /// Queues what is left.
    ///
    /// # Errors
    /// Those of the launches.
    pub fn finish(mut self) -> Result<()> {
        self.queue()
    }

    fn queue(&mut self) -> Result<()> {
        let (machine, Replays { kernels, list, seen, .. }) = (&mut *self.machine, &mut *self.replays);
        let list = std::mem::take(list);
        // One launch is one call in any case.
        if list.launches.len() < 2 {
            return list.launch(machine, kernels);
        }
        let Some(place) = seen.iter().position(|known| known.list == list) else {
            list.launch(machine, kernels)?;
            seen.insert(0, Seen { list, graph: None, refused: false });
            seen.truncate(LISTS);
            return Ok(());
        };
        seen[..=place].rotate_right(1);
        let first = &mut seen[0];
        if first.graph.is_none() && !first.refused {
            first.graph = machine.capture(|machine| list.launch(machine, kernels)).ok();
            first.refused = first.graph.is_none();
        }
        match &first.graph {
            Some(graph) => machine.replay(graph),
            // Without a graph it is slower, and no less right.
            None => list.launch(machine, kernels),
        }
    }

    /// What a buffer was asked for; whether that is more than ever.
    fn grows(&mut self, buffer: usize, bytes: usize) -> bool {
        let rooms = &mut self.replays.rooms;
        rooms.resize(rooms.len().max(buffer + 1), 0);
        let grows = bytes > rooms[buffer];
        rooms[buffer] = rooms[buffer].max(bytes);
        grows
    }
}

impl List {
    fn launch(&self, machine: &mut impl Machine, kernels: &[(String, String)]) -> Result<()> {
        let mut words = self.words.as_slice();
        for launch in &self.launches {
            let (own, others) = words.split_at(launch.words);
            let (text, name) = &kernels[launch.kernel];
            machine.launch(text, name, launch.blocks, launch.threads, own)?;
            words = others;
        }
        Ok(())
    }
}

impl<M: Capturing> Machine for Replaying<'_, M> {
    fn upload(&mut self, buffer: usize, bytes: &[u8]) -> Result<u64> {
        // Launches before it see what was there before.
        self.queue()?;
        self.grows(buffer, bytes.len());
        self.machine.upload(buffer, bytes)
    }

    fn reserve(&mut self, buffer: usize, bytes: usize) -> Result<u64> {
        // A buffer that grows moves, and launches before it have its address.
        if self.grows(buffer, bytes) {
            self.queue()?;
        }
        self.machine.reserve(buffer, bytes)
    }

    fn launch(&mut self, text: &str, name: &str, blocks: usize, threads: u32, words: &[u64]) -> Result<()> {
        if self.launching == Launching::Each {
            return self.machine.launch(text, name, blocks, threads, words);
        }
        if blocks == 0 {
            return Ok(());
        }
        let Replays { kernels, list, .. } = &mut *self.replays;
        let kernel = kernels.iter().position(|(known, _)| known == text).unwrap_or_else(|| {
            kernels.push((text.to_string(), name.to_string()));
            kernels.len() - 1
        });
        list.launches.push(Launch { kernel, blocks, threads, words: words.len() });
        list.words.extend(words);
        Ok(())
    }

    fn numbers(&mut self, buffer: usize, count: usize) -> Result<Vec<f64>> {
        self.queue()?;
        self.machine.numbers(buffer, count)
    }
}
