//! What clients do with the locks in the simulator. What they may be told is in [`model`].
//!
//! A client that takes the [fenced] lock is a process of its own, with a clock that drifts: it dies while it
//! holds the lock, or is paused for longer than its lease lives and goes on as if nothing had happened. What it does under
//! the lock is to write to a resource behind a [`Fence`]. Clients of the [versioned](crate::versioned) lock live, as they
//! must: their requests and answers are lost like all others.

pub mod model;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use kv_example::clerk::Clerk;
use kv_example::store::Store;
use raft_rsm::{Client, ClientOptions, Runtime};
use raft_sim::executor::{Executor, ProcessId};
use raft_sim::history::Ended;
use raft_sim::runtime::{Clock, ProcessRuntime};
use raft_sim::workload::{Factory, Session, Workload};

use self::model::{Answer, Locks as Model, Request};
use crate::fence::Fence;
use crate::fenced::{self, FencedLock, Guard};
use crate::versioned::{AcquireError, Lock};

const MS: Duration = Duration::from_millis(1);

/// How long a client waits for a lock: less than what an operation may take in the simulator.
const PATIENCE: Duration = MS.saturating_mul(9_000);

/// So many clients share a lock: all of them have their turn within [`PATIENCE`] even where answers are late.
const SHARERS: u64 = 4;

/// Later, holders neither die nor sleep: when all faults have ended, each client must have its turn in time.
const RECKLESS_UNTIL: Duration = MS.saturating_mul(40_000);

/// How long leases live: some answers of a slow network take as long, most of them do not.
const TTLS: std::ops::Range<Duration> = MS.saturating_mul(1_000)..MS.saturating_mul(1_500);

/// Shorter than a lease, or longer.
const PAUSES: std::ops::Range<Duration> = MS.saturating_mul(500)..MS.saturating_mul(4_000);

/// How long a lock is held.
const HOLDS: std::ops::Range<Duration> = Duration::ZERO..MS.saturating_mul(100);

/// The clock of a client gains or loses no more than this, in millionths.
const CLOCK_DRIFT_PPM: u64 = 1000;

/// One request of a client of the versioned lock ends after this, so that several of them fit into one operation.
const REQUEST_WITHIN: Duration = MS.saturating_mul(2_500);

/// Clients that take both kinds of locks.
#[derive(Default)]
pub struct Locks {
    /// The resources, by the names of the locks that protect them.
    fences: Mutex<BTreeMap<String, Fence>>,
    /// The clients that have acquired the versioned lock, or tried to.
    versioned: Mutex<BTreeMap<u64, Versioned>>,
}

/// A client's side of the versioned lock.
struct Versioned {
    lock: Lock,
    /// The number of its last acquisition.
    acquisition: u64,
    /// Its last release was answered.
    is_released: bool,
}

/// What becomes of a holder.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fate {
    Releases,
    /// It is paused before it writes.
    Sleeps,
    /// It dies when it has written.
    Dies,
}

const FATES: [Fate; 6] =
    [Fate::Releases, Fate::Releases, Fate::Releases, Fate::Sleeps, Fate::Sleeps, Fate::Dies];

#[async_trait]
impl Workload for Locks {
    type Machine = Store;
    type Model = Model;

    fn model(&self, _: &Factory<Store>) -> Model {
        Model
    }

    async fn operation(&self, session: &mut Session<Locks>) {
        // Who has not heard of its release may think better of it.
        if self.has_failed_to_release(session.number()) && session.random().chance(0.4) {
            return self.take_versioned(session).await;
        }
        // Who may hold the versioned lock keeps others waiting: that comes first.
        if !self.let_go(session).await {
            return;
        }
        match session.random().chance(0.4) {
            true => self.take_versioned(session).await,
            false => self.take_fenced(session).await,
        }
    }
}

