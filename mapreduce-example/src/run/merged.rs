//! The results of a job in one object.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::atomic::{self, AtomicBool};

use bytes::Bytes;

use crate::data::{DataError, Layout, Location, ObjectWriter, Stores};
use crate::execute::AnyJob;
use crate::job::Registry;
use crate::task::{JobSpec, Stop, TaskError};

/// The buffers of all files of results together, in bytes.
const BUFFERS_BYTES: u64 = 64 << 20;

/// The buffer of one, in bytes, whatever the number of files: a request costs something.
const BUFFER_BYTES: std::ops::RangeInclusive<u64> = (16 << 10)..=(1 << 20);

/// Merges the files of results of a job into `OUTPUT/merged`, line by line: the lines of each stay in their order, and all of
/// them together are in the order of [`compare_lines`](crate::job::Job::compare_lines). Returns what the object is called.
///
/// # Errors
/// The job is unknown, a file is missing, or the object cannot be written: a sentence. Or it is told to stop. There is no object
/// then, nor a part of one.
pub fn merge_results(
    registry: &Registry,
    spec: &JobSpec,
    stores: &Stores,
    stop: &dyn Stop,
) -> Result<String, TaskError> {
    let check_stop = || if stop.is_stopped() { Err(TaskError::Stopped) } else { Ok(()) };
    let job = registry
        .job(&spec.job, &spec.arguments)
        .map_err(|error| TaskError::Failed(error.to_string()))?;
    let layout = Layout::new(stores, spec)?;
    let buffer = (BUFFERS_BYTES / u64::from(spec.reducers.max(1)))
        .clamp(*BUFFER_BYTES.start(), *BUFFER_BYTES.end());
    let mut parts = Vec::new();
    let mut heads = BinaryHeap::new();
    for number in 0..spec.reducers {
        check_stop()?;
        let mut part = Lines::new(layout.part(number), buffer)?;
        if let Some(line) = part.next()? {
            heads.push(Head { line, part: parts.len(), job: &*job });
        }
        parts.push(part);
    }
    let merged = layout.merged();
    let mut out = ObjectWriter::new(merged.clone());
    while let Some(Head { line, part, job }) = heads.pop() {
        check_stop()?;
        out.append(&line)?;
        if let Some(line) = parts[part].next()? {
            heads.push(Head { line, part, job });
        }
    }
    check_stop()?;
    out.finish()?;
    Ok(merged.name())
}

/// Whether this process was told to stop.
#[derive(Debug, Default)]
pub(super) struct Told(AtomicBool);

impl Told {
    pub(super) fn stop(&self) {
        self.0.store(true, atomic::Ordering::Relaxed);
    }
}

impl Stop for Told {
    fn is_stopped(&self) -> bool {
        self.0.load(atomic::Ordering::Relaxed)
    }
}

/// The next line of a part.
struct Head<'a> {
    line: Bytes,
    part: usize,
    job: &'a dyn AnyJob,
}

impl Head<'_> {
    /// Its end would come before whatever is less than that.
    fn without_end(&self) -> &[u8] {
        self.line.strip_suffix(b"\n").unwrap_or(&self.line)
    }
}

impl Ord for Head<'_> {
    /// The heap has the greatest on top: the least line, and among equals that of the first part.
    fn cmp(&self, other: &Self) -> Ordering {
        let lines = self.job.compare_lines(other.without_end(), self.without_end());
        lines.then_with(|| other.part.cmp(&self.part))
    }
}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head<'_> {}

/// The lines of an object, each with its line feed.
struct Lines {
    place: Location,
    bytes: u64,
    read: u64,
    buffer: u64,
    held: Bytes,
}

impl Lines {
    fn new(place: Location, buffer: u64) -> Result<Lines, DataError> {
        let bytes = place.head()?.size;
        Ok(Lines { place, bytes, read: 0, buffer, held: Bytes::new() })
    }

    fn next(&mut self) -> Result<Option<Bytes>, DataError> {
        let mut searched = 0;
        loop {
            let found = self.held[searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = found {
                return Ok(Some(self.held.split_to(searched + end + 1)));
            }
            searched = self.held.len();
            if self.read == self.bytes {
                let rest = std::mem::take(&mut self.held);
                // A last line without its end would run into the next one.
                return Ok((!rest.is_empty()).then(|| [&rest[..], b"\n"].concat().into()));
            }
            let end = (self.read + self.buffer).min(self.bytes);
            let more = self.place.read_range(self.read..end)?;
            self.read = end;
            self.held =
                if self.held.is_empty() { more } else { [&self.held[..], &more].concat().into() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_files_become_one_whatever_their_lines() {
        let stores = Stores::new();
        let put = |name: &str, text: &str| {
            let place = stores.locate(&format!("memory:///merged/{name}")).unwrap();
            place.put(text.to_owned().into()).unwrap();
        };
        let long = "m".repeat(40_000);
        put("part-00000", &format!("a 1\n{long}\nz"));
        put("part-00001", "");
        put("part-00002", "\nb 2\nb 2\n");
        let merge = |reducers| {
            let spec = JobSpec { reducers, ..JobSpec::of_nothing("memory:///merged", 1) };
            merge_results(&Registry::shipped(), &spec, &stores, &Told::default())
        };
        let name = merge(3).unwrap();
        let merged = stores.locate(&name).unwrap().read().unwrap();
        assert_eq!(merged, format!("\na 1\nb 2\nb 2\n{long}\nz\n"));
        assert!(merge(4).is_err(), "a file is missing");
    }
}
