//! One snapshot as a file.
//!
//! ```text
//! blocks of 64 KiB of the image, the last one shorter, each with a checksum (4) after it
//! meta: SnapshotMeta by postcard
//! trailer, 32 bytes, little-endian
//!   0  magic              8
//!   8  format version     4
//!  12  checksum           4   over the meta and everything from byte 16 on
//!  16  length of the image 8
//!  24  length of the meta  8
//! ```
//!
//! What describes the image comes last, since its length is known last, and nothing is written twice.
//! The checksum of a block covers its number, so that a block in a wrong place is noticed.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Buf;
use raft_core::{EntryId, SnapshotMeta};

use super::super::fs::File;
use super::super::wal::read_up_to;
use super::super::{SnapshotReader, StorageError};

const BLOCK_BYTES: usize = 64 * 1024;
const CHECKSUM_BYTES: usize = 4;
const MAGIC: [u8; 8] = *b"raftsnap";
const FORMAT_VERSION: u32 = 2;
const TRAILER_BYTES: usize = 32;
/// Longer than the names of any cluster's members; beyond it the file is damaged.
const META_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How many bytes are written between two syncs: a sync at the end of a large image alone would hold up
/// the log's own syncs for as long as all of it takes.
const SYNC_BYTES: u64 = 8 * 1024 * 1024;

fn block_checksum(number: u64, data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(data);
    hasher.finalize()
}

fn meta_checksum(meta: &[u8], lengths: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(meta);
    hasher.update(lengths);
    hasher.finalize()
}

/// Where a block begins, or would begin, in bytes.
fn block_offset(number: u64) -> u64 {
    number.saturating_mul((BLOCK_BYTES + CHECKSUM_BYTES) as u64)
}

/// The length of all blocks of an image, checksums included, in bytes.
fn blocks_bytes(image_bytes: u64) -> u64 {
    let blocks = image_bytes.div_ceil(BLOCK_BYTES as u64);
    image_bytes.saturating_add(blocks.saturating_mul(CHECKSUM_BYTES as u64))
}

/// Writes an image.
#[derive(Debug)]
pub(super) struct ImageWriter {
    file: Arc<dyn File>,
    path: PathBuf,
    meta: SnapshotMeta,
    image_bytes: u64,
    /// What is in the file, in bytes.
    written: u64,
    synced: u64,
    /// The block that is not full yet.
    block: Vec<u8>,
    /// A part of the image is lost.
    failed: bool,
}

impl ImageWriter {
    pub(super) fn new(file: Arc<dyn File>, path: PathBuf, meta: &SnapshotMeta) -> ImageWriter {
        ImageWriter {
            file,
            path,
            meta: meta.clone(),
            image_bytes: 0,
            written: 0,
            synced: 0,
            block: Vec::with_capacity(BLOCK_BYTES + CHECKSUM_BYTES),
            failed: false,
        }
    }

