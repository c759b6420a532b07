//! What clients of the store may be told: keys one by one, and those of the transactions all together.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_sim::event::Digest;
use raft_sim::model::register::{self, VersionedStore};

use crate::store::{Condition, Response, Transaction, Version, Write};

/// The keys of the transactions begin with it. Nothing else writes them.
pub(super) const TOGETHER: &str = "together/";

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Something of one key, which no transaction touches.
    Key(register::Request<String, Digest>),
    /// A transaction.
    Transact {
        /// Which version each key must have; 0: it must not exist.
        conditions: Vec<(String, u64)>,
        /// The new values, in this order; `None`: the key is deleted.
        writes: Vec<(String, Option<Digest>)>,
    },
    /// All keys of the transactions, at one moment.
    ReadTogether,
    /// What is judged by the log, and not by what others were told: leases and watches.
    Beside(&'static str),
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Of one key.
    Key(register::Reply<Digest>),
    /// The transaction was made.
    Committed,
    /// A condition does not hold, the first of those that do not.
    ConditionFailed {
        /// The key.
        key: String,
        /// The version that it has.
        current: u64,
    },
    /// The keys of the transactions that exist, with their versions and values.
    Together(Keys),
    /// It was done, or could not be.
    Done,
}

/// Versions and values of keys.
pub type Keys = BTreeMap<String, (u64, Digest)>;

/// The specification. Values are compared by their digests.
#[derive(Debug, Default)]
pub struct Model {
    one: VersionedStore<String, Digest>,
}

impl Request {
    pub(super) fn transact(transaction: &Transaction) -> Request {
        let Transaction { conditions, writes } = transaction;
        let condition = |condition: &Condition| (condition.key.clone(), condition.version.0);
        let write = |write: &Write| match write {
            Write::Put { key, value, .. } => (key.clone(), Some(Digest::of(value))),
            Write::Delete { key } => (key.clone(), None),
        };
        Request::Transact {
            conditions: conditions.iter().map(condition).collect(),
            writes: writes.iter().map(write).collect(),
        }
    }

    /// To set a key is a transaction of one write.
    pub(super) fn set(key: &str, value: &Bytes, version: Option<Version>) -> Request {
        let condition = version.map(|Version(version)| (key.to_owned(), version));
        Request::Transact {
            conditions: condition.into_iter().collect(),
            writes: vec![(key.to_owned(), Some(Digest::of(value)))],
        }
    }
}

impl Reply {
    /// What a response of the store says to a put, a delete or a transaction; `None`: it is no answer to those.
    pub(super) fn of(response: Response) -> Option<Reply> {
        let reply = match response {
            Response::Written { version: Version(version) } => register::Reply::Written { version },
            Response::Deleted { version: Version(version) } => register::Reply::Deleted { version },
            Response::VersionMismatch { current: Version(current) } => {
                register::Reply::VersionMismatch { current }
            }
            Response::NoKey => register::Reply::NoKey,
            Response::Committed { .. } => return Some(Reply::Committed),
            Response::ConditionFailed { key, current: Version(current) } => {
                return Some(Reply::ConditionFailed { key, current });
            }
            Response::Granted { .. }
            | Response::KeptAlive { .. }
            | Response::Revoked
            | Response::NoLease
            | Response::TooMany => return None,
        };
        Some(Reply::Key(reply))
    }

    /// What a response to a [`Request::set`] of `key` says.
    pub(super) fn of_set(reply: Reply, key: &str) -> Reply {
        let failed = |current| Reply::ConditionFailed { key: key.to_owned(), current };
        match reply {
            Reply::Key(register::Reply::Written { .. }) => Reply::Committed,
            Reply::Key(register::Reply::VersionMismatch { current }) => failed(current),
            Reply::Key(register::Reply::NoKey) => failed(0),
            other @ (Reply::Key(_)
            | Reply::Committed
            | Reply::ConditionFailed { .. }
            | Reply::Together(_)
            | Reply::Done) => other,
        }
    }
}

impl raft_sim::model::Model for Model {
    type Input = Request;
    type Output = Reply;
    /// Of one key, or of those of the transactions.
    type State = Keys;
    type Key = String;

    fn key(&self, input: &Request) -> Option<String> {
        match input {
            Request::Key(request) => self.one.key(request),
            Request::Transact { .. } | Request::ReadTogether => Some(TOGETHER.to_owned()),
            Request::Beside(_) => Some(String::from("beside")),
        }
    }

    fn initial(&self) -> Keys {
        Keys::new()
    }

    fn step(&self, state: &Keys, input: &Request, output: Option<&Reply>) -> Option<Keys> {
        match input {
            Request::Key(request) => {
                let reply = match output {
                    None => None,
                    Some(Reply::Key(reply)) => Some(reply),
                    Some(_) => return None,
                };
                let key = key_of(request);
                let after = self.one.step(&state.get(key).cloned(), request, reply)?;
                Some(after.map(|found| (key.clone(), found)).into_iter().collect())
            }
            Request::Transact { conditions, writes } => {
                let (after, reply) = transact(state, conditions, writes);
                output.is_none_or(|output| *output == reply).then_some(after)
            }
            Request::ReadTogether => {
                let is_right =
                    |output: &Reply| matches!(output, Reply::Together(keys) if keys == state);
                output.is_none_or(is_right).then(|| state.clone())
            }
            Request::Beside(_) => Some(state.clone()),
        }
    }

