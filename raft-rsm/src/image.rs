//! What this crate writes before the machine's own image in a snapshot:
//! `[format version: u8][log time: u64 LE, nanoseconds]`.

use std::io::{self, Read, Write};
use std::time::Duration;

const FORMAT_VERSION: u8 = 1;

/// What a replica keeps beside the machine's state.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageHeader {
    /// The log's time at the snapshot's last entry.
    pub(crate) time: Duration,
}

impl ImageHeader {
    pub(crate) fn write_to(self, image: &mut dyn Write) -> io::Result<()> {
        let nanoseconds = u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX);
        image.write_all(&[FORMAT_VERSION])?;
        image.write_all(&nanoseconds.to_le_bytes())
    }

    /// # Errors
    /// The image cannot be read, or is of a format that this version does not know.
    pub(crate) fn read_from(image: &mut dyn Read) -> io::Result<ImageHeader> {
        let mut version = [0; 1];
        image.read_exact(&mut version)?;
        if version != [FORMAT_VERSION] {
            let problem = format!(
                "the image has format version {}, this program knows {FORMAT_VERSION}",
                version[0]
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let mut nanoseconds = [0; 8];
        image.read_exact(&mut nanoseconds)?;
        Ok(ImageHeader { time: Duration::from_nanos(u64::from_le_bytes(nanoseconds)) })
    }
}

/// Counts what passes through.
#[derive(Debug)]
pub(crate) struct Counting<W> {
    pub(crate) inner: W,
    pub(crate) bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_comes_back_and_a_newer_format_is_an_error() {
        let header = ImageHeader { time: Duration::from_millis(1_500) };
        let mut bytes = Vec::new();
        header.write_to(&mut bytes).unwrap();
        assert_eq!(ImageHeader::read_from(&mut bytes.as_slice()).unwrap(), header);
        bytes[0] = 2;
        let error = ImageHeader::read_from(&mut bytes.as_slice()).unwrap_err().to_string();
        assert_eq!(error, "the image has format version 2, this program knows 1");
        assert!(ImageHeader::read_from(&mut [1, 2].as_slice()).is_err());
    }
}
