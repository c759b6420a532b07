//! What is wrong at the moment: a fault that ends does not end another one that still lasts.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_rsm::raft_core::NodeId;

use crate::disk::Operation;
use crate::event::Site;
use crate::network::Conditions;

/// The faults that last.
#[derive(Default)]
pub(super) struct Active {
    pub(super) cuts: Counts<(Site, Site)>,
    pub(super) paused: Counts<NodeId>,
    /// Nobody starts them before the time.
    pub(super) down: Counts<NodeId>,
    pub(super) full: Counts<NodeId>,
    pub(super) failing: Counts<(NodeId, Operation)>,
    /// By how much, with the number of the fault; the last counts.
    pub(super) slow: BTreeMap<NodeId, Vec<(usize, u32)>>,
    /// With the number of the fault; the last counts.
    pub(super) conditions: Vec<(usize, Conditions)>,
    stuck_until: BTreeMap<NodeId, Duration>,
}

/// How many faults hold each.
pub(super) struct Counts<K>(BTreeMap<K, usize>);

impl Active {
    /// A disk is stuck until `end`, or for as long as it is anyway.
    pub(super) fn stuck_until(&mut self, id: NodeId, end: Duration) -> Duration {
        let until = self.stuck_until.entry(id).or_default();
        *until = end.max(*until);
        *until
    }
}

impl<K> Default for Counts<K> {
    fn default() -> Counts<K> {
        Counts(BTreeMap::new())
    }
}

impl<K: Ord> Counts<K> {
    pub(super) fn add(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    /// Whether it was the last that held it.
    pub(super) fn remove(&mut self, key: &K) -> bool {
        let Some(count) = self.0.get_mut(key) else { return false };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.0.remove(key);
        }
        is_last
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }
}
