//! The loop of a node: take all inputs that are there, step them all, drain once, carry out.
//!
//! Nothing in it waits for anything but the next input: what takes time (the disk, the state machine, a
//! snapshot, old entries) runs elsewhere and comes back as an input.

mod carry_out;
mod compaction;
mod divergence;
mod inputs;
pub(crate) mod intake;
mod log_clock;
pub(crate) mod operations;
pub(crate) mod queries;
mod routes;
mod snapshot_receiving;
mod snapshot_sending;
pub(crate) mod waiters;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use raft_core::{
    Effects, EntryId, Fetch, Input, LogIndex, Node, NodeId, Role, SnapshotMeta, WriteId,
};

use self::compaction::Compaction;
use self::divergence::Comparison;
use self::intake::{Batch, Completion, Intake, Pending, Refusal, SnapshotCaller};
use self::log_clock::LogClock;
use self::operations::Operations;
use self::queries::Queries;
use self::routes::Routes;
use self::snapshot_receiving::{Chunks, Receiving};
use self::snapshot_sending::{Answers, Pace, Refusals};
use self::waiters::Waiters;
use crate::applier::{Applier, Shared, Work, WorkQueue};
use crate::error::{SnapshotError, StopReason};
use crate::options::Options;
use crate::sessions::Fill;
use crate::status::{Refused, Status};
use crate::storage::StorageError;
use crate::tasks::Tasks;
use crate::watch::{Watch, lock};
use crate::{Runtime, StateMachine, Storage, Transport};

/// Deadlines that come this soon after each other are looked at together.
const SWEEP_EACH: Duration = Duration::from_millis(20);

/// What the handle shares with the driver.
pub(crate) struct Parts<M: StateMachine> {
    pub(crate) intake: Arc<Intake<M>>,
    pub(crate) status: Arc<Watch<Status>>,
    pub(crate) stopped: Arc<Watch<Option<StopReason>>>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) runtime: Arc<dyn Runtime>,
}

/// The loop of one node.
pub(crate) struct Driver<M: StateMachine> {
    node: Node,
    options: Options,
    parts: Parts<M>,
    tasks: Tasks,
    /// The time of this round.
    now: Duration,

    batch: Batch<M>,
    /// The one write that is out ...
    writing: Option<Writing>,
    /// ... or has just ended.
    written: Option<(WriteId, Result<(), StorageError>)>,
    timer: Option<Timer>,
    effects: Effects,

    work: Arc<WorkQueue>,
    /// Those who wait for entries that are not committed yet ...
    waiters: Waiters<M>,
    /// ... and for entries that the applier has.
    handed_out: Arc<Mutex<Waiters<M>>>,
    queries: Arc<Mutex<Queries<M>>>,
    operations: Operations,
    routes: Routes,
    /// When the deadlines of those who wait are to be looked at.
    sweep_at: Option<Duration>,
    applied: LogIndex,
    /// What is queued for the applier makes the state contain everything up to here.
    queued_up_to: LogIndex,
    clock: LogClock,
    /// How full the table of sessions is, as of `applied`.
    fill: Fill,
    comparison: Comparison,

    /// How many times old entries are being read, and what is to be read when one of those has ended.
    fetching: usize,
    fetches_later: VecDeque<Fetch>,

    compaction: Compaction,
    snapshot: Option<SnapshotMeta>,
    snapshot_bytes: u64,
    /// Who waits for the snapshot that is being built, and who for the one after it.
    snapshot_callers: [Vec<(SnapshotCaller, Duration)>; 2],
    sending: BTreeMap<NodeId, Outgoing>,
    /// Who is to be sent one when one of those has ended.
    sending_later: VecDeque<NodeId>,
    /// For whom it is too long, and when it is offered to one of them who waits for it.
    refusals: Refusals,
    offer_at: Duration,
    pace: Arc<Pace>,
    chunks: Arc<Chunks>,
    refused: Refused,
    /// Everybody is answered and nothing runs any more.
    ended: bool,
}

struct Writing {
    id: WriteId,
    done: BoxFuture<'static, Result<(), StorageError>>,
}

struct Timer {
    at: Duration,
    due: BoxFuture<'static, ()>,
}

/// A snapshot on its way to a peer.
struct Outgoing {
    transfer: u64,
    answers: Arc<Answers>,
}

