//! Leases: they end when nobody keeps them alive, and take the keys with them that are tied to them.
//!
//! Only the log's time counts, so they end at the same entry on every node.

use std::sync::Arc;
use std::time::Duration;

use imbl::{OrdMap, OrdSet};

use super::command::LeaseId;

/// There are at most so many leases.
pub(super) const LEASES_MAX: usize = 100_000;

/// At most so many keys are tied to one lease: all are deleted in one step.
pub(super) const KEYS_MAX: usize = 10_000;

/// All leases. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Leases {
    by_id: OrdMap<LeaseId, Lease>,
    by_end: OrdSet<(Duration, LeaseId)>,
}

/// A lease. Times are the log's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) ttl: Duration,
    pub(super) ends_at: Duration,
    pub(super) keys: OrdSet<Arc<str>>,
}

/// There is no room.
#[derive(Debug)]
pub(super) struct TooMany;

impl Leases {
    pub(super) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    /// In the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&LeaseId, &Lease)> {
        self.by_id.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// When the next one ends.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.by_end.get_min().map(|(end, _)| *end)
    }

    pub(super) fn grant(
        &mut self,
        id: LeaseId,
        ttl: Duration,
        now: Duration,
    ) -> Result<(), TooMany> {
        if self.by_id.len() >= LEASES_MAX {
            return Err(TooMany);
        }
        self.restore(id, ttl, now.saturating_add(ttl));
        Ok(())
    }

    /// Puts back one of a snapshot, without its keys.
    pub(super) fn restore(&mut self, id: LeaseId, ttl: Duration, ends_at: Duration) {
        self.by_id.insert(id, Lease { ttl, ends_at, keys: OrdSet::new() });
        self.by_end.insert((ends_at, id));
    }

    /// Returns its whole time, from now on.
    pub(super) fn keep_alive(&mut self, id: LeaseId, now: Duration) -> Option<Duration> {
        let lease = self.by_id.get_mut(&id)?;
        self.by_end.remove(&(lease.ends_at, id));
        lease.ends_at = now.saturating_add(lease.ttl);
        self.by_end.insert((lease.ends_at, id));
        Some(lease.ttl)
    }

    /// Takes out the first one that has ended by `now`.
    pub(super) fn take_ended(&mut self, now: Duration) -> Option<Lease> {
        let (end, id) = *self.by_end.get_min()?;
        if end > now { None } else { self.take(id) }
    }

    pub(super) fn take(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.by_id.remove(&id)?;
        self.by_end.remove(&(lease.ends_at, id));
        Some(lease)
    }

    /// Ties a key to a lease that lives.
    pub(super) fn tie(&mut self, key: &Arc<str>, id: LeaseId) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.insert(Arc::clone(key));
        }
    }

    pub(super) fn untie(&mut self, key: &str, id: LeaseId) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.remove(key);
        }
    }
}
