//! The table of tasks, and what happens to it.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use imbl::{OrdMap, OrdSet};

use super::attempts::{Attempts, Running};
use super::command::{Failure, JobState, Orders, Phase, Report, Response, WorkerId};
use super::job::{End, Job, Place, Turn, at};
use super::limits::{
    self, ATTEMPTS_MAX, FAILED_REST_MAX, JOBS_ENDED_MAX, JOBS_QUEUED_MAX, LEASE, QUEUED_BYTES_MAX,
    QUEUED_TASKS_MAX, SLOTS_MAX,
};
use super::offers::Offers;
use super::suspects::{FailedAt, Suspects};
use super::tasks::{Failed, Finished};
use crate::task::{Attempt, AttemptId, Counts, JobId, JobSpec, TaskId};

/// What is replicated. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The log's time, as far as it was told.
    pub(super) time: Duration,
    /// The index of the entry that is carried out.
    pub(super) index: u64,
    /// No more jobs are taken for now.
    pub(super) is_closed: bool,
    pub(super) jobs: OrdMap<JobId, Arc<Job>>,
    pub(super) tokens: OrdMap<u128, JobId>,
    pub(super) attempts: Attempts,
    pub(super) suspects: Suspects,
    /// The jobs that have something to hand out.
    pub(super) ready: Offers<Turn>,
    /// Those that have something to hand out that nobody has failed at lately.
    pub(super) fresh: OrdSet<Turn>,
    /// The jobs of which a worker has failed at something, by when it may be given that where it could not be before.
    pub(super) rests: OrdSet<(Duration, JobId)>,
    /// The jobs that may have stragglers, by when they do.
    pub(super) stragglers: OrdSet<(Duration, JobId)>,
    /// The jobs that have ended, in that order.
    pub(super) ended: OrdSet<(u64, JobId)>,
    /// Of all jobs that have not ended.
    pub(super) queued: Queued,
}

/// What the jobs that have not ended amount to.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) jobs: usize,
    pub(super) tasks: usize,
    pub(super) bytes: usize,
}

impl State {
    /// Whatever is due by `time` ends.
    pub(super) fn advance(&mut self, index: u64, time: Duration) {
        (self.index, self.time) = (index, time);
        while let Some(id) = self.attempts.take_ended(time) {
            self.gone(id);
            self.lost(id.job, id.task, "with its worker");
        }
        self.suspects.advance(time);
        while let Some((until, id)) = self.rests.get_min().copied()
            && until <= time
        {
            self.rests.remove(&(until, id));
            if let Some(job) = self.jobs.get_mut(&id) {
                Arc::make_mut(job).end_rests(time);
            }
            self.queue(id);
        }
    }

    /// When something ends next, or may be given to a worker that it could not be given to before.
    pub(super) fn due(&self) -> Option<Duration> {
        // Those that are stragglers already wait for a worker, not for time.
        let later = (Bound::Excluded((self.time, JobId(u64::MAX))), Bound::Unbounded);
        let straggler = self.stragglers.range(later).next().map(|(due, _)| *due);
        let rest = self.rests.get_min().map(|(until, _)| *until);
        let suspect = self.suspects.next_rested(self.time);
        self.attempts.next_end().into_iter().chain(straggler).chain(rest).chain(suspect).min()
    }

    pub(super) fn submit(&mut self, token: u128, spec: JobSpec) -> Response {
        if let Some(id) = self.tokens.get(&token) {
            return Response::Submitted(*id);
        }
        if let Err(why) = self.has_room(&spec) {
            return Response::Refused(why);
        }
        let id = JobId(self.index);
        let mut job = Job::new(token, spec, self.time);
        job.served = self.index;
        self.tokens.insert(token, id);
        self.queued.add(&job.spec);
        self.jobs.insert(id, Arc::new(job));
        self.queue(id);
        Response::Submitted(id)
    }

    pub(super) fn has_room(&self, spec: &JobSpec) -> Result<(), String> {
        if self.is_closed {
            return Err("no more jobs are taken, until somebody opens the coordinator: see `open`"
                .to_owned());
        }
        limits::check(spec)?;
        let mut queued = self.queued;
        queued.add(spec);
        let is_full = queued.jobs > JOBS_QUEUED_MAX
            || queued.tasks > QUEUED_TASKS_MAX
            || queued.bytes > QUEUED_BYTES_MAX;
        match is_full {
            true => Err(format!(
                "there are {} jobs with {} tasks in the queue, and there is no room for {} more tasks: try again later",
                self.queued.jobs,
                self.queued.tasks,
                limits::tasks(spec)
            )),
            false => Ok(()),
        }
    }

