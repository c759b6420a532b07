//! Who takes part, under which incarnation, and where.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::NodeId;

/// Names one data directory of a node: whoever lost its disk has a new one, and has forgotten its votes and
/// acknowledgements.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// No data directory has this one: what it would say counts for nothing.
    pub const NOBODY: Incarnation = Incarnation(u64::MAX);
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A node as a configuration names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Member {
    /// The node.
    pub id: NodeId,
    /// The only incarnation whose votes and acknowledgements count. `None`: not known yet, so whichever speaks; a
    /// leader that hears of one names it in the next configuration. Whose first configuration that is takes it for its
    /// own name; whom it reaches by a log or a snapshot does not.
    pub incarnation: Option<Incarnation>,
    /// Where it listens, in whatever form the transport understands; may be empty.
    pub address: String,
}

impl Member {
    /// The longest address, in bytes.
    pub const ADDRESS_BYTES_MAX: usize = 512;

    /// A member whose incarnation is not known yet.
    #[must_use]
    pub fn new(id: NodeId, address: impl Into<String>) -> Member {
        Member { id, incarnation: None, address: address.into() }
    }

    /// A member under this incarnation.
    #[must_use]
    pub fn of_incarnation(
        id: NodeId,
        incarnation: Incarnation,
        address: impl Into<String>,
    ) -> Member {
        Member { id, incarnation: Some(incarnation), address: address.into() }
    }

    /// Whether what this incarnation of node `id` says counts for this member.
    #[must_use]
    pub fn is(&self, id: NodeId, incarnation: Incarnation) -> bool {
        self.id == id && self.incarnation.is_none_or(|own| own == incarnation)
    }
}

/// The members of a cluster (§6).
///
/// A joint configuration has two sets of voters, and every decision needs a majority of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Configuration {
    /// Shared, since it goes along with every batch of entries that is applied.
    sets: Arc<Sets>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Sets {
    /// In a joint configuration the voters of the new one.
    voters: Vec<Member>,
    /// In a joint configuration the voters of the old one, else empty.
    outgoing: Vec<Member>,
    /// Members that receive the log and have no vote, at least once a joint configuration is left.
    learners: Vec<Member>,
}

impl Configuration {
    /// The most members that a change of membership may lead to.
    pub const MEMBERS_MAX: usize = 128;

    /// Voters and learners without addresses, all of incarnation 0: for those who do not tell incarnations apart.
    /// Repeated ids count once; a voter is no learner.
    #[must_use]
    pub fn new(
        voters: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Configuration {
        Configuration::joint(voters, [], learners)
    }

    /// A joint configuration, from the voters `outgoing` to the voters `incoming` (§6), as [`Configuration::new`].
    #[must_use]
    pub fn joint(
        incoming: impl IntoIterator<Item = NodeId>,
        outgoing: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Configuration {
        let member = |id| Member::of_incarnation(id, Incarnation(0), "");
        Configuration::of_members(
            incoming.into_iter().map(member),
            outgoing.into_iter().map(member),
            learners.into_iter().map(member),
        )
    }

    /// A configuration of these members; `outgoing` is empty unless it is joint. Of several with one id in one set the
    /// first counts, and who is among `voters` under the same incarnation is no learner.
    #[must_use]
    pub fn of_members(
        voters: impl IntoIterator<Item = Member>,
        outgoing: impl IntoIterator<Item = Member>,
        learners: impl IntoIterator<Item = Member>,
    ) -> Configuration {
        let (voters, outgoing) = (sorted(voters), sorted(outgoing));
        let mut learners = sorted(learners);
        let votes = |learner: &Member| {
            voters.iter().any(|v| v.id == learner.id && v.incarnation == learner.incarnation)
        };
        learners.retain(|learner| !votes(learner));
        Configuration { sets: Arc::new(Sets { voters, outgoing, learners }) }
    }

    /// The voters; in a joint configuration those of the new one. Sorted by id.
    #[must_use]
    pub fn voters(&self) -> &[Member] {
        &self.sets.voters
    }

    /// In a joint configuration the voters of the old one, else nothing. Sorted by id.
    #[must_use]
    pub fn outgoing(&self) -> &[Member] {
        &self.sets.outgoing
    }

    /// Members without a vote, sorted by id. In a joint configuration an outgoing voter that becomes a learner is among
    /// them already.
    #[must_use]
    pub fn learners(&self) -> &[Member] {
        &self.sets.learners
    }

    /// Whether decisions need a majority of two sets of voters.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.sets.outgoing.is_empty()
    }

    /// Whether `id` has a vote, whatever its incarnation.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.all_voters().any(|voter| voter.id == id)
    }

