//! The one binary form of a packet on the wire.
//!
//! Integers are little-endian and of fixed length; a list starts with the number of its items. Decoding is total:
//! bytes that are no packet are an error, and memory is only ever set aside for items that the bytes at hand can hold.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft_core::{
    AppendOutcome, EntryId, Envelope, Incarnation, LogIndex, Message, NodeId, ReadOutcome,
    SnapshotMeta, Term,
};

use crate::configuration_codec::{NoConfiguration, decode_configuration, encode_configuration};

use crate::entry_codec::{DecodeEntryError, ENTRY_HEADER_BYTES, decode_entry, encode_entry};
use crate::transport::{Checksum, Packet, SnapshotChunk, SnapshotResponse, SnapshotStatus};

/// Why bytes are no packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodePacketError {
    /// They end too early.
    #[error("the packet ends too early")]
    Truncated,
    /// So many bytes follow the packet.
    #[error("{0} bytes too many at the end of the packet")]
    Trailing(usize),
    /// A kind that this version does not know.
    #[error("{kind} is no kind of {what}")]
    Kind {
        /// What it would be a kind of.
        what: &'static str,
        /// The kind.
        kind: u8,
    },
    /// A list of so many items, longer than the packet.
    #[error("a list of {0} items is longer than the packet")]
    Count(u32),
    /// An entry makes no sense.
    #[error(transparent)]
    Entry(#[from] DecodeEntryError),
    /// A configuration makes no sense.
    #[error("the packet carries no configuration where it should")]
    Configuration(#[from] NoConfiguration),
}

/// The kinds, as they are on the wire.
mod kind {
    pub(super) const SNAPSHOT_CHUNK: u8 = 1;
    pub(super) const SNAPSHOT_RESPONSE: u8 = 2;
    pub(super) const CHECKSUM: u8 = 3;
    pub(super) const PRE_VOTE: u8 = 16;
    pub(super) const PRE_VOTE_RESPONSE: u8 = 17;
    pub(super) const REQUEST_VOTE: u8 = 18;
    pub(super) const VOTE_RESPONSE: u8 = 19;
    pub(super) const APPEND_ENTRIES: u8 = 20;
    pub(super) const APPEND_ACCEPTED: u8 = 21;
    pub(super) const APPEND_REJECTED: u8 = 22;
    pub(super) const HEARTBEAT: u8 = 23;
    pub(super) const HEARTBEAT_RESPONSE: u8 = 24;
    pub(super) const TIMEOUT_NOW: u8 = 25;
    pub(super) const READ_INDEX: u8 = 26;
    pub(super) const READ_INDEX_RESPONSE: u8 = 27;

    pub(super) const CONFIRMED: u8 = 0;
    pub(super) const LOST_LEADER: u8 = 1;
    pub(super) const BUSY: u8 = 2;

    pub(super) const CONTINUE: u8 = 0;
    pub(super) const DONE: u8 = 1;
    pub(super) const REFUSED: u8 = 2;
    pub(super) const TOO_LONG: u8 = 3;
}

/// Appends the binary form of `packet` to `out`, up to the payload that ends it, if there is one: that is
/// returned, to be sent from where it is.
pub(crate) fn encode_packet<'p>(packet: &'p Packet, out: &mut BytesMut) -> Option<&'p Bytes> {
    match packet {
        Packet::Raft(envelope) => {
            encode_envelope(envelope, out);
            None
        }
        Packet::SnapshotChunk(chunk) => {
            let SnapshotChunk { from, to, transfer, meta, image_bytes, offset, checksum, data } =
                chunk;
            encode_addresses(kind::SNAPSHOT_CHUNK, *from, *to, out);
            out.put_u64_le(*transfer);
            encode_entry_id(meta.last, out);
            encode_configuration(&meta.configuration, out);
            out.put_u64_le(*image_bytes);
            out.put_u64_le(*offset);
            out.put_u32_le(*checksum);
            Some(data)
        }
        Packet::SnapshotResponse(SnapshotResponse { from, to, transfer, status }) => {
            encode_addresses(kind::SNAPSHOT_RESPONSE, *from, *to, out);
            out.put_u64_le(*transfer);
            match status {
                SnapshotStatus::Continue { reception, offset, held } => {
                    out.put_u8(kind::CONTINUE);
                    out.put_u64_le(*reception);
                    out.put_u64_le(*offset);
                    encode_count(held.len(), out);
                    held.iter().for_each(|offset| out.put_u64_le(*offset));
                }
                SnapshotStatus::Done => out.put_u8(kind::DONE),
                SnapshotStatus::Refused => out.put_u8(kind::REFUSED),
                SnapshotStatus::TooLong { image_bytes_max } => {
                    out.put_u8(kind::TOO_LONG);
                    out.put_u64_le(*image_bytes_max);
                }
            }
            None
        }
        Packet::Checksum(Checksum { from, to, index, checksum }) => {
            encode_addresses(kind::CHECKSUM, *from, *to, out);
            out.put_u64_le(index.0);
            out.put_u32_le(*checksum);
            None
        }
    }
}

