//! Facts and requests on their way into the core.

use std::mem;

use raft_core::{Fetched, Input, Role};

use super::Driver;
use super::compaction::LogExtent;
use super::intake::{Completion, Refusal, Request};
use super::waiters::WaitsFor;
use crate::StateMachine;
use crate::applier::Work;
use crate::error::{ProposeError, QueryError, StopReason};
use crate::payload::{Draft, HEADER_BYTES};
use crate::server::Responder;
use crate::transport::{Packet, SnapshotChunk, SnapshotResponse, SnapshotStatus};

/// A query and who asks.
type AskedQuery<M> =
    (<M as StateMachine>::Query, Responder<<M as StateMachine>::Answer, QueryError>);

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
            Completion::Applied { last, time } => {
                self.node.step(Input::Applied(last.index));
                self.applied = self.applied.max(last.index);
                if self.node.role() == Role::Leader && last.term == self.node.term() {
                    self.clock.own_term_applied(last.term, time, self.now);
                }
            }
            Completion::Restored { meta, image_bytes } => {
                self.node.step(Input::Applied(meta.last.index));
                self.applied = self.applied.max(meta.last.index);
                self.snapshot_stored(meta, image_bytes);
                self.compaction.restored(image_bytes, self.parts.storage.log_bytes());
            }
            Completion::SnapshotTaken { meta, image_bytes } => {
                self.node.step(Input::SnapshotTaken(meta.clone()));
                self.compaction.taken(image_bytes);
                for caller in self.snapshot_callers[0].drain(..) {
                    let _ = caller.send(Ok(meta.clone()));
                }
                self.snapshot_stored(meta, image_bytes);
            }
            Completion::SnapshotSkipped => self.snapshot_skipped(),
            Completion::SnapshotReceived { meta, image_bytes } => {
                self.node.step(Input::SnapshotReceived(meta.clone()));
                self.snapshot_stored(meta, image_bytes);
            }
            Completion::SnapshotSent { to, transfer, result } => {
                let outcome = result?;
                let current = self.sending.get(&to).is_some_and(|s| s.transfer == transfer);
                if current {
                    self.sending.remove(&to);
                    self.node.step(Input::SnapshotSent { to, outcome });
                    self.send_waiting_snapshots();
                }
            }
            Completion::Fetched { id, result } => {
                let result: Fetched = result?;
                self.node.step(Input::Fetched { id, result });
                if self.node.is_stopped() {
                    let problem = "the log does not hold the entries that were written to it";
                    return Err(StopReason::Storage { problem: problem.to_owned() });
                }
            }
            Completion::Stop(reason) => return Err(reason),
        }
        Ok(())
    }

    pub(super) fn step_packets(&mut self) {
        self.refused.packets += mem::take(&mut self.batch.refused.packets);
        let mut packets = mem::take(&mut self.batch.packets);
        for packet in packets.drain(..) {
            if packet.to() != self.node.id() || packet.from() == self.node.id() {
                self.refused.packets_senseless += 1;
                continue;
            }
            match packet {
                Packet::Raft(envelope) => self.node.step(Input::Receive(envelope)),
                Packet::SnapshotChunk(chunk) => self.take_chunk(chunk),
                Packet::SnapshotResponse(response) => self.take_snapshot_response(response),
            }
        }
        self.batch.packets = packets;
        for peer in self.batch.disconnected.drain(..) {
            self.node.step(Input::Disconnected(peer));
        }
    }

    fn take_chunk(&mut self, chunk: SnapshotChunk) {
        if !self.node.configuration().contains(chunk.from) {
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

    pub(super) fn take_requests(&mut self) {
        self.refused.requests += mem::take(&mut self.batch.refused.requests);
        let mut requests = mem::take(&mut self.batch.requests);
        let mut queries: Vec<AskedQuery<M>> = Vec::new();
        for request in requests.drain(..) {
            match request {
                Request::Propose { draft, respond } => self.propose(draft, respond),
                Request::Query { query, respond } => queries.push((query, respond)),
                Request::Snapshot(caller) => self.take_snapshot_for(caller),
            }
        }
        self.batch.requests = requests;
        self.query(queries);
    }

    fn propose(&mut self, draft: Draft, respond: Responder<M::Response, ProposeError>) {
        let time = self.clock.stamp(self.node.term(), self.now);
        match self.node.propose(draft.stamp(time)) {
            Ok(id) => {
                let deadline = self.deadline();
                self.waiters.add(id, deadline, WaitsFor::Command(respond));
            }
            Err(error) => {
                let error = propose_error(error);
                self.refused.requests += u64::from(error == ProposeError::Busy);
                respond.answer(Err(error));
            }
        }
    }

    /// Queries that have arrived together share one mark in the log: whatever was committed before they were
    /// asked comes before it.
    fn query(&mut self, queries: Vec<AskedQuery<M>>) {
        if queries.is_empty() {
            return;
        }
        let time = self.clock.stamp(self.node.term(), self.now);
        let proposed = self.node.propose(Draft::query().stamp(time));
        for (query, respond) in queries {
            match &proposed {
                Ok(id) => {
                    let deadline = self.deadline();
                    self.waiters.add(*id, deadline, WaitsFor::Query(query, respond));
                }
                Err(raft_core::ProposeError::NotLeader { leader }) => {
                    respond.answer(Err(QueryError::NotLeader { leader: *leader }));
                }
                // A mark is a few bytes long, so there is nothing but too much under way.
                Err(_) => {
                    self.refused.requests += 1;
                    respond.answer(Err(QueryError::Busy));
                }
            }
        }
    }

    /// When a wait that begins now ends at the latest.
    fn deadline(&mut self) -> std::time::Duration {
        let deadline = self.now.saturating_add(self.options.request_timeout);
        self.sweep_at = Some(self.sweep_at.map_or(deadline, |at| at.min(deadline)));
        deadline
    }

    fn take_snapshot_for(&mut self, caller: super::SnapshotCaller) {
        let waiting: usize = self.snapshot_callers.iter().map(Vec::len).sum();
        if waiting >= self.options.requests_pending_max {
            Request::<M>::Snapshot(caller).refuse(Refusal::Busy);
            return;
        }
        // Whoever asks while one is being built wants what was applied since then, too.
        self.snapshot_callers[1].push(caller);
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
        for caller in self.snapshot_callers[0].drain(..) {
            let _ = caller.send(match &self.snapshot {
                Some(meta) => Ok(meta.clone()),
                None => Err(crate::error::SnapshotError::NothingApplied),
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

/// The core counts the header of a payload as well; a caller knows only the command.
fn propose_error(error: raft_core::ProposeError) -> ProposeError {
    match error {
        raft_core::ProposeError::NotLeader { leader } => ProposeError::NotLeader { leader },
        raft_core::ProposeError::TooLarge { len, max } => ProposeError::TooLarge {
            len: len.saturating_sub(HEADER_BYTES),
            max: max.saturating_sub(HEADER_BYTES),
        },
        // What a later version of the core may refuse for is definitely not done either.
        raft_core::ProposeError::Busy | _ => ProposeError::Busy,
    }
}
