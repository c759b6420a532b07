//! How a node is set up.

use core::time::Duration;

use crate::NodeId;

/// How a node is set up. All nodes of a cluster should have the same times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// This node's id.
    pub id: NodeId,
    /// A follower that has heard no leader for a time drawn from once to twice this starts an
    /// election (§5.2). A leader that has heard no quorum for this long steps down.
    pub election_timeout: Duration,
    /// A leader sends heartbeats this often. Well below `election_timeout`.
    pub heartbeat_interval: Duration,
    /// Ask whether an election can be won before raising the term for it (diss. §9.6).
    pub pre_vote: bool,
    /// A leader that hears no quorum steps down, and a node that hears a leader grants no vote
    /// (diss. §6.2, §4.2.3).
    pub check_quorum: bool,
    /// A leader that waits this long for one write to become durable steps down, unless it is the only voter: its
    /// heartbeats would keep others from leading while it can apply nothing. Well above what a sound disk takes for
    /// [`Limits::write_bytes_max`]. After an election timeout already, it hands the lead over if there is a peer whose
    /// disk does better.
    pub write_stall_max: Duration,
    /// Answers reads without a round of heartbeats, by a lease (diss. §6.4.1). Off by default: it is only as good as the
    /// clocks. Needs CheckQuorum, and all nodes must have the same: as long as some run without, or with another election
    /// timeout, nobody may read by lease.
    pub lease: Option<Lease>,
    /// A voter that joins has this long to catch up as a learner; after that the change of membership fails.
    pub catch_up_max: Duration,
    /// Seeds the only randomness of the node: its election timeouts, and the names of its reads and rounds. Nodes need
    /// different ones, and a node another one at each start: else an answer to its former life could pass for one to
    /// this.
    pub seed: u64,
    /// The limits of every queue and buffer.
    pub limits: Limits,
}

/// What a lease relies upon.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How far the rate of any node's clock may be off, in millionths: at 1,000 a clock may gain or lose a
    /// millisecond a second. Below 500,000.
    pub clock_drift_ppm: u32,
}

impl Lease {
    /// How long a lease is on the clock of its leader, when no node votes for another leader for `election_timeout` on a
    /// clock of its own: the one may be as slow, and the other as fast, as the bound allows.
    pub(crate) fn length(self, election_timeout: Duration) -> Duration {
        const MILLION: u32 = 1_000_000;
        let drift = self.clock_drift_ppm.min(MILLION);
        election_timeout / (MILLION + drift) * (MILLION - drift)
    }
}

/// The limits of every queue and buffer of a node. Bytes are counted by [`crate::Entry::cost_bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest command that [`crate::Node::propose`] takes, in bytes.
    pub command_bytes_max: usize,
    /// Entries in one AppendEntries: this many bytes (but at least one entry) ...
    pub message_bytes_max: usize,
    /// ... and this many entries.
    pub message_entries_max: usize,
    /// AppendEntries on their way to one peer: this many messages ...
    pub inflight_messages_max: usize,
    /// ... and this many bytes.
    pub inflight_bytes_max: usize,
    /// Entries of a leader that are not committed yet: this many bytes ...
    pub uncommitted_bytes_max: usize,
    /// ... and this many entries; beyond either, proposals are refused.
    pub uncommitted_entries_max: usize,
    /// The part of the log that is held in memory: this many bytes. Entries that are not durable yet
    /// stay; when they fill it, a follower drops appends and a leader refuses proposals.
    pub tail_bytes_max: usize,
    /// Entries handed to the state machine and not yet applied: this many bytes (but at least one entry) ...
    pub applying_bytes_max: usize,
    /// ... and this many entries.
    pub applying_entries_max: usize,
    /// Entries that stay in the log behind a snapshot, for followers that lag a little: at most this
    /// many entries ...
    pub kept_entries_max: usize,
    /// ... and this many bytes.
    pub kept_bytes_max: usize,
    /// The entries of one write: this many bytes (but at least one entry).
    pub write_bytes_max: usize,
    /// Reads that are not confirmed yet, those of followers included; beyond, reads are refused.
    pub reads_pending_max: usize,
}

impl Options {
    /// The defaults for a node on a local network: election timeout 500 ms, heartbeats each 100 ms,
    /// PreVote and CheckQuorum on, leases off, five seconds of patience with the own disk, a minute with voters that
    /// join.
    #[must_use]
    pub fn new(id: NodeId) -> Options {
        Options {
            id,
            election_timeout: Duration::from_millis(500),
            heartbeat_interval: Duration::from_millis(100),
            pre_vote: true,
            check_quorum: true,
            write_stall_max: Duration::from_secs(5),
            lease: None,
            catch_up_max: Duration::from_secs(60),
            seed: id.0,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        const KIB: usize = 1024;
        const MIB: usize = 1024 * KIB;
        Limits {
            command_bytes_max: 4 * MIB,
            message_bytes_max: MIB,
            message_entries_max: 4096,
            inflight_messages_max: 64,
            inflight_bytes_max: 8 * MIB,
            uncommitted_bytes_max: 16 * MIB,
            uncommitted_entries_max: 64 * KIB,
            tail_bytes_max: 32 * MIB,
            applying_bytes_max: 8 * MIB,
            applying_entries_max: 16 * KIB,
            kept_entries_max: 1024,
            kept_bytes_max: 4 * MIB,
            write_bytes_max: 8 * MIB,
            reads_pending_max: 4096,
        }
    }
}
