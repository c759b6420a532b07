//! The attempts that run, and their leases.

use std::ops::{Bound, RangeInclusive};
use std::time::Duration;

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use super::command::WorkerId;
use crate::task::{Attempt, AttemptId, JobId, TaskId};

/// All attempts that run. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempts {
    by_id: OrdMap<AttemptId, Running>,
    by_end: OrdSet<(Duration, AttemptId)>,
    by_worker: OrdSet<(WorkerId, AttemptId)>,
}

/// An attempt that runs. Times are the log's.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) worker: WorkerId,
    /// When it was handed out, or resumed after its lease had run out.
    pub(super) since: Duration,
    pub(super) is_resumed: bool,
    /// When its lease ends.
    pub(super) ends_at: Duration,
}

/// No attempt comes after it.
const LAST: AttemptId =
    AttemptId { job: JobId(u64::MAX), task: TaskId::Publish, attempt: Attempt(u32::MAX) };

impl Attempts {
    pub(super) fn get(&self, id: AttemptId) -> Option<&Running> {
        self.by_id.get(&id)
    }

    /// Those of a task, in their order.
    pub(super) fn of_task(
        &self,
        job: JobId,
        task: TaskId,
    ) -> impl Iterator<Item = (AttemptId, Running)> {
        self.range(all_of(job, task, task))
    }

    /// Those of a job, in the order of their tasks.
    pub(super) fn of_job(&self, job: JobId) -> impl Iterator<Item = (AttemptId, Running)> {
        self.range(all_of(job, TaskId::Map(0), TaskId::Publish))
    }

    /// Those of a job's map tasks.
    pub(super) fn of_maps(&self, job: JobId) -> impl Iterator<Item = (AttemptId, Running)> {
        self.range(all_of(job, TaskId::Map(0), TaskId::Map(u32::MAX)))
    }

    fn range(&self, ids: RangeInclusive<AttemptId>) -> impl Iterator<Item = (AttemptId, Running)> {
        self.by_id.range(ids).map(|(id, running)| (*id, *running))
    }

    /// Those of a worker.
    pub(super) fn of_worker(&self, worker: WorkerId) -> impl Iterator<Item = AttemptId> {
        let first = AttemptId { job: JobId(0), task: TaskId::Map(0), attempt: Attempt(0) };
        self.by_worker
            .range((worker, first)..)
            .map_while(move |(of, id)| (*of == worker).then_some(*id))
    }

    /// Whether a worker has any of a job.
    pub(super) fn has(&self, worker: WorkerId, job: JobId) -> bool {
        let (first, last) = all_of(job, TaskId::Map(0), TaskId::Publish).into_inner();
        self.by_worker.range((worker, first)..=(worker, last)).next().is_some()
    }

    /// The workers that have any.
    pub(super) fn workers(&self) -> impl Iterator<Item = WorkerId> {
        let first = self.by_worker.get_min().map(|(worker, _)| *worker);
        std::iter::successors(first, |worker| {
            let after = Bound::Excluded((*worker, LAST));
            self.by_worker.range((after, Bound::Unbounded)).next().map(|(worker, _)| *worker)
        })
    }

    /// When the next lease ends.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.by_end.get_min().map(|(end, _)| *end)
    }

    pub(super) fn insert(&mut self, id: AttemptId, running: Running) {
        self.by_end.insert((running.ends_at, id));
        self.by_worker.insert((running.worker, id));
        self.by_id.insert(id, running);
    }

    /// Whether the worker has it: then its lease ends at `ends_at`.
    pub(super) fn renew(&mut self, worker: WorkerId, id: AttemptId, ends_at: Duration) -> bool {
        let Some(running) = self.by_id.get_mut(&id).filter(|running| running.worker == worker)
        else {
            return false;
        };
        self.by_end.remove(&(running.ends_at, id));
        running.ends_at = ends_at;
        self.by_end.insert((ends_at, id));
        true
    }

    pub(super) fn remove(&mut self, id: AttemptId) -> Option<Running> {
        let running = self.by_id.remove(&id)?;
        self.by_end.remove(&(running.ends_at, id));
        self.by_worker.remove(&(running.worker, id));
        Some(running)
    }

    /// Takes out the first one whose lease has ended by `now`.
    pub(super) fn take_ended(&mut self, now: Duration) -> Option<AttemptId> {
        let (end, id) = *self.by_end.get_min()?;
        if end > now {
            return None;
        }
        self.remove(id).map(|_| id)
    }
}

fn all_of(job: JobId, first: TaskId, last: TaskId) -> RangeInclusive<AttemptId> {
    let first = AttemptId { job, task: first, attempt: Attempt(0) };
    first..=AttemptId { job, task: last, attempt: Attempt(u32::MAX) }
}
