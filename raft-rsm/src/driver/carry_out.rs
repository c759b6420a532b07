//! Effects on their way out of the core. All of them start at once; a restore comes before applies.

use std::sync::Arc;

use raft_core::{
    Applies, Effects, Fetch, Fetched, NodeId, Read, ReadRefused, Role, SendSnapshot, SnapshotMeta,
    Write,
};

use super::intake::Completion;
use super::snapshot_sending::{Answers, Sending};
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
        for fetch in fetches.drain(..) {
            self.fetch(fetch);
        }
        if self.node.role() != Role::Leader {
            // The core forgets them with its lead.
            self.sending.retain(|_, outgoing| {
                outgoing.answers.cancel();
                false
            });
            self.sending_later.clear();
        }
        for snapshot in snapshots.drain(..) {
            self.send_snapshot(snapshot);
        }
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
        self.work.push(Work::Restore(meta));
    }

    fn apply(&mut self, applies: Applies) {
        self.waiters.hand_over(&applies.entries, &mut lock(&self.handed_out));
        self.work.push(Work::Apply(applies));
    }

    fn answer_read(&self, read: Read) {
        let mut queries = lock(&self.queries);
        match read.index {
            Ok(index) => queries.confirmed(read.id, index),
            Err(ReadRefused::TimedOut) => queries.refused(read.id, &QueryError::TimedOut),
            Err(ReadRefused::LostLeader | _) => {
                queries.refused(read.id, &QueryError::Superseded);
            }
        }
    }

    /// Those that the state will contain enough for, once the applier has carried out what it was given.
    fn hand_over_queries(&self) {
        if let Some(group) = lock(&self.queries).hand_over(self.node.machine()) {
            self.work.push(Work::Answer(group));
        }
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
        self.send_waiting_snapshots();
    }

    pub(super) fn send_waiting_snapshots(&mut self) {
        while self.sending.len() < self.options.snapshots_sending_max
            && let Some(to) = self.sending_later.pop_front()
        {
            if self.node.configuration().contains(to) {
                self.begin_to_send_snapshot(to);
            }
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
