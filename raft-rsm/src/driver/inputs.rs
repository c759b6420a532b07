//! Facts and requests on their way into the core.

use std::mem;
use std::time::Duration;

use raft_core::{Fetched, Input, NodeId, Role};

use super::Driver;
use super::compaction::LogExtent;
use super::divergence::{Finding, Heard};
use super::intake::{Completion, Request};
use super::queries::Asked;
use super::waiters::Proposer;
use crate::StateMachine;
use crate::applier::{Mark, Work};
use crate::consistency::Consistency;
use crate::error::{ProposeError, QueryError, SnapshotError, StopReason};
use crate::payload::Draft;
use crate::server::Responder;
use crate::transport::{Checksum, Packet, SnapshotChunk, SnapshotResponse, SnapshotStatus};
use crate::watch::lock;

impl<M: StateMachine> Driver<M> {
    /// The write that was out has ended. Its error is the last one: nothing is tried again, and nothing
    /// is acknowledged any more.
    pub(super) fn step_written(&mut self) -> Result<(), StopReason> {
        if let Some((id, result)) = self.written.take() {
            result?;
            self.node.step(Input::Persisted(id));
            self.compaction.persisted(id, self.parts.storage.log_bytes());
        }
        Ok(())
    }

    pub(super) fn step_completions(&mut self) -> Result<(), StopReason> {
        let mut completions = mem::take(&mut self.batch.completions);
        for completion in completions.drain(..) {
            self.step_completion(completion)?;
        }
        self.batch.completions = completions;
        Ok(())
    }

    fn step_completion(&mut self, completion: Completion) -> Result<(), StopReason> {
        match completion {
            Completion::Applied { last, time, due, fill } => {
                self.fill = fill;
                self.node.step(Input::Applied(last.index));
                self.applied = self.applied.max(last.index);
                if self.node.role() == Role::Leader && last.term == self.node.term() {
                    self.clock.own_term_applied(last.term, time, self.now);
                }
                self.clock.told(time, due);
            }
            Completion::Marked(mark) => self.marked(mark)?,
            Completion::Restored { meta, image_bytes, time, due, fill } => {
                self.fill = fill;
                self.clock.told(time, due);
                self.comparison.restored(meta.last.index);
                self.node.step(Input::Applied(meta.last.index));
                self.applied = self.applied.max(meta.last.index);
                self.snapshot_stored(meta, image_bytes);
                self.compaction.restored(image_bytes, self.parts.storage.log_bytes());
            }
            Completion::SnapshotTaken { meta, image_bytes } => {
                self.node.step(Input::SnapshotTaken(meta.clone()));
                self.compaction.taken(image_bytes);
                for (caller, _) in self.snapshot_callers[0].drain(..) {
                    caller.answer(Ok(meta.last));
                }
                self.snapshot_stored(meta, image_bytes);
            }
            Completion::SnapshotSkipped => self.snapshot_skipped(),
            Completion::SnapshotReceived { meta, image_bytes } => {
                self.node.step(Input::SnapshotReceived(meta.clone()));
                self.snapshot_stored(meta, image_bytes);
            }
            Completion::SnapshotSent { to, transfer, result } => {
                let sent = result?;
                let current = self.sending.get(&to).is_some_and(|s| s.transfer == transfer);
                if current {
                    self.sending.remove(&to);
                    self.note_refusal(to, sent);
                    self.node.step(Input::SnapshotSent { to, outcome: sent.outcome() });
                    self.send_waiting_snapshots();
                }
            }
            Completion::Fetched { id, result } => {
                self.fetching = self.fetching.saturating_sub(1);
                let result: Fetched = result?;
                self.node.step(Input::Fetched { id, result });
                if self.node.is_stopped() {
                    let problem = "the log does not hold the entries that were written to it";
                    return Err(StopReason::Storage { problem: problem.to_owned() });
                }
            }
            Completion::Stop(StopReason::Shutdown) => self.shut_down()?,
            Completion::Stop(reason) => return Err(reason),
        }
        Ok(())
    }

