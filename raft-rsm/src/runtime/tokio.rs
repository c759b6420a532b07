//! The tokio runtime (feature `tokio`).

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::runtime::{Handle, TryCurrentError};
use tokio::time::Instant;

use super::Runtime;
use super::chance::Chance;
use super::pool::Pool;

/// Runs tasks on a tokio runtime whose time driver is enabled (and, for the TCP transport on tokio, its I/O
/// driver too), of either flavour.
///
/// Blocking work runs on threads of its own: tokio's are limited in number, and a tokio runtime that is dropped
/// waits for them, while blocking work may live as long as the node.
pub struct TokioRuntime {
    handle: Handle,
    origin: Instant,
    pool: Pool,
    chance: Chance,
}

impl TokioRuntime {
    /// Runs on the tokio runtime of `handle`.
    #[must_use]
    pub fn new(handle: Handle) -> TokioRuntime {
        TokioRuntime { handle, origin: Instant::now(), pool: Pool::new(), chance: Chance::new() }
    }

    /// Runs on the tokio runtime that the caller is on.
    ///
    /// # Errors
    /// The caller is not on one.
    pub fn current() -> Result<TokioRuntime, TryCurrentError> {
        Handle::try_current().map(TokioRuntime::new)
    }

    /// The tokio runtime.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl fmt::Debug for TokioRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioRuntime").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl Runtime for TokioRuntime {
    fn spawn(&self, _name: &str, task: BoxFuture<'static, ()>) {
        self.handle.spawn(task);
    }

    fn spawn_blocking(&self, _name: &str, work: Box<dyn FnOnce() + Send>) {
        let handle = self.handle.clone();
        self.pool.run(Box::new(move || {
            // As on tokio's own threads for blocking work, its functions can be called.
            let _entered = handle.enter();
            work();
        }));
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let _entered = self.handle.enter();
        Box::pin(tokio::time::sleep(duration))
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn random(&self) -> u64 {
        self.chance.next()
    }
}
