//! What clients do with the coordinator in the simulator, and the workers that do the work.
//!
//! | to find | look in |
//! |---|---|
//! | clients that submit jobs, wait for them and cancel them | here |
//! | what they may be told | `swarm/model.rs` |
//! | workers that die, and are started again; one that is broken | [`crew`] |
//! | the data, and all that can go wrong with it | [`toy`] |
//! | what must have happened, given the log | `swarm/oracle.rs`, and what is held against it [`judge`] |

pub mod crew;
pub mod judge;
mod model;
pub(crate) mod oracle;
pub mod toy;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, select};
use raft_rsm::{ClientOptions, StateMachine};
use raft_sim::event::Digest;
use raft_sim::history::Ended;
use raft_sim::workload::{Factory, Session, ToldTo, Workload, command_failed};
use raft_sim::{Cluster, Random};

use self::crew::Crew;
pub use self::model::{Job as JobModel, Jobs as Model, Reply, Request};
use self::toy::{Call, Fate, Luck, Store};
use crate::coordinator::{Clerk, ClerkError, Coordinator, JobState};
use crate::task::{JobId, JobSpec, TaskId};

const MS: Duration = Duration::from_millis(1);

/// One operation of a client ends after so long, and a wait is a part of it.
const ANSWERED_WITHIN: Duration = MS.saturating_mul(5_000);
/// See [`ANSWERED_WITHIN`].
const WAIT: Duration = MS.saturating_mul(4_000);

/// Once all faults have ended, a job has ended so long after: leases run out, workers that hang go on, and those for whose
/// session there is no room do without. Some clusters have room for one session of a fraction of a second.
const ENDS_WITHIN: Duration = MS.saturating_mul(90_000);

const WORKERS: u64 = 3;

/// How likely it is that a client closes the coordinator before it does anything else.
const CLOSES: f64 = 0.03;

/// How likely it is that one of them fails at whatever it is given. All jobs succeed all the same.
const BROKEN: f64 = 0.25;

/// How likely it is that a worker is told to stop, in each of its lives.
const STOPPED: f64 = 0.2;

/// How long calls take.
const TAKES: std::ops::Range<Duration> = MS.saturating_mul(10)..MS.saturating_mul(1_200);

/// Shorter than a lease, or longer.
const HANGS: std::ops::Range<Duration> = MS.saturating_mul(500)..MS.saturating_mul(10_000);

/// A call that sticks is found out after so long.
const HANG_MAX: Duration = MS.saturating_mul(8_000);

/// No task may run out of tries by bad luck alone.
const FAILURES_MAX: u32 = 1_000;

/// Clients that submit jobs, and workers that do them.
#[derive(Default)]
pub struct Jobs {
    store: Store,
    /// What clients wait for, by their numbers.
    waiting: Mutex<BTreeMap<u64, Waiting>>,
    kept: Mutex<Kept>,
    /// Nothing goes wrong with workers any more.
    is_calm: Arc<AtomicBool>,
}

/// A job that a client waits for.
#[derive(Clone)]
struct Waiting {
    token: u64,
    spec: JobSpec,
    id: Option<JobId>,
}

/// What is kept for the judgement.
#[derive(Default)]
struct Kept {
    has_workers: bool,
    problem: Option<String>,
    counts: BTreeMap<&'static str, u64>,
}

#[async_trait]
impl Workload for Jobs {
    type Machine = Coordinator;
    type Model = Model;

    fn model(&self, _: &Factory<Coordinator>) -> Model {
        Model
    }

    async fn operation(&self, session: &mut Session<Jobs>) {
        self.hire(session);
        let found = self.waiting().remove(&session.number());
        let mut waiting = found.unwrap_or_else(|| draw_job(session));
        let is_last = session.must_be_answered();
        if is_last {
            self.is_calm.store(true, Ordering::Relaxed);
        } else if session.random().chance(CLOSES) {
            self.close(session).await;
        }
        let id = match waiting.id {
            Some(id) => Some(id),
            None => self.submit(session, &waiting).await,
        };
        waiting.id = id;
        let Some(id) = id else {
            self.waiting().insert(session.number(), waiting);
            return;
        };
        let mut end = None;
        if !is_last && session.random().chance(0.03) {
            end = self.cancel(session, &waiting, id).await;
        }
        let begun = session.cluster().now();
        while end.is_none() {
            end = self.wait(session, &waiting, id).await;
            if !is_last || session.cluster().now() >= begun + ENDS_WITHIN {
                break;
            }
        }
        match end {
            Some(state) => self.ended(&waiting, id, &state),
            None if is_last => self.problem(format!("job {id} does not end")),
            None => {
                self.waiting().insert(session.number(), waiting);
            }
        }
    }

