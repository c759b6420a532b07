//! What a process takes for its runtime: the executor, seen through a clock of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use raft_rsm::Runtime;

use crate::executor::{Executor, ProcessId};
use crate::random::Random;

/// One millionth.
const MILLION: u128 = 1_000_000;

/// A clock that runs a little faster or slower than true time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// What it shows at true time zero.
    pub origin: Duration,
    /// How much faster than true time it runs, in millionths; negative where it is slower.
    pub drift_ppm: i32,
}

impl Clock {
    /// True time.
    pub const TRUE: Clock = Clock { origin: Duration::ZERO, drift_ppm: 0 };

    /// What it shows at a true time.
    #[must_use]
    pub fn at(&self, time: Duration) -> Duration {
        self.origin.saturating_add(nanos(time.as_nanos() * self.rate() / MILLION))
    }

    /// How much true time passes until it has gone on by `duration`, rounded up.
    #[must_use]
    pub fn true_duration(&self, duration: Duration) -> Duration {
        nanos((duration.as_nanos() * MILLION).div_ceil(self.rate()).saturating_add(1))
    }

    /// Millionths of a second in a true second; a clock does not stand still.
    fn rate(&self) -> u128 {
        u128::try_from(1_000_000 + i64::from(self.drift_ppm)).unwrap_or(1).max(1)
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How long blocking work takes, by its name.
pub type WorkTime = Arc<dyn Fn(&str) -> Duration + Send + Sync>;

/// The runtime of one process.
pub struct ProcessRuntime {
    executor: Executor,
    process: ProcessId,
    clock: Clock,
    random: Mutex<Random>,
    work_time: WorkTime,
}

impl ProcessRuntime {
    /// A runtime for `process`.
    #[must_use]
    pub fn new(
        executor: Executor,
        process: ProcessId,
        clock: Clock,
        random: Random,
        work_time: WorkTime,
    ) -> ProcessRuntime {
        ProcessRuntime { executor, process, clock, random: Mutex::new(random), work_time }
    }
}

impl Runtime for ProcessRuntime {
    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>) {
        self.executor.spawn(self.process, name, task);
    }

    fn spawn_blocking(&self, name: &str, work: Box<dyn FnOnce() + Send>) {
        self.executor.work_after(self.process, name, (self.work_time)(name), work);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.executor.sleep(self.clock.true_duration(duration)).boxed()
    }

    fn now(&self) -> Duration {
        self.clock.at(self.executor.now())
    }

    fn random(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

impl std::fmt::Debug for ProcessRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessRuntime")
            .field("process", &self.process)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn a_sleep_is_never_too_short_on_the_clock_of_its_own_process() {
        for drift_ppm in [-100_000, -50, -1, 0, 1, 50, 100_000] {
            let clock = Clock { origin: Duration::from_secs(5), drift_ppm };
            for (start, wanted) in [(Duration::ZERO, Duration::from_nanos(1)), (DAY, DAY)] {
                let end = start + clock.true_duration(wanted);
                assert!(clock.at(end) - clock.at(start) >= wanted, "{drift_ppm} {wanted:?}");
            }
        }
    }

    #[test]
    fn a_fast_clock_gains_what_its_drift_says() {
        let clock = Clock { origin: Duration::ZERO, drift_ppm: 1000 };
        assert_eq!(clock.at(Duration::from_secs(1000)), Duration::from_secs(1001));
    }
}
