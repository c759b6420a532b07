//! Everything that comes to a driver, in one place: it takes all that is there at once.

use std::mem;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use raft_core::{EntryId, Envelope, FetchId, Fetched, Message, NodeId, SnapshotMeta};

use super::operations::{ChangeCaller, TransferCaller};
use super::snapshot_sending::Sent;
use super::waiters::Proposer;
use crate::StateMachine;
use crate::applier::Mark;
use crate::consistency::Consistency;
use crate::error::{
    MembershipError, ProposeError, QueryError, SnapshotError, StopReason, TransferError,
};
use crate::membership::MembershipChange;
use crate::options::Options;
use crate::payload::Draft;
use crate::server::Responder;
use crate::sessions::Fill;
use crate::status::Refused;
use crate::storage::StorageError;
use crate::transport::{Inbox, Packet};
use crate::watch::lock;

/// What a caller or a client wants. Bounded: beyond the limits, `Busy` is the answer.
pub(crate) enum Request<M: StateMachine> {
    Propose {
        draft: Draft,
        respond: Proposer<M>,
    },
    Query {
        query: M::Query,
        consistency: Consistency,
        /// How long it may wait for the machine to have something to say.
        wait: Duration,
        /// What it counts for, in bytes.
        len_bytes: usize,
        respond: Responder<M::Answer, QueryError>,
    },
    Change {
        change: MembershipChange,
        respond: ChangeCaller,
    },
    Transfer {
        to: Option<NodeId>,
        respond: TransferCaller,
    },
    Snapshot(SnapshotCaller),
}

pub(crate) type SnapshotCaller = Responder<EntryId, SnapshotError>;

/// What a task of this node has finished. Bounded by the work that the driver gives out.
#[derive(Debug)]
pub(crate) enum Completion {
    /// The machine has applied everything up to `last`.
    Applied { last: EntryId, time: Duration, due: Option<Duration>, fill: Fill },
    /// The machine's running checksum at an index at which it is compared.
    Marked(Mark),
    /// The machine's state is the one of this snapshot.
    Restored {
        meta: SnapshotMeta,
        image_bytes: u64,
        time: Duration,
        due: Option<Duration>,
        fill: Fill,
    },
    /// A snapshot of the machine is durable.
    SnapshotTaken { meta: SnapshotMeta, image_bytes: u64 },
    /// There was nothing to take a snapshot of.
    SnapshotSkipped,
    /// A snapshot from a leader is durable.
    SnapshotReceived { meta: SnapshotMeta, image_bytes: u64 },
    /// A transfer to a peer has ended.
    SnapshotSent { to: NodeId, transfer: u64, result: Result<Sent, StopReason> },
    /// Storage was asked for old entries.
    Fetched { id: FetchId, result: Result<Fetched, StorageError> },
    /// The node cannot go on, or shall not.
    Stop(StopReason),
}

/// All that was there when the driver looked.
pub(crate) struct Batch<M: StateMachine> {
    pub(crate) completions: Vec<Completion>,
    pub(crate) disconnected: Vec<NodeId>,
    pub(crate) packets: Vec<Packet>,
    pub(crate) requests: Vec<Request<M>>,
    pub(crate) refused: Refused,
}

/// The queues of a driver.
pub(crate) struct Intake<M: StateMachine> {
    inner: Mutex<Inner<M>>,
    limits: Limits,
}

struct Inner<M: StateMachine> {
    batch: Batch<M>,
    packet_bytes: usize,
    /// Queries in the batch ...
    queries: Load,
    /// ... and all other requests in it.
    others: Load,
    /// What the driver has taken up and not answered yet, as of its last visit.
    pending: Pending,
    closed: bool,
    waker: Option<Waker>,
}

struct Limits {
    packets_max: usize,
    packet_bytes_max: usize,
    queries: Load,
    others: Load,
}

/// How many, and of how many bytes together.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

/// What the driver has taken up and not answered yet. Of what is proposed the core counts the bytes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) queries: Load,
    pub(crate) others: usize,
}

impl Load {
    /// Whether one of `bytes` more is beyond `max`. One that is longer than the limit is taken by itself: it is for the
    /// core to say that it is too long, which is another answer than "later".
    fn is_full(self, bytes: usize, max: Load) -> bool {
        self.count >= max.count || (self.bytes > 0 && self.bytes.saturating_add(bytes) > max.bytes)
    }

    fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl std::ops::Add for Load {
    type Output = Load;

    fn add(self, other: Load) -> Load {
        let (count, bytes) = (self.count + other.count, self.bytes.saturating_add(other.bytes));
        Load { count, bytes }
    }
}

impl<M: StateMachine> Default for Batch<M> {
    fn default() -> Batch<M> {
        Batch {
            completions: Vec::new(),
            disconnected: Vec::new(),
            packets: Vec::new(),
            requests: Vec::new(),
            refused: Refused::default(),
        }
    }
}

impl<M: StateMachine> Batch<M> {
    fn is_empty(&self) -> bool {
        let Batch { completions, disconnected, packets, requests, refused: _ } = self;
        completions.is_empty()
            && disconnected.is_empty()
            && packets.is_empty()
            && requests.is_empty()
    }
}

/// The room that an empty list keeps when it gives back what a burst has left of it. That is when there is four times as
/// much, so that not every other round allocates.
pub(super) const KEPT_ITEMS: usize = 1024;

impl<M: StateMachine> Batch<M> {
    /// Gives back what a burst has left of an empty batch.
    fn shrink(&mut self) {
        fn shrink<T>(list: &mut Vec<T>) {
            if list.capacity() > 4 * KEPT_ITEMS {
                list.shrink_to(KEPT_ITEMS);
            }
        }
        let Batch { completions, disconnected: _, packets, requests, refused: _ } = self;
        shrink(completions);
        shrink(packets);
        shrink(requests);
    }
}

impl<M: StateMachine> Request<M> {
    fn len_bytes(&self) -> usize {
        match self {
            Request::Propose { draft, .. } => draft.encoded().len(),
            Request::Query { len_bytes, .. } => *len_bytes,
            Request::Change { change, .. } => change.len_bytes(),
            Request::Transfer { .. } | Request::Snapshot(_) => 0,
        }
    }

    /// Answers a request that was not taken up: it has no effect.
    pub(crate) fn refuse(self, why: Refusal) {
        match self {
            Request::Propose { respond, .. } => respond.fail(match why {
                Refusal::Busy => ProposeError::Busy,
                Refusal::Stopped => ProposeError::Stopped,
            }),
            Request::Query { respond, .. } => respond.answer(Err(match why {
                Refusal::Busy => QueryError::Busy,
                Refusal::Stopped => QueryError::Stopped,
            })),
            Request::Change { respond, .. } => respond.answer(Err(match why {
                Refusal::Busy => MembershipError::Busy,
                Refusal::Stopped => MembershipError::Stopped,
            })),
            Request::Transfer { respond, .. } => respond.answer(Err(match why {
                Refusal::Busy => TransferError::Busy,
                Refusal::Stopped => TransferError::Stopped,
            })),
            Request::Snapshot(caller) => caller.answer(Err(match why {
                Refusal::Busy => SnapshotError::Busy,
                Refusal::Stopped => SnapshotError::Stopped,
            })),
        }
    }
}

/// Why a request is not taken up.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Refusal {
    Busy,
    Stopped,
}

impl<M: StateMachine> Intake<M> {
    pub(crate) fn new(options: &Options) -> Intake<M> {
        let limits = Limits {
            packets_max: options.packets_pending_max,
            packet_bytes_max: options.packets_pending_bytes_max,
            queries: Load {
                count: options.queries_pending_max,
                bytes: options.queries_pending_bytes_max,
            },
            others: Load {
                count: options.requests_pending_max,
                bytes: options.requests_pending_bytes_max,
            },
        };
        let inner = Inner {
            batch: Batch::default(),
            packet_bytes: 0,
            queries: Load::default(),
            others: Load::default(),
            pending: Pending::default(),
            closed: false,
            waker: None,
        };
        Intake { inner: Mutex::new(inner), limits }
    }

    /// Takes a request, or answers it when there are too many.
    pub(crate) fn request(&self, request: Request<M>) {
        let len_bytes = request.len_bytes();
        let mut inner = lock(&self.inner);
        let is_query = matches!(request, Request::Query { .. });
        let busy = match is_query {
            true => (inner.queries + inner.pending.queries).is_full(len_bytes, self.limits.queries),
            false => {
                let pending = Load { count: inner.pending.others, bytes: 0 };
                (inner.others + pending).is_full(len_bytes, self.limits.others)
            }
        };
        if inner.closed || busy {
            let why = if inner.closed { Refusal::Stopped } else { Refusal::Busy };
            inner.batch.refused.requests += 1;
            drop(inner);
            request.refuse(why);
            return;
        }
        match is_query {
            true => inner.queries.add(len_bytes),
            false => inner.others.add(len_bytes),
        }
        inner.batch.requests.push(request);
        inner.wake();
    }

