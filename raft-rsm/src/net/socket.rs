//! The seam between the loops of connections, which both shells share, and the sockets, which they bring.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;

use super::batch::WriteBatch;
use super::frame::FrameDecoder;

/// Makes sockets and runs the tasks that use them.
///
/// Futures of this seam may block the thread that polls them, so a task awaits one at a time and never races it
/// with another. What ends one early is [`Socket::close`] or [`Listener::stop`], from another task.
pub(crate) trait Network: Send + Sync + 'static {
    type Socket: Socket;

    /// Runs a task that may block, beside all others.
    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>);

    /// Dials `HOST:PORT`.
    fn connect(
        &self,
        address: String,
        timeout: Duration,
    ) -> impl Future<Output = io::Result<Self::Socket>> + Send;
}

/// Where connections come in.
pub(crate) trait Listener: Send + Sync + 'static {
    type Socket: Socket;

    /// The next connection, or an error once [`Listener::stop`] was called.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Socket>> + Send;

    /// Where it listens.
    fn local_address(&self) -> io::Result<SocketAddr>;

    /// Ends an accept that waits, and all later ones.
    fn stop(&self);
}

/// One connection. Clones are the same; one reads, one writes, and any closes.
pub(crate) trait Socket: Clone + Send + Sync + 'static {
    /// Reads what is there into the decoder, at least a byte; returns how many.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other side has closed, `TimedOut` or `WouldBlock` when nothing came.
    fn read(
        &self,
        decoder: &mut FrameDecoder,
        timeout: Duration,
    ) -> impl Future<Output = io::Result<usize>> + Send;

    /// Writes all of the batch.
    ///
    /// # Errors
    /// `TimedOut` or `WouldBlock` when the other side took nothing for `timeout`.
    fn write(
        &self,
        batch: &mut WriteBatch,
        timeout: Duration,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Ends reads and writes that wait, and all later ones.
    fn close(&self);

    /// Where the other side is, for logs.
    fn peer_address(&self) -> Option<SocketAddr>;
}

/// A port that nobody listens on and that the system happens to choose for the dialler connects to itself.
pub(crate) fn refuse_self(local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
    if local == peer { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
}
