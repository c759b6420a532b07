//! Effects on their way out of the core. All of them start at once; a restore comes before applies.

use std::sync::Arc;
use std::time::Duration;

use raft_core::{
    Applies, Effects, Fetch, Fetched, Input, NodeId, Read, ReadRefused, Role, SendSnapshot,
    SnapshotMeta, SnapshotOutcome, Write,
};

use super::intake::Completion;
use super::queries::Asked;
use super::snapshot_sending::{Answers, Offer, Sending, Sent};
use super::{Driver, Outgoing, Writing};
use crate::StateMachine;
use crate::applier::Work;
use crate::error::QueryError;
use crate::transport::Packet;
use crate::watch::lock;

impl<M: StateMachine> Driver<M> {
    pub(super) fn carry_out(&mut self, effects: &mut Effects) {
        let Effects { write, messages, restore, applies, fetches, snapshots, reads, change } =
            effects;
        for envelope in messages.drain(..) {
            self.parts.transport.send(Packet::Raft(envelope));
        }
        let new = write.as_ref().map(|write| write.id);
        if let Some(write) = write.take() {
            self.write(write);
        }
        let log_bytes = self.parts.storage.log_bytes();
        self.compaction.drained(new, self.writing.is_some(), log_bytes);
        if let Some(meta) = restore.take() {
            self.restore(meta);
        }
        if let Some(applies) = applies.take() {
            self.apply(applies);
        }
        for read in reads.drain(..) {
            self.answer_read(read);
        }
        self.hand_over_queries();
        if let Some(outcome) = change.take() {
            self.membership_changed(outcome);
        }
        self.fetches_later.extend(fetches.drain(..));
        self.fetch_what_waits();
        if self.node.role() != Role::Leader {
            // The core forgets them with its lead.
            self.sending.retain(|_, outgoing| {
                outgoing.answers.cancel();
                false
            });
            self.sending_later.clear();
            self.refusals.clear();
        }
        for snapshot in snapshots.drain(..) {
            self.send_snapshot(snapshot);
        }
        self.send_waiting_snapshots();
    }

    /// The future is polled by the loop itself, so that its end wakes no other task.
    fn write(&mut self, write: Write) {
        let id = write.id;
        let storage = Arc::clone(&self.parts.storage);
        let done = Box::pin(async move { storage.write(write).await });
        self.writing = Some(Writing { id, done });
    }

    fn restore(&mut self, meta: SnapshotMeta) {
        self.waiters.passed_by_snapshot(meta.last);
        // Some of what they wait for will not be applied one by one.
        lock(&self.handed_out).passed_by_snapshot(meta.last);
        self.queued_up_to = meta.last.index;
        self.work.push_restore(meta);
    }

    fn apply(&mut self, applies: Applies) {
        self.waiters.hand_over(&applies.entries, &mut lock(&self.handed_out));
        if let Some(last) = applies.entries.last() {
            self.queued_up_to = last.id.index;
        }
        self.work.push(Work::Apply(applies));
    }

    fn answer_read(&self, read: Read) {
        let mut queries = lock(&self.queries);
        match read.index {
            Ok(index) => queries.confirmed(read.id, index),
            Err(ReadRefused::TimedOut) => queries.refused(read.id, &QueryError::TimedOut),
            Err(ReadRefused::Busy) => queries.refused(read.id, &QueryError::Busy),
            Err(ReadRefused::LostLeader | _) => {
                queries.refused(read.id, &QueryError::Superseded);
            }
        }
    }

    /// Those that the state will contain enough for, once the applier has carried out what it was given. What the core has
    /// handed out is not the measure: a received snapshot counts there before the applier can be told to restore it.
    fn hand_over_queries(&self) {
        let ready = lock(&self.queries).ready(self.queued_up_to);
        self.answer(ready);
    }

    /// Has the machine answer these once all that is queued by now is done.
    pub(super) fn answer(&self, asked: Vec<Asked<M>>) {
        if !asked.is_empty() {
            self.work.push_answer(|group| lock(&self.queries).hand_to_machine(asked, group));
        }
    }

