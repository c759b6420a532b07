//! An object that is written piece by piece.

use std::io::{self, Write};
use std::mem;

use object_store::{MultipartUpload, PutPayload};

use super::location::{DataError, Location};

/// The parts of an upload, in bytes: above the least that any store takes (5 MiB), and the most that a writer holds.
const PART_BYTES: usize = 8 << 20;

/// Writes an object. It is there as a whole once [`finish`](ObjectWriter::finish) says so; a writer that is dropped before
/// leaves nothing.
pub(crate) struct ObjectWriter {
    location: Location,
    buffer: Vec<u8>,
    upload: Option<Box<dyn MultipartUpload>>,
    written: u64,
    failed: Option<DataError>,
}

impl ObjectWriter {
    pub(crate) fn new(location: Location) -> ObjectWriter {
        ObjectWriter { location, buffer: Vec::new(), upload: None, written: 0, failed: None }
    }

    /// How many bytes were written.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.written += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < PART_BYTES {
            return Ok(());
        }
        let outcome = self.part();
        self.failed = outcome.clone().err();
        outcome
    }

    /// Makes it an object. Returns how many bytes it has.
    pub(crate) fn finish(mut self) -> Result<u64, DataError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.upload.is_none() {
            self.location.put(mem::take(&mut self.buffer).into())?;
            return Ok(self.written);
        }
        if !self.buffer.is_empty() {
            self.part()?;
        }
        if let Some(upload) = &mut self.upload {
            self.location.wait(upload.complete()).map_err(|error| self.location.failed(&error))?;
        }
        self.upload = None;
        Ok(self.written)
    }

    /// What went wrong, if something did: what [`Write`] returns lacks the place.
    pub(crate) fn failure(&self) -> Option<DataError> {
        self.failed.clone()
    }

    fn part(&mut self) -> Result<(), DataError> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => none.insert(self.location.put_in_parts()?),
        };
        let part = mem::replace(&mut self.buffer, Vec::with_capacity(PART_BYTES));
        self.location
            .wait(upload.put_part(PutPayload::from(part)))
            .map_err(|error| self.location.failed(&error))
    }
}

impl Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ObjectWriter {
    fn drop(&mut self) {
        if let Some(upload) = &mut self.upload {
            // Who writes no longer cares; a store that cannot be reached drops unfinished uploads by a rule of its own.
            let _ = self.location.wait(upload.abort());
        }
    }
}
