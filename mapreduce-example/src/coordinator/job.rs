//! One job: its tasks, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use imbl::Vector;
use serde::{Deserialize, Serialize};

use super::command::{Failure, JobState, JobSummary, Phase, WorkerId};
use super::limits::FAILURES_KEPT;
use super::offers::Whom;
use super::tasks::{Failed, Task, Tasks};
use crate::task::{Attempt, JobId, JobSpec, TaskId};

pub(super) const PHASES: [Phase; 3] = [Phase::Map, Phase::Reduce, Phase::Publish];

/// A job. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) token: u128,
    /// Without its inputs once the job has ended.
    pub(super) spec: Arc<JobSpec>,
    /// On the log's time.
    pub(super) submitted_at: Duration,
    pub(super) maps: Tasks,
    pub(super) reduces: Tasks,
    pub(super) publish: Tasks,
    /// How many attempts run.
    pub(super) running: u32,
    /// The index of the entry at which something of it was handed out last, or it was submitted.
    pub(super) served: u64,
    /// A worker has said that what a map task had written is lost, and nobody has read all of it since.
    pub(super) doubted: Option<Failed>,
    /// The last ones.
    pub(super) failures: Vector<Failure>,
    pub(super) end: Option<End>,
    /// Where the queue has it.
    pub(super) place: Place,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) state: JobState,
    /// The index of the entry at which it ended.
    pub(super) index: u64,
    /// On the log's time.
    pub(super) at: Duration,
}

/// When a job is served: the one of which the fewest attempts run, and of those the one that was served least lately.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    running: u32,
    served: u64,
    pub(super) job: JobId,
}

/// Where the queue has a job.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// It has something to hand out, and to whom.
    pub(super) ready: Option<(Turn, Whom)>,
    /// It has something to hand out that nobody has failed at lately.
    pub(super) fresh: Option<Turn>,
    /// When a worker may next be given what it has failed at, where it could not be before.
    pub(super) rest: Option<Duration>,
    /// When its first straggler may have a second attempt.
    pub(super) straggler: Option<Duration>,
}

impl Job {
    pub(super) fn new(token: u128, spec: JobSpec, now: Duration) -> Job {
        let maps = Tasks::new(u32::try_from(spec.inputs.len()).unwrap_or(u32::MAX));
        let reduces = Tasks::new(spec.reducers);
        let publish = Tasks::new(1);
        Job::with_tasks(token, Arc::new(spec), now, [maps, reduces, publish])
    }

    pub(super) fn with_tasks(
        token: u128,
        spec: Arc<JobSpec>,
        submitted_at: Duration,
        tasks: [Tasks; 3],
    ) -> Job {
        let [maps, reduces, publish] = tasks;
        Job {
            token,
            spec,
            submitted_at,
            maps,
            reduces,
            publish,
            running: 0,
            served: 0,
            doubted: None,
            failures: Vector::new(),
            end: None,
            place: Place::default(),
        }
    }

    /// What is being done. Once all is reduced, nobody asks any more whether the output of a map task is lost.
    pub(super) fn phase(&self) -> Phase {
        match (self.reduces.is_done(), self.maps.is_done()) {
            (true, _) => Phase::Publish,
            (false, true) => Phase::Reduce,
            (false, false) => Phase::Map,
        }
    }

    pub(super) fn of_phase(&self, phase: Phase) -> &Tasks {
        match phase {
            Phase::Map => &self.maps,
            Phase::Reduce => &self.reduces,
            Phase::Publish => &self.publish,
        }
    }

    pub(super) fn of_phase_mut(&mut self, phase: Phase) -> &mut Tasks {
        match phase {
            Phase::Map => &mut self.maps,
            Phase::Reduce => &mut self.reduces,
            Phase::Publish => &mut self.publish,
        }
    }

    pub(super) fn task(&self, task: TaskId) -> Option<&Task> {
        let (phase, number) = at(task);
        self.of_phase(phase).get(number)
    }

    pub(super) fn task_mut(&mut self, task: TaskId) -> Option<&mut Task> {
        let (phase, number) = at(task);
        self.of_phase_mut(phase).get_mut(number)
    }

