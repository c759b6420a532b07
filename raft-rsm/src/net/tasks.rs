//! What a transport has running, so that its shutdown can end it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// The tasks and open sockets of one transport.
pub(crate) struct Tasks {
    state: Mutex<State>,
    /// Written under the lock of the state.
    stopped: AtomicBool,
}

#[derive(Default)]
struct State {
    tasks: usize,
    sockets: BTreeMap<u64, Box<dyn Fn() + Send>>,
    last_socket: u64,
    waiting: Vec<Waker>,
}

/// One task, until it is dropped.
pub(crate) struct Task(Arc<Tasks>);

/// One open socket, until it is dropped.
pub(crate) struct OpenSocket(Arc<Tasks>, u64);

impl Tasks {
    pub(crate) fn new() -> Arc<Tasks> {
        Arc::new(Tasks { state: Mutex::default(), stopped: AtomicBool::new(false) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock panics, so the state is whole even when a thread died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a task that starts. `None`: no more may start.
    pub(crate) fn task(self: &Arc<Self>) -> Option<Task> {
        let mut state = self.lock();
        if self.is_stopped() {
            return None;
        }
        state.tasks += 1;
        Some(Task(Arc::clone(self)))
    }

    /// Notes an open socket, which `close` closes. `None`: it has to be closed now.
    pub(crate) fn socket(
        self: &Arc<Self>,
        close: impl Fn() + Send + 'static,
    ) -> Option<OpenSocket> {
        let mut state = self.lock();
        if self.is_stopped() {
            return None;
        }
        state.last_socket += 1;
        let id = state.last_socket;
        state.sockets.insert(id, Box::new(close));
        Some(OpenSocket(Arc::clone(self), id))
    }

    /// Lets nothing more start, and closes every socket.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        self.stopped.store(true, Ordering::Release);
        let sockets = std::mem::take(&mut state.sockets);
        drop(state);
        sockets.values().for_each(|close| close());
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits until no task runs.
    pub(crate) async fn ended(&self) {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.tasks == 0 {
                return Poll::Ready(());
            }
            state.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.tasks -= 1;
        let waiting = match state.tasks {
            0 => std::mem::take(&mut state.waiting),
            _ => Vec::new(),
        };
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        let close = self.0.lock().sockets.remove(&self.1);
        drop(close);
    }
}
