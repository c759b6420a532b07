//! The tasks of one phase of a job.

use std::time::Duration;

use imbl::{OrdSet, Vector};
use serde::{Deserialize, Serialize};

use super::command::{Progress, WorkerId};
use super::limits::{
    FAILED_REST, FAILED_REST_MAX, STRAGGLER_AFTER, STRAGGLER_FACTOR, STRAGGLER_MIN,
};
use super::median::Median;
use super::offers::{Offers, Whom};
use crate::task::{Attempt, Counts};

/// A task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Task {
    /// The last attempt that was handed out; 0: none was. It only grows, so no number is given twice.
    pub(super) handed_out: u32,
    /// Attempts up to this one count for nothing any more: what one of them had written is lost.
    pub(super) void: u32,
    /// How often it failed.
    pub(super) failures: u32,
    /// How often its lease ran out, or what it had written was lost.
    pub(super) losses: u32,
    /// The last time that it failed, or could not be done because what it builds upon was said to be lost.
    pub(super) failed: Option<Failed>,
    pub(super) finished: Option<Finished>,
    /// Since when its only attempt runs, if there is just one. Made anew from a snapshot.
    #[serde(skip)]
    alone: Option<Duration>,
    /// To whom it may be given, if nobody works on it. Made anew from a snapshot.
    #[serde(skip)]
    offered: Option<Whom>,
}

/// Whom a task has failed with.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    pub(super) worker: WorkerId,
    /// On the log's time.
    pub(super) at: Duration,
}

/// What makes a task finished.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Finished {
    pub(super) attempt: Attempt,
    pub(super) counts: Counts,
    /// How long the attempt took; not known where its lease had once run out.
    pub(super) took: Option<Duration>,
}

/// The tasks of one phase. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tasks {
    len: u32,
    done: u32,
    counts: Counts,
    /// Empty once the job has ended.
    all: Vector<Task>,
    /// Those that are not finished and that nobody works on.
    pending: Offers<u32>,
    /// Those of them that are not for the worker that has failed at them, by when that changes.
    rests: OrdSet<(Duration, u32)>,
    /// Those that are not finished and have one attempt, by its start.
    alone: OrdSet<(Duration, u32)>,
    took: Median,
}

impl Task {
    /// Whether an attempt of this number was handed out and may still count.
    pub(super) fn may_finish(&self, attempt: Attempt) -> bool {
        self.finished.is_none() && (self.void + 1..=self.handed_out).contains(&attempt.0)
    }

    /// To whom it may be given.
    fn whom(&self, now: Duration) -> Whom {
        match self.failed {
            None => Whom::Any,
            Some(failed) if failed.at.saturating_add(FAILED_REST_MAX) <= now => Whom::Any,
            Some(failed) if failed.at.saturating_add(FAILED_REST) <= now => {
                Whom::RatherNot(failed.worker)
            }
            Some(failed) => Whom::Not(failed.worker),
        }
    }

    /// When it may be given to more workers than to these.
    fn rests_until(&self, whom: Whom) -> Option<Duration> {
        let at = self.failed?.at;
        match whom {
            Whom::Any => None,
            Whom::RatherNot(_) => Some(at.saturating_add(FAILED_REST_MAX)),
            Whom::Not(_) => Some(at.saturating_add(FAILED_REST)),
        }
    }
}

impl Tasks {
    pub(super) fn new(len: u32) -> Tasks {
        let all = (0..len).map(|_| Task::default()).collect();
        let mut tasks = Tasks { len, all, ..Tasks::default() };
        (0..len).for_each(|number| tasks.offer(number, Some(Whom::Any)));
        tasks
    }

    /// Those of a snapshot, before any of them is put in its [place](Tasks::place).
    pub(super) fn restored(tasks: Vec<Task>) -> Option<Tasks> {
        let len = u32::try_from(tasks.len()).ok()?;
        let mut restored = Tasks { len, all: tasks.into(), ..Tasks::default() };
        for number in 0..len {
            if let Some(finished) = restored.get(number).and_then(|task| task.finished) {
                restored.add(number, &finished);
            }
        }
        Some(restored)
    }

    /// Those of a job that had ended.
    pub(super) fn ended(progress: &Progress) -> Option<Tasks> {
        let Progress { tasks: len, done, pending, counts } = *progress;
        (done <= len && pending == 0).then(|| Tasks { len, done, counts, ..Tasks::default() })
    }

    pub(super) fn is_done(&self) -> bool {
        self.done == self.len
    }

