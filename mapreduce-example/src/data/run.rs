//! A sorted run: the pairs that a map task has found, or a part of them, by partition and key.
//!
//! ```text
//! magic and version, 8 bytes
//! the blocks of partition 0, of partition 1, …
//!     each: length of the payload u32, its CRC-32 u32, the payload: pairs of key and value, one after the other
//! the catalogue: all runs of the attempt with their segments, in postcard's form
//! length of the catalogue u32, its CRC-32 u32, magic and version, 8 bytes
//! ```
//!
//! Numbers are little-endian. A block is checked before anything of it is used, so that a rotten byte is the disk's fault and
//! never the job's. The catalogue of the last run, which is the one under the attempt's plain name, says all that its readers
//! have to know: it appears at once with the run.

use std::mem;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::encode::{ENCODED_BYTES_MAX, encode_pair};
use super::location::{DataError, Location};
use super::object::ObjectWriter;
use crate::task::TaskError;

/// The last byte is the version of the form.
const MAGIC: [u8; 8] = *b"MRDRUN\0\x01";
/// Length and checksum, of a block and of the catalogue.
const HEADER_BYTES: usize = 8;
const TRAILER_BYTES: u64 = (HEADER_BYTES + MAGIC.len()) as u64;
/// A block ends when it has so many bytes: large enough for the checksum to be fast, small beside the buffers of a merge.
const BLOCK_BYTES: usize = 64 << 10;
/// One pair more than that.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + 2 * ENCODED_BYTES_MAX;
/// No catalogue is longer; it is read into memory.
const CATALOGUE_BYTES_MAX: u64 = 64 << 20;
/// What is read at first of the end of a run: nearly always all of its catalogue.
const CATALOGUE_BYTES_GUESS: u64 = 8 << 10;

/// Where a run is, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Its name, in the folder of the catalogue that names it.
    pub(crate) name: String,
    /// A segment for each partition.
    pub(crate) segments: Vec<Segment>,
}

/// A partition of a run.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    offset: u64,
    len: u64,
    /// How many pairs it has.
    pub(crate) records: u64,
}

/// Writes a run, partition by partition, each in the order of its keys.
pub(crate) struct RunWriter {
    location: Location,
    object: ObjectWriter,
    block: Vec<u8>,
    segments: Vec<Segment>,
    segment: Segment,
}

impl RunWriter {
    pub(crate) fn new(location: Location) -> Result<RunWriter, DataError> {
        let mut object = ObjectWriter::new(location.clone());
        object.append(&MAGIC)?;
        let segment = Segment { offset: object.written(), ..Segment::default() };
        Ok(RunWriter { location, object, block: Vec::new(), segments: Vec::new(), segment })
    }

    /// Adds a pair to the partition.
    pub(crate) fn push<K: Serialize, V: Serialize>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), TaskError> {
        encode_pair(key, value, &mut self.block)?;
        self.segment.records += 1;
        if self.block.len() >= BLOCK_BYTES {
            self.end_block()?;
        }
        Ok(())
    }

    /// Ends the partition; the next one begins.
    pub(crate) fn end_partition(&mut self) -> Result<(), DataError> {
        self.end_block()?;
        let offset = self.object.written();
        let mut segment = mem::replace(&mut self.segment, Segment { offset, ..Segment::default() });
        segment.len = offset - segment.offset;
        self.segments.push(segment);
        Ok(())
    }

    /// Commits the run, and with it the `earlier` ones of the attempt. Returns it, and how long it is in bytes.
    pub(crate) fn finish(mut self, earlier: &[Run]) -> Result<(Run, u64), DataError> {
        let name = self.location.file_name().to_owned();
        let run = Run { name, segments: mem::take(&mut self.segments) };
        let runs: Vec<&Run> = earlier.iter().chain([&run]).collect();
        let catalogue = postcard::to_stdvec(&runs).map_err(|error| DataError::Failed {
            place: self.location.name(),
            reason: format!("its catalogue cannot be written: {error}"),
        })?;
        if catalogue.len() as u64 > CATALOGUE_BYTES_MAX {
            let reason = "it has too many runs: use larger limits or smaller splits".to_owned();
            return Err(DataError::Failed { place: self.location.name(), reason });
        }
        self.object.append(&catalogue)?;
        self.object.append(&header(&catalogue))?;
        self.object.append(&MAGIC)?;
        Ok((run, self.object.finish()?))
    }

    fn end_block(&mut self) -> Result<(), DataError> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.object.append(&header(&self.block))?;
        self.object.append(&self.block)?;
        self.block.clear();
        Ok(())
    }
}

