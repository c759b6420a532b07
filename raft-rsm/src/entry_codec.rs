//! The one binary form of an entry, on the disk and on the wire.
//!
//! Little-endian: term (8 bytes), index (8), kind (1) and length (7) of the payload, payload. The header is
//! of one size, so that it costs a few moves a piece, and no length is too great for it.

use bytes::{Buf, BufMut, Bytes};
use raft_core::{Configuration, Entry, EntryId, LogIndex, Payload, Term};

use crate::configuration_codec::{
    decode_configuration, encode_configuration, encoded_configuration_len,
};

/// What an entry takes beside its payload, in bytes.
pub(crate) const ENTRY_HEADER_BYTES: usize = 24;

const KIND_EMPTY: u8 = 0;
const KIND_COMMAND: u8 = 1;
const KIND_CONFIGURATION: u8 = 2;

/// Why bytes are no entry.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeEntryError {
    /// The bytes end within the entry.
    #[error("an entry of {wanted} bytes in {left} bytes")]
    Truncated {
        /// The length of the entry as far as it is known, in bytes.
        wanted: u64,
        /// What is there, in bytes.
        left: usize,
    },
    /// A kind that a newer version may know.
    #[error("entry {id} is of the unknown kind {kind}")]
    UnknownKind {
        /// Which entry.
        id: EntryId,
        /// Its kind.
        kind: u8,
    },
    /// A kind without payload, with one.
    #[error("entry {id} carries nothing, in {len} bytes")]
    UnexpectedPayload {
        /// Which entry.
        id: EntryId,
        /// The length of the payload, in bytes.
        len: u64,
    },
    /// The payload of a configuration is none.
    #[error("entry {id} carries no configuration")]
    NoConfiguration {
        /// Which entry.
        id: EntryId,
    },
}

/// The length of an entry in its binary form, in bytes.
pub(crate) fn encoded_entry_len(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        Payload::Empty => 0,
        Payload::Command(command) => command.len(),
        Payload::Configuration(configuration) => encoded_configuration_len(configuration),
    };
    ENTRY_HEADER_BYTES + payload
}

/// Appends the binary form of `entry` to `out`.
pub(crate) fn encode_entry(entry: &Entry, out: &mut impl BufMut) {
    let mut configuration_bytes = Vec::new();
    let (kind, payload): (u8, &[u8]) = match &entry.payload {
        Payload::Empty => (KIND_EMPTY, &[]),
        Payload::Command(command) => (KIND_COMMAND, command),
        Payload::Configuration(configuration) => {
            encode_configuration(configuration, &mut configuration_bytes);
            (KIND_CONFIGURATION, &configuration_bytes)
        }
    };
    let mut header = [0; ENTRY_HEADER_BYTES];
    header[0..8].copy_from_slice(&entry.id.term.0.to_le_bytes());
    header[8..16].copy_from_slice(&entry.id.index.0.to_le_bytes());
    // No memory holds 2^56 bytes: the top byte of the length is free for the kind.
    let length = payload.len() as u64;
    header[16..24].copy_from_slice(&(length << 8 | u64::from(kind)).to_le_bytes());
    out.put_slice(&header);
    out.put_slice(payload);
}

/// The id and the whole length, in bytes, of the entry at the front of `input`, which may go on after it.
///
/// # Errors
/// The bytes are no entry.
pub(crate) fn peek_entry(input: &[u8]) -> Result<(EntryId, usize), DecodeEntryError> {
    parse(input).map(|Parsed { id, kind: _, payload_len }| (id, ENTRY_HEADER_BYTES + payload_len))
}

/// The configuration in the entry at the front of `input`, if it carries one.
///
/// # Errors
/// The bytes are no entry.
pub(crate) fn peek_configuration(input: &[u8]) -> Result<Option<Configuration>, DecodeEntryError> {
    let Parsed { id, kind, payload_len } = parse(input)?;
    match kind {
        Kind::Empty | Kind::Command => Ok(None),
        Kind::Configuration => {
            let payload = &input[ENTRY_HEADER_BYTES..ENTRY_HEADER_BYTES + payload_len];
            configuration(id, payload).map(Some)
        }
    }
}

fn configuration(id: EntryId, mut payload: &[u8]) -> Result<Configuration, DecodeEntryError> {
    match decode_configuration(&mut payload) {
        Ok(configuration) if payload.is_empty() => Ok(configuration),
        Ok(_) | Err(_) => Err(DecodeEntryError::NoConfiguration { id }),
    }
}

