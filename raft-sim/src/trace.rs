//! A run as a story: who, when, what message, which state.

use std::time::Duration;

use raft_rsm::raft_core::{Configuration, EntryId, Member, Role};

use crate::event::{
    CallOutcome, Crash, Event, HandOver, OWN_PROCESS, OperationOutcome, RequestKind,
};
use crate::network::describe;

/// A time, in seconds of true virtual time.
#[must_use]
pub fn time(at: Duration) -> String {
    format!("{:>11.6}", at.as_secs_f64())
}

/// What happened, in a line.
#[must_use]
pub fn line(event: &Event) -> String {
    match event {
        Event::Started { node, hard_state, start, last, .. } => {
            let vote = hard_state
                .vote
                .map_or("nobody".to_owned(), |vote| format!("node {}", vote.candidate));
            format!(
                "node {node}: starts in term {} (vote for {vote}) with the log after {start} up to {last}",
                hard_state.term
            )
        }
        Event::NotStarted { node, reason } => format!("node {node}: cannot start: {reason}"),
        Event::Crashed { node, crash: Crash::Killed } => format!("node {node}: killed"),
        Event::Crashed { node, crash: Crash::PowerLost } => format!("node {node}: loses power"),
        Event::Stopped { node, reason, .. } => format!("node {node}: stops: {reason}"),
        Event::Paused { node } => format!("node {node}: paused"),
        Event::Resumed { node } => format!("node {node}: resumed"),
        Event::Role { node, role, term, leader, last, .. } => {
            let role = match role {
                Role::Follower => "follower",
                Role::PreCandidate => "pre-candidate",
                Role::Candidate => "candidate",
                Role::Leader => "LEADER",
            };
            let of = match leader {
                Some(leader) if leader != node => format!(" of node {leader}"),
                Some(_) | None => String::new(),
            };
            format!("node {node}: {role}{of} in term {term}, log up to {last}")
        }
        Event::Progress { node, commit, applied, last, .. } => {
            format!("node {node}: commit {commit}, applied {applied}, log up to {last}")
        }
        Event::WriteBegan { node, id, reset, compact, entries, hard_state } => {
            let mut parts = Vec::new();
            parts.extend(reset.map(|end| format!("log replaced after {end}")));
            parts.extend(compact.map(|end| format!("compacted up to {end}")));
            let ends = entries.first().zip(entries.last());
            parts.extend(ends.map(|(first, last)| range(first.id, last.id)));
            parts.extend(hard_state.map(|state| {
                let vote =
                    state.vote.map_or("nobody".to_owned(), |vote| vote.candidate.to_string());
                format!("term {} vote {vote} commit {}", state.term, state.commit)
            }));
            format!("node {node}: write {}: {}", id.0, parts.join(", "))
        }
        Event::WriteEnded { node, id, error: None } => {
            format!("node {node}: write {} durable", id.0)
        }
        Event::WriteEnded { node, id, error: Some(error) } => {
            format!("node {node}: write {} failed: {error}", id.0)
        }
        Event::Applied { node, id, command, response } => {
            format!("node {node}: applies {id} command {command} response {response}")
        }
        Event::Restored { node, last } => {
            format!("node {node}: restored from the snapshot up to {last}")
        }
        Event::SnapshotStored { node, last } => {
            format!("node {node}: stored a snapshot up to {last}")
        }
        Event::Sent { parcel, packet, bytes, .. } => {
            let (from, to) = (packet.from(), packet.to());
            format!("node {from} -> node {to} #{}: {} ({bytes} bytes)", parcel.0, describe(packet))
        }
        Event::Delivered { parcel, to } => format!("node {to} <- #{}", parcel.0),
        Event::Lost { parcel, why } => format!("lost #{}: {why}", parcel.0),
        Event::Asked { call, client, to, kind, .. } => {
            let what = match kind {
                RequestKind::Propose(command) => format!("command {command}"),
                RequestKind::ProposeKnown { known, command } => {
                    format!("command {command}, known as {known}")
                }
                RequestKind::Session => "a session".to_owned(),
                RequestKind::Query(consistency) => format!("a query, {consistency:?}"),
                RequestKind::Status => "status".to_owned(),
            };
            match *client {
                OWN_PROCESS => format!("node {to}: its own process asks, call {}: {what}", call.0),
                client => format!("client {client} -> node {to} call {}: {what}", call.0),
            }
        }
        Event::RequestArrived { call, at } => format!("node {at} <- call {}", call.0),
        Event::CallEnded { call, outcome } => {
            let outcome = match outcome {
                CallOutcome::Answered => "answered",
                CallOutcome::Refused => "refused, definitely not done",
                CallOutcome::Maybe => "maybe",
            };
            format!("call {}: {outcome}", call.0)
        }
        Event::OperationBegan { client, operation } => format!("client {client}: {operation} ..."),
        Event::OperationEnded { client, outcome, .. } => format!("client {client}: ... {outcome}"),
        Event::Fault { kind, what } => format!("FAULT {kind}: {what}"),
        Event::FaultEnded { kind } => format!("end of fault {kind}"),
        Event::Healed => "all faults have ended".to_owned(),
        Event::Configured { node, configuration, .. } => {
            format!("node {node}: {}", members(configuration))
        }
        Event::HandingOver { node, to, why } => {
            let why = match why {
                HandOver::Asked => "as it was asked to",
                HandOver::SickDisk => "since its disk is sick",
            };
            format!("node {node}: hands the lead over to node {to}, {why}")
        }
        Event::Wiped { node } => format!("node {node}: has lost its disk"),
        Event::Readmitted { node } => format!("node {node}: is what it was before it was wiped"),
        Event::Operated { outcome, what, .. } => {
            let outcome = match outcome {
                OperationOutcome::Done => "done",
                OperationOutcome::Refused => "refused",
                OperationOutcome::Failed => "failed",
            };
            format!("operator: {outcome}: {what}")
        }
    }
}

/// Who takes part, in a few words.
#[must_use]
pub fn members(configuration: &Configuration) -> String {
    let names = |set: &[Member]| {
        let names: Vec<String> = set.iter().map(|member| member.id.to_string()).collect();
        names.join(" ")
    };
    let mut text = format!("voters [{}]", names(configuration.voters()));
    if configuration.is_joint() {
        text.push_str(&format!(" and [{}]", names(configuration.outgoing())));
    }
    if !configuration.learners().is_empty() {
        text.push_str(&format!(" learners [{}]", names(configuration.learners())));
    }
    text
}

fn range(first: EntryId, last: EntryId) -> String {
    if first == last { format!("entry {first}") } else { format!("entries {first} to {last}") }
}