    pub(super) fn cancel(&mut self, id: JobId) -> Response {
        match self.jobs.get(&id).map(|job| job.state()) {
            None => Response::NoJob,
            Some(JobState::Unfinished) => {
                self.end(id, JobState::Cancelled);
                Response::Cancelled
            }
            Some(JobState::Cancelled) => Response::Cancelled,
            Some(JobState::Succeeded | JobState::Failed(_)) => Response::HasEnded,
        }
    }

    pub(super) fn forget(&mut self, id: JobId) -> Response {
        let Some(job) = self.jobs.get(&id) else { return Response::NoJob };
        let Some(end) = &job.end else { return Response::HasNotEnded };
        self.ended.remove(&(end.index, id));
        self.drop_job(id);
        Response::Forgotten
    }

    pub(super) fn work(
        &mut self,
        worker: WorkerId,
        running: &[AttemptId],
        reports: Vec<Report>,
        slots: u32,
    ) -> Response {
        self.hear(worker, reports);
        let ends_at = self.time.saturating_add(LEASE);
        let (kept, stop): (BTreeSet<AttemptId>, Vec<AttemptId>) = {
            let mut is_kept = |id: &AttemptId| {
                self.attempts.renew(worker, *id, ends_at) || self.resume(worker, *id)
            };
            let (kept, stop): (Vec<_>, Vec<_>) =
                running.iter().take(SLOTS_MAX).copied().partition(|id| is_kept(id));
            (kept.into_iter().collect(), stop)
        };
        let unheard: Vec<AttemptId> =
            self.attempts.of_worker(worker).filter(|id| !kept.contains(id)).collect();
        unheard.into_iter().for_each(|id| self.give_back(id));
        let slots = usize::try_from(slots).unwrap_or(SLOTS_MAX).min(SLOTS_MAX);
        let mut begin = Vec::new();
        while begin.len() < slots
            && let Some((job, task)) = self.next_for(worker)
        {
            begin.extend(self.hand_out(worker, job, task));
        }
        Response::Work(Orders { begin, stop, lease: LEASE, ends: self.has_ended() })
    }

    pub(super) fn leave(&mut self, worker: WorkerId, reports: Vec<Report>) -> Response {
        self.hear(worker, reports);
        let all: Vec<AttemptId> = self.attempts.of_worker(worker).collect();
        all.into_iter().for_each(|id| self.give_back(id));
        Response::Left
    }

    /// Whether workers may go.
    pub(super) fn has_ended(&self) -> bool {
        self.is_closed && self.queued.jobs == 0
    }

    /// What to give to a worker next: what nobody works on, and failing that what somebody else takes long for.
    pub(super) fn next_for(&self, worker: WorkerId) -> Option<(JobId, TaskId)> {
        let is_alone = !self.are_there_others(worker);
        if !is_alone && self.suspects.rests(worker, self.time) {
            let id = self.fresh.get_min()?.job;
            return self.jobs.get(&id)?.next_fresh().map(|task| (id, task));
        }
        let pending =
            self.ready.first_for(worker, is_alone).and_then(|Turn { job: id, .. }| {
                self.jobs.get(&id)?.next_pending(worker, is_alone).map(|task| (id, task))
            });
        pending.or_else(|| self.backup_for(worker))
    }

    /// Whether others work that are no suspects. Most workers are none, so this looks at few of them.
    fn are_there_others(&self, worker: WorkerId) -> bool {
        self.attempts.workers().any(|of| of != worker && self.suspects.failed_at(of).is_none())
    }

    /// Whether others may do better at this job: those, and whoever works on it and is a suspect because of another one.
    fn are_there_others_for(&self, job: JobId, worker: WorkerId) -> bool {
        self.attempts.workers().any(|of| {
            let may_do_better = match self.suspects.failed_at(of) {
                None => true,
                Some(FailedAt::One(other)) => other != job && self.attempts.has(of, job),
                Some(FailedAt::Several) => false,
            };
            of != worker && may_do_better
        })
    }

