//! Majorities against a naive model: sets of nodes, enumerated. The core is asked through its messages alone: who is
//! elected, and what is committed.

use std::collections::BTreeMap;

use quickcheck::{Arbitrary, Gen, QuickCheck};
use raft_core::{Configuration, NodeId, Options, Role};

use crate::harness::*;
use crate::members::incarnated;

/// Sets of nodes 1 to 10, as bits.
#[derive(Copy, Clone, Debug)]
struct Sets {
    voters: u16,
    outgoing: u16,
}

impl Sets {
    fn configuration(self) -> Configuration {
        let members = |set: u16| (1..=10).filter(move |id| set & bit(*id) != 0);
        Configuration::of_members(
            members(self.voters).map(|id| incarnated(id, 0)),
            members(self.outgoing).map(|id| incarnated(id, 0)),
            [],
        )
    }

    fn all(self) -> u16 {
        self.voters | self.outgoing
    }

    /// Whether these nodes may decide: more than half of each set.
    fn is_quorum(self, nodes: u16) -> bool {
        [self.voters, self.outgoing]
            .into_iter()
            .all(|set| set == 0 || 2 * (set & nodes).count_ones() > set.count_ones())
    }

    /// All subsets of the members that may decide.
    fn quorums(self) -> impl Iterator<Item = u16> {
        (0..=self.all()).filter(move |nodes| nodes & !self.all() == 0 && self.is_quorum(*nodes))
    }

    /// The greatest index that some quorum holds.
    fn committed(self, holds: &BTreeMap<u64, u64>) -> u64 {
        let held_by =
            |nodes: u16| (1..=10).filter(|id| nodes & bit(*id) != 0).map(|id| holds[&id]).min();
        self.quorums().filter_map(held_by).max().unwrap_or(0)
    }
}

fn bit(id: u64) -> u16 {
    1 << (id - 1)
}

/// Every configuration of up to five voters that node 1 may lead, alone or joint with up to five others that overlap in
/// any number; up to renaming the nodes, that is all there are.
fn all_sets() -> Vec<Sets> {
    let mut all = Vec::new();
    for incoming in 1..=5_u32 {
        let voters = (1 << incoming) - 1;
        all.push(Sets { voters, outgoing: 0 });
        for outgoing in 1..=5_u32 {
            for shared in 0..=incoming.min(outgoing) {
                let outgoing = (1 << outgoing) - 1;
                all.push(Sets { voters, outgoing: outgoing << (incoming - shared) });
                all.push(Sets { voters: outgoing << (incoming - shared), outgoing: voters });
            }
        }
    }
    all
}

fn candidate(sets: Sets) -> Replica {
    let options = Options { pre_vote: false, check_quorum: false, ..Options::new(NodeId(1)) };
    let mut candidate = Replica::start(options, Disk::empty(sets.configuration()));
    if candidate.node.role() == Role::Follower {
        candidate.time_out();
    }
    candidate.persist_all();
    candidate
}

/// What becomes of a candidate in a model that looks at all quorums.
fn elected(sets: Sets, granted: u16, denied: u16) -> Role {
    if sets.quorums().any(|quorum| quorum & !granted == 0) {
        Role::Leader
    } else if sets.quorums().all(|quorum| quorum & denied != 0) {
        Role::Follower
    } else {
        Role::Candidate
    }
}

#[test]
fn every_set_of_votes_elects_whom_a_quorum_elects() {
    for sets in all_sets() {
        for granted in 0..=sets.all() {
            let granted = (granted & sets.all()) | bit(1);
            let mut replica = candidate(sets);
            let mut given = bit(1);
            for id in (2..=10).filter(|id| granted & bit(*id) != 0) {
                if replica.node.role() == Role::Candidate {
                    replica.receive(id, GRANTED);
                }
                given |= bit(id);
                assert_eq!(
                    replica.node.role() == Role::Leader,
                    elected(sets, given, 0) == Role::Leader
                );
            }
        }
    }
}

/// A configuration, and what arrives: from whom, and up to which entry or whether granted.
#[derive(Clone, Debug)]
struct Arrivals {
    sets: Sets,
    votes: Vec<(u64, bool)>,
    acknowledgements: Vec<(u64, u64)>,
}

const ENTRIES: u64 = 6;

impl Arbitrary for Arrivals {
    fn arbitrary(g: &mut Gen) -> Arrivals {
        let all = all_sets();
        let sets = *g.choose(&all).unwrap();
        let from = |g: &mut Gen| 1 + u64::arbitrary(g) % 10;
        let votes = (0..12).map(|_| (from(g), u8::arbitrary(g) % 4 > 0)).collect();
        let acknowledgement = |g: &mut Gen| (from(g), u64::arbitrary(g) % (ENTRIES + 1));
        let acknowledgements = (0..40).map(|_| acknowledgement(g)).collect();
        Arrivals { sets, votes, acknowledgements }
    }
}

#[test]
fn votes_in_any_order_decide_as_soon_as_a_quorum_has_and_not_before() {
    fn decide(Arrivals { sets, votes, .. }: Arrivals) {
        let mut replica = candidate(sets);
        let (mut granted, mut denied) = (bit(1), 0);
        for (from, grants) in votes {
            if replica.node.role() != Role::Candidate || from == 1 {
                continue;
            }
            replica.receive(from, vote_response(grants));
            if grants {
                // A grant is a promise, also where a refusal has overtaken it.
                granted |= bit(from);
                denied &= !bit(from);
            } else if granted & bit(from) == 0 {
                denied |= bit(from);
            }
            assert_eq!(replica.node.role(), elected(sets, granted, denied), "{sets:?}");
        }
    }
    QuickCheck::new().tests(3_000).quickcheck(decide as fn(Arrivals));
}

#[test]
fn acknowledgements_in_any_order_commit_what_a_quorum_holds() {
    fn commit(Arrivals { sets, acknowledgements, .. }: Arrivals) {
        let mut replica = candidate(sets);
        for id in 2..=10 {
            if replica.node.role() == Role::Candidate {
                replica.receive(id, GRANTED);
            }
        }
        if sets.outgoing != 0 && sets.is_quorum(bit(1)) {
            // Alone it is past the joint configuration already.
            return;
        }
        for n in 1..ENTRIES {
            replica.propose(&n.to_string());
        }
        let mut holds: BTreeMap<u64, u64> = (1..=10).map(|id| (id, 0)).collect();
        holds.insert(1, replica.node.durable().0);
        for (from, matched) in acknowledgements {
            if from == 1 {
                replica.persist();
                holds.insert(1, replica.node.durable().0);
            } else {
                replica.receive(from, accepted(matched));
                holds.insert(from, holds[&from].max(matched));
            }
            let committed = sets.committed(&holds);
            assert_eq!(replica.node.commit().0, committed, "{sets:?} {holds:?}");
            if sets.outgoing != 0 && committed > 0 {
                // From here on the next configuration is in the log.
                return;
            }
        }
    }
    QuickCheck::new().tests(3_000).quickcheck(commit as fn(Arrivals));
}