    /// Whether this incarnation of `id` has a vote.
    #[must_use]
    pub fn is_voter_as(&self, id: NodeId, incarnation: Incarnation) -> bool {
        self.all_voters().any(|voter| voter.is(id, incarnation))
    }

    /// Whether `id` is a voter or a learner.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.member(id).is_some()
    }

    /// The member `id`, under its newest incarnation.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.newest_first().find(|member| member.id == id)
    }

    /// Every member once, under its newest incarnation, sorted by id.
    #[must_use]
    pub fn members(&self) -> Vec<&Member> {
        let mut members: Vec<&Member> = self.newest_first().collect();
        // The sort is stable, so the newest of each stays the first.
        members.sort_by_key(|member| member.id);
        members.dedup_by_key(|member| member.id);
        members
    }

    /// The same members, whatever their incarnations: for a first start, when nobody knows them yet.
    #[must_use]
    pub fn unnamed(&self) -> Configuration {
        let unnamed = |member: &Member| Member { incarnation: None, ..member.clone() };
        Configuration::of_members(
            self.voters().iter().map(unnamed),
            self.outgoing().iter().map(unnamed),
            self.learners().iter().map(unnamed),
        )
    }

    /// The same members, with `member` as a voter.
    #[must_use]
    pub fn with_voter(&self, member: Member) -> Configuration {
        let (voters, learners) = self.without(member.id);
        Configuration::of_members(voters.into_iter().chain([member]), [], learners)
    }

    /// The same members, with `member` as a learner.
    #[must_use]
    pub fn with_learner(&self, member: Member) -> Configuration {
        let (voters, learners) = self.without(member.id);
        Configuration::of_members(voters, [], learners.into_iter().chain([member]))
    }

    /// The same members but for `id`.
    #[must_use]
    pub fn without_member(&self, id: NodeId) -> Configuration {
        let (voters, learners) = self.without(id);
        Configuration::of_members(voters, [], learners)
    }

    fn without(&self, id: NodeId) -> (Vec<Member>, Vec<Member>) {
        let others = |set: &[Member]| set.iter().filter(|m| m.id != id).cloned().collect();
        (others(self.voters()), others(self.learners()))
    }

    /// The joint configuration on the way from this one, which is not joint, to `target` (§6).
    pub(crate) fn towards(&self, target: &Configuration) -> Configuration {
        let outgoing = self.voters().iter().map(|voter| {
            let same = target.member(voter.id).is_none_or(|m| m.incarnation == voter.incarnation);
            let mut voter = voter.clone();
            if !same {
                // What the node was has been forgotten, and what it is now did not promise anything to this set.
                voter.incarnation = Some(Incarnation::NOBODY);
            }
            voter
        });
        Configuration::of_members(
            target.voters().iter().cloned(),
            outgoing,
            target.learners().iter().cloned(),
        )
    }

    /// Whether a majority of the voters neither is named otherwise nor comes back under another incarnation in `target`:
    /// those who do count for nothing on the way there.
    pub(crate) fn stays_a_quorum_in(&self, target: &Configuration) -> bool {
        let stays = |voter: &&Member| {
            target.member(voter.id).is_none_or(|m| m.incarnation == voter.incarnation)
        };
        self.voters().iter().filter(stays).count() > self.voters().len() / 2
    }

    /// What follows upon a joint configuration (§6).
    pub(crate) fn after_joint(&self) -> Configuration {
        let (voters, learners) = (self.voters(), self.learners());
        Configuration::of_members(voters.iter().cloned(), [], learners.iter().cloned())
    }

    /// The same members, with the incarnations and addresses of this one where `target` leaves them open.
    pub(crate) fn complete(&self, target: &Configuration) -> Configuration {
        let complete = |member: &Member| {
            let mut member = member.clone();
            if let Some(known) = self.member(member.id) {
                if member.incarnation.is_none() {
                    member.incarnation = known.incarnation;
                }
                if member.address.is_empty() {
                    member.address.clone_from(&known.address);
                }
            }
            member
        };
        Configuration::of_members(
            target.voters().iter().map(complete),
            [],
            target.learners().iter().map(complete),
        )
    }

    /// The same members, of which those without an incarnation have the one that `known` names.
    pub(crate) fn with_incarnations(
        &self,
        known: impl Fn(NodeId) -> Option<Incarnation>,
    ) -> Configuration {
        let name = |member: &Member| {
            let incarnation = member.incarnation.or_else(|| known(member.id));
            Member { incarnation, ..member.clone() }
        };
        Configuration::of_members(
            self.voters().iter().map(name),
            self.outgoing().iter().map(name),
            self.learners().iter().map(name),
        )
    }

    /// Whether it says of each voter and learner which incarnation counts.
    pub(crate) fn names_all_incarnations(&self) -> bool {
        let Sets { voters, outgoing: _, learners } = &*self.sets;
        let is_named = |member: &Member| member.incarnation.is_some();
        voters.iter().all(is_named) && learners.iter().all(is_named)
    }

    /// Whether both have the same voters under the same incarnations: then no decision needs two majorities.
    pub(crate) fn has_voters_of(&self, other: &Configuration) -> bool {
        let names =
            |set: &[Member]| -> Vec<_> { set.iter().map(|m| (m.id, m.incarnation)).collect() };
        names(self.voters()) == names(other.voters())
            && names(self.outgoing()) == names(other.outgoing())
    }

    /// About how many bytes it takes, wherever it is stored.
    pub(crate) fn len_bytes(&self) -> usize {
        const MEMBER_BYTES: usize = 32;
        self.newest_first().map(|member| MEMBER_BYTES + member.address.len()).sum()
    }

    fn all_voters(&self) -> impl Iterator<Item = &Member> {
        self.sets.voters.iter().chain(&self.sets.outgoing)
    }

    /// A learner may be the new incarnation of a voter, and a voter that of an outgoing one.
    fn newest_first(&self) -> impl Iterator<Item = &Member> {
        self.sets.learners.iter().chain(self.all_voters())
    }
}

