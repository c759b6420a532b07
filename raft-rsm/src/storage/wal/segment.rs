//! One file of the log.
//!
//! ```text
//! header, 64 bytes, little-endian
//!   0  magic                   8
//!   8  format version          4
//!  12  checksum                4   over everything from byte 16 on
//!  16  number of the segment   8   one more than that of the segment before
//!  24  cluster                 8
//!  32  node                    8
//!  40  incarnation             8
//!  48  sequence of the first record 8
//!  56  salt                    8
//! records, the first of which is the state that all earlier segments add up to
//! zeroes, written ahead
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Buf;
use raft_core::NodeId;

use super::super::StorageError;
use super::super::data_dir::Owner;
use super::super::fs::{File, FileSystem};
use super::super::log_state::LogState;
use super::record::{TooLong, encode_state};
use crate::identity::{ClusterId, Identity, Incarnation};
use crate::runtime::Runtime;

/// Where the first record begins, in bytes.
pub(super) const RECORDS_OFFSET: u64 = HEADER_BYTES as u64;

const HEADER_BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"raft-wal";
const FORMAT_VERSION: u32 = 4;
const SUFFIX: &str = ".log";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// What a segment says about itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: u64,
    pub(super) first_sequence: u64,
    pub(super) salt: u64,
}

/// A new segment, durable, with its first record in it.
#[derive(Debug)]
pub(super) struct NewSegment {
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    pub(super) salt: u64,
    /// The end of the first record, in bytes.
    pub(super) end: u64,
}

/// The file of a segment.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    // As many digits as the greatest number has, so that names sort as numbers do.
    dir.join(format!("{number:020}{SUFFIX}"))
}

/// The number of the segment in the file with this name, if it is one.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let number = digits.parse().ok()?;
    (format!("{number:020}") == digits).then_some(number)
}

/// Whether a file with this name is a segment that was never finished.
pub(super) fn is_temporary(name: &str) -> bool {
    name.strip_suffix(TEMPORARY_SUFFIX)
        .is_some_and(|stem| number(&format!("{stem}{SUFFIX}")).is_some())
}

/// Creates a segment that begins with `state`. It is durable, and so is its name, before it is used: a crash
/// leaves a whole segment or none.
///
/// # Errors
/// There may be a temporary file, or the segment.
pub(super) fn create(
    fs: &dyn FileSystem,
    runtime: &dyn Runtime,
    dir: &Path,
    identity: &Identity,
    (number, first_sequence): (u64, u64),
    state: &LogState,
) -> Result<NewSegment, StorageError> {
    let path = path(dir, number);
    let temporary = path.with_extension(&TEMPORARY_SUFFIX[1..]);
    let salt = runtime.random();
    let mut bytes = Vec::new();
    encode_state(state, first_sequence, salt, &mut bytes).map_err(|TooLong| {
        StorageError::Inconsistent { problem: "it is longer than 4 GiB".to_owned() }
    })?;
    let header = encode_header(identity, &SegmentHeader { number, first_sequence, salt });
    bytes.splice(..0, header);
    let file = fs.create(&temporary).map_err(StorageError::io("create", &temporary))?;
    file.write_at(&bytes, 0).map_err(StorageError::io("write", &temporary))?;
    file.sync().map_err(StorageError::io("sync", &temporary))?;
    fs.rename(&temporary, &path).map_err(StorageError::io("rename", &temporary))?;
    fs.sync_dir(dir).map_err(StorageError::io("sync", dir))?;
    Ok(NewSegment { file, path, salt, end: bytes.len() as u64 })
}

fn encode_header(identity: &Identity, header: &SegmentHeader) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    let fields = [
        header.number,
        identity.cluster.0,
        identity.node.0,
        identity.incarnation.0,
        header.first_sequence,
        header.salt,
    ];
    for (place, field) in bytes[16..].chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    let checksum = crc32fast::hash(&bytes[16..]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Reads what the segment with this number says about itself.
///
/// # Errors
/// It is damaged, of a newer format, or from elsewhere.
pub(super) fn read_header(
    file: &dyn File,
    path: &Path,
    owner: &Owner,
    number: u64,
) -> Result<SegmentHeader, StorageError> {
    let mut bytes = [0; HEADER_BYTES];
    let read = read_up_to(file, &mut bytes, 0).map_err(StorageError::io("read", path))?;
    let damaged = |offset, problem: &str| StorageError::damaged(path, offset, problem);
    if read < HEADER_BYTES || !bytes.starts_with(&MAGIC) {
        return Err(damaged(0, "it does not begin as a segment of the log does"));
    }
    let mut front = &bytes[8..16];
    let version = front.get_u32_le();
    if version != FORMAT_VERSION {
        return Err(StorageError::other_format(path, version, FORMAT_VERSION));
    }
    if version == 0 || front.get_u32_le() != crc32fast::hash(&bytes[16..]) {
        return Err(damaged(8, "the checksum of the header is wrong"));
    }
    let mut fields = &bytes[16..];
    let mut field = || fields.get_u64_le();
    if field() != number {
        return Err(damaged(16, "the number of the segment is not that of the file's name"));
    }
    let identity = Identity {
        cluster: ClusterId(field()),
        node: NodeId(field()),
        incarnation: Incarnation(field()),
    };
    if !owner.was(&identity) {
        return Err(StorageError::Refused {
            path: path.to_owned(),
            problem: "it is the log of another data directory; put the own one back".to_owned(),
        });
    }
    Ok(SegmentHeader { number, first_sequence: field(), salt: field() })
}

/// Reads until `data` is full or the file ends, and returns how much it read, in bytes.
pub(in super::super) fn read_up_to(
    file: &dyn File,
    data: &mut [u8],
    offset: u64,
) -> std::io::Result<usize> {
    let mut done = 0;
    while done < data.len() {
        match file.read_at(&mut data[done..], offset + done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}
