//! What is on its way, and the one task that lets it arrive.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::Runtime;

/// Does what arrives.
pub(super) type Parcel = Box<dyn FnOnce() + Send>;

/// What is on its way, by the time at which it arrives.
pub(super) struct Flight {
    state: Mutex<State>,
    parcels_max: usize,
}

struct State {
    parcels: BTreeMap<(Duration, u64), Parcel>,
    last_sequence: u64,
    waker: Option<Waker>,
    closed: bool,
}

impl Flight {
    pub(super) fn new(parcels_max: usize) -> Flight {
        let state =
            State { parcels: BTreeMap::new(), last_sequence: 0, waker: None, closed: false };
        Flight { state: Mutex::new(state), parcels_max }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock, so the state is whole even when a thread died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `parcel` arrive at `at`. False: too many are on their way, and it is lost.
    pub(super) fn add(&self, at: Duration, parcel: Parcel) -> bool {
        let mut state = self.lock();
        if state.closed || state.parcels.len() >= self.parcels_max {
            return false;
        }
        state.last_sequence += 1;
        let key = (at, state.last_sequence);
        state.parcels.insert(key, parcel);
        let is_first = state.parcels.first_key_value().is_some_and(|(first, _)| *first == key);
        let waker = if is_first { state.waker.take() } else { None };
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        true
    }

    /// Drops what is on its way and ends the task.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let parcels = std::mem::take(&mut state.parcels);
        let waker = state.waker.take();
        drop(state);
        drop(parcels);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Lets arrive what is due, until the flight is closed.
    pub(super) async fn run(&self, runtime: &dyn Runtime) {
        let mut due = Vec::new();
        // The sleep until the first parcel arrives.
        let mut sleep: Option<(Duration, BoxFuture<'static, ()>)> = None;
        loop {
            let is_open = poll_fn(|context| {
                loop {
                    let mut state = self.lock();
                    if state.closed {
                        return Poll::Ready(false);
                    }
                    let now = runtime.now();
                    while let Some(entry) = state.parcels.first_entry()
                        && entry.key().0 <= now
                    {
                        due.push(entry.remove());
                    }
                    if !due.is_empty() {
                        return Poll::Ready(true);
                    }
                    state.waker = Some(context.waker().clone());
                    let first = state.parcels.first_key_value().map(|((at, _), _)| *at);
                    drop(state);
                    let Some(at) = first else { return Poll::Pending };
                    let (_, timer) = match sleep.take() {
                        Some((until, timer)) if until == at => sleep.insert((until, timer)),
                        Some(_) | None => sleep.insert((at, runtime.sleep(at - now))),
                    };
                    if timer.poll_unpin(context).is_pending() {
                        return Poll::Pending;
                    }
                    sleep = None;
                }
            })
            .await;
            if !is_open {
                return;
            }
            due.drain(..).for_each(|parcel: Parcel| parcel());
        }
    }
}
