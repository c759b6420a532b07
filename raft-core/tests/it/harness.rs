//! One replica with its disk and its mail, for tests that play the rest of the cluster by hand; and a small
//! cluster of such replicas whose messages wait until they are delivered. Here: the words that they speak.

mod cluster;
mod replica;

use std::time::Duration;

use raft_core::{
    AppendOutcome, Configuration, Entry, EntryId, Envelope, Incarnation, LogIndex, Member, Message,
    NodeId, Payload, SnapshotMeta, Term, Vote,
};

pub(crate) use self::cluster::Cluster;
pub(crate) use self::replica::{Disk, Replica};

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The entry of `term` at `index`.
pub(crate) fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), LogIndex(index))
}

pub(crate) fn entry(term: u64, index: u64) -> Entry {
    Entry::command(id(term, index), format!("{index}.{term}"))
}

/// Entries after index `before`, one a term given.
pub(crate) fn entries(before: u64, terms: &[u64]) -> Vec<Entry> {
    (before + 1..).zip(terms).map(|(index, term)| entry(*term, index)).collect()
}

pub(crate) fn voters(count: u64) -> Configuration {
    Configuration::new((1..=count).map(NodeId), [])
}

pub(crate) fn append(previous: EntryId, entries: Vec<Entry>, commit: u64) -> Message {
    Message::AppendEntries { previous, entries: entries.into(), commit: LogIndex(commit) }
}

pub(crate) fn accepted(matched: u64) -> Message {
    Message::AppendResponse(AppendOutcome::Accepted { matched: LogIndex(matched) })
}

pub(crate) fn rejected(previous: u64, hint: EntryId) -> Message {
    Message::AppendResponse(AppendOutcome::Rejected { previous: LogIndex(previous), hint })
}

pub(crate) fn heartbeat(commit: u64, round: u64) -> Message {
    Message::Heartbeat { commit: LogIndex(commit), round: Some(round) }
}

/// The vote for the first incarnation of a node.
pub(crate) fn voted(candidate: u64) -> Vote {
    Vote { candidate: NodeId(candidate), incarnation: Incarnation(0) }
}

/// The answer to the first incarnation of a candidate.
pub(crate) const fn vote_response(granted: bool) -> Message {
    Message::VoteResponse { candidate: Incarnation(0), granted }
}

pub(crate) const GRANTED: Message = vote_response(true);
pub(crate) const DENIED: Message = vote_response(false);

pub(crate) fn snapshot(last: EntryId, configuration: &Configuration) -> SnapshotMeta {
    SnapshotMeta::new(last, configuration.clone())
}

/// A message of a sender that is of incarnation 0, as all are that no test says otherwise of, and meant where none is
/// named.
pub(crate) fn envelope(from: NodeId, to: NodeId, term: Term, message: Message) -> Envelope {
    Envelope { from, incarnation: Incarnation(0), is_meant: true, to, term, message }
}

/// The configurations among `entries`, each with its index.
pub(crate) fn configurations(entries: &[Entry]) -> Vec<(LogIndex, Configuration)> {
    let found = entries.iter().filter_map(|entry| match &entry.payload {
        Payload::Configuration(configuration) => Some((entry.id.index, configuration.clone())),
        Payload::Empty | Payload::Command(_) => None,
    });
    found.collect()
}

/// A configuration as text: `1 2 3`, learners after `+`, outgoing voters after `<`.
pub(crate) fn members(configuration: &Configuration) -> String {
    let ids = |mark: &str, set: &[Member]| {
        set.iter().map(|member| format!("{mark}{}", member.id)).collect::<Vec<_>>()
    };
    let sets = [
        ids("", configuration.voters()),
        ids("<", configuration.outgoing()),
        ids("+", configuration.learners()),
    ];
    sets.concat().join(" ")
}

/// The commands among `entries`, as text; `-` for an empty entry.
pub(crate) fn text(entries: &[Entry]) -> String {
    let words = entries.iter().map(|entry| match &entry.payload {
        Payload::Empty => "-".to_owned(),
        Payload::Command(command) => String::from_utf8_lossy(command).into_owned(),
        Payload::Configuration(configuration) => members(configuration),
    });
    words.collect::<Vec<_>>().join(" ")
}
