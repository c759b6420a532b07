//! A socket that is given up when the other side takes nothing for too long, or takes too long as a whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{WRITE_TIMEOUT, paid_for};

pub(super) struct Patient<S = TcpStream> {
    stream: S,
    /// What waits to be written.
    behind: Option<Behind>,
}

/// The other side is slower than what is to be written.
struct Behind {
    since: Instant,
    /// It has taken so many bytes since.
    taken_bytes: usize,
    /// Runs while a write waits.
    give_up: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S) -> Patient<S> {
        Patient { stream, behind: None }
    }

    /// Of `len` bytes, so many were written.
    fn within_patience(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(bytes)) if bytes == len) {
            self.behind = None;
            return written;
        }
        let now = Instant::now();
        let behind =
            self.behind.get_or_insert_with(|| Behind { since: now, taken_bytes: 0, give_up: None });
        if let Poll::Ready(written) = written {
            behind.taken_bytes = behind.taken_bytes.saturating_add(*written.as_ref().unwrap_or(&0));
            behind.give_up = None;
            return Poll::Ready(written);
        }
        let all = behind.since + WRITE_TIMEOUT + paid_for(behind.taken_bytes);
        let give_up = behind
            .give_up
            .get_or_insert_with(|| Box::pin(sleep_until(all.min(now + WRITE_TIMEOUT))));
        ready!(give_up.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within_patience(cx, bytes.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.within_patience(cx, parts.iter().map(|part| part.len()).sum(), written)
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
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// How long a reader may take that takes `bytes` a second of what is much more.
    async fn lasts(bytes: usize) -> Duration {
        let (stream, mut reader) = tokio::io::duplex(1);
        let mut patient = Patient::new(stream);
        let begun = Instant::now();
        let reading = async {
            let mut taken = vec![0; bytes];
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                reader.read_exact(&mut taken).await.unwrap();
            }
        };
        tokio::select! {
            biased;
            written = patient.write_all(&[0; 100_000]) => {
                assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
            }
            () = reading => {}
        }
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_a_little_now_and_then_is_given_up_all_the_same() {
        assert_eq!(lasts(1).await.as_secs(), 30);
    }
}
