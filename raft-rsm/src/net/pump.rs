//! Frames in and frames out: the two loops that every connection has.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Buf;
use futures::FutureExt;
use futures::channel::oneshot;

use super::batch::WriteBatch;
use super::counters::Counters;
use super::frame::{Frame, FrameDecoder, FrameError, FrameKind};
use super::queue::BatchQueue;
use super::socket::Socket;
use crate::Runtime;
use crate::transport::TcpLimits;

/// What is written at once, at most, unless a single frame is longer.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// What all connections of one transport share.
pub(crate) struct Setup {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) limits: TcpLimits,
    pub(crate) counters: Counters,
}

/// Why nothing more can be read from a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{0}")]
    Io(io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        let kind = error.kind();
        if kind == io::ErrorKind::UnexpectedEof {
            return ReadError::Io(io::Error::new(kind, "the other side closed the connection"));
        }
        if is_timeout(&error) {
            let reason = "nothing has come from the other side for too long";
            return ReadError::Io(io::Error::new(io::ErrorKind::TimedOut, reason));
        }
        ReadError::Io(error)
    }
}

/// Sockets of the standard library say either.
fn is_timeout(error: &io::Error) -> bool {
    [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind())
}

/// Reads the frames of one connection.
pub(crate) struct FrameReader<S> {
    socket: S,
    decoder: FrameDecoder,
    setup: Arc<Setup>,
}

impl<S: Socket> FrameReader<S> {
    pub(crate) fn new(socket: S, body_bytes_max: usize, setup: Arc<Setup>) -> FrameReader<S> {
        FrameReader { socket, decoder: FrameDecoder::new(body_bytes_max), setup }
    }

    pub(crate) fn set_body_bytes_max(&mut self, body_bytes_max: usize) {
        self.decoder.set_body_bytes_max(body_bytes_max);
    }

    /// The next frame; waits for at most `timeout` for each piece of it.
    pub(crate) async fn next(&mut self, timeout: Duration) -> Result<Frame, ReadError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.read(timeout).await?;
        }
    }

    /// The next frame; waits for at most `timeout` for all of it.
    pub(crate) async fn next_within(&mut self, timeout: Duration) -> Result<Frame, ReadError> {
        let deadline = self.setup.runtime.now() + timeout;
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            let left = deadline.saturating_sub(self.setup.runtime.now());
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            self.read(left).await?;
        }
    }

    fn buffered(&mut self) -> Result<Option<Frame>, ReadError> {
        let frame = self.decoder.next_frame()?;
        self.setup.counters.frames_in.add(u64::from(frame.is_some()));
        Ok(frame)
    }

    async fn read(&mut self, timeout: Duration) -> Result<(), ReadError> {
        let got = self.socket.read(&mut self.decoder, timeout).await?;
        self.setup.counters.bytes_in.add_len(got);
        Ok(())
    }
}

/// What goes out on a connection.
pub(crate) trait Outgoing: Send {
    type Item: Send;

    /// Adds a frame to the batch, or none.
    fn encode(&mut self, item: Self::Item, batch: &mut WriteBatch);

    /// What was encoded has been written.
    fn written(&mut self) {}

    /// Called each `keep_alive`. False: the connection is no longer wanted.
    fn is_wanted(&mut self) -> bool {
        true
    }
}

enum Wake {
    Items,
    KeepAlive,
    Closed,
}

/// Writes what comes through the queue, in batches, with signs of life in between. Ends when the queue is closed, the
/// `reader_ended`, or a write fails; closes the socket then.
pub(crate) async fn write_frames<S: Socket, O: Outgoing>(
    socket: S,
    queue: &BatchQueue<O::Item>,
    mut outgoing: O,
    mut reader_ended: oneshot::Receiver<()>,
    setup: &Setup,
) {
    let socket = CloseOnDrop(socket);
    let limits = &setup.limits;
    let mut batch = WriteBatch::default();
    let mut taken = VecDeque::new();
    let mut keep_alive = setup.runtime.sleep(limits.keep_alive);
    let mut keep_alive_at = setup.runtime.now() + limits.keep_alive;
    loop {
        let wake = poll_fn(|context| {
            if reader_ended.poll_unpin(context).is_ready() {
                return Poll::Ready(Wake::Closed);
            }
            match queue.poll_take(context, &mut taken, BATCH_BYTES_MAX) {
                Poll::Ready(Ok(())) => return Poll::Ready(Wake::Items),
                Poll::Ready(Err(_)) => return Poll::Ready(Wake::Closed),
                Poll::Pending => {}
            }
            keep_alive.poll_unpin(context).map(|()| Wake::KeepAlive)
        })
        .await;
        let mut frames = taken.len();
        match wake {
            Wake::Items => {
                taken.drain(..).for_each(|(item, _)| outgoing.encode(item, &mut batch));
            }
            Wake::KeepAlive => {}
            Wake::Closed => return,
        }
        // However busy it is: the other side answers this sign of life, and may have no other reason to.
        let now = setup.runtime.now();
        if now >= keep_alive_at {
            keep_alive_at = now + limits.keep_alive;
            keep_alive = setup.runtime.sleep(limits.keep_alive);
            if !outgoing.is_wanted() {
                return;
            }
            add_keep_alive(&mut batch);
            frames += 1;
        }
        let bytes = batch.remaining();
        if let Err(error) = socket.0.write(&mut batch, limits.write_timeout).await {
            tracing::debug!(peer = ?socket.0.peer_address(), %error, "cannot write");
            return;
        }
        setup.counters.frames_out.add_len(frames);
        setup.counters.bytes_out.add_len(bytes);
        batch.clear();
        outgoing.written();
    }
}

/// Adds a sign of life.
pub(crate) fn add_keep_alive(batch: &mut WriteBatch) {
    // An empty body is never too long.
    let _ = batch.frame(FrameKind::KeepAlive, 0, |_| None);
}

/// Closes a socket when its user ends, however it ends.
pub(crate) struct CloseOnDrop<S: Socket>(pub(crate) S);

impl<S: Socket> Drop for CloseOnDrop<S> {
    fn drop(&mut self) {
        self.0.close();
    }
}
