//! Who is let in, and for how long.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use super::error::HttpError;
use super::held::holding;
use super::patience::Patient;
use super::{HEAD_BYTES_MAX, HEAD_TIMEOUT, HEADERS_MAX};

/// When the process has no file descriptor left, there may be one after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The parser's own limits lie above ours: what lies between is refused in the shape of all errors, what lies above
/// in its own, which has no body.
const PARSER_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX;
const PARSER_HEADERS_MAX: usize = 2 * HEADERS_MAX;

/// The connections that are open.
pub(super) struct Connections {
    open_max: usize,
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
    /// Counts connections and requests: what came later has a higher number.
    clock: AtomicU64,
    refused: AtomicU64,
}

/// One of them.
struct Connection {
    id: u64,
    /// Requests whose responses have not left.
    under_way: AtomicUsize,
    /// When its last request came, or it was opened.
    active_at: AtomicU64,
    to_be_closed: Notify,
}

impl Connections {
    pub(super) fn new(open_max: usize) -> Connections {
        let (clock, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Connections { open_max, open: Mutex::default(), clock, refused }
    }

    /// How many are open.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// How many were refused since the start.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Serves whoever comes, until it is told to stop.
    pub(super) async fn accept(
        self: Arc<Connections>,
        listener: TcpListener,
        router: Router,
        mut stopping: watch::Receiver<bool>,
    ) {
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stopping.changed() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            };
            match self.enter() {
                Some(connection) => {
                    let place = Place { connections: Arc::clone(&self), connection };
                    tokio::spawn(place.serve(stream, router.clone(), stopping.clone()));
                }
                None => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    refuse(stream);
                }
            }
        }
    }

    /// A place for one more. Where all are taken, the connection that has been quiet for longest makes room; `None`: none
    /// is quiet.
    fn enter(&self) -> Option<Arc<Connection>> {
        let mut open = self.lock();
        if open.len() >= self.open_max {
            let quiet = open.values().filter(|other| other.is_quiet());
            let longest = quiet.min_by_key(|other| other.active_at.load(Ordering::Relaxed))?;
            let (id, longest) = (longest.id, Arc::clone(longest));
            open.remove(&id);
            longest.to_be_closed.notify_one();
        }
        let id = self.tick();
        let connection = Arc::new(Connection {
            id,
            under_way: AtomicUsize::new(0),
            active_at: AtomicU64::new(id),
            to_be_closed: Notify::new(),
        });
        open.insert(id, Arc::clone(&connection));
        Some(connection)
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn is_quiet(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
    }
}

/// An open connection; the place is free again when this is dropped.
struct Place {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
}

impl Place {
    async fn serve(self, stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
        let _ = stream.set_nodelay(true);
        let router = TowerToHyperService::new(router);
        let service = service_fn(|request| {
            let under_way = UnderWay::new(&self);
            let response = router.call(request);
            async { response.await.map(|response| holding(response, under_way)) }
        });
        let mut served = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(PARSER_BYTES_MAX)
                .max_headers(PARSER_HEADERS_MAX)
                .serve_connection(TokioIo::new(Patient::new(stream)), service)
        );
        let told_to_stop = async {
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        tokio::select! {
            biased;
            _ = served.as_mut() => return,
            () = self.connection.to_be_closed.notified() => {
                if self.connection.is_quiet() {
                    return;
                }
            }
            () = told_to_stop => {}
        }
        served.as_mut().graceful_shutdown();
        let _ = served.await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.connection.id);
    }
}

/// A request whose response has not left.
struct UnderWay(Arc<Connection>);

impl UnderWay {
    fn new(place: &Place) -> UnderWay {
        let connection = Arc::clone(&place.connection);
        connection.active_at.store(place.connections.tick(), Ordering::Relaxed);
        connection.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(connection)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says why, as far as the socket takes it at once, and closes.
fn refuse(stream: TcpStream) {
    let error = HttpError::unavailable("busy", "too many connections are open");
    if let Ok(mut stream) = stream.into_std() {
        let _ = std::io::Write::write(&mut stream, &error.on_the_wire());
    }
}
