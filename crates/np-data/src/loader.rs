//! The batches of a pass in order, prepared by the thread that uses them or by another one in advance.
//!
//! A batch depends only on its indices, so that both ways give the same bits. Buffers are reused: after the first few batches nothing is
//! allocated.

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::batch::batches;
use crate::dataset::Split;
use crate::error::Error;
use crate::prepare::{Pass, Preparation};

/// Which thread prepares batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prepare {
    /// The thread that uses them, one at a time. Best if a batch is little work or all cores are in use.
    Inline,
    /// A separate thread, which keeps up to two batches ready.
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

/// Makes the batches of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Loader<'a> {
    /// The images.
    pub split: &'a Split,
    /// How they are prepared.
    pub preparation: &'a Preparation,
    /// Evaluation, or an epoch of training.
    pub pass: Pass,
    /// Examples in a batch. The last one is smaller if the number of examples is not a multiple.
    pub batch_size: NonZeroUsize,
}

impl Loader<'_> {
    /// Calls `use_them` with the batches of `order`, indices into [`split`](Self::split), and returns its result. It may stop before the last batch.
    /// Errors of the preparation are returned by [`Batches::next`].
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
    /// The next batch; `None` after the last.
    ///
    /// # Errors
    /// Those of [`Preparation::fill`]. Do not call it again after an error.
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
