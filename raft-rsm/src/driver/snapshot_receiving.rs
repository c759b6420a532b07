//! Receives a snapshot from a leader, chunk by chunk: one transfer at a time, written as it comes. What comes before a
//! chunk that is missing is written, what comes after it is held.

mod held;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::Write;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use raft_core::{NodeId, SnapshotMeta};

use self::held::Held;
use super::intake::{Completion, Intake};
use crate::error::StopReason;
use crate::runtime::blocking;
use crate::storage::{SnapshotWriter, StorageError};
use crate::transport::{Packet, SnapshotChunk, SnapshotResponse, SnapshotStatus};
use crate::watch::lock;
use crate::{Runtime, StateMachine, Storage, Transport};

/// Chunks that wait to be written: this many ...
pub(super) const CHUNKS_MAX: usize = 8;

/// ... and this many bytes; and as much again that waits for a chunk before it. Beyond either they are dropped, and the
/// sender repeats them: but it has no more on their way than this.
pub(super) const CHUNK_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A sender whose chunk takes long to be written hears this often that the receiver is alive.
const ALIVE_EACH: Duration = Duration::from_secs(1);

/// A transfer that has stood still for this long is given up.
const STALE_AFTER: Duration = Duration::from_secs(10);

/// Chunks on their way from the driver to the receiver.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    inner: Mutex<Inner>,
    /// How many were dropped since their checksums were wrong.
    damaged: AtomicU64,
    /// How many transfers were refused since their images are too long.
    too_long: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<SnapshotChunk>,
    bytes: usize,
    closed: bool,
    waker: Option<Waker>,
}

enum Event {
    Chunk(SnapshotChunk),
    Timeout,
    Closed,
}