/// Reads a packet; `body` is all of it. Payloads share the memory of `body`.
///
/// # Errors
/// The bytes are no packet.
pub(crate) fn decode_packet(body: Bytes) -> Result<Packet, DecodePacketError> {
    let mut fields = Fields(body);
    let kind = fields.u8()?;
    let from = fields.node()?;
    let to = fields.node()?;
    let packet = match kind {
        kind::SNAPSHOT_CHUNK => {
            let transfer = fields.u64()?;
            let last = fields.entry_id()?;
            let configuration = decode_configuration(&mut fields.0)?;
            Packet::SnapshotChunk(SnapshotChunk {
                from,
                to,
                transfer,
                meta: SnapshotMeta { last, configuration },
                image_bytes: fields.u64()?,
                offset: fields.u64()?,
                checksum: fields.u32()?,
                data: fields.rest(),
            })
        }
        kind::SNAPSHOT_RESPONSE => Packet::SnapshotResponse(SnapshotResponse {
            from,
            to,
            transfer: fields.u64()?,
            status: fields.snapshot_status()?,
        }),
        kind::CHECKSUM => {
            Packet::Checksum(Checksum { from, to, index: fields.index()?, checksum: fields.u32()? })
        }
        _ => {
            let incarnation = fields.incarnation()?;
            let is_meant = fields.bool()?;
            let term = fields.term()?;
            let message = fields.message(kind)?;
            Packet::Raft(Envelope { from, incarnation, is_meant, to, term, message })
        }
    };
    match fields.0.len() {
        0 => Ok(packet),
        more => Err(DecodePacketError::Trailing(more)),
    }
}

/// About how long a packet is on the wire, in bytes: what it counts for in a queue's limit.
pub(crate) fn packet_bytes(packet: &Packet) -> usize {
    const FIELDS_BYTES: usize = 64;
    FIELDS_BYTES
        + match packet {
            Packet::Raft(Envelope { message: Message::AppendEntries { entries, .. }, .. }) => {
                entries.iter().map(|entry| ENTRY_HEADER_BYTES + entry.payload.len()).sum()
            }
            Packet::SnapshotChunk(chunk) => chunk.data.len(),
            Packet::SnapshotResponse(response) => response.status.held_bytes(),
            Packet::Raft(_) | Packet::Checksum(_) => 0,
        }
}

