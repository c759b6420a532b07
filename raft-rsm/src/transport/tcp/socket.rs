//! Sockets of the standard library. They block the thread that polls them.

use std::io::{self, IoSlice, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Buf;
use futures::executor::block_on;
use futures::future::BoxFuture;

use crate::Runtime;
use crate::net::batch::{SLICES_MAX, WriteBatch};
use crate::net::frame::FrameDecoder;
use crate::net::socket::{Listener, Network, Socket, refuse_self};

/// How long a listener that stops waits for itself.
const WAKE_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes connections, and runs their tasks on threads for blocking work.
pub(super) struct StdNetwork {
    runtime: Arc<dyn Runtime>,
}

impl StdNetwork {
    pub(super) fn new(runtime: Arc<dyn Runtime>) -> StdNetwork {
        StdNetwork { runtime }
    }
}

impl Network for StdNetwork {
    type Socket = StdSocket;

    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>) {
        self.runtime.spawn_blocking(name, Box::new(move || block_on(task)));
    }

    async fn connect(&self, address: String, timeout: Duration) -> io::Result<StdSocket> {
        let deadline = Instant::now() + timeout;
        let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in address.to_socket_addrs()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match TcpStream::connect_timeout(&address, left) {
                Ok(stream) => {
                    refuse_self(stream.local_addr()?, stream.peer_addr()?)?;
                    return StdSocket::new(stream);
                }
                Err(failed) => error = failed,
            }
        }
        Err(error)
    }
}

/// A listening socket.
pub(super) struct StdListener {
    listener: TcpListener,
    stopped: AtomicBool,
}

impl StdListener {
    pub(super) fn bind(address: &str) -> io::Result<StdListener> {
        Ok(StdListener { listener: TcpListener::bind(address)?, stopped: AtomicBool::new(false) })
    }
}

impl Listener for StdListener {
    type Socket = StdSocket;

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    async fn accept(&self) -> io::Result<StdSocket> {
        let accepted = self.listener.accept();
        if self.stopped.load(Ordering::Acquire) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        StdSocket::new(accepted?.0)
    }

    /// An accept that waits is ended by a connection: the standard library has no other way.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        let Ok(mut address) = self.listener.local_addr() else { return };
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        if let Err(error) = TcpStream::connect_timeout(&address, WAKE_TIMEOUT) {
            tracing::debug!(%address, %error, "cannot wake the listener");
        }
    }
}

/// A connection.
#[derive(Clone)]
pub(super) struct StdSocket(Arc<Inner>);

struct Inner {
    stream: TcpStream,
    peer_address: Option<SocketAddr>,
    /// The timeouts that the socket has, in microseconds, so that each is set only when it changes.
    read_timeout_micros: AtomicU64,
    write_timeout_micros: AtomicU64,
}

impl StdSocket {
    fn new(stream: TcpStream) -> io::Result<StdSocket> {
        stream.set_nodelay(true)?;
        Ok(StdSocket(Arc::new(Inner {
            peer_address: stream.peer_addr().ok(),
            stream,
            read_timeout_micros: AtomicU64::new(0),
            write_timeout_micros: AtomicU64::new(0),
        })))
    }
}

/// Notes a timeout; returns it if it is not the one that was set. None at all is not known to sockets.
fn changed(set: &AtomicU64, timeout: Duration) -> Option<Duration> {
    let micros = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX).max(1);
    (set.swap(micros, Ordering::Relaxed) != micros).then(|| Duration::from_micros(micros))
}

impl Socket for StdSocket {
    async fn read(&self, decoder: &mut FrameDecoder, timeout: Duration) -> io::Result<usize> {
        let Inner { stream, read_timeout_micros, .. } = &*self.0;
        if let Some(timeout) = changed(read_timeout_micros, timeout) {
            stream.set_read_timeout(Some(timeout))?;
        }
        let (buffer, wanted) = decoder.buffer();
        let start = buffer.len();
        // Zeroes that are overwritten: the price of a read without unsafe code.
        buffer.resize(start + wanted, 0);
        let read = loop {
            match (&*stream).read(&mut buffer[start..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        buffer.truncate(start + read.as_ref().copied().unwrap_or(0));
        match read? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            got => {
                decoder.filled(wanted, got);
                Ok(got)
            }
        }
    }

    async fn write(&self, batch: &mut WriteBatch, timeout: Duration) -> io::Result<()> {
        let Inner { stream, write_timeout_micros, .. } = &*self.0;
        if let Some(timeout) = changed(write_timeout_micros, timeout) {
            stream.set_write_timeout(Some(timeout))?;
        }
        while batch.has_remaining() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = batch.chunks_vectored(&mut slices);
            match (&*stream).write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => batch.advance(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn close(&self) {
        // One that is closed already says so.
        let _ = self.0.stream.shutdown(Shutdown::Both);
    }

    fn peer_address(&self) -> Option<SocketAddr> {
        self.0.peer_address
    }
}
