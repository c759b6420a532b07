//! Who takes part, and what a quorum is.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::NodeId;

/// The members of a cluster (§6).
///
/// A joint configuration has two sets of voters, and every decision needs a majority of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Configuration {
    /// Shared, since it goes along with every batch of entries that is applied.
    sets: Arc<Sets>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Sets {
    /// The voters, sorted: in a joint configuration, those of the new one.
    voters: Vec<NodeId>,
    /// In a joint configuration the voters of the old one, sorted; else empty.
    outgoing: Vec<NodeId>,
    /// Members that receive the log and have no vote, sorted.
    learners: Vec<NodeId>,
}

impl Configuration {
    /// A configuration of voters and learners. Repeated ids count once; a voter is no learner.
    #[must_use]
    pub fn new(
        voters: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Configuration {
        Configuration::joint(voters, [], learners)
    }

    /// A joint configuration, from the voters `outgoing` to the voters `incoming` (§6).
    #[must_use]
    pub fn joint(
        incoming: impl IntoIterator<Item = NodeId>,
        outgoing: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Configuration {
        let voters = sorted(incoming);
        let outgoing = sorted(outgoing);
        let mut learners = sorted(learners);
        learners.retain(|id| voters.binary_search(id).is_err());
        learners.retain(|id| outgoing.binary_search(id).is_err());
        Configuration { sets: Arc::new(Sets { voters, outgoing, learners }) }
    }

    /// The voters; in a joint configuration those of the new one. Sorted.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.sets.voters
    }

    /// In a joint configuration the voters of the old one, else nothing. Sorted.
    #[must_use]
    pub fn outgoing(&self) -> &[NodeId] {
        &self.sets.outgoing
    }

    /// Members without a vote. Sorted.
    #[must_use]
    pub fn learners(&self) -> &[NodeId] {
        &self.sets.learners
    }

    /// Whether decisions need a majority of two sets of voters.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.sets.outgoing.is_empty()
    }

    /// Whether `id` has a vote.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.sets.voters.binary_search(&id).is_ok() || self.sets.outgoing.binary_search(&id).is_ok()
    }

    /// Whether `id` alone decides.
    #[must_use]
    pub fn is_sole_voter(&self, id: NodeId) -> bool {
        self.sets.voters == [id] && !self.is_joint()
    }

    /// Whether `id` is a voter or a learner.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.sets.learners.binary_search(&id).is_ok()
    }

    /// Every member once, sorted.
    #[must_use]
    pub fn members(&self) -> Vec<NodeId> {
        let sets = [&self.sets.voters, &self.sets.outgoing, &self.sets.learners];
        sorted(sets.into_iter().flatten().copied())
    }
}

fn sorted(ids: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    let mut ids: Vec<NodeId> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_the_voters_of_both_sets_and_the_learners_and_nobody_else() {
        let joint = Configuration::joint([1, 2].map(NodeId), [2, 3].map(NodeId), [NodeId(4)]);
        assert_eq!(joint.voters(), [1, 2].map(NodeId));
        assert_eq!(joint.outgoing(), [2, 3].map(NodeId));
        assert_eq!(joint.learners(), [NodeId(4)]);
        assert_eq!(joint.members(), [1, 2, 3, 4].map(NodeId));
        for id in (0..6).map(NodeId) {
            assert_eq!(joint.contains(id), joint.members().contains(&id), "{id}");
        }
    }
}
