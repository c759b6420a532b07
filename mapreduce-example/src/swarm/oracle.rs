//! The rules of the table of tasks again, as plainly as they can be said: what must have happened, given what the machines
//! were told. It looks at everything each time, and remembers all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::coordinator::limits::{
    FAILED_REST, FAILED_REST_MAX, LEASE, STRAGGLER_AFTER, STRAGGLER_FACTOR, STRAGGLER_MIN,
    SUSPECTED_FOR, check, tasks_lost_max,
};
use crate::coordinator::{Command, JobState, Orders, Report, Response, WorkerId};
use crate::task::{Attempt, AttemptId, JobId, JobSpec, Split, TaskId};

/// A table of tasks without limits.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    time: Duration,
    is_closed: bool,
    jobs: BTreeMap<JobId, Job>,
    /// Who has failed and has finished nothing since; and when that was last, and at which jobs.
    suspects: BTreeMap<WorkerId, (Duration, BTreeSet<JobId>)>,
}

#[derive(Debug)]
struct Job {
    token: u128,
    spec: JobSpec,
    end: Option<JobState>,
    /// The entry at which something was handed out last.
    served: u64,
    /// Who could not read what a map had written, and when, if nobody has read it all since.
    doubted: Option<(WorkerId, Duration)>,
    tasks: BTreeMap<TaskId, Task>,
}

#[derive(Debug, Default)]
struct Task {
    /// All that there ever were; the first one has number 1.
    attempts: Vec<One>,
    failures: u32,
    /// Who failed at it last, or could not read what it builds upon, and when.
    failed: Option<(WorkerId, Duration)>,
    losses: u32,
}

/// An attempt.
#[derive(Debug)]
struct One {
    worker: WorkerId,
    since: Duration,
    ends_at: Duration,
    /// Its lease has run out before.
    is_resumed: bool,
    fate: Fate,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fate {
    Runs,
    /// It does not run any more; if it finishes all the same, that counts.
    Gone,
    /// It is the task's, after so long, if that is known.
    Finished(Option<Duration>),
    /// It was the task's, or came before one that was, and what that had written is lost.
    Void,
}

impl Oracle {
    /// The log's time is told.
    pub(crate) fn advance(&mut self, time: Duration) {
        self.time = time;
        self.suspects.retain(|_, (at, _)| *at + SUSPECTED_FOR > time);
        let ended = self.all().filter(|(_, one)| one.fate == Fate::Runs && one.ends_at <= time);
        let mut ended: Vec<_> = ended.map(|(id, one)| (one.ends_at, id)).collect();
        ended.sort_unstable();
        for (_, id) in ended {
            // The job may have ended with one before.
            if self.one(id).is_some_and(|one| one.fate == Fate::Runs) {
                self.set(id, Fate::Gone);
                self.lost(id.job, id.task, true, "with its worker");
            }
        }
    }

    /// A command is carried out, at an entry.
    pub(crate) fn apply(&mut self, index: u64, time: Duration, command: Command) -> Response {
        self.advance(time);
        match command {
            Command::Submit { token, spec } => self.submit(JobId(index), token, spec),
            Command::Cancel { job } => match self.jobs.get(&job).map(|job| &job.end) {
                None => Response::NoJob,
                Some(Some(JobState::Cancelled)) => Response::Cancelled,
                Some(Some(_)) => Response::HasEnded,
                Some(None) => {
                    self.end(job, JobState::Cancelled);
                    Response::Cancelled
                }
            },
            Command::Work { worker, running, reports, slots } => {
                reports.into_iter().for_each(|report| self.hear(worker, report));
                let stop = self.renew(worker, &running);
                let mut begin = Vec::new();
                for _ in 0..slots {
                    begin.extend(self.hand_out(index, worker));
                }
                Response::Work(Orders { begin, stop, lease: LEASE, ends: self.has_ended() })
            }
            Command::Leave { worker, reports } => {
                reports.into_iter().for_each(|report| self.hear(worker, report));
                self.renew(worker, &[]);
                Response::Left
            }
            Command::Close => {
                self.is_closed = true;
                Response::Closed
            }
            Command::Open => {
                self.is_closed = false;
                Response::Opened
            }
            Command::Forget { job } => match self.jobs.get(&job).map(|job| &job.end) {
                None => Response::NoJob,
                Some(None) => Response::HasNotEnded,
                Some(Some(_)) => {
                    self.jobs.remove(&job);
                    Response::Forgotten
                }
            },
        }
    }