fn encode_envelope(envelope: &Envelope, out: &mut BytesMut) {
    let Envelope { from, incarnation, is_meant, to, term, message } = envelope;
    let mut start = |kind| {
        encode_addresses(kind, *from, *to, out);
        out.put_u64_le(incarnation.0);
        out.put_u8(u8::from(*is_meant));
        out.put_u64_le(term.0);
    };
    match message {
        Message::PreVote { campaign, last } => {
            start(kind::PRE_VOTE);
            out.put_u64_le(campaign.0);
            encode_entry_id(*last, out);
        }
        Message::PreVoteResponse { campaign, granted } => {
            start(kind::PRE_VOTE_RESPONSE);
            out.put_u64_le(campaign.0);
            out.put_u8(u8::from(*granted));
        }
        Message::RequestVote { last, transfer } => {
            start(kind::REQUEST_VOTE);
            encode_entry_id(*last, out);
            out.put_u8(u8::from(*transfer));
        }
        Message::VoteResponse { candidate, granted } => {
            start(kind::VOTE_RESPONSE);
            out.put_u64_le(candidate.0);
            out.put_u8(u8::from(*granted));
        }
        Message::AppendEntries { previous, entries, commit } => {
            start(kind::APPEND_ENTRIES);
            encode_entry_id(*previous, out);
            out.put_u64_le(commit.0);
            encode_count(entries.len(), out);
            entries.iter().for_each(|entry| encode_entry(entry, out));
        }
        Message::AppendResponse(AppendOutcome::Accepted { matched }) => {
            start(kind::APPEND_ACCEPTED);
            out.put_u64_le(matched.0);
        }
        Message::AppendResponse(AppendOutcome::Rejected { previous, hint }) => {
            start(kind::APPEND_REJECTED);
            out.put_u64_le(previous.0);
            encode_entry_id(*hint, out);
        }
        Message::Heartbeat { commit, round } => {
            start(kind::HEARTBEAT);
            out.put_u64_le(commit.0);
            out.put_u8(u8::from(round.is_some()));
            if let Some(round) = round {
                out.put_u64_le(*round);
            }
        }
        Message::HeartbeatResponse { round, received } => {
            start(kind::HEARTBEAT_RESPONSE);
            out.put_u64_le(*round);
            out.put_u64_le(received.0);
        }
        Message::TimeoutNow => start(kind::TIMEOUT_NOW),
        Message::ReadIndex { context } => {
            start(kind::READ_INDEX);
            out.put_u64_le(*context);
        }
        Message::ReadIndexResponse { context, outcome } => {
            start(kind::READ_INDEX_RESPONSE);
            out.put_u64_le(*context);
            match outcome {
                ReadOutcome::Confirmed(index) => {
                    out.put_u8(kind::CONFIRMED);
                    out.put_u64_le(index.0);
                }
                ReadOutcome::LostLeader => out.put_u8(kind::LOST_LEADER),
                ReadOutcome::Busy => out.put_u8(kind::BUSY),
            }
        }
    }
}

fn encode_addresses(kind: u8, from: NodeId, to: NodeId, out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_u64_le(from.0);
    out.put_u64_le(to.0);
}

fn encode_entry_id(id: EntryId, out: &mut BytesMut) {
    out.put_u64_le(id.term.0);
    out.put_u64_le(id.index.0);
}

/// A list too long for its count does not fit into a frame either, and is never sent.
fn encode_count(count: usize, out: &mut BytesMut) {
    out.put_u32_le(u32::try_from(count).unwrap_or(u32::MAX));
}

/// Takes fields off the front of a body.
struct Fields(Bytes);

impl Fields {
    fn u8(&mut self) -> Result<u8, DecodePacketError> {
        self.0.try_get_u8().map_err(|_| DecodePacketError::Truncated)
    }

    fn u32(&mut self) -> Result<u32, DecodePacketError> {
        self.0.try_get_u32_le().map_err(|_| DecodePacketError::Truncated)
    }

    fn u64(&mut self) -> Result<u64, DecodePacketError> {
        self.0.try_get_u64_le().map_err(|_| DecodePacketError::Truncated)
    }