impl Chunks {
    /// Takes a chunk, or drops it.
    pub(crate) fn push(&self, chunk: SnapshotChunk) {
        let mut inner = lock(&self.inner);
        let bytes = inner.bytes.saturating_add(chunk.data.len());
        // One chunk is always taken, or a large one would never get through.
        let full = inner.queue.len() >= CHUNKS_MAX || bytes > CHUNK_BYTES_MAX;
        // Where chunks wait, an answer comes anyway: one that only asks for it would take the place of another.
        let asks = chunk.data.is_empty();
        if inner.closed || ((full || asks) && !inner.queue.is_empty()) {
            return;
        }
        inner.bytes = bytes;
        inner.queue.push_back(chunk);
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    /// How many chunks have arrived that were not what their sender had read.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// How many transfers have begun whose images are longer than this node takes.
    pub(crate) fn too_long(&self) -> u64 {
        self.too_long.load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        inner.queue.clear();
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    async fn next(&self, mut timeout: Option<BoxFuture<'static, ()>>) -> Event {
        poll_fn(|cx| {
            {
                let mut inner = lock(&self.inner);
                if inner.closed {
                    return Poll::Ready(Event::Closed);
                }
                if let Some(chunk) = inner.queue.pop_front() {
                    inner.bytes = inner.bytes.saturating_sub(chunk.data.len());
                    return Poll::Ready(Event::Chunk(chunk));
                }
                inner.waker = Some(cx.waker().clone());
            }
            match &mut timeout {
                Some(timeout) => timeout.poll_unpin(cx).map(|()| Event::Timeout),
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// The receiving side of a node.
pub(crate) struct Receiving<M: StateMachine> {
    pub(crate) id: NodeId,
    pub(crate) image_bytes_max: u64,
    pub(crate) chunks: Arc<Chunks>,
    pub(crate) intake: Arc<Intake<M>>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) runtime: Arc<dyn Runtime>,
}

/// A transfer that is under way.
struct Incoming {
    name: Name,
    meta: SnapshotMeta,
    image_bytes: u64,
    /// Names what is here of it, which is lost when the node ends or another transfer takes its place.
    reception: u64,
    written: u64,
    writer: Box<dyn SnapshotWriter>,
    held: Held,
    heard_at: Duration,
}

/// Transfers that are over: a late chunk of one of them begins nothing.
#[derive(Debug, Default)]
struct Over {
    finished: Option<Name>,
    given_up: Option<Name>,
    too_long: Option<Name>,
}

/// Names a transfer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Name {
    from: NodeId,
    transfer: u64,
}

/// Why the receiver ends.
struct Ended;

impl<M: StateMachine> Receiving<M> {
    /// Works until the queue is closed or the disk fails.
    pub(crate) async fn run(self) {
        let mut incoming: Option<Incoming> = None;
        let mut over = Over::default();
        loop {
            let timeout = incoming.as_ref().map(|_| self.runtime.sleep(STALE_AFTER));
            match self.chunks.next(timeout).await {
                // As if it had been lost on the way: it is asked for again.
                Event::Chunk(chunk) if !chunk.is_sound() => self.count_damaged(&chunk),
                Event::Chunk(chunk) => match self.take(chunk, incoming, &mut over).await {
                    Ok(still) => incoming = still,
                    Err(Ended) => return,
                },
                Event::Timeout => {
                    over.given_up = incoming.take().map(|stale| stale.name).or(over.given_up);
                }
                Event::Closed => return,
            }
        }
    }

    fn count_damaged(&self, chunk: &SnapshotChunk) {
        self.chunks.damaged.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            from = %chunk.from, offset = chunk.offset,
            "dropped a part of a snapshot whose checksum is wrong"
        );
    }

    async fn take(
        &self,
        chunk: SnapshotChunk,
        incoming: Option<Incoming>,
        over: &mut Over,
    ) -> Result<Option<Incoming>, Ended> {
        let name = Name { from: chunk.from, transfer: chunk.transfer };
        if over.finished == Some(name) {
            self.respond(name, SnapshotStatus::Done);
            return Ok(incoming);
        }
        let now = self.runtime.now();
        let mut current = match incoming {
            Some(current) if current.name == name => current,
            other => {
                if chunk.image_bytes > self.image_bytes_max {
                    self.refuse_too_long(name, &chunk, over);
                    return Ok(other);
                }
                if !may_begin(name, &chunk, other.as_ref(), over, now) {
                    self.respond(name, SnapshotStatus::Refused);
                    return Ok(other);
                }
                over.given_up = other.map(|other| other.name).or(over.given_up);
                self.begin(name, &chunk, now).await?
            }
        };
        current.heard_at = now;
        if !current.fits(&chunk) {
            self.respond(name, SnapshotStatus::Refused);
            over.given_up = Some(name);
            return Ok(None);
        }
        if chunk.offset > current.written && !chunk.data.is_empty() {
            current.held.insert(chunk.offset, chunk.data);
        } else if chunk.offset == current.written {
            let mut next = Some(chunk.data);
            while let Some(data) = next {
                current = self.write(current, data).await?;
                next = current.held.take(current.written);
            }
        }
        if current.written < current.image_bytes {
            self.respond(name, current.status(None));
            return Ok(Some(current));
        }
        self.finish(current).await?;
        over.finished = Some(name);
        self.respond(name, SnapshotStatus::Done);
        Ok(None)
    }

    /// Says so to each chunk, and counts the transfer once.
    fn refuse_too_long(&self, name: Name, chunk: &SnapshotChunk, over: &mut Over) {
        let image_bytes_max = self.image_bytes_max;
        self.respond(name, SnapshotStatus::TooLong { image_bytes_max });
        if over.too_long.replace(name) != Some(name) {
            self.chunks.too_long.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                from = %chunk.from, bytes = chunk.image_bytes, image_bytes_max,
                "refused a snapshot that is longer than snapshot_bytes_max"
            );
        }
    }

    async fn begin(
        &self,
        name: Name,
        chunk: &SnapshotChunk,
        now: Duration,
    ) -> Result<Incoming, Ended> {
        let storage = Arc::clone(&self.storage);
        let meta = chunk.meta.clone();
        let work = move || storage.create_snapshot(meta);
        let created = blocking(&*self.runtime, "receive snapshot", work).await;
        let writer = self.check(created.map_err(|lost| lost.to_string()))?;
        Ok(Incoming {
            name,
            meta: chunk.meta.clone(),
            image_bytes: chunk.image_bytes,
            reception: self.runtime.random(),
            written: 0,
            writer,
            held: Held::default(),
            heard_at: now,
        })
    }

    async fn write(&self, mut current: Incoming, data: Bytes) -> Result<Incoming, Ended> {
        if data.is_empty() {
            return Ok(current);
        }
        let (name, status) = (current.name, current.status(Some(current.written)));
        let work = move || {
            let result = current.writer.write_all(&data);
            current.written += data.len() as u64;
            result.map(|()| current)
        };
        let written = blocking(&*self.runtime, "receive snapshot", work);
        let written = self.alive_during(written, name, &status).await;
        self.check(written.map_err(|lost| lost.to_string()))
    }

    async fn finish(&self, current: Incoming) -> Result<(), Ended> {
        let status = current.status(None);
        let Incoming { name, meta, image_bytes, writer, .. } = current;
        let finished = blocking(&*self.runtime, "receive snapshot", move || writer.finish());
        let finished = self.alive_during(finished, name, &status).await;
        self.check(finished.map_err(|lost| lost.to_string()))?;
        // The driver hears of it before the leader does, and so before any entry that follows it.
        self.intake.complete(Completion::SnapshotReceived { meta, image_bytes });
        Ok(())
    }

    /// Waits for `work`, and tells the sender now and then that this node is alive.
    async fn alive_during<T>(
        &self,
        work: impl Future<Output = T>,
        name: Name,
        status: &SnapshotStatus,
    ) -> T {
        let mut work = pin!(work);
        let mut timer = self.runtime.sleep(ALIVE_EACH);
        poll_fn(|cx| {
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            while timer.poll_unpin(cx).is_ready() {
                self.respond(name, status.clone());
                timer = self.runtime.sleep(ALIVE_EACH);
            }
            Poll::Pending
        })
        .await
    }

    /// An error of the disk stops the node, as any other.
    fn check<T, E: Into<ReceiveError>>(
        &self,
        result: Result<Result<T, E>, String>,
    ) -> Result<T, Ended> {
        let problem = match result {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.into().0,
            Err(lost) => lost,
        };
        let problem = format!("cannot write a snapshot from the leader: {problem}");
        self.intake.complete(Completion::Stop(StopReason::Storage { problem }));
        Err(Ended)
    }

    fn respond(&self, name: Name, status: SnapshotStatus) {
        self.transport.send(Packet::SnapshotResponse(SnapshotResponse {
            from: self.id,
            to: name.from,
            transfer: name.transfer,
            status,
        }));
    }
}

/// Whether a transfer may begin, in the place of the one that is under way.
fn may_begin(
    name: Name,
    chunk: &SnapshotChunk,
    other: Option<&Incoming>,
    over: &Over,
    now: Duration,
) -> bool {
    over.given_up != Some(name) && other.is_none_or(|other| other.yields_to(chunk, now))
}

struct ReceiveError(String);

impl From<StorageError> for ReceiveError {
    fn from(error: StorageError) -> ReceiveError {
        ReceiveError(error.to_string())
    }
}

impl From<std::io::Error> for ReceiveError {
    fn from(error: std::io::Error) -> ReceiveError {
        ReceiveError(error.to_string())
    }
}

impl Incoming {
    /// Whether another transfer may take this one's place.
    fn yields_to(&self, chunk: &SnapshotChunk, now: Duration) -> bool {
        self.name.from == chunk.from
            || chunk.meta.last >= self.meta.last
            || now.saturating_sub(self.heard_at) > STALE_AFTER
    }

    /// What is here of it. A chunk that is being written at `writing` is here as well.
    fn status(&self, writing: Option<u64>) -> SnapshotStatus {
        SnapshotStatus::Continue {
            reception: self.reception,
            offset: self.written,
            held: writing.into_iter().chain(self.held.offsets()).collect(),
        }
    }

    /// Whether a chunk says the same of the snapshot as the first one did.
    fn fits(&self, chunk: &SnapshotChunk) -> bool {
        let end = chunk.offset.checked_add(chunk.data.len() as u64);
        chunk.meta == self.meta
            && chunk.image_bytes == self.image_bytes
            && end.is_some_and(|end| end <= self.image_bytes)
    }
}

#[cfg(test)]
mod tests;