    /// Which attempts run, with their workers and the ends of their leases.
    pub(crate) fn running(&self) -> BTreeMap<AttemptId, (WorkerId, Duration)> {
        let running = self.all().filter(|(_, one)| one.fate == Fate::Runs);
        running.map(|(id, one)| (id, (one.worker, one.ends_at))).collect()
    }

    /// When the next worker has rested from what it failed at, for a while or long enough, if nobody works on that.
    #[cfg(test)]
    pub(crate) fn next_rest(&self) -> Option<Duration> {
        let open = self.jobs.values().filter(|job| job.end.is_none());
        let tasks = open.flat_map(|job| job.tasks.values());
        let waiting = tasks.filter(|task| task.finished().is_none() && task.running() == 0);
        let failed = waiting.filter_map(|task| task.failed);
        let rests = failed.flat_map(|(_, at)| [at + FAILED_REST, at + FAILED_REST_MAX]);
        let rests = rests.chain(self.suspects.values().map(|(at, _)| *at + FAILED_REST_MAX));
        rests.filter(|until| *until > self.time).min()
    }

    /// How a job stands, if it is known.
    #[cfg(test)]
    pub(crate) fn state(&self, id: JobId) -> Option<JobState> {
        self.jobs.get(&id).map(|job| job.end.clone().unwrap_or(JobState::Unfinished))
    }

    /// Which tasks of a job are finished, and by which attempt, as long as it has not ended.
    pub(crate) fn finished(&self, id: JobId) -> BTreeMap<TaskId, Attempt> {
        let tasks = self.jobs.get(&id).into_iter().flat_map(|job| &job.tasks);
        tasks.filter_map(|(id, task)| Some((*id, task.finished()?.0))).collect()
    }

    /// The jobs that are known.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs.keys().copied()
    }

    fn submit(&mut self, id: JobId, token: u128, spec: JobSpec) -> Response {
        if let Some((id, _)) = self.jobs.iter().find(|(_, job)| job.token == token) {
            return Response::Submitted(*id);
        }
        if self.is_closed {
            let why = "no more jobs are taken, until somebody opens the coordinator: see `open`";
            return Response::Refused(why.to_owned());
        }
        if let Err(why) = check(&spec) {
            return Response::Refused(why);
        }
        let maps = (0u32..).zip(&spec.inputs).map(|(number, _)| TaskId::Map(number));
        let reduces = (0..spec.reducers).map(TaskId::Reduce);
        let all = maps.chain(reduces).chain([TaskId::Publish]);
        let tasks = all.map(|task| (task, Task::default())).collect();
        self.jobs.insert(id, Job { token, spec, end: None, served: id.0, doubted: None, tasks });
        Response::Submitted(id)
    }

    fn hear(&mut self, worker: WorkerId, report: Report) {
        let id = report.attempt();
        let Some(one) = self.one(id) else { return };
        let (runs, since, is_its) = (one.fate == Fate::Runs, one.since, one.worker == worker);
        let is_timed = runs && !one.is_resumed;
        let may_finish = matches!(one.fate, Fate::Runs | Fate::Gone)
            && self.task(id).is_some_and(|task| task.finished().is_none());
        if runs && !is_its {
            return;
        }
        match report {
            Report::Finished(..) if may_finish => {
                let took = is_timed.then(|| self.time - since);
                if let (true, TaskId::Reduce(_)) = (runs, id.task)
                    && let Some(job) = self.jobs.get_mut(&id.job)
                {
                    job.doubted = job.doubted.filter(|(_, at)| !is_timed || since < *at);
                }
                self.suspects.remove(&worker);
                self.stop_all(|other| (other.job, other.task) == (id.job, id.task));
                self.set(id, Fate::Finished(took));
                if self.jobs.get(&id.job).is_some_and(Job::is_reduced) {
                    self.stop_all(|map| map.job == id.job && matches!(map.task, TaskId::Map(_)));
                }
                if id.task == TaskId::Publish {
                    self.end(id.job, JobState::Succeeded);
                }
            }
            Report::Failed(_, text) if runs => self.failed(id, &text),
            Report::LostMap { map, lost, .. } => {
                let map = AttemptId { task: TaskId::Map(map), attempt: lost, ..id };
                let is_sensible = matches!(id.task, TaskId::Reduce(_)) && self.task(map).is_some();
                if !is_sensible {
                    if runs {
                        let text = format!(
                            "{} says that {} is lost, and does not build upon it",
                            id.task, map.task
                        );
                        self.failed(id, &text);
                    }
                    return;
                }
                let is_there =
                    self.one(map).is_some_and(|one| matches!(one.fate, Fate::Finished(_)));
                let doubted = self.jobs.get(&id.job).and_then(|job| job.doubted);
                let is_sure = !self.are_there_others_for(id.job, worker)
                    || doubted.is_some_and(|(of, _)| of != worker);
                let has_waited = doubted.is_some_and(|(_, at)| at + FAILED_REST_MAX <= self.time);
                if runs {
                    self.set(id, Fate::Gone);
                }
                if may_finish && is_there && !is_sure {
                    let word = Some((worker, self.time));
                    let Some(job) = self.jobs.get_mut(&id.job) else { return };
                    job.doubted = job.doubted.or(word);
                    if let (true, Some(reduce)) = (runs, job.tasks.get_mut(&id.task)) {
                        reduce.failed = word;
                    }
                }
                if may_finish && is_there && (is_sure || has_waited) {
                    for number in 1..=lost.0 {
                        self.set(AttemptId { attempt: Attempt(number), ..map }, Fate::Void);
                    }
                    if let (true, Some(job)) = (is_sure, self.jobs.get_mut(&id.job)) {
                        job.doubted = job.doubted.and(Some((worker, self.time)));
                    }
                    self.lost(map.job, map.task, is_sure, "with what it had written");
                }
            }
            Report::Finished(..) | Report::GaveBack(_) | Report::Failed(..) => {
                if runs {
                    self.set(id, Fate::Gone);
                }
            }
        }
    }

