//! A socket that is given up when the other side takes nothing for too long, or takes too long as a whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{WRITE_TIMEOUT, paid_for};

pub(super) struct Patient<S = TcpStream> {
    stream: S,
    /// So long have writes waited since the last request, those that are over ...
    waited: Duration,
    /// ... and so many bytes were taken.
    taken_bytes: usize,
    /// A write that waits.
    waiting: Option<Waiting>,
}

struct Waiting {
    since: Instant,
    give_up: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S) -> Patient<S> {
        Patient { stream, waited: Duration::ZERO, taken_bytes: 0, waiting: None }
    }

    fn within_patience(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        if let Poll::Ready(written) = written {
            if let Some(Waiting { since, .. }) = self.waiting.take() {
                self.waited += now - since;
            }
            let bytes = written.as_ref().map_or(0, |bytes| *bytes);
            self.taken_bytes = self.taken_bytes.saturating_add(bytes);
            return Poll::Ready(written);
        }
        let all = (WRITE_TIMEOUT + paid_for(self.taken_bytes)).saturating_sub(self.waited);
        let waiting = self.waiting.get_or_insert_with(|| {
            let give_up = Box::pin(sleep_until(now + all.min(WRITE_TIMEOUT)));
            Waiting { since: now, give_up }
        });
        ready!(waiting.give_up.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            // The next request.
            (self.waited, self.taken_bytes) = (Duration::ZERO, 0);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within_patience(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.within_patience(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// How long a reader may take that takes so many bytes a second of what has no end. It is written as hyper does: the
    /// next part when all of the one before is taken.
    async fn lasts(bytes_a_second: usize) -> Duration {
        let (stream, mut reader) = tokio::io::duplex(1024);
        let mut patient = Patient::new(stream);
        let begun = Instant::now();
        let writing = async {
            loop {
                if let Err(error) = patient.write_all(&[0; 64 * 1024]).await {
                    return error.kind();
                }
            }
        };
        let reading = async {
            let mut taken = vec![0; bytes_a_second];
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                reader.read_exact(&mut taken).await.unwrap();
            }
        };
        tokio::select! {
            biased;
            kind = writing => assert_eq!(kind, io::ErrorKind::TimedOut),
            () = reading => {}
            () = tokio::time::sleep(HOUR) => {}
        }
        begun.elapsed()
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_little_of_a_response_is_given_up_and_whoever_takes_enough_is_not() {
        assert_eq!(lasts(1).await.as_secs(), 30);
        let slow = lasts(4 * 1024).await;
        assert!(slow > WRITE_TIMEOUT && slow < 2 * WRITE_TIMEOUT, "{slow:?}");
        assert_eq!(lasts(40 * 1024).await, HOUR);
    }
}
