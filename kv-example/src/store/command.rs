//! What the store is told and asked, and what it says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How often a key was written since it was created: 1 for the first value, 0 for a key that does not
/// exist.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Version(pub u64);

impl Version {
    /// The version to give for a key that must not exist yet.
    pub const ABSENT: Version = Version(0);

    /// The version that the next write leads to.
    #[must_use]
    pub fn next(self) -> Version {
        Version(self.0.saturating_add(1))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment of the whole store: the index of the log entry that changed it. Unlike a key's version it never begins again,
/// so whoever holds a greater one has come later.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

impl Revision {
    /// The first moment after this one.
    #[must_use]
    pub fn next(self) -> Revision {
        Revision(self.0.saturating_add(1))
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which lease: the revision at which it was granted.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(pub u64);

impl std::fmt::Display for LeaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A value and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned {
    /// The version, 1 or more.
    pub version: Version,
    /// The value.
    pub value: Bytes,
    /// When the key was created ...
    pub created: Revision,
    /// ... and when it was written last.
    pub modified: Revision,
    /// The key is deleted when this lease ends.
    pub lease: Option<LeaseId>,
}

impl Versioned {
    /// As if it had been written at the store's first moment.
    #[cfg(test)]
    pub(crate) fn first(version: Version, value: Bytes) -> Versioned {
        let first = Revision(1);
        Versioned { version, value, created: first, modified: first, lease: None }
    }
}

/// What changes the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Creates or replaces a value. The key is tied to no lease from then on.
    Put {
        /// Which key.
        key: String,
        /// The new value.
        value: Bytes,
        /// The version that it replaces; [`Version::ABSENT`] creates the key.
        version: Version,
    },
    /// Removes a key.
    Delete {
        /// Which key.
        key: String,
        /// Only if the key has this version. `None`: whatever its version.
        version: Option<Version>,
    },
    /// All of these writes, if all of the conditions hold; else nothing.
    Transact(Transaction),
    /// Grants a lease, which ends when it is not kept alive for `ttl` of the log's time.
    Grant {
        /// How long it lives without being kept alive.
        ttl: Duration,
    },
    /// Lets a lease live for its whole time from now on.
    KeepAlive {
        /// Which one.
        lease: LeaseId,
    },
    /// Ends a lease. Its keys are deleted.
    Revoke {
        /// Which one.
        lease: LeaseId,
    },
    /// Creates or replaces a value, on a condition or whatever the key holds.
    Set {
        /// Which key.
        key: String,
        /// The new value.
        value: Bytes,
        /// Only if the key has this version; [`Version::ABSENT`]: only if it does not exist.
        version: Option<Version>,
        /// Tied to this lease from then on, or to none.
        lease: Option<LeaseId>,
    },
}

/// If these versions, then these writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// All have to hold, before anything is written.
    pub conditions: Vec<Condition>,
    /// In this order.
    pub writes: Vec<Write>,
}

/// That a key has a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Which key.
    pub key: String,
    /// The version that it must have; [`Version::ABSENT`]: it must not exist.
    pub version: Version,
}

/// A write of a transaction, whatever the version of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Write {
    /// Creates or replaces a value.
    Put {
        /// Which key.
        key: String,
        /// The new value.
        value: Bytes,
        /// Tied to this lease from then on, or to none.
        lease: Option<LeaseId>,
    },
    /// Removes a key, if it exists.
    Delete {
        /// Which key.
        key: String,
    },
}

impl Write {
    /// Which key it writes.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Write::Put { key, .. } | Write::Delete { key } => key,
        }
    }
}

/// What a command led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The value was written; the key now has this version.
    Written {
        /// The new version.
        version: Version,
    },
    /// The key was removed; it had this version.
    Deleted {
        /// Its last version.
        version: Version,
    },
    /// Nothing was changed: the key has another version.
    VersionMismatch {
        /// The version that it has.
        current: Version,
    },
    /// Nothing was changed: there is no such key.
    NoKey,
    /// All writes of the transaction were made, at this moment.
    Committed {
        /// When.
        revision: Revision,
    },
    /// Nothing was changed: a condition of the transaction does not hold, the first of those that do not.
    ConditionFailed {
        /// The key.
        key: String,
        /// The version that it has; [`Version::ABSENT`]: it does not exist.
        current: Version,
    },
    /// The lease was granted.
    Granted {
        /// Which one.
        lease: LeaseId,
    },
    /// The lease lives for this long from now on.
    KeptAlive {
        /// Its whole time.
        ttl: Duration,
    },
    /// The lease has ended, and its keys are deleted.
    Revoked,
    /// Nothing was changed: there is no such lease, or no longer.
    NoLease,
    /// Nothing was changed: there are too many leases, or too many keys are tied to this one.
    TooMany,
}

