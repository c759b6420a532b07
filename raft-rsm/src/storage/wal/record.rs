//! One record of the log: one [`Write`], all of it or nothing.
//!
//! ```text
//! header, 32 bytes, little-endian
//!   0  magic                  4
//!   4  checksum of the header 4   over the segment's salt and bytes 8 to 32
//!   8  length of the payload  4
//!  12  length of the meta     4   at the front of the payload
//!  16  sequence               8   one more than that of the record before
//!  24  number of entries      4
//!  28  checksum of the payload 4  over the meta and the checksums of the entries
//! payload
//!   meta: flags (1), then what they name, in this order
//!         reset, compact: length (4), SnapshotMeta by postcard;
//!         hard state: term (8), commit (8), whether there is a vote (1), its candidate (8) and
//!           incarnation (8);
//!         state: the rest, by postcard; only in the first record of a segment
//!   entries, each: checksum (4), entry
//! ```
//!
//! The salt is drawn for each segment, so that no bytes of a command can pass for a record.

use bytes::Buf;
use raft_core::{
    Configuration, EntryId, HardState, Incarnation, LogIndex, NodeId, SnapshotMeta, Term, TermRuns,
    Vote, Write,
};
use serde::{Deserialize, Serialize};

use super::super::log_state::LogState;
use crate::entry_codec::{encode_entry, peek_configuration, peek_entry};

pub(super) const HEADER_BYTES: usize = 32;
/// What an entry in a record takes beside its binary form, in bytes.
pub(super) const ENTRY_CHECKSUM_BYTES: usize = 4;

const MAGIC: [u8; 4] = *b"rec\x01";
const RESET: u8 = 1;
const COMPACT: u8 = 2;
const HARD_STATE: u8 = 4;
const STATE: u8 = 8;
const HARD_STATE_BYTES: usize = 33;

/// The front of a record.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    payload_len: u32,
    meta_len: u32,
    pub(super) sequence: u64,
    entries: u32,
    payload_checksum: u32,
}

impl Header {
    /// What is at the front of `bytes`, if it is the header of a record in a segment with this salt.
    pub(super) fn decode(bytes: &[u8], salt: u64) -> Option<Header> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let (mut front, mut rest) = bytes.split_at(8);
        if !front.starts_with(&MAGIC) {
            return None;
        }
        front.advance(MAGIC.len());
        if front.get_u32_le() != header_checksum(rest, salt) {
            return None;
        }
        let header = Header {
            payload_len: rest.get_u32_le(),
            meta_len: rest.get_u32_le(),
            sequence: rest.get_u64_le(),
            entries: rest.get_u32_le(),
            payload_checksum: rest.get_u32_le(),
        };
        (header.meta_len <= header.payload_len).then_some(header)
    }

    fn encode(&self, salt: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[8..12].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.meta_len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.entries.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let checksum = header_checksum(&bytes[8..], salt);
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The length of the record, this header included, in bytes.
    pub(super) fn record_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.payload_len)
    }

    /// Where the entries begin, from the start of the record, in bytes.
    pub(super) fn entries_offset(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.meta_len)
    }
}