impl Locks {
    async fn take_fenced(&self, session: &mut Session<Locks>) {
        let name = format!("fenced {}", session.number() / SHARERS);
        let drawn = *session.random().choose(&FATES);
        let fate = match session.cluster().now() < RECKLESS_UNTIL {
            true => drawn,
            false => Fate::Releases,
        };
        let ttl = session.random().duration(&TTLS);
        let (hold, pause) = (session.random().duration(&HOLDS), session.random().duration(&PAUSES));
        let waits = session.random().chance(0.7);
        let process = Process::start(session);

        let request = Request::Acquire { lock: name.clone(), holder: None };
        let acquiring = process.acquire(&name, ttl, waits);
        let mut guard = None;
        let taken = &mut guard;
        let call = async move {
            match acquiring.await {
                Some(Ok(Some(guard))) => {
                    let token = taken.insert(guard).token();
                    Ended::Answered(Answer::Granted(Some(token.0.0)))
                }
                Some(Ok(None)) => Ended::Answered(Answer::NotNow),
                Some(Err(_)) | None => Ended::Failed,
            }
        };
        session.record(request, call).await;
        if let Some(guard) = guard {
            let guard = Arc::new(guard);
            self.write(session, &process, &guard, hold, (fate == Fate::Sleeps).then_some(pause))
                .await;
            match fate {
                Fate::Releases | Fate::Sleeps => {
                    let releasing = async move { guard.release().await.is_ok() };
                    process.run(releasing).await;
                }
                Fate::Dies => {}
            }
        }
        process.kill();
    }

    /// Writes to the resource, whether or not the lock is still held: that the holder looks and what it writes arrives are
    /// never the same moment.
    async fn write(
        &self,
        session: &mut Session<Locks>,
        process: &Process,
        guard: &Arc<Guard>,
        hold: Duration,
        pause: Option<Duration>,
    ) {
        let token = guard.token();
        let lock = guard.name().to_owned();
        let request = Request::Write { lock: lock.clone(), token: token.0.0 };
        let (waited, guard, cluster) =
            (process.sleep(hold), Arc::clone(guard), session.cluster().clone());
        let waited = process.run(waited);
        let process = process.clone();
        let call = async move {
            if let Some(pause) = pause {
                process.executor.pause(process.id);
                cluster.sleep(pause).await;
                process.executor.resume(process.id);
            }
            waited.await;
            // One step, so that nothing comes between the look and the write: a holder is right about itself.
            let held = guard.is_held();
            let accepted = self.fences().entry(lock).or_default().admit(token).is_ok();
            Ended::Answered(Answer::Written { accepted, held })
        };
        session.record(request, call).await;
    }

    async fn take_versioned(&self, session: &mut Session<Locks>) {
        let number = session.number();
        let holder = (number, session.begun());
        let mut lock = match self.versioned().remove(&number) {
            Some(Versioned { lock, .. }) => lock,
            None => versioned_lock(session),
        };
        let request = Request::Acquire { lock: versioned_name(number), holder: Some(holder) };
        let call = async {
            match lock.acquire(PATIENCE).await {
                Ok(()) => Ended::Answered(Answer::Granted(None)),
                Err(AcquireError::Taken | AcquireError::NoAnswer | AcquireError::Client(_)) => {
                    Ended::Failed
                }
                Err(AcquireError::Maybe) => Ended::Maybe,
            }
        };
        session.record(request, call).await;
        let acquired = Versioned { lock, acquisition: holder.1, is_released: false };
        self.versioned().insert(number, acquired);
        let hold = session.random().duration(&HOLDS);
        session.cluster().sleep(hold).await;
        self.let_go(session).await;
        // A release that is repeated is nobody else's.
        if session.random().chance(0.2) {
            self.let_go(session).await;
        }
    }

    /// Releases the versioned lock, if this client ever acquired it. Returns whether it is known not to hold it.
    async fn let_go(&self, session: &mut Session<Locks>) -> bool {
        let number = session.number();
        let Some(held) = self.versioned().remove(&number) else { return true };
        let Versioned { mut lock, acquisition, .. } = held;
        let may_hold = lock.is_held() || lock.is_unsettled();
        let holder = (number, acquisition);
        let released = async {
            match lock.release().await {
                Ok(()) => Ended::Answered(Answer::Released),
                Err(_) => Ended::Maybe,
            }
        };
        let is_released = match may_hold {
            true => {
                let request = Request::Release { lock: versioned_name(number), holder };
                matches!(session.record(request, released).await, Ended::Answered(_))
            }
            false => matches!(released.await, Ended::Answered(_)),
        };
        self.versioned().insert(number, Versioned { lock, acquisition, is_released });
        is_released
    }