    pub(super) fn step_packets(&mut self) -> Result<(), StopReason> {
        self.refused.packets += mem::take(&mut self.batch.refused.packets);
        let mut packets = mem::take(&mut self.batch.packets);
        for packet in packets.drain(..) {
            if packet.to() != self.node.id() || packet.from() == self.node.id() {
                self.refused.packets_senseless += 1;
                continue;
            }
            match packet {
                Packet::Raft(envelope) => self.receive(envelope),
                Packet::SnapshotChunk(chunk) => self.take_chunk(chunk),
                Packet::SnapshotResponse(response) => self.take_snapshot_response(response),
                Packet::Checksum(checksum) => self.take_checksum(checksum)?,
            }
        }
        self.batch.packets = packets;
        for peer in self.batch.disconnected.drain(..) {
            // It may have been restarted with another limit.
            self.refusals.forget(peer);
            self.node.step(Input::Disconnected(peer));
        }
        Ok(())
    }

    fn take_chunk(&mut self, chunk: SnapshotChunk) {
        // A node that joins knows of no members, and one that was away for long perhaps not of its leader.
        let leads = self.node.leader() == Some(chunk.from);
        if !leads && !self.node.configuration().contains(chunk.from) {
            self.refused.packets_senseless += 1;
        } else if chunk.meta.last.index <= self.node.handed_out() {
            // All of it is committed and durable here: it is no longer needed.
            self.parts.transport.send(Packet::SnapshotResponse(SnapshotResponse {
                from: self.node.id(),
                to: chunk.from,
                transfer: chunk.transfer,
                status: SnapshotStatus::Done,
            }));
        } else {
            self.chunks.push(chunk);
        }
    }

    fn take_snapshot_response(&mut self, response: SnapshotResponse) {
        match self.sending.get(&response.from) {
            Some(outgoing) if outgoing.transfer == response.transfer => {
                outgoing.answers.put(response.status);
            }
            // The answer to a transfer that is over.
            Some(_) | None => {}
        }
    }

    /// The machine has come to an index at which it is compared. Whom this does not reach compares the next one.
    fn marked(&mut self, mark: Mark) -> Result<(), StopReason> {
        for member in self.node.configuration().members() {
            if member.id != self.node.id() {
                self.tell(member.id, mark);
            }
        }
        let findings = self.comparison.reached(mark, self.node.configuration());
        self.take_findings(findings)
    }

    fn take_checksum(&mut self, checksum: Checksum) -> Result<(), StopReason> {
        let Checksum { from, to: _, index, checksum } = checksum;
        let configuration = self.node.configuration();
        if !configuration.contains(from) {
            self.refused.packets_senseless += 1;
            return Ok(());
        }
        let mark = Mark { index, checksum };
        let Heard { findings, answer } = self.comparison.hear(from, mark, configuration);
        if let Some(own) = answer {
            self.tell(from, own);
        }
        self.take_findings(findings)
    }

    fn tell(&self, to: NodeId, mark: Mark) {
        let Mark { index, checksum } = mark;
        let from = self.node.id();
        self.parts.transport.send(Packet::Checksum(Checksum { from, to, index, checksum }));
    }

    fn take_findings(&mut self, findings: Vec<Finding>) -> Result<(), StopReason> {
        let node = self.node.id();
        for finding in findings {
            match finding {
                Finding::Differs { peer, index } => {
                    tracing::warn!(%node, %peer, %index, "another replica has diverged from this one");
                }
                Finding::Split { index } => {
                    tracing::error!(%node, %index, "the replicas have diverged, and no majority is alike");
                }
                Finding::Outvoted { index, agreed, own, majority } => {
                    return Err(StopReason::Diverged { index, agreed, own, majority });
                }
            }
        }
        Ok(())
    }

