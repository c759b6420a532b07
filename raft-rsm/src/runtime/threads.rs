//! The default runtime: plain threads.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::BoxFuture;

use super::Runtime;
use super::chance::Chance;
use super::pool::Pool;
use super::timer::Timer;

/// Runs each task on a thread of its own and blocking work on threads that it keeps for a while: for programs
/// that have no runtime. Needs nothing but the standard library and `futures`.
///
/// A node has about a dozen tasks, so a thread for each costs little. Tasks end when they complete:
/// dropping the runtime waits for nothing and stops nothing that runs.
pub struct ThreadRuntime {
    pool: Pool,
    timer: Arc<Timer>,
    chance: Chance,
}

impl ThreadRuntime {
    /// A runtime without threads yet: they start with the first work.
    #[must_use]
    pub fn new() -> ThreadRuntime {
        ThreadRuntime { pool: Pool::new(), timer: Timer::new(), chance: Chance::new() }
    }
}

impl Default for ThreadRuntime {
    fn default() -> ThreadRuntime {
        ThreadRuntime::new()
    }
}

impl fmt::Debug for ThreadRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ThreadRuntime")
    }
}

impl Runtime for ThreadRuntime {
    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>) {
        // A name with a NUL inside would panic in the standard library.
        let name = format!("raft-{}", name.replace('\0', ""));
        if let Err(error) = thread::Builder::new().name(name).spawn(move || block_on(task)) {
            tracing::error!(%error, "cannot start a thread: a task is dropped");
        }
    }

    fn spawn_blocking(&self, _name: &str, work: Box<dyn FnOnce() + Send>) {
        self.pool.run(work);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.timer.sleep(duration))
    }

    fn now(&self) -> Duration {
        self.timer.now()
    }

    fn random(&self) -> u64 {
        self.chance.next()
    }
}
