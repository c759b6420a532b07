//! The ground that a node stands on: tasks, blocking work, time, chance.

mod chance;
mod pool;
mod threads;
mod timer;
#[cfg(feature = "tokio")]
mod tokio;

use std::time::Duration;

use futures::channel::oneshot;
use futures::future::BoxFuture;

pub use self::threads::ThreadRuntime;
#[cfg(feature = "tokio")]
pub use self::tokio::TokioRuntime;

/// Runs tasks and blocking work, and owns time and chance: nothing else in the crate starts a thread,
/// reads a clock or draws a number. Each sentence of its methods is a test in
/// [`crate::testing::runtime`].
pub trait Runtime: Send + Sync + 'static {
    /// Runs `task` beside the caller until it completes. A task may live as long as the node. It never
    /// blocks its thread for long.
    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>);

    /// Runs `work`, which may block for as long as it likes, even as long as the node lives. Any
    /// number of them run at once; none waits for another.
    fn spawn_blocking(&self, name: &str, work: Box<dyn FnOnce() + Send>);

    /// Completes once `duration` has passed on the clock of [`Runtime::now`], not before.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// The time since an origin of the runtime's choice, on a clock that never goes back.
    fn now(&self) -> Duration;

    /// A random number, each bit as good as any other.
    fn random(&self) -> u64;
}

/// The runtime dropped blocking work: it is shutting down, or the work panicked.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the runtime did not finish the work: it is shutting down, or the work panicked")]
pub struct WorkLost;

/// Runs `work` by [`Runtime::spawn_blocking`] and waits for what it returns.
///
/// # Errors
/// [`WorkLost`]; the work may have been done in part.
pub async fn blocking<T: Send + 'static>(
    runtime: &dyn Runtime,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, WorkLost> {
    let (sender, receiver) = oneshot::channel();
    runtime.spawn_blocking(
        name,
        Box::new(move || {
            // A caller that has gone away no longer wants the result.
            let _ = sender.send(work());
        }),
    );
    receiver.await.map_err(|_| WorkLost)
}
