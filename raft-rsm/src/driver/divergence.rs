//! Compares what the replicas have become, at the same indexes of the log.
//!
//! Each tells its mark to the others once, when it makes it. Who hears of another value than its own tells the sender
//! once more what it has itself, so a divergence is noticed on both sides as long as one of the two packets
//! arrives. Nothing is sent again by time: a divergence does not go away, so the next mark shows it as well, and an idle
//! cluster stays idle.

use std::collections::{BTreeMap, VecDeque};

use raft_core::{Configuration, LogIndex, Member, NodeId};

use crate::applier::Mark;
use crate::status::Divergence;

/// How many marks are kept to be compared: as many of this node, as many of each other member at the same indexes, and
/// as many of each member that is ahead.
const MARKS_MAX: usize = 8;

/// What this node has become, and what the other members say that they have.
#[derive(Debug)]
pub(super) struct Comparison {
    id: NodeId,
    /// Up to where this node has come: its last mark, or the snapshot that it was restored from since.
    last: LogIndex,
    /// The latest marks of this node.
    own: VecDeque<Mark>,
    /// What the others said about those indexes, and about later ones.
    heard: BTreeMap<NodeId, BTreeMap<LogIndex, u32>>,
    /// The last index at which a majority, with this node, was alike.
    agreed: Option<LogIndex>,
    /// Who differs from this node, and since where.
    differing: BTreeMap<NodeId, LogIndex>,
    /// It was said that no majority is alike.
    is_split: bool,
}

/// What a comparison shows that was not known before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// This member is not what this node is. The majority is with this node, or not known yet.
    Differs { peer: NodeId, index: LogIndex },
    /// All voters have spoken, and no majority is alike.
    Split { index: LogIndex },
    /// The majority is something else than this node.
    Outvoted { index: LogIndex, agreed: Option<LogIndex>, own: u32, majority: u32 },
}

/// What follows from a mark of another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) findings: Vec<Finding>,
    /// What the sender may not have heard of this node.
    pub(super) answer: Option<Mark>,
}

impl Comparison {
    pub(super) fn new(id: NodeId) -> Comparison {
        Comparison {
            id,
            last: LogIndex::ZERO,
            own: VecDeque::new(),
            heard: BTreeMap::new(),
            agreed: None,
            differing: BTreeMap::new(),
            is_split: false,
        }
    }

    /// The member that differs since the earliest index.
    pub(super) fn found(&self) -> Option<Divergence> {
        let (peer, index) = self.differing.iter().min_by_key(|(_, index)| **index)?;
        Some(Divergence { peer: *peer, index: *index })
    }

    /// This node has come to the next mark.
    pub(super) fn reached(&mut self, mark: Mark, configuration: &Configuration) -> Vec<Finding> {
        if self.own.len() == MARKS_MAX {
            self.own.pop_front();
        }
        self.own.push_back(mark);
        self.last = mark.index;
        let own = &self.own;
        for marks in self.heard.values_mut() {
            marks.retain(|index, _| *index > mark.index || is_in(own, *index));
        }
        self.compare(mark, configuration)
    }

    /// `peer`, a member, says what it is.
    pub(super) fn hear(
        &mut self,
        peer: NodeId,
        told: Mark,
        configuration: &Configuration,
    ) -> Heard {
        let own = self.own.iter().find(|own| own.index == told.index).copied();
        if own.is_none() && told.index <= self.last {
            // Too late, or this node makes no mark there.
            return Heard::default();
        }
        let marks = self.heard.entry(peer).or_default();
        let is_news = marks.insert(told.index, told.checksum) != Some(told.checksum);
        // Those that this node comes to first are kept, or it would never compare itself while it lags.
        if marks.range(self.last.next()..).count() > MARKS_MAX {
            marks.pop_last();
        }
        let Some(own) = own else { return Heard::default() };
        let findings = self.compare(own, configuration);
        // An answer to what was heard already would be answered again.
        let answer = (is_news && told.checksum != own.checksum).then_some(own);
        Heard { findings, answer }
    }

    /// The state was replaced by a snapshot's: what this node was before says nothing about what it is now.
    pub(super) fn restored(&mut self, last: LogIndex) {
        self.last = self.last.max(last);
        self.own.clear();
        self.agreed = None;
        self.differing.clear();
        self.is_split = false;
        for marks in self.heard.values_mut() {
            marks.retain(|index, _| *index > last);
        }
    }

    fn compare(&mut self, own: Mark, configuration: &Configuration) -> Vec<Finding> {
        self.heard.retain(|peer, _| configuration.contains(*peer));
        self.differing.retain(|peer, _| configuration.contains(*peer));
        if !configuration.contains(self.id) {
            return Vec::new();
        }
        let majority = self.majority(own, configuration);
        match majority {
            Some(majority) if majority != own.checksum => {
                let Mark { index, checksum } = own;
                let agreed = self.agreed;
                return vec![Finding::Outvoted { index, agreed, own: checksum, majority }];
            }
            Some(_) => self.agreed = self.agreed.max(Some(own.index)),
            None => {}
        }
        let mut findings = Vec::new();
        for (peer, marks) in &self.heard {
            match marks.get(&own.index) {
                Some(checksum) if *checksum != own.checksum => {
                    self.differing.entry(*peer).or_insert_with(|| {
                        findings.push(Finding::Differs { peer: *peer, index: own.index });
                        own.index
                    });
                }
                // It is another replica since, or its state was replaced.
                Some(_) if self.differing.get(peer).is_some_and(|since| *since <= own.index) => {
                    self.differing.remove(peer);
                }
                Some(_) | None => {}
            }
        }
        let have_all_spoken =
            voters(configuration).flatten().all(|voter| self.says(voter.id, own).is_some());
        if majority.is_some() {
            self.is_split = false;
        } else if have_all_spoken && !self.is_split {
            self.is_split = true;
            findings.push(Finding::Split { index: own.index });
        }
        findings
    }

    /// What more than half of all voters are, in a joint configuration of each set (§6). A learner has no say in it.
    fn majority(&self, own: Mark, configuration: &Configuration) -> Option<u32> {
        let mut said = voters(configuration).flatten().filter_map(|voter| self.says(voter.id, own));
        said.find(|checksum| {
            voters(configuration).all(|voters| {
                let alike =
                    voters.iter().filter(|voter| self.says(voter.id, own) == Some(*checksum));
                alike.count() > voters.len() / 2
            })
        })
    }

    /// What this member is at the index of `own`, if it said so.
    fn says(&self, member: NodeId, own: Mark) -> Option<u32> {
        if member == self.id {
            return Some(own.checksum);
        }
        self.heard.get(&member)?.get(&own.index).copied()
    }
}

/// The sets of voters, each of which has to agree.
fn voters(configuration: &Configuration) -> impl Iterator<Item = &[Member]> {
    [configuration.voters(), configuration.outgoing()].into_iter().filter(|set| !set.is_empty())
}

fn is_in(marks: &VecDeque<Mark>, index: LogIndex) -> bool {
    marks.iter().any(|mark| mark.index == index)
}

#[cfg(test)]
mod tests;