    /// The first task of the phase that nobody works on and that this worker may be given.
    pub(super) fn next_pending(&self, worker: WorkerId, is_alone: bool) -> Option<TaskId> {
        let phase = self.phase();
        let first = self.of_phase(phase).pending().first_for(worker, is_alone);
        first.map(|number| task_of(phase, number))
    }

    /// The first task of the phase that nobody works on and that nobody has failed at lately.
    pub(super) fn next_fresh(&self) -> Option<TaskId> {
        let phase = self.phase();
        self.of_phase(phase).pending().first_for_any().map(|number| task_of(phase, number))
    }

    /// The tasks that may have a second attempt by `now`, the longest one first.
    pub(super) fn stragglers(&self, now: Duration) -> impl Iterator<Item = TaskId> {
        let phase = self.phase();
        let tasks = self.of_phase(phase);
        let until = tasks.patience().and_then(|patience| now.checked_sub(patience));
        let late = move |(since, number)| {
            until.is_some_and(|until| since <= until).then(|| task_of(phase, number))
        };
        tasks.alone().map_while(late)
    }

    /// Where the queue should have it.
    pub(super) fn wanted_place(&self, id: JobId) -> Place {
        if self.end.is_some() {
            return Place::default();
        }
        let tasks = self.of_phase(self.phase());
        let turn = Turn { running: self.running, served: self.served, job: id };
        Place {
            ready: tasks.pending().whom().map(|whom| (turn, whom)),
            fresh: tasks.pending().first_for_any().map(|_| turn),
            rest: PHASES.iter().filter_map(|phase| self.of_phase(*phase).next_rest()).min(),
            straggler: tasks.next_straggler(),
        }
    }

    /// Whoever has failed at something may have it again, if its rest is over.
    pub(super) fn end_rests(&mut self, now: Duration) {
        PHASES.iter().for_each(|phase| self.of_phase_mut(*phase).end_rests(now));
    }

    /// Which attempts count of what `task` builds upon; `None` where some of it is not finished.
    pub(super) fn inputs(&self, task: TaskId) -> Option<Vec<Attempt>> {
        let inputs = match task {
            TaskId::Map(_) => return Some(Vec::new()),
            TaskId::Reduce(_) => &self.maps,
            TaskId::Publish => &self.reduces,
        };
        inputs.iter().map(|task| Some(task.finished?.attempt)).collect()
    }

    pub(super) fn remember(&mut self, failure: Failure) {
        self.failures.push_back(failure);
        if self.failures.len() > FAILURES_KEPT {
            self.failures.pop_front();
        }
    }

    /// The job has ended: what was to be done, task by task, is forgotten.
    pub(super) fn end(&mut self, end: End) {
        for phase in PHASES {
            self.of_phase_mut(phase).end();
        }
        let spec = &self.spec;
        self.spec = Arc::new(JobSpec {
            job: spec.job.clone(),
            arguments: Default::default(),
            inputs: Vec::new(),
            output: spec.output.clone(),
            ..**spec
        });
        self.end = Some(end);
    }

    pub(super) fn state(&self) -> JobState {
        self.end.as_ref().map_or(JobState::Unfinished, |end| end.state.clone())
    }

    pub(super) fn summary(&self, id: JobId) -> JobSummary {
        let state = match self.state() {
            JobState::Failed(_) => JobState::Failed(String::new()),
            other @ (JobState::Unfinished | JobState::Succeeded | JobState::Cancelled) => other,
        };
        JobSummary {
            id,
            job: self.spec.job.clone(),
            state,
            phase: self.phase(),
            maps: self.maps.progress(),
            reduces: self.reduces.progress(),
            running: self.running,
        }
    }
}

/// In which phase a task is, and which one it is there.
pub(super) fn at(task: TaskId) -> (Phase, u32) {
    match task {
        TaskId::Map(number) => (Phase::Map, number),
        TaskId::Reduce(number) => (Phase::Reduce, number),
        TaskId::Publish => (Phase::Publish, 0),
    }
}

pub(super) fn task_of(phase: Phase, number: u32) -> TaskId {
    match phase {
        Phase::Map => TaskId::Map(number),
        Phase::Reduce => TaskId::Reduce(number),
        Phase::Publish => TaskId::Publish,
    }
}
