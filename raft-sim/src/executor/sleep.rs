//! A future that waits for a time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Due, Executor};

/// Completes at its time: see [`Executor::sleep`].
#[derive(Debug)]
pub struct Sleep {
    executor: Executor,
    at: Duration,
    /// Its place among what is due.
    key: Option<(Duration, u64)>,
}

impl Sleep {
    pub(super) fn new(executor: Executor, at: Duration) -> Sleep {
        Sleep { executor, at, key: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.executor.lock();
        if state.now >= self.at {
            return Poll::Ready(());
        }
        let key = match self.key {
            Some(key) => {
                state.due.insert(key, Due::Wake(cx.waker().clone()));
                key
            }
            None => state.add_due(self.at, Due::Wake(cx.waker().clone())),
        };
        drop(state);
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let due = self.executor.lock().due.remove(&key);
            drop(due);
        }
    }
}
