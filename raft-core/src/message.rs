//! What nodes say to each other.

use crate::{Entries, EntryId, Incarnation, LogIndex, NodeId, Term};

/// One message with its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Envelope {
    /// Who sends it.
    pub from: NodeId,
    /// Under which incarnation: votes and acknowledgements of any but the one that the configuration names count for
    /// nothing.
    pub incarnation: Incarnation,
    /// Whether a configuration that does not name the sender's incarnation means this one: its log began with a
    /// configuration that was given to it, or names it ([`crate::Member::incarnation`]). A disk that was wiped does not know
    /// that its node ever was a member, so it never says so.
    pub is_meant: bool,
    /// Whom it is for.
    pub to: NodeId,
    /// The sender's current term when it left (§5.1).
    pub term: Term,
    /// What it says.
    pub message: Message,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Message {
    /// "Would you vote for me in this term?" Promises nothing and changes no term (diss. §9.6).
    PreVote {
        /// The term in which the sender would campaign.
        campaign: Term,
        /// The sender's last entry.
        last: EntryId,
    },
    /// The answer to a [`Message::PreVote`]. It promises nothing.
    PreVoteResponse {
        /// The term that was asked for.
        campaign: Term,
        /// Whether the sender would vote for the receiver.
        granted: bool,
    },
    /// "Vote for me in my term" (§5.2).
    RequestVote {
        /// The candidate's last entry (§5.4.1).
        last: EntryId,
        /// The leader itself has told the candidate to campaign: that others hear the leader is no reason to refuse
        /// (diss. §4.2.3).
        transfer: bool,
    },
    /// The answer to a [`Message::RequestVote`]; a granted one is durable before it leaves.
    VoteResponse {
        /// Which incarnation of the receiver had asked: for another one the answer is none.
        candidate: Incarnation,
        /// Whether the sender voted for it, in the envelope's term.
        granted: bool,
    },
    /// Entries of the leader's log (§5.3).
    AppendEntries {
        /// The entry before the first of `entries`.
        previous: EntryId,
        /// The entries, without a gap. May be empty: then it only asks for an answer.
        entries: Entries,
        /// The leader's commit index.
        commit: LogIndex,
    },
    /// The answer to [`Message::AppendEntries`].
    AppendResponse(AppendOutcome),
    /// "I lead this term" (§5.2).
    Heartbeat {
        /// The leader's commit index, at most what it knows the receiver to hold.
        commit: LogIndex,
        /// Names the round of heartbeats that this one belongs to. Without one, it only carries the
        /// commit index and wants no answer.
        round: Option<u64>,
    },
    /// The answer to a [`Message::Heartbeat`] with a round. With leases it is a promise to vote for no other for a while
    /// (diss. §6.4.1), else it promises nothing.
    HeartbeatResponse {
        /// The round that is answered.
        round: u64,
        /// Up to where the sender's log, durable or not, is known to be the leader's: a hint by
        /// which the leader notices lost messages.
        received: LogIndex,
    },
    /// "Campaign at once, without waiting" (diss. §3.10).
    TimeoutNow,
    /// A follower asks its leader for an index at which a read is linearizable (diss. §6.4).
    ReadIndex {
        /// Names the read; random at its start, so that an answer to a former life of the sender confirms nothing.
        context: u64,
    },
    /// The answer to a [`Message::ReadIndex`].
    ReadIndexResponse {
        /// The read that is answered.
        context: u64,
        /// What became of it.
        outcome: ReadOutcome,
    },
}

/// What became of a [`Message::ReadIndex`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ReadOutcome {
    /// The state must contain this index.
    Confirmed(LogIndex),
    /// Refused: the sender does not lead, or has lost the lead meanwhile.
    LostLeader,
    /// Refused: the leader has as many reads as it takes ([`crate::Limits::reads_pending_max`]).
    Busy,
}

/// What became of an [`Message::AppendEntries`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum AppendOutcome {
    /// Everything up to `matched` is the leader's log, and is durable at the sender.
    Accepted {
        /// The last index that is both.
        matched: LogIndex,
    },
    /// The sender does not have `previous`, or has another entry there.
    Rejected {
        /// The index of the `previous` that was refused.
        previous: LogIndex,
        /// The last entry of the sender before `previous`, whose term is at most that of
        /// `previous`: every later one of the sender's conflicts, so whole terms are skipped (§5.3).
        hint: EntryId,
    },
}
