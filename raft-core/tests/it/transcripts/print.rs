//! What the nodes do, as text.

use std::collections::BTreeMap;

use raft_core::{AppendOutcome, Entry, Envelope, Message, ReadOutcome, Role, WriteId};

use crate::harness::*;

/// Knows what has been printed.
#[derive(Default)]
pub(super) struct Printer {
    nodes: BTreeMap<u64, Printed>,
    /// Rounds of heartbeats begin at a random number: they are numbered as they come.
    rounds: BTreeMap<u64, usize>,
    notes: Vec<String>,
}

#[derive(Default)]
struct Printed {
    state: String,
    write: Option<WriteId>,
    applied: usize,
    restores: usize,
    fetches: usize,
    snapshots: usize,
    changes: usize,
    /// The configuration in force: printed when it changes.
    members: Option<String>,
}

impl Printer {
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(super) fn lost(&mut self, envelope: &Envelope) {
        let message = self.message(envelope);
        self.notes.push(format!("lost: {message}"));
    }

    /// The node starts with nothing.
    pub(super) fn restarted(&mut self, id: u64) {
        let Printed { state, members, .. } = self.nodes.remove(&id).unwrap_or_default();
        self.nodes.insert(id, Printed { state, members, ..Printed::default() });
    }

    /// What has been sent and written is not printed, but what came of it is.
    pub(super) fn skip_messages(&mut self, cluster: &mut Cluster) {
        cluster.collect();
        for (id, replica) in &cluster.replicas {
            let printed = self.nodes.entry(*id).or_default();
            printed.write = replica.write.as_ref().map(|write| write.id);
            (printed.fetches, printed.snapshots) = (replica.fetches.len(), replica.snapshots.len());
        }
    }

    /// What is new since this was asked last.
    pub(super) fn lines(&mut self, cluster: &mut Cluster) -> Vec<String> {
        let mut lines = core::mem::take(&mut self.notes);
        for id in cluster.replicas.keys().copied().collect::<Vec<_>>() {
            if !cluster.is_alive(id) {
                self.state(&mut lines, id, "dead".to_owned());
                continue;
            }
            let sent = cluster.at(id).take_sent();
            lines.extend(sent.iter().map(|envelope| self.message(envelope)));
            cluster.wire.extend(sent);
            self.work(&mut lines, id, cluster.at(id));
            self.state(&mut lines, id, state(cluster.at(id)));
        }
        lines
    }

    /// Writes, applies, restores, fetches, and snapshots to send.
    fn work(&mut self, lines: &mut Vec<String>, id: u64, replica: &Replica) {
        let printed = self.nodes.entry(id).or_default();
        if let Some(write) = &replica.write
            && printed.write != Some(write.id)
        {
            let mut line = format!("{id} writes");
            if let Some(reset) = &write.reset {
                line += &format!(" reset to {}", reset.last);
            }
            if let Some(compact) = &write.compact {
                line += &format!(" compact to {}", compact.last);
            }
            if !write.entries.is_empty() {
                line += &format!(" entries {}", ids(&write.entries));
            }
            if let Some(state) = &write.hard_state {
                let vote = state.vote.map_or("none".to_owned(), |vote| vote.candidate.to_string());
                line += &format!(" term {} vote {vote} commit {}", state.term, state.commit);
            }
            lines.push(line);
        }
        printed.write = replica.write.as_ref().map(|write| write.id);
        for restore in &replica.restores[printed.restores..] {
            lines.push(format!("{id} restores the snapshot up to {}", restore.last));
        }
        printed.restores = replica.restores.len();
        let applied = &replica.applied[printed.applied..];
        match applied.len() {
            0 => {}
            1..=6 => lines.push(format!("{id} applies {}: {}", ids(applied), text(applied))),
            _ => lines.push(format!("{id} applies {}", ids(applied))),
        }
        printed.applied = replica.applied.len();
        for fetch in replica.fetches.iter().skip(printed.fetches) {
            lines.push(format!("{id} reads entries {} to {}", fetch.first, fetch.last));
        }
        printed.fetches = replica.fetches.len();
        for snapshot in replica.snapshots.iter().skip(printed.snapshots) {
            lines.push(format!("{id} sends its snapshot to {}", snapshot.to));
        }
        printed.snapshots = replica.snapshots.len();
        let in_force = members(replica.node.configuration());
        // What all begin with goes without saying.
        if printed.members.as_ref().is_some_and(|known| *known != in_force) {
            lines.push(format!("{id} has members {in_force}"));
        }
        printed.members = Some(in_force);
        for change in &replica.changes[printed.changes..] {
            lines.push(match change {
                Ok(configuration) => format!("{id} has changed to {}", members(configuration)),
                Err(error) => format!("{id} has not changed: {error}"),
            });
        }
        printed.changes = replica.changes.len();
    }

