//! Sends the newest stored snapshot to a follower, in chunks.
//!
//! A few chunks are on their way at once, and one that is lost is sent again by itself. The memory it needs is one
//! chunk, since what is sent again is read again; the transport's queue holds no more than the window.

mod pace;
mod refusals;
mod window;

use std::future::poll_fn;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use raft_core::{EntryId, NodeId, SnapshotMeta, SnapshotOutcome};

pub(crate) use self::pace::Pace;
pub(crate) use self::refusals::{Offer, Refusals};
use self::window::{Lost, Window};
use crate::error::StopReason;
use crate::runtime::blocking;
use crate::storage::SnapshotReader;
use crate::transport::{Packet, SnapshotChunk, SnapshotStatus};
use crate::watch::lock;
use crate::{Runtime, Storage, Transport};

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
    pub(crate) pace: Arc<Pace>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) runtime: Arc<dyn Runtime>,
}

/// How a transfer has ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The receiver has the snapshot up to here, or needs it no longer.
    Delivered(EntryId),
    Failed,
    /// The receiver takes no image of this length.
    TooLong {
        last: EntryId,
        image_bytes: u64,
        image_bytes_max: u64,
    },
}

impl Sent {
    /// What it is for the core.
    pub(crate) fn outcome(self) -> SnapshotOutcome {
        match self {
            Sent::Delivered(last) => SnapshotOutcome::Delivered(last),
            Sent::Failed | Sent::TooLong { .. } => SnapshotOutcome::Failed,
        }
    }
}

impl Sending {
    /// Sends it all.
    ///
    /// # Errors
    /// The disk failed, which stops the node.
    pub(crate) async fn run(self) -> Result<Sent, StopReason> {
        let storage = Arc::clone(&self.storage);
        let opened = blocking(&*self.runtime, "open snapshot", move || storage.open_snapshot());
        let Ok(opened) = opened.await else { return Ok(Sent::Failed) };
        let Some(reader) = opened? else { return Ok(Sent::Failed) };
        let meta = reader.meta().clone();
        self.send_all(reader, &meta).await.map_err(|error| StopReason::Storage {
            problem: format!("cannot read the snapshot up to {}: {error}", meta.last),
        })
    }

    async fn send_all(
        &self,
        mut reader: Box<dyn SnapshotReader>,
        meta: &SnapshotMeta,
    ) -> io::Result<Sent> {
        let image_bytes = reader.len_bytes();
        let mut window = Window::new(image_bytes, self.chunk_bytes, self.runtime.now());
        // When a chunk may leave, once that was asked for.
        let mut turn = None;
        loop {
            // One time for all of them, or a slow disk would have no end of chunks that are due again.
            let now = self.runtime.now();
            while let Some(offset) = window.due(now) {
                if *turn.get_or_insert_with(|| self.pace.turn(self.chunk_bytes, now)) > now {
                    break;
                }
                turn = None;
                let mut chunk = self.chunk(meta, image_bytes, offset);
                (reader, chunk) = self.read(reader, chunk).await?;
                window.sent(offset, self.runtime.now());
                self.transport.send(Packet::SnapshotChunk(chunk));
            }
            if window.ask_at() <= now {
                let chunk = self.chunk(meta, image_bytes, window.asked(now));
                self.transport.send(Packet::SnapshotChunk(chunk.sealed()));
            }
            let due_at = if window.due(now).is_some() { turn } else { window.resend_at() };
            let until = due_at.map_or(window.ask_at(), |at| at.min(window.ask_at()));
            let timeout = self.runtime.sleep(until.saturating_sub(self.runtime.now()));
            match self.answers.next(timeout).await {
                Event::Answer(SnapshotStatus::Done) => {
                    return Ok(Sent::Delivered(meta.last));
                }
                Event::Answer(SnapshotStatus::Refused) | Event::Cancelled => {
                    return Ok(Sent::Failed);
                }
                Event::Answer(SnapshotStatus::TooLong { image_bytes_max }) => {
                    let last = meta.last;
                    return Ok(Sent::TooLong { last, image_bytes, image_bytes_max });
                }
                Event::Answer(SnapshotStatus::Continue { reception, offset, held }) => {
                    let now = self.runtime.now();
                    if let Err(Lost) = window.answered(reception, offset, &held, now) {
                        // Another transfer begins anew, with what is the newest snapshot by then.
                        return Ok(Sent::Failed);
                    }
                }
                Event::Silence => {}
            }
            if window.is_given_up(self.runtime.now()) {
                return Ok(Sent::Failed);
            }
        }
    }

    /// An empty one.
    fn chunk(&self, meta: &SnapshotMeta, image_bytes: u64, offset: u64) -> SnapshotChunk {
        SnapshotChunk {
            from: self.from,
            to: self.to,
            transfer: self.transfer,
            meta: meta.clone(),
            image_bytes,
            offset,
            checksum: 0,
            data: Bytes::new(),
        }
    }

    /// Fills `chunk`, and seals it as soon as its data is in memory.
    async fn read(
        &self,
        mut reader: Box<dyn SnapshotReader>,
        chunk: SnapshotChunk,
    ) -> io::Result<(Box<dyn SnapshotReader>, SnapshotChunk)> {
        let left = chunk.image_bytes.saturating_sub(chunk.offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(self.chunk_bytes);
        if len == 0 {
            return Ok((reader, chunk.sealed()));
        }
        let work = move || -> io::Result<(Box<dyn SnapshotReader>, SnapshotChunk)> {
            if reader.stream_position()? != chunk.offset {
                reader.seek(SeekFrom::Start(chunk.offset))?;
            }
            let mut data = vec![0; len];
            reader.read_exact(&mut data)?;
            Ok((reader, SnapshotChunk { data: Bytes::from(data), ..chunk }.sealed()))
        };
        blocking(&*self.runtime, "read snapshot", work).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests;
