//! The replicated state: a map from keys to versioned values.
//!
//! A key has a version from 1 up. Each write names the version that it replaces, so that of two writers who read the
//! same version one learns that it came second: nothing is overwritten unseen.

mod image;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use raft_rsm::{Admission, Context, SnapshotView, StateMachine};
use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// One page of a scan holds at most this many bytes of keys and values (but always one entry): it
/// has to fit into a message, beside others.
pub const SCAN_BYTES_MAX: usize = 1024 * 1024;

/// What one entry of a page counts for beside its key and its value: its version and lengths, as they travel.
const ENTRY_OVERHEAD_BYTES: usize = 16;

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

/// A value and the version at which it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned {
    /// The version, 1 or more.
    pub version: Version,
    /// The value.
    pub value: Bytes,
}

/// What changes the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Creates or replaces a value.
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
        /// At most this many; the page may end earlier, see [`SCAN_BYTES_MAX`].
        limit: u32,
    },
}

/// What a query returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Query::Get`]: the value, if the key exists.
    Value(Option<Versioned>),
    /// To [`Query::Scan`].
    Page(Page),
}

/// One page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The keys with their values, in the order of the keys' bytes.
    pub entries: Vec<(String, Versioned)>,
    /// Whether keys follow that the page had no room for. Only then is it worth to ask for what is after the
    /// last key of this one.
    pub more: bool,
}

/// The state machine.
///
/// Its map is persistent: a clone costs nothing and shares all that does not change later, which is what makes a
/// snapshot cheap.
#[derive(Clone, Debug, Default)]
pub struct Store {
    map: Map,
    /// No part of the state: see [`Limits`].
    limits: Limits,
}

type Map = OrdMap<Arc<str>, Versioned>;

impl Store {
    /// A store without keys, on a node that takes keys and values up to `limits`.
    #[must_use]
    pub fn new(limits: Limits) -> Store {
        Store { map: Map::new(), limits }
    }

    /// How many keys it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether it has no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The value of a key, if the key exists.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Versioned> {
        self.map.get(key)
    }

    /// All keys with their values, in the order of the keys' bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Versioned)> {
        self.map.iter().map(|(key, versioned)| (&**key, versioned))
    }

    fn put(&mut self, key: &str, value: Bytes, version: Version) -> Response {
        match self.map.get_mut(key) {
            Some(versioned) if versioned.version == version => {
                *versioned = Versioned { version: version.next(), value };
                Response::Written { version: version.next() }
            }
            Some(versioned) => Response::VersionMismatch { current: versioned.version },
            None if version == Version::ABSENT => {
                self.map.insert(Arc::from(key), Versioned { version: version.next(), value });
                Response::Written { version: version.next() }
            }
            None => Response::NoKey,
        }
    }

    fn delete(&mut self, key: &str, version: Option<Version>) -> Response {
        let Some(current) = self.map.get(key).map(|versioned| versioned.version) else {
            return Response::NoKey;
        };
        if version.is_some_and(|version| version != current) {
            return Response::VersionMismatch { current };
        }
        self.map.remove(key);
        Response::Deleted { version: current }
    }

    fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Page {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        // A key after which to go on may lie before the prefix; then the prefix decides.
        let first = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let mut page = Page::default();
        let mut bytes = 0;
        for (key, versioned) in self.map.range::<_, str>((first, Bound::Unbounded)) {
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
            page.entries.push((String::from(&**key), versioned.clone()));
        }
        page
    }
}

impl StateMachine for Store {
    type Command = Command;
    type Response = Response;
    type Query = Query;
    type Answer = Answer;

    fn apply(&mut self, _context: &Context, command: Command) -> Response {
        match command {
            Command::Put { key, value, version } => self.put(&key, value, version),
            Command::Delete { key, version } => self.delete(&key, version),
        }
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
        }
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        Box::new(View { map: self.map.clone() })
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        // The old state goes first, so that memory never holds both.
        self.map.clear();
        self.map = image::read(image)?;
        Ok(())
    }
}

/// The store as it was when a snapshot was asked for.
struct View {
    map: Map,
}

impl SnapshotView for View {
    fn write_to(&self, image: &mut dyn io::Write) -> io::Result<()> {
        image::write(&self.map, image)
    }
}