    fn failed(&mut self, id: AttemptId, text: &str) {
        self.set(id, Fate::Gone);
        let Some(worker) = self.one(id).map(|one| one.worker) else { return };
        let is_alone = !self.are_there_others_for(id.job, worker);
        let was_suspect = self.suspects.contains_key(&worker);
        let (at, jobs) = self.suspects.entry(worker).or_default();
        *at = self.time;
        jobs.insert(id.job);
        let Some(job) = self.jobs.get_mut(&id.job) else { return };
        let (max, Some(task)) = (job.spec.failures_max, job.tasks.get_mut(&id.task)) else {
            return;
        };
        let is_repeated = task.failed.is_some_and(|(of, _)| of == worker);
        let is_new = is_alone || !(is_repeated || was_suspect);
        task.failures += u32::from(is_new);
        task.failed = Some((worker, self.time));
        if is_new && task.failures == max {
            let times = if max == 1 { "" } else { &format!(" {max} times, the last time") };
            let text = format!("{} failed{times}: {text}", id.task);
            self.end(id.job, JobState::Failed(text));
        }
    }

    fn lost(&mut self, id: JobId, task: TaskId, counts: bool, how: &str) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (max, Some(lost)) = (tasks_lost_max(&job.spec), job.tasks.get_mut(&task)) else {
            return;
        };
        lost.losses += u32::from(counts);
        if counts && lost.losses == max {
            let spec = &job.spec;
            let place = match task {
                TaskId::Map(number) => {
                    let Split { input, offset, len } = &spec.inputs[number as usize];
                    format!("{}: {input}, bytes {offset} to {}", spec.job, offset + len)
                }
                TaskId::Reduce(_) | TaskId::Publish => spec.job.clone(),
            };
            let text = format!("{task} ({place}) was lost {max} times, the last time {how}");
            self.end(id, JobState::Failed(text));
        }
    }

    /// Returns what is not the worker's any more.
    fn renew(&mut self, worker: WorkerId, named: &[AttemptId]) -> Vec<AttemptId> {
        let (now, ends_at) = (self.time, self.time + LEASE);
        let mut held = BTreeSet::new();
        for id in named {
            let is_of_use = self.jobs.get(&id.job).is_some_and(|job| job.is_of_use(id.task));
            let Some(task) = self.jobs.get_mut(&id.job).and_then(|job| job.tasks.get_mut(&id.task))
            else {
                continue;
            };
            let is_free = task.finished().is_none() && task.running() == 0;
            let number = (id.attempt.0 as usize).wrapping_sub(1);
            let Some(one) = task.attempts.get_mut(number) else { continue };
            match one.fate {
                Fate::Runs if one.worker == worker => one.ends_at = ends_at,
                // It was thought to be lost with its worker, and nobody else has it.
                Fate::Gone if is_free && is_of_use => {
                    *one = One { worker, since: now, ends_at, is_resumed: true, fate: Fate::Runs };
                    task.losses = task.losses.saturating_sub(1);
                }
                Fate::Runs | Fate::Gone | Fate::Finished(_) | Fate::Void => continue,
            }
            held.insert(*id);
        }
        for (id, (of, _)) in self.running() {
            if of == worker && !held.contains(&id) {
                self.set(id, Fate::Gone);
            }
        }
        named.iter().copied().filter(|id| !held.contains(id)).collect()
    }

    fn hand_out(&mut self, index: u64, worker: WorkerId) -> Option<AttemptId> {
        let backup = || if self.is_resting(worker) { None } else { self.backup(worker) };
        let (job, task) = self.pending(worker).or_else(backup)?;
        let (since, ends_at) = (self.time, self.time + LEASE);
        self.jobs.get_mut(&job)?.served = index;
        let attempts = &mut self.jobs.get_mut(&job)?.tasks.get_mut(&task)?.attempts;
        attempts.push(One { worker, since, ends_at, is_resumed: false, fate: Fate::Runs });
        let attempt = Attempt(u32::try_from(attempts.len()).ok()?);
        Some(AttemptId { job, task, attempt })
    }

    /// Whether a worker may be given a task that nobody works on, as far as that has failed: not if it was this worker that
    /// failed at it last, and it has not rested yet, or not long enough while others work on anything.
    ///
    /// A suspect is given nothing that anybody has failed at of late, until it has rested or nobody else works.
    fn may_have(&self, worker: WorkerId, task: &Task) -> bool {
        task.failed.is_none_or(|(of, at)| {
            let has_rested = |rest| at + rest <= self.time;
            let is_alone = || !self.are_there_others(worker);
            has_rested(FAILED_REST_MAX)
                || (of != worker && !self.is_resting(worker))
                || (of == worker && has_rested(FAILED_REST) && is_alone())
        })
    }

    fn is_resting(&self, worker: WorkerId) -> bool {
        let has_failed =
            self.suspects.get(&worker).is_some_and(|(at, _)| *at + FAILED_REST_MAX > self.time);
        has_failed && self.are_there_others(worker)
    }

    /// Whether others may do better at a job: those that are no suspects, or work on it and have failed at one other only.
    fn are_there_others_for(&self, job: JobId, worker: WorkerId) -> bool {
        self.running().into_iter().any(|(id, (of, _))| {
            let jobs = self.suspects.get(&of).map(|(_, jobs)| jobs);
            let may_do_better =
                |jobs: &BTreeSet<JobId>| jobs.len() == 1 && !jobs.contains(&job) && id.job == job;
            of != worker && jobs.is_none_or(may_do_better)
        })
    }

    /// Whether others work that are no suspects.
    pub(crate) fn are_there_others(&self, worker: WorkerId) -> bool {
        let mut workers = self.running().into_values().map(|(of, _)| of);
        workers.any(|of| of != worker && !self.suspects.contains_key(&of))
    }

    /// Of the jobs that have something to hand out to a worker: the one with the fewest attempts, then the one that was served
    /// least lately, then the oldest.
    fn pending(&self, worker: WorkerId) -> Option<(JobId, TaskId)> {
        let unfinished = self.jobs.iter().filter(|(_, job)| job.end.is_none());
        let pending = unfinished.filter_map(|(id, job)| {
            let mut tasks = job.of_phase();
            let (task, _) = tasks.find(|(_, task)| {
                task.finished().is_none() && task.running() == 0 && self.may_have(worker, task)
            })?;
            let running: usize = job.tasks.values().map(Task::running).sum();
            Some((running, job.served, *id, task))
        });
        pending.min().map(|(_, _, job, task)| (job, task))
    }

    /// Of the tasks that another worker has worked on alone for too long: the first one of the job whose first one is first.
    fn backup(&self, worker: WorkerId) -> Option<(JobId, TaskId)> {
        let mut jobs = Vec::new();
        for (id, job) in self.jobs.iter().filter(|(_, job)| job.end.is_none()) {
            let Some(patience) = job.patience() else { continue };
            let mut alone: Vec<_> = job
                .of_phase()
                .filter(|(_, task)| task.finished().is_none() && task.running() == 1)
                .filter_map(|(number, task)| {
                    let one = task.attempts.iter().find(|one| one.fate == Fate::Runs)?;
                    // Whoever has failed at it of late leaves it to the one that works on it.
                    let has_failed = task
                        .failed
                        .is_some_and(|(of, at)| of == worker && at + FAILED_REST_MAX > self.time);
                    let is_for_it = one.worker != worker && !has_failed;
                    Some((one.since + patience, number, is_for_it))
                })
                .filter(|(late_at, ..)| *late_at <= self.time)
                .collect();
            alone.sort_unstable();
            if let Some((late_at, ..)) = alone.first() {
                jobs.push((*late_at, *id, alone));
            }
        }
        jobs.sort_unstable();
        let all = jobs.into_iter().flat_map(|(_, job, alone)| {
            alone.into_iter().map(move |(_, task, is_for_it)| (job, task, is_for_it))
        });
        let mut for_it = all.filter(|(.., is_for_it)| *is_for_it);
        for_it.next().map(|(job, task, _)| (job, task))
    }

    fn has_ended(&self) -> bool {
        self.is_closed && self.jobs.values().all(|job| job.end.is_some())
    }

    fn end(&mut self, id: JobId, state: JobState) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.end = Some(state);
            job.tasks.clear();
        }
    }

    fn stop_all(&mut self, which: impl Fn(AttemptId) -> bool) {
        let running: Vec<AttemptId> = self.running().into_keys().filter(|id| which(*id)).collect();
        running.into_iter().for_each(|id| self.set(id, Fate::Gone));
    }

    fn all(&self) -> impl Iterator<Item = (AttemptId, &One)> {
        self.jobs.iter().flat_map(|(job, of)| {
            of.tasks.iter().flat_map(|(task, of)| {
                (1..).zip(&of.attempts).map(|(number, one)| {
                    (AttemptId { job: *job, task: *task, attempt: Attempt(number) }, one)
                })
            })
        })
    }

    fn task(&self, id: AttemptId) -> Option<&Task> {
        self.jobs.get(&id.job)?.tasks.get(&id.task)
    }

    fn one(&self, id: AttemptId) -> Option<&One> {
        self.task(id)?.attempts.get(usize::try_from(id.attempt.0).ok()?.checked_sub(1)?)
    }

    fn set(&mut self, id: AttemptId, fate: Fate) {
        let task = self.jobs.get_mut(&id.job).and_then(|job| job.tasks.get_mut(&id.task));
        for (number, one) in (1..).zip(task.into_iter().flat_map(|task| &mut task.attempts)) {
            if number == id.attempt.0 {
                one.fate = fate;
            }
        }
    }
}

