//! Stories told to a checker by hand.

use std::sync::Arc;
use std::time::Duration;

use raft_rsm::raft_core::{
    EntryId, Envelope, HardState, Incarnation, LogIndex, Message, NodeId, Role, Term, Vote, WriteId,
};
use raft_rsm::transport::Packet;

use super::{Checker, View};
use crate::event::{Crash, Digest, EntrySummary, Event, ParcelId};

/// What a checker says to a story, one event a millisecond, from its beginning to its end.
pub(super) fn tell(mut checker: impl Checker, story: &[Event]) -> Result<(), String> {
    let times = (0..).map(Duration::from_millis);
    tell_at(&mut checker, times.zip(story.iter().cloned()))
}

/// What a checker says to a story, with the time of each event.
pub(super) fn tell_at(
    checker: &mut impl Checker,
    story: impl IntoIterator<Item = (Duration, Event)>,
) -> Result<(), String> {
    let (mut view, mut end) = (View::default(), Duration::ZERO);
    for (now, event) in story {
        checker.observe(now, &view, &event)?;
        view.apply(&event);
        end = now;
    }
    checker.finish(end, &view)
}

/// The checker says something, and these words are in it.
#[track_caller]
pub(super) fn assert_caught(said: Result<(), String>, words: &str) {
    let problem = said.expect_err("nothing was noticed");
    assert!(problem.contains(words), "{problem}");
}

pub(super) fn node(id: u64) -> NodeId {
    NodeId(id)
}

/// `entry(2, 1)` is the entry of term 2 at index 1.
pub(super) fn entry(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), LogIndex(index))
}

/// An entry that says what no other one does.
pub(super) fn summary(term: u64, index: u64) -> EntrySummary {
    EntrySummary { id: entry(term, index), payload: Digest(term * 1000 + index) }
}

pub(super) fn started(id: u64) -> Event {
    started_with(id, HardState::default(), EntryId::ZERO)
}

/// A start with a log that is all of the last entry's term.
pub(super) fn started_with(id: u64, hard_state: HardState, last: EntryId) -> Event {
    let runs = (last != EntryId::ZERO).then_some(last).into_iter().collect();
    Event::Started { node: node(id), hard_state, start: EntryId::ZERO, last, runs }
}

pub(super) fn crashed(id: u64) -> Event {
    Event::Crashed { node: node(id), crash: Crash::Killed }
}

pub(super) fn hard_state(term: u64, vote: Option<u64>, commit: u64) -> HardState {
    let vote = vote.map(|id| Vote { candidate: NodeId(id), incarnation: Incarnation(0) });
    HardState { term: Term(term), vote, commit: LogIndex(commit) }
}

pub(super) fn leads(id: u64, term: u64, last: EntryId) -> Event {
    let (node, term) = (node(id), Term(term));
    Event::Role { node, role: Role::Leader, term, leader: Some(node), last, changed: true }
}

pub(super) fn follows(id: u64, term: u64, last: EntryId) -> Event {
    let (node, term) = (node(id), Term(term));
    Event::Role { node, role: Role::Follower, term, leader: None, last, changed: true }
}

/// A commit index; everything is applied, too.
pub(super) fn commits(id: u64, commit: u64, last: EntryId) -> Event {
    let commit = LogIndex(commit);
    Event::Progress {
        node: node(id),
        commit,
        applied: commit,
        last,
        log_bytes: 0,
        tail_bytes: 0,
        image_bytes: 0,
    }
}

/// A write of entries that is not acknowledged yet.
pub(super) fn writes(id: u64, write: u64, entries: &[EntrySummary]) -> Event {
    writes_state(id, write, entries, None)
}

pub(super) fn writes_state(
    id: u64,
    write: u64,
    entries: &[EntrySummary],
    hard_state: Option<HardState>,
) -> Event {
    Event::WriteBegan {
        node: node(id),
        id: WriteId(write),
        reset: None,
        compact: None,
        entries: entries.to_vec(),
        hard_state,
    }
}

pub(super) fn written(id: u64, write: u64) -> Event {
    Event::WriteEnded { node: node(id), id: WriteId(write), error: None }
}

pub(super) fn sent(from: u64, to: u64, term: u64, message: Message) -> Event {
    sent_bytes(from, to, term, message, 100)
}

pub(super) fn sent_bytes(from: u64, to: u64, term: u64, message: Message, bytes: usize) -> Event {
    let envelope = Envelope {
        from: node(from),
        incarnation: Incarnation(0),
        is_meant: true,
        to: node(to),
        term: Term(term),
        message,
    };
    let packet = Arc::new(Packet::Raft(envelope));
    Event::Sent { parcel: ParcelId(0), packet, bytes, digest: Digest(0) }
}
