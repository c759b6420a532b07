//! Majorities, of one set of voters and of two (§6).

use crate::{Configuration, Member};

/// How an election stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    Won,
    Lost,
    Open,
}

/// The greatest value that a majority of `voters` has reached. `None` without voters.
fn majority_value<T: Ord + Copy>(voters: &[Member], value: impl Fn(&Member) -> T) -> Option<T> {
    /// Clusters are small: up to so many voters their values are sorted without an allocation.
    const SORTED_MAX: usize = 9;
    let majority = voters.len() / 2 + 1;
    if voters.len() <= SORTED_MAX {
        let (first, others) = voters.split_first()?;
        let mut values = [value(first); SORTED_MAX];
        for (slot, voter) in values[1..].iter_mut().zip(others) {
            *slot = value(voter);
        }
        let values = &mut values[..voters.len()];
        values.sort_unstable();
        return values.get(voters.len() - majority).copied();
    }
    let reached = |at_least: &T| {
        voters.iter().filter(|voter| value(voter) >= *at_least).take(majority).count() == majority
    };
    voters.iter().map(&value).filter(reached).max()
}

fn tally(voters: &[Member], vote: &impl Fn(&Member) -> Option<bool>) -> Tally {
    let majority = voters.len() / 2 + 1;
    let granted = voters.iter().filter(|voter| vote(voter) == Some(true)).count();
    let denied = voters.iter().filter(|voter| vote(voter) == Some(false)).count();
    if granted >= majority {
        Tally::Won
    } else if voters.len() - denied < majority {
        Tally::Lost
    } else {
        Tally::Open
    }
}

impl Configuration {
    /// The greatest value that a quorum has reached: in a joint configuration, a majority of each set.
    pub(crate) fn quorum_value<T: Ord + Copy>(&self, value: impl Fn(&Member) -> T) -> Option<T> {
        let incoming = majority_value(self.voters(), &value);
        if !self.is_joint() {
            return incoming;
        }
        incoming.min(majority_value(self.outgoing(), &value))
    }