    fn state(&mut self, lines: &mut Vec<String>, id: u64, state: String) {
        let printed = self.nodes.entry(id).or_default();
        if printed.state != state {
            lines.push(format!("{id} is {state}"));
            printed.state = state;
        }
    }

    fn message(&mut self, envelope: &Envelope) -> String {
        let what = match &envelope.message {
            Message::PreVote { campaign, last } => {
                format!("PreVote for term {campaign} last {last}")
            }
            Message::PreVoteResponse { campaign, granted } => {
                format!("PreVoteResponse for term {campaign} {}", yes(*granted))
            }
            Message::RequestVote { last, transfer: false } => format!("RequestVote last {last}"),
            Message::RequestVote { last, transfer: true } => {
                format!("RequestVote last {last} for a transfer")
            }
            Message::VoteResponse { candidate: _, granted } => {
                format!("VoteResponse {}", yes(*granted))
            }
            Message::AppendEntries { previous, entries, commit } => {
                format!("AppendEntries after {previous} [{}] commit {commit}", ids(entries))
            }
            Message::AppendResponse(AppendOutcome::Accepted { matched }) => {
                format!("Accepted up to {matched}")
            }
            Message::AppendResponse(AppendOutcome::Rejected { previous, hint }) => {
                format!("Rejected after {previous} hint {hint}")
            }
            Message::Heartbeat { commit, round } => match round {
                Some(round) => format!("Heartbeat round {} commit {commit}", self.round(*round)),
                None => format!("Heartbeat commit {commit}"),
            },
            Message::HeartbeatResponse { round, received } => {
                format!("HeartbeatResponse round {} received {received}", self.round(*round))
            }
            Message::TimeoutNow => "TimeoutNow".to_owned(),
            Message::ReadIndex { context } => format!("ReadIndex {}", self.round(*context)),
            Message::ReadIndexResponse { context, outcome: ReadOutcome::Confirmed(index) } => {
                format!("ReadIndexResponse {} at {index}", self.round(*context))
            }
            Message::ReadIndexResponse { context, outcome: ReadOutcome::LostLeader } => {
                format!("ReadIndexResponse {} refused", self.round(*context))
            }
            Message::ReadIndexResponse { context, outcome: ReadOutcome::Busy } => {
                format!("ReadIndexResponse {} busy", self.round(*context))
            }
        };
        format!("{}->{} t{} {what}", envelope.from, envelope.to, envelope.term)
    }

    fn round(&mut self, round: u64) -> usize {
        let next = self.rounds.len() + 1;
        *self.rounds.entry(round).or_insert(next)
    }
}

fn yes(granted: bool) -> &'static str {
    if granted { "granted" } else { "denied" }
}

fn ids(entries: &[Entry]) -> String {
    match entries {
        [first, .., last] if entries.len() > 6 => format!("{} .. {}", first.id, last.id),
        _ => entries.iter().map(|entry| entry.id.to_string()).collect::<Vec<_>>().join(" "),
    }
}

fn state(replica: &Replica) -> String {
    let status = replica.node.status();
    let role = match status.role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    };
    let mut line = format!("{role} t{}", status.term);
    if let Some(leader) = status.leader.filter(|leader| *leader != status.id) {
        line += &format!(" of {leader}");
    }
    line += &format!(
        " last {} durable {} commit {} handed out {}",
        status.last, status.durable, status.commit, status.handed_out
    );
    if status.start.index.0 > 0 {
        line += &format!(" start {}", status.start);
    }
    for peer in &status.peers {
        line += &format!(" | {} {:?} {}/{}", peer.id, peer.replication, peer.matched, peer.next);
    }
    line
}
