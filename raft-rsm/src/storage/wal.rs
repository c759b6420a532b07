//! The write-ahead log: one record a write, in files of bounded size.

mod positions;
mod record;
mod recovery;
mod segment;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use raft_core::{Entry, LogIndex, Write};

use self::positions::{Extent, Positions};
use self::record::{
    ENTRY_CHECKSUM_BYTES, HEADER_BYTES, Header, TooLong, check_entry, encode_write,
};
use self::segment::NewSegment;
pub(super) use self::segment::read_up_to;
use super::StorageError;
use super::data_dir::Owner;
use super::fs::{File, FileSystem};
use super::log_state::LogState;
use crate::entry_codec::decode_entry;
use crate::identity::Identity;
use crate::runtime::Runtime;

/// The buffer of a batch that was larger is given back.
const BUFFER_KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Zeroes are written ahead where at least this many records like the last one fit into them: with fewer, it is
/// slower than without.
const PREALLOCATE_RECORDS_MIN: u64 = 4;

/// How the log uses the disk.
#[derive(Copy, Clone, Debug)]
pub(super) struct WalOptions {
    /// A segment that is longer than this is the last one no more.
    pub(super) segment_bytes: u64,
    /// Zeroes are written this far ahead.
    pub(super) preallocate_bytes: u64,
}

/// The log of one node.
pub(super) struct Wal {
    dir: PathBuf,
    owner: Owner,
    fs: Arc<dyn FileSystem>,
    runtime: Arc<dyn Runtime>,
    options: WalOptions,
    /// Held while a write is on its way to the disk.
    writer: Mutex<Writer>,
    /// Held for a moment: what reads need.
    view: Mutex<View>,
}

struct Writer {
    state: LogState,
    file: Arc<dyn File>,
    path: PathBuf,
    segment: u64,
    oldest_segment: u64,
    salt: u64,
    /// The end of the last record, in bytes.
    end: u64,
    /// The length of the file, in bytes: zeroes after `end`.
    allocated: u64,
    next_sequence: u64,
    /// Whether a write has failed, or has not come back.
    failed: bool,
    buffer: Vec<u8>,
    offsets: Vec<u32>,
    zeroes: Vec<u8>,
}

/// What is durable.
struct View {
    start: LogIndex,
    last: LogIndex,
    positions: Positions,
}

impl Wal {
    /// Creates the log of a node that never ran, in an empty directory.
    pub(super) fn create(
        fs: &dyn FileSystem,
        runtime: &dyn Runtime,
        dir: &Path,
        identity: &Identity,
        state: &LogState,
    ) -> Result<(), StorageError> {
        segment::create(fs, runtime, dir, identity, (1, 1), state).map(|_| ())
    }

    /// Reads the log in `dir`.
    pub(super) fn open(
        fs: Arc<dyn FileSystem>,
        runtime: Arc<dyn Runtime>,
        dir: PathBuf,
        owner: Owner,
        options: WalOptions,
    ) -> Result<Wal, StorageError> {
        let recovered = recovery::recover(fs.as_ref(), &dir, &owner)?;
        let view = View {
            start: recovered.state.start.last.index,
            last: recovered.state.terms.last().index,
            positions: recovered.positions,
        };
        let writer = Writer {
            state: recovered.state,
            file: recovered.file,
            path: recovered.path,
            segment: recovered.segment.number,
            oldest_segment: recovered.oldest_segment,
            salt: recovered.segment.salt,
            end: recovered.end,
            allocated: recovered.allocated,
            next_sequence: recovered.next_sequence,
            failed: false,
            buffer: Vec::new(),
            offsets: Vec::new(),
            zeroes: vec![0; usize::try_from(options.preallocate_bytes).unwrap_or(0)],
        };
        let (writer, view) = (Mutex::new(writer), Mutex::new(view));
        Ok(Wal { dir, owner, fs, runtime, options, writer, view })
    }

    /// What the log holds.
    pub(super) fn state(&self) -> Result<LogState, StorageError> {
        let writer = lock(&self.writer);
        if writer.failed { Err(StorageError::Stopped) } else { Ok(writer.state.clone()) }
    }

    /// The size of what is not compacted, in bytes.
    pub(super) fn live_bytes(&self) -> u64 {
        lock(&self.view).positions.bytes()
    }

    /// Appends `write`, and returns when it is durable.
    pub(super) fn write(&self, write: &Write) -> Result<(), StorageError> {
        let mut guard = lock(&self.writer);
        let writer = &mut *guard;
        if writer.failed {
            return Err(StorageError::Stopped);
        }
        // Whatever fails from here on, even by a panic, is the end: nobody knows then what the disk
        // holds, and a later sync does not tell (Rebello, ATC '20).
        writer.failed = true;
        if writer.end >= self.options.segment_bytes {
            self.roll(writer)?;
        }
        let before = writer.state.terms.last().index;
        writer.state.apply(write).map_err(|problem| StorageError::Inconsistent { problem })?;
        let offset = writer.end;
        let bytes = writer.append(write, self.options.segment_bytes)?;
        self.publish(writer, write, before, offset, bytes);
        if write.reset.is_some() || write.compact.is_some() {
            self.remove_dead_segments(writer)?;
        }
        writer.failed = false;
        Ok(())
    }