/// What asks about the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// The value of a key.
    Get {
        /// Which key.
        key: String,
    },
    /// The keys that begin with a prefix, in the order of their bytes, a page at a time.
    Scan {
        /// The prefix; all keys begin with the empty one.
        prefix: String,
        /// Only keys after this one: the last key of the page before.
        after: Option<String>,
        /// At most this many; the page may end earlier, see [`super::SCAN_BYTES_MAX`].
        limit: u32,
    },
    /// What has happened to the keys that begin with a prefix. Asked so that it waits, it has something to say as soon as
    /// something has.
    Changes {
        /// The prefix; all keys begin with the empty one.
        prefix: String,
        /// From here on.
        from: Cursor,
    },
    /// What a lease is for.
    Lease {
        /// Which one.
        lease: LeaseId,
    },
    /// What the node that answers is, beside the state that all have. Asked of one node.
    About,
}

/// A place between two events: whoever goes on from where an answer ended misses nothing and sees nothing twice, whichever
/// node answers.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Cursor {
    /// Events of this moment and later ones ...
    pub revision: Revision,
    /// ... but for the first so many of this moment, of all keys.
    pub skip: u32,
}

impl From<Revision> for Cursor {
    /// Everything from `revision` on.
    fn from(revision: Revision) -> Cursor {
        Cursor { revision, skip: 0 }
    }
}

/// What has happened to a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub revision: Revision,
    /// To which key.
    pub key: Arc<str>,
    /// What.
    pub change: Change,
}

/// What can happen to a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It has this value now.
    Put(Versioned),
    /// It was deleted, or the lease that it was tied to has ended.
    Deleted {
        /// The version that it had.
        version: Version,
    },
}

/// What a query returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Query::Get`]: the value, if the key exists.
    Value(Option<Versioned>),
    /// To [`Query::Scan`].
    Page(Page),
    /// To [`Query::Changes`].
    Changes(Changes),
    /// To [`Query::Lease`]: the lease, if it lives.
    Lease(Option<LeaseInfo>),
    /// To [`Query::About`].
    About(About),
}

/// A fact of the node that answers, and no part of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Where it serves HTTP, if it does, `HOST:PORT`.
    pub http: Option<String>,
    /// How much it holds.
    pub holds: Holds,
}

/// How much a node holds.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// Keys.
    pub keys: u64,
    /// Leases that live.
    pub leases: u64,
    /// What has happened lately, in bytes: all of it ...
    pub history_bytes: u64,
    /// ... from this moment on ...
    pub history_from: Revision,
    /// ... to this one.
    pub history_to: Revision,
    /// How long ago the oldest of it happened, by the log's time; `None`: it knows of nothing.
    pub history_age: Option<Duration>,
}

/// One page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The keys with their values, in the order of the keys' bytes.
    pub entries: Vec<(String, Versioned)>,
    /// Whether keys follow that the page had no room for. Only then is it worth to ask for what is after the
    /// last key of this one.
    pub more: bool,
    /// The moment of the store that the page shows.
    pub revision: Revision,
}

/// What has happened since a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Changes {
    /// These events, in their order, and all of them up to `next`.
    Events {
        /// Those of the prefix; none where nothing has happened.
        events: Vec<Event>,
        /// From where to go on.
        next: Cursor,
    },
    /// The node does not remember what happened from there on.
    Compacted {
        /// From when on it does.
        oldest: Revision,
    },
}

/// A lease that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseInfo {
    /// How long it lives without being kept alive.
    pub ttl: Duration,
    /// How much of that is left, by the last time that the log tells.
    pub left: Duration,
    /// The keys that are deleted when it ends, at most 1,000 of them.
    pub keys: Vec<String>,
}
