use quickcheck::{Arbitrary, Gen, quickcheck};
use raft_core::{Configuration, Entry, Member, Payload};

use super::*;

/// A packet of any kind, with any content.
#[derive(Clone, Debug)]
pub(crate) struct AnyPacket(pub(crate) Packet);

impl Arbitrary for AnyPacket {
    fn arbitrary(g: &mut Gen) -> AnyPacket {
        let (from, to) = (NodeId(u64::arbitrary(g)), NodeId(u64::arbitrary(g)));
        let transfer = u64::arbitrary(g);
        AnyPacket(match u8::arbitrary(g) % 8 {
            0 => Packet::SnapshotChunk(SnapshotChunk {
                from,
                to,
                transfer,
                meta: SnapshotMeta { last: entry_id(g), configuration: configuration(g) },
                image_bytes: u64::arbitrary(g),
                offset: u64::arbitrary(g),
                checksum: u32::arbitrary(g),
                data: Vec::<u8>::arbitrary(g).into(),
            }),
            1 => Packet::SnapshotResponse(SnapshotResponse {
                from,
                to,
                transfer,
                status: match u8::arbitrary(g) % 4 {
                    0 => SnapshotStatus::Continue {
                        reception: u64::arbitrary(g),
                        offset: u64::arbitrary(g),
                        held: Vec::arbitrary(g),
                    },
                    1 => SnapshotStatus::Done,
                    2 => SnapshotStatus::Refused,
                    _ => SnapshotStatus::TooLong { image_bytes_max: u64::arbitrary(g) },
                },
            }),
            2 => Packet::Checksum(Checksum {
                from,
                to,
                index: LogIndex(u64::arbitrary(g)),
                checksum: u32::arbitrary(g),
            }),
            _ => Packet::Raft(Envelope {
                from,
                incarnation: Incarnation(u64::arbitrary(g)),
                is_meant: bool::arbitrary(g),
                to,
                term: Term(u64::arbitrary(g)),
                message: message(g),
            }),
        })
    }
}

fn entry_id(g: &mut Gen) -> EntryId {
    EntryId::new(Term(u64::arbitrary(g)), LogIndex(u64::arbitrary(g)))
}

fn configuration(g: &mut Gen) -> Configuration {
    Configuration::of_members(members(g), members(g), members(g))
}

fn members(g: &mut Gen) -> Vec<Member> {
    let ids = Vec::<u64>::arbitrary(g).into_iter().map(NodeId);
    let member = |id| {
        let incarnation = Option::<u64>::arbitrary(g).map(Incarnation);
        let address = String::arbitrary(g).chars().take(100).collect();
        Member { id, incarnation, address }
    };
    ids.map(member).collect()
}

fn entry(g: &mut Gen) -> Entry {
    let payload = match u8::arbitrary(g) % 3 {
        0 => Payload::Empty,
        1 => Payload::Command(Vec::<u8>::arbitrary(g).into()),
        _ => Payload::Configuration(configuration(g)),
    };
    Entry { id: entry_id(g), payload }
}

fn message(g: &mut Gen) -> Message {
    let index = LogIndex(u64::arbitrary(g));
    match u8::arbitrary(g) % 12 {
        0 => Message::PreVote { campaign: Term(u64::arbitrary(g)), last: entry_id(g) },
        1 => Message::PreVoteResponse {
            campaign: Term(u64::arbitrary(g)),
            granted: bool::arbitrary(g),
        },
        2 => Message::RequestVote { last: entry_id(g), transfer: bool::arbitrary(g) },
        9 => Message::TimeoutNow,
        10 => Message::ReadIndex { context: u64::arbitrary(g) },
        11 => Message::ReadIndexResponse {
            context: u64::arbitrary(g),
            outcome: match u8::arbitrary(g) % 3 {
                0 => ReadOutcome::Confirmed(index),
                1 => ReadOutcome::LostLeader,
                _ => ReadOutcome::Busy,
            },
        },
        3 => Message::VoteResponse {
            candidate: Incarnation(u64::arbitrary(g)),
            granted: bool::arbitrary(g),
        },
        4 => Message::AppendEntries {
            previous: entry_id(g),
            entries: (0..u8::arbitrary(g) % 8).map(|_| entry(g)).collect(),
            commit: index,
        },
        5 => Message::AppendResponse(AppendOutcome::Accepted { matched: index }),
        6 => {
            Message::AppendResponse(AppendOutcome::Rejected { previous: index, hint: entry_id(g) })
        }
        7 => Message::Heartbeat { commit: index, round: Option::arbitrary(g) },
        _ => Message::HeartbeatResponse { round: u64::arbitrary(g), received: index },
    }
}

