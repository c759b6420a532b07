//! Threads for blocking work, kept for a while after their work is done.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a thread without work waits for more. Long enough that a busy node starts none, short enough that
/// a peak leaves nothing behind.
const IDLE: Duration = Duration::from_secs(10);

/// One piece of blocking work.
pub(super) type Work = Box<dyn FnOnce() + Send>;

/// Threads that grow with the work, so that none waits for another, and shrink when there is none.
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Work that an idle thread has been woken for: never more than there are idle threads.
    queue: VecDeque<Work>,
    idle: usize,
    closed: bool,
}

impl Pool {
    pub(super) fn new() -> Pool {
        Pool {
            shared: Arc::new(Shared {
                state: Mutex::new(State::default()),
                changed: Condvar::new(),
            }),
        }
    }

    /// Runs `work` on a thread that has none, or else on a new one. Work that no thread can be started
    /// for is dropped.
    pub(super) fn run(&self, work: Work) {
        let mut state = self.shared.lock();
        if state.idle > state.queue.len() {
            state.queue.push_back(work);
            drop(state);
            self.shared.changed.notify_one();
            return;
        }
        drop(state);
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new()
            .name("raft-blocking".to_owned())
            .spawn(move || shared.serve(work));
        if let Err(error) = started {
            tracing::error!(%error, "cannot start a thread: blocking work is dropped");
        }
    }
}

impl Drop for Pool {
    /// Lets the idle threads end at once; work under way is finished.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock, so the state is whole even when a thread died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, first: Work) {
        let mut next = Some(first);
        while let Some(work) = next {
            // The panic hook has reported it, and whoever waits for the work sees it dropped.
            let _ = catch_unwind(AssertUnwindSafe(work));
            next = self.wait_for_work();
        }
    }

    fn wait_for_work(&self) -> Option<Work> {
        let mut state = self.lock();
        state.idle += 1;
        let nothing_to_do = |state: &mut State| state.queue.is_empty() && !state.closed;
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, IDLE, nothing_to_do)
            .unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        state.queue.pop_front()
    }
}
