//! Digests: of commands and responses, and of all that happens in a run.

use raft_rsm::raft_core::{EntryId, HardState, LogIndex, NodeId, Role};

use raft_rsm::Consistency;

use super::{
    CallOutcome, Crash, Digest, EntrySummary, Event, HandOver, Operation, OperationOutcome,
    RequestKind,
};

impl Digest {
    /// The digest of some bytes (FNV-1a, then mixed).
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hash = Fnv::default();
        hash.write(bytes);
        hash.digest()
    }

    /// The digest of what serializes to the same bytes.
    #[must_use]
    pub fn of_value<T: serde::Serialize>(value: &T) -> Digest {
        // What cannot be serialized cannot be sent either.
        postcard::to_allocvec(value).map_or(Digest(0), |bytes| Digest::of(&bytes))
    }
}

/// Takes bytes one after the other.
#[derive(Copy, Clone, Debug)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Takes these bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.0 = (self.0 ^ u64::from_le_bytes(*word)).wrapping_mul(0x0000_0100_0000_01b3);
            self.0 ^= self.0 >> 29;
        }
        for byte in rest {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.0 = (self.0 ^ bytes.len() as u64).wrapping_mul(0x0000_0100_0000_01b3);
    }

    /// Takes a number.
    pub fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    /// What was taken so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Digest(z ^ (z >> 31))
    }
}

