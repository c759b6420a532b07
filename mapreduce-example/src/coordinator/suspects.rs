//! The workers that have failed at something and have finished nothing since: maybe it is they who are broken.
//!
//! Or it is the job. So they are believed less, and none of them makes another one less believed.

use std::ops::Bound;
use std::time::Duration;

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use super::command::WorkerId;
use super::limits::{FAILED_REST_MAX, SUSPECTED_FOR, SUSPECTS_MAX};
use crate::task::JobId;

/// At what a suspect has failed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FailedAt {
    /// At this job.
    One(JobId),
    /// At this job and others.
    Several,
}

/// All of them, by when each of them failed last. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Suspects {
    by_worker: OrdMap<WorkerId, (Duration, FailedAt)>,
    by_time: OrdSet<(Duration, WorkerId)>,
}

impl Suspects {
    /// Those of a snapshot.
    pub(super) fn restored(suspects: Vec<(WorkerId, Duration, FailedAt)>) -> Suspects {
        let mut restored = Suspects::default();
        suspects.into_iter().for_each(|(worker, at, jobs)| restored.insert(worker, at, jobs));
        restored
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (WorkerId, Duration, FailedAt)> {
        self.by_worker.iter().map(|(worker, (at, jobs))| (*worker, *at, *jobs))
    }

    /// At what a worker has failed, if it is one of them.
    pub(super) fn failed_at(&self, worker: WorkerId) -> Option<FailedAt> {
        self.by_worker.get(&worker).map(|(_, jobs)| *jobs)
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
        let jobs = match self.failed_at(worker) {
            Some(FailedAt::One(before)) if before == job => FailedAt::One(job),
            Some(FailedAt::One(_) | FailedAt::Several) => FailedAt::Several,
            None => FailedAt::One(job),
        };
        self.insert(worker, now, jobs);
    }

    fn insert(&mut self, worker: WorkerId, now: Duration, jobs: FailedAt) {
        self.finished(worker);
        self.by_worker.insert(worker, (now, jobs));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_and_for_each_once() {
        let (second, job) = (Duration::from_secs(1), FailedAt::One(JobId(1)));
        // As no image should have it.
        let twice = [2, 1].map(|at| (WorkerId(7), at * second, job));
        let mut suspects = Suspects::restored(twice.into());
        suspects.advance(second + SUSPECTED_FOR);
        assert_eq!(suspects, Suspects::default());
        for worker in 0..=SUSPECTS_MAX as u64 {
            suspects.failed(WorkerId(worker), second, JobId(1));
        }
        assert_eq!(suspects.iter().count(), SUSPECTS_MAX);
        assert_eq!(suspects.by_time.len(), SUSPECTS_MAX);
        assert_eq!(suspects.failed_at(WorkerId(0)), None);
    }
}
