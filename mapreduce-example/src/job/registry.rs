//! The jobs by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::Job;
use crate::data::{DataError, Stores, sample_lines};
use crate::execute::AnyJob;
use crate::jobs;
use crate::task::JobSpec;

/// What a job is told, by name.
pub type Arguments = BTreeMap<String, String>;

/// The jobs that a program knows. Those that come with the crate are [`Registry::shipped`]; a program of one's own adds its own.
#[derive(Clone)]
pub struct Registry {
    kinds: BTreeMap<&'static str, Arc<Kind>>,
}

/// A job that can be asked for by name.
pub struct Kind {
    name: &'static str,
    about: &'static str,
    arguments: Vec<Argument>,
    reducers_max: Option<u32>,
    build: Box<Build>,
    prepare: Option<Box<Prepare>>,
}

type Build = dyn Fn(&Arguments) -> Result<Arc<dyn AnyJob>, String> + Send + Sync;
type Prepare = dyn Fn(&Sample, &Arguments) -> Result<Arguments, String> + Send + Sync;

/// An argument of a job.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// What it says, in a few words.
    pub about: &'static str,
    /// Whether the job cannot do without it.
    pub required: bool,
}

/// What a job that has to know its input in advance is shown of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Lines from all over the input, without their ends. A bounded number of bytes.
    pub lines: Vec<Bytes>,
    /// How many partitions there will be.
    pub reducers: u32,
}

/// Why there is no such job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Nothing is registered under the name.
    #[error("there is no job {name:?}: the jobs are {known}")]
    UnknownJob {
        /// The name.
        name: String,
        /// All names, with commas between.
        known: String,
    },
    /// The job does not know an argument.
    #[error("the job {job} has no argument {name:?}: {known}")]
    UnknownArgument {
        /// The job.
        job: &'static str,
        /// The argument.
        name: String,
        /// What it does know, in words.
        known: String,
    },
    /// The job needs an argument.
    #[error("the job {job} needs the argument {name}: {about}")]
    MissingArgument {
        /// The job.
        job: &'static str,
        /// The argument.
        name: &'static str,
        /// What it would say.
        about: &'static str,
    },
    /// The job makes no sense of its arguments.
    #[error("the job {job}: {reason}")]
    BadArguments {
        /// The job.
        job: &'static str,
        /// Why not, in a sentence.
        reason: String,
    },
}

