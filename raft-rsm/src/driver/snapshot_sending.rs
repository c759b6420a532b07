//! Sends the newest stored snapshot to a follower, in chunks.
//!
//! A few chunks are on their way at once; what is not confirmed in time is sent again from the first gap on. The
//! memory it needs is one chunk, and the transport's queue holds no more than the window.

use std::future::poll_fn;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use raft_core::{NodeId, SnapshotMeta, SnapshotOutcome};

use crate::error::StopReason;
use crate::runtime::blocking;
use crate::storage::SnapshotReader;
use crate::transport::{Packet, SnapshotChunk, SnapshotStatus};
use crate::watch::lock;
use crate::{Runtime, Storage, Transport};

/// Chunks on their way at once: enough that the sender reads while the receiver writes.
const WINDOW_CHUNKS: u64 = 4;

/// A chunk that is not confirmed for this long is sent again: well above a round trip and the write
/// of a chunk.
const RESEND_AFTER: Duration = Duration::from_millis(250);

/// A receiver that says nothing for this long is given up; the core tries again later.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A receiver that answers but gets no further for this long is given up. Making a large image durable counts as
/// getting no further, so this is long.
const STALL_MAX: Duration = Duration::from_secs(60);

/// The latest answer of the receiver.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    latest: Option<SnapshotStatus>,
    cancelled: bool,
    waker: Option<Waker>,
}

/// What a sender waits for.
#[derive(Debug)]
enum Event {
    Answer(SnapshotStatus),
    Silence,
    Cancelled,
}

impl Answers {
    pub(crate) fn put(&self, status: SnapshotStatus) {
        let mut inner = lock(&self.inner);
        inner.latest = Some(status);
        wake(&mut inner);
    }

    pub(crate) fn cancel(&self) {
        let mut inner = lock(&self.inner);
        inner.cancelled = true;
        wake(&mut inner);
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Event> {
        let mut inner = lock(&self.inner);
        if inner.cancelled {
            return Poll::Ready(Event::Cancelled);
        }
        match inner.latest.take() {
            Some(status) => Poll::Ready(Event::Answer(status)),
            None => {
                inner.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    async fn next(&self, mut timeout: BoxFuture<'static, ()>) -> Event {
        poll_fn(|cx| match self.poll(cx) {
            Poll::Ready(event) => Poll::Ready(event),
            Poll::Pending => timeout.poll_unpin(cx).map(|()| Event::Silence),
        })
        .await
    }
}

fn wake(inner: &mut Inner) {
    if let Some(waker) = inner.waker.take() {
        waker.wake();
    }
}

/// One transfer.
pub(crate) struct Sending {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) transfer: u64,
    pub(crate) chunk_bytes: usize,
    pub(crate) answers: Arc<Answers>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) runtime: Arc<dyn Runtime>,
}

/// How far a transfer has got, in bytes.
struct Progress {
    /// Everything before this has arrived.
    confirmed: u64,
    /// What follows is to be sent next.
    next: u64,
    /// The greatest `confirmed` so far, and when it was reached.
    best: u64,
    best_at: Duration,
    heard_at: Duration,
}

impl Sending {
    /// Sends it all.
    ///
    /// # Errors
    /// The disk failed, which stops the node.
    pub(crate) async fn run(self) -> Result<SnapshotOutcome, StopReason> {
        let storage = Arc::clone(&self.storage);
        let opened = blocking(&*self.runtime, "open snapshot", move || storage.open_snapshot());
        let Ok(opened) = opened.await else { return Ok(SnapshotOutcome::Failed) };
        let Some(reader) = opened? else { return Ok(SnapshotOutcome::Failed) };
        let meta = reader.meta().clone();
        self.send_all(reader, &meta).await.map_err(|error| StopReason::Storage {
            problem: format!("cannot read the snapshot up to {}: {error}", meta.last),
        })
    }

    async fn send_all(
        &self,
        mut reader: Box<dyn SnapshotReader>,
        meta: &SnapshotMeta,
    ) -> io::Result<SnapshotOutcome> {
        let image_bytes = reader.len_bytes();
        let window_bytes = WINDOW_CHUNKS.saturating_mul(self.chunk_bytes as u64);
        let now = self.runtime.now();
        let mut progress = Progress { confirmed: 0, next: 0, best: 0, best_at: now, heard_at: now };
        // An empty image is one empty chunk.
        let mut first = true;
        loop {
            while first
                || (progress.next < image_bytes
                    && progress.next - progress.confirmed < window_bytes)
            {
                first = false;
                let data;
                (reader, data) = self.read(reader, progress.next, image_bytes).await?;
                let len_bytes = data.len() as u64;
                self.send(meta, image_bytes, progress.next, data);
                progress.next += len_bytes;
            }
            match self.answers.next(self.runtime.sleep(RESEND_AFTER)).await {
                Event::Answer(SnapshotStatus::Done) => {
                    return Ok(SnapshotOutcome::Delivered(meta.last));
                }
                Event::Answer(SnapshotStatus::Refused) | Event::Cancelled => {
                    return Ok(SnapshotOutcome::Failed);
                }
                Event::Answer(SnapshotStatus::Continue { offset }) => {
                    progress.confirm(offset.min(image_bytes), self.runtime.now());
                }
                Event::Silence => {
                    let now = self.runtime.now();
                    if now.saturating_sub(progress.heard_at) > SILENCE_MAX
                        || now.saturating_sub(progress.best_at) > STALL_MAX
                    {
                        return Ok(SnapshotOutcome::Failed);
                    }
                    // Go back to the first gap. Where all has arrived, one empty chunk asks how it stands.
                    progress.next = progress.confirmed;
                    first = progress.next == image_bytes;
                }
            }
        }
    }

    async fn read(
        &self,
        mut reader: Box<dyn SnapshotReader>,
        offset: u64,
        image_bytes: u64,
    ) -> io::Result<(Box<dyn SnapshotReader>, Bytes)> {
        let left = image_bytes.saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(self.chunk_bytes);
        if len == 0 {
            return Ok((reader, Bytes::new()));
        }
        let work = move || -> io::Result<(Box<dyn SnapshotReader>, Bytes)> {
            if reader.stream_position()? != offset {
                reader.seek(SeekFrom::Start(offset))?;
            }
            let mut data = vec![0; len];
            reader.read_exact(&mut data)?;
            Ok((reader, Bytes::from(data)))
        };
        blocking(&*self.runtime, "read snapshot", work).await.map_err(io::Error::other)?
    }

    fn send(&self, meta: &SnapshotMeta, image_bytes: u64, offset: u64, data: Bytes) {
        self.transport.send(Packet::SnapshotChunk(SnapshotChunk {
            from: self.from,
            to: self.to,
            transfer: self.transfer,
            meta: meta.clone(),
            image_bytes,
            offset,
            data,
        }));
    }
}

impl Progress {
    fn confirm(&mut self, offset: u64, now: Duration) {
        self.heard_at = now;
        if offset > self.best {
            self.best = offset;
            self.best_at = now;
        }
        if offset > self.confirmed {
            self.confirmed = offset;
            self.next = self.next.max(offset);
        } else if offset == 0 && self.confirmed > 0 {
            // The receiver has lost what it had. Any other step back is a late answer.
            self.confirmed = 0;
            self.next = 0;
        }
    }
}

#[cfg(test)]
mod tests;