    /// How an election stands, from each voter's answer.
    pub(crate) fn tally(&self, vote: impl Fn(&Member) -> Option<bool>) -> Tally {
        let incoming = tally(self.voters(), &vote);
        if !self.is_joint() {
            return incoming;
        }
        match (incoming, tally(self.outgoing(), &vote)) {
            (Tally::Won, Tally::Won) => Tally::Won,
            (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
            (Tally::Open, _) | (_, Tally::Open) => Tally::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;
    use alloc::vec::Vec;

    fn ids(ids: &[u64]) -> impl Iterator<Item = NodeId> {
        ids.iter().map(|id| NodeId(*id)).collect::<Vec<_>>().into_iter()
    }

    /// Node n has reached `values[n - 1]`.
    fn value(configuration: &Configuration, values: &[u64]) -> Option<u64> {
        configuration.quorum_value(|voter| values[usize::try_from(voter.id.0).unwrap() - 1])
    }

    #[test]
    fn a_majority_is_more_than_half() {
        let of = |n: u64| Configuration::new((1..=n).map(NodeId), []);
        assert_eq!(value(&of(1), &[7]), Some(7));
        assert_eq!(value(&of(2), &[7, 9]), Some(7));
        assert_eq!(value(&of(3), &[1, 9, 7]), Some(7));
        assert_eq!(value(&of(4), &[1, 9, 7, 8]), Some(7));
        assert_eq!(value(&of(5), &[1, 9, 7, 8, 2]), Some(7));
        assert_eq!(value(&of(0), &[]), None);
        for count in 1..=21 {
            let values: Vec<u64> = (1..=count).map(|n| n * 7 % 22).collect();
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let below_majority = (values.len() - 1) / 2;
            assert_eq!(value(&of(count), &values), Some(sorted[below_majority]), "of {count}");
        }
    }

    #[test]
    fn a_joint_configuration_needs_a_majority_of_each_set() {
        let joint = Configuration::joint(ids(&[1, 2, 3]), ids(&[3, 4, 5]), []);
        assert_eq!(value(&joint, &[9, 9, 9, 1, 2]), Some(2));
        assert_eq!(value(&joint, &[1, 2, 9, 9, 9]), Some(2));
        let votes = |granted: &'static [u64], denied: &'static [u64]| {
            joint.tally(|voter| {
                (granted.contains(&voter.id.0).then_some(true))
                    .or(denied.contains(&voter.id.0).then_some(false))
            })
        };
        assert_eq!(votes(&[1, 2], &[]), Tally::Open);
        assert_eq!(votes(&[1, 2, 3], &[]), Tally::Open);
        assert_eq!(votes(&[1, 2, 3, 4], &[]), Tally::Won);
        assert_eq!(votes(&[1, 2, 3], &[4, 5]), Tally::Lost);
    }

    #[test]
    fn learners_count_for_nothing() {
        let configuration = Configuration::new(ids(&[1, 2, 3]), ids(&[4, 5]));
        assert_eq!(value(&configuration, &[1, 1, 9, 9, 9]), Some(1));
    }

    /// Nodes 1 to 10 as bits.
    fn set(bits: u16) -> impl Iterator<Item = NodeId> {
        (1..=10).filter(move |id| bits & (1 << (id - 1)) != 0).map(NodeId)
    }

    /// Whether these nodes are more than half of each set that is not empty.
    fn is_quorum(sets: [u16; 2], nodes: u16) -> bool {
        sets.iter().all(|set| *set == 0 || 2 * (set & nodes).count_ones() > set.count_ones())
    }

    /// Up to five voters, alone or joint with up to five others, of which any number are the same: but for the names of the
    /// nodes, these are all configurations of that size.
    fn all_sets() -> Vec<[u16; 2]> {
        let first = |count: u16| (1 << count) - 1;
        let joint = (1..=5).flat_map(|new| (1..=5).map(move |old| (new, old)));
        let joint = joint.flat_map(|(new, old)| {
            (0..=new.min(old)).map(move |same| [first(new), first(old) << (new - same)])
        });
        (1..=5).map(|count| [first(count), 0]).chain(joint).collect()
    }

    /// Whether a greatest value is reached is asked for each threshold apart, so two values show all.
    #[test]
    fn in_every_configuration_every_set_of_nodes_is_a_quorum_or_is_not() {
        for sets in all_sets() {
            let configuration = Configuration::joint(set(sets[0]), set(sets[1]), []);
            for nodes in 0..1 << 10 {
                let holds = |voter: &Member| u64::from(nodes & (1 << (voter.id.0 - 1)) != 0);
                let reached = u64::from(is_quorum(sets, nodes));
                assert_eq!(configuration.quorum_value(holds), Some(reached), "{sets:?} {nodes:b}");
            }
        }
    }

    /// Won once those who granted are a quorum, and lost once those who did not deny are none.
    #[test]
    fn in_every_configuration_every_set_of_votes_wins_or_loses_or_leaves_it_open() {
        for sets in all_sets() {
            let configuration = Configuration::joint(set(sets[0]), set(sets[1]), []);
            let all = sets[0] | sets[1];
            for granted in (0..=all).filter(|granted| granted & !all == 0) {
                for denied in (0..=all).filter(|denied| denied & !(all & !granted) == 0) {
                    let has = |bits: u16, voter: &Member| bits & (1 << (voter.id.0 - 1)) != 0;
                    let tally = configuration
                        .tally(|voter| has(granted | denied, voter).then(|| has(granted, voter)));
                    let expected = match (is_quorum(sets, granted), is_quorum(sets, all & !denied))
                    {
                        (true, _) => Tally::Won,
                        (false, false) => Tally::Lost,
                        (false, true) => Tally::Open,
                    };
                    assert_eq!(tally, expected, "{sets:?} +{granted:b} -{denied:b}");
                }
            }
        }
    }
}