    fn judge(&self, told: &[ToldTo<Coordinator>]) -> Result<(), String> {
        if let Some(problem) = &self.kept().problem {
            return Err(problem.clone());
        }
        let verdict = judge::judge(told, &self.store)?;
        let counts = &mut self.kept().counts;
        counts.insert("attempts handed out", verdict.handed_out.len() as u64);
        counts.insert("tasks finished", verdict.finished.values().sum());
        counts.insert("maps lost", verdict.losses);
        counts.insert("attempts failed", verdict.failures);
        Ok(())
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        let kept = self.kept();
        kept.counts.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect()
    }

    /// The whole of it, as a snapshot has it.
    fn state(&self, machine: &Coordinator) -> Option<Digest> {
        let mut image = Vec::new();
        machine.snapshot().write_to(&mut image).ok()?;
        Some(Digest::of(&image))
    }
}

impl Jobs {
    /// Starts the workers, once.
    fn hire(&self, session: &mut Session<Jobs>) {
        if std::mem::replace(&mut self.kept().has_workers, true) {
            return;
        }
        let random = session.random().fork("workers");
        let luck = luck(random.fork("luck"), Arc::clone(&self.is_calm));
        let slots = 1 + u32::try_from(session.random().within(0..2)).unwrap_or(0);
        let cluster = session.cluster().clone();
        let is_one_broken = random.fork("broken").chance(BROKEN);
        let crew = Crew::new(cluster, self.store.clone(), luck, random, slots);
        let mut crew = crew.for_ever().with_hang_max(HANG_MAX).with_stopped(STOPPED);
        if is_one_broken {
            self.count("broken workers");
            crew = crew.with_broken(0);
        }
        // They work until the run is over.
        drop(crew.keep(WORKERS));
    }

    /// Whoever submits a job next will have to open the coordinator.
    async fn close(&self, session: &Session<Jobs>) {
        if clerk(session.cluster(), session.number()).close().await.is_ok() {
            self.count("coordinators closed");
        }
    }

    async fn submit(&self, session: &mut Session<Jobs>, waiting: &Waiting) -> Option<JobId> {
        let clerk = clerk(session.cluster(), session.number());
        let (token, spec) = (waiting.token, waiting.spec.clone());
        let submitting = async {
            let mut submitted = clerk.submit(token.into(), spec.clone()).await;
            while let Err(ClerkError::Refused(_)) = submitted {
                submitted = match clerk.open().await {
                    Ok(()) => clerk.submit(token.into(), spec.clone()).await,
                    Err(error) => Err(error),
                };
            }
            match submitted {
                Ok(id) => Ended::Answered(Reply::Submitted(id)),
                Err(error) => failed(&error),
            }
        };
        // Of several requests, each has as long as all of them together.
        let late = session.cluster().sleep(ANSWERED_WITHIN);
        let call = async {
            match select(pin!(submitting), pin!(late)).await {
                Either::Left((ended, _)) => ended,
                Either::Right(_) => Ended::Maybe,
            }
        };
        match session.record(Request::Submit(token), call).await {
            Ended::Answered(Reply::Submitted(id)) => Some(id),
            Ended::Answered(Reply::State(_) | Reply::HasEnded) | Ended::Maybe | Ended::Failed => {
                None
            }
        }
    }

    /// How the job ended, if it did.
    async fn wait(
        &self,
        session: &mut Session<Jobs>,
        waiting: &Waiting,
        id: JobId,
    ) -> Option<JobState> {
        let clerk = clerk(session.cluster(), session.number());
        let call = async {
            match clerk.done(id, WAIT).await {
                Ok(Some(state)) => Ended::Answered(Reply::State(state)),
                Ok(None) => Ended::Answered(Reply::HasEnded),
                Err(_) => Ended::Failed,
            }
        };
        match session.record(Request::Ask(waiting.token), call).await {
            Ended::Answered(Reply::State(state)) if state != JobState::Unfinished => Some(state),
            Ended::Answered(_) | Ended::Maybe | Ended::Failed => None,
        }
    }