    /// Begins to read old entries, as many times at once as is allowed. Leaderships that come and go while a disk hangs do
    /// not pile up: what the core no longer waits for is not read.
    pub(super) fn fetch_what_waits(&mut self) {
        while self.fetching < self.options.reads_at_once_max
            && let Some(fetch) = self.fetches_later.pop_front()
        {
            if self.node.awaits_fetch(fetch.id) {
                self.fetching += 1;
                self.fetch(fetch);
            }
        }
        let node = &self.node;
        self.fetches_later.retain(|fetch| node.awaits_fetch(fetch.id));
    }

    fn fetch(&self, fetch: Fetch) {
        let storage = Arc::clone(&self.parts.storage);
        let intake = Arc::clone(&self.parts.intake);
        let task = async move {
            let Fetch { id, first, last, bytes_max } = fetch;
            let result = match storage.read(first, last, bytes_max).await {
                Ok(Some(entries)) => Ok(Fetched::Entries(entries)),
                Ok(None) => Ok(Fetched::Compacted),
                Err(error) => Err(error),
            };
            intake.complete(Completion::Fetched { id, result });
        };
        self.tasks.spawn(&*self.parts.runtime, "fetch", task);
    }

    /// Begins to send a snapshot, or has it wait until another one has arrived.
    fn send_snapshot(&mut self, snapshot: SendSnapshot) {
        let SendSnapshot { to } = snapshot;
        self.sending_later.retain(|waiting| *waiting != to);
        if let Some(before) = self.sending.remove(&to) {
            before.answers.cancel();
        }
        // Each peer once, so the queue is no longer than the cluster.
        self.sending_later.push_back(to);
    }

    /// Begins with those whose turn it is, as many at once as is allowed. Who has refused this one waits longer.
    pub(super) fn send_waiting_snapshots(&mut self) {
        self.offer_at = Duration::MAX;
        let offer = Offer {
            last: Self::meta_ends(self.snapshot.as_ref()),
            image_bytes: Some(self.snapshot_bytes).filter(|bytes| *bytes > 0),
        };
        for _ in 0..self.sending_later.len() {
            if self.sending.len() >= self.options.snapshots_sending_max {
                break;
            }
            let Some(to) = self.sending_later.pop_front() else { break };
            if !self.node.configuration().contains(to) {
                // It has left, and may come back: the core waits for a word.
                let outcome = SnapshotOutcome::Failed;
                self.refusals.forget(to);
                self.node.step(Input::SnapshotSent { to, outcome });
            } else if let Some(until) = self.refusals.holds_back(to, offer, self.now) {
                self.offer_at = self.offer_at.min(until);
                self.sending_later.push_back(to);
            } else {
                self.begin_to_send_snapshot(to);
            }
        }
    }

    /// A snapshot that is too long for its receiver would be asked for again with the next heartbeat.
    pub(super) fn note_refusal(&mut self, to: NodeId, sent: Sent) {
        match sent {
            Sent::TooLong { last, image_bytes, image_bytes_max } => {
                let pause = self.refusals.refused(to, last, image_bytes_max, self.now);
                self.refused.snapshots_by_peers += 1;
                let node = self.node.id();
                tracing::warn!(
                    %node, %to, %last, image_bytes, image_bytes_max, ?pause,
                    "a snapshot is too long for a peer, which cannot follow without it"
                );
            }
            Sent::Delivered(_) => self.refusals.forget(to),
            Sent::Failed => {}
        }
    }

    fn begin_to_send_snapshot(&mut self, to: NodeId) {
        let transfer = self.parts.runtime.random();
        let answers = Arc::new(Answers::default());
        let sending = Sending {
            from: self.node.id(),
            to,
            transfer,
            chunk_bytes: self.options.snapshot_chunk_bytes,
            answers: Arc::clone(&answers),
            pace: Arc::clone(&self.pace),
            storage: Arc::clone(&self.parts.storage),
            transport: Arc::clone(&self.parts.transport),
            runtime: Arc::clone(&self.parts.runtime),
        };
        self.sending.insert(to, Outgoing { transfer, answers });
        let intake = Arc::clone(&self.parts.intake);
        let task = async move {
            let result = sending.run().await;
            intake.complete(Completion::SnapshotSent { to, transfer, result });
        };
        self.tasks.spawn(&*self.parts.runtime, "snapshot sender", task);
    }
}
