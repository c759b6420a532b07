//! A client's connections, whatever the sockets.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{Either, select};
use raft_core::NodeId;

use super::address_book::AddressBook;
use super::batch::WriteBatch;
use super::calls::{BeginError, Calls, Outcome};
use super::dial::{DialError, Dialled, dial, hello_of_client};
use super::frame::{Frame, FrameKind};
use super::pump::{FrameReader, Outgoing, Setup, write_frames};
use super::socket::{Network, Socket};
use super::tasks::Tasks;
use crate::transport::{CallError, IdentifyError};
use crate::{Cluster, ClusterId, Identity};

/// A client's connections: one a node, dialled when it is needed.
pub(crate) struct Caller<N: Network> {
    network: N,
    setup: Arc<Setup>,
    tasks: Arc<Tasks>,
    /// Which cluster is meant, if it was told.
    told: Option<ClusterId>,
    state: Mutex<State>,
}

struct State {
    /// Which cluster is meant, as far as it is known.
    cluster: Option<ClusterId>,
    book: AddressBook,
    /// Of which cluster each node is that was connected.
    found: BTreeMap<NodeId, ClusterId>,
    connections: BTreeMap<NodeId, Arc<Calls>>,
}

/// Lets the request go on without its caller, when the caller's future is dropped.
struct Abandon {
    calls: Arc<Calls>,
    id: u64,
}

impl Drop for Abandon {
    fn drop(&mut self) {
        self.calls.abandon(self.id);
    }
}

