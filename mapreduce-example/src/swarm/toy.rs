//! Jobs whose data is numbers in memory, and an executor for them that dies, sleeps, hangs, fails and loses things when it is told to.
//!
//! A split stands for some pairs of a key and a value; the result has the sum of the values of each key. What attempts write
//! is in a [`Store`] that survives all workers, under names of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::pending;
use raft_sim::Random;
use raft_sim::executor::{Executor as World, ProcessId};

use crate::task::{
    Attempt, AttemptId, Counts, Executor, JobId, JobSpec, Split, Stop, TaskError, TaskId, Work,
};

/// An attempt looks so often whether it is to stop.
const LOOKS_EACH: Duration = Duration::from_millis(20);

/// Pairs that a split stands for.
const PAIRS: u64 = 6;

/// There are so many keys.
const KEYS: u64 = 10;

/// Sums by key.
pub type Sums = BTreeMap<u64, u64>;

/// A job of so many splits whose numbers are drawn from a seed.
#[must_use]
pub fn job(seed: u64, maps: u64, reducers: u32, failures_max: u32) -> JobSpec {
    let split = |offset| Split { input: "memory:///numbers".to_owned(), offset, len: 1 };
    JobSpec {
        job: "sums".to_owned(),
        arguments: [("seed".to_owned(), seed.to_string())].into(),
        inputs: (0..maps).map(split).collect(),
        output: "memory:///sums".to_owned(),
        reducers,
        failures_max,
        token: 1,
    }
}

/// What the job comes to, done by one after the other.
#[must_use]
pub fn sequentially(spec: &JobSpec) -> Sums {
    sum(spec.inputs.iter().flat_map(|split| pairs(spec, split)))
}

fn pairs(spec: &JobSpec, split: &Split) -> Vec<(u64, u64)> {
    let seed = spec.arguments.get("seed").map_or("", String::as_str);
    let mut random = Random::new(split.offset).fork(seed);
    (0..PAIRS).map(|_| (random.within(0..KEYS), random.within(0..1_000))).collect()
}

fn sum(pairs: impl IntoIterator<Item = (u64, u64)>) -> Sums {
    let mut sums = Sums::new();
    for (key, value) in pairs {
        *sums.entry(key).or_default() += value;
    }
    sums
}

/// What becomes of a call of the executor.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// How long it takes.
    pub takes: Duration,
    /// How it goes.
    pub fate: Fate,
}

/// How a call goes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// Well.
    #[default]
    Goes,
    /// It fails.
    Fails,
    /// It takes its whole worker with it.
    Crashes,
    /// Its whole worker stands still for so long, and goes on as if nothing had happened.
    Hangs(Duration),
    /// If it reduces, something that it needs is lost before.
    Loses,
    /// It does nothing any more, for ever, while its worker goes on.
    Sticks,
}

/// Says what becomes of each call.
pub type Luck = Arc<dyn Fn(&Work) -> Call + Send + Sync>;

/// Something that an executor did.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// At which attempt.
    pub id: AttemptId,
    /// Which worker did it: a number that is the same in all its lives.
    pub worker: u64,
    /// When it began, in true time.
    pub begun: Duration,
    /// When it had written what it had to write; `None`: it has not, or not yet.
    pub written: Option<Duration>,
}

/// What attempts have written, and when. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Store {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    mapped: BTreeMap<(JobId, u32, Attempt), Vec<(u64, u64)>>,
    reduced: BTreeMap<(JobId, u32, Attempt), Sums>,
    published: BTreeMap<JobId, Sums>,
    lost: u64,
    log: Vec<Done>,
}

impl Store {
    /// The result of a job, once it is published.
    #[must_use]
    pub fn published(&self, job: JobId) -> Option<Sums> {
        self.lock().published.get(&job).cloned()
    }

    /// All calls of executors, in the order in which they began.
    #[must_use]
    pub fn log(&self) -> Vec<Done> {
        self.lock().log.clone()
    }

