//! Sleeps for whoever has no runtime: one thread for all of them, started by the first and ended when none
//! is left.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// How long the thread outlives the last sleep.
const IDLE: Duration = Duration::from_secs(10);

/// The longest single wait: some systems refuse very long ones.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// A clock and the sleeps on it.
pub(super) struct Timer {
    origin: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Who sleeps, by the time at which to wake it: one for each [`Sleep`] that was polled, removed when the
    /// sleep is dropped.
    sleepers: BTreeMap<(Duration, u64), Waker>,
    last_id: u64,
    running: bool,
}

impl Timer {
    pub(super) fn new() -> Arc<Timer> {
        Arc::new(Timer {
            origin: Instant::now(),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    pub(super) fn sleep(self: &Arc<Self>, duration: Duration) -> Sleep {
        let wake_at = self.now().saturating_add(duration);
        Sleep { timer: Arc::clone(self), wake_at, id: None }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Wakers are called outside of the lock, so the state is whole even when a thread died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers `waker` under `id`, or under a new id, which it returns.
    fn register(self: &Arc<Self>, wake_at: Duration, id: Option<u64>, waker: &Waker) -> u64 {
        let mut state = self.lock();
        let id = id.unwrap_or_else(|| {
            state.last_id += 1;
            state.last_id
        });
        state.sleepers.insert((wake_at, id), waker.clone());
        let is_first = state.sleepers.keys().next() == Some(&(wake_at, id));
        if !state.running {
            let timer = Arc::clone(self);
            let started =
                thread::Builder::new().name("raft-timer".to_owned()).spawn(move || timer.serve());
            match started {
                Ok(_) => state.running = true,
                // Polled again, the sleeper tries again: late is better than never.
                Err(error) => {
                    tracing::error!(%error, "cannot start the timer thread");
                    drop(state);
                    waker.wake_by_ref();
                }
            }
        } else if is_first {
            drop(state);
            self.changed.notify_one();
        }
        id
    }

    fn serve(&self) {
        let mut due: Vec<Waker> = Vec::new();
        let mut state = self.lock();
        loop {
            let now = self.now();
            while let Some(entry) = state.sleepers.first_entry() {
                if entry.key().0 > now {
                    break;
                }
                due.push(entry.remove());
            }
            if !due.is_empty() {
                drop(state);
                due.drain(..).for_each(Waker::wake);
                state = self.lock();
                continue;
            }
            let first = state.sleepers.keys().next().map(|(wake_at, _)| *wake_at);
            let wait = first.map_or(IDLE, |wake_at| (wake_at - now).min(WAIT_MAX));
            let (guard, waited) =
                self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if first.is_none() && waited.timed_out() && state.sleepers.is_empty() {
                state.running = false;
                return;
            }
        }
    }
}

/// Completes once the timer's clock has reached `wake_at`.
pub(super) struct Sleep {
    timer: Arc<Timer>,
    wake_at: Duration,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.timer.now() >= self.wake_at {
            return Poll::Ready(());
        }
        let id = self.timer.register(self.wake_at, self.id, context.waker());
        self.id = Some(id);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.timer.lock().sleepers.remove(&(self.wake_at, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_sleep_leaves_nothing_behind() {
        let timer = Timer::new();
        let mut sleep = Box::pin(timer.sleep(Duration::from_secs(3600)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(sleep.as_mut().poll(&mut context).is_pending());
        assert!(sleep.as_mut().poll(&mut context).is_pending());
        assert_eq!(timer.lock().sleepers.len(), 1);
        drop(sleep);
        assert!(timer.lock().sleepers.is_empty());
    }
}
