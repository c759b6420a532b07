//! `txn`: several keys at one moment.

use std::collections::BTreeSet;
use std::ffi::OsString;

use bytes::Bytes;
use clap::Args;

use super::ClusterArgs;
use super::clients::{client_failure_at, close};
use crate::clerk::{Clerk, TransactError};
use crate::connect::{connect, within};
use crate::failure::Failure;
use crate::output::{print_line, quoted};
use crate::store::{Condition, LeaseId, Transaction, Version, Write};

#[derive(Debug, Args)]
#[command(after_help = "\
Example: rename a key, unless somebody else has written either of the two meanwhile:
  kv-example txn --cluster $CLUSTER --if old=3 --if new=0 --put new=value --delete old

All writes are made at one moment if all conditions hold; else nothing is, and the exit code is 1. The revision at \
which they were made is printed. It is done exactly once, however often it has to be sent. A key that is put is what comes \
before the first `=`, the value all that follows; in a condition, the version is what follows the last `=`, and 0 means that \
there is no such key. Each key may be written once.")]
pub(super) struct TransactArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Only if the key has this version; 0: if it does not exist
    #[arg(long = "if", value_name = "KEY=VERSION", value_parser = condition)]
    conditions: Vec<Condition>,
    /// Write a value, whatever the key's version
    #[arg(long = "put", value_name = "KEY=VALUE")]
    puts: Vec<OsString>,
    /// Delete a key, if it exists
    #[arg(long = "delete", value_name = "KEY")]
    deletes: Vec<String>,
    /// Tie the keys that are put to this lease
    #[arg(long, value_name = "LEASE")]
    lease: Option<u64>,
}

pub(super) async fn transact(args: TransactArgs) -> Result<(), Failure> {
    let TransactArgs { cluster, conditions, puts, deletes, lease } = args;
    let lease = lease.map(LeaseId);
    let mut writes = Vec::new();
    for text in puts {
        let (key, value) = key_and_value(text)?;
        writes.push(Write::Put { key, value, lease });
    }
    writes.extend(deletes.into_iter().map(|key| Write::Delete { key }));
    let mut keys = BTreeSet::new();
    if let Some(twice) = writes.iter().find(|write| !keys.insert(write.key())) {
        return Err(Failure::environment(format!("key {} is written twice", quoted(twice.key()))));
    }
    let clerk = Clerk::in_session(connect(&cluster.cluster, within(cluster.timeout))?);
    let made = clerk.transact(Transaction { conditions, writes }).await;
    close(&clerk).await;
    match made {
        Ok(revision) => print_line(&revision.to_string()),
        Err(TransactError::ConditionFailed { key, current }) => {
            let key = quoted(&key);
            Err(Failure::refused(match current {
                Version::ABSENT => format!("there is no key {key}; nothing was written"),
                current => format!("key {key} has version {current}; nothing was written"),
            }))
        }
        Err(error @ (TransactError::NoLease | TransactError::TooMany)) => {
            Err(Failure::refused(format!("{error}; nothing was written")))
        }
        Err(error @ TransactError::Maybe) => Err(Failure::refused(error)),
        Err(TransactError::Client(error)) => Err(client_failure_at("the transaction", error)),
    }
}

fn condition(text: &str) -> Result<Condition, String> {
    let parts = text.rsplit_once('=');
    let parsed = parts.and_then(|(key, version)| Some((key.to_owned(), version.parse().ok()?)));
    match parsed {
        Some((key, version)) => Ok(Condition { key, version: Version(version) }),
        None => Err("expected KEY=VERSION".to_owned()),
    }
}

fn key_and_value(text: OsString) -> Result<(String, Bytes), Failure> {
    let bytes = Bytes::from(text.into_encoded_bytes());
    let parts = bytes.iter().position(|byte| *byte == b'=').and_then(|at| {
        let key = String::from_utf8(bytes[..at].to_vec()).ok()?;
        Some((key, bytes.slice(at + 1..)))
    });
    parts.ok_or_else(|| Failure::environment("--put: expected KEY=VALUE, with a key that is UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_contain_equals_signs_and_a_condition_ends_with_its_version() {
        let put = |text: &str| key_and_value(OsString::from(text));
        assert_eq!(put("k=a=b").unwrap(), ("k".to_owned(), Bytes::from("a=b")));
        assert_eq!(put("k=").unwrap(), ("k".to_owned(), Bytes::new()));
        assert!(put("k").is_err());
        assert_eq!(
            condition("a=b=3"),
            Ok(Condition { key: "a=b".to_owned(), version: Version(3) })
        );
        assert!(condition("a").is_err() && condition("a=").is_err() && condition("a=-1").is_err());
    }
}