    fn bool(&mut self) -> Result<bool, DecodePacketError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            kind => Err(DecodePacketError::Kind { what: "truth", kind }),
        }
    }

    fn node(&mut self) -> Result<NodeId, DecodePacketError> {
        self.u64().map(NodeId)
    }

    fn incarnation(&mut self) -> Result<Incarnation, DecodePacketError> {
        self.u64().map(Incarnation)
    }

    fn term(&mut self) -> Result<Term, DecodePacketError> {
        self.u64().map(Term)
    }

    fn index(&mut self) -> Result<LogIndex, DecodePacketError> {
        self.u64().map(LogIndex)
    }

    fn entry_id(&mut self) -> Result<EntryId, DecodePacketError> {
        Ok(EntryId::new(self.term()?, self.index()?))
    }

    /// The number of items of a list, of which each takes at least `item_bytes`.
    fn count(&mut self, item_bytes: usize) -> Result<usize, DecodePacketError> {
        let count = self.u32()?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= self.0.len() / item_bytes)
            .ok_or(DecodePacketError::Count(count))
    }

    fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }

    fn snapshot_status(&mut self) -> Result<SnapshotStatus, DecodePacketError> {
        match self.u8()? {
            kind::CONTINUE => {
                let (reception, offset) = (self.u64()?, self.u64()?);
                let count = self.count(size_of::<u64>())?;
                let held = (0..count).map(|_| self.u64()).collect::<Result<_, _>>()?;
                Ok(SnapshotStatus::Continue { reception, offset, held })
            }
            kind::DONE => Ok(SnapshotStatus::Done),
            kind::REFUSED => Ok(SnapshotStatus::Refused),
            kind::TOO_LONG => Ok(SnapshotStatus::TooLong { image_bytes_max: self.u64()? }),
            kind => Err(DecodePacketError::Kind { what: "snapshot status", kind }),
        }
    }

    fn message(&mut self, kind: u8) -> Result<Message, DecodePacketError> {
        Ok(match kind {
            kind::PRE_VOTE => Message::PreVote { campaign: self.term()?, last: self.entry_id()? },
            kind::PRE_VOTE_RESPONSE => {
                Message::PreVoteResponse { campaign: self.term()?, granted: self.bool()? }
            }
            kind::REQUEST_VOTE => {
                Message::RequestVote { last: self.entry_id()?, transfer: self.bool()? }
            }
            kind::VOTE_RESPONSE => {
                Message::VoteResponse { candidate: self.incarnation()?, granted: self.bool()? }
            }
            kind::APPEND_ENTRIES => {
                let previous = self.entry_id()?;
                let commit = self.index()?;
                let count = self.count(ENTRY_HEADER_BYTES)?;
                let mut entries = Vec::with_capacity(count);
                for _ in 0..count {
                    entries.push(decode_entry(&mut self.0)?);
                }
                Message::AppendEntries { previous, entries: entries.into(), commit }
            }
            kind::APPEND_ACCEPTED => {
                Message::AppendResponse(AppendOutcome::Accepted { matched: self.index()? })
            }
            kind::APPEND_REJECTED => Message::AppendResponse(AppendOutcome::Rejected {
                previous: self.index()?,
                hint: self.entry_id()?,
            }),
            kind::HEARTBEAT => {
                let commit = self.index()?;
                let round = if self.bool()? { Some(self.u64()?) } else { None };
                Message::Heartbeat { commit, round }
            }
            kind::HEARTBEAT_RESPONSE => {
                Message::HeartbeatResponse { round: self.u64()?, received: self.index()? }
            }
            kind::TIMEOUT_NOW => Message::TimeoutNow,
            kind::READ_INDEX => Message::ReadIndex { context: self.u64()? },
            kind::READ_INDEX_RESPONSE => {
                let context = self.u64()?;
                let outcome = match self.u8()? {
                    kind::CONFIRMED => ReadOutcome::Confirmed(self.index()?),
                    kind::LOST_LEADER => ReadOutcome::LostLeader,
                    kind::BUSY => ReadOutcome::Busy,
                    kind => return Err(DecodePacketError::Kind { what: "read outcome", kind }),
                };
                Message::ReadIndexResponse { context, outcome }
            }
            kind => return Err(DecodePacketError::Kind { what: "packet", kind }),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
