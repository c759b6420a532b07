//! A coordinator by hand: hands out what it is told to, in the order in which it is told to.

use std::sync::Arc;

use futures::executor::block_on;
use mapreduce_example::data::{Stores, splits};
use mapreduce_example::execute::{DataExecutor, Limits};
use mapreduce_example::job::{Arguments, Registry};
use mapreduce_example::run::merge_results;
use mapreduce_example::sequential;
use mapreduce_example::task::{
    Attempt, AttemptId, Counts, Executor, JobId, JobSpec, Stop, TaskError, TaskId, Work,
};

/// Limits so small that all there is happens on little data: runs are spilled, lines cross what is read at once, and merges take
/// several passes.
pub(crate) const TINY: Limits = Limits { table_bytes_max: 2000, read_bytes: 100, fan_in_max: 3 };

pub(crate) struct Hand {
    pub(crate) registry: Registry,
    pub(crate) stores: Stores,
    pub(crate) executor: DataExecutor,
    pub(crate) spec: Arc<JobSpec>,
    pub(crate) job: JobId,
}

pub(crate) struct Never;

impl Stop for Never {
    fn is_stopped(&self) -> bool {
        false
    }
}

/// What is to be done, before it is known where.
pub(crate) struct Asked<'a> {
    pub(crate) job: &'a str,
    pub(crate) arguments: &'a [(&'a str, &'a str)],
    pub(crate) inputs: &'a [&'a str],
    pub(crate) output: &'a str,
    pub(crate) reducers: u32,
    pub(crate) split_bytes_max: u64,
}

impl Hand {
    pub(crate) fn new(stores: &Stores, asked: &Asked<'_>, limits: Limits) -> Hand {
        Hand::with_registry(Registry::shipped(), stores, asked, limits)
    }

    pub(crate) fn with_registry(
        registry: Registry,
        stores: &Stores,
        asked: &Asked<'_>,
        limits: Limits,
    ) -> Hand {
        let inputs: Vec<String> = asked.inputs.iter().map(|input| (*input).to_owned()).collect();
        let mut spec = JobSpec {
            job: asked.job.to_owned(),
            arguments: arguments(asked.arguments),
            inputs: splits(stores, &inputs, asked.split_bytes_max).unwrap(),
            output: asked.output.to_owned(),
            reducers: asked.reducers,
            failures_max: 1,
            token: 7,
        };
        registry.prepare(&mut spec, stores).unwrap();
        let executor = DataExecutor::new(registry.clone(), stores.clone(), limits);
        Hand { registry, stores: stores.clone(), executor, spec: Arc::new(spec), job: JobId(7) }
    }

    pub(crate) fn maps(&self) -> u32 {
        u32::try_from(self.spec.inputs.len()).unwrap()
    }

    pub(crate) fn map(&self, number: u32, attempt: u32) -> Result<Counts, TaskError> {
        self.execute(TaskId::Map(number), attempt, &[])
    }

    pub(crate) fn reduce(
        &self,
        number: u32,
        attempt: u32,
        maps: &[u32],
    ) -> Result<Counts, TaskError> {
        self.execute(TaskId::Reduce(number), attempt, maps)
    }

    pub(crate) fn publish(&self, reduces: &[u32]) -> Result<Counts, TaskError> {
        self.execute(TaskId::Publish, 1, reduces)
    }

    pub(crate) fn execute(
        &self,
        task: TaskId,
        attempt: u32,
        inputs: &[u32],
    ) -> Result<Counts, TaskError> {
        self.execute_until(task, attempt, inputs, Arc::new(Never))
    }

    pub(crate) fn execute_until(
        &self,
        task: TaskId,
        attempt: u32,
        inputs: &[u32],
        stop: Arc<dyn Stop>,
    ) -> Result<Counts, TaskError> {
        let id = AttemptId { job: self.job, task, attempt: Attempt(attempt) };
        let inputs = inputs.iter().copied().map(Attempt).collect();
        block_on(self.executor.execute(Work { id, spec: self.spec.clone(), inputs }, stop))
    }

    /// Every task once. Returns what the map tasks have worked through.
    pub(crate) fn run(&self) -> Counts {
        let mut mapped = Counts::default();
        for number in 0..self.maps() {
            let counts = self.map(number, 1).unwrap();
            mapped.records += counts.records;
            mapped.bytes_in += counts.bytes_in;
        }
        self.run_reduces();
        mapped
    }

    /// What comes after the maps, every task once.
    pub(crate) fn run_reduces(&self) {
        let maps = vec![1; self.maps() as usize];
        for number in 0..self.spec.reducers {
            self.reduce(number, 1, &maps).unwrap();
        }
        self.publish(&vec![1; self.spec.reducers as usize]).unwrap();
    }

    pub(crate) fn part(&self, number: u32) -> Vec<u8> {
        let output = self.stores.locate(&self.spec.output).unwrap();
        output.join(&format!("part-{number:05}")).read().unwrap().to_vec()
    }

    /// The results, one part after the other.
    pub(crate) fn parts(&self) -> Vec<u8> {
        (0..self.spec.reducers).flat_map(|number| self.part(number)).collect()
    }

    /// The results, all in one.
    pub(crate) fn merged(&self) -> Vec<u8> {
        let merged = merge_results(&self.registry, &self.spec, &self.stores, &Never).unwrap();
        self.stores.locate(&merged).unwrap().read().unwrap().to_vec()
    }

    /// What they should be.
    pub(crate) fn expected(&self) -> Vec<u8> {
        sequential::run_spec(&self.registry, &self.spec, &self.stores).unwrap()
    }
}

pub(crate) fn arguments(arguments: &[(&str, &str)]) -> Arguments {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    arguments.iter().map(owned).collect()
}

/// The lines of a text in the order of their bytes.
pub(crate) fn sorted(text: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    lines.sort();
    lines.concat()
}

/// The first of the histories of Shakespeare that the repository has, at most so many bytes of them.
pub(crate) fn histories(bytes: usize) -> &'static [u8] {
    let text = include_bytes!("../../../../kv-example/text/histories.txt");
    &text[..bytes.min(text.len())]
}
