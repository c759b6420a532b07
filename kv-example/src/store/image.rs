//! The store as it is written into a snapshot.
//!
//! ```text
//! image = "KVSTORE" format:u8 keys:u64 entry*
//! entry = key_bytes:u32 value_bytes:u32 version:u64 key value      (numbers little-endian, keys ascending)
//! ```
//!
//! It is written and read an entry at a time, so memory holds one entry beside the map. Checksums are the
//! storage's matter; what is checked here is that the image makes sense.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;

use super::{Map, Version, Versioned};

const MAGIC: &[u8; 7] = b"KVSTORE";
const FORMAT: u8 = 1;

pub(super) fn write(map: &Map, image: &mut dyn Write) -> io::Result<()> {
    let mut image = io::BufWriter::new(image);
    image.write_all(MAGIC)?;
    image.write_all(&[FORMAT])?;
    image.write_all(&(map.len() as u64).to_le_bytes())?;
    for (key, versioned) in map {
        image.write_all(&length(key.len())?)?;
        image.write_all(&length(versioned.value.len())?)?;
        image.write_all(&versioned.version.0.to_le_bytes())?;
        image.write_all(key.as_bytes())?;
        image.write_all(&versioned.value)?;
    }
    image.flush()
}

pub(super) fn read(image: &mut dyn Read) -> io::Result<Map> {
    let mut image = io::BufReader::new(image);
    if &array::<7>(&mut image)? != MAGIC {
        return Err(senseless("this is no image of a key/value store"));
    }
    let [format] = array(&mut image)?;
    if format != FORMAT {
        return Err(senseless(format!(
            "the image has format {format}, this program reads format {FORMAT}: use the version that wrote it, or a newer one"
        )));
    }
    let keys = u64::from_le_bytes(array(&mut image)?);
    let mut map = Map::new();
    let mut last: Option<Arc<str>> = None;
    for number in 0..keys {
        let key_bytes = u32::from_le_bytes(array(&mut image)?);
        let value_bytes = u32::from_le_bytes(array(&mut image)?);
        let version = Version(u64::from_le_bytes(array(&mut image)?));
        let key: Arc<str> = String::from_utf8(bytes(&mut image, key_bytes)?)
            .map_err(|_| senseless(format!("key {number} of the image is not UTF-8")))?
            .into();
        if last.is_some_and(|last| last >= key) {
            return Err(senseless(format!("key {number} of the image is out of order")));
        }
        if version == Version::ABSENT {
            return Err(senseless(format!("key {number} of the image has version 0")));
        }
        let value = Bytes::from(bytes(&mut image, value_bytes)?);
        map.insert(key.clone(), Versioned { version, value });
        last = Some(key);
    }
    if image.read(&mut [0])? != 0 {
        return Err(senseless(format!("the image goes on after its {keys} keys")));
    }
    Ok(map)
}

fn length(bytes: usize) -> io::Result<[u8; 4]> {
    u32::try_from(bytes)
        .map(u32::to_le_bytes)
        .map_err(|_| senseless(format!("a key or value of {bytes} bytes does not fit the image")))
}

fn array<const N: usize>(image: &mut impl Read) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    image.read_exact(&mut array)?;
    Ok(array)
}

/// Reads `len` bytes. Memory grows with what is there, not with what a damaged length claims.
fn bytes(image: &mut impl Read, len: u32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    image.take(u64::from(len)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != u64::from(len) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // A value lives as long as its key: it must not keep the slack of a growing buffer.
    bytes.shrink_to_fit();
    Ok(bytes)
}

fn senseless(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}