impl Job {
    fn is_reduced(&self) -> bool {
        let is_open = |(id, task): (&TaskId, &Task)| {
            matches!(id, TaskId::Reduce(_)) && task.finished().is_none()
        };
        !self.tasks.iter().any(is_open)
    }

    /// The tasks that may be handed out, as far as they are not finished.
    fn of_phase(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        let is_open = |(_, task): &(&TaskId, &Task)| task.finished().is_none();
        let is_map = |id: &TaskId| matches!(id, TaskId::Map(_));
        let is_reduce = |id: &TaskId| matches!(id, TaskId::Reduce(_));
        let is_mapped = !self.tasks.iter().filter(is_open).any(|(id, _)| is_map(id));
        let is_reduced = self.is_reduced();
        let tasks = self.tasks.iter().map(|(id, task)| (*id, task));
        tasks.filter(move |(id, _)| match (is_reduced, is_mapped) {
            (true, _) => *id == TaskId::Publish,
            (false, true) => is_reduce(id),
            (false, false) => is_map(id),
        })
    }

    /// Whether something still depends on a task that is not finished.
    fn is_of_use(&self, task: TaskId) -> bool {
        let is_needed = !matches!(task, TaskId::Map(_)) || !self.is_reduced();
        self.end.is_none() && is_needed
    }

    fn patience(&self) -> Option<Duration> {
        let (mut all, mut done, mut took) = (0, 0, Vec::new());
        for (_, task) in self.of_phase() {
            match task.finished() {
                None if task.running() == 0 => return None,
                None => {}
                Some((_, after)) => {
                    done += 1;
                    took.extend(after);
                }
            }
            all += 1;
        }
        took.sort_unstable();
        let middle = took.len().saturating_sub(1) / 2;
        Some(match took.get(middle) {
            Some(median) if 2 * done >= all => {
                STRAGGLER_AFTER.min((*median * STRAGGLER_FACTOR).max(STRAGGLER_MIN))
            }
            Some(_) | None => STRAGGLER_AFTER,
        })
    }
}

impl Task {
    fn finished(&self) -> Option<(Attempt, Option<Duration>)> {
        (1..).zip(&self.attempts).find_map(|(number, one)| match one.fate {
            Fate::Finished(took) => Some((Attempt(number), took)),
            Fate::Runs | Fate::Gone | Fate::Void => None,
        })
    }

    fn running(&self) -> usize {
        self.attempts.iter().filter(|one| one.fate == Fate::Runs).count()
    }
}
