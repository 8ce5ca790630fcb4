//! The batches of a pass in their order, prepared where they are used or one thread ahead.
//!
//! What a batch holds is a function of its indices, so that both give the same bits. Buffers go round: after the first few
//! batches nothing is allocated.

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::batch::batches;
use crate::dataset::Split;
use crate::error::Error;
use crate::prepare::{Pass, Preparation};

/// Who prepares batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prepare {
    /// The thread that uses them, one at a time: the right choice where a batch is little work, or where all cores are taken.
    Inline,
    /// A thread of its own, which keeps up to two batches ready.
    Ahead,
}

/// Batches that wait to be used, with [`Prepare::Ahead`].
const READY: usize = 2;

/// One batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Prepared pixels, `B×C×H×W`.
    pub pixels: Vec<f32>,
    /// Labels, `B`.
    pub labels: Vec<u32>,
}

/// What batches are made of.
#[derive(Clone, Copy, Debug)]
pub struct Loader<'a> {
    /// The images.
    pub split: &'a Split,
    /// How they are prepared.
    pub preparation: &'a Preparation,
    /// What for.
    pub pass: Pass,
    /// Examples a batch; the last one is smaller if they don't come out even.
    pub batch_size: NonZeroUsize,
}

impl Loader<'_> {
    /// Hands the batches of `order` to `use_them`, which may leave before their end.
    ///
    /// # Errors
    /// Whatever `use_them` returns; [`Batches::next`] gives those of [`Preparation::fill`].
    pub fn run<R>(&self, order: &[u32], prepare: Prepare, use_them: impl FnOnce(&mut Batches<'_>) -> R) -> R {
        match prepare {
            Prepare::Inline => {
                let mut all = batches(order, self.batch_size);
                let fill = |mut batch: Batch| Some(self.fill(all.next()?, &mut batch).map(|()| batch));
                use_them(&mut Batches { current: Batch::default(), supply: Supply::Inline(Box::new(fill)) })
            }
            Prepare::Ahead => thread::scope(|scope| {
                let (send_full, full) = sync_channel(READY);
                // room for all there are, so that giving one back never waits: those ready, in work, in use
                let (empty, receive_empty) = sync_channel(READY + 2);
                scope.spawn(move || self.prepare_all(order, &send_full, &receive_empty));
                use_them(&mut Batches { current: Batch::default(), supply: Supply::Ahead { full, empty } })
            }),
        }
    }

    fn fill(&self, indices: &[u32], batch: &mut Batch) -> Result<(), Error> {
        self.preparation.fill(self.split, indices, self.pass, &mut batch.pixels, &mut batch.labels)
    }

    /// Sends every batch of `order` until the first error, or until nobody wants them any more.
    fn prepare_all(&self, order: &[u32], full: &SyncSender<Result<Batch, Error>>, empty: &Receiver<Batch>) {
        for indices in batches(order, self.batch_size) {
            let mut batch = empty.try_recv().unwrap_or_default();
            let filled = self.fill(indices, &mut batch).map(|()| batch);
            let failed = filled.is_err();
            if full.send(filled).is_err() || failed {
                return;
            }
        }
    }
}

/// The batches of a pass, one after the other.
pub struct Batches<'a> {
    current: Batch,
    supply: Supply<'a>,
}

enum Supply<'a> {
    Inline(Box<dyn FnMut(Batch) -> Option<Result<Batch, Error>> + 'a>),
    Ahead { full: Receiver<Result<Batch, Error>>, empty: SyncSender<Batch> },
}

impl Batches<'_> {
    /// The next batch, in the buffers of the one before or others; `None` after the last.
    ///
    /// # Errors
    /// Those of [`Preparation::fill`]. There is nothing more to be had after one.
    #[expect(clippy::should_implement_trait, reason = "an iterator can't lend its buffers")]
    pub fn next(&mut self) -> Result<Option<&Batch>, Error> {
        let used = std::mem::take(&mut self.current);
        let next = match &mut self.supply {
            Supply::Inline(fill) => fill(used),
            Supply::Ahead { full, empty } => {
                // of the first call there is nothing to give back, and after the last batch nobody takes it
                if used.pixels.capacity() > 0 {
                    let _ = empty.try_send(used);
                }
                full.recv().ok()
            }
        };
        match next {
            None => Ok(None),
            Some(batch) => {
                self.current = batch?;
                Ok(Some(&self.current))
            }
        }
    }
}