/// Takes one entry off the front of `input`. Its payload shares the memory of `input`.
///
/// # Errors
/// The bytes are no entry; `input` is left as it was.
pub(crate) fn decode_entry(input: &mut Bytes) -> Result<Entry, DecodeEntryError> {
    let Parsed { id, kind, payload_len } = parse(input)?;
    let payload = input.slice(ENTRY_HEADER_BYTES..ENTRY_HEADER_BYTES + payload_len);
    let payload = match kind {
        Kind::Empty => Payload::Empty,
        Kind::Command => Payload::Command(payload),
        Kind::Configuration => Payload::Configuration(configuration(id, &payload)?),
    };
    input.advance(ENTRY_HEADER_BYTES + payload_len);
    Ok(Entry { id, payload })
}

struct Parsed {
    id: EntryId,
    kind: Kind,
    payload_len: usize,
}

enum Kind {
    Empty,
    Command,
    Configuration,
}

fn parse(input: &[u8]) -> Result<Parsed, DecodeEntryError> {
    let left = input.len();
    let mut header = input;
    if left < ENTRY_HEADER_BYTES {
        return Err(DecodeEntryError::Truncated { wanted: ENTRY_HEADER_BYTES as u64, left });
    }
    let term = Term(header.get_u64_le());
    let id = EntryId::new(term, LogIndex(header.get_u64_le()));
    let kind_and_length = header.get_u64_le();
    let [kind, ..] = kind_and_length.to_le_bytes();
    let len = kind_and_length >> 8;
    let payload_len = usize::try_from(len).ok().filter(|len| *len <= header.len()).ok_or(
        // No overflow: `len` has 56 bits.
        DecodeEntryError::Truncated { wanted: ENTRY_HEADER_BYTES as u64 + len, left },
    )?;
    let kind = match kind {
        KIND_EMPTY if len == 0 => Kind::Empty,
        KIND_EMPTY => return Err(DecodeEntryError::UnexpectedPayload { id, len }),
        KIND_COMMAND => Kind::Command,
        KIND_CONFIGURATION => Kind::Configuration,
        _ => return Err(DecodeEntryError::UnknownKind { id, kind }),
    };
    Ok(Parsed { id, kind, payload_len })
}

#[cfg(test)]
mod tests {
    use raft_core::NodeId;

    use super::*;

    fn entries() -> Vec<Entry> {
        let id = |term, index| EntryId::new(Term(term), LogIndex(index));
        vec![
            Entry { id: id(1, 1), payload: Payload::Empty },
            Entry::command(id(1, 2), Bytes::new()),
            Entry::command(id(u64::MAX, u64::MAX), Bytes::from(vec![7; 1000])),
            Entry {
                id: id(3, 3),
                payload: Payload::Configuration(Configuration::new([NodeId(1)], [NodeId(2)])),
            },
        ]
    }

    fn encoded() -> Bytes {
        let mut out = Vec::new();
        for entry in entries() {
            let before = out.len();
            encode_entry(&entry, &mut out);
            assert_eq!(out.len() - before, encoded_entry_len(&entry));
        }
        Bytes::from(out)
    }

    #[test]
    fn what_was_encoded_is_decoded_without_a_copy() {
        let mut input = encoded();
        let memory = input.as_ptr_range();
        let mut decoded = Vec::new();
        while !input.is_empty() {
            decoded.push(decode_entry(&mut input).unwrap());
        }
        assert_eq!(decoded, entries());
        let Payload::Command(command) = &decoded[2].payload else { panic!("{decoded:?}") };
        assert!(memory.contains(&command.as_ptr()));
    }

    #[test]
    fn bytes_that_end_within_an_entry_are_an_error_and_stay() {
        for entry in entries() {
            let mut out = Vec::new();
            encode_entry(&entry, &mut out);
            for len in 0..out.len() {
                let mut input = Bytes::copy_from_slice(&out[..len]);
                let error = decode_entry(&mut input).unwrap_err();
                assert!(matches!(error, DecodeEntryError::Truncated { .. }), "{error}");
                assert_eq!(input.len(), len);
            }
        }
    }

    #[test]
    fn random_bytes_are_an_entry_or_an_error() {
        fn property(bytes: Vec<u8>) -> bool {
            let mut input = Bytes::from(bytes.clone());
            match decode_entry(&mut input) {
                Ok(entry) => {
                    let mut again = Vec::new();
                    encode_entry(&entry, &mut again);
                    again == bytes[..bytes.len() - input.len()]
                }
                Err(_) => input == bytes,
            }
        }
        quickcheck::quickcheck(property as fn(Vec<u8>) -> bool);
    }

    #[test]
    fn an_unknown_kind_is_an_error() {
        for kind in 3..=u8::MAX {
            let mut bytes = encoded()[..ENTRY_HEADER_BYTES].to_vec();
            bytes[16] = kind;
            let error = decode_entry(&mut Bytes::from(bytes)).unwrap_err();
            assert!(matches!(error, DecodeEntryError::UnknownKind { .. }), "{error}");
        }
    }
}