    pub(super) fn take_requests(&mut self) {
        self.refused.requests += mem::take(&mut self.batch.refused.requests);
        let mut requests = mem::take(&mut self.batch.requests);
        let mut linearizable: Vec<Asked<M>> = Vec::new();
        let mut by_lease: Vec<Asked<M>> = Vec::new();
        let mut stale: Vec<Asked<M>> = Vec::new();
        for request in requests.drain(..) {
            match request {
                Request::Propose { draft, respond } => self.propose(draft, respond),
                Request::Query { query, consistency, wait, len_bytes, respond } => {
                    let asked = self.asked(query, wait, len_bytes, respond);
                    match consistency {
                        Consistency::Linearizable => linearizable.push(asked),
                        Consistency::Lease => by_lease.push(asked),
                        Consistency::Stale => stale.push(asked),
                    }
                }
                Request::Change { change, respond } => self.change_membership(change, respond),
                Request::Transfer { to, respond } => self.transfer_leadership(to, respond),
                Request::Snapshot(caller) => self.take_snapshot_for(caller),
            }
        }
        self.batch.requests = requests;
        self.answer(stale);
        if !by_lease.is_empty() {
            match self.node.read_by_lease() {
                Some(index) => lock(&self.queries).wait_for_index(index, by_lease),
                None => linearizable.append(&mut self.refer_to_leader(by_lease)),
            }
        }
        self.query(linearizable);
    }

    /// Whoever waits for something to be said has as long as others beside that.
    fn asked(
        &mut self,
        query: M::Query,
        wait: Duration,
        len_bytes: usize,
        respond: Responder<M::Answer, QueryError>,
    ) -> Asked<M> {
        let wait = wait.min(self.options.request_timeout);
        let wait_until = if wait.is_zero() { wait } else { self.deadline_in(wait) };
        let deadline = self.deadline().saturating_add(wait);
        Asked { query, respond, len_bytes, deadline, wait_until }
    }

    /// Proposes a time mark if something is due, or will be after a long wait, and nobody else has told the log the time.
    pub(super) fn mark_time_if_due(&mut self) {
        let term = self.node.term();
        let is_due = self.clock.mark_at(term).is_some_and(|at| at <= self.now);
        if is_due && self.node.role() == Role::Leader {
            self.clock.marked(self.now);
            let time = self.clock.stamp(term, self.now);
            // Refused, it is tried again a little later.
            let _ = self.node.propose(Draft::time_mark().stamp(time));
        }
    }

    /// By lease only the leader answers, so a client takes whoever does for the leader: a follower sends it on. Returns
    /// those whom this node serves all the same, by a round of heartbeats.
    fn refer_to_leader(&self, by_lease: Vec<Asked<M>>) -> Vec<Asked<M>> {
        let leader = self.node.leader();
        if leader.is_none() || leader == Some(self.node.id()) {
            return by_lease;
        }
        let (clients, own): (Vec<_>, Vec<_>) =
            by_lease.into_iter().partition(|asked| asked.respond.is_remote());
        for asked in clients {
            asked.respond.answer(Err(QueryError::NotLeader { leader }));
        }
        own
    }

    fn propose(&mut self, draft: Draft, respond: Proposer<M>) {
        let time = self.clock.stamp(self.node.term(), self.now);
        if draft.opens_session() && self.has_no_room_for_a_session(time) {
            return respond.fail(ProposeError::SessionsFull);
        }
        let overhead = draft.overhead();
        match self.node.propose(draft.stamp(time)) {
            Ok(id) => {
                let deadline = self.deadline();
                self.waiters.add(id, deadline, respond);
            }
            Err(error) => {
                let error = propose_error(error, overhead);
                self.refused.requests += u64::from(error == ProposeError::Busy);
                respond.fail(error);
            }
        }
    }

    /// An entry that is refused costs every node as much as one that is not, and who is refused tries again: so a leader
    /// whose table is full says so before. It lets one through again when a session has ended by then: it is entries that
    /// let the log's time go on, and sessions end. What has a name is not refused here: it may be a repetition, which has its
    /// answer however full the table is.
    fn has_no_room_for_a_session(&self, time: Duration) -> bool {
        // One that does not know the log's time yet does not know the table either.
        let knows = self.node.role() == Role::Leader && !time.is_zero();
        knows && self.fill.has_no_room_for_a_session(&self.options.session_limits(), time)
    }

