//! Owns the state machine and runs it beside the driver: a slow command delays no heartbeat.

mod apply;
mod checksum;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io::{self, BufReader, BufWriter, Write};
use std::mem;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use raft_core::{Applies, Configuration, EntryId, LogIndex, SnapshotMeta};

use self::checksum::RunningChecksum;
use crate::driver::intake::{Completion, Intake};
use crate::driver::queries::{Begun, Queries, Waiting};
use crate::driver::waiters::{Proposer, Unmet, Waiters};
use crate::error::{StopReason, Uncertain};
use crate::image::{Counting, ImageHeader};
use crate::runtime::blocking;
use crate::sessions::{FrozenSessions, Sessions};
use crate::storage::StorageError;
use crate::tasks::Tasks;
use crate::watch::lock;
use crate::{Runtime, SnapshotView, StateMachine, Storage};

pub(crate) use self::checksum::{ANEW_EACH_ENTRIES, Mark};

/// The size of the buffer through which an image is written and read.
const IMAGE_BUFFER_BYTES: usize = 64 * 1024;

/// What the driver wants of the machine, in order.
#[derive(Debug)]
pub(crate) enum Work {
    /// Replace the state by that of the newest stored snapshot, which ends here or later.
    Restore(SnapshotMeta),
    /// Apply these.
    Apply(Applies),
    /// Answer this group of queries.
    Answer(u64),
    /// Answer the queries that have waited long enough for something to be said.
    AnswerLate,
    /// Take a snapshot.
    Snapshot,
}

/// Work on its way from the driver to the applier. It is bounded by the core, which hands out only so
/// many entries before the first of them are applied, or a snapshot that it has received replaces them all: then what was
/// not begun leaves the queue. Between two batches there is one group of queries, and once in the queue those that
/// have waited long enough.
#[derive(Debug, Default)]
pub(crate) struct WorkQueue {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    work: VecDeque<Work>,
    closed: bool,
    waker: Option<Waker>,
}

impl Inner {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl WorkQueue {
    pub(crate) fn push(&self, work: Work) {
        let mut inner = lock(&self.inner);
        if !inner.closed {
            inner.work.push_back(work);
            inner.wake();
        }
    }

    /// The state is to become that of a received snapshot, which contains all that is queued to be applied. Without that,
    /// snapshots that arrive faster than a slow machine takes them in would pile up, and entries between them.
    pub(crate) fn push_restore(&self, meta: SnapshotMeta) {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return;
        }
        inner.work.retain(|work| match work {
            Work::Restore(_) | Work::Apply(_) => false,
            Work::Answer(_) | Work::AnswerLate | Work::Snapshot => true,
        });
        // Before the queries that stay: they were to see what is replaced, at least.
        inner.work.push_front(Work::Restore(meta));
        inner.wake();
    }

    /// Queries are to be answered once all that is queued is done. Where the last of it is a group of queries that was not
    /// begun, `place` puts them into that group: however long the machine takes, there is one group between two batches.
    pub(crate) fn push_answer(&self, place: impl FnOnce(Option<u64>) -> u64) {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return;
        }
        match inner.work.back() {
            Some(Work::Answer(group)) => {
                let group = *group;
                place(Some(group));
            }
            Some(Work::Restore(_) | Work::Apply(_) | Work::AnswerLate | Work::Snapshot) | None => {
                let group = place(None);
                inner.work.push_back(Work::Answer(group));
            }
        }
        inner.wake();
    }

    /// Drops what was not begun.
    pub(crate) fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        inner.work.clear();
        inner.wake();
    }

    fn is_closed(&self) -> bool {
        lock(&self.inner).closed
    }

    /// All that is there; `None` when the queue is closed.
    async fn take(&self) -> Option<VecDeque<Work>> {
        poll_fn(|cx| {
            let mut inner = lock(&self.inner);
            if inner.closed {
                return Poll::Ready(None);
            }
            if inner.work.is_empty() {
                inner.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Some(mem::take(&mut inner.work)))
        })
        .await
    }
}

/// The state machine with what belongs to its state.
pub(crate) struct Applier<M: StateMachine> {
    machine: M,
    /// The last entry that is in the state.
    applied: EntryId,
    /// The log's time there.
    time: Duration,
    /// Of all that the machine was told and has answered up to there.
    checksum: RunningChecksum,
    sessions: Sessions,
    /// The configuration in force there.
    configuration: Configuration,
    /// The queries for which there is nothing to say yet. Who asks, and for how long, is in the shared [`Queries`]; each
    /// leaves this list once that wait is over, at the latest.
    waiting: BTreeMap<Waiting, M::Query>,
    /// They have waited for what was applied up to here, in vain.
    waited_for: LogIndex,
    /// The last entry that the core has handed out. A restore may find a newer snapshot than the one that it
    /// was asked for, and then the state is ahead of it for a while.
    handed_out: LogIndex,
    /// Where the newest snapshot ends that was taken here or restored.
    snapshot: LogIndex,
    shared: Shared<M>,
}

