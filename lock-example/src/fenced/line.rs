//! Who stands in line for a lock, and who is next.

use std::sync::atomic::{AtomicBool, Ordering};

use kv_example::clerk::{Clerk, TransactError, WatchError};
use kv_example::store::{
    Change, Condition, Cursor, LeaseId, Revision, Transaction, Version, Versioned, Write,
};
use raft_rsm::ClientError;

/// Keys a page, when the line is read.
const PAGE: u32 = 1000;

/// A lease in the name of a key: all 64 bits, so that no name is the beginning of another.
const LEASE_DIGITS: usize = 16;

/// The keys of a lock.
pub(super) struct Line {
    clerk: Clerk,
    /// All keys of the lock begin so, and keys of other locks may.
    prefix: String,
    /// Whether anybody was seen before one who looked, since it entered.
    has_seen_others: AtomicBool,
}

/// What came of entering the line.
pub(super) enum Entered {
    InLine,
    /// The lease has ended, and its place with it.
    NoLease,
}

/// What a lease sees from its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum View {
    /// It has no place any more.
    Gone,
    /// Nobody stands before it. Its key was created then.
    First { created: Revision },
    /// This key is the last of those before it; what happens to it from then on is not in this view.
    Behind { key: String, from: Revision },
}

impl Line {
    pub(super) fn new(clerk: Clerk, name: &str) -> Line {
        let has_seen_others = AtomicBool::new(false);
        Line { clerk, prefix: format!("lock/{name}/"), has_seen_others }
    }

    pub(super) fn has_seen_others(&self) -> bool {
        self.has_seen_others.load(Ordering::Relaxed)
    }

    /// For one who enters anew.
    pub(super) fn forget_others(&self) {
        self.has_seen_others.store(false, Ordering::Relaxed);
    }

    /// Puts the key of `lease`, tied to it.
    pub(super) async fn enter(&self, lease: LeaseId) -> Result<Entered, TransactError> {
        let key = self.key(lease);
        let conditions = vec![Condition { key: key.clone(), version: Version::ABSENT }];
        let writes = vec![Write::Put { key, value: bytes::Bytes::new(), lease: Some(lease) }];
        match self.clerk.transact(Transaction { conditions, writes }).await {
            // Nobody else puts this key, so that it is there means that an earlier try has put it; if it is not there, the
            // lease has ended, and no try that is still on its way can succeed. A look at the line tells.
            Ok(_) | Err(TransactError::Maybe | TransactError::ConditionFailed { .. }) => {
                Ok(Entered::InLine)
            }
            Err(TransactError::NoLease) => Ok(Entered::NoLease),
            Err(error) => Err(error),
        }
    }

    /// What `lease` sees.
    pub(super) async fn look(&self, lease: LeaseId) -> Result<View, ClientError> {
        let (keys, read_at) = self.read().await?;
        let view = view(&self.key(lease), &keys, read_at);
        if let View::Behind { .. } = view {
            self.has_seen_others.store(true, Ordering::Relaxed);
        }
        Ok(view)
    }

    /// How many stand in line, the holder included.
    pub(super) async fn len(&self) -> Result<usize, ClientError> {
        Ok(self.read().await?.0.len())
    }

    /// Returns when `key` is gone, or it cannot be said any more when that was.
    pub(super) async fn wait_until_gone(
        &self,
        key: &str,
        from: Revision,
    ) -> Result<(), ClientError> {
        let mut watch = self.clerk.watch_from(key, Cursor::from(from));
        loop {
            match watch.next().await {
                Ok(event) if *event.key == *key => match event.change {
                    Change::Deleted { .. } => return Ok(()),
                    Change::Put(_) => {}
                },
                // Of a lock whose name begins like this key.
                Ok(_) => {}
                Err(WatchError::Compacted { .. }) => return Ok(()),
                Err(WatchError::Client(error)) => return Err(error),
                Err(other) => return Err(ClientError::Unreadable { reason: other.to_string() }),
            }
        }
    }

    fn key(&self, lease: LeaseId) -> String {
        format!("{}{:0width$x}", self.prefix, lease.0, width = LEASE_DIGITS)
    }

    /// All keys of the lock with the moments at which they were created, and the moment from which on what happens to them
    /// may not be in there.
    async fn read(&self) -> Result<(Vec<(String, Revision)>, Revision), ClientError> {
        let (mut keys, mut read_at, mut after) = (Vec::new(), None, None);
        loop {
            let page = self.clerk.scan(&self.prefix, after.as_deref(), PAGE).await?;
            // Later pages may be later: what counts is the first.
            read_at.get_or_insert(page.revision);
            after = page.entries.last().map(|(key, _)| key.clone());
            let places = page.entries.into_iter().filter(|(key, _)| self.is_place(key));
            keys.extend(places.map(|(key, Versioned { created, .. })| (key, created)));
            if !page.more || after.is_none() {
                return Ok((keys, read_at.unwrap_or_default().next()));
            }
        }
    }

    fn is_place(&self, key: &str) -> bool {
        is_place(&self.prefix, key)
    }
}

/// Whether a key is one of the lock's: the prefix, and a lease.
fn is_place(prefix: &str, key: &str) -> bool {
    key.strip_prefix(prefix).is_some_and(|lease| {
        lease.len() == LEASE_DIGITS && lease.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn view(own: &str, keys: &[(String, Revision)], from: Revision) -> View {
    // One that does not see itself has lost its place: that nobody is before it says nothing.
    let Some((_, created)) = keys.iter().find(|(key, _)| key == own) else { return View::Gone };
    let before = keys.iter().filter(|(_, other)| other < created);
    match before.max_by_key(|(_, other)| *other) {
        Some((key, _)) => View::Behind { key: key.clone(), from },
        None => View::First { created: *created },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ_AT: Revision = Revision(100);

    fn keys(all: &[(&str, u64)]) -> Vec<(String, Revision)> {
        all.iter().map(|(key, created)| ((*key).to_owned(), Revision(*created))).collect()
    }

    #[test]
    fn whose_key_was_created_first_is_first_whatever_its_name() {
        let line = keys(&[("a", 9), ("b", 7), ("c", 8)]);
        assert_eq!(view("b", &line, READ_AT), View::First { created: Revision(7) });
    }

    #[test]
    fn each_other_one_waits_for_the_key_just_before_its_own() {
        let line = keys(&[("a", 9), ("b", 7), ("c", 8)]);
        let behind = |key: &str| View::Behind { key: key.to_owned(), from: READ_AT };
        assert_eq!(view("a", &line, READ_AT), behind("c"));
        assert_eq!(view("c", &line, READ_AT), behind("b"));
    }

    #[test]
    fn one_whose_key_is_gone_is_not_first_because_nobody_is_before_it() {
        assert_eq!(view("a", &[], READ_AT), View::Gone);
        assert_eq!(view("a", &keys(&[("b", 7)]), READ_AT), View::Gone);
    }

    #[test]
    fn keys_of_a_lock_whose_name_begins_with_this_ones_are_not_its_places() {
        assert!(is_place("lock/a/", "lock/a/0123456789abcdef"));
        assert!(!is_place("lock/a/", "lock/a/b/0123456789abcdef"));
        assert!(!is_place("lock/a/", "lock/a/0123456789abcdef/0123456789abcdef"));
    }
}
