//! What the coordinator is told and asked, and what it says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::task::{Attempt, AttemptId, Counts, JobId, JobSpec, TaskId};

/// A worker: one life of it. A random number, so that no two are the same.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId(pub u64);

/// What changes the table of tasks. All of them may be repeated: nothing counts twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A job is to be done. The same token is the same submission.
    Submit {
        /// A random number of the submitter's.
        token: u128,
        /// What is to be done.
        spec: JobSpec,
    },
    /// A job is not wanted any more.
    Cancel {
        /// Which one.
        job: JobId,
    },
    /// A worker tells how it stands, and asks for more. What it was given and names nowhere, it never heard of: that is
    /// given back.
    Work {
        /// Who.
        worker: WorkerId,
        /// What it works on: those leases are renewed.
        running: Vec<AttemptId>,
        /// What has ended there.
        reports: Vec<Report>,
        /// How many attempts it can begin.
        slots: u32,
    },
    /// A worker goes: what it was given is given back.
    Leave {
        /// Who.
        worker: WorkerId,
        /// What has ended there.
        reports: Vec<Report>,
    },
    /// No more jobs are taken, until [`Command::Open`]. Workers end when all that were taken are done.
    Close,
    /// Nobody will ask for the result of a job that has ended.
    Forget {
        /// Which one.
        job: JobId,
    },
    /// Jobs are taken again.
    Open,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// It has finished.
    Finished(AttemptId, Counts),
    /// It failed, and why.
    Failed(AttemptId, String),
    /// What this attempt at a map task had written is lost, so it could not be reduced.
    LostMap {
        /// The attempt to reduce it.
        attempt: AttemptId,
        /// Which map task.
        map: u32,
        /// Which attempt's output is lost.
        lost: Attempt,
    },
    /// It was given up, for a reason that is not the task's.
    GaveBack(AttemptId),
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The job is taken.
    Submitted(JobId),
    /// The job is not taken, and why.
    Refused(String),
    /// The job is cancelled.
    Cancelled,
    /// The job had ended before.
    HasEnded,
    /// The job has not ended.
    HasNotEnded,
    /// There is no such job, or none any more.
    NoJob,
    /// What a worker is to do.
    Work(Orders),
    /// The worker is forgotten.
    Left,
    /// No more jobs are taken.
    Closed,
    /// The job is forgotten.
    Forgotten,
    /// Jobs are taken.
    Opened,
}

/// What a worker is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// It is to begin these.
    pub begin: Vec<AttemptId>,
    /// It is to stop these: nobody wants them any more.
    pub stop: Vec<AttemptId>,
    /// Whoever is silent for so long loses what it was given.
    pub lease: Duration,
    /// All is done, and no more will come.
    pub ends: bool,
}

/// What asks about the table of tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// All jobs, briefly.
    Jobs,
    /// One job, at length.
    Job(JobId),
    /// What is to be done for a job.
    Spec(JobId),
    /// What an attempt builds upon.
    Inputs(AttemptId),
    /// Is ready when the worker would be told something new by [`Command::Work`].
    WorkFor {
        /// Who.
        worker: WorkerId,
        /// What it works on.
        running: Vec<AttemptId>,
        /// Whether it could begin more.
        is_free: bool,
    },
    /// Is ready when the job has ended, or is not known.
    Done(JobId),
    /// Whether this job would be taken now.
    HasRoom(JobSpec),
}

/// What a query is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// All jobs, in the order in which they were submitted.
    Jobs(Vec<JobSummary>),
    /// The job, if it is known.
    Job(Option<Box<JobView>>),
    /// What is to be done, as long as the job has not ended.
    Spec(Option<Arc<JobSpec>>),
    /// The attempts that count, in the order of their tasks; `None` when the attempt is not wanted any more, or has to wait.
    Inputs(Option<Vec<Attempt>>),
    /// Whether there is something new for the worker.
    WorkFor(bool),
    /// How the job stands, if it is known.
    Done(Option<JobState>),
    /// Why the job would not be taken.
    HasRoom(Result<(), String>),
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// It has not ended.
    Unfinished,
    /// Its results are in their place.
    Succeeded,
    /// It failed, and why.
    Failed(String),
    /// Somebody cancelled it.
    Cancelled,
}

/// A part of a job.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// The inputs are mapped.
    Map,
    /// The partitions are reduced.
    Reduce,
    /// The results are published.
    Publish,
}

/// A job, briefly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSummary {
    /// Which one.
    pub id: JobId,
    /// Under which name it is registered with the workers.
    pub job: String,
    /// How it stands; without the text of a failure.
    pub state: JobState,
    /// Which part of it is being done, or was last.
    pub phase: Phase,
    /// Its map tasks.
    pub maps: Progress,
    /// Its reduce tasks.
    pub reduces: Progress,
    /// How many attempts run.
    pub running: u32,
}

/// How many of some tasks are done.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// All of them.
    pub tasks: u32,
    /// Those that are finished.
    pub done: u32,
    /// Those that nobody works on.
    pub pending: u32,
    /// What the finished ones have worked through.
    pub counts: Counts,
}

/// A job, at length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// The same, briefly.
    pub summary: JobSummary,
    /// The folder of its results, a URL.
    pub output: String,
    /// How it stands, with the text of a failure.
    pub state: JobState,
    /// How long ago it was submitted, on the log's time; until it ended, if it has.
    pub age: Duration,
    /// The attempts that run, those that began first coming first, up to a bound.
    pub running: Vec<RunningView>,
    /// What failed last, up to a bound.
    pub failures: Vec<Failure>,
}

/// An attempt that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningView {
    /// Which one.
    pub attempt: AttemptId,
    /// Where.
    pub worker: WorkerId,
    /// For how long.
    pub age: Duration,
    /// Whether it takes so long that it may have a second attempt.
    pub is_straggler: bool,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: Attempt,
    /// Where.
    pub worker: WorkerId,
    /// Why.
    pub text: String,
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Map => "map",
            Phase::Reduce => "reduce",
            Phase::Publish => "publish",
        })
    }
}

impl Report {
    /// Of which attempt.
    #[must_use]
    pub fn attempt(&self) -> AttemptId {
        match self {
            Report::Finished(attempt, _)
            | Report::Failed(attempt, _)
            | Report::LostMap { attempt, .. }
            | Report::GaveBack(attempt) => *attempt,
        }
    }
}