fn header_checksum(bytes: &[u8], salt: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// A record is longer than the format allows.
#[derive(Debug)]
pub(super) struct TooLong;

/// Appends `write` as one record to `out`, which is empty, and the offsets of its entries from the start of the
/// record to `offsets`.
pub(super) fn encode_write(
    write: &Write,
    sequence: u64,
    salt: u64,
    out: &mut Vec<u8>,
    offsets: &mut Vec<u32>,
) -> Result<(), TooLong> {
    let Write { id: _, reset, compact, entries, hard_state } = write;
    out.resize(HEADER_BYTES, 0);
    let flag = |set: bool, flag| if set { flag } else { 0 };
    out.push(
        flag(reset.is_some(), RESET)
            | flag(compact.is_some(), COMPACT)
            | flag(hard_state.is_some(), HARD_STATE),
    );
    for snapshot in [reset, compact].into_iter().flatten() {
        encode_snapshot_meta(snapshot, out)?;
    }
    if let Some(hard_state) = hard_state {
        encode_hard_state(hard_state, out);
    }
    let meta_len = out.len() - HEADER_BYTES;
    let mut payload = crc32fast::Hasher::new();
    payload.update(&out[HEADER_BYTES..]);
    for entry in entries {
        let start = out.len();
        offsets.push(u32::try_from(start).map_err(|_| TooLong)?);
        out.extend_from_slice(&[0; ENTRY_CHECKSUM_BYTES]);
        encode_entry(entry, out);
        let (checksum, entry) = out[start..].split_at_mut(ENTRY_CHECKSUM_BYTES);
        checksum.copy_from_slice(&crc32fast::hash(entry).to_le_bytes());
        payload.update(checksum);
    }
    finish(out, meta_len, entries.len(), payload, sequence, salt)
}

/// Appends the record that opens a segment to `out`, which is empty.
pub(super) fn encode_state(
    state: &LogState,
    sequence: u64,
    salt: u64,
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    out.resize(HEADER_BYTES, 0);
    out.push(STATE);
    let stored = StoredState {
        hard_state: state.hard_state,
        start: state.start.clone(),
        runs: state.terms.runs().collect(),
        configurations: state.configurations.clone(),
    };
    encode_postcard(&stored, out)?;
    let mut payload = crc32fast::Hasher::new();
    payload.update(&out[HEADER_BYTES..]);
    let meta_len = out.len() - HEADER_BYTES;
    finish(out, meta_len, 0, payload, sequence, salt)
}

fn finish(
    out: &mut [u8],
    meta_len: usize,
    entries: usize,
    payload: crc32fast::Hasher,
    sequence: u64,
    salt: u64,
) -> Result<(), TooLong> {
    let header = Header {
        payload_len: u32::try_from(out.len() - HEADER_BYTES).map_err(|_| TooLong)?,
        meta_len: u32::try_from(meta_len).map_err(|_| TooLong)?,
        sequence,
        entries: u32::try_from(entries).map_err(|_| TooLong)?,
        payload_checksum: payload.finalize(),
    };
    out[..HEADER_BYTES].copy_from_slice(&header.encode(salt));
    Ok(())
}

/// What a record says beside its entries.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meta {
    /// It opens a segment: everything before it adds up to this.
    State(LogState),
    /// It is a [`Write`].
    Write {
        reset: Option<SnapshotMeta>,
        compact: Option<SnapshotMeta>,
        hard_state: Option<HardState>,
    },
}

/// A whole record, taken apart.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) meta: Meta,
    pub(super) entries: Vec<EntryId>,
    /// Those among the entries that carry one.
    pub(super) configurations: Vec<(LogIndex, Configuration)>,
    /// Of the entries, from the start of the record.
    pub(super) offsets: Vec<u32>,
}

/// Takes apart the whole record in `bytes`, whose header was decoded, and verifies all of its checksums.
///
/// # Errors
/// Where it is damaged, from the start of the record, and how.
pub(super) fn decode_record(header: &Header, bytes: &[u8]) -> Result<Record, (u64, String)> {
    let at = |offset: usize, problem: &str| (offset as u64, problem.to_owned());
    let entries_offset = usize::try_from(header.entries_offset()).unwrap_or(usize::MAX);
    let meta = bytes
        .get(HEADER_BYTES..entries_offset)
        .ok_or_else(|| at(HEADER_BYTES, "the record ends within its meta"))?;
    let mut payload = crc32fast::Hasher::new();
    payload.update(meta);
    let mut entries = Vec::new();
    let mut configurations = Vec::new();
    let mut offsets = Vec::new();
    let mut offset = entries_offset;
    while offset < bytes.len() {
        let rest = &bytes[offset..];
        let (id, len) = check_entry(rest).map_err(|problem| (offset as u64, problem))?;
        payload.update(&rest[..ENTRY_CHECKSUM_BYTES]);
        let configuration = peek_configuration(&rest[ENTRY_CHECKSUM_BYTES..len])
            .map_err(|error| at(offset, &error.to_string()))?;
        configurations.extend(configuration.map(|configuration| (id.index, configuration)));
        entries.push(id);
        offsets.push(u32::try_from(offset).map_err(|_| at(offset, "the record is too long"))?);
        offset += len;
    }
    if entries.len() as u64 != u64::from(header.entries)
        || payload.finalize() != header.payload_checksum
    {
        return Err(at(0, "the checksum of the record is wrong"));
    }
    let meta = decode_meta(meta).ok_or_else(|| at(HEADER_BYTES, "the meta makes no sense"))?;
    Ok(Record { meta, entries, configurations, offsets })
}

