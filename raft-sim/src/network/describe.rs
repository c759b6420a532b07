//! Packets in words, for traces.

use raft_rsm::raft_core::{AppendOutcome, Envelope, Message, ReadOutcome};
use raft_rsm::transport::{Checksum, Packet, SnapshotChunk, SnapshotResponse, SnapshotStatus};

/// A packet in one line, without its addresses: `AppendEntries t3 after 7.2 +4 commit 6`. Entries are written
/// `index.term`.
#[must_use]
pub fn describe(packet: &Packet) -> String {
    match packet {
        Packet::Raft(envelope) => message(envelope),
        Packet::SnapshotChunk(chunk) => {
            let SnapshotChunk { meta, offset, data, image_bytes, .. } = chunk;
            let (end, last) = (offset.saturating_add(data.len() as u64), meta.last);
            format!("SnapshotChunk up to {last} bytes {offset}..{end} of {image_bytes}")
        }
        Packet::SnapshotResponse(SnapshotResponse { status, .. }) => match status {
            SnapshotStatus::Continue { offset, held, .. } if held.is_empty() => {
                format!("SnapshotResponse continue at {offset}")
            }
            SnapshotStatus::Continue { offset, held, .. } => {
                format!("SnapshotResponse continue at {offset}, beyond {held:?}")
            }
            SnapshotStatus::Done => "SnapshotResponse done".to_owned(),
            SnapshotStatus::Refused => "SnapshotResponse refused".to_owned(),
            SnapshotStatus::TooLong { image_bytes_max } => {
                format!("SnapshotResponse too long, max={image_bytes_max}")
            }
        },
        Packet::Checksum(Checksum { index, checksum, .. }) => {
            format!("Checksum {checksum:08x} at {index}")
        }
    }
}

fn message(Envelope { term, message, .. }: &Envelope) -> String {
    let verdict = |granted: &bool| if *granted { "granted" } else { "denied" };
    match message {
        Message::PreVote { campaign, last } => {
            format!("PreVote t{term} for t{campaign} last {last}")
        }
        Message::PreVoteResponse { campaign, granted } => {
            format!("PreVoteResponse t{term} for t{campaign} {}", verdict(granted))
        }
        Message::RequestVote { last, transfer: false } => {
            format!("RequestVote t{term} last {last}")
        }
        Message::RequestVote { last, transfer: true } => {
            format!("RequestVote t{term} last {last} for a transfer")
        }
        Message::VoteResponse { candidate: _, granted } => {
            format!("VoteResponse t{term} {}", verdict(granted))
        }
        Message::AppendEntries { previous, entries, commit } => {
            format!("AppendEntries t{term} after {previous} +{} commit {commit}", entries.len())
        }
        Message::AppendResponse(AppendOutcome::Accepted { matched }) => {
            format!("AppendResponse t{term} matched {matched}")
        }
        Message::AppendResponse(AppendOutcome::Rejected { previous, hint }) => {
            format!("AppendResponse t{term} rejected after {previous} hint {hint}")
        }
        Message::Heartbeat { commit, round: Some(round) } => {
            format!("Heartbeat t{term} commit {commit} round {round}")
        }
        Message::Heartbeat { commit, round: None } => format!("Heartbeat t{term} commit {commit}"),
        Message::HeartbeatResponse { round, received } => {
            format!("HeartbeatResponse t{term} round {round} received {received}")
        }
        Message::TimeoutNow => format!("TimeoutNow t{term}"),
        Message::ReadIndex { context } => format!("ReadIndex t{term} {context}"),
        Message::ReadIndexResponse { context, outcome: ReadOutcome::Confirmed(index) } => {
            format!("ReadIndexResponse t{term} {context} at {index}")
        }
        Message::ReadIndexResponse { context, outcome: ReadOutcome::LostLeader } => {
            format!("ReadIndexResponse t{term} {context} refused")
        }
        Message::ReadIndexResponse { context, outcome: ReadOutcome::Busy } => {
            format!("ReadIndexResponse t{term} {context} busy")
        }
    }
}
