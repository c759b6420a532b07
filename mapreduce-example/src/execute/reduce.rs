//! A partition of all runs in, a file of results out.

use std::io::{BufWriter, Write};

use super::told::{at, called, tried};
use super::{Leftovers, Task, write_failed};
use crate::data::{
    COMBINED_BYTES_MAX, DataError, Location, Merge, ObjectWriter, RunWriter, Source, catalogue,
    encoded_bytes, shown,
};
use crate::job::Job;
use crate::task::{Counts, TaskError, TaskId};

/// How many values are merged between two looks at whether to stop.
const VALUES_PER_LOOK: u32 = 1024;

/// Reduces a partition.
pub(super) fn reduce<J: Job>(job: &J, task: &Task<'_>, number: u32) -> Result<Counts, TaskError> {
    let sources = sources(task, number)?;
    let bytes_in = sources.iter().map(|source| source.segment.bytes()).sum();
    let mut merged = Leftovers::default();
    let sources = narrow(job, task, sources, &mut merged)?;

    let output = task.layout.attempt(task.work.id.task, task.work.id.attempt);
    let mut object = ObjectWriter::new(output);
    let mut groups = Groups::new(job, task, &sources)?;
    // What `write` is given in bits and pieces goes on in pieces of some size.
    let mut buffered = BufWriter::with_capacity(64 << 10, &mut object);
    let written = job.write(&mut groups, &mut buffered).and_then(|()| buffered.flush());
    // Whatever is still in there was refused before.
    let (_, _) = buffered.into_parts();
    // First what came first.
    groups.outcome?;
    if let Some(error) = object.failure() {
        return Err(error.into());
    }
    written.map_err(|error| write_failed(&error))?;
    task.check_stop()?;
    let bytes_out = object.finish()?;
    Ok(Counts { bytes_in, bytes_out, records: groups.records })
}

/// The partition in all runs of all map tasks.
fn sources(task: &Task<'_>, number: u32) -> Result<Vec<Source>, TaskError> {
    let mut sources = Vec::new();
    for (map, attempt) in (0..).zip(task.work.inputs.iter()) {
        task.check_stop()?;
        let last = task.layout.attempt(TaskId::Map(map), *attempt);
        let lost = |error: DataError| Source::failed(Some(map), error);
        for run in catalogue(&last).map_err(lost)? {
            let segment = usize::try_from(number).ok().and_then(|at| run.segments.get(at));
            let segment = *segment.ok_or(TaskError::LostMap(map))?;
            if segment.records > 0 {
                let location = task.layout.between().join(&run.name);
                sources.push(Source { location, segment, map: Some(map) });
            }
        }
    }
    Ok(sources)
}

/// Merges runs until there are few enough to be read at once.
fn narrow<J: Job>(
    job: &J,
    task: &Task<'_>,
    mut sources: Vec<Source>,
    merged: &mut Leftovers,
) -> Result<Vec<Source>, TaskError> {
    let mut spills = task.layout.spills(task.work.id);
    while sources.len() > task.limits.fan_in_max {
        let before = merged.0.len();
        let mut next = Vec::new();
        for some in sources.chunks(task.limits.fan_in_max) {
            if let [one] = some {
                next.push(one.clone());
                continue;
            }
            let location = spills.next();
            merged.0.push(location.clone());
            next.push(merge_into(job, task, some, location)?);
        }
        // Those of the round before are read; a lone one was handed on.
        let is_read = |at: &Location| next.iter().all(|source| source.location.url() != at.url());
        for location in merged.0[..before].iter().filter(|location| is_read(location)) {
            location.delete()?;
        }
        sources = next;
    }
    Ok(sources)
}