/// Verifies the entry with its checksum at the front of `bytes`, which may go on after it. Returns its id and
/// the length of both, in bytes.
///
/// # Errors
/// What is wrong.
pub(super) fn check_entry(bytes: &[u8]) -> Result<(EntryId, usize), String> {
    let Some((checksum, entry)) = bytes.split_first_chunk::<ENTRY_CHECKSUM_BYTES>() else {
        return Err("the record ends within an entry".to_owned());
    };
    let (id, len) = peek_entry(entry).map_err(|error| error.to_string())?;
    if crc32fast::hash(&entry[..len]) != u32::from_le_bytes(*checksum) {
        return Err(format!("the checksum of entry {id} is wrong"));
    }
    Ok((id, ENTRY_CHECKSUM_BYTES + len))
}

#[derive(Serialize, Deserialize)]
struct StoredState {
    hard_state: HardState,
    start: SnapshotMeta,
    runs: Vec<EntryId>,
    configurations: Vec<(LogIndex, Configuration)>,
}

fn decode_meta(mut meta: &[u8]) -> Option<Meta> {
    let flags = take(&mut meta, 1)?[0];
    if flags == STATE {
        let stored: StoredState = postcard::from_bytes(meta).ok()?;
        let mut terms = TermRuns::new(stored.start.last);
        for last in stored.runs {
            let count = last.index.0.checked_sub(terms.last().index.0)?;
            if count == 0 || !terms.extend(last.term, count) {
                return None;
            }
        }
        return Some(Meta::State(LogState {
            hard_state: stored.hard_state,
            start: stored.start,
            terms,
            configurations: stored.configurations,
        }));
    }
    if flags & !(RESET | COMPACT | HARD_STATE) != 0 {
        return None;
    }
    let mut snapshot = |flag| {
        if flags & flag == 0 { Some(None) } else { decode_snapshot_meta(&mut meta).map(Some) }
    };
    let reset = snapshot(RESET)?;
    let compact = snapshot(COMPACT)?;
    let hard_state =
        if flags & HARD_STATE == 0 { None } else { Some(decode_hard_state(&mut meta)?) };
    meta.is_empty().then_some(Meta::Write { reset, compact, hard_state })
}