    pub(super) fn get(&self, number: u32) -> Option<&Task> {
        self.all.get(index(number))
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Task> {
        self.all.get_mut(index(number))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Task> {
        self.all.iter()
    }

    pub(super) fn progress(&self) -> Progress {
        let pending = u32::try_from(self.pending.len()).unwrap_or(u32::MAX);
        Progress { tasks: self.len, done: self.done, pending, counts: self.counts }
    }

    /// Those that are not finished and that nobody works on.
    pub(super) fn pending(&self) -> &Offers<u32> {
        &self.pending
    }

    /// When a worker may next be given what it has failed at, where it could not be before.
    pub(super) fn next_rest(&self) -> Option<Duration> {
        self.rests.get_min().map(|(until, _)| *until)
    }

    /// How long an attempt may take before it is a straggler; `None`: something is left to be handed out, so it is too early.
    ///
    /// How long the others took counts near the end of a phase: when half of the tasks or more are done.
    pub(super) fn patience(&self) -> Option<Duration> {
        if !self.pending.is_empty() {
            return None;
        }
        let is_near_end = self.done >= self.len - self.done;
        let median = self.took.median().filter(|_| is_near_end);
        let of_others = median.map(|took| took.saturating_mul(STRAGGLER_FACTOR).max(STRAGGLER_MIN));
        Some(of_others.map_or(STRAGGLER_AFTER, |patience| patience.min(STRAGGLER_AFTER)))
    }

    /// Those that have one attempt, by its start.
    pub(super) fn alone(&self) -> impl Iterator<Item = (Duration, u32)> {
        self.alone.iter().copied()
    }

    /// When the first one becomes a straggler that has no second attempt.
    pub(super) fn next_straggler(&self) -> Option<Duration> {
        let (since, _) = self.alone.get_min()?;
        self.patience().map(|patience| since.saturating_add(patience))
    }

    /// Puts a task where it belongs, given since when its attempts run. To be called whenever that, or whether it is
    /// finished, has changed.
    pub(super) fn place(&mut self, number: u32, running: &[Duration], now: Duration) {
        let Some(task) = self.all.get_mut(index(number)) else { return };
        let is_finished = task.finished.is_some();
        let alone = match running {
            [since] if !is_finished => Some(*since),
            [] | [_] | [_, _, ..] => None,
        };
        if let Some(before) = std::mem::replace(&mut task.alone, alone) {
            self.alone.remove(&(before, number));
        }
        if let Some(since) = alone {
            self.alone.insert((since, number));
        }
        let is_pending = !is_finished && running.is_empty();
        let whom = is_pending.then(|| task.whom(now));
        self.offer(number, whom);
    }

    /// Says to whom a task may be given, if to anybody.
    fn offer(&mut self, number: u32, whom: Option<Whom>) {
        let Some(task) = self.all.get_mut(index(number)) else { return };
        let before = std::mem::replace(&mut task.offered, whom);
        if before == whom {
            return;
        }
        let until = |whom: Option<Whom>| whom.and_then(|whom| task.rests_until(whom));
        let (rested, rests) = (until(before), until(whom));
        if let Some(before) = before {
            self.pending.remove(number, before);
        }
        if let Some(whom) = whom {
            self.pending.insert(number, whom);
        }
        if let Some(until) = rested {
            self.rests.remove(&(until, number));
        }
        if let Some(until) = rests {
            self.rests.insert((until, number));
        }
    }

    /// Whoever has failed at something may have it again, if its rest is over.
    pub(super) fn end_rests(&mut self, now: Duration) {
        while let Some((until, number)) = self.rests.get_min().copied()
            && until <= now
        {
            self.rests.remove(&(until, number));
            let whom = self.get(number).map(|task| task.whom(now));
            self.offer(number, whom);
        }
    }

    /// An attempt that still runs has come to nothing. Returns with whom one did so before.
    pub(super) fn fail(&mut self, number: u32, failed: Failed) -> Option<Failed> {
        let task = self.get_mut(number)?;
        assert!(task.offered.is_none(), "a task with an attempt is offered to nobody");
        task.failed.replace(failed)
    }

    /// A task is finished, for good unless it is [taken back](Tasks::take_back).
    pub(super) fn finish(&mut self, number: u32, finished: Finished) {
        if let Some(task) = self.get_mut(number).filter(|task| task.finished.is_none()) {
            task.finished = Some(finished);
            self.add(number, &finished);
        }
    }

    /// What a task had written is lost; whether that counts.
    pub(super) fn take_back(&mut self, number: u32, counts_as_loss: bool) {
        let Some(task) = self.get_mut(number) else { return };
        let Some(Finished { attempt, counts, took }) = task.finished.take() else { return };
        task.void = attempt.0;
        task.losses = task.losses.saturating_add(u32::from(counts_as_loss));
        self.done -= 1;
        self.counts.bytes_in -= counts.bytes_in;
        self.counts.bytes_out -= counts.bytes_out;
        self.counts.records -= counts.records;
        if let Some(took) = took {
            self.took.remove(number, took);
        }
    }

    /// The job has ended: only what was done is remembered.
    pub(super) fn end(&mut self) {
        let Tasks { len, done, counts, .. } = *self;
        *self = Tasks { len, done, counts, ..Tasks::default() };
    }

    /// The counts were [capped](super::limits::cap), so their sums have room.
    fn add(&mut self, number: u32, finished: &Finished) {
        let Finished { attempt: _, counts, took } = finished;
        self.done += 1;
        self.counts.bytes_in += counts.bytes_in;
        self.counts.bytes_out += counts.bytes_out;
        self.counts.records += counts.records;
        if let Some(took) = took {
            self.took.insert(number, *took);
        }
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