    /// The machine has answered queries. Where there were so many that others were or may be refused, the driver is told,
    /// so that there is room for them: else it would look again at its next input.
    pub(crate) fn queries_answered(&self) {
        let mut inner = lock(&self.inner);
        let load = inner.queries + inner.pending.queries;
        let Load { count, bytes } = self.limits.queries;
        if load.count >= count / 2 || load.bytes >= bytes / 2 {
            inner.wake();
        }
    }

    pub(crate) fn complete(&self, completion: Completion) {
        let mut inner = lock(&self.inner);
        if !inner.closed {
            inner.batch.completions.push(completion);
            inner.wake();
        }
    }

    /// Swaps all that is there for `empty`, which must be; waits where there is nothing. `pending` is what the driver
    /// still holds.
    pub(crate) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        empty: &mut Batch<M>,
        pending: Pending,
    ) -> Poll<()> {
        let mut inner = lock(&self.inner);
        inner.pending = pending;
        let refused = mem::take(&mut inner.batch.refused);
        empty.refused.packets += refused.packets;
        empty.refused.requests += refused.requests;
        empty.shrink();
        if inner.batch.is_empty() {
            inner.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        inner.packet_bytes = 0;
        // The driver holds them from now on, and says so at its next visit only: until then they count here.
        let (queries, others) = (mem::take(&mut inner.queries), mem::take(&mut inner.others));
        inner.pending.queries = inner.pending.queries + queries;
        inner.pending.others += others.count;
        inner.batch.refused = mem::take(&mut empty.refused);
        mem::swap(&mut inner.batch, empty);
        Poll::Ready(())
    }

    /// Takes nothing any more, and returns what was there.
    pub(crate) fn close(&self) -> Batch<M> {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        mem::take(&mut inner.batch)
    }
}

impl<M: StateMachine> Inner<M> {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl<M: StateMachine> Inbox for Intake<M> {
    fn deliver(&self, packet: Packet) {
        let len_bytes = packet_bytes(&packet);
        let mut inner = lock(&self.inner);
        if inner.closed {
            return;
        }
        // One is always taken, or a long one would never get through, however often it is sent again.
        let full = inner.batch.packets.len() >= self.limits.packets_max
            || inner.packet_bytes.saturating_add(len_bytes) > self.limits.packet_bytes_max;
        if full && !inner.batch.packets.is_empty() {
            inner.batch.refused.packets += 1;
            return;
        }
        inner.packet_bytes += len_bytes;
        inner.batch.packets.push(packet);
        inner.wake();
    }

    fn disconnected(&self, peer: NodeId) {
        let mut inner = lock(&self.inner);
        // Each peer once, so the list is no longer than the cluster.
        if !inner.closed && !inner.batch.disconnected.contains(&peer) {
            inner.batch.disconnected.push(peer);
            inner.wake();
        }
    }
}

/// What a packet counts for, in bytes.
fn packet_bytes(packet: &Packet) -> usize {
    const OVERHEAD_BYTES: usize = 128;
    let content = match packet {
        Packet::Raft(Envelope { message, .. }) => match message {
            Message::AppendEntries { entries, .. } => entries.cost_bytes(),
            Message::PreVote { .. }
            | Message::PreVoteResponse { .. }
            | Message::RequestVote { .. }
            | Message::VoteResponse { .. }
            | Message::AppendResponse(_)
            | Message::Heartbeat { .. }
            | Message::HeartbeatResponse { .. }
            | Message::TimeoutNow
            | Message::ReadIndex { .. }
            | Message::ReadIndexResponse { .. } => 0,
        },
        Packet::SnapshotChunk(chunk) => chunk.data.len(),
        Packet::SnapshotResponse(response) => response.status.held_bytes(),
        Packet::Checksum(_) => 0,
    };
    OVERHEAD_BYTES + content
}

#[cfg(test)]
mod tests;
