//! Reads the log when a node starts, and tells a torn tail from damage.
//!
//! One write is out at a time, so a crash tears the very last record at most: a bad record in the last segment
//! with nothing but zeroes after it is a torn tail and is cut. Bad bytes anywhere else, or before something that
//! is whole, were good once: that is damage, and nothing is cut (Alagappan, FAST '18).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use raft_core::LogIndex;

use super::super::StorageError;
use super::super::data_dir::Owner;
use super::super::fs::{File, FileSystem};
use super::super::log_state::LogState;
use super::positions::Positions;
use super::record::{self, Header, Meta, Record, decode_record};
use super::segment::{self, RECORDS_OFFSET, SegmentHeader, read_up_to};

/// The log is read in pieces of this size, or of one longer record.
const WINDOW_BYTES: usize = 256 * 1024;

/// What the log holds, and its last segment, ready to be appended to.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) state: LogState,
    pub(super) positions: Positions,
    pub(super) oldest_segment: u64,
    pub(super) segment: SegmentHeader,
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    /// The end of the last record, in bytes.
    pub(super) end: u64,
    /// The length of the file, in bytes: zeroes after `end`.
    pub(super) allocated: u64,
    pub(super) next_sequence: u64,
}

/// Reads the log in `dir`, cuts a torn tail, and makes everything that it found durable.
pub(super) fn recover(
    fs: &dyn FileSystem,
    dir: &Path,
    owner: &Owner,
) -> Result<Recovered, StorageError> {
    let numbers = segments(fs, dir)?;
    // What a crash interrupted may have names that are not durable yet.
    fs.sync_dir(dir).map_err(StorageError::io("sync", dir))?;
    let mut replay = Replay { state: None, positions: Positions::new(), next_sequence: None };
    let mut last = None;
    for number in &numbers {
        let path = segment::path(dir, *number);
        let file = fs.open(&path).map_err(StorageError::io("open", &path))?;
        let header = segment::read_header(file.as_ref(), &path, owner, *number)?;
        let is_last = Some(number) == numbers.last();
        let tail = replay.segment(file.as_ref(), &path, &header, is_last)?;
        last = Some((header, file, path, tail));
    }
    let first_path = segment::path(dir, numbers.first().copied().unwrap_or(1));
    let (Some((segment, file, path, tail)), Some(&oldest_segment), Some(state)) =
        (last, numbers.first(), replay.state)
    else {
        return Err(StorageError::damaged(&first_path, 0, "the log is missing"));
    };
    let (positions, next_sequence) = (replay.positions, replay.next_sequence.unwrap_or(0));
    let start = state.start.last.index;
    let complete = state.terms.last().index == start
        || positions.first().is_some_and(|extent| extent.first <= start.next());
    if !complete {
        let problem = format!("the log starts after entry {start}, which must be in earlier files");
        return Err(StorageError::damaged(&first_path, 0, &problem));
    }
    let end = tail.end;
    let allocated = settle(file.as_ref(), &path, &tail)?;
    Ok(Recovered {
        state,
        positions,
        oldest_segment,
        segment,
        file,
        path,
        end,
        allocated,
        next_sequence,
    })
}