    /// The straggler of another worker that began first, and that this one has not failed at of late: the other one is there.
    /// What is passed over is the worker's own, or was, so it is little.
    fn backup_for(&self, worker: WorkerId) -> Option<(JobId, TaskId)> {
        let late = self.stragglers.iter().take_while(|(due, _)| *due <= self.time);
        let mut tasks = late
            .filter_map(|(_, id)| Some((*id, self.jobs.get(id)?)))
            .flat_map(|(id, job)| job.stragglers(self.time).map(move |task| (id, task)));
        tasks.find(|(id, task)| {
            let failed = self.jobs.get(id).and_then(|job| job.task(*task)?.failed);
            let has_rested =
                |failed: Failed| failed.at.saturating_add(FAILED_REST_MAX) <= self.time;
            failed.is_none_or(|failed| failed.worker != worker || has_rested(failed))
                && self.attempts.of_task(*id, *task).all(|(_, running)| running.worker != worker)
        })
    }

    /// A worker still works on something whose lease has run out: it may go on if nobody else has it and it is still of use. Its
    /// worker was not lost after all.
    fn resume(&mut self, worker: WorkerId, id: AttemptId) -> bool {
        let AttemptId { job: job_id, task, attempt } = id;
        let Some(job) = self.unfinished(job_id) else { return false };
        let is_of_use = at(task).0 >= job.phase()
            && job.task(task).is_some_and(|task| task.may_finish(attempt));
        if !is_of_use || self.attempts.of_task(job_id, task).next().is_some() {
            return false;
        }
        let Some(job) = self.jobs.get_mut(&job_id).map(Arc::make_mut) else { return false };
        job.running += 1;
        if let Some(found) = job.task_mut(task) {
            found.losses = found.losses.saturating_sub(1);
        }
        let (since, ends_at) = (self.time, self.time.saturating_add(LEASE));
        self.attempts.insert(id, Running { worker, since, is_resumed: true, ends_at });
        self.place(job_id, task);
        true
    }

    /// `None`: the task was handed out too often, and its job has failed.
    fn hand_out(&mut self, worker: WorkerId, id: JobId, task: TaskId) -> Option<AttemptId> {
        let (since, ends_at) = (self.time, self.time.saturating_add(LEASE));
        let job = Arc::make_mut(self.jobs.get_mut(&id)?);
        let found = job.task_mut(task)?;
        if found.handed_out >= ATTEMPTS_MAX {
            let place = job.spec.place(task);
            let text =
                format!("{task} ({place}) was handed out {ATTEMPTS_MAX} times and never finished");
            self.end(id, JobState::Failed(limits::cut(text)));
            return None;
        }
        found.handed_out += 1;
        let attempt = AttemptId { job: id, task, attempt: Attempt(found.handed_out) };
        job.running += 1;
        job.served = self.index;
        self.attempts.insert(attempt, Running { worker, since, is_resumed: false, ends_at });
        self.place(id, task);
        Some(attempt)
    }

    fn hear(&mut self, worker: WorkerId, reports: Vec<Report>) {
        for report in reports.into_iter().take(SLOTS_MAX) {
            let id = report.attempt();
            let held = self.attempts.get(id).copied();
            // Nobody speaks for another worker.
            if held.is_some_and(|running| running.worker != worker) {
                continue;
            }
            match report {
                Report::Finished(id, counts) => self.finished(worker, id, counts, held),
                Report::Failed(id, text) => self.failed(worker, id, text),
                Report::LostMap { attempt, map, lost } => {
                    self.map_lost(worker, attempt, map, lost);
                }
                Report::GaveBack(id) => self.give_back(id),
            }
        }
    }

    /// It counts if its task is not finished yet, even where its lease has run out.
    fn finished(&mut self, worker: WorkerId, id: AttemptId, counts: Counts, held: Option<Running>) {
        let AttemptId { job: job_id, task, attempt } = id;
        self.give_back(id);
        let Some(job) = self.unfinished(job_id) else { return };
        if !job.task(task).is_some_and(|task| task.may_finish(attempt)) {
            return;
        }
        self.suspects.finished(worker);
        let others: Vec<AttemptId> =
            self.attempts.of_task(job_id, task).map(|(other, _)| other).collect();
        others.into_iter().for_each(|other| self.gone(other));
        let took = held.filter(|running| !running.is_resumed);
        let took = took.map(|running| self.time.saturating_sub(running.since));
        let finished = Finished { attempt, counts: limits::cap(counts), took };
        let (phase, number) = at(task);
        if let Some(job) = self.jobs.get_mut(&job_id).map(Arc::make_mut) {
            job.of_phase_mut(phase).finish(number, finished);
            // Whoever has reduced has read what all maps have written.
            let has_read = |doubted: &Failed| {
                held.is_some_and(|one| !one.is_resumed && one.since >= doubted.at)
            };
            if phase == Phase::Reduce && job.doubted.as_ref().is_some_and(has_read) {
                job.doubted = None;
            }
        }
        self.place(job_id, task);
        match phase {
            Phase::Map => {}
            Phase::Reduce => self.reduced(job_id),
            Phase::Publish => self.end(job_id, JobState::Succeeded),
        }
    }