    /// Starts a new segment.
    fn roll(&self, writer: &mut Writer) -> Result<(), StorageError> {
        let number = writer.segment + 1;
        let NewSegment { file, path, salt, end } = segment::create(
            self.fs.as_ref(),
            self.runtime.as_ref(),
            &self.dir,
            &self.owner.identity,
            (number, writer.next_sequence),
            &writer.state,
        )?;
        writer.next_sequence += 1;
        writer.file = file;
        writer.path = path;
        writer.segment = number;
        writer.salt = salt;
        writer.end = end;
        writer.allocated = end;
        Ok(())
    }

    /// Shows to reads what is durable now.
    fn publish(&self, writer: &Writer, write: &Write, before: LogIndex, offset: u64, bytes: u64) {
        let mut view = lock(&self.view);
        let mut last = before;
        if let Some(snapshot) = &write.reset {
            view.positions.clear();
            last = snapshot.last.index;
        }
        if let Some(snapshot) = &write.compact {
            view.positions.compact(snapshot.last.index, last);
        }
        let first = write.entries.first().map(|entry| entry.id.index);
        if let Some(first) = first.filter(|first| *first <= last) {
            view.positions.truncate(first);
        }
        view.positions.append(writer.segment, offset, bytes, first, &writer.offsets);
        view.start = writer.state.start.last.index;
        view.last = writer.state.terms.last().index;
    }

    /// Removes the segments before the first one that holds an entry of the log. What else they hold is
    /// in the first record of each later one. Oldest first, each durably: whatever a crash leaves has no gap.
    fn remove_dead_segments(&self, writer: &mut Writer) -> Result<(), StorageError> {
        let first = lock(&self.view).positions.first().map_or(writer.segment, |e| e.segment);
        while writer.oldest_segment < first {
            let path = segment::path(&self.dir, writer.oldest_segment);
            self.fs.remove(&path).map_err(StorageError::io("remove", &path))?;
            self.fs.sync_dir(&self.dir).map_err(StorageError::io("sync", &self.dir))?;
            writer.oldest_segment += 1;
        }
        Ok(())
    }

    /// See [`super::Storage::read`].
    pub(super) fn read(
        &self,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
    ) -> Result<Option<Vec<Entry>>, StorageError> {
        // All extents at once: a truncation between two of them would mix two logs.
        let Some((extents, end)) = self.extents(first, last, bytes_max) else { return Ok(None) };
        let mut reader = Reader { next: first, bytes: 0, bytes_max, read: Vec::new() };
        let mut open: Option<OpenSegment> = None;
        for (extent, extent_end) in extents {
            let segment = match open.take() {
                Some(same) if same.number == extent.segment => open.insert(same),
                _ => match self.open_segment(extent.segment)? {
                    Some(segment) => open.insert(segment),
                    // It was removed meanwhile: what was read so far is good.
                    None => break,
                },
            };
            let end = extent_end.map_or(end, |extent_end| extent_end.min(end));
            if !reader.extent(segment, &extent, end)? {
                break;
            }
        }
        Ok((!reader.read.is_empty()).then_some(reader.read))
    }

    /// The extents that hold `first` up to `last`, or as many as `bytes_max` needs, and the index after
    /// the last entry wanted. `None`: the log does not hold `first`.
    #[expect(clippy::type_complexity, reason = "used once, above")]
    fn extents(
        &self,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
    ) -> Option<(Vec<(Extent, Option<LogIndex>)>, LogIndex)> {
        let view = lock(&self.view);
        if first <= view.start || first > last.min(view.last) {
            return None;
        }
        let end = last.min(view.last).next();
        let mut extents = Vec::new();
        let mut bytes = 0_u64;
        for (extent, extent_end) in view.positions.from(first) {
            // With its share of a record, an entry takes less than twice of what it costs on the disk,
            // so this is enough; and of the first extent, only a part may be wanted.
            if extent.first >= end || bytes / 2 > bytes_max as u64 {
                break;
            }
            if !extents.is_empty() {
                bytes += extent.bytes;
            }
            extents.push((extent, extent_end));
        }
        Some((extents, end))
    }

    /// Opens a segment. `None`: it is gone, because all in it is compacted.
    fn open_segment(&self, number: u64) -> Result<Option<OpenSegment>, StorageError> {
        let path = segment::path(&self.dir, number);
        match self.fs.open(&path) {
            Ok(file) => {
                let header = segment::read_header(file.as_ref(), &path, &self.owner, number)?;
                Ok(Some(OpenSegment { number, path, file, salt: header.salt }))
            }
            Err(error) => {
                let live = lock(&self.view).positions.first().map(|extent| extent.segment);
                if error.kind() == io::ErrorKind::NotFound && live.is_none_or(|live| number < live)
                {
                    return Ok(None);
                }
                Err(StorageError::io("open", &path)(error))
            }
        }
    }
}

