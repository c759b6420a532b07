//! The store over HTTP, beside the binary protocol: for people, `curl` and probes. `docs/http.md` says it for clients.
//!
//! | file | what is in it |
//! |---|---|
//! | `connections` | who is let in, and for how long |
//! | `patience` | a socket on which nobody reads for ever |
//! | `room`, `held` | memory that is taken, and what a response holds until it has left |
//! | `routes` | which path is whose |
//! | `error` | the one shape of everything that is not a success |
//! | `body` | the body of a request, within its limits |
//! | `key`, `condition`, `entry` | a key in a path, a version in a header, a value of a transaction |
//! | `keys`, `pages`, `transactions`, `leases`, `watches` | what is done |
//! | `write`, `leader` | what came of a write, and who could have made it |
//! | `probes`, `metrics`, `latency` | how the node is doing |

mod body;
mod condition;
mod connections;
mod entry;
mod error;
mod held;
mod key;
mod keys;
mod latency;
mod leader;
mod leases;
mod metrics;
mod pages;
mod patience;
mod probes;
mod room;
mod routes;
mod transactions;
mod watches;
mod write;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use raft_rsm::{Client, Raft};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use self::connections::Connections;
use self::leader::Leader;
use self::metrics::Metrics;
use self::room::Budget;
use crate::limits::Limits;
use crate::store::Store;

/// Connections at once, unless the options say otherwise.
pub const CONNECTIONS_MAX: usize = 1024;

/// The line and the headers of a request have at most so many bytes, and there are at most so many headers.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
const HEADERS_MAX: usize = 100;

/// The head of a request is there within this, else the connection is closed; so is one on which no request comes.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a request does not pause for longer than this ...
pub const BODY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// ... and after the first so many seconds, it has come at no fewer bytes a second than this, all in all: who sends a byte
/// now and then holds memory that others need.
pub const BODY_BYTES_PER_SECOND_MIN: u32 = 32 * 1024;

/// A response of which nothing is taken for so long is given up, and its connection with it; so is one that, after so
/// long, has been taken at fewer than [`BODY_BYTES_PER_SECOND_MIN`], all in all.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bodies of requests hold at most so many bytes of memory together ...
const BODIES_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// ... and so do values, pages and events that are on their way out.
const RESPONSES_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// Watches at once. Each holds a connection, and a query that waits.
pub const WATCHES_MAX: usize = 256;

/// A node that stops waits this long for responses that are on their way.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long so many bytes may take on their way, beside what any number of them may.
fn paid_for(bytes: usize) -> Duration {
    Duration::from_secs_f64(bytes as f64 / f64::from(BODY_BYTES_PER_SECOND_MIN))
}

/// How HTTP is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen, `HOST:PORT`.
    pub listen: String,
    /// Where clients reach it, if not where it listens.
    pub advertise: Option<String>,
    /// Connections at once. Beyond it, the one that has been quiet for longest makes room.
    pub connections_max: usize,
}

/// A port that is listened on and not served yet: the store is told of it before it starts.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    advertised: String,
    connections_max: usize,
}

impl Listening {
    /// Takes the port.
    ///
    /// # Errors
    /// It cannot be had.
    pub async fn bind(options: &Options) -> io::Result<Listening> {
        let listener = TcpListener::bind(&options.listen).await?;
        let address = listener.local_addr()?;
        let advertised = options.advertise.clone().unwrap_or_else(|| address.to_string());
        let connections_max = options.connections_max.max(1);
        Ok(Listening { listener, address, advertised, connections_max })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients reach it, if that is known: `0.0.0.0` is every address of whichever machine.
    #[must_use]
    pub fn advertised(&self) -> Option<String> {
        let known = !crate::node::is_every_address(&self.advertised);
        known.then(|| self.advertised.clone())
    }

    /// Serves the replica `raft`, on the tokio runtime of the caller. `client` asks the other nodes.
    #[must_use]
    pub fn serve(self, raft: Raft<Store>, limits: Limits, client: Client<Store>) -> Serving {
        let leader = Leader::new(client, raft.status().id, self.advertised());
        let connections = Arc::new(Connections::new(self.connections_max));
        let node = Arc::new(Node {
            raft,
            limits,
            leader,
            metrics: Metrics::default(),
            connections: Arc::clone(&connections),
            bodies: Budget::new(BODIES_BYTES_MAX),
            responses: Budget::new(RESPONSES_BYTES_MAX),
            watches: Arc::new(Semaphore::new(WATCHES_MAX)),
        });
        let (stop, stopping) = watch::channel(false);
        let router = routes::router(node);
        let accepting = tokio::spawn(connections.accept(self.listener, router, stopping));
        Serving { stop, accepting }
    }
}

/// HTTP that is served until it is told to stop.
#[derive(Debug)]
pub struct Serving {
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Serving {
    /// Lets nobody in any more, and waits a little for the responses that are on their way.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(FAREWELL, self.accepting).await;
        // Each connection holds the other end until it is closed.
        let _ = tokio::time::timeout(FAREWELL, self.stop.closed()).await;
    }
}

/// What all requests share.
struct Node {
    raft: Raft<Store>,
    limits: Limits,
    leader: Leader,
    metrics: Metrics,
    connections: Arc<Connections>,
    /// Memory for bodies ...
    bodies: Budget,
    /// ... and for responses.
    responses: Budget,
    /// Watches that may still begin.
    watches: Arc<Semaphore>,
}
