//! The results of a job in one object.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;

use crate::data::{DataError, Location, ObjectWriter, Stores};

/// The buffers of all files of results together, in bytes.
const BUFFERS_BYTES: u64 = 64 << 20;

/// The buffer of one, in bytes, whatever the number of files: a request costs something.
const BUFFER_BYTES: std::ops::RangeInclusive<u64> = (16 << 10)..=(1 << 20);

/// Merges the files of results of so many reduce tasks into `OUTPUT/merged`, line by line: the lines of each stay in their
/// order, and if they are sorted by their bytes, so are all of them together. Returns what the object is called.
///
/// # Errors
/// A file is missing, or the object cannot be written: there is none then.
pub fn merge_results(stores: &Stores, output: &str, reducers: u32) -> Result<String, DataError> {
    let folder = stores.locate(output)?;
    let buffer = (BUFFERS_BYTES / u64::from(reducers.max(1)))
        .clamp(*BUFFER_BYTES.start(), *BUFFER_BYTES.end());
    let mut parts = Vec::new();
    let mut heads = BinaryHeap::new();
    for number in 0..reducers {
        let mut part = Lines::new(folder.join(&format!("part-{number:05}")), buffer)?;
        if let Some(line) = part.next()? {
            heads.push(Reverse((line, parts.len())));
        }
        parts.push(part);
    }
    let merged = folder.join("merged");
    let mut out = ObjectWriter::new(merged.clone());
    while let Some(Reverse((line, number))) = heads.pop() {
        out.append(&line)?;
        if let Some(next) = parts[number].next()? {
            heads.push(Reverse((next, number)));
        }
    }
    out.finish()?;
    Ok(merged.name())
}

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
        let name = merge_results(&stores, "memory:///merged", 3).unwrap();
        let merged = stores.locate(&name).unwrap().read().unwrap();
        assert_eq!(merged, format!("\na 1\nb 2\nb 2\n{long}\nz\n"));
        assert!(merge_results(&stores, "memory:///merged", 4).is_err(), "a file is missing");
    }
}