    /// Queries that have arrived together share one read index.
    fn query(&mut self, asked: Vec<Asked<M>>) {
        if asked.is_empty() {
            return;
        }
        let error = match self.node.read_index() {
            Ok(read) => return lock(&self.queries).wait_for_read(read, asked),
            Err(raft_core::ReadError::NoLeader) => QueryError::NotLeader { leader: None },
            // What a later version of the core may refuse for is no answer either.
            Err(raft_core::ReadError::Busy | _) => QueryError::Busy,
        };
        for asked in asked {
            self.refused.requests += u64::from(error == QueryError::Busy);
            asked.respond.answer(Err(error.clone()));
        }
    }

    /// When a wait that begins now ends at the latest.
    pub(super) fn deadline(&mut self) -> Duration {
        self.deadline_in(self.options.request_timeout)
    }

    fn deadline_in(&mut self, wait: Duration) -> Duration {
        let deadline = self.now.saturating_add(wait);
        self.sweep_at = Some(self.sweep_at.map_or(deadline, |at| at.min(deadline)));
        deadline
    }

    fn take_snapshot_for(&mut self, caller: super::SnapshotCaller) {
        let deadline = self.deadline_in(self.options.snapshot_timeout);
        // Whoever asks while one is being built wants what was applied since then, too.
        self.snapshot_callers[1].push((caller, deadline));
    }

    /// Ends the waits for a snapshot whose deadline has come. Returns the earliest one that is left.
    pub(super) fn sweep_snapshot_callers(&mut self) -> Option<Duration> {
        let now = self.now;
        for callers in &mut self.snapshot_callers {
            for (caller, _) in callers.extract_if(.., |(_, deadline)| *deadline <= now) {
                caller.answer(Err(SnapshotError::TimedOut));
            }
        }
        self.snapshot_callers.iter().flatten().map(|(_, deadline)| *deadline).min()
    }

    /// Has a snapshot taken when the log has grown enough or somebody wants one. Only one at a time.
    pub(super) fn take_snapshot_if_due(&mut self) {
        if self.compaction.is_building() {
            return;
        }
        let stored = Self::meta_ends(self.snapshot.as_ref()).index;
        let wanted = !self.snapshot_callers[1].is_empty();
        let log = LogExtent {
            bytes: self.parts.storage.log_bytes(),
            snapshot: stored,
            applied: self.applied,
            last: self.node.last().index,
        };
        if wanted || self.compaction.is_due(&log) {
            self.snapshot_callers.swap(0, 1);
            self.compaction.building(&log);
            self.work.push(Work::Snapshot);
        }
    }

    fn snapshot_skipped(&mut self) {
        self.compaction.skipped();
        for (caller, _) in self.snapshot_callers[0].drain(..) {
            caller.answer(match &self.snapshot {
                Some(meta) => Ok(meta.last),
                None => Err(SnapshotError::NothingApplied),
            });
        }
    }

    fn snapshot_stored(&mut self, meta: raft_core::SnapshotMeta, image_bytes: u64) {
        if meta.last.index >= Self::meta_ends(self.snapshot.as_ref()).index {
            self.snapshot = Some(meta);
            if image_bytes > 0 {
                self.snapshot_bytes = image_bytes;
            }
        }
    }
}

/// The core counts what is in front of a command as well; a caller knows only the command.
fn propose_error(error: raft_core::ProposeError, overhead: usize) -> ProposeError {
    match error {
        raft_core::ProposeError::NotLeader { leader } => ProposeError::NotLeader { leader },
        // It leads in a moment, or this node does again.
        raft_core::ProposeError::Transferring { to } => {
            ProposeError::NotLeader { leader: Some(to) }
        }
        raft_core::ProposeError::TooLarge { len, max } => ProposeError::TooLarge {
            len: len.saturating_sub(overhead),
            max: max.saturating_sub(overhead),
        },
        // What a later version of the core may refuse for is definitely not done either.
        raft_core::ProposeError::Busy | _ => ProposeError::Busy,
    }
}