    /// Where all is reduced, map tasks that were to be repeated need not be.
    fn reduced(&mut self, id: JobId) {
        if !self.jobs.get(&id).is_some_and(|job| job.reduces.is_done()) {
            return;
        }
        let maps: Vec<AttemptId> = self.attempts.of_maps(id).map(|(map, _)| map).collect();
        maps.into_iter().for_each(|map| self.give_back(map));
    }

    /// It does not count while others work where it may be the worker: if it has failed at the same before, or is a suspect.
    fn failed(&mut self, worker: WorkerId, id: AttemptId, text: String) {
        if self.attempts.get(id).is_none() {
            return;
        }
        let AttemptId { job: job_id, task, attempt } = id;
        let others_work = self.are_there_others_for(job_id, worker);
        let is_suspect = self.suspects.failed_at(worker).is_some();
        self.suspects.failed(worker, self.time, job_id);
        let Some(job) = self.jobs.get_mut(&job_id) else { return };
        let job = Arc::make_mut(job);
        let text = limits::cut(text);
        job.remember(Failure { task, attempt, worker, text: text.clone() });
        let failures_max = job.spec.failures_max;
        let (phase, number) = at(task);
        let before = job.of_phase_mut(phase).fail(number, Failed { worker, at: self.time });
        let is_repeated = before.is_some_and(|before| before.worker == worker);
        let Some(task_failed) = job.task_mut(task) else { return };
        let counts = !(others_work && (is_repeated || is_suspect));
        task_failed.failures = task_failed.failures.saturating_add(u32::from(counts));
        let failures = task_failed.failures;
        self.give_back(id);
        if counts && failures >= failures_max {
            let times = match failures {
                1 => String::new(),
                times => format!(" {times} times, the last time"),
            };
            self.end(job_id, JobState::Failed(format!("{task} failed{times}: {text}")));
        }
    }

    /// The output of a map task is gone: it is taken back, if a task that is not reduced yet needs it.
    ///
    /// Not on the word of one worker while others work: it may be the worker that cannot read. Then others are to try the same. If
    /// none of them has read it all for long, the map is done again, but that counts for nothing.
    fn map_lost(&mut self, worker: WorkerId, id: AttemptId, map: u32, lost: Attempt) {
        let AttemptId { job: job_id, task, attempt } = id;
        let Some(job) = self.unfinished(job_id) else { return };
        let (TaskId::Reduce(_), Some(of_map)) = (task, job.maps.get(map)) else {
            let text =
                format!("{task} says that map task {map} is lost, and does not build upon it");
            return self.failed(worker, id, text);
        };
        let is_needed = job.task(task).is_some_and(|task| task.may_finish(attempt));
        let is_there = of_map.finished.is_some_and(|finished| finished.attempt == lost);
        let doubted = job.doubted;
        let others_work = self.are_there_others_for(job_id, worker);
        let is_sure = !others_work || doubted.is_some_and(|doubted| doubted.worker != worker);
        let waits =
            doubted.is_none_or(|doubted| doubted.at.saturating_add(FAILED_REST_MAX) > self.time);
        let is_lost = is_needed && is_there;
        let word = Failed { worker, at: self.time };
        if is_lost && !is_sure {
            self.doubt(word, id);
        }
        self.give_back(id);
        if !is_lost || (!is_sure && waits) {
            return;
        }
        if let Some(job) = self.jobs.get_mut(&job_id).map(Arc::make_mut) {
            job.maps.take_back(map, is_sure);
            // It is this one's word now: the next is to be somebody else's again.
            if is_sure && job.doubted.is_some() {
                job.doubted = Some(word);
            }
        }
        self.place(job_id, TaskId::Map(map));
        self.end_if_hopeless(job_id, TaskId::Map(map), "with what it had written");
    }

    /// What a map task has written is said to be lost by one that works on this attempt at a reduce task: others are to try it.
    fn doubt(&mut self, word: Failed, id: AttemptId) {
        let holds = self.attempts.get(id).is_some();
        if let Some(job) = self.jobs.get_mut(&id.job).map(Arc::make_mut) {
            job.doubted.get_or_insert(word);
            if holds {
                job.reduces.fail(at(id.task).1, word);
            }
        }
    }