/// Why a job must not be submitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// There is no such job.
    #[error(transparent)]
    Job(#[from] JobError),
    /// It cannot be divided so.
    #[error("the job {job} has from 1 to {max} reducers, not {reducers}")]
    Reducers {
        /// The job.
        job: &'static str,
        /// How many it may have.
        max: u32,
        /// How many were asked for.
        reducers: u32,
    },
    /// Its input could not be sampled.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// More partitions than anybody needs: each map task has a table of them, and each is a file.
pub const REDUCERS_MAX: u32 = 10_000;

impl Kind {
    /// A job that `build` makes from its arguments, or else says in a sentence what is wrong with them.
    pub fn new<J: Job>(
        name: &'static str,
        about: &'static str,
        build: impl Fn(&Arguments) -> Result<J, String> + Send + Sync + 'static,
    ) -> Kind {
        let build = move |arguments: &Arguments| {
            let job: Arc<dyn AnyJob> = Arc::new(build(arguments)?);
            Ok(job)
        };
        Kind {
            name,
            about,
            arguments: Vec::new(),
            reducers_max: None,
            build: Box::new(build),
            prepare: None,
        }
    }

    /// The same with one more argument.
    #[must_use]
    pub fn with_argument(mut self, argument: Argument) -> Kind {
        self.arguments.push(argument);
        self
    }

    /// The same with a bound on its reducers.
    #[must_use]
    pub fn with_reducers_max(mut self, reducers_max: u32) -> Kind {
        self.reducers_max = Some(reducers_max);
        self
    }

    /// The same with a look at its input before it is submitted: `prepare` returns further arguments, or else a sentence.
    #[must_use]
    pub fn with_preparation(
        mut self,
        prepare: impl Fn(&Sample, &Arguments) -> Result<Arguments, String> + Send + Sync + 'static,
    ) -> Kind {
        self.prepare = Some(Box::new(prepare));
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it does, in a few words.
    #[must_use]
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// What it can be told.
    #[must_use]
    pub fn arguments(&self) -> &[Argument] {
        &self.arguments
    }

    /// How many reducers it may have.
    #[must_use]
    pub fn reducers_max(&self) -> u32 {
        self.reducers_max.unwrap_or(REDUCERS_MAX)
    }

    fn build(&self, arguments: &Arguments) -> Result<Arc<dyn AnyJob>, JobError> {
        let known = |name: &str| self.arguments.iter().any(|argument| argument.name == name);
        if let Some(name) = arguments.keys().find(|name| !known(name)) {
            let names: Vec<&str> = self.arguments.iter().map(|argument| argument.name).collect();
            let known = match &names[..] {
                [] => "it has none".to_owned(),
                [name] => format!("it has only {name}"),
                names => format!("it has {}", names.join(", ")),
            };
            return Err(JobError::UnknownArgument { job: self.name, name: name.clone(), known });
        }
        for &Argument { name, about, required } in &self.arguments {
            if required && !arguments.contains_key(name) {
                return Err(JobError::MissingArgument { job: self.name, name, about });
            }
        }
        (self.build)(arguments).map_err(|reason| self.bad(reason))
    }

    fn bad(&self, reason: String) -> JobError {
        JobError::BadArguments { job: self.name, reason }
    }
}

impl Registry {
    /// No jobs.
    #[must_use]
    pub fn empty() -> Registry {
        Registry { kinds: BTreeMap::new() }
    }

    /// The jobs of this crate.
    #[must_use]
    pub fn shipped() -> Registry {
        let mut registry = Registry::empty();
        for kind in jobs::kinds() {
            registry.add(kind);
        }
        registry
    }

    /// Adds a job, in place of one of the same name.
    pub fn add(&mut self, kind: Kind) {
        self.kinds.insert(kind.name, Arc::new(kind));
    }

    /// All jobs, by name.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.values().map(|kind| &**kind)
    }

    /// Whether there is such a job and makes sense of its arguments.
    ///
    /// # Errors
    /// [`JobError`], a sentence for whoever asked.
    pub fn check(&self, name: &str, arguments: &Arguments) -> Result<(), JobError> {
        self.job(name, arguments).map(drop)
    }

    /// Makes a job ready to be submitted: checks all but its output, and adds the arguments for which the job has to look at
    /// its input.
    ///
    /// # Errors
    /// [`PrepareError`], a sentence for whoever submits; the job would fail.
    pub fn prepare(&self, spec: &mut JobSpec, stores: &Stores) -> Result<(), PrepareError> {
        let kind = self.kind(&spec.job)?;
        kind.build(&spec.arguments)?;
        let (job, max, reducers) = (kind.name, kind.reducers_max(), spec.reducers);
        if reducers == 0 || reducers > max {
            return Err(PrepareError::Reducers { job, max, reducers });
        }
        if let Some(prepare) = &kind.prepare {
            let sample = Sample { lines: sample_lines(stores, &spec.inputs)?, reducers };
            let more = prepare(&sample, &spec.arguments).map_err(|reason| kind.bad(reason))?;
            let mut arguments = spec.arguments.clone();
            arguments.extend(more);
            kind.build(&arguments)?;
            spec.arguments = arguments;
        }
        Ok(())
    }

    pub(crate) fn job(
        &self,
        name: &str,
        arguments: &Arguments,
    ) -> Result<Arc<dyn AnyJob>, JobError> {
        self.kind(name)?.build(arguments)
    }

    fn kind(&self, name: &str) -> Result<&Kind, JobError> {
        self.kinds.get(name).map(|kind| &**kind).ok_or_else(|| JobError::UnknownJob {
            name: name.to_owned(),
            known: self.kinds.keys().copied().collect::<Vec<_>>().join(", "),
        })
    }
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::shipped()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds.keys()).finish()
    }
}
