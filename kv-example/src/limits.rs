//! How large a key and a value may be.

use std::time::Duration;

use bytes::Bytes;

use crate::store::{Command, Transaction, Write};

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
    /// What has happened lately is remembered for those who watch, up to so many bytes.
    pub history_bytes_max: usize,
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
    /// The transaction has too many parts.
    #[error(
        "the transaction has {parts} conditions and writes, the limit is {TRANSACTION_PARTS_MAX}"
    )]
    Transaction {
        /// How many.
        parts: usize,
    },
    /// The time of the lease is too long.
    #[error("a lease of {ttl:?}: the longest is {LEASE_TTL_MAX:?}")]
    Ttl {
        /// Its time.
        ttl: Duration,
    },
    /// The value, or those of a transaction together, is too long.
    #[error("the value has {bytes} bytes, the limit is {bytes_max}")]
    Value {
        /// Its length, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        bytes_max: usize,
    },
}

/// A transaction has at most so many conditions and writes together.
pub const TRANSACTION_PARTS_MAX: usize = 128;

/// The longest time of a lease.
pub const LEASE_TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

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
    /// Keys of 4 KiB, values of 1 MiB, and 16 MiB of history.
    fn default() -> Limits {
        Limits {
            key_bytes_max: 4 * 1024,
            value_bytes_max: 1024 * 1024,
            history_bytes_max: 16 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// Whether a node can have these limits: a command, and a page with one value, must fit into a frame of
    /// the network.
    ///
    /// # Errors
    /// Which one is too high or 0.
    pub fn check_possible(&self) -> Result<(), ImpossibleLimits> {
        let Limits { key_bytes_max, value_bytes_max, history_bytes_max: _ } = *self;
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
        match command {
            Command::Put { key, value, .. } | Command::Set { key, value, .. } => {
                self.check_key(key).and(self.check_value(value))
            }
            Command::Delete { key, .. } => self.check_key(key),
            Command::Transact(transaction) => self.check_transaction(transaction),
            Command::Grant { ttl } if *ttl > LEASE_TTL_MAX => Err(LimitError::Ttl { ttl: *ttl }),
            Command::Grant { .. } | Command::KeepAlive { .. } | Command::Revoke { .. } => Ok(()),
        }
    }

    fn check_transaction(&self, transaction: &Transaction) -> Result<(), LimitError> {
        let Transaction { conditions, writes } = transaction;
        let parts = conditions.len() + writes.len();
        if parts > TRANSACTION_PARTS_MAX {
            return Err(LimitError::Transaction { parts });
        }
        conditions.iter().try_for_each(|condition| self.check_key(&condition.key))?;
        let mut value_bytes = 0;
        for write in writes {
            self.check_key(write.key())?;
            if let Write::Put { value, .. } = write {
                value_bytes += value.len();
            }
        }
        self.check_value_bytes(value_bytes)
    }

    fn check_key(&self, key: &str) -> Result<(), LimitError> {
        match key.len() {
            bytes if bytes > self.key_bytes_max => {
                Err(LimitError::Key { bytes, bytes_max: self.key_bytes_max })
            }
            _ => Ok(()),
        }
    }

    fn check_value(&self, value: &Bytes) -> Result<(), LimitError> {
        self.check_value_bytes(value.len())
    }

    fn check_value_bytes(&self, bytes: usize) -> Result<(), LimitError> {
        if bytes > self.value_bytes_max {
            return Err(LimitError::Value { bytes, bytes_max: self.value_bytes_max });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Version;

    #[test]
    fn what_is_as_long_as_the_limit_passes_and_one_byte_more_does_not() {
        let limits = Limits { key_bytes_max: 3, value_bytes_max: 5, ..Limits::default() };
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
