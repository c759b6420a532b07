//! A runtime whose clock can be put ahead, so that a test need not sit out an election timeout.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use raft_rsm::Runtime;
use raft_rsm::runtime::ThreadRuntime;

/// Another runtime, on a clock that goes as that one's does and jumps when it is told to.
pub(crate) struct Ahead {
    inner: Arc<dyn Runtime>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By how much this clock is ahead.
    ahead: Duration,
    /// Who sleeps, by the time at which to wake it.
    sleepers: BTreeMap<(Duration, u64), Waker>,
    last_id: u64,
}

impl Ahead {
    pub(crate) fn new(inner: Arc<dyn Runtime>) -> Ahead {
        Ahead { inner, state: Arc::default() }
    }

    /// Puts the clock ahead, and wakes who has slept long enough by that.
    pub(crate) fn put_ahead(&self, by: Duration) {
        let due = {
            let mut state = self.state.lock().unwrap();
            state.ahead += by;
            let now = self.inner.now() + state.ahead;
            let later = state.sleepers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut state.sleepers, later)
        };
        due.into_values().for_each(Waker::wake);
    }
}

impl Runtime for Ahead {
    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>) {
        self.inner.spawn(name, task);
    }

    fn spawn_blocking(&self, name: &str, work: Box<dyn FnOnce() + Send>) {
        self.inner.spawn_blocking(name, work);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (inner, state) = (Arc::clone(&self.inner), Arc::clone(&self.state));
        let mut slept = inner.sleep(duration);
        let sleeper = {
            let mut locked = self.state.lock().unwrap();
            locked.last_id += 1;
            let wake_at = (inner.now() + locked.ahead).saturating_add(duration);
            Sleeper { state, key: (wake_at, locked.last_id) }
        };
        let passed = poll_fn(move |cx| {
            {
                let mut state = sleeper.state.lock().unwrap();
                if inner.now() + state.ahead >= sleeper.key.0 {
                    return Poll::Ready(());
                }
                state.sleepers.insert(sleeper.key, cx.waker().clone());
            }
            slept.poll_unpin(cx)
        });
        Box::pin(passed)
    }

    fn now(&self) -> Duration {
        // Under the lock, or a reading from before a jump could be told after one from behind it.
        let state = self.state.lock().unwrap();
        self.inner.now() + state.ahead
    }

    fn random(&self) -> u64 {
        self.inner.random()
    }
}

/// Takes a sleep that has ended, or was dropped, from the list.
struct Sleeper {
    state: Arc<Mutex<State>>,
    key: (Duration, u64),
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.state.lock().unwrap().sleepers.remove(&self.key);
    }
}

raft_rsm::runtime_conformance!(
    Arc::new(Ahead::new(Arc::new(ThreadRuntime::new()))) as Arc<dyn Runtime>
);

#[test]
fn whoever_sleeps_is_woken_when_the_clock_is_put_ahead() {
    let hour = Duration::from_secs(3600);
    let runtime = Ahead::new(Arc::new(ThreadRuntime::new()));
    let mut sleep = runtime.sleep(hour);
    assert!((&mut sleep).now_or_never().is_none());
    let before = runtime.now();
    runtime.put_ahead(hour);
    assert!(runtime.now() >= before + hour);
    futures::executor::block_on(sleep);
    assert!(runtime.state.lock().unwrap().sleepers.is_empty());
}