/// What the applier shares with the driver.
pub(crate) struct Shared<M: StateMachine> {
    pub(crate) work: Arc<WorkQueue>,
    /// Those who wait for entries that are handed out.
    pub(crate) waiters: Arc<Mutex<Waiters<M>>>,
    pub(crate) queries: Arc<Mutex<Queries<M>>>,
    pub(crate) intake: Arc<Intake<M>>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) tasks: Tasks,
}

impl<M: StateMachine> Applier<M> {
    /// For `divergence_check_entries`, see [`crate::Options`].
    pub(crate) fn new(machine: M, divergence_check_entries: u64, shared: Shared<M>) -> Applier<M> {
        Applier {
            machine,
            applied: EntryId::ZERO,
            time: Duration::ZERO,
            checksum: RunningChecksum::new(divergence_check_entries),
            sessions: Sessions::default(),
            configuration: Configuration::default(),
            waiting: BTreeMap::new(),
            waited_for: LogIndex::ZERO,
            handed_out: LogIndex::ZERO,
            snapshot: LogIndex::ZERO,
            shared,
        }
    }

    /// Works until the queue is closed.
    pub(crate) async fn run(mut self) {
        let queue = Arc::clone(&self.shared.work);
        let runtime = Arc::clone(&self.shared.runtime);
        let intake = Arc::clone(&self.shared.intake);
        while let Some(work) = queue.take().await {
            let done = blocking(&*runtime, "apply", move || {
                let result = self.carry_out(work);
                (self, result)
            })
            .await;
            let reason = match done {
                Ok((applier, Ok(()))) => {
                    self = applier;
                    continue;
                }
                Ok((_, Err(reason))) => reason,
                Err(lost) => StopReason::Machine { problem: lost.to_string() },
            };
            intake.complete(Completion::Stop(reason));
            return;
        }
    }

    fn carry_out(&mut self, work: VecDeque<Work>) -> Result<(), StopReason> {
        for work in work {
            if self.shared.work.is_closed() {
                return Ok(());
            }
            match work {
                Work::Restore(meta) => self.restore(meta)?,
                Work::Apply(applies) => self.apply(applies)?,
                Work::Answer(group) => self.answer(group),
                Work::AnswerLate => self.answer_late(),
                Work::Snapshot => self.snapshot(),
            }
        }
        Ok(())
    }

    fn apply(&mut self, applies: Applies) -> Result<(), StopReason> {
        let Applies { entries, configuration } = applies;
        for entry in &entries {
            if entry.id.index <= self.applied.index {
                self.passed_by_snapshot(entry.id.index);
            } else if entry.id.index == self.applied.index.next() {
                self.apply_one(entry)?;
                self.applied = entry.id;
                if let Some(mark) = self.checksum.passed(entry.id.index) {
                    self.shared.intake.complete(Completion::Marked(mark));
                }
            } else {
                let problem = format!("entry {} follows {}", entry.id, self.applied);
                return Err(StopReason::Internal { problem });
            }
        }
        if let Some(last) = entries.last() {
            self.handed_out = last.id.index;
            if self.applied == last.id {
                self.configuration = configuration;
            }
            self.shared.intake.complete(Completion::Applied {
                last: last.id,
                time: self.time,
                due: self.machine.due(),
                fill: self.sessions.fill(),
            });
            self.answer_waiting();
        }
        Ok(())
    }

    /// Answers queries for which the state contains enough by now. Those for which there is nothing to say yet may wait.
    fn answer(&mut self, group: u64) {
        let queries = &self.shared.queries;
        let mut next = lock(queries).begin(group);
        while let Some(Begun { query, may_wait }) = next {
            if may_wait && !self.machine.is_ready(&query, LogIndex::ZERO) {
                let mut queries = lock(queries);
                if let Some(number) = queries.wait() {
                    self.waiting.insert(number, query);
                    next = queries.begin(group);
                    continue;
                }
            }
            let answer = self.machine.query(query);
            let respond;
            (respond, next) = {
                let mut queries = lock(queries);
                (queries.finish(), queries.begin(group))
            };
            if let Some(respond) = respond {
                respond.answer(Ok(answer));
            }
        }
        self.shared.intake.queries_answered();
    }

    /// The state has changed: there may be something to say to those who wait for that.
    fn answer_waiting(&mut self) {
        let since = mem::replace(&mut self.waited_for, self.applied.index);
        // The driver need not wait while the machine is asked, and finds everybody who waits.
        let ready = self.waiting.iter().filter(|(_, query)| self.machine.is_ready(query, since));
        let ready: Vec<Waiting> = ready.map(|(number, _)| *number).collect();
        self.answer_kept(ready);
    }

    fn answer_late(&mut self) {
        let late = lock(&self.shared.queries).take_late();
        self.answer_kept(late);
    }

