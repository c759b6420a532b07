//! The words that coordinator and workers share.
//!
//! A job has one map task for each split of its input, then one reduce task for each partition of the keys, then one task that
//! publishes the results. A task may be handed out several times: each time is an attempt, and the first one that the
//! coordinator hears to have finished is the task's, for good. Attempts write under names of their own, so they never meet.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Under which name the job is registered with the workers.
    pub job: String,
    /// What the job is told, by name.
    pub arguments: BTreeMap<String, String>,
    /// The input, a map task each; together they are all of it.
    pub inputs: Vec<Split>,
    /// The folder of the results, a URL.
    pub output: String,
    /// How many partitions the keys are divided into, a reduce task and a file of results each. At least 1.
    pub reducers: u32,
    /// A task that failed so often fails the job. At least 1.
    pub failures_max: u32,
    /// A random number of the submitter's. It sets what the job writes apart from what any other one does, of whichever
    /// coordinator: two of them may have been given the same output.
    pub token: u128,
}

impl JobSpec {
    /// What people have to know of a task to find what it was about: the job and, for a map task, its input.
    pub(crate) fn place(&self, task: TaskId) -> String {
        let split = match task {
            TaskId::Map(number) => {
                usize::try_from(number).ok().and_then(|number| self.inputs.get(number))
            }
            TaskId::Reduce(_) | TaskId::Publish => None,
        };
        match split {
            None => self.job.clone(),
            Some(split) => format!("{}: {split}", self.job),
        }
    }
}

#[cfg(test)]
impl JobSpec {
    /// A word count of nothing.
    pub(crate) fn of_nothing(output: &str, token: u128) -> JobSpec {
        JobSpec {
            job: "word-count".to_owned(),
            arguments: BTreeMap::new(),
            inputs: Vec::new(),
            output: output.to_owned(),
            reducers: 1,
            failures_max: 1,
            token,
        }
    }
}

/// A part of an input: whole lines.
///
/// The lines that *begin* at `offset` or later, and before `offset + len`. So a line that crosses the end belongs to it, and one
/// that crosses the start does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The input, a URL.
    pub input: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub len: u64,
}

/// A job: the log index of its submission, so that it only grows.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

/// A task of a job.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TaskId {
    /// Map this split, counted from 0.
    Map(u32),
    /// Reduce this partition, counted from 0.
    Reduce(u32),
    /// Give the results their names, and remove what was between.
    Publish,
}

/// One time that a task is handed out, counted from 1 for each task.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt(pub u32);

/// One attempt at a task of a job.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The job.
    pub job: JobId,
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
}

/// All that a worker has to know to carry out an attempt.
#[derive(Clone, Debug)]
pub struct Work {
    /// Which attempt it is.
    pub id: AttemptId,
    /// The job.
    pub spec: Arc<JobSpec>,
    /// Which attempts have finished what this task builds upon: those of all maps for a reduce task, those of all reduces to
    /// publish, in the order of their tasks; none for a map task.
    pub inputs: Arc<[Attempt]>,
}

/// What an attempt has worked through.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Lines mapped, or different keys reduced.
    pub records: u64,
}

/// Why an attempt came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TaskError {
    /// The task failed: what, where, and why, in a sentence. It counts against the task.
    #[error("{0}")]
    Failed(String),
    /// What map task so-and-so (counted from 0) has written is gone or damaged: that has to be done again first.
    #[error("the output of map task {0} is lost")]
    LostMap(u32),
    /// It was told to stop.
    #[error("stopped")]
    Stopped,
}

/// Carries out attempts. The worker's half that touches data, without the half that speaks with the coordinator.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Carries out an attempt. It ends soon after `stop` says so. It may be repeated under the same or another attempt, at the
    /// same time on another machine, and may end half-way at any point: nothing that is half-written is ever taken for
    /// finished.
    ///
    /// # Errors
    /// [`TaskError`]; a panic of the job is one, too.
    async fn execute(&self, work: Work, stop: Arc<dyn Stop>) -> Result<Counts, TaskError>;
}

/// Whether to stop.
pub trait Stop: Send + Sync {
    /// Whether to stop. Cheap: asked for each record, or nearly, and around each call of a store. Each time is a sign of life:
    /// an attempt that gives none for long is taken to hang.
    fn is_stopped(&self) -> bool;
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Split { input, offset: begin, len } = self;
        write!(f, "{input}, bytes {begin} to {}", begin.saturating_add(*len))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskId::Map(number) => write!(f, "map task {number}"),
            TaskId::Reduce(number) => write!(f, "reduce task {number}"),
            TaskId::Publish => f.write_str("publication"),
        }
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AttemptId { job, task, attempt } = self;
        write!(f, "job {job}, {task}, attempt {}", attempt.0)
    }
}
