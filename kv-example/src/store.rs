//! The replicated state: a map from keys to versioned values.
//!
//! A key has a version from 1 up. Each write names the version that it replaces, so that of two writers who read the
//! same version one learns that it came second: nothing is overwritten unseen. Several keys are written together by a
//! [`Transaction`]; a key that is tied to a lease ends with it; and what happens to keys can be watched.

mod command;
mod history;
mod image;
mod leases;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use imbl::OrdMap;
use raft_rsm::raft_core::LogIndex;
use raft_rsm::{Admission, Context, SnapshotView, StateMachine};

pub use self::command::*;
use self::history::{At, Happened, History};
use self::leases::{Lease, Leases, TooMany};
use crate::limits::Limits;

/// One page of a scan holds at most this many bytes of keys and values (but always one entry): it
/// has to fit into a message, beside others.
pub const SCAN_BYTES_MAX: usize = 1024 * 1024;

/// What one entry of a page counts for beside its key and its value: its versions and lengths, as they travel.
const ENTRY_OVERHEAD_BYTES: usize = 48;

/// Of the keys of a lease, at most so many are told.
const LEASE_KEYS_TOLD_MAX: usize = 1000;

/// The state machine.
///
/// Its maps are persistent: a clone costs nothing and shares all that does not change later, which is what makes a
/// snapshot cheap.
#[derive(Clone, Debug, Default)]
pub struct Store {
    state: State,
    /// No part of the state: what this node remembers for those who watch.
    history: History,
    /// No part of the state: see [`Limits`].
    limits: Limits,
    /// No part of the state: what this node says of itself.
    about: About,
}

/// What is replicated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    map: Map,
    leases: Leases,
    /// When something was written last.
    revision: Revision,
    /// The log's time, as far as the store was told.
    time: Duration,
}

/// A value is there once, for the map and for the history: a map of small entries takes less room than one of large ones,
/// since its nodes are never quite full.
type Map = OrdMap<Arc<str>, Arc<Versioned>>;

impl Store {
    /// A store without keys, on a node that takes keys and values up to `limits`.
    #[must_use]
    pub fn new(limits: Limits) -> Store {
        Store { limits, ..Store::default() }
    }

    /// The same, on a node that says this of itself.
    #[must_use]
    pub fn on_node(self, about: About) -> Store {
        Store { about, ..self }
    }