impl<M: StateMachine> Driver<M> {
    /// A driver for `node`, whose disk held `snapshot`. Its applier and its receiver of snapshots are started.
    pub(crate) fn new(
        node: Node,
        options: Options,
        machine: M,
        snapshot: Option<SnapshotMeta>,
        parts: Parts<M>,
    ) -> Driver<M> {
        let tasks = {
            let intake = Arc::clone(&parts.intake);
            Tasks::new(move || intake.complete(Completion::Stop(StopReason::Dropped)))
        };
        let work = Arc::new(WorkQueue::default());
        let handed_out = Arc::new(Mutex::new(Waiters::new()));
        let queries = Arc::new(Mutex::new(Queries::new()));
        let applier = Applier::new(
            machine,
            options.divergence_check_entries,
            Shared {
                work: Arc::clone(&work),
                waiters: Arc::clone(&handed_out),
                queries: Arc::clone(&queries),
                intake: Arc::clone(&parts.intake),
                storage: Arc::clone(&parts.storage),
                runtime: Arc::clone(&parts.runtime),
                tasks: tasks.clone(),
            },
        );
        tasks.spawn(&*parts.runtime, "applier", applier.run());
        let chunks = Arc::new(Chunks::default());
        let receiving = Receiving {
            id: node.id(),
            image_bytes_max: options.snapshot_bytes_max,
            chunks: Arc::clone(&chunks),
            intake: Arc::clone(&parts.intake),
            storage: Arc::clone(&parts.storage),
            transport: Arc::clone(&parts.transport),
            runtime: Arc::clone(&parts.runtime),
        };
        tasks.spawn(&*parts.runtime, "snapshot receiver", receiving.run());
        Driver {
            comparison: Comparison::new(node.id()),
            compaction: Compaction::new(options.snapshot_log_bytes),
            pace: Arc::new(Pace::new(options.snapshot_bytes_per_second_max)),
            node,
            options,
            parts,
            tasks,
            now: Duration::ZERO,
            batch: Batch::default(),
            writing: None,
            written: None,
            timer: None,
            effects: Effects::default(),
            work,
            waiters: Waiters::new(),
            handed_out,
            queries,
            operations: Operations::new(),
            routes: Routes::default(),
            sweep_at: None,
            applied: LogIndex::ZERO,
            queued_up_to: LogIndex::ZERO,
            clock: LogClock::default(),
            fill: Fill::default(),
            snapshot,
            snapshot_bytes: 0,
            fetching: 0,
            fetches_later: VecDeque::new(),
            snapshot_callers: [Vec::new(), Vec::new()],
            sending: BTreeMap::new(),
            sending_later: VecDeque::new(),
            refusals: Refusals::default(),
            offer_at: Duration::MAX,
            chunks,
            refused: Refused::default(),
            ended: false,
        }
    }

    /// Drives the node until it stops.
    pub(crate) async fn run(mut self) {
        let reason = loop {
            if let Err(reason) = self.round() {
                break reason;
            }
            self.wait().await;
        };
        if reason == StopReason::Shutdown {
            tracing::info!(node = %self.node.id(), "shut down");
        } else {
            tracing::error!(node = %self.node.id(), %reason, "stopped");
        }
        self.abandon();
        self.end().await;
        self.ended = true;
        // Who hears of the end may open the storage again: nothing holds it any more.
        let stopped = Arc::clone(&self.parts.stopped);
        drop(self);
        publish_reason(&stopped, reason);
    }

    /// One round.
    fn round(&mut self) -> Result<(), StopReason> {
        // The clock is read after the inputs were taken: a process that was paused knows it before it
        // answers anything.
        self.now = self.parts.runtime.now();
        self.node.step(Input::Tick(self.now));
        self.step_written()?;
        self.step_completions()?;
        self.step_packets()?;
        self.take_requests();
        self.mark_time_if_due();
        let mut effects = mem::take(&mut self.effects);
        self.node.drain(&mut effects);
        self.carry_out(&mut effects);
        self.effects = effects;
        self.sweep();
        self.settle_operations()?;
        self.take_snapshot_if_due();
        self.follow_addresses();
        self.publish();
        Ok(())
    }

    /// Waits for an input, or for the time at which there is something to do without one.
    async fn wait(&mut self) {
        self.set_timer();
        poll_fn(|cx| self.poll_inputs(cx)).await;
    }

