//! When a client's requests were answered.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// When a client's requests were answered, and how long it once had to wait.
#[derive(Debug)]
pub(super) struct Timeline {
    half: u64,
    half_way: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    done: u64,
    last_answer: Instant,
    interrupted: bool,
    outage: Duration,
}

impl Timeline {
    /// Half of the way is `half` answers.
    pub(super) fn new(half: u64) -> Timeline {
        let state = State {
            done: 0,
            last_answer: Instant::now(),
            interrupted: false,
            outage: Duration::ZERO,
        };
        Timeline { half, half_way: Notify::new(), state: Mutex::new(state) }
    }

    /// The `done`th answer is there.
    pub(super) fn acknowledged(&self, done: u64) {
        let mut state = self.state();
        let now = Instant::now();
        if state.interrupted {
            state.outage = state.outage.max(now.duration_since(state.last_answer));
        }
        state.done = done;
        state.last_answer = now;
        drop(state);
        if done >= self.half {
            self.half_way.notify_one();
        }
    }

    /// Completes half-way.
    pub(super) async fn half_way(&self) {
        self.half_way.notified().await;
    }

    /// From now on waits count as an outage. Returns how many answers there were.
    pub(super) fn interrupt(&self) -> u64 {
        let mut state = self.state();
        state.interrupted = true;
        state.done
    }

    /// The longest time between two answers, of which the second came after the interruption.
    pub(super) fn outage(&self) -> Duration {
        self.state().outage
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A state is whole whenever the lock is free, whatever happened to who held it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