    /// How many keys it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.map.len()
    }

    /// Whether it has no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.map.is_empty()
    }

    /// The value of a key, if the key exists.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Versioned> {
        self.state.map.get(key).map(|versioned| &**versioned)
    }

    /// All keys with their values, in the order of the keys' bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Versioned)> {
        self.state.map.iter().map(|(key, versioned)| (&**key, &**versioned))
    }

    fn version(&self, key: &str) -> Version {
        self.get(key).map_or(Version::ABSENT, |versioned| versioned.version)
    }

    fn set(
        &mut self,
        at: Revision,
        key: &str,
        value: Bytes,
        version: Option<Version>,
        lease: Option<LeaseId>,
    ) -> Response {
        let current = self.version(key);
        if version.is_some_and(|version| version != current) {
            return match current {
                Version::ABSENT => Response::NoKey,
                current => Response::VersionMismatch { current },
            };
        }
        if let Some(refusal) = lease.and_then(|lease| self.cannot_tie(lease, &[key].into())) {
            return refusal;
        }
        Response::Written { version: self.write(at, key, value, lease) }
    }

    /// Why these keys cannot be tied to a lease. Those that are tied to it already need no room.
    fn cannot_tie(&self, lease: LeaseId, keys: &BTreeSet<&str>) -> Option<Response> {
        let Some(lease) = self.state.leases.get(lease) else { return Some(Response::NoLease) };
        let more = keys.iter().filter(|key| !lease.keys.contains(**key)).count();
        (lease.keys.len() + more > leases::KEYS_MAX).then_some(Response::TooMany)
    }

    fn delete(&mut self, at: Revision, key: &str, version: Option<Version>) -> Response {
        let current = self.version(key);
        if current == Version::ABSENT {
            return Response::NoKey;
        }
        if version.is_some_and(|version| version != current) {
            return Response::VersionMismatch { current };
        }
        self.remove(at, key);
        Response::Deleted { version: current }
    }

    fn transact(&mut self, at: Revision, transaction: Transaction) -> Response {
        let Transaction { conditions, writes } = transaction;
        for Condition { key, version } in conditions {
            let current = self.version(&key);
            if current != version {
                return Response::ConditionFailed { key, current };
            }
        }
        let mut tied: BTreeMap<LeaseId, BTreeSet<&str>> = BTreeMap::new();
        for write in &writes {
            if let Write::Put { key, lease: Some(lease), .. } = write {
                tied.entry(*lease).or_default().insert(key);
            }
        }
        for (lease, keys) in tied {
            if let Some(refusal) = self.cannot_tie(lease, &keys) {
                return refusal;
            }
        }
        for write in writes {
            match write {
                Write::Put { key, value, lease } => {
                    self.write(at, &key, value, lease);
                }
                Write::Delete { key } => self.remove(at, &key),
            }
        }
        Response::Committed { revision: at }
    }

    fn grant(&mut self, at: Revision, ttl: Duration) -> Response {
        let lease = LeaseId(at.0);
        match self.state.leases.grant(lease, ttl, self.state.time) {
            Ok(()) => Response::Granted { lease },
            Err(TooMany) => Response::TooMany,
        }
    }

    fn revoke(&mut self, at: Revision, lease: LeaseId) -> Response {
        match self.state.leases.take(lease) {
            Some(lease) => {
                self.ended(at, &lease);
                Response::Revoked
            }
            None => Response::NoLease,
        }
    }

    /// A lease has ended and is taken out: its keys go with it.
    fn ended(&mut self, at: Revision, lease: &Lease) {
        for key in &lease.keys {
            self.remove(at, key);
        }
    }

    /// Returns the key's new version.
    fn write(&mut self, at: Revision, key: &str, value: Bytes, lease: Option<LeaseId>) -> Version {
        let State { map, leases, revision, .. } = &mut self.state;
        let (key, created, version) = match map.get_key_value(key) {
            Some((key, before)) => {
                if let Some(before) = before.lease {
                    leases.untie(key, before);
                }
                (Arc::clone(key), before.created, before.version.next())
            }
            None => (Arc::from(key), at, Version::ABSENT.next()),
        };
        if let Some(lease) = lease {
            leases.tie(&key, lease);
        }
        let versioned = Arc::new(Versioned { version, value, created, modified: at, lease });
        map.insert(Arc::clone(&key), Arc::clone(&versioned));
        *revision = at;
        self.happened(at, key, Happened::Put(versioned));
        version
    }

    fn remove(&mut self, at: Revision, key: &str) {
        let State { map, leases, revision, .. } = &mut self.state;
        let Some((key, removed)) = map.remove_with_key(key) else { return };
        let Versioned { version, lease, .. } = *removed;
        if let Some(lease) = lease {
            leases.untie(&key, lease);
        }
        *revision = at;
        self.happened(at, key, Happened::Deleted(version));
    }

    fn happened(&mut self, revision: Revision, key: Arc<str>, happened: Happened) {
        let at = At { revision, time: self.state.time };
        self.history.push(at, key, happened, self.limits.history_bytes_max);
    }

    fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Page {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        // A key after which to go on may lie before the prefix; then the prefix decides.
        let first = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let mut page = Page { revision: self.state.revision, ..Page::default() };
        let mut bytes = 0;
        for (key, versioned) in self.state.map.range::<_, str>((first, Bound::Unbounded)) {
            if !key.starts_with(prefix) {
                break;
            }
            let cost = key.len() + versioned.value.len() + ENTRY_OVERHEAD_BYTES;
            let too_large = bytes + cost > SCAN_BYTES_MAX && !page.entries.is_empty();
            if page.entries.len() >= limit || too_large {
                page.more = true;
                break;
            }
            bytes += cost;
            page.entries.push((String::from(&**key), (**versioned).clone()));
        }
        page
    }

    fn about(&self) -> About {
        let State { map, leases, time, .. } = &self.state;
        let begins_at = self.history.begins_at();
        let (history_from, history_to) = self.history.span();
        let holds = Holds {
            keys: map.len() as u64,
            leases: leases.len() as u64,
            history_bytes: self.history.bytes() as u64,
            history_from,
            history_to,
            history_age: begins_at.map(|begins_at| time.saturating_sub(begins_at)),
        };
        About { holds, ..self.about.clone() }
    }

    fn lease(&self, lease: LeaseId) -> Option<LeaseInfo> {
        let Lease { ttl, ends_at, keys } = self.state.leases.get(lease)?;
        let keys = keys.iter().take(LEASE_KEYS_TOLD_MAX).map(|key| (**key).to_owned()).collect();
        let left = ends_at.saturating_sub(self.state.time);
        Some(LeaseInfo { ttl: *ttl, left, keys })
    }
}