/// A segment that is being read.
struct OpenSegment {
    number: u64,
    path: PathBuf,
    file: Arc<dyn File>,
    salt: u64,
}

impl Writer {
    /// Appends one record and makes it durable. Returns its length in bytes.
    fn append(&mut self, write: &Write, segment_bytes: u64) -> Result<u64, StorageError> {
        self.buffer.clear();
        self.offsets.clear();
        encode_write(write, self.next_sequence, self.salt, &mut self.buffer, &mut self.offsets)
            .map_err(|TooLong| StorageError::Inconsistent {
                problem: "it is longer than 4 GiB".to_owned(),
            })?;
        let bytes = self.buffer.len() as u64;
        let end = self.end + bytes;
        let io = |action| StorageError::io(action, &self.path);
        self.file.write_at(&self.buffer, self.end).map_err(io("write"))?;
        if end > self.allocated {
            self.allocated = end;
            // A sync after an append that extends the file costs a commit of the file system's journal,
            // too; one that overwrites zeroes does not. For a long record that commit matters less than
            // writing its place twice.
            let ahead = (self.zeroes.len() as u64).min(segment_bytes.saturating_sub(end));
            if bytes <= ahead / PREALLOCATE_RECORDS_MIN
                && let Some(zeroes) = usize::try_from(ahead).ok().and_then(|n| self.zeroes.get(..n))
            {
                self.file.write_at(zeroes, end).map_err(io("write"))?;
                self.allocated = end + ahead;
            }
        }
        self.file.sync().map_err(io("sync"))?;
        self.end = end;
        self.next_sequence += 1;
        if self.buffer.capacity() > BUFFER_KEPT_BYTES_MAX {
            self.buffer = Vec::new();
        }
        if self.offsets.capacity() > BUFFER_KEPT_BYTES_MAX / size_of::<u32>() {
            self.offsets.shrink_to(0);
        }
        Ok(bytes)
    }
}

/// Collects entries from one extent after the other.
struct Reader {
    next: LogIndex,
    bytes: usize,
    bytes_max: usize,
    read: Vec<Entry>,
}

impl Reader {
    /// Adds the entries of one extent that are before `end`. Returns whether there is room for more.
    fn extent(
        &mut self,
        segment: &OpenSegment,
        extent: &Extent,
        end: LogIndex,
    ) -> Result<bool, StorageError> {
        let OpenSegment { number: _, path, file, salt } = segment;
        let damaged = |offset: usize, problem: &str| {
            StorageError::damaged(path, extent.offset + offset as u64, problem)
        };
        let len = usize::try_from(extent.bytes)
            .map_err(|_| damaged(0, "the entry does not fit into memory"))?;
        let mut data = vec![0; len];
        let read = read_up_to(file.as_ref(), &mut data, extent.offset)
            .map_err(StorageError::io("read", path))?;
        if read < len {
            return Err(damaged(read, "the file is shorter than it was"));
        }
        let data = Bytes::from(data);
        let mut offset = 0;
        let mut record_end = if extent.whole_records { 0 } else { len };
        while offset < len && self.next < end {
            if offset == record_end {
                let front = data[offset..].get(..HEADER_BYTES).unwrap_or_default();
                let header = Header::decode(front, *salt)
                    .ok_or_else(|| damaged(offset, "the header of a record is damaged"))?;
                let within = |bytes: u64| {
                    let end = usize::try_from(bytes).ok().and_then(|n| offset.checked_add(n));
                    end.filter(|end| *end <= len)
                        .ok_or_else(|| damaged(offset, "a record is longer than it was"))
                };
                record_end = within(header.record_bytes())?;
                offset = within(header.entries_offset())?;
                continue;
            }
            let (id, bytes) = check_entry(&data[offset..record_end])
                .map_err(|problem| damaged(offset, &problem))?;
            if id.index >= self.next {
                if id.index > self.next {
                    return Err(damaged(offset, &format!("entry {} is missing", self.next)));
                }
                let mut input = data.slice(offset + ENTRY_CHECKSUM_BYTES..offset + bytes);
                let entry = decode_entry(&mut input)
                    .map_err(|error| damaged(offset, &error.to_string()))?;
                self.bytes = self.bytes.saturating_add(entry.cost_bytes());
                if self.bytes > self.bytes_max && !self.read.is_empty() {
                    return Ok(false);
                }
                self.read.push(entry);
                self.next = self.next.next();
            }
            offset += bytes;
        }
        if self.next < end && self.read.is_empty() {
            return Err(damaged(0, &format!("entry {} is missing", self.next)));
        }
        Ok(true)
    }
}

/// What a thread that panicked under a lock leaves is whole, or marked as failed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