/// Merges runs into one.
fn merge_into<J: Job>(
    job: &J,
    task: &Task<'_>,
    sources: &[Source],
    location: Location,
) -> Result<Source, TaskError> {
    let mut merge = Merge::<J>::new(sources, task.limits.read_bytes)?;
    let mut writer = RunWriter::new(location.clone())?;
    let mut count = 0_u32;
    let mut look = || {
        count = count.wrapping_add(1);
        if count.is_multiple_of(VALUES_PER_LOOK) { task.check_stop() } else { Ok(()) }
    };
    while let Some((key, mut value)) = merge.next()? {
        if let Some(combine) = job.combiner() {
            // No less than what is held has, as far as values grow by no more than what comes to them.
            let mut bytes = encoded_bytes(&value)?;
            while let Some(more) = merge.next_of(&key)? {
                look()?;
                let more_bytes = encoded_bytes(&more)?;
                if bytes + more_bytes > COMBINED_BYTES_MAX {
                    bytes = encoded_bytes(&value)?;
                    // Above half of it, too: so there are always many values between two such looks.
                    if bytes > COMBINED_BYTES_MAX / 2 || bytes + more_bytes > COMBINED_BYTES_MAX {
                        writer.push(&key, &value)?;
                        (value, bytes) = (more, more_bytes);
                        continue;
                    }
                }
                called(|| combine(&mut value, more))
                    .map_err(|panic| TaskError::Failed(format!("key {}: {panic}", shown(&key))))?;
                bytes += more_bytes;
            }
        }
        writer.push(&key, &value)?;
        look()?;
    }
    writer.end_partition()?;
    let (run, _) = writer.finish(&[])?;
    let segment = run.segments.first().copied().unwrap_or_default();
    Ok(Source { location, segment, map: None })
}

/// A key, and what its values were reduced to.
type Group<J> = (<J as Job>::Key, <J as Job>::Output);

/// Reduces group by group, as the results are asked for. It ends early if something went wrong.
struct Groups<'a, J: Job> {
    job: &'a J,
    task: &'a Task<'a>,
    merge: Merge<J>,
    outcome: Result<(), TaskError>,
    /// How many keys there were.
    records: u64,
}

impl<'a, J: Job> Groups<'a, J> {
    fn new(job: &'a J, task: &'a Task<'a>, sources: &[Source]) -> Result<Self, TaskError> {
        let merge = Merge::new(sources, task.limits.read_bytes)?;
        Ok(Groups { job, task, merge, outcome: Ok(()), records: 0 })
    }

    fn reduce_next(&mut self) -> Result<Option<Group<J>>, TaskError> {
        self.task.check_stop()?;
        let Some((key, first)) = self.merge.next()? else { return Ok(None) };
        self.records += 1;
        let mut values = Values { groups: self, key: &key, first: Some(first) };
        let job = values.groups.job;
        let output = tried(|| job.reduce(&key, &mut values));
        // What the job did not want to see is still in the way.
        values.by_ref().for_each(drop);
        self.outcome.clone()?;
        let output = at(|| format!("key {}", shown(&key)), output)?;
        Ok(Some((key, output)))
    }
}

impl<J: Job> Iterator for Groups<'_, J> {
    type Item = Group<J>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.outcome.is_err() {
            return None;
        }
        match self.reduce_next() {
            Ok(group) => group,
            Err(error) => {
                self.outcome = Err(error);
                None
            }
        }
    }
}

/// The values of a key.
struct Values<'a, 'b, J: Job> {
    groups: &'a mut Groups<'b, J>,
    key: &'a J::Key,
    first: Option<J::Value>,
}

impl<J: Job> Values<'_, '_, J> {
    fn read(&mut self) -> Result<Option<J::Value>, TaskError> {
        self.groups.task.check_stop()?;
        self.groups.merge.next_of(self.key)
    }
}

impl<J: Job> Iterator for Values<'_, '_, J> {
    type Item = J::Value;

    fn next(&mut self) -> Option<J::Value> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.groups.outcome.is_err() {
            return None;
        }
        match self.read() {
            Ok(value) => value,
            Err(error) => {
                self.groups.outcome = Err(error);
                None
            }
        }
    }
}
