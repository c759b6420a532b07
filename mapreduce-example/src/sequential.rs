//! The whole of a job at once: what a distributed run is compared with.
//!
//! It shares the jobs and their forms with the rest, and nothing else: no splits, no combining, no partitions, no runs, no
//! merge. All is held in memory.

use std::collections::BTreeSet;

use crate::data::Stores;
use crate::execute::write_failed;
use crate::job::{Arguments, Emitter, Job, Pair, Piece, Registry};
use crate::task::{JobSpec, TaskError};

/// Runs a job on whole inputs, each with its name. Returns the results of all keys, in the order of the keys.
///
/// # Errors
/// The job is unknown, or failed: a sentence.
pub fn run(
    registry: &Registry,
    job: &str,
    arguments: &Arguments,
    inputs: &[(String, Vec<u8>)],
) -> Result<Vec<u8>, TaskError> {
    let job = registry.job(job, arguments).map_err(|error| TaskError::Failed(error.to_string()))?;
    job.run_sequentially(inputs)
}

/// Runs a submitted job on the inputs that its splits are of, each as a whole.
///
/// # Errors
/// As [`run`]; or an input cannot be read.
pub fn run_spec(
    registry: &Registry,
    spec: &JobSpec,
    stores: &Stores,
) -> Result<Vec<u8>, TaskError> {
    let mut seen = BTreeSet::new();
    let mut inputs = Vec::new();
    for split in &spec.inputs {
        if seen.insert(&split.input) {
            let input = stores.locate(&split.input)?;
            inputs.push((input.name(), input.read()?.to_vec()));
        }
    }
    run(registry, &spec.job, &spec.arguments, &inputs)
}

pub(crate) fn run_job<J: Job>(job: &J, inputs: &[(String, Vec<u8>)]) -> Result<Vec<u8>, TaskError> {
    let mut never = |_: &mut Vec<Pair<J>>| Ok(());
    let mut emitter = Emitter::plain(job, &mut never);
    for (name, contents) in inputs.iter().filter(|(_, contents)| !contents.is_empty()) {
        let piece = Piece { name, offset: 0, contents };
        job.map(piece, &mut emitter).map_err(TaskError::Failed)?;
    }
    let mut pairs = emitter.finish()?;
    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));

    let mut outcome = Ok(());
    let mut pairs = pairs.into_iter().peekable();
    let mut results = std::iter::from_fn(|| {
        let (key, first) = pairs.next()?;
        let mut values = vec![first];
        while let Some((_, value)) = pairs.next_if(|(next, _)| *next == key) {
            values.push(value);
        }
        match job.reduce(&key, &mut values.into_iter()) {
            Ok(output) => Some((key, output)),
            Err(text) => {
                outcome = Err(TaskError::Failed(text));
                None
            }
        }
    });
    let mut out = Vec::new();
    let written = job.write(&mut results, &mut out);
    outcome?;
    written.map_err(|error| write_failed(&error))?;
    Ok(out)
}