    /// By what it was told, not by what its side of the lock makes of it.
    fn has_failed_to_release(&self, number: u64) -> bool {
        self.versioned().get(&number).is_some_and(|versioned| !versioned.is_released)
    }

    fn fences(&self) -> MutexGuard<'_, BTreeMap<String, Fence>> {
        self.fences.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn versioned(&self) -> MutexGuard<'_, BTreeMap<u64, Versioned>> {
        self.versioned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn versioned_name(client: u64) -> String {
    format!("versioned {}", client / SHARERS)
}

fn versioned_lock(session: &Session<Locks>) -> Lock {
    let mut options = ClientOptions::default();
    options.deadline = REQUEST_WITHIN;
    let (cluster, number) = (session.cluster(), session.number());
    let clerk = Clerk::new(cluster.client(number, options));
    Lock::new(clerk, cluster.world_runtime(number), &versioned_name(number))
}

/// A process of a client.
#[derive(Clone)]
struct Process {
    executor: Executor,
    id: ProcessId,
    runtime: Arc<ProcessRuntime>,
    locks: FencedLock,
}

impl Process {
    fn start(session: &mut Session<Locks>) -> Process {
        let (number, begun) = (session.number(), session.begun());
        let drawn = session.random().within(0..CLOCK_DRIFT_PPM * 2 + 1);
        let drift_ppm =
            i32::try_from(drawn).unwrap_or(0) - i32::try_from(CLOCK_DRIFT_PPM).unwrap_or(0);
        let clock = Clock { origin: Duration::ZERO, drift_ppm };
        let random = session.random().fork(&format!("process {begun}"));
        let executor = session.cluster().executor().clone();
        let id = executor.process();
        let work_time = Arc::new(|_: &str| Duration::ZERO);
        let runtime = Arc::new(ProcessRuntime::new(executor.clone(), id, clock, random, work_time));
        let connector = session.cluster().network().connector(number);
        let client = Client::new(connector, Arc::clone(&runtime) as _, ClientOptions::default());
        let locks = FencedLock::new(Clerk::new(client), Arc::clone(&runtime) as _);
        Process { executor, id, runtime, locks }
    }

    /// Waits for the lock, or only tries it.
    fn acquire(
        &self,
        name: &str,
        ttl: Duration,
        waits: bool,
    ) -> BoxFuture<'static, Option<Result<Option<Guard>, fenced::AcquireError>>> {
        let (locks, name) = (self.locks.clone(), name.to_owned());
        self.run(async move {
            match waits {
                true => locks.acquire(&name, ttl, PATIENCE).await.map(Some),
                false => locks.try_acquire(&name, ttl, PATIENCE).await,
            }
        })
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.runtime.sleep(duration)
    }

    /// What `task` returns, which runs in this process; `None` if the process dies before.
    fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> BoxFuture<'static, Option<T>> {
        let (sender, receiver) = oneshot::channel();
        let task = async move {
            // Who has gone does not want it.
            let _ = sender.send(task.await);
        };
        self.executor.spawn(self.id, "holder", task.boxed());
        receiver.map(Result::ok).boxed()
    }

    fn kill(&self) {
        self.executor.kill(self.id);
    }
}

#[cfg(test)]
mod tests {
    use raft_sim::Simulation;

    use super::*;

    #[test]
    fn no_lock_is_held_twice_whatever_the_seeds_say() {
        for seed in 0..20 {
            let run = Simulation::new(seed).machine(Store::default).workload(Locks::default());
            let report = run.run().unwrap_or_else(|failure| panic!("{failure}"));
            assert!(report.counts.calls_answered > 0);
        }
    }
}
