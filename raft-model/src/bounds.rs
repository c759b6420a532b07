//! How far the checker goes.

use raft_core::{Configuration, NodeId};

/// What may happen, and how often. Loss, repetition and disorder of messages are not counted: they are unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// The voters at first. Servers are numbered from 1.
    pub voters: &'static [u64],
    /// The learners at first.
    pub learners: &'static [u64],
    /// To these voters and learners a leader may change the members, once.
    pub change_to: Option<(&'static [u64], &'static [u64])>,
    /// Only these may time out.
    pub candidates: &'static [u64],
    /// Nobody enters a term after this one. Together with the proposals, this bounds the logs.
    pub term_max: u64,
    /// So many commands are proposed.
    pub proposals: u8,
    /// So many times a server crashes and starts again.
    pub crashes: u8,
    /// So many rounds of heartbeats leave.
    pub heartbeats: u8,
    /// Whether candidates ask before they raise the term (diss. §9.6).
    pub pre_vote: bool,
    /// Whether leaders that hear nobody step down, and nodes that hear a leader do not vote (diss. §6.2).
    pub check_quorum: bool,
    /// Whether a write takes its time: anything may happen before it is durable. Else it is durable at once.
    pub slow_disks: bool,
    /// Whether the refusal of an old term is a message like any other. Else a node can learn of a later term at any time from
    /// whoever is in it, and a denied vote or a refused message says nothing else.
    pub refusals: bool,
    /// Entries in one AppendEntries.
    pub message_entries_max: usize,
}

impl Bounds {
    /// Two terms and slow disks; nothing else. The others differ from it in what they say.
    pub const SMALL: Bounds = Bounds {
        name: "small",
        about: "two terms, slow disks",
        voters: &[1, 2, 3],
        learners: &[],
        change_to: None,
        candidates: &[1, 2, 3],
        term_max: 2,
        proposals: 0,
        crashes: 0,
        heartbeats: 0,
        pre_vote: false,
        check_quorum: false,
        slow_disks: true,
        refusals: false,
        message_entries_max: 16,
    };

    /// As [`Bounds::SMALL`], with fast disks.
    const FAST: Bounds = Bounds { slow_disks: false, ..Bounds::SMALL };

    /// All of them.
    pub const ALL: &'static [Bounds] = &[
        Bounds::SMALL,
        Bounds { name: "crash", about: "two terms, a crash", crashes: 1, ..Bounds::FAST },
        Bounds {
            name: "refusals",
            about: "two terms, every refusal a message of its own",
            refusals: true,
            ..Bounds::FAST
        },
        Bounds { name: "proposal", about: "two terms, a command", proposals: 1, ..Bounds::FAST },
        Bounds {
            name: "heartbeat",
            about: "two terms, a round of heartbeats",
            heartbeats: 1,
            ..Bounds::FAST
        },
        Bounds {
            name: "slow-crash",
            about: "two terms, slow disks, a crash",
            crashes: 1,
            ..Bounds::SMALL
        },
        Bounds {
            name: "slow-proposal",
            about: "two terms, slow disks, a command",
            proposals: 1,
            ..Bounds::SMALL
        },
        Bounds { name: "terms", about: "three terms", term_max: 3, ..Bounds::FAST },
        Bounds {
            name: "terms-crash",
            about: "three terms, a crash",
            term_max: 3,
            crashes: 1,
            ..Bounds::FAST
        },
        Bounds {
            name: "pre-vote",
            about: "two terms, two candidates, PreVote",
            candidates: &[1, 2],
            pre_vote: true,
            ..Bounds::FAST
        },
        Bounds {
            name: "quorum",
            about: "two terms, CheckQuorum",
            check_quorum: true,
            ..Bounds::FAST
        },
        Bounds {
            name: "leave",
            about: "two terms, one of three voters leaves",
            change_to: Some((&[1, 2], &[])),
            ..Bounds::FAST
        },
        Bounds {
            name: "join",
            about: "two terms, a learner becomes the third voter",
            voters: &[1, 2],
            learners: &[3],
            change_to: Some((&[1, 2, 3], &[])),
            ..Bounds::FAST
        },
        Bounds {
            name: "join-crash",
            about: "two terms, a learner becomes the third voter, a crash",
            voters: &[1, 2],
            learners: &[3],
            change_to: Some((&[1, 2, 3], &[])),
            crashes: 1,
            ..Bounds::FAST
        },
        Bounds {
            name: "alone",
            about: "two terms, one of three voters stays: no common majority",
            change_to: Some((&[1], &[])),
            ..Bounds::FAST
        },
        Bounds {
            name: "figure-8",
            about: "four terms, two candidates, one entry a message: the story of Figure 8",
            candidates: &[1, 3],
            term_max: 4,
            message_entries_max: 1,
            ..Bounds::FAST
        },
    ];

    /// Those of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Bounds> {
        Bounds::ALL.iter().find(|bounds| bounds.name == name)
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        let mut ids: Vec<NodeId> =
            self.voters.iter().chain(self.learners).copied().map(NodeId).collect();
        ids.sort_unstable();
        ids
    }

    /// Whether `id` may be the first to time out.
    ///
    /// Where all servers are alike, what happens when another one is the first is the same under other names. They are not
    /// alike where they are compared by their ids: by those who ask for pre-votes at the same time, and by a leader that
    /// was removed and names its successor.
    pub(crate) fn goes_first(&self, id: NodeId) -> bool {
        let alike = !self.pre_vote && self.change_to.is_none() && self.learners.is_empty();
        !alike || self.candidates.first() == Some(&id.0)
    }

    /// The configuration with which the cluster begins.
    pub(crate) fn first(&self) -> Configuration {
        configuration(self.voters, self.learners)
    }

    pub(crate) fn target(&self) -> Option<Configuration> {
        self.change_to.map(|(voters, learners)| configuration(voters, learners))
    }
}

fn configuration(voters: &[u64], learners: &[u64]) -> Configuration {
    let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
    Configuration::new(ids(voters), ids(learners))
}