impl StateMachine for Store {
    type Command = Command;
    type Response = Response;
    type Query = Query;
    type Answer = Answer;

    fn apply(&mut self, context: &Context, command: Command) -> Response {
        let at = Revision(context.index.0);
        match command {
            Command::Put { key, value, version } => self.set(at, &key, value, Some(version), None),
            Command::Set { key, value, version, lease } => {
                self.set(at, &key, value, version, lease)
            }
            Command::Delete { key, version } => self.delete(at, &key, version),
            Command::Transact(transaction) => self.transact(at, transaction),
            Command::Grant { ttl } => self.grant(at, ttl),
            Command::KeepAlive { lease } => {
                match self.state.leases.keep_alive(lease, self.state.time) {
                    Some(ttl) => Response::KeptAlive { ttl },
                    None => Response::NoLease,
                }
            }
            Command::Revoke { lease } => self.revoke(at, lease),
        }
    }

    fn advance(&mut self, context: &Context) {
        let at = Revision(context.index.0);
        self.state.time = context.time;
        self.history.passed(at);
        while let Some(lease) = self.state.leases.take_ended(context.time) {
            self.ended(at, &lease);
        }
    }

    fn due(&self) -> Option<Duration> {
        self.state.leases.next_end()
    }

    fn admission(&self) -> Admission<Command> {
        let limits = self.limits;
        Arc::new(move |command| limits.check(command).map_err(|error| error.to_string()))
    }

    fn query(&self, query: Query) -> Answer {
        match query {
            Query::Get { key } => Answer::Value(self.get(&key).cloned()),
            Query::Scan { prefix, after, limit } => {
                Answer::Page(self.scan(&prefix, after.as_deref(), limit))
            }
            Query::Changes { prefix, from } => Answer::Changes(self.history.changes(&prefix, from)),
            Query::Lease { lease } => Answer::Lease(self.lease(lease)),
            Query::About => Answer::About(self.about()),
        }
    }

    fn is_ready(&self, query: &Query, since: LogIndex) -> bool {
        match query {
            Query::Changes { prefix, from } => {
                let bytes_max = self.limits.history_bytes_max;
                self.history.is_ready(prefix, *from, Revision(since.0), bytes_max)
            }
            Query::Get { .. } | Query::Scan { .. } | Query::Lease { .. } | Query::About => true,
        }
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        Box::new(View(self.state.clone()))
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        // The old state goes first, so that memory never holds both.
        self.state = State::default();
        self.state = image::read(image)?;
        self.history = History::since(self.state.revision);
        Ok(())
    }
}

/// The store as it was when a snapshot was asked for.
struct View(State);

impl SnapshotView for View {
    fn write_to(&self, image: &mut dyn io::Write) -> io::Result<()> {
        image::write(&self.0, image)
    }
}
