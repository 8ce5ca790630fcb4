//! The threads that a step runs on: a pool of this crate, with as many threads as the rayon pool that the caller is in.
//!
//! A thread that waits in a rayon pool runs other tasks of that pool meanwhile. A step holds locks while it waits: candle's on the memory of the parameters, and
//! possibly the caller's around the optimizer. If such a task needed one of these locks it would deadlock, because the step cannot release it before the task
//! above it on the stack returns. So steps run on threads that do nothing else, one step at a time, and the caller blocks.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};

thread_local! {
    /// Whether this is a thread of one of the pools below.
    static OWN: Cell<bool> = const { Cell::new(false) };
}

/// A pool, and a lock that lets one step use it at a time: otherwise two steps of optimizers that share a parameter could meet on one stack and deadlock.
struct Workers {
    pool: ThreadPool,
    turn: Mutex<()>,
}

/// A pool for each number of threads that has been asked for.
static POOLS: Mutex<BTreeMap<usize, Arc<Workers>>> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic left behind is nothing here, or a whole map.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pool of `threads` threads; `None` if the system refuses to create them.
fn workers(threads: usize) -> Option<Arc<Workers>> {
    let mut pools = lock(&POOLS);
    if let Some(workers) = pools.get(&threads) {
        return Some(workers.clone());
    }
    let builder = ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("np-engine-{i}"));
    let pool = builder.start_handler(|_| OWN.set(true)).build().ok()?;
    let workers = Arc::new(Workers { pool, turn: Mutex::new(()) });
    pools.insert(threads, workers.clone());
    Some(workers)
}

/// Whether work that is split here runs on several threads: inside [`on_threads`], if its pool has more than one.
pub(crate) fn parallel() -> bool {
    OWN.get() && rayon::current_num_threads() > 1
}

/// Runs `f` on a pool with as many threads as the caller's rayon pool has; if that is one, on this thread. Call it before any of candle's locks is taken,
/// because it waits for other steps.
pub fn on_threads<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    if OWN.get() {
        return f();
    }
    let threads = rayon::current_num_threads();
    let Some(workers) = (threads > 1).then(|| workers(threads)).flatten() else { return f() };
    let run = |f: Box<dyn FnOnce() -> T + Send + '_>| {
        let _turn = lock(&workers.turn);
        workers.pool.install(f)
    };
    if rayon::current_thread_index().is_none() {
        return run(Box::new(f));
    }
    // A worker of another pool would work while it waits, wherever it is that it waits in rayon. A thread of no pool waits for it, and it for that.
    let task = Mutex::new(Some(Box::new(f) as Box<dyn FnOnce() -> T + Send + '_>));
    let take = || lock(&task).take();
    let done = thread::scope(|scope| {
        let waiting = thread::Builder::new().name("np-engine-wait".to_string());
        match waiting.spawn_scoped(scope, || take().map(run)) {
            Ok(handle) => handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // No thread to be had: here, alone.
            Err(_) => take().map(|f| f()),
        }
    });
    match done {
        Some(done) => done,
        None => unreachable!("one of the two has taken the task"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_threads_as_the_callers_pool_has_wherever_it_is_called() {
        let count = || on_threads(|| (rayon::current_num_threads(), OWN.get()));
        for threads in [2, 3] {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(count), (threads, true));
            assert_eq!(pool.install(|| on_threads(count)), (threads, true));
        }
        let one = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one.install(count), (1, false));
        assert!(!parallel());
    }

    #[test]
    fn a_panic_comes_back_and_the_next_has_its_turn() {
        let pool = ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let lost = || pool.install(|| on_threads(|| panic!("lost")));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(lost));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"lost"));
        assert_eq!(pool.install(|| on_threads(|| 3)), 3);
    }
}