/// Reads which runs an attempt has written.
pub(crate) fn catalogue(last: &Location) -> Result<Vec<Run>, DataError> {
    let damaged = |reason| DataError::Damaged { place: last.name(), reason };
    let size = last.head()?.size;
    if size < TRAILER_BYTES {
        return Err(damaged("it ends early"));
    }
    let begin = size - size.min(CATALOGUE_BYTES_GUESS);
    let mut end = last.read_range(begin..size)?;
    let trailer = end.split_off(end.len() - HEADER_BYTES - MAGIC.len());
    if trailer[HEADER_BYTES..] != MAGIC {
        return Err(damaged("its end is none that this program writes"));
    }
    let (len, crc) = parse_header(&trailer);
    if len > CATALOGUE_BYTES_MAX || len > size - TRAILER_BYTES {
        return Err(damaged("its catalogue cannot be as long as it says"));
    }
    let catalogue = match (end.len() as u64).checked_sub(len) {
        Some(_) => end.slice(end.len() - as_usize(len)..),
        None => last.read_range(size - TRAILER_BYTES - len..size - TRAILER_BYTES)?,
    };
    if crc32fast::hash(&catalogue) != crc {
        return Err(damaged("the checksum of its catalogue is wrong"));
    }
    postcard::from_bytes(&catalogue).map_err(|_| damaged("its catalogue makes no sense"))
}

/// Reads the blocks of a segment.
pub(crate) struct Blocks {
    location: Location,
    /// What was not read yet.
    range: Range<u64>,
    /// What was read and not handed out.
    chunk: Bytes,
    read_bytes: u64,
}

impl Blocks {
    pub(crate) fn new(location: Location, segment: Segment, read_bytes: u64) -> Blocks {
        let range = segment.offset..segment.offset.saturating_add(segment.len);
        Blocks { location, range, chunk: Bytes::new(), read_bytes }
    }

    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    /// The next block, which is as it was written.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, DataError> {
        if self.chunk.is_empty() && self.range.is_empty() {
            return Ok(None);
        }
        let (len, crc) = parse_header(&self.take(HEADER_BYTES)?);
        if len > BLOCK_BYTES_MAX as u64 {
            return Err(self.damaged("a block cannot be as long as it says"));
        }
        let block = self.take(as_usize(len))?;
        if crc32fast::hash(&block) != crc {
            return Err(self.damaged("the checksum of a block is wrong"));
        }
        Ok(Some(block))
    }

    pub(crate) fn damaged(&self, reason: &'static str) -> DataError {
        DataError::Damaged { place: self.location.name(), reason }
    }

    /// A run that does not go so far was cut off: that is known from its size, since each store says it in another way.
    fn read(&self, range: Range<u64>) -> Result<Bytes, DataError> {
        let end = range.end;
        match self.location.read_range(range) {
            Err(DataError::Failed { .. }) if self.location.head()?.size < end => {
                Err(self.damaged("it ends early"))
            }
            read => read,
        }
    }

    fn take(&mut self, bytes: usize) -> Result<Bytes, DataError> {
        if let Some(missing) = bytes.checked_sub(self.chunk.len())
            && missing > 0
        {
            let left = self.range.end - self.range.start;
            if missing as u64 > left {
                return Err(self.damaged("it ends early"));
            }
            let until = self.range.start + left.min(self.read_bytes.max(missing as u64));
            let read = self.read(self.range.start..until)?;
            self.range.start = until;
            self.chunk = if self.chunk.is_empty() {
                read
            } else {
                let mut both = BytesMut::with_capacity(self.chunk.len() + read.len());
                both.extend_from_slice(&self.chunk);
                both.extend_from_slice(&read);
                both.freeze()
            };
        }
        Ok(self.chunk.split_to(bytes))
    }
}

impl Segment {
    /// How long it is, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.len
    }
}

fn header(payload: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    // Blocks and catalogues are far below 4 GiB.
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    header[..4].copy_from_slice(&len.to_le_bytes());
    header[4..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    header
}

/// Length and checksum.
fn parse_header(bytes: &[u8]) -> (u64, u32) {
    let number = |at: usize| {
        let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_le_bytes(bytes.unwrap_or_default())
    };
    (u64::from(number(0)), number(4))
}

/// For lengths that were compared with a bound.
fn as_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
