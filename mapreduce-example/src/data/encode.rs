//! The form of keys and values on the disk: postcard's.

use crc32fast::Hasher;
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::shown::shown;
use crate::task::TaskError;

/// The longest key, and the longest value, in bytes as they are on the disk. A reader holds one of each for each run.
pub(crate) const ENCODED_BYTES_MAX: usize = 4 << 20;

/// A combined value grows no further than this, in bytes: the next one of the same key begins, so that a key's values may be more
/// than the longest one all together. As much as a block, so that what a reader holds stays small.
pub(crate) const COMBINED_BYTES_MAX: usize = 64 << 10;

/// Appends `key` and `value` to `out`.
pub(crate) fn encode_pair<K: Serialize, V: Serialize>(
    key: &K,
    value: &V,
    out: &mut Vec<u8>,
) -> Result<(), TaskError> {
    let (key_bytes, value_bytes) = (encode(key, out)?, encode(value, out)?);
    if key_bytes + value_bytes == 0 {
        return Err(TaskError::Failed("a key and a value that say nothing".to_owned()));
    }
    if key_bytes > ENCODED_BYTES_MAX {
        return Err(long_key(key, key_bytes));
    }
    if value_bytes > ENCODED_BYTES_MAX {
        return Err(TaskError::Failed(format!(
            "a value of {value_bytes} bytes for the key {}: the limit is {ENCODED_BYTES_MAX}",
            shown(key)
        )));
    }
    Ok(())
}

/// Why a key of so many bytes cannot be written.
pub(crate) fn long_key<K: Serialize>(key: &K, bytes: usize) -> TaskError {
    TaskError::Failed(format!(
        "a key of {bytes} bytes, {}: the limit is {ENCODED_BYTES_MAX}",
        shown(key)
    ))
}

/// How long `value` is on the disk, in bytes.
pub(crate) fn encoded_bytes<T: Serialize>(value: &T) -> Result<usize, TaskError> {
    postcard::serialize_with_flavor(value, Length(0)).map_err(unwritable)
}

/// A hash of what `value` is on the disk: the same on all machines, today and later.
pub(crate) fn stable_hash<T: Serialize>(value: &T) -> u32 {
    // What cannot be encoded is refused where it is emitted.
    postcard::serialize_with_flavor(value, Checksum(Hasher::new())).unwrap_or_default()
}

/// Takes a value off the front of `bytes`. `None` if there is none: they have been checked, so the job's own form does not read
/// what it wrote.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<(T, usize)> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    Some((value, bytes.len() - rest.len()))
}

fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<usize, TaskError> {
    let before = out.len();
    postcard::serialize_with_flavor(value, Append(out)).map_err(unwritable)?;
    Ok(out.len() - before)
}

fn unwritable(error: postcard::Error) -> TaskError {
    TaskError::Failed(format!("a key or value cannot be written: {error}"))
}

struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

struct Length(usize);

impl Flavor for Length {
    type Output = usize;

    fn try_push(&mut self, _byte: u8) -> postcard::Result<()> {
        self.0 += 1;
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0 += bytes.len();
        Ok(())
    }

    fn finalize(self) -> postcard::Result<usize> {
        Ok(self.0)
    }
}

struct Checksum(Hasher);

impl Flavor for Checksum {
    type Output = u32;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.update(&[byte]);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.update(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<u32> {
        Ok(self.0.finalize())
    }
}
