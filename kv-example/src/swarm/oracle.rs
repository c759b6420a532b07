//! The rules of the store again, as plainly as they can be said: what must have happened, given what the machines were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use raft_rsm::Context;

use crate::store::{
    Change, Command, Condition, Event, LeaseId, Response, Revision, Transaction, Version,
    Versioned, Write,
};

/// A store without limits, that forgets nothing.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) keys: BTreeMap<Arc<str>, Versioned>,
    leases: BTreeMap<LeaseId, Lease>,
    /// All that has ever happened.
    pub(super) events: Vec<Event>,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    ends_at: Duration,
}

impl Oracle {
    /// The log's time is told: returns the leases that end by it.
    pub(super) fn advance(&mut self, context: &Context) -> Vec<LeaseId> {
        let by = |(id, lease): (&LeaseId, &Lease)| {
            (lease.ends_at <= context.time).then_some((lease.ends_at, *id))
        };
        let mut ended: Vec<_> = self.leases.iter().filter_map(by).collect();
        ended.sort_unstable();
        for (_, id) in &ended {
            self.end(Revision(context.index.0), *id);
        }
        ended.into_iter().map(|(_, id)| id).collect()
    }

    pub(super) fn apply(&mut self, context: &Context, command: Command) -> Response {
        let at = Revision(context.index.0);
        match command {
            Command::Put { key, value, version } => match self.version(&key) {
                current if current == version => {
                    Response::Written { version: self.put(at, &key, value, None) }
                }
                Version::ABSENT => Response::NoKey,
                current => Response::VersionMismatch { current },
            },
            Command::Delete { key, version } => match self.version(&key) {
                Version::ABSENT => Response::NoKey,
                current if version.is_none_or(|version| version == current) => {
                    self.delete(at, &key);
                    Response::Deleted { version: current }
                }
                current => Response::VersionMismatch { current },
            },
            Command::Set { key, value, version, lease } => match self.version(&key) {
                current if version.is_some_and(|version| version != current) => match current {
                    Version::ABSENT => Response::NoKey,
                    current => Response::VersionMismatch { current },
                },
                _ if lease.is_some_and(|lease| !self.leases.contains_key(&lease)) => {
                    Response::NoLease
                }
                _ => Response::Written { version: self.put(at, &key, value, lease) },
            },
            Command::Transact(transaction) => self.transact(at, transaction),
            Command::Grant { ttl } => {
                let lease = LeaseId(at.0);
                self.leases.insert(lease, Lease { ttl, ends_at: context.time.saturating_add(ttl) });
                Response::Granted { lease }
            }
            Command::KeepAlive { lease } => match self.leases.get_mut(&lease) {
                Some(Lease { ttl, ends_at }) => {
                    *ends_at = context.time.saturating_add(*ttl);
                    Response::KeptAlive { ttl: *ttl }
                }
                None => Response::NoLease,
            },
            Command::Revoke { lease } => {
                if !self.leases.contains_key(&lease) {
                    return Response::NoLease;
                }
                self.end(at, lease);
                Response::Revoked
            }
        }
    }

    fn transact(&mut self, at: Revision, transaction: Transaction) -> Response {
        for Condition { key, version } in transaction.conditions {
            let current = self.version(&key);
            if current != version {
                return Response::ConditionFailed { key, current };
            }
        }
        let mut writes = transaction.writes.iter();
        let lives = |write: &Write| match write {
            Write::Put { lease: Some(lease), .. } => self.leases.contains_key(lease),
            Write::Put { .. } | Write::Delete { .. } => true,
        };
        if !writes.all(lives) {
            return Response::NoLease;
        }
        for write in transaction.writes {
            match write {
                Write::Put { key, value, lease } => {
                    self.put(at, &key, value, lease);
                }
                Write::Delete { key } => self.delete(at, &key),
            }
        }
        Response::Committed { revision: at }
    }

    fn version(&self, key: &str) -> Version {
        self.keys.get(key).map_or(Version::ABSENT, |versioned| versioned.version)
    }

    fn put(
        &mut self,
        at: Revision,
        key: &str,
        value: bytes::Bytes,
        lease: Option<LeaseId>,
    ) -> Version {
        let version = self.version(key).next();
        let created = self.keys.get(key).map_or(at, |versioned| versioned.created);
        let versioned = Versioned { version, value, created, modified: at, lease };
        let key: Arc<str> = Arc::from(key);
        self.keys.insert(Arc::clone(&key), versioned.clone());
        self.events.push(Event { revision: at, key, change: Change::Put(versioned) });
        version
    }

    fn delete(&mut self, at: Revision, key: &str) {
        if let Some((key, Versioned { version, .. })) = self.keys.remove_entry(key) {
            self.events.push(Event { revision: at, key, change: Change::Deleted { version } });
        }
    }

    fn end(&mut self, at: Revision, lease: LeaseId) {
        self.leases.remove(&lease);
        let tied = self.keys.iter().filter(|(_, versioned)| versioned.lease == Some(lease));
        let tied: Vec<Arc<str>> = tied.map(|(key, _)| Arc::clone(key)).collect();
        tied.iter().for_each(|key| self.delete(at, key));
    }
}
