//! The wish to stop: a signal, or a launcher that has closed its worker's standard input, or died.
//!
//! A wish is looked at between steps, so that what is worth keeping is kept. Before its first step a worker has nothing to keep, and may be long in
//! reading data, or wait for a disk that does not answer: until then a wish ends it at once. Workers are in process groups of their own: a Ctrl-C in a
//! terminal reaches the launcher alone, which passes the wish on.

use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use signal_hook::{consts, flag};

use crate::error::{Error, REQUEUE_WITHOUT_GAIN, Result, STOPPED};

/// What somebody wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// An end: Ctrl-C, a polite kill, a terminal that closes.
    End,
    /// An end here, to go on later: a scheduler's warning before it takes the machine away.
    Requeue,
}

impl Wish {
    /// The exit code of a process that ends by it and has nothing to keep.
    fn code(self) -> u8 {
        match self {
            Self::End => STOPPED,
            Self::Requeue => REQUEUE_WITHOUT_GAIN,
        }
    }
}

/// Signals that are a wish.
#[cfg(unix)]
const SIGNALS: [(i32, Wish); 4] = [
    (consts::SIGINT, Wish::End),
    (consts::SIGTERM, Wish::End),
    (consts::SIGHUP, Wish::End),
    (consts::SIGUSR2, Wish::Requeue),
];
#[cfg(not(unix))]
const SIGNALS: [(i32, Wish); 2] = [(consts::SIGINT, Wish::End), (consts::SIGTERM, Wish::End)];

/// Whether somebody wishes this process to stop, and how. Who warned before a machine is taken away means it, even if the end itself follows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    end: Arc<AtomicBool>,
    requeue: Arc<AtomicBool>,
    /// The signal that came last; 0 if none did.
    signal: Arc<AtomicUsize>,
    /// Whether there is nothing to keep yet.
    starting: Arc<AtomicBool>,
}

impl Stop {
    /// Listens to signals from here on.
    pub(crate) fn on_signals() -> Self {
        let stop = Self::default();
        for (signal, wish) in SIGNALS {
            // First, so that it is known once the wish is.
            let _ = flag::register_usize(signal, Arc::clone(&stop.signal), usize::try_from(signal).unwrap_or_default());
            // Refused only for signals that nobody can catch, which these are not. The default action would end the process.
            let _ = flag::register(signal, Arc::clone(stop.flag(wish)));
        }
        stop
    }

    /// As [`on_signals`](Self::on_signals), and until [`started`](Self::started) a signal ends the process at once.
    pub(crate) fn while_starting() -> Self {
        let stop = Self::on_signals();
        stop.starting.store(true, Ordering::Relaxed);
        for (signal, wish) in SIGNALS {
            let _ = flag::register_conditional_shutdown(signal, i32::from(wish.code()), Arc::clone(&stop.starting));
        }
        stop
    }

    /// From here on there is something to keep, and wishes are looked at.
    pub(crate) fn started(&self) {
        self.starting.store(false, Ordering::Relaxed);
    }

    /// Takes the end of `input` for a wish too: a launcher keeps the other end open for as long as its worker is to go on.
    ///
    /// # Errors
    /// [`Error::Start`] if there is no thread to listen.
    pub(crate) fn when_closed(&self, mut input: impl Read + Send + 'static) -> Result<()> {
        let (wished, starting) = (Arc::clone(&self.end), Arc::clone(&self.starting));
        let listen = move || {
            let mut rest = [0; 64];
            while input.read(&mut rest).is_ok_and(|n| n > 0) {}
            wished.store(true, Ordering::Relaxed);
            if starting.load(Ordering::Relaxed) {
                std::process::exit(i32::from(Wish::End.code()));
            }
        };
        thread::Builder::new().spawn(listen).map(drop).map_err(Error::start("a thread that hears the launcher"))
    }

    fn flag(&self, wish: Wish) -> &Arc<AtomicBool> {
        match wish {
            Wish::End => &self.end,
            Wish::Requeue => &self.requeue,
        }
    }

    /// The wish; of two, to go on later.
    pub(crate) fn wish(&self) -> Option<Wish> {
        [Wish::Requeue, Wish::End].into_iter().find(|wish| self.flag(*wish).load(Ordering::Relaxed))
    }

    /// Whether there is a wish.
    pub(crate) fn is_wished(&self) -> bool {
        self.wish().is_some()
    }

    /// The exit code of a launcher that ends by a signal, as a shell has it: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    pub(crate) fn code(&self) -> u8 {
        match i32::try_from(self.signal.load(Ordering::Relaxed)) {
            Ok(signal) if SIGNALS.contains(&(signal, Wish::End)) => u8::try_from(128 + signal).unwrap_or(STOPPED),
            _ => STOPPED,
        }
    }

    /// Whether there is a wish, which is then forgotten: the next one is another.
    pub(crate) fn take(&self) -> bool {
        // Both, whatever the first says.
        self.end.swap(false, Ordering::Relaxed) | self.requeue.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_taken_once() {
        let stop = Stop::default();
        assert!(!stop.is_wished() && !stop.take());
        stop.requeue.store(true, Ordering::Relaxed);
        stop.end.store(true, Ordering::Relaxed);
        assert_eq!(stop.wish(), Some(Wish::Requeue), "the end that follows a warning does not undo it");
        assert!(stop.is_wished() && stop.take() && !stop.take());
        assert_eq!(stop.wish(), None);
    }

    #[test]
    fn a_closed_input_is_a_wish_and_an_open_one_is_not() {
        let (reader, writer) = std::io::pipe().unwrap();
        let stop = Stop::default();
        stop.when_closed(reader).unwrap();
        assert!(!stop.is_wished());
        drop(writer);
        for _ in 0..1000 {
            if stop.is_wished() {
                return;
            }
            thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("the end of the input was not noticed");
    }
}