    /// Adds the front of `data` to the image, and returns how much of it, in bytes.
    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::Error::other("an earlier part of the snapshot could not be written"));
        }
        let taken = data.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&data[..taken]);
        self.image_bytes += taken as u64;
        if self.block.len() == BLOCK_BYTES {
            self.write_block()?;
        }
        Ok(taken)
    }

    fn write_block(&mut self) -> io::Result<()> {
        self.failed = true;
        let number = self.image_bytes.saturating_sub(1) / BLOCK_BYTES as u64;
        let checksum = block_checksum(number, &self.block);
        self.block.extend_from_slice(&checksum.to_le_bytes());
        self.file.write_at(&self.block, block_offset(number))?;
        self.written += self.block.len() as u64;
        self.block.clear();
        if self.written - self.synced >= SYNC_BYTES {
            self.file.sync()?;
            self.synced = self.written;
        }
        self.failed = false;
        Ok(())
    }

    /// Makes the whole file durable; its name is another matter.
    pub(super) fn finish(mut self) -> Result<(), StorageError> {
        let path = self.path.clone();
        if self.failed {
            return Err(StorageError::Stopped);
        }
        if !self.block.is_empty() {
            self.write_block().map_err(StorageError::io("write", &path))?;
        }
        let mut bytes = postcard::to_stdvec(&self.meta)
            .map_err(|error| StorageError::io("write", &path)(io::Error::other(error)))?;
        let meta_bytes = bytes.len();
        let mut trailer = [0; TRAILER_BYTES];
        trailer[0..8].copy_from_slice(&MAGIC);
        trailer[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        trailer[16..24].copy_from_slice(&self.image_bytes.to_le_bytes());
        trailer[24..32].copy_from_slice(&(meta_bytes as u64).to_le_bytes());
        let checksum = meta_checksum(&bytes, &trailer[16..]);
        trailer[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(&trailer);
        self.file.write_at(&bytes, self.written).map_err(StorageError::io("write", &path))?;
        self.file.sync().map_err(StorageError::io("sync", &path))
    }
}

/// Reads an image, and verifies each block as it comes.
#[derive(Debug)]
pub(super) struct ImageReader {
    file: Arc<dyn File>,
    path: PathBuf,
    meta: SnapshotMeta,
    image_bytes: u64,
    position: u64,
    /// The block that was read last, and its number.
    block: Option<(u64, Vec<u8>)>,
}

impl ImageReader {
    /// Opens the snapshot that ends with `last`.
    ///
    /// # Errors
    /// It is damaged, of a newer format, or ends with another entry.
    pub(super) fn open(
        file: Arc<dyn File>,
        path: PathBuf,
        last: EntryId,
    ) -> Result<ImageReader, StorageError> {
        let file_bytes = file.len_bytes().map_err(StorageError::io("read", &path))?;
        let (meta, image_bytes) = read_trailer(file.as_ref(), &path, file_bytes)?;
        if meta.last != last {
            let problem = format!("it ends with entry {}, its name says {last}", meta.last);
            return Err(StorageError::damaged(&path, blocks_bytes(image_bytes), &problem));
        }
        Ok(ImageReader { file, path, meta, image_bytes, position: 0, block: None })
    }

    /// The block with this number.
    fn block(&mut self, number: u64) -> io::Result<&[u8]> {
        let mut data = match self.block.take() {
            Some((same, data)) if same == number => {
                return Ok(&self.block.insert((number, data)).1);
            }
            Some((_, data)) => data,
            None => Vec::new(),
        };
        let start = number * BLOCK_BYTES as u64;
        let len = usize::try_from(self.image_bytes - start).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        data.resize(len + CHECKSUM_BYTES, 0);
        let offset = block_offset(number);
        let read = read_up_to(self.file.as_ref(), &mut data, offset)?;
        let damaged = |problem| {
            let error = StorageError::damaged(&self.path, offset, problem);
            io::Error::new(io::ErrorKind::InvalidData, error)
        };
        if read < data.len() {
            return Err(damaged("the file is shorter than it was"));
        }
        let mut checksum = &data[len..];
        if checksum.get_u32_le() != block_checksum(number, &data[..len]) {
            return Err(damaged("the checksum of the block is wrong"));
        }
        data.truncate(len);
        Ok(&self.block.insert((number, data)).1)
    }
}

fn read_trailer(
    file: &dyn File,
    path: &Path,
    file_bytes: u64,
) -> Result<(SnapshotMeta, u64), StorageError> {
    let damaged = |offset, problem: &str| StorageError::damaged(path, offset, problem);
    let Some(trailer_offset) = file_bytes.checked_sub(TRAILER_BYTES as u64) else {
        return Err(damaged(0, "it is shorter than any snapshot"));
    };
    let mut trailer = [0; TRAILER_BYTES];
    read_up_to(file, &mut trailer, trailer_offset).map_err(StorageError::io("read", path))?;
    if !trailer.starts_with(&MAGIC) {
        return Err(damaged(trailer_offset, "it does not end as a snapshot does"));
    }
    let mut fields = &trailer[8..];
    let version = fields.get_u32_le();
    if version != FORMAT_VERSION {
        return Err(StorageError::other_format(path, version, FORMAT_VERSION));
    }
    let checksum = fields.get_u32_le();
    let image_bytes = fields.get_u64_le();
    let meta_bytes = fields.get_u64_le();
    let meta_offset = blocks_bytes(image_bytes);
    if meta_bytes > META_BYTES_MAX || meta_offset.checked_add(meta_bytes) != Some(trailer_offset) {
        return Err(damaged(trailer_offset, "the lengths in it do not add up to the file's"));
    }
    let mut meta = vec![0; usize::try_from(meta_bytes).unwrap_or(0)];
    read_up_to(file, &mut meta, meta_offset).map_err(StorageError::io("read", path))?;
    if version == 0 || meta_checksum(&meta, &trailer[16..]) != checksum {
        return Err(damaged(meta_offset, "the checksum of the meta is wrong"));
    }
    let meta =
        postcard::from_bytes(&meta).map_err(|_| damaged(meta_offset, "the meta makes no sense"))?;
    Ok((meta, image_bytes))
}

impl Read for ImageReader {
    fn read(&mut self, data: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.image_bytes || data.is_empty() {
            return Ok(0);
        }
        let number = self.position / BLOCK_BYTES as u64;
        // A remainder by the length of a block fits.
        let within = usize::try_from(self.position % BLOCK_BYTES as u64).unwrap_or(0);
        let left = &self.block(number)?[within..];
        let taken = left.len().min(data.len());
        data[..taken].copy_from_slice(&left[..taken]);
        self.position += taken as u64;
        Ok(taken)
    }
}

impl Seek for ImageReader {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let new = match position {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.image_bytes.checked_add_signed(offset),
        };
        self.position = new.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a position before the start of the image")
        })?;
        Ok(self.position)
    }
}

impl SnapshotReader for ImageReader {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    fn len_bytes(&self) -> u64 {
        self.image_bytes
    }
}