/// The numbers of the segments, without a gap. Removes those that were never finished.
fn segments(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<u64>, StorageError> {
    let mut numbers: Vec<u64> = Vec::new();
    for name in fs.list(dir).map_err(StorageError::io("list", dir))? {
        if segment::is_temporary(&name) {
            let path = dir.join(name);
            fs.remove(&path).map_err(StorageError::io("remove", &path))?;
        } else if let Some(number) = segment::number(&name) {
            if let Some(before) = numbers.last()
                && before.checked_add(1) != Some(number)
            {
                let missing = segment::path(dir, before.saturating_add(1));
                return Err(StorageError::damaged(&missing, 0, "the file is missing"));
            }
            numbers.push(number);
        }
    }
    Ok(numbers)
}

/// Where the records of the last segment end.
#[derive(Debug)]
struct Tail {
    /// The start of the last record, in bytes.
    last_record: u64,
    /// The end of the last record, in bytes.
    end: u64,
    /// The length of the file, in bytes.
    file_bytes: u64,
    /// Whether a torn record follows.
    torn: bool,
}

/// Makes what was found durable: it may have been in the memory of the system only, and after a failed sync the
/// system takes it for clean and does not write it again. So the last record is written again.
/// Returns the new length of the file.
fn settle(file: &dyn File, path: &Path, tail: &Tail) -> Result<u64, StorageError> {
    if tail.torn {
        tracing::warn!(path = %path.display(), offset = tail.end, "cut a torn tail off the log");
        file.set_len(tail.end).map_err(StorageError::io("cut", path))?;
    }
    let mut window = Window::new(file, path, tail.end);
    let record = window.read(tail.last_record, tail.end - tail.last_record)?;
    file.write_at(record, tail.last_record).map_err(StorageError::io("write", path))?;
    file.sync().map_err(StorageError::io("sync", path))?;
    Ok(if tail.torn { tail.end } else { tail.file_bytes })
}

/// The log as far as it was read.
struct Replay {
    state: Option<LogState>,
    positions: Positions,
    next_sequence: Option<u64>,
}

impl Replay {
    /// Reads one segment.
    fn segment(
        &mut self,
        file: &dyn File,
        path: &Path,
        header: &SegmentHeader,
        is_last: bool,
    ) -> Result<Tail, StorageError> {
        let expected = *self.next_sequence.get_or_insert(header.first_sequence);
        if header.first_sequence != expected {
            let problem = format!(
                "it begins with record {}, but the file before it ends before record {expected}",
                header.first_sequence
            );
            return Err(StorageError::damaged(path, 48, &problem));
        }
        let file_bytes = file.len_bytes().map_err(StorageError::io("read", path))?;
        let mut window = Window::new(file, path, file_bytes);
        let mut tail =
            Tail { last_record: RECORDS_OFFSET, end: RECORDS_OFFSET, file_bytes, torn: false };
        loop {
            let offset = tail.end;
            let is_first = offset == RECORDS_OFFSET;
            match self.next_record(&mut window, header, offset)? {
                Ok((bytes, record)) => {
                    self.apply(header.number, offset, bytes, record, is_first)
                        .map_err(|problem| StorageError::damaged(path, offset, &problem))?;
                    tail.last_record = offset;
                    tail.end = offset + bytes;
                }
                Err(bad) => {
                    if !is_first && window.is_zero_from(offset)? {
                        return Ok(tail);
                    }
                    // The first record was durable before the segment got its name.
                    if is_first || !is_last {
                        return Err(StorageError::damaged(path, bad.offset, &bad.problem));
                    }
                    self.check_torn(&mut window, header, &bad)?;
                    tail.torn = true;
                    return Ok(tail);
                }
            }
        }
    }

    /// The record at `offset` with its length, or what is wrong there.
    fn next_record(
        &self,
        window: &mut Window<'_>,
        segment: &SegmentHeader,
        offset: u64,
    ) -> Result<Result<(u64, Record), Bad>, StorageError> {
        let bad = |offset, problem: String, end| Ok(Err(Bad { offset, problem, end }));
        let left = window.file_bytes.saturating_sub(offset);
        let front = window.read(offset, left.min(record::HEADER_BYTES as u64))?;
        let Some(header) = Header::decode(front, segment.salt) else {
            return bad(offset, "there is no whole record".to_owned(), None);
        };
        if Some(header.sequence) != self.next_sequence {
            let problem = format!("there is record {}, out of sequence", header.sequence);
            return bad(offset, problem, None);
        }
        let bytes = header.record_bytes();
        let end = Some(offset.saturating_add(bytes));
        if bytes > left {
            return bad(offset, "the file ends within a record".to_owned(), end);
        }
        match decode_record(&header, window.read(offset, bytes)?) {
            Ok(record) => Ok(Ok((bytes, record))),
            Err((within, problem)) => bad(offset + within, problem, end),
        }
    }

    /// Whether the bad record is the last thing that was written.
    fn check_torn(
        &self,
        window: &mut Window<'_>,
        segment: &SegmentHeader,
        bad: &Bad,
    ) -> Result<(), StorageError> {
        let damaged = |problem: &str| {
            let problem = format!("{}, and {problem}", bad.problem);
            Err(StorageError::damaged(window.path, bad.offset, &problem))
        };
        if let Some(end) = bad.end.filter(|end| *end < window.file_bytes)
            && !window.is_zero_from(end)?
        {
            return damaged("more was written after it");
        }
        let expected = self.next_sequence.unwrap_or(0);
        let mut offset = bad.offset;
        while offset + (record::HEADER_BYTES as u64) <= window.file_bytes {
            let bytes = (window.file_bytes - offset).min(WINDOW_BYTES as u64);
            let piece = window.read(offset, bytes)?;
            for candidate in piece.windows(record::HEADER_BYTES) {
                if let Some(header) = Header::decode(candidate, segment.salt)
                    && header.sequence > expected
                {
                    let problem = format!("record {} after it is whole", header.sequence);
                    return damaged(&problem);
                }
            }
            offset += bytes - record::HEADER_BYTES as u64 + 1;
        }
        Ok(())
    }

    fn apply(
        &mut self,
        segment: u64,
        offset: u64,
        bytes: u64,
        record: Record,
        is_first: bool,
    ) -> Result<(), String> {
        let Record { meta, entries, configurations, offsets } = record;
        self.next_sequence = self.next_sequence.and_then(|sequence| sequence.checked_add(1));
        let (reset, compact, hard_state) = match meta {
            Meta::State(stored) => {
                return match &self.state {
                    _ if !is_first => Err("the state is not in the first record".to_owned()),
                    Some(state) if *state != stored => {
                        Err("the state is not what the files before it add up to".to_owned())
                    }
                    _ => {
                        self.state = Some(stored);
                        Ok(())
                    }
                };
            }
            Meta::Write { reset, compact, hard_state } => (reset, compact, hard_state),
        };
        let Some(state) = self.state.as_mut().filter(|_| !is_first) else {
            return Err("the first record is not the state".to_owned());
        };
        let first: Option<LogIndex> = entries.first().map(|id| id.index);
        if let Some(snapshot) = reset {
            state.reset(&snapshot);
            self.positions.clear();
        }
        if let Some(snapshot) = compact {
            let last = state.terms.last().index;
            state.compact(&snapshot)?;
            self.positions.compact(snapshot.last.index, last);
        }
        if let Some(first) = entries.first() {
            if first.index <= state.terms.last().index {
                self.positions.truncate(first.index);
            }
            state.truncate(*first)?;
        }
        for id in entries {
            state.append(id)?;
        }
        for (index, configuration) in configurations {
            state.configure(index, configuration);
        }
        if let Some(hard_state) = hard_state {
            state.set_hard_state(hard_state)?;
        }
        self.positions.append(segment, offset, bytes, first, &offsets);
        Ok(())
    }
}

/// A place where there is no good record.
struct Bad {
    offset: u64,
    problem: String,
    /// The end of the record, where its header is good, in bytes.
    end: Option<u64>,
}

/// A file, read in pieces.
struct Window<'a> {
    file: &'a dyn File,
    path: &'a Path,
    file_bytes: u64,
    offset: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn File, path: &'a Path, file_bytes: u64) -> Window<'a> {
        Window { file, path, file_bytes, offset: 0, bytes: Vec::new() }
    }

    /// `len` bytes at `offset`, all of which lie within the file.
    fn read(&mut self, offset: u64, len: u64) -> Result<&[u8], StorageError> {
        let end = offset + len;
        if offset < self.offset || end > self.offset + self.bytes.len() as u64 {
            let wanted = len.max(WINDOW_BYTES as u64).min(self.file_bytes.saturating_sub(offset));
            let wanted = usize::try_from(wanted).map_err(|_| {
                StorageError::damaged(self.path, offset, "the record does not fit into memory")
            })?;
            self.bytes.resize(wanted, 0);
            let read = read_up_to(self.file, &mut self.bytes, offset)
                .map_err(StorageError::io("read", self.path))?;
            self.bytes.truncate(read);
            self.offset = offset;
        }
        let start = usize::try_from(offset - self.offset).unwrap_or(usize::MAX);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.bytes.get(start..start.saturating_add(len)).ok_or_else(|| {
            StorageError::damaged(self.path, offset, "the file ended while it was read")
        })
    }

    /// Whether there is nothing but zeroes from `offset` to the end of the file.
    fn is_zero_from(&mut self, mut offset: u64) -> Result<bool, StorageError> {
        while offset < self.file_bytes {
            let bytes = (self.file_bytes - offset).min(WINDOW_BYTES as u64);
            if self.read(offset, bytes)?.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            offset += bytes;
        }
        Ok(true)
    }
}