    async fn cancel(
        &self,
        session: &mut Session<Jobs>,
        waiting: &Waiting,
        id: JobId,
    ) -> Option<JobState> {
        let clerk = clerk(session.cluster(), session.number());
        let call = async {
            match clerk.cancel(id).await {
                Ok(()) => Ended::Answered(Reply::State(JobState::Cancelled)),
                Err(ClerkError::HasEnded) => Ended::Answered(Reply::HasEnded),
                Err(error) => failed(&error),
            }
        };
        match session.record(Request::Cancel(waiting.token), call).await {
            Ended::Answered(Reply::State(state)) => Some(state),
            Ended::Answered(_) | Ended::Maybe | Ended::Failed => None,
        }
    }

    /// A job that succeeded has the result that it has when it is done by one after the other.
    fn ended(&self, waiting: &Waiting, id: JobId, state: &JobState) {
        match state {
            JobState::Succeeded => {
                self.count("jobs succeeded");
                let (found, right) = (self.store.published(id), toy::sequentially(&waiting.spec));
                if found.as_ref() != Some(&right) {
                    self.problem(format!("the result of job {id} is {found:?}, not {right:?}"));
                }
            }
            JobState::Cancelled => self.count("jobs cancelled"),
            JobState::Failed(why) => self.problem(format!("job {id} failed: {why}")),
            JobState::Unfinished => {}
        }
    }

    fn count(&self, what: &'static str) {
        *self.kept().counts.entry(what).or_default() += 1;
    }

    fn problem(&self, problem: String) {
        self.kept().problem.get_or_insert(problem);
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn draw_job(session: &mut Session<Jobs>) -> Waiting {
    let token = session.number() * 1_000_000 + session.begun();
    let maps = session.random().within(0..7);
    let reducers = 1 + u32::try_from(session.random().within(0..3)).unwrap_or(0);
    Waiting { token, spec: toy::job(token, maps, reducers, FAILURES_MAX), id: None }
}

fn clerk(cluster: &Cluster<Coordinator>, number: u64) -> Clerk {
    let mut options = ClientOptions::default();
    options.deadline = ANSWERED_WITHIN;
    Clerk::new(cluster.client(number, options))
}

fn failed(error: &ClerkError) -> Ended<Reply> {
    match error {
        ClerkError::Client(error) => command_failed(error),
        ClerkError::Refused(_)
        | ClerkError::NoJob
        | ClerkError::HasEnded
        | ClerkError::HasNotEnded
        | ClerkError::Unfit => Ended::Maybe,
    }
}

/// Calls die, hang, stick, fail and lose what they need, until all is calm.
fn luck(random: Random, is_calm: Arc<AtomicBool>) -> Luck {
    let random = Mutex::new(random);
    Arc::new(move |work| {
        let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
        let (takes, hangs) = (random.duration(&TAKES), random.duration(&HANGS));
        let drawn = *random.choose(&[
            Fate::Goes,
            Fate::Goes,
            Fate::Goes,
            Fate::Goes,
            Fate::Crashes,
            Fate::Hangs(hangs),
            Fate::Fails,
            Fate::Loses,
            Fate::Sticks,
        ]);
        let fate = match (is_calm.load(Ordering::Relaxed), work.id.task) {
            (true, _) => Fate::Goes,
            (false, TaskId::Map(_) | TaskId::Reduce(_) | TaskId::Publish) => drawn,
        };
        Call { takes, fate }
    })
}

#[cfg(test)]
mod tests {
    use raft_sim::Simulation;

    use super::*;

    #[test]
    fn every_job_comes_to_what_it_should_whatever_the_seeds_say() {
        let (mut succeeded, mut lost) = (0, 0);
        for seed in 0..20 {
            let run = Simulation::new(seed).machine(Coordinator::default).workload(Jobs::default());
            let report = run.run().unwrap_or_else(|failure| panic!("{failure}"));
            let count = |what| report.counts.workload.get(what).copied().unwrap_or(0);
            succeeded += count("jobs succeeded");
            lost += count("maps lost");
        }
        assert!(succeeded > 100 && lost > 10, "{succeeded} jobs, {lost} losses");
    }
}