    fn poll_inputs(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = false;
        if let Some(writing) = &mut self.writing
            && let Poll::Ready(result) = writing.done.poll_unpin(cx)
        {
            self.written = Some((writing.id, result));
            self.writing = None;
            ready = true;
        }
        if let Some(timer) = &mut self.timer
            && timer.due.poll_unpin(cx).is_ready()
        {
            self.timer = None;
            ready = true;
        }
        let waiting = self.waiters.len() + lock(&self.handed_out).len();
        let snapshots: usize = self.snapshot_callers.iter().map(Vec::len).sum();
        let queries = lock(&self.queries).load();
        let pending = Pending { queries, others: waiting + snapshots };
        if self.parts.intake.poll_take(cx, &mut self.batch, pending).is_ready() {
            ready = true;
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Keeps a timer that is due no later than the next thing to do. One that is due earlier stays: a
    /// follower's deadline moves with each heartbeat, and a new timer for each would cost more than a
    /// round for nothing now and then.
    fn set_timer(&mut self) {
        let mut at = self.node.next_tick().min(self.operations.next_deadline());
        at = at.min(self.routes.next_deadline()).min(self.offer_at);
        if self.node.role() == Role::Leader
            && let Some(mark_at) = self.clock.mark_at(self.node.term())
        {
            at = at.min(mark_at);
        }
        if let Some(sweep_at) = self.sweep_at {
            at = at.min(sweep_at);
        }
        if at == Duration::MAX || self.timer.as_ref().is_some_and(|timer| timer.at <= at) {
            return;
        }
        let runtime = &self.parts.runtime;
        let due = runtime.sleep(at.saturating_sub(runtime.now()));
        self.timer = Some(Timer { at, due });
    }

    /// Ends the waits whose deadline has come.
    fn sweep(&mut self) {
        if self.sweep_at.is_none_or(|at| at > self.now) {
            return;
        }
        let waiting = self.waiters.sweep(self.now);
        let handed_out = lock(&self.handed_out).sweep(self.now);
        let (have_waited, queries) = {
            let mut queries = lock(&self.queries);
            (queries.end_waits(self.now), queries.sweep(self.now))
        };
        if have_waited {
            self.work.push(Work::AnswerLate);
        }
        let snapshots = self.sweep_snapshot_callers();
        let earliest = [waiting, handed_out, queries, snapshots].into_iter().flatten().min();
        self.sweep_at = earliest.map(|at| at.max(self.now + SWEEP_EACH));
    }

    /// Lets everybody know how the node stands.
    fn publish(&mut self) {
        let log_bytes = self.parts.storage.log_bytes();
        let node = &self.node;
        self.parts.status.change(|status| {
            let before = (status.role, status.term, status.leader);
            let diverged = self.comparison.found();
            let is_news = status.diverged != diverged;
            status.diverged = diverged;
            status.role = node.role();
            status.term = node.term();
            status.leader = node.leader();
            status.commit = node.commit();
            status.applied = self.applied;
            status.last = node.last();
            status.durable = node.durable();
            status.log_bytes = log_bytes;
            status.tail_bytes = node.tail_bytes() as u64;
            status.snapshot = self.snapshot.as_ref().map(|meta| meta.last);
            status.snapshot_bytes = self.snapshot_bytes;
            status.remembered.update(&self.fill);
            status.refused = self.refused;
            status.transferring = node.transferring();
            status.refused.chunks_damaged = self.chunks.damaged();
            status.refused.snapshots_too_long = self.chunks.too_long();
            status.counters = *node.counters();
            if status.configuration != *node.configuration() {
                status.configuration = node.configuration().clone();
            }
            let changed = before != (status.role, status.term, status.leader);
            if changed {
                tracing::info!(
                    node = %status.id, term = %status.term, role = ?status.role,
                    leader = ?status.leader.map(|leader| leader.0), "changed"
                );
            }
            changed || is_news
        });
    }

    /// Answers everybody who waits, and lets nobody in any more. That is when the node has ceased to lead or to follow,
    /// however long what is under way takes to end.
    fn abandon(&mut self) {
        self.parts.status.change(|status| {
            status.running = false;
            status.role = Role::Follower;
            status.leader = None;
            status.transferring = None;
            true
        });
        self.parts.status.close();
        let left = self.parts.intake.close();
        for request in self.batch.requests.drain(..).chain(left.requests) {
            request.refuse(Refusal::Stopped);
        }
        self.waiters.stop();
        lock(&self.handed_out).stop();
        lock(&self.queries).stop();
        self.operations.stop();
        for (caller, _) in self.snapshot_callers.iter_mut().flat_map(|callers| callers.drain(..)) {
            caller.answer(Err(SnapshotError::Stopped));
        }
        self.work.close();
        self.chunks.close();
        for outgoing in self.sending.values() {
            outgoing.answers.cancel();
        }
    }

    /// Waits for what is under way, but not for ever.
    async fn end(&mut self) {
        let transport = Arc::clone(&self.parts.transport);
        let tasks = self.tasks.clone();
        let writing = self.writing.take();
        let mut ended = Box::pin(async move {
            transport.shutdown().await;
            if let Some(writing) = writing {
                // Nobody waits for what it would make durable.
                let _ = writing.done.await;
            }
            tasks.ended().await;
        });
        let mut timeout = self.parts.runtime.sleep(self.options.shutdown_timeout);
        poll_fn(|cx| {
            if ended.poll_unpin(cx).is_ready() { Poll::Ready(()) } else { timeout.poll_unpin(cx) }
        })
        .await;
    }

    fn meta_ends(meta: Option<&SnapshotMeta>) -> EntryId {
        meta.map_or(EntryId::ZERO, |meta| meta.last)
    }
}

impl<M: StateMachine> Drop for Driver<M> {
    /// A runtime that shuts down drops its tasks: nobody is left waiting.
    fn drop(&mut self) {
        if !self.ended {
            self.abandon();
            publish_reason(&self.parts.stopped, StopReason::Dropped);
        }
    }
}

fn publish_reason(stopped: &Watch<Option<StopReason>>, reason: StopReason) {
    stopped.change(|stopped| {
        *stopped = Some(reason);
        true
    });
}
