//! Watches over the tasks of a node: one that stops knows when the last of them has ended, and one that goes on
//! hears of a task that will never end.

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use crate::Runtime;
use crate::watch::lock;

/// The tasks of one node.
#[derive(Clone)]
pub(crate) struct Tasks {
    running: Arc<Mutex<Running>>,
    /// Called when the runtime drops a task that has not ended: it could not start it, or the task panicked. Somebody
    /// waits for what the task was to do, and would wait for ever.
    lost: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Debug, Default)]
struct Running {
    count: usize,
    waker: Option<Waker>,
}

/// Held by a task for as long as it runs.
struct Guard {
    tasks: Tasks,
    ended: bool,
}

impl Tasks {
    pub(crate) fn new(lost: impl Fn() + Send + Sync + 'static) -> Tasks {
        Tasks { running: Arc::default(), lost: Arc::new(lost) }
    }

    pub(crate) fn spawn(
        &self,
        runtime: &dyn Runtime,
        name: &str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        lock(&self.running).count += 1;
        let mut guard = Guard { tasks: self.clone(), ended: false };
        runtime.spawn(
            name,
            Box::pin(async move {
                task.await;
                guard.ended = true;
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

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &self.running).finish_non_exhaustive()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.ended {
            (self.tasks.lost)();
        }
        let mut running = lock(&self.tasks.running);
        running.count = running.count.saturating_sub(1);
        if running.count == 0
            && let Some(waker) = running.waker.take()
        {
            drop(running);
            waker.wake();
        }
    }
}
