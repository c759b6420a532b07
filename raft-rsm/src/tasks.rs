//! Counts the tasks of a node, so that a node that stops knows when the last one has ended.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use crate::Runtime;
use crate::watch::lock;

/// The tasks of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    running: Arc<Mutex<Running>>,
}

#[derive(Debug, Default)]
struct Running {
    count: usize,
    waker: Option<Waker>,
}

/// Held by a task for as long as it runs.
#[derive(Debug)]
struct Guard(Tasks);

impl Tasks {
    pub(crate) fn spawn(
        &self,
        runtime: &dyn Runtime,
        name: &str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        lock(&self.running).count += 1;
        let guard = Guard(self.clone());
        runtime.spawn(
            name,
            Box::pin(async move {
                task.await;
                drop(guard);
            }),
        );
    }

    /// Completes when none of them runs.
    pub(crate) async fn ended(&self) {
        poll_fn(|cx| {
            let mut running = lock(&self.running);
            if running.count == 0 {
                return Poll::Ready(());
            }
            running.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut running = lock(&self.0.running);
        running.count = running.count.saturating_sub(1);
        if running.count == 0
            && let Some(waker) = running.waker.take()
        {
            drop(running);
            waker.wake();
        }
    }
}
