//! How a TCP transport is set up, and what it counts.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::{Cluster, Identity, check_address};

/// How a TCP transport is set up, on either shell.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// Who this node is. The incarnation is the one under which the node speaks, that of its storage: peers that know of
    /// another one refuse it.
    pub identity: Identity,
    /// Where to listen for peers and clients, `HOST:PORT`. Port 0: one that is free.
    pub listen: String,
    /// Where the peers can reach this node, `HOST:PORT`: it tells them when it dials them. `None`: where it listens,
    /// unless that is every address of the machine (as in `0.0.0.0:7101`); then it tells nothing.
    pub advertise: Option<String>,
    /// Where the peers listen, until [`crate::Transport::set_peers`] says it. The node's own address may be among
    /// them; it is not used.
    pub peers: Cluster,
    /// The limits of every queue, buffer and wait.
    pub limits: TcpLimits,
}

impl TcpOptions {
    /// The default limits; listens where `peers` says that this node does.
    ///
    /// `None`: `peers` has no address for this node.
    #[must_use]
    pub fn of_cluster(identity: Identity, peers: Cluster) -> Option<TcpOptions> {
        let listen = peers.address(identity.node)?.to_owned();
        Some(TcpOptions { identity, listen, advertise: None, peers, limits: TcpLimits::default() })
    }

    /// What it tells the peers, as it is bound to `bound`.
    ///
    /// # Errors
    /// It was told what to tell, and that is no address.
    pub(super) fn advertised(&self, bound: SocketAddr) -> io::Result<Option<String>> {
        if let Some(address) = &self.advertise {
            return match check_address(address) {
                Ok(()) => Ok(Some(address.clone())),
                Err(problem) => {
                    let problem = format!("it cannot be reached at {address:?}: {problem}");
                    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
                }
            };
        }
        if bound.ip().to_canonical().is_unspecified() {
            return Ok(None);
        }
        let host = self.listen.rsplit_once(':').map(|(host, _)| host);
        let address = host.map(|host| format!("{host}:{}", bound.port()));
        Ok(address.filter(|address| check_address(address).is_ok()))
    }
}

/// The limits of every queue, buffer and wait of a TCP transport or connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// The longest packet, request or answer, in bytes: longer ones are not sent, and refused where they arrive.
    /// All nodes and clients of a cluster should have the same.
    pub frame_bytes_max: usize,
    /// Packets that wait for the connection to one peer: this many ...
    pub queue_packets_max: usize,
    /// ... of together this many bytes; beyond either, new ones are dropped.
    pub queue_bytes_max: usize,
    /// Connections accepted at once from clients, and as many from peers.
    pub connections_max: usize,
    /// Connections accepted whose handshake is under way.
    pub handshakes_max: usize,
    /// Requests on one connection that are not answered yet: this many ...
    pub requests_inflight_max: usize,
    /// ... of together this many bytes (but at least one request). Beyond either, the server reads no further from
    /// that connection, and a client sends no further request.
    pub requests_inflight_bytes_max: usize,
    /// Answers that wait for one client to read them, in bytes; beyond, its requests end without an answer.
    pub answers_bytes_max: usize,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// How long a write may stand still before its connection is closed.
    pub write_timeout: Duration,
    /// Each side of a connection gives a sign of life this often.
    pub keep_alive: Duration,
    /// A connection on which nothing arrived for so long is closed: its other side is gone, or the way there. Some
    /// times `keep_alive`.
    pub silence_max: Duration,
    /// A client closes a connection that it did not use for so long.
    pub idle_max: Duration,
    /// The first wait before dialling again; it doubles ...
    pub reconnect_min: Duration,
    /// ... up to this.
    pub reconnect_max: Duration,
    /// A peer that no list has, and that is known since it dialled this node, is forgotten so long after its connection
    /// has ended. There are at most `connections_max` of them.
    pub forget_after: Duration,
    /// Where nobody says which incarnation of a peer counts, one that is connected keeps the others out for so long:
    /// enough for a leader to be heard, after which it is said.
    pub place_held: Duration,
    /// How long a shutdown waits for what is under way.
    pub shutdown_timeout: Duration,
}

impl Default for TcpLimits {
    fn default() -> TcpLimits {
        const MIB: usize = 1 << 20;
        TcpLimits {
            frame_bytes_max: 16 * MIB,
            queue_packets_max: 4096,
            queue_bytes_max: 32 * MIB,
            connections_max: 512,
            handshakes_max: 64,
            requests_inflight_max: 1024,
            requests_inflight_bytes_max: 16 * MIB,
            answers_bytes_max: 64 * MIB,
            connect_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(3),
            write_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(1),
            silence_max: Duration::from_secs(5),
            idle_max: Duration::from_secs(60),
            reconnect_min: Duration::from_millis(20),
            reconnect_max: Duration::from_secs(1),
            forget_after: Duration::from_secs(60),
            place_held: Duration::from_secs(1),
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

/// The transport cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// Where it should have listened.
    pub address: String,
    /// Why it cannot.
    pub source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClusterId, Incarnation};
    use raft_core::NodeId;

    fn advertised(
        listen: &str,
        advertise: Option<&str>,
        bound: &str,
    ) -> io::Result<Option<String>> {
        let identity =
            Identity { cluster: ClusterId(7), node: NodeId(1), incarnation: Incarnation(1) };
        let mut options =
            TcpOptions::of_cluster(identity, format!("1={listen}").parse().unwrap()).unwrap();
        options.advertise = advertise.map(str::to_owned);
        options.advertised(bound.parse().unwrap())
    }

    #[test]
    fn a_node_tells_where_it_listens_with_the_port_that_it_got() {
        let told = |listen, bound| advertised(listen, None, bound).unwrap();
        assert_eq!(told("host:7101", "10.0.0.1:7101").as_deref(), Some("host:7101"));
        assert_eq!(told("127.0.0.1:0", "127.0.0.1:5000").as_deref(), Some("127.0.0.1:5000"));
        assert_eq!(told("[::1]:0", "[::1]:5000").as_deref(), Some("[::1]:5000"));
    }

    #[test]
    fn a_node_that_listens_everywhere_tells_nothing_unless_it_is_told_what() {
        for (listen, bound) in
            [("0.0.0.0:1", "0.0.0.0:1"), ("[::]:1", "[::]:1"), ("host:1", "[::ffff:0.0.0.0]:1")]
        {
            assert_eq!(advertised(listen, None, bound).unwrap(), None);
            let told = advertised(listen, Some("me:7101"), bound).unwrap();
            assert_eq!(told.as_deref(), Some("me:7101"));
        }
    }

    #[test]
    fn what_is_no_address_is_not_told() {
        for address in ["", "me", ":1", "me:", "m e:1", "me:1\n"] {
            let error = advertised("a:1", Some(address), "10.0.0.1:1").unwrap_err().to_string();
            assert!(error.contains("cannot be reached"), "{error}");
        }
    }
}