    /// How often the output of a map task was lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lock().lost
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Does what `work` asks for, at once.
    fn carry_out(&mut self, work: &Work) -> Result<Counts, TaskError> {
        let Work { id: AttemptId { job, task, attempt }, spec, inputs } = work;
        let (job, attempt) = (*job, *attempt);
        let inputs = (0..).zip(inputs.iter().copied());
        match *task {
            TaskId::Map(map) => {
                let split = usize::try_from(map).ok().and_then(|map| spec.inputs.get(map));
                let split = split.ok_or_else(|| TaskError::Failed("no such split".to_owned()))?;
                self.mapped.insert((job, map, attempt), pairs(spec, split));
            }
            TaskId::Reduce(partition) => {
                let mut all = Vec::new();
                for (map, attempt) in inputs {
                    let mapped = self.mapped.get(&(job, map, attempt));
                    all.extend(mapped.ok_or(TaskError::LostMap(map))?);
                }
                all.retain(|(key, _)| key % u64::from(spec.reducers) == u64::from(partition));
                self.reduced.insert((job, partition, attempt), sum(all));
            }
            TaskId::Publish => {
                let mut all = Sums::new();
                for (partition, attempt) in inputs {
                    let reduced = self.reduced.get(&(job, partition, attempt));
                    let missing = || TaskError::Failed(format!("{partition} is not reduced"));
                    all.extend(reduced.ok_or_else(missing)?);
                }
                self.published.insert(job, all);
                // What was between is not needed any more: who still looks for it comes too late.
                self.mapped.retain(|(of, ..), _| *of != job);
            }
        }
        Ok(Counts { bytes_in: 1, bytes_out: 1, records: PAIRS })
    }

    fn lose(&mut self, work: &Work, random: u64) {
        let TaskId::Reduce(_) = work.id.task else { return };
        let Some(inputs) = std::num::NonZeroU64::new(work.inputs.len() as u64) else { return };
        let map = u32::try_from(random % inputs).unwrap_or(0);
        let attempt = usize::try_from(map).ok().and_then(|map| work.inputs.get(map));
        let Some(attempt) = attempt else { return };
        self.lost += u64::from(self.mapped.remove(&(work.id.job, map, *attempt)).is_some());
    }
}

/// The executor of one worker, whose process it can kill and pause.
pub struct Toy {
    world: World,
    process: ProcessId,
    worker: u64,
    store: Store,
    luck: Luck,
}

impl Toy {
    pub(super) fn new(
        world: World,
        process: ProcessId,
        worker: u64,
        store: Store,
        luck: Luck,
    ) -> Toy {
        Toy { world, process, worker, store, luck }
    }

    async fn suffer(&self, work: &Work, fate: Fate) -> Result<(), TaskError> {
        let (world, process) = (self.world.clone(), self.process);
        match fate {
            Fate::Goes => {}
            Fate::Fails => return Err(TaskError::Failed(format!("{} is unlucky", work.id))),
            Fate::Crashes => {
                self.world.call_at(self.world.now(), move || world.kill(process));
                pending::<()>().await;
            }
            Fate::Hangs(pause) => {
                self.world.pause(process);
                let resume = move || {
                    world.resume(process);
                };
                self.world.call_at(self.world.now() + pause, resume);
            }
            Fate::Sticks => pending::<()>().await,
            Fate::Loses => {
                let random = u64::from(work.id.attempt.0) * 7 + work.id.job.0;
                self.store.lock().lose(work, random);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Executor for Toy {
    async fn execute(&self, work: Work, stop: Arc<dyn Stop>) -> Result<Counts, TaskError> {
        let (id, worker) = (work.id, self.worker);
        let Call { takes, fate } = (self.luck)(&work);
        let entry = {
            let log = &mut self.store.lock().log;
            log.push(Done { id, worker, begun: self.world.now(), written: None });
            log.len() - 1
        };
        let half = self.world.now() + takes / 2;
        let end = self.world.now() + takes;
        let mut suffers = Some(fate);
        while self.world.now() < end || suffers.is_some() {
            if stop.is_stopped() {
                return Err(TaskError::Stopped);
            }
            if self.world.now() >= half
                && let Some(fate) = suffers.take()
            {
                self.suffer(&work, fate).await?;
            }
            let left = end.saturating_sub(self.world.now());
            self.world.sleep(left.min(LOOKS_EACH)).boxed().await;
        }
        let mut store = self.store.lock();
        let counts = store.carry_out(&work)?;
        store.log[entry].written = Some(self.world.now());
        Ok(counts)
    }
}