fn encoded(packet: &Packet) -> Vec<u8> {
    let mut out = BytesMut::new();
    if let Some(payload) = encode_packet(packet, &mut out) {
        out.extend_from_slice(payload);
    }
    out.to_vec()
}

quickcheck! {
    fn what_was_encoded_is_decoded(packet: AnyPacket) -> bool {
        decode_packet(encoded(&packet.0).into()) == Ok(packet.0)
    }

    fn random_bytes_are_a_packet_or_an_error(bytes: Vec<u8>) -> bool {
        let Ok(packet) = decode_packet(bytes.clone().into()) else { return true };
        decode_packet(encoded(&packet).into()) == Ok(packet)
    }

    fn a_packet_with_bytes_changed_is_a_packet_or_an_error(
        packet: AnyPacket,
        changes: Vec<(usize, u8)>
    ) -> bool {
        let mut bytes = encoded(&packet.0);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let Ok(packet) = decode_packet(bytes.into()) else { return true };
        decode_packet(encoded(&packet).into()) == Ok(packet)
    }

    fn a_packet_that_ends_too_early_is_an_error_except_in_its_payload(packet: AnyPacket) -> bool {
        let bytes = encoded(&packet.0);
        let payload = match &packet.0 {
            Packet::SnapshotChunk(chunk) => chunk.data.len(),
            Packet::Raft(_) | Packet::SnapshotResponse(_) | Packet::Checksum(_) => 0,
        };
        (0..bytes.len() - payload).all(|len| decode_packet(bytes[..len].to_vec().into()).is_err())
    }

    fn bytes_after_a_packet_are_an_error_except_after_a_payload(packet: AnyPacket) -> bool {
        let mut bytes = encoded(&packet.0);
        bytes.push(0);
        matches!(packet.0, Packet::SnapshotChunk(_)) || decode_packet(bytes.into()).is_err()
    }
}

#[test]
fn a_count_that_the_packet_cannot_hold_is_an_error() {
    let message = Message::AppendEntries {
        previous: EntryId::ZERO,
        entries: Vec::new().into(),
        commit: LogIndex::ZERO,
    };
    let envelope = Envelope {
        from: NodeId(1),
        incarnation: Incarnation(1),
        is_meant: true,
        to: NodeId(2),
        term: Term(1),
        message,
    };
    let mut bytes = encoded(&Packet::Raft(envelope));
    let count_at = bytes.len() - 4;
    bytes[count_at..].fill(0xff);
    assert_eq!(decode_packet(bytes.into()), Err(DecodePacketError::Count(u32::MAX)));
}

#[test]
fn the_payloads_of_entries_are_not_copied() {
    let entries = vec![Entry::command(EntryId::ZERO, vec![7; 100])];
    let message = Message::AppendEntries {
        previous: EntryId::ZERO,
        entries: entries.into(),
        commit: LogIndex(0),
    };
    let envelope = Envelope {
        from: NodeId(1),
        incarnation: Incarnation(1),
        is_meant: true,
        to: NodeId(2),
        term: Term(1),
        message,
    };
    let bytes = Bytes::from(encoded(&Packet::Raft(envelope)));
    let decoded = decode_packet(bytes.clone()).unwrap();
    let Packet::Raft(Envelope { message: Message::AppendEntries { entries, .. }, .. }) = decoded
    else {
        panic!("{decoded:?}")
    };
    let Payload::Command(command) = &entries[0].payload else { panic!("{entries:?}") };
    assert!(bytes.as_ptr_range().contains(&command.as_ptr()));
}
