//! How large a key and a value may be.

use crate::store::Command;

/// No node takes longer keys, whatever its limits, in bytes.
pub const KEY_BYTES_POSSIBLE: usize = 64 * 1024;

/// No node takes longer values, whatever its limits, in bytes.
pub const VALUE_BYTES_POSSIBLE: usize = 8 * 1024 * 1024;

/// How large a key and a value may be.
///
/// They are checked by the node to which a command is proposed, before the command enters the log, and never
/// again: what is in the log is carried out by every node, so nodes with different limits do not
/// diverge.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest key, in bytes.
    pub key_bytes_max: usize,
    /// The longest value, in bytes.
    pub value_bytes_max: usize,
}

/// The command is larger than the node allows. It will never be carried out.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The key is too long.
    #[error("the key has {bytes} bytes, the limit is {bytes_max}")]
    Key {
        /// Its length, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// The value is too long.
    #[error("the value has {bytes} bytes, the limit is {bytes_max}")]
    Value {
        /// Its length, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        bytes_max: usize,
    },
}

/// No node can have such limits.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImpossibleLimits {
    /// For keys.
    #[error("a limit of {0} bytes for keys: it must be from 1 to {KEY_BYTES_POSSIBLE}")]
    Key(usize),
    /// For values.
    #[error("a limit of {0} bytes for values: it must be from 1 to {VALUE_BYTES_POSSIBLE}")]
    Value(usize),
}

impl Default for Limits {
    /// Keys of 4 KiB and values of 1 MiB.
    fn default() -> Limits {
        Limits { key_bytes_max: 4 * 1024, value_bytes_max: 1024 * 1024 }
    }
}

impl Limits {
    /// Whether a node can have these limits: a command, and a page with one value, must fit into a frame of
    /// the network.
    ///
    /// # Errors
    /// Which one is too high or 0.
    pub fn check_possible(&self) -> Result<(), ImpossibleLimits> {
        let Limits { key_bytes_max, value_bytes_max } = *self;
        if !(1..=KEY_BYTES_POSSIBLE).contains(&key_bytes_max) {
            return Err(ImpossibleLimits::Key(key_bytes_max));
        }
        if !(1..=VALUE_BYTES_POSSIBLE).contains(&value_bytes_max) {
            return Err(ImpossibleLimits::Value(value_bytes_max));
        }
        Ok(())
    }

    /// Whether `command` keeps to the limits.
    ///
    /// # Errors
    /// Which one it exceeds.
    pub fn check(&self, command: &Command) -> Result<(), LimitError> {
        let (key, value_bytes) = match command {
            Command::Put { key, value, .. } => (key, value.len()),
            Command::Delete { key, .. } => (key, 0),
        };
        if key.len() > self.key_bytes_max {
            return Err(LimitError::Key { bytes: key.len(), bytes_max: self.key_bytes_max });
        }
        if value_bytes > self.value_bytes_max {
            return Err(LimitError::Value { bytes: value_bytes, bytes_max: self.value_bytes_max });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::Version;

    #[test]
    fn what_is_as_long_as_the_limit_passes_and_one_byte_more_does_not() {
        let limits = Limits { key_bytes_max: 3, value_bytes_max: 5 };
        let check = |key: &str, value: &'static [u8]| {
            limits.check(&Command::Put {
                key: key.to_owned(),
                value: Bytes::from_static(value),
                version: Version::ABSENT,
            })
        };
        assert_eq!(check("key", b"value"), Ok(()));
        assert_eq!(check("keys", b"value"), Err(LimitError::Key { bytes: 4, bytes_max: 3 }));
        assert_eq!(check("key", b"values"), Err(LimitError::Value { bytes: 6, bytes_max: 5 }));
        let delete = Command::Delete { key: "keys".to_owned(), version: None };
        assert_eq!(limits.check(&delete), Err(LimitError::Key { bytes: 4, bytes_max: 3 }));
    }
}