impl Event {
    /// Adds the event to the digest of a run.
    pub(crate) fn write_to(&self, to: &mut Fnv) {
        match self {
            Event::Started { node, hard_state, start, last, runs } => {
                head(to, 1, *node);
                self::hard_state(to, *hard_state);
                id(to, *start);
                id(to, *last);
                runs.iter().for_each(|run| id(to, *run));
            }
            Event::NotStarted { node, reason } => {
                head(to, 2, *node);
                to.write(reason.as_bytes());
            }
            Event::Crashed { node, crash } => {
                head(to, 3, *node);
                to.write_u64(match crash {
                    Crash::Killed => 0,
                    Crash::PowerLost => 1,
                });
            }
            Event::Stopped { node, reason, was_asked: _ } => {
                head(to, 4, *node);
                to.write(reason.to_string().as_bytes());
            }
            Event::Paused { node } => head(to, 5, *node),
            Event::Resumed { node } => head(to, 6, *node),
            Event::Role { node, role, term, leader, last, changed } => {
                head(to, 7, *node);
                to.write_u64(match role {
                    Role::Follower => 0,
                    Role::PreCandidate => 1,
                    Role::Candidate => 2,
                    Role::Leader => 3,
                });
                to.write_u64(term.0);
                to.write_u64(leader.map_or(u64::MAX, |leader| leader.0));
                id(to, *last);
                to.write_u64(u64::from(*changed));
            }
            Event::Progress { node, commit, applied, last, log_bytes, tail_bytes, image_bytes } => {
                head(to, 8, *node);
                index(to, *commit);
                index(to, *applied);
                id(to, *last);
                to.write_u64(*log_bytes);
                to.write_u64(*tail_bytes);
                to.write_u64(*image_bytes);
            }
            Event::WriteBegan { node, id: write, reset, compact, entries, hard_state } => {
                head(to, 9, *node);
                to.write_u64(write.0);
                reset.iter().chain(compact).for_each(|end| id(to, *end));
                for EntrySummary { id: entry, payload } in entries {
                    id(to, *entry);
                    to.write_u64(payload.0);
                }
                if let Some(state) = hard_state {
                    self::hard_state(to, *state);
                }
            }
            Event::WriteEnded { node, id: write, error } => {
                head(to, 10, *node);
                to.write_u64(write.0);
                to.write_u64(u64::from(error.is_some()));
            }
            Event::Applied { node, id: entry, command, response } => {
                head(to, 11, *node);
                id(to, *entry);
                to.write_u64(command.0);
                to.write_u64(response.0);
            }
            Event::Restored { node, last } => {
                head(to, 12, *node);
                id(to, *last);
            }
            Event::SnapshotStored { node, last } => {
                head(to, 13, *node);
                id(to, *last);
            }
            Event::Sent { parcel, packet, bytes, digest } => {
                head(to, 14, packet.from());
                to.write_u64(packet.to().0);
                to.write_u64(parcel.0);
                to.write_u64(*bytes as u64);
                to.write_u64(digest.0);
            }
            Event::Delivered { parcel, to: node } => {
                head(to, 15, *node);
                to.write_u64(parcel.0);
            }
            Event::Lost { parcel, why } => {
                to.write_u64(16);
                to.write_u64(parcel.0);
                to.write(why.as_bytes());
            }
            Event::Asked { call, client, to: node, kind, bytes } => {
                head(to, 17, *node);
                to.write_u64(call.0);
                to.write_u64(*client);
                to.write_u64(*bytes as u64);
                if let RequestKind::ProposeKnown { known, .. } = kind {
                    to.write_u64(known.0);
                }
                to.write_u64(match kind {
                    RequestKind::Propose(command) | RequestKind::ProposeKnown { command, .. } => {
                        command.0
                    }
                    RequestKind::Session => 5,
                    RequestKind::Query(Consistency::Linearizable) => 1,
                    RequestKind::Status => 2,
                    RequestKind::Query(Consistency::Lease) => 3,
                    RequestKind::Query(_) => 4,
                });
            }
            Event::RequestArrived { call, at } => {
                head(to, 18, *at);
                to.write_u64(call.0);
            }
            Event::CallEnded { call, outcome } => {
                to.write_u64(19);
                to.write_u64(call.0);
                to.write_u64(match outcome {
                    CallOutcome::Answered => 0,
                    CallOutcome::Refused => 1,
                    CallOutcome::Maybe => 2,
                });
            }
            Event::OperationBegan { client, operation } => {
                to.write_u64(20);
                to.write_u64(*client);
                to.write(operation.as_bytes());
            }
            Event::OperationEnded { client, answered, outcome } => {
                to.write_u64(21);
                to.write_u64(*client);
                to.write_u64(u64::from(*answered));
                to.write(outcome.as_bytes());
            }
            Event::Fault { kind, what } => {
                to.write_u64(22);
                to.write(kind.as_bytes());
                to.write(what.as_bytes());
            }
            Event::FaultEnded { kind } => {
                to.write_u64(23);
                to.write(kind.as_bytes());
            }
            Event::Healed => to.write_u64(24),
            Event::Configured { node, incarnation, configuration, leads } => {
                head(to, 25, *node);
                to.write_u64(incarnation.0);
                to.write(format!("{configuration:?}").as_bytes());
                to.write_u64(leads.map_or(u64::MAX, |term| term.0));
            }
            Event::HandingOver { node, to: successor, why } => {
                head(to, 26, *node);
                to.write_u64(successor.0);
                to.write_u64(match why {
                    HandOver::Asked => 0,
                    HandOver::SickDisk => 1,
                });
            }
            Event::Wiped { node } => head(to, 27, *node),
            Event::Readmitted { node } => head(to, 28, *node),
            Event::Operated { operation, outcome, what } => {
                to.write_u64(29);
                to.write_u64(match operation {
                    Operation::Membership => 0,
                    Operation::Transfer => 1,
                });
                to.write_u64(match outcome {
                    OperationOutcome::Done => 0,
                    OperationOutcome::Refused => 1,
                    OperationOutcome::Failed => 2,
                });
                to.write(what.as_bytes());
            }
        }
    }
}

fn head(to: &mut Fnv, kind: u64, node: NodeId) {
    to.write_u64(kind);
    to.write_u64(node.0);
}

fn index(to: &mut Fnv, index: LogIndex) {
    to.write_u64(index.0);
}

fn id(to: &mut Fnv, id: EntryId) {
    to.write_u64(id.term.0);
    to.write_u64(id.index.0);
}

fn hard_state(to: &mut Fnv, state: HardState) {
    to.write_u64(state.term.0);
    to.write_u64(state.vote.map_or(u64::MAX, |vote| vote.candidate.0));
    to.write_u64(state.vote.map_or(u64::MAX, |vote| vote.incarnation.0));
    to.write_u64(state.commit.0);
}
