//! What this crate writes before the machine's own image in a snapshot:
//! `[format version: u8][log time: u64 LE, nanoseconds][whether there is a checksum: u8][running checksum: u32 LE]`
//! and then the table of sessions (`sessions/image.rs`).

use std::io::{self, Read, Write};
use std::time::Duration;

const FORMAT_VERSION: u8 = 5;

/// What follows the version and has a fixed length, in bytes.
const FIELDS_BYTES: usize = 13;

/// What a replica keeps beside the machine's state.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageHeader {
    /// The log's time at the snapshot's last entry.
    pub(crate) time: Duration,
    /// The running checksum there, where the replica that took the snapshot kept one.
    pub(crate) checksum: Option<u32>,
}

impl ImageHeader {
    pub(crate) fn write_to(&self, image: &mut dyn Write) -> io::Result<()> {
        let nanoseconds = u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX);
        image.write_all(&[FORMAT_VERSION])?;
        image.write_all(&nanoseconds.to_le_bytes())?;
        image.write_all(&[u8::from(self.checksum.is_some())])?;
        image.write_all(&self.checksum.unwrap_or_default().to_le_bytes())
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
        let mut fields = [0; FIELDS_BYTES];
        image.read_exact(&mut fields)?;
        let [n0, n1, n2, n3, n4, n5, n6, n7, has_checksum, c0, c1, c2, c3] = fields;
        let nanoseconds = u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]);
        let checksum = [c0, c1, c2, c3];
        let checksum = match has_checksum {
            0 => None,
            1 => Some(u32::from_le_bytes(checksum)),
            other => {
                let problem = format!("the image says {other} where it says yes or no");
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
        };
        Ok(ImageHeader { time: Duration::from_nanos(nanoseconds), checksum })
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
    fn the_header_comes_back_and_another_format_is_an_error() {
        let mut bytes = Vec::new();
        for checksum in [None, Some(0), Some(0x1234_5678)] {
            let time = Duration::from_millis(1_500);
            let header = ImageHeader { time, checksum };
            bytes.clear();
            header.write_to(&mut bytes).unwrap();
            assert_eq!(bytes.len(), 1 + FIELDS_BYTES);
            assert_eq!(ImageHeader::read_from(&mut bytes.as_slice()).unwrap(), header);
        }
        for version in [FORMAT_VERSION - 1, FORMAT_VERSION + 1] {
            bytes[0] = version;
            let error = ImageHeader::read_from(&mut bytes.as_slice()).unwrap_err().to_string();
            let expected = format!(
                "the image has format version {version}, this program knows {FORMAT_VERSION}"
            );
            assert_eq!(error, expected);
        }
        bytes[0] = FORMAT_VERSION;
        bytes[9] = 2;
        assert!(ImageHeader::read_from(&mut bytes.as_slice()).is_err());
        assert!(ImageHeader::read_from(&mut [FORMAT_VERSION, 2].as_slice()).is_err());
    }
}