impl<N: Network> Caller<N> {
    pub(crate) fn new(
        network: N,
        nodes: Cluster,
        cluster: Option<ClusterId>,
        setup: Arc<Setup>,
    ) -> Arc<Caller<N>> {
        let (book, found, connections) =
            (AddressBook::new(nodes), BTreeMap::new(), BTreeMap::new());
        let state = Mutex::new(State { cluster, book, found, connections });
        Arc::new(Caller { network, setup, tasks: Tasks::new(), told: cluster, state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock, so the state is whole even when a thread died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.lock().book.nodes()
    }

    /// Where the nodes listen from now on, beside what was learned.
    pub(crate) fn set_nodes(&self, nodes: Cluster) {
        self.change(|book| book.give(nodes));
        self.stay_with(None);
    }

    /// The cluster of this node is the one that is meant; `None`: it is open which one is.
    pub(crate) fn stay_with(&self, node: Option<NodeId>) {
        let mut state = self.lock();
        let State { cluster, found, connections, .. } = &mut *state;
        *cluster = self.told.or_else(|| found.get(&node?).copied());
        if let Some(cluster) = *cluster {
            // They end once those who wait for an answer of them are gone.
            connections.retain(|id, _| found.get(id).is_none_or(|other| *other == cluster));
        }
    }

    /// The members listen there, beside the nodes that it was given.
    pub(crate) fn learn(&self, nodes: &[(NodeId, String)]) {
        if !self.lock().book.knows(nodes) {
            self.change(|book| book.learn(nodes));
        }
    }

    /// Connections to addresses that change are left when they end.
    fn change(&self, change: impl FnOnce(&mut AddressBook)) {
        let mut state = self.lock();
        let State { book, connections, .. } = &mut *state;
        let before = book.clone();
        change(book);
        connections.retain(|id, _| before.addresses(*id) == book.addresses(*id));
    }

    /// Asks who listens at an address.
    pub(crate) async fn identify(
        self: &Arc<Self>,
        address: &str,
        deadline: Duration,
    ) -> Result<Identity, IdentifyError> {
        let timeout = self.setup.runtime.sleep(deadline);
        let (found, identity) = oneshot::channel();
        let (caller, dialled_address) = (Arc::clone(self), address.to_owned());
        // On a task of its own, since it may block; the limits of dialling and handshake end it.
        self.spawn("net-identify", async move {
            let hello = hello_of_client(None, None);
            let Caller { network, setup, tasks, .. } = &*caller;
            let dialled = dial(network, setup, tasks, dialled_address, hello).await;
            let answer = dialled.map(|Dialled { socket, identity, .. }| {
                socket.close();
                identity
            });
            // Whoever asked may have gone away.
            let _ = found.send(answer);
        });
        let error = |reason: String| IdentifyError { address: address.to_owned(), reason };
        match select(identity, timeout).await {
            Either::Left((Ok(answer), _)) => answer.map_err(|problem| error(problem.to_string())),
            Either::Left((Err(oneshot::Canceled), _)) => {
                Err(error("it is shutting down here".to_owned()))
            }
            Either::Right(_) => Err(error("no answer within the deadline".to_owned())),
        }
    }

    /// Ends all connections.
    pub(crate) fn stop(&self) {
        self.tasks.stop();
        let connections = std::mem::take(&mut self.lock().connections);
        connections.values().for_each(|calls| calls.close("the connector was dropped"));
    }

    pub(crate) async fn call(
        self: &Arc<Self>,
        to: NodeId,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        // It runs from now, not from the end of the dialling.
        let timeout = self.setup.runtime.sleep(deadline);
        let (calls, id, outcome) = self.begin(to, request)?;
        let _abandon = Abandon { calls: Arc::clone(&calls), id };
        let outcome = match select(outcome, timeout).await {
            Either::Left((Ok(outcome), _)) => outcome,
            // The table of calls never drops a caller; said with care all the same.
            Either::Left((Err(oneshot::Canceled), _)) => {
                Outcome::MaybeSent("the connection has ended".to_owned())
            }
            Either::Right(((), mut outcome)) => match calls.expire(id) {
                true => match outcome.try_recv() {
                    Ok(Some(outcome)) => outcome,
                    Ok(None) | Err(_) => Outcome::MaybeSent("the deadline has passed".to_owned()),
                },
                false => Outcome::NotSent("the deadline passed before it was sent".to_owned()),
            },
        };
        match outcome {
            Outcome::Answer(answer) => Ok(answer),
            Outcome::NoAnswer => {
                Err(CallError::MaybeSent { to, reason: "it gave no answer".to_owned() })
            }
            Outcome::NotSent(reason) => Err(CallError::NotSent { to, reason }),
            Outcome::MaybeSent(reason) => Err(CallError::MaybeSent { to, reason }),
        }
    }

    /// Queues the request on the connection to the node, or on a new one.
    fn begin(
        self: &Arc<Self>,
        to: NodeId,
        request: Bytes,
    ) -> Result<(Arc<Calls>, u64, oneshot::Receiver<Outcome>), CallError> {
        let not_sent = |reason: String| CallError::NotSent { to, reason };
        let mut state = self.lock();
        if let Some(calls) = state.connections.get(&to) {
            match calls.begin(request.clone()) {
                Ok((id, outcome)) => return Ok((Arc::clone(calls), id, outcome)),
                Err(BeginError::Closed) => {}
                Err(error @ (BeginError::Full | BeginError::TooLong)) => {
                    return Err(not_sent(error.to_string()));
                }
            }
        }
        let addresses: Vec<String> =
            state.book.addresses(to).into_iter().map(str::to_owned).collect();
        if addresses.is_empty() {
            return Err(not_sent("it has no address".to_owned()));
        }
        let calls = Arc::new(Calls::new(&self.setup.limits));
        // Before it is dialled, which may end sooner than one looks; then the call ends with the reason.
        let (id, outcome) =
            calls.begin(request).map_err(|error: BeginError| not_sent(error.to_string()))?;
        state.connections.insert(to, Arc::clone(&calls));
        drop(state);
        let closing = CloseCalls(Arc::clone(&calls));
        self.spawn("net-calls", Arc::clone(self).run(to, addresses, closing));
        Ok((calls, id, outcome))
    }

    /// One connection, from the dialling to its end.
    async fn run(self: Arc<Self>, to: NodeId, addresses: Vec<String>, closing: CloseCalls) {
        let calls = &closing.0;
        let Dialled { socket, reader, open, .. } = match self.dial_one(to, addresses).await {
            Ok(dialled) => dialled,
            Err(reason) => return calls.close(&reason),
        };
        self.setup.counters.connects.add(1);
        let (reading, reader_ended) = oneshot::channel();
        let (setup, table) = (Arc::clone(&self.setup), Arc::clone(calls));
        self.spawn("net-answers", read_answers(reader, table, reading, setup));
        let look_at = self.setup.runtime.now() + self.setup.limits.idle_max;
        let requests = Requests { calls, setup: &self.setup, look_at };
        write_frames(socket, &calls.queue, requests, reader_ended, &self.setup).await;
        drop(open);
    }

    /// Dials a node at the first of the addresses where it is; or tells why it is at none.
    async fn dial_one(
        &self,
        to: NodeId,
        addresses: Vec<String>,
    ) -> Result<Dialled<N::Socket>, String> {
        let mut reasons = Vec::new();
        for address in addresses {
            let hello = hello_of_client(self.lock().cluster, Some(to));
            let dialled =
                dial(&self.network, &self.setup, &self.tasks, address.clone(), hello).await;
            match dialled.and_then(|dialled| self.of_the_cluster(dialled, address)) {
                Ok(dialled) => return Ok(dialled),
                Err(error) => {
                    tracing::debug!(%to, %error, "cannot connect");
                    self.setup.counters.failed_dials.add(1);
                    reasons.push(error.to_string());
                }
            }
        }
        Err(reasons.join("; "))
    }

    /// It may have become known during the dial which cluster is meant.
    fn of_the_cluster(
        &self,
        dialled: Dialled<N::Socket>,
        address: String,
    ) -> Result<Dialled<N::Socket>, DialError> {
        let identity = dialled.identity;
        let mut state = self.lock();
        state.found.insert(identity.node, identity.cluster);
        let Some(ours) = state.cluster.filter(|ours| *ours != identity.cluster) else {
            return Ok(dialled);
        };
        drop(state);
        dialled.socket.close();
        let to = format!("node {} of cluster {ours}", identity.node);
        let identity = Box::new(identity);
        Err(DialError::Misdirected { address, identity, to })
    }

    fn spawn(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        let Some(running) = self.tasks.task() else { return };
        let task = async move {
            task.await;
            drop(running);
        };
        self.network.spawn(name, task.boxed());
    }
}

/// Ends the calls of a connection when it ends, or never starts.
struct CloseCalls(Arc<Calls>);

impl Drop for CloseCalls {
    fn drop(&mut self) {
        self.0.close("the connection was closed");
    }
}

/// Reads answers until the connection ends; the drop of `reading` tells the writer.
async fn read_answers<S: Socket>(
    mut reader: FrameReader<S>,
    calls: Arc<Calls>,
    reading: oneshot::Sender<()>,
    setup: Arc<Setup>,
) {
    let reason = loop {
        let mut body = match reader.next(setup.limits.silence_max).await {
            Ok(Frame { kind: FrameKind::Response, body }) => body,
            Ok(Frame { kind: FrameKind::KeepAlive, .. }) => continue,
            Ok(Frame { kind, .. }) => break format!("it sent a frame of the kind {kind:?}"),
            Err(error) => break error.to_string(),
        };
        let (Ok(id), Ok(is_answered)) = (body.try_get_u64_le(), body.try_get_u8()) else {
            break "it sent an answer that cannot be read".to_owned();
        };
        match is_answered {
            0 => calls.complete(id, Outcome::NoAnswer),
            _ => calls.complete(id, Outcome::Answer(body)),
        }
    };
    calls.close(&reason);
    drop(reading);
}

/// Requests as they go out.
struct Requests<'c> {
    calls: &'c Calls,
    setup: &'c Setup,
    /// When to look whether the connection is still used.
    look_at: Duration,
}

impl Outgoing for Requests<'_> {
    type Item = (u64, Bytes);

