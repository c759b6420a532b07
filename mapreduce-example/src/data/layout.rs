//! Which attempt writes where.
//!
//! ```text
//! OUTPUT/part-00000, part-00001, …                  the results, a file for each reduce task
//! OUTPUT/_SUCCESS                                   last: all of them are there
//! OUTPUT/merged                                     the results in one, of a `run`
//! OUTPUT/_mapreduce/owner                           whose folder it is: the first job that writes into it,
//!                                                   unless results are there
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

use bytes::Bytes;

use super::location::{DataError, Location, Stores};
use crate::task::{Attempt, AttemptId, JobSpec, TaskError, TaskId};

/// The object that says whose folder it is.
const OWNER: &str = "owner";
/// The folder of what is between.
const BETWEEN: &str = "_mapreduce";
/// How the names of the files of results begin.
const PART: &str = "part-";
/// All results in one.
const MERGED: &str = "merged";
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
    /// Another job has it, results are there already, or it cannot be written to.
    pub(crate) fn claim(&self) -> Result<(), TaskError> {
        // First what is so nearly always: to try to write costs more.
        match self.read_owner()? {
            Some(name) if name == self.job() => return Ok(()),
            Some(_) => return Err(self.is_taken()),
            None => {}
        }
        // What this job publishes comes after this, and the folder is its own until all of it is there.
        self.refuse_results(|name| name == SUCCESS || name.starts_with(PART))?;
        if !self.owner().put_new(self.job().into())? {
            // Somebody was faster.
            return if self.is_owned()? { Ok(()) } else { Err(self.is_taken()) };
        }
        // Another job may have come and gone between the two. Other attempts of this one may be far ahead by now: what they
        // have published is no reason to give the folder back.
        self.refuse_results(|name| name == SUCCESS).inspect_err(|_| {
            if let Err(error) = self.disclaim() {
                tracing::warn!(%error, "a folder cannot be given back");
            }
        })
    }

    /// Whether the folder is this job's.
    pub(crate) fn is_owned(&self) -> Result<bool, DataError> {
        Ok(self.read_owner()?.is_some_and(|name| name == self.job()))
    }

    /// What it means if it was, and is not any more.
    pub(crate) fn not_owned(&self) -> TaskError {
        let output = self.output.name();
        TaskError::Failed(format!(
            "{output} is not this job's any more: it was cancelled or has failed"
        ))
    }

    fn is_taken(&self) -> TaskError {
        TaskError::Failed(format!("another job writes into {}", self.output.name()))
    }

    /// The folder is this job's no more. If it is another's, that one keeps it.
    pub(crate) fn disclaim(&self) -> Result<(), DataError> {
        if self.is_owned()? { self.owner().delete() } else { Ok(()) }
    }

    fn owner(&self) -> Location {
        self.all_between().join(OWNER)
    }

    fn read_owner(&self) -> Result<Option<Bytes>, DataError> {
        match self.owner().read() {
            Ok(name) => Ok(Some(name)),
            Err(DataError::Missing { .. }) => Ok(None),
            Err(error @ (DataError::Failed { .. } | DataError::Damaged { .. })) => Err(error),
        }
    }

    /// Results would be mixed with those that are there, and some stores would replace them.
    fn refuse_results(&self, is_result: impl Fn(&str) -> bool) -> Result<(), TaskError> {
        let list = self.output.list()?;
        let mut names = list.objects.iter().filter_map(|object| object.location.filename());
        match names.find(|name| is_result(name)) {
            None => Ok(()),
            Some(name) => Err(TaskError::Failed(format!(
                "results of another job are in {} already: {name}",
                self.output.name()
            ))),
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
        self.output.join(&format!("{PART}{reduce:05}"))
    }

    /// The results, all in one, where somebody has merged them.
    pub(crate) fn merged(&self) -> Location {
        self.output.join(MERGED)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::task::Stop;

    /// Counts how often it was asked: before and after each call of a store.
    #[derive(Default)]
    struct Signs(AtomicU32);

    impl Stop for Signs {
        fn is_stopped(&self) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            false
        }
    }

    #[test]
    fn a_job_that_has_its_folder_finds_so_by_one_read() {
        let signs = Arc::new(Signs::default());
        let stores = Stores::new().heard_by(signs.clone());
        let dir = tempfile::tempdir().unwrap();
        let layout =
            Layout::new(&stores, &JobSpec::of_nothing(dir.path().to_str().unwrap(), 7)).unwrap();
        layout.claim().unwrap();
        let before = signs.0.load(Ordering::Relaxed);
        layout.claim().unwrap();
        assert_eq!(signs.0.load(Ordering::Relaxed) - before, 2);
    }

    #[test]
    fn a_folder_with_results_in_it_is_nobodys_to_take_and_stays_as_it_is() {
        let (stores, dir) = (Stores::new(), tempfile::tempdir().unwrap());
        for output in [dir.path().to_str().unwrap(), "memory:///taken"] {
            let layout = Layout::new(&stores, &JobSpec::of_nothing(output, 7)).unwrap();
            for result in [layout.success(), layout.part(3)] {
                result.put("theirs".into()).unwrap();
                let why = layout.claim().unwrap_err().to_string();
                let name = result.file_name();
                assert!(why.contains(output) && why.ends_with(name), "{why}");
                assert!(!layout.is_owned().unwrap() && layout.read_owner().unwrap().is_none());
                result.delete().unwrap();
            }
            // What it publishes itself is in nobody's way.
            layout.claim().unwrap();
            layout.part(0).put("its own".into()).unwrap();
            layout.claim().unwrap();
        }
    }
}
