//! How members are to change.

use raft_core::{Configuration, Member, NodeId};
use serde::{Deserialize, Serialize};

/// A change of membership, as it is asked for: all but the first are relative to the configuration in force where the
/// leader takes it up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MembershipChange {
    /// Exactly these members.
    To(Configuration),
    /// This voter joins, is promoted, or has another address or incarnation from now on. It first catches up as a
    /// learner.
    AddVoter(Member),
    /// The same for a learner, which a voter can become, too.
    AddLearner(Member),
    /// This member leaves.
    Remove(NodeId),
}

impl MembershipChange {
    /// About how many bytes it takes.
    pub(crate) fn len_bytes(&self) -> usize {
        let one = |member: &Member| size_of::<Member>() + member.address.len();
        match self {
            MembershipChange::To(target) => {
                let sets = [target.voters(), target.outgoing(), target.learners()];
                sets.into_iter().flatten().map(one).sum()
            }
            MembershipChange::AddVoter(member) | MembershipChange::AddLearner(member) => {
                one(member)
            }
            MembershipChange::Remove(_) => 0,
        }
    }

    /// What it leads to from `configuration`.
    pub(crate) fn target(self, configuration: &Configuration) -> Configuration {
        match self {
            MembershipChange::To(target) => target,
            MembershipChange::AddVoter(member) => configuration.with_voter(member),
            MembershipChange::AddLearner(member) => configuration.with_learner(member),
            MembershipChange::Remove(id) => configuration.without_member(id),
        }
    }
}