    fn encode(&mut self, (id, request): (u64, Bytes), batch: &mut WriteBatch) {
        if !self.calls.send(id) {
            return;
        }
        let body_bytes_max = self.setup.limits.frame_bytes_max;
        let encoded = batch.frame(FrameKind::Request, body_bytes_max, |out| {
            out.put_u64_le(id);
            Some(&request)
        });
        if let Err(error) = encoded {
            self.calls.complete(id, Outcome::NotSent(error.to_string()));
        }
    }

    fn is_wanted(&mut self) -> bool {
        let now = self.setup.runtime.now();
        if now < self.look_at {
            return true;
        }
        self.look_at = now + self.setup.limits.idle_max;
        !self.calls.close_if_unused()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;

    use futures::executor::block_on;
    use futures::future::BoxFuture;

    use super::*;
    use crate::net::counters::Counters;
    use crate::net::frame::FrameDecoder;
    use crate::runtime::ThreadRuntime;
    use crate::transport::TcpLimits;

    /// Refuses to connect, before the one who wants to can look.
    struct Hasty;

    #[derive(Clone)]
    enum NoSocket {}

    impl Network for Hasty {
        type Socket = NoSocket;

        fn spawn(&self, _name: &str, task: BoxFuture<'static, ()>) {
            assert!(task.now_or_never().is_some(), "nothing of it waits");
        }

        async fn connect(&self, _address: String, _timeout: Duration) -> io::Result<NoSocket> {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
    }

    impl Socket for NoSocket {
        async fn read(&self, _: &mut FrameDecoder, _: Duration) -> io::Result<usize> {
            match *self {}
        }

        async fn write(&self, _: &mut WriteBatch, _: Duration) -> io::Result<()> {
            match *self {}
        }

        fn close(&self) {
            match *self {}
        }

        fn peer_address(&self) -> Option<SocketAddr> {
            match *self {}
        }
    }

    #[test]
    fn a_call_whose_dial_fails_at_once_is_told_why() {
        let limits = TcpLimits::default();
        let runtime = Arc::new(ThreadRuntime::new());
        let setup = Arc::new(Setup { runtime, limits, counters: Counters::default() });
        let caller = Caller::new(Hasty, "1=a:1".parse().unwrap(), None, setup);
        caller.learn(&[(NodeId(1), "b:2".to_owned())]);
        let call = caller.call(NodeId(1), Bytes::new(), Duration::from_secs(30));
        let error = block_on(call).unwrap_err().to_string();
        assert!(error.contains("a:1: connection refused"), "{error}");
        assert!(error.contains("b:2: connection refused"), "{error}");
    }
}
