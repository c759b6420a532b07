//! The workers that have failed at something and have finished nothing since: maybe it is they who are broken.
//!
//! Or it is the job. So they are believed less, and none of them makes another one less believed.

use std::ops::Bound;
use std::time::Duration;

use imbl::{OrdMap, OrdSet};

use super::command::WorkerId;
use super::limits::{FAILED_REST_MAX, SUSPECTED_FOR, SUSPECTS_MAX};
use crate::task::JobId;

/// All of them, by when and at which job each of them failed last. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Suspects {
    by_worker: OrdMap<WorkerId, (Duration, JobId)>,
    by_time: OrdSet<(Duration, WorkerId)>,
}

impl Suspects {
    /// Those of a snapshot.
    pub(super) fn restored(suspects: Vec<(WorkerId, Duration, JobId)>) -> Suspects {
        let mut restored = Suspects::default();
        suspects.into_iter().for_each(|(worker, at, job)| restored.failed(worker, at, job));
        restored
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (WorkerId, Duration, JobId)> {
        self.by_worker.iter().map(|(worker, (at, job))| (*worker, *at, *job))
    }

    /// At which job a worker failed last, if it is one of them.
    pub(super) fn job(&self, worker: WorkerId) -> Option<JobId> {
        self.by_worker.get(&worker).map(|(_, job)| *job)
    }

    /// Whether it is not to be given for now what anybody has failed at, as long as others work.
    pub(super) fn rests(&self, worker: WorkerId, now: Duration) -> bool {
        self.by_worker.get(&worker).is_some_and(|(at, _)| at.saturating_add(FAILED_REST_MAX) > now)
    }

    /// When the next one has rested.
    pub(super) fn next_rested(&self, now: Duration) -> Option<Duration> {
        let since = now
            .checked_sub(FAILED_REST_MAX)
            .map_or(Bound::Unbounded, |since| Bound::Excluded((since, WorkerId(u64::MAX))));
        let (at, _) = self.by_time.range((since, Bound::Unbounded)).next()?;
        Some(at.saturating_add(FAILED_REST_MAX))
    }

    pub(super) fn failed(&mut self, worker: WorkerId, now: Duration, job: JobId) {
        self.finished(worker);
        self.by_worker.insert(worker, (now, job));
        self.by_time.insert((now, worker));
        if self.by_worker.len() > SUSPECTS_MAX
            && let Some((_, first)) = self.by_time.get_min().copied()
        {
            self.finished(first);
        }
    }

    pub(super) fn finished(&mut self, worker: WorkerId) {
        if let Some((at, _)) = self.by_worker.remove(&worker) {
            self.by_time.remove(&(at, worker));
        }
    }

    /// Those that have not failed for long are no suspects any more: most of them are gone.
    pub(super) fn advance(&mut self, now: Duration) {
        while let Some((at, worker)) = self.by_time.get_min().copied()
            && at.saturating_add(SUSPECTED_FOR) <= now
        {
            self.finished(worker);
        }
    }
}