    fn may_change(&self, input: &Request, output: Option<&Reply>) -> bool {
        match (input, output) {
            (Request::Key(request), Some(Reply::Key(reply))) => {
                self.one.may_change(request, Some(reply))
            }
            (Request::Key(request), _) => self.one.may_change(request, None),
            (Request::Transact { .. }, output) => {
                !matches!(output, Some(Reply::ConditionFailed { .. }))
            }
            (Request::ReadTogether | Request::Beside(_), _) => false,
        }
    }

    /// The version of the one key; those of the transactions bear no mark.
    fn mark(&self, state: &Keys) -> u64 {
        state.values().next().map_or(0, |(version, _)| *version)
    }

    fn changes_only_at(&self, input: &Request) -> Option<u64> {
        match input {
            Request::Key(request) => self.one.changes_only_at(request),
            Request::Transact { .. } | Request::ReadTogether | Request::Beside(_) => None,
        }
    }

    fn stand_ins(&self, unknown: &[&Request], told: &[&Reply]) -> Vec<Request> {
        let of_keys = unknown.iter().map(|input| match input {
            Request::Key(request) => Some(request),
            Request::Transact { .. } | Request::ReadTogether | Request::Beside(_) => None,
        });
        let Some(of_keys) = of_keys.collect::<Option<Vec<_>>>() else {
            return unknown.iter().map(|input| (*input).clone()).collect();
        };
        let told: Vec<_> = told
            .iter()
            .filter_map(|reply| match reply {
                Reply::Key(reply) => Some(reply),
                Reply::Committed
                | Reply::ConditionFailed { .. }
                | Reply::Together(_)
                | Reply::Done => None,
            })
            .collect();
        self.one.stand_ins(&of_keys, &told).into_iter().map(Request::Key).collect()
    }
}

fn key_of(request: &register::Request<String, Digest>) -> &String {
    match request {
        register::Request::Get { key }
        | register::Request::Put { key, .. }
        | register::Request::Delete { key, .. } => key,
    }
}

fn transact(
    state: &Keys,
    conditions: &[(String, u64)],
    writes: &[(String, Option<Digest>)],
) -> (Keys, Reply) {
    let version = |state: &Keys, key: &str| state.get(key).map_or(0, |(version, _)| *version);
    for (key, expected) in conditions {
        let current = version(state, key);
        if current != *expected {
            return (state.clone(), Reply::ConditionFailed { key: key.clone(), current });
        }
    }
    let mut after = state.clone();
    for (key, value) in writes {
        match value {
            Some(value) => {
                let next = version(&after, key).saturating_add(1);
                after.insert(key.clone(), (next, *value));
            }
            None => {
                after.remove(key);
            }
        }
    }
    (after, Reply::Committed)
}

#[cfg(test)]
mod tests {
    use raft_sim::model::Model as _;

    use super::*;

    fn keys(all: &[(&str, u64, u64)]) -> Keys {
        all.iter()
            .map(|(key, version, value)| ((*key).to_owned(), (*version, Digest(*value))))
            .collect()
    }

    #[test]
    fn a_transaction_is_made_as_a_whole_or_not_at_all() {
        let (before, model) = (keys(&[("a", 1, 7), ("b", 3, 8)]), Model::default());
        let transact = |a: u64, b: u64| Request::Transact {
            conditions: vec![("a".to_owned(), a), ("b".to_owned(), b)],
            writes: vec![("a".to_owned(), Some(Digest(9))), ("b".to_owned(), None)],
        };
        let after = model.step(&before, &transact(1, 3), Some(&Reply::Committed));
        assert_eq!(after, Some(keys(&[("a", 2, 9)])));
        let failed = Reply::ConditionFailed { key: "b".to_owned(), current: 3 };
        assert_eq!(model.step(&before, &transact(1, 2), Some(&failed)), Some(before.clone()));
        assert_eq!(model.step(&before, &transact(1, 2), Some(&Reply::Committed)), None);
        assert_eq!(model.step(&before, &transact(1, 3), Some(&failed)), None);
        assert!(
            model.may_change(&transact(1, 3), None)
                && !model.may_change(&transact(1, 3), Some(&failed))
        );
    }

    #[test]
    fn what_is_read_together_is_of_one_moment() {
        let (state, model) = (keys(&[("a", 1, 7), ("b", 3, 8)]), Model::default());
        let read =
            |keys: Keys| model.step(&state, &Request::ReadTogether, Some(&Reply::Together(keys)));
        assert_eq!(read(state.clone()), Some(state.clone()));
        assert_eq!(read(keys(&[("a", 1, 7)])), None);
    }
}
