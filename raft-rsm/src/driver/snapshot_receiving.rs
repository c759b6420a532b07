//! Receives a snapshot from a leader, chunk by chunk: one at a time, written as it comes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::Write;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use raft_core::{NodeId, SnapshotMeta};

use super::intake::{Completion, Intake};
use crate::error::StopReason;
use crate::runtime::blocking;
use crate::storage::{SnapshotWriter, StorageError};
use crate::transport::{Packet, SnapshotChunk, SnapshotResponse, SnapshotStatus};
use crate::watch::lock;
use crate::{Runtime, StateMachine, Storage, Transport};

/// Chunks that wait to be written: this many ...
const CHUNKS_MAX: usize = 8;

/// ... and this many bytes. Beyond either they are dropped, and the sender repeats them.
const CHUNK_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A sender whose chunk takes long to be written hears this often that the receiver is alive.
const ALIVE_EACH: Duration = Duration::from_secs(1);

/// A transfer that has stood still for this long is given up.
const STALE_AFTER: Duration = Duration::from_secs(10);

/// Chunks on their way from the driver to the receiver.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    inner: Mutex<Inner>,
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
        if inner.closed || (full && !inner.queue.is_empty()) {
            return;
        }
        inner.bytes = bytes;
        inner.queue.push_back(chunk);
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
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
    written: u64,
    writer: Box<dyn SnapshotWriter>,
    heard_at: Duration,
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
        let mut finished: Option<Name> = None;
        loop {
            let timeout = incoming.as_ref().map(|_| self.runtime.sleep(STALE_AFTER));
            match self.chunks.next(timeout).await {
                Event::Chunk(chunk) => match self.take(chunk, incoming, &mut finished).await {
                    Ok(still) => incoming = still,
                    Err(Ended) => return,
                },
                Event::Timeout => incoming = None,
                Event::Closed => return,
            }
        }
    }

    async fn take(
        &self,
        chunk: SnapshotChunk,
        incoming: Option<Incoming>,
        finished: &mut Option<Name>,
    ) -> Result<Option<Incoming>, Ended> {
        let name = Name { from: chunk.from, transfer: chunk.transfer };
        if *finished == Some(name) {
            self.respond(name, SnapshotStatus::Done);
            return Ok(incoming);
        }
        let now = self.runtime.now();
        let mut current = match incoming {
            Some(current) if current.name == name => current,
            other => {
                if other.as_ref().is_some_and(|other| !other.yields_to(&chunk, now)) {
                    self.respond(name, SnapshotStatus::Refused);
                    return Ok(other);
                }
                if chunk.image_bytes > self.image_bytes_max {
                    tracing::warn!(
                        from = %chunk.from, bytes = chunk.image_bytes,
                        "refused a snapshot that is longer than snapshot_bytes_max"
                    );
                    self.respond(name, SnapshotStatus::Refused);
                    return Ok(other);
                }
                if chunk.offset != 0 {
                    self.respond(name, SnapshotStatus::Continue { offset: 0 });
                    return Ok(other);
                }
                // What was written of the other one is dropped.
                drop(other);
                self.begin(name, &chunk, now).await?
            }
        };
        current.heard_at = now;
        if !current.fits(&chunk) {
            self.respond(name, SnapshotStatus::Refused);
            return Ok(None);
        }
        if chunk.offset != current.written {
            let offset = current.written;
            self.respond(name, SnapshotStatus::Continue { offset });
            return Ok(Some(current));
        }
        current = self.write(current, chunk).await?;
        if current.written < current.image_bytes {
            let offset = current.written;
            self.respond(name, SnapshotStatus::Continue { offset });
            return Ok(Some(current));
        }
        self.finish(current).await?;
        *finished = Some(name);
        self.respond(name, SnapshotStatus::Done);
        Ok(None)
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
            written: 0,
            writer,
            heard_at: now,
        })
    }

    async fn write(&self, mut current: Incoming, chunk: SnapshotChunk) -> Result<Incoming, Ended> {
        if chunk.data.is_empty() {
            return Ok(current);
        }
        let (name, offset) = (current.name, current.written);
        let work = move || {
            let result = current.writer.write_all(&chunk.data);
            current.written += chunk.data.len() as u64;
            result.map(|()| current)
        };
        let written = blocking(&*self.runtime, "receive snapshot", work);
        let written = self.alive_during(written, name, offset).await;
        self.check(written.map_err(|lost| lost.to_string()))
    }

    async fn finish(&self, current: Incoming) -> Result<(), Ended> {
        let Incoming { name, meta, image_bytes, writer, .. } = current;
        let finished = blocking(&*self.runtime, "receive snapshot", move || writer.finish());
        let finished = self.alive_during(finished, name, image_bytes).await;
        self.check(finished.map_err(|lost| lost.to_string()))?;
        // The driver hears of it before the leader does, and so before any entry that follows it.
        self.intake.complete(Completion::SnapshotReceived { meta, image_bytes });
        Ok(())
    }

    /// Waits for `work`, and tells the sender now and then that this node is alive.
    async fn alive_during<T>(&self, work: impl Future<Output = T>, name: Name, offset: u64) -> T {
        let mut work = pin!(work);
        let mut timer = self.runtime.sleep(ALIVE_EACH);
        poll_fn(|cx| {
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            while timer.poll_unpin(cx).is_ready() {
                self.respond(name, SnapshotStatus::Continue { offset });
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

    /// Whether a chunk says the same of the snapshot as the first one did.
    fn fits(&self, chunk: &SnapshotChunk) -> bool {
        let end = chunk.offset.checked_add(chunk.data.len() as u64);
        chunk.meta == self.meta
            && chunk.image_bytes == self.image_bytes
            && end.is_some_and(|end| end <= self.image_bytes)
    }
}
