//! Which attempt writes where.
//!
//! ```text
//! OUTPUT/part-00000, part-00001, …                  the results, a file for each reduce task
//! OUTPUT/_SUCCESS                                   last: all of them are there
//! OUTPUT/_mapreduce/owner                           whose folder it is: the first job that writes into it
//! OUTPUT/_mapreduce/JOB/map-00012-1                 what attempt 1 of map task 12 has found: its last run
//! OUTPUT/_mapreduce/JOB/map-00012-1-SPILL-0         … and earlier ones, where there was too much for one
//! OUTPUT/_mapreduce/JOB/reduce-00003-1              what attempt 1 of reduce task 3 has found
//! OUTPUT/_mapreduce/JOB/reduce-00003-1-SPILL-0      a merged run on the way there
//! ```
//!
//! JOB is the job's token, which no other job has, of whichever coordinator. The object that bears an attempt's plain name is written last and at once, so there is an output, or none. An attempt that
//! is carried out twice at the same time writes it twice, each time whole, and names what it refers to by chance (SPILL): so
//! neither of the two is ever made of parts of both.

use std::hash::{BuildHasher, RandomState};

use super::location::{DataError, Location, Stores};
use crate::task::{Attempt, AttemptId, JobSpec, TaskError, TaskId};

/// The object that says whose folder it is.
const OWNER: &str = "owner";
/// The folder of what is between.
const BETWEEN: &str = "_mapreduce";
/// The object that says that all results are there.
pub(super) const SUCCESS: &str = "_SUCCESS";

/// The places of a job.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    output: Location,
    token: u128,
}

impl Layout {
    pub(crate) fn new(stores: &Stores, spec: &JobSpec) -> Result<Layout, DataError> {
        Ok(Layout { output: stores.locate(&spec.output)?, token: spec.token })
    }

    /// The job, as its data knows it.
    pub(crate) fn job(&self) -> String {
        format!("{:032x}", self.token)
    }

    /// Takes the folder for this job, or finds that it has it.
    ///
    /// # Errors
    /// Another job has it, or it cannot be written to.
    pub(crate) fn claim(&self) -> Result<(), TaskError> {
        let owner = self.all_between().join(OWNER);
        let name = self.job();
        if owner.put_new(name.clone().into())? || owner.read()? == name.as_bytes() {
            return Ok(());
        }
        Err(TaskError::Failed(format!("another job writes into {}", self.output.name())))
    }

    /// The folder is this job's no more. If it is another's, that one keeps it.
    pub(crate) fn disclaim(&self) -> Result<(), DataError> {
        let owner = self.all_between().join(OWNER);
        match owner.read() {
            Ok(name) if name == self.job().as_bytes() => owner.delete(),
            Ok(_) | Err(DataError::Missing { .. }) => Ok(()),
            Err(error @ (DataError::Failed { .. } | DataError::Damaged { .. })) => Err(error),
        }
    }

    /// The folder of what is between, of all jobs.
    pub(crate) fn all_between(&self) -> Location {
        self.output.join(BETWEEN)
    }

    /// The folder of what is between.
    pub(crate) fn between(&self) -> Location {
        self.all_between().join(&self.job())
    }

    /// What an attempt writes last.
    pub(crate) fn attempt(&self, task: TaskId, attempt: Attempt) -> Location {
        let Attempt(attempt) = attempt;
        self.between().join(&match task {
            TaskId::Map(number) => format!("map-{number:05}-{attempt}"),
            TaskId::Reduce(number) => format!("reduce-{number:05}-{attempt}"),
            TaskId::Publish => format!("publish-{attempt}"),
        })
    }

    /// The names for what an attempt writes on the way.
    pub(crate) fn spills(&self, id: AttemptId) -> Spills {
        let AttemptId { job: _, task, attempt } = id;
        // The standard library seeds it by chance, which is all that is wanted here.
        let chance = RandomState::new().hash_one(());
        Spills { base: self.attempt(task, attempt), chance, count: 0 }
    }

    /// A file of results.
    pub(crate) fn part(&self, reduce: u32) -> Location {
        self.output.join(&format!("part-{reduce:05}"))
    }

    pub(crate) fn success(&self) -> Location {
        self.output.join(SUCCESS)
    }
}

/// Names that nobody else has.
pub(crate) struct Spills {
    base: Location,
    chance: u64,
    count: u32,
}

impl Spills {
    /// A new name: in the folder of what is between, and the place that it is.
    pub(crate) fn next(&mut self) -> Location {
        let number = self.count;
        self.count += 1;
        self.base.beside(&format!("-{:016x}-{number}", self.chance))
    }
}
