//! Sockets of tokio.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut};
use futures::future::{BoxFuture, Either, select};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::Runtime;
use crate::net::batch::{SLICES_MAX, WriteBatch};
use crate::net::frame::FrameDecoder;
use crate::net::socket::{Listener, Network, Socket, refuse_self};
use crate::runtime::TokioRuntime;

/// Makes connections, and runs their tasks on tokio.
pub(super) struct TokioNetwork {
    runtime: Arc<TokioRuntime>,
}

impl TokioNetwork {
    pub(super) fn new(runtime: Arc<TokioRuntime>) -> TokioNetwork {
        TokioNetwork { runtime }
    }
}

impl Network for TokioNetwork {
    type Socket = TokioSocket;

    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>) {
        self.runtime.spawn(name, task);
    }

    async fn connect(&self, address: String, limit: Duration) -> io::Result<TokioSocket> {
        let stream = timeout(limit, TcpStream::connect(address))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        refuse_self(stream.local_addr()?, stream.peer_addr()?)?;
        TokioSocket::new(stream)
    }
}

/// A flag that can be waited for.
#[derive(Default)]
struct Closed {
    is_closed: AtomicBool,
    notify: Notify,
}

impl Closed {
    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    /// What `future` gives, or `None` once this is closed.
    async fn or<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut notified = pin!(self.notify.notified());
        // From here on no notification is missed.
        notified.as_mut().enable();
        if self.is_closed.load(Ordering::Acquire) {
            return None;
        }
        match select(notified, pin!(future)).await {
            Either::Left(_) => None,
            Either::Right((output, _)) => Some(output),
        }
    }
}

/// A listening socket.
pub(super) struct TokioListener {
    listener: TcpListener,
    closed: Closed,
}

impl TokioListener {
    pub(super) fn bind(address: &str, runtime: &TokioRuntime) -> io::Result<TokioListener> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let _entered = runtime.handle().enter();
        let listener = TcpListener::from_std(listener)?;
        Ok(TokioListener { listener, closed: Closed::default() })
    }
}

impl Listener for TokioListener {
    type Socket = TokioSocket;

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    async fn accept(&self) -> io::Result<TokioSocket> {
        match self.closed.or(self.listener.accept()).await {
            Some(accepted) => TokioSocket::new(accepted?.0),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn stop(&self) {
        self.closed.close();
    }
}

/// A connection.
#[derive(Clone)]
pub(super) struct TokioSocket(Arc<Inner>);

struct Inner {
    stream: TcpStream,
    peer_address: Option<SocketAddr>,
    closed: Closed,
}

impl TokioSocket {
    fn new(stream: TcpStream) -> io::Result<TokioSocket> {
        stream.set_nodelay(true)?;
        let peer_address = stream.peer_addr().ok();
        Ok(TokioSocket(Arc::new(Inner { stream, peer_address, closed: Closed::default() })))
    }

    /// Waits until `ready` completes, for at most `limit`.
    async fn ready(
        &self,
        ready: impl Future<Output = io::Result<()>>,
        limit: Duration,
    ) -> io::Result<()> {
        match timeout(limit, self.0.closed.or(ready)).await {
            Ok(Some(ready)) => ready,
            Ok(None) => Err(io::ErrorKind::NotConnected.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Socket for TokioSocket {
    async fn read(&self, decoder: &mut FrameDecoder, limit: Duration) -> io::Result<usize> {
        let (buffer, wanted) = decoder.buffer();
        loop {
            // Also when there is more: this is where a busy connection lets other tasks run.
            self.ready(self.0.stream.readable(), limit).await?;
            match self.0.stream.try_read_buf(&mut buffer.limit(wanted)) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => {
                    decoder.filled(wanted, got);
                    return Ok(got);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn write(&self, batch: &mut WriteBatch, limit: Duration) -> io::Result<()> {
        while batch.has_remaining() {
            self.ready(self.0.stream.writable(), limit).await?;
            // In a block of its own: the slices may not be held while waiting.
            let written = {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = batch.chunks_vectored(&mut slices);
                self.0.stream.try_write_vectored(&slices[..count])
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => batch.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn close(&self) {
        self.0.closed.close();
    }

    fn peer_address(&self) -> Option<SocketAddr> {
        self.0.peer_address
    }
}