fn encode_snapshot_meta(snapshot: &SnapshotMeta, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    encode_postcard(snapshot, out)?;
    let len = u32::try_from(out.len() - start - 4).map_err(|_| TooLong)?;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

fn decode_snapshot_meta(meta: &mut &[u8]) -> Option<SnapshotMeta> {
    let len = take(meta, 4)?.get_u32_le();
    let snapshot = take(meta, usize::try_from(len).ok()?)?;
    postcard::from_bytes(snapshot).ok()
}

/// Memory takes all that fits into a length, so this fails for nothing else.
fn encode_postcard(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), TooLong> {
    postcard::to_io(value, out).map(|_| ()).map_err(|_| TooLong)
}

fn encode_hard_state(hard_state: &HardState, out: &mut Vec<u8>) {
    let HardState { term, vote, commit } = hard_state;
    let mut bytes = [0; HARD_STATE_BYTES];
    bytes[0..8].copy_from_slice(&term.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&commit.0.to_le_bytes());
    if let Some(Vote { candidate, incarnation }) = vote {
        bytes[16] = 1;
        bytes[17..25].copy_from_slice(&candidate.0.to_le_bytes());
        bytes[25..33].copy_from_slice(&incarnation.0.to_le_bytes());
    }
    out.extend_from_slice(&bytes);
}

fn decode_hard_state(meta: &mut &[u8]) -> Option<HardState> {
    let mut bytes = take(meta, HARD_STATE_BYTES)?;
    let term = Term(bytes.get_u64_le());
    let commit = LogIndex(bytes.get_u64_le());
    let vote = match (bytes.get_u8(), bytes.get_u64_le(), bytes.get_u64_le()) {
        (0, 0, 0) => None,
        (1, candidate, incarnation) => {
            Some(Vote { candidate: NodeId(candidate), incarnation: Incarnation(incarnation) })
        }
        _ => return None,
    };
    Some(HardState { term, vote, commit })
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(front)
}

#[cfg(test)]
mod tests {
    use raft_core::{Entry, WriteId};

    use super::*;

    const SALT: u64 = 0x1234_5678_9abc_def0;

    fn snapshot(index: u64) -> SnapshotMeta {
        let configuration = Configuration::new([NodeId(1), NodeId(2)], [NodeId(3)]);
        SnapshotMeta { last: EntryId::new(Term(2), LogIndex(index)), configuration }
    }

    fn write() -> Write {
        let entry =
            |index, len| Entry::command(EntryId::new(Term(3), LogIndex(index)), vec![7; len]);
        Write {
            id: WriteId(1),
            reset: Some(snapshot(4)),
            compact: Some(snapshot(5)),
            entries: vec![entry(6, 0), entry(7, 100)].into(),
            hard_state: Some(HardState {
                term: Term(3),
                vote: Some(Vote { candidate: NodeId(2), incarnation: Incarnation(7) }),
                commit: LogIndex(6),
            }),
        }
    }

    fn encoded() -> Vec<u8> {
        let mut out = Vec::new();
        encode_write(&write(), 9, SALT, &mut out, &mut Vec::new()).unwrap();
        out
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let bytes = encoded();
        let header = Header::decode(&bytes, SALT).unwrap();
        assert_eq!((header.sequence, header.record_bytes()), (9, bytes.len() as u64));
        let record = decode_record(&header, &bytes).unwrap();
        let Write { reset, compact, entries, hard_state, id: _ } = write();
        assert_eq!(record.meta, Meta::Write { reset, compact, hard_state });
        assert_eq!(record.entries, entries.iter().map(|entry| entry.id).collect::<Vec<_>>());
        assert_eq!(u64::from(record.offsets[0]), header.entries_offset());
    }

    #[test]
    fn the_state_that_opens_a_segment_is_decoded() {
        let mut terms = TermRuns::new(snapshot(4).last);
        for term in [2, 2, 5] {
            assert!(terms.push(Term(term)));
        }
        let hard_state = HardState { term: Term(5), vote: None, commit: LogIndex(6) };
        let configurations = vec![(LogIndex(6), snapshot(5).configuration)];
        let state = LogState { hard_state, start: snapshot(4), terms, configurations };
        let mut bytes = Vec::new();
        encode_state(&state, 9, SALT, &mut bytes).unwrap();
        let header = Header::decode(&bytes, SALT).unwrap();
        let record = decode_record(&header, &bytes).unwrap();
        assert_eq!(record.meta, Meta::State(state));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = encoded();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let noticed = Header::decode(&bytes, SALT)
                .is_none_or(|header| decode_record(&header, &bytes).is_err());
            assert!(noticed, "bit {bit}");
        }
    }

    #[test]
    fn a_record_of_another_segment_is_none_of_this_one() {
        assert_eq!(Header::decode(&encoded(), SALT + 1), None);
    }
}
