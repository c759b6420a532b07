//! How large a key and a value may be.

use std::time::Duration;

use bytes::Bytes;

use crate::store::{Command, Transaction, Write};

/// No node takes longer keys, whatever its limits, in bytes.
pub const KEY_BYTES_POSSIBLE: usize = 64 * 1024;

/// No node takes longer values, whatever its limits, in bytes.
pub const VALUE_BYTES_POSSIBLE: usize = 8 * 1024 * 1024;

/// No command is longer, whatever the limits of a node, in bytes: it has to fit into a frame of the network, beside what a
/// message says of itself and its cluster.
pub const COMMAND_BYTES_POSSIBLE: usize = 15 * 1024 * 1024;

/// What a command counts for beside its parts, in bytes: its kind, its time in the log, its name of up to 255 bytes and how
/// long that is remembered.
const COMMAND_OVERHEAD_BYTES: usize = 512;

/// What each key or value of a command counts for beside its bytes: lengths, a version, a lease.
const PART_OVERHEAD_BYTES: usize = 32;

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
    /// For both: the largest transaction would fit into no message.
    #[error(
        "with these limits for keys and values, a transaction could have {0} bytes: the most that fits into a message is {COMMAND_BYTES_POSSIBLE}"
    )]
    Transaction(usize),
    /// For the history: a write or two would let a watcher come too late that never was late.
    #[error(
        "a limit of {bytes} bytes for the history: it must be at least {bytes_min}, twice the longest value"
    )]
    History {
        /// The limit, in bytes.
        bytes: usize,
        /// The lowest one for these values, in bytes.
        bytes_min: usize,
    },
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
        let Limits { key_bytes_max, value_bytes_max, history_bytes_max } = *self;
        if !(1..=KEY_BYTES_POSSIBLE).contains(&key_bytes_max) {
            return Err(ImpossibleLimits::Key(key_bytes_max));
        }
        if !(1..=VALUE_BYTES_POSSIBLE).contains(&value_bytes_max) {
            return Err(ImpossibleLimits::Value(value_bytes_max));
        }
        let command_bytes_max = self.command_bytes_max();
        if command_bytes_max > COMMAND_BYTES_POSSIBLE {
            return Err(ImpossibleLimits::Transaction(command_bytes_max));
        }
        let bytes_min = 2 * value_bytes_max;
        if history_bytes_max < bytes_min {
            return Err(ImpossibleLimits::History { bytes: history_bytes_max, bytes_min });
        }
        Ok(())
    }

    /// What the largest command takes that keeps to the limits, as it stands in the log, in bytes: a transaction, since its
    /// values together are as long as one, and each of its keys is as long as any.
    #[must_use]
    pub fn command_bytes_max(&self) -> usize {
        let parts = TRANSACTION_PARTS_MAX * (self.key_bytes_max + PART_OVERHEAD_BYTES);
        self.value_bytes_max + parts + COMMAND_OVERHEAD_BYTES
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
    use raft_rsm::transport::TcpLimits;

    use super::*;
    use crate::store::{Condition, LeaseId, Version};

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

    /// What stands before a command in the log, at most: kind and time, a name with its length, three limits.
    const BEFORE_COMMAND_BYTES: usize = 9 + 256 + 24;

    /// The largest of its kind, with numbers that take all the room that numbers can.
    fn largest(limits: &Limits) -> [Command; 3] {
        let key = || "k".repeat(limits.key_bytes_max);
        let value = || Bytes::from(vec![7; limits.value_bytes_max]);
        let (version, lease) = (Version(u64::MAX), Some(LeaseId(u64::MAX)));
        let condition = |_| Condition { key: key(), version };
        let writes = (0..TRANSACTION_PARTS_MAX).map(|number| {
            let value = if number == 0 { value() } else { Bytes::new() };
            Write::Put { key: key(), value, lease }
        });
        let half = (0..TRANSACTION_PARTS_MAX - 1).map(condition).collect();
        let one = vec![Write::Put { key: key(), value: value(), lease }];
        [
            Command::Set { key: key(), value: value(), version: Some(version), lease },
            Command::Transact(Transaction { conditions: vec![], writes: writes.collect() }),
            Command::Transact(Transaction { conditions: half, writes: one }),
        ]
    }

    #[test]
    fn whatever_keeps_to_the_limits_fits_into_a_command_and_a_command_into_a_frame() {
        let large = Limits {
            key_bytes_max: 50_000,
            value_bytes_max: VALUE_BYTES_POSSIBLE,
            ..Limits::default()
        };
        let small = Limits { key_bytes_max: 1, value_bytes_max: 1, ..Limits::default() };
        for limits in [Limits::default(), large, small] {
            assert_eq!(limits.check_possible(), Ok(()));
            for command in largest(&limits) {
                assert_eq!(limits.check(&command), Ok(()));
                let bytes = postcard::to_stdvec(&command).unwrap().len() + BEFORE_COMMAND_BYTES;
                assert!(bytes <= limits.command_bytes_max(), "{bytes} with {limits:?}");
            }
        }
        // Whatever else a message says: who the members are, above all.
        const OTHER_BYTES: usize = 512 * 1024;
        assert!(COMMAND_BYTES_POSSIBLE + OTHER_BYTES <= TcpLimits::default().frame_bytes_max);
    }

    #[test]
    fn limits_that_let_nothing_through_or_too_much_are_impossible() {
        let possible = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            limits.check_possible()
        };
        assert_eq!(possible(|_| ()), Ok(()));
        assert_eq!(possible(|limits| limits.key_bytes_max = 0), Err(ImpossibleLimits::Key(0)));
        let both = possible(|limits| {
            limits.key_bytes_max = KEY_BYTES_POSSIBLE;
            limits.value_bytes_max = VALUE_BYTES_POSSIBLE;
        });
        assert!(matches!(both, Err(ImpossibleLimits::Transaction(_))), "{both:?}");
        let bytes_min = 2 * Limits::default().value_bytes_max;
        let history = possible(|limits| limits.history_bytes_max = 1000);
        assert_eq!(history, Err(ImpossibleLimits::History { bytes: 1000, bytes_min }));
    }
}