    /// Answers queries that have waited.
    fn answer_kept(&mut self, numbers: Vec<Waiting>) {
        if numbers.is_empty() {
            return;
        }
        let queries = &self.shared.queries;
        for number in numbers {
            // One that was ready when it had just waited long enough is answered already.
            let Some(query) = self.waiting.remove(&number) else { continue };
            if !lock(queries).resume(number) {
                continue;
            }
            let answer = self.machine.query(query);
            let respond = lock(queries).finish();
            if let Some(respond) = respond {
                respond.answer(Ok(answer));
            }
        }
        self.shared.intake.queries_answered();
    }

    fn waiter(&self, index: LogIndex) -> Option<Proposer<M>> {
        lock(&self.shared.waiters).take_up_to(index)
    }

    fn passed_by_snapshot(&self, index: LogIndex) {
        while let Some(respond) = self.waiter(index) {
            respond.fail(Unmet::Maybe(Uncertain::SnapshotPassed).into());
        }
    }

    fn restore(&mut self, wanted: SnapshotMeta) -> Result<(), StopReason> {
        self.handed_out = wanted.last.index;
        let mut image_bytes = 0;
        if self.applied.index < wanted.last.index {
            let Some(reader) = self.shared.storage.open_snapshot()? else {
                let problem = format!("the snapshot up to {} is gone", wanted.last);
                return Err(StopReason::Storage { problem });
            };
            let meta = reader.meta().clone();
            if meta.last.index < wanted.last.index {
                let problem =
                    format!("the newest snapshot ends at {}, not at {}", meta.last, wanted.last);
                return Err(StopReason::Storage { problem });
            }
            image_bytes = reader.len_bytes();
            let mut image = BufReader::with_capacity(IMAGE_BUFFER_BYTES, reader);
            let unreadable = |error: io::Error| StopReason::Unreadable {
                problem: format!("the snapshot up to {} cannot be restored: {error}", meta.last),
            };
            let header = ImageHeader::read_from(&mut image).map_err(unreadable)?;
            let sessions = Sessions::read_from(&mut image).map_err(unreadable)?;
            self.machine.restore(&mut image).map_err(unreadable)?;
            self.sessions = sessions;
            self.time = header.time;
            self.checksum.restored(header.checksum);
            self.applied = meta.last;
            self.snapshot = meta.last.index;
            self.configuration = meta.configuration;
        }
        let (time, due, fill) = (self.time, self.machine.due(), self.sessions.fill());
        let restored = Completion::Restored { meta: wanted, image_bytes, time, due, fill };
        self.shared.intake.complete(restored);
        self.answer_waiting();
        Ok(())
    }

    /// Takes a frozen view and has it written out elsewhere.
    fn snapshot(&mut self) {
        // A snapshot must not be ahead of what the core has handed out: its log would not reach so far.
        let nothing_new = self.applied.index <= self.snapshot;
        if nothing_new || self.applied.index > self.handed_out {
            self.shared.intake.complete(Completion::SnapshotSkipped);
            return;
        }
        let meta = SnapshotMeta { last: self.applied, configuration: self.configuration.clone() };
        self.snapshot = self.applied.index;
        let header = ImageHeader { time: self.time, checksum: self.checksum.value() };
        let sessions = self.sessions.freeze();
        let view = self.machine.snapshot();
        let storage = Arc::clone(&self.shared.storage);
        let intake = Arc::clone(&self.shared.intake);
        let runtime = Arc::clone(&self.shared.runtime);
        let task = async move {
            let written = {
                let meta = meta.clone();
                let work = move || write_snapshot(&*storage, meta, header, sessions, &*view);
                blocking(&*runtime, "snapshot", work).await
            };
            intake.complete(match written {
                Ok(Ok(image_bytes)) => Completion::SnapshotTaken { meta, image_bytes },
                Ok(Err(reason)) => Completion::Stop(reason),
                Err(lost) => Completion::Stop(StopReason::Machine { problem: lost.to_string() }),
            });
        };
        self.shared.tasks.spawn(&*self.shared.runtime, "snapshot", task);
    }
}

/// Returns the size of the image in bytes, once it is durable.
fn write_snapshot(
    storage: &dyn Storage,
    meta: SnapshotMeta,
    header: ImageHeader,
    sessions: FrozenSessions,
    view: &dyn SnapshotView,
) -> Result<u64, StopReason> {
    let last = meta.last;
    let failed = |error: &dyn std::fmt::Display| StopReason::Storage {
        problem: format!("cannot write the snapshot up to {last}: {error}"),
    };
    let writer = storage.create_snapshot(meta).map_err(|error| failed(&error))?;
    let counting = Counting { inner: writer, bytes: 0 };
    let mut image = BufWriter::with_capacity(IMAGE_BUFFER_BYTES, counting);
    header.write_to(&mut image).map_err(|error| failed(&error))?;
    sessions.write_to(&mut image).map_err(|error| failed(&error))?;
    // What changes in the table from now on need not be copied any more.
    drop(sessions);
    view.write_to(&mut image).map_err(|error| failed(&error))?;
    image.flush().map_err(|error| failed(&error))?;
    let counting = image.into_inner().map_err(|error| failed(&error))?;
    counting.inner.finish().map_err(|error: StorageError| failed(&error))?;
    Ok(counting.bytes)
}

#[cfg(test)]
mod tests;