fn sorted(members: impl IntoIterator<Item = Member>) -> Vec<Member> {
    let mut members: Vec<Member> = members.into_iter().collect();
    members.sort_by_key(|member| member.id);
    members.dedup_by_key(|member| member.id);
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<'a>(members: impl IntoIterator<Item = &'a Member>) -> Vec<u64> {
        members.into_iter().map(|member| member.id.0).collect()
    }

    fn member(id: u64, incarnation: u64) -> Member {
        Member::of_incarnation(NodeId(id), Incarnation(incarnation), "")
    }

    #[test]
    fn members_are_the_voters_of_both_sets_and_the_learners_and_nobody_else() {
        let joint = Configuration::joint([1, 2].map(NodeId), [2, 3].map(NodeId), [NodeId(4)]);
        assert_eq!(ids(joint.voters()), [1, 2]);
        assert_eq!(ids(joint.outgoing()), [2, 3]);
        assert_eq!(ids(joint.learners()), [4]);
        assert_eq!(ids(joint.members()), [1, 2, 3, 4]);
        for id in 0..6 {
            assert_eq!(joint.contains(NodeId(id)), (1..=4).contains(&id), "{id}");
        }
    }

    #[test]
    fn on_the_way_to_a_new_incarnation_the_old_one_counts_for_nothing() {
        let old = Configuration::of_members([1, 2, 3].map(|id| member(id, 7)), [], []);
        let target = old.with_learner(member(3, 8));
        assert_eq!((ids(target.voters()), ids(target.learners())), (vec![1, 2], vec![3]));
        let joint = old.towards(&target);
        assert!(joint.is_voter_as(NodeId(2), Incarnation(7)));
        for incarnation in [7, 8] {
            assert!(!joint.is_voter_as(NodeId(3), Incarnation(incarnation)));
        }
        assert_eq!(joint.member(NodeId(3)), Some(&member(3, 8)));
        assert_eq!(joint.after_joint(), target);
    }

    #[test]
    fn what_a_target_leaves_open_is_taken_from_the_configuration_in_force() {
        let known = Member::of_incarnation(NodeId(1), Incarnation(7), "a:1");
        let old = Configuration::of_members([known.clone()], [], []);
        let moved = Member::new(NodeId(1), "b:1");
        let target = Configuration::of_members([moved, Member::new(NodeId(2), "")], [], []);
        let complete = old.complete(&target);
        assert_eq!(complete.voters()[0].incarnation, Some(Incarnation(7)));
        assert_eq!(complete.voters()[0].address, "b:1");
        assert_eq!(complete.voters()[1].incarnation, None);
        assert!(!old.has_voters_of(&complete));
        let same = Configuration::of_members([Member::new(NodeId(1), "")], [], []);
        assert_eq!(old.complete(&same), old);
    }

    use alloc::vec;
}