    /// A lease has run out.
    fn lost(&mut self, id: JobId, task: TaskId, how: &str) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let Some(lost) = Arc::make_mut(job).task_mut(task) {
            lost.losses = lost.losses.saturating_add(1);
        }
        self.place(id, task);
        self.end_if_hopeless(id, task, how);
    }

    fn end_if_hopeless(&mut self, id: JobId, task: TaskId, how: &str) {
        let Some(job) = self.unfinished(id) else { return };
        let losses = job.task(task).map_or(0, |task| task.losses);
        if losses >= limits::tasks_lost_max(&job.spec) {
            let place = job.spec.place(task);
            let text = format!("{task} ({place}) was lost {losses} times, the last time {how}");
            self.end(id, JobState::Failed(limits::cut(text)));
        }
    }

    /// An attempt does not run any more, if it did; its task is where it belongs.
    fn give_back(&mut self, id: AttemptId) {
        if self.attempts.remove(id).is_some() {
            self.gone(id);
            self.place(id.job, id.task);
        }
    }

    /// An attempt does not run any more.
    fn gone(&mut self, id: AttemptId) {
        self.attempts.remove(id);
        if let Some(job) = self.jobs.get_mut(&id.job) {
            let job = Arc::make_mut(job);
            job.running = job.running.saturating_sub(1);
        }
    }

    fn end(&mut self, id: JobId, state: JobState) {
        let running: Vec<AttemptId> = self.attempts.of_job(id).map(|(id, _)| id).collect();
        running.into_iter().for_each(|id| self.gone(id));
        let (index, at) = (self.index, self.time);
        let Some(job) = self.jobs.get_mut(&id).map(Arc::make_mut) else { return };
        self.queued.remove(&job.spec);
        job.end(End { state, index, at });
        self.queue(id);
        self.ended.insert((index, id));
        if self.ended.len() > JOBS_ENDED_MAX
            && let Some((_, oldest)) = self.ended.remove_min()
        {
            self.drop_job(oldest);
        }
    }

    fn drop_job(&mut self, id: JobId) {
        if let Some(job) = self.jobs.remove(&id) {
            self.tokens.remove(&job.token);
        }
    }

    fn unfinished(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id).map(|job| &**job).filter(|job| job.end.is_none())
    }

    /// Puts a task, and its job, where they belong.
    fn place(&mut self, id: JobId, task: TaskId) {
        self.set(id, task);
        self.queue(id);
    }

    /// Puts a task where it belongs.
    pub(super) fn set(&mut self, id: JobId, task: TaskId) {
        let running: Vec<Duration> =
            self.attempts.of_task(id, task).map(|(_, running)| running.since).collect();
        let (phase, number) = at(task);
        if let Some(job) = self.jobs.get_mut(&id) {
            Arc::make_mut(job).of_phase_mut(phase).place(number, &running, self.time);
        }
    }

    /// Puts a job where it belongs.
    pub(super) fn queue(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let wanted = job.wanted_place(id);
        if job.place == wanted {
            return;
        }
        let before = std::mem::replace(&mut Arc::make_mut(job).place, wanted);
        let Place { ready, fresh, rest, straggler } = before;
        if let Some((turn, whom)) = ready {
            self.ready.remove(turn, whom);
        }
        if let Some(turn) = fresh {
            self.fresh.remove(&turn);
        }
        if let Some(until) = rest {
            self.rests.remove(&(until, id));
        }
        if let Some(due) = straggler {
            self.stragglers.remove(&(due, id));
        }
        if let Some((turn, whom)) = wanted.ready {
            self.ready.insert(turn, whom);
        }
        if let Some(turn) = wanted.fresh {
            self.fresh.insert(turn);
        }
        if let Some(until) = wanted.rest {
            self.rests.insert((until, id));
        }
        if let Some(due) = wanted.straggler {
            self.stragglers.insert((due, id));
        }
    }
}

impl Queued {
    pub(super) fn add(&mut self, spec: &JobSpec) {
        self.jobs = self.jobs.saturating_add(1);
        self.tasks = self.tasks.saturating_add(limits::tasks(spec));
        self.bytes = self.bytes.saturating_add(limits::bytes(spec));
    }

    fn remove(&mut self, spec: &JobSpec) {
        self.jobs = self.jobs.saturating_sub(1);
        self.tasks = self.tasks.saturating_sub(limits::tasks(spec));
        self.bytes = self.bytes.saturating_sub(limits::bytes(spec));
    }
}
