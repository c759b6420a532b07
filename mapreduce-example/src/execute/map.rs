//! A split in, sorted runs out.

use super::told::{at, called, tried};
use super::{Leftovers, Task};
use crate::data::{Location, Pieces, Run, RunWriter, shown};
use crate::job::{Emitter, Job, Pair, Piece};
use crate::task::{Counts, Split, TaskError};

/// Maps a split.
pub(super) fn map<J: Job>(job: &J, task: &Task<'_>, number: u32) -> Result<Counts, TaskError> {
    let split = usize::try_from(number).ok().and_then(|at| task.work.spec.inputs.get(at));
    let split = split.ok_or_else(|| TaskError::Failed("there is no such split".to_owned()))?;
    let input = task.stores.locate(&split.input)?;
    let name = input.name();
    let Split { input: _, offset: begin, len } = split;
    let place = || format!("{name}, bytes {begin} to {}", begin.saturating_add(*len));
    let mut pieces = Pieces::open(input, split, task.limits.read_bytes)?;
    let mut counts = Counts::default();

    let mut spills = task.layout.spills(task.work.id);
    let mut spilled = Leftovers::default();
    let mut runs: Vec<Run> = Vec::new();
    let mut bytes_out = 0;
    let mut spill = |pairs: &mut Vec<Pair<J>>| {
        let location = spills.next();
        spilled.0.push(location.clone());
        let (run, bytes) = write_run(job, task, std::mem::take(pairs), location, &[])?;
        runs.push(run);
        bytes_out += bytes;
        Ok(())
    };
    let mut emitter =
        Emitter::new(job, task.limits.table_bytes_max, &mut spill).heard_by(task.stop);
    while let Some((offset, contents)) = pieces.next()? {
        task.check_stop()?;
        counts.records += lines(&contents);
        let piece = Piece { name: &name, offset, contents: &contents };
        let mapped = tried(|| job.map(piece, &mut emitter));
        // First what came first.
        at(place, emitter.outcome())?;
        at(|| format!("{}, from byte {offset} on", place()), mapped)?;
    }
    let rest = at(place, emitter.finish())?;

    let last = task.layout.attempt(task.work.id.task, task.work.id.attempt);
    let written = called(|| write_run(job, task, rest, last, &runs));
    let (_, bytes) = at(place, written.unwrap_or_else(|panic| Err(TaskError::Failed(panic))))?;
    // It is a part of what is committed.
    spilled.0.clear();
    counts.bytes_in = pieces.bytes();
    counts.bytes_out = bytes_out + bytes;
    Ok(counts)
}

/// Writes a run, and commits it with the `earlier` ones. Returns it, and how long it is in bytes.
fn write_run<J: Job>(
    job: &J,
    task: &Task<'_>,
    pairs: Vec<Pair<J>>,
    location: Location,
    earlier: &[Run],
) -> Result<(Run, u64), TaskError> {
    let reducers = task.work.spec.reducers;
    let mut partitions: Vec<Vec<Pair<J>>> = (0..reducers).map(|_| Vec::new()).collect();
    for (key, value) in pairs {
        let number = job.partition(&key, reducers);
        let partition = usize::try_from(number).ok().and_then(|at| partitions.get_mut(at));
        let partition = partition.ok_or_else(|| {
            let key = shown(&key);
            TaskError::Failed(format!(
                "the key {key} for partition {number}, and there are {reducers}"
            ))
        })?;
        partition.push((key, value));
    }
    let mut writer = RunWriter::new(location)?;
    for mut partition in partitions {
        task.check_stop()?;
        partition.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (key, value) in &partition {
            writer.push(key, value)?;
        }
        writer.end_partition()?;
    }
    Ok(writer.finish(earlier)?)
}

/// How many lines there are in whole lines.
fn lines(contents: &[u8]) -> u64 {
    let ends = contents.iter().filter(|byte| **byte == b'\n').count() as u64;
    ends + u64::from(!contents.ends_with(b"\n"))
}
