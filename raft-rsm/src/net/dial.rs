//! A connection from here, up to the end of its handshake.

use std::io;
use std::sync::Arc;

use raft_core::NodeId;

use super::batch::WriteBatch;
use super::frame::FrameKind;
use super::handshake::{
    Dialler, HANDSHAKE_BODY_BYTES_MAX, Hello, HelloAnswer, NoHandshake, PROTOCOL_VERSION, Refused,
};
use super::pump::{FrameReader, ReadError, Setup};
use super::socket::{Network, Socket};
use super::tasks::{OpenSocket, Tasks};
use crate::{ClusterId, Identity, Incarnation};

/// A connection whose handshake was accepted.
pub(crate) struct Dialled<S: Socket> {
    pub(crate) socket: S,
    pub(crate) reader: FrameReader<S>,
    pub(crate) open: OpenSocket,
    /// Who is at the other end.
    pub(crate) identity: Identity,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{address}: {error}")]
    Unreachable { address: String, error: io::Error },
    #[error("{address} refused the connection: {refused}")]
    Refused { address: String, refused: Refused },
    #[error("{address} is node {} of cluster {}, and accepted a connection to {to}", identity.node, identity.cluster)]
    Misdirected { address: String, identity: Box<Identity>, to: String },
    #[error("{address}: no handshake: {error}")]
    Handshake { address: String, error: ReadError },
    #[error("{address}: {error}")]
    NoHandshake { address: String, error: NoHandshake },
    #[error("{address} is node {} as incarnation {}, and {named} is the one that counts", identity.node, identity.incarnation)]
    OtherIncarnation { address: String, identity: Box<Identity>, named: Incarnation },
    #[error("it is shutting down here")]
    Stopped,
}

/// Dials a node and shakes hands.
pub(crate) async fn dial<N: Network>(
    network: &N,
    setup: &Arc<Setup>,
    tasks: &Arc<Tasks>,
    address: String,
    hello: Hello,
) -> Result<Dialled<N::Socket>, DialError> {
    let limits = &setup.limits;
    let socket = network
        .connect(address.clone(), limits.connect_timeout)
        .await
        .map_err(|error| DialError::Unreachable { address: address.clone(), error })?;
    let closing = socket.clone();
    let Some(open) = tasks.socket(move || closing.close()) else {
        socket.close();
        return Err(DialError::Stopped);
    };
    let mut reader = FrameReader::new(socket.clone(), HANDSHAKE_BODY_BYTES_MAX, Arc::clone(setup));
    match shake_hands(&socket, &mut reader, setup, &address, hello).await {
        Ok(identity) => {
            reader.set_body_bytes_max(limits.frame_bytes_max);
            Ok(Dialled { socket, reader, open, identity })
        }
        Err(error) => {
            socket.close();
            Err(error)
        }
    }
}

async fn shake_hands<S: Socket>(
    socket: &S,
    reader: &mut FrameReader<S>,
    setup: &Setup,
    address: &str,
    hello: Hello,
) -> Result<Identity, DialError> {
    let failed = |error| DialError::Handshake { address: address.to_owned(), error };
    let mut batch = WriteBatch::default();
    // Its length is bounded far below the limit.
    let _ = batch.frame(FrameKind::Hello, HANDSHAKE_BODY_BYTES_MAX, |out| {
        hello.encode(out);
        None
    });
    let written = socket.write(&mut batch, setup.limits.handshake_timeout).await;
    written.map_err(|error| failed(error.into()))?;
    let frame = reader.next_within(setup.limits.handshake_timeout).await.map_err(failed)?;
    let no_handshake = |error| DialError::NoHandshake { address: address.to_owned(), error };
    if frame.kind != FrameKind::HelloAnswer {
        return Err(no_handshake(NoHandshake));
    }
    let answer = HelloAnswer::decode(frame.body).map_err(no_handshake)?;
    if let Err(refused) = answer.verdict {
        return Err(DialError::Refused { address: address.to_owned(), refused });
    }
    let identity = answer.identity;
    let is_right_cluster = hello.cluster.is_none_or(|cluster| cluster == identity.cluster);
    let is_right_node = hello.to.is_none_or(|to| to == identity.node);
    if !is_right_cluster || !is_right_node {
        let to = hello.to.map_or("whoever it is".to_owned(), |to| format!("node {to}"));
        let (address, identity) = (address.to_owned(), Box::new(identity));
        return Err(DialError::Misdirected { address, identity, to });
    }
    Ok(identity)
}

/// What a node says to a peer that it dials; with its own address, it asks for a way back.
pub(crate) fn hello_of_peer(identity: &Identity, to: NodeId, address: Option<String>) -> Hello {
    let Identity { cluster, node, incarnation } = *identity;
    let dialler = Dialler::Peer { node, incarnation, address };
    Hello { version: PROTOCOL_VERSION, cluster: Some(cluster), to: Some(to), dialler }
}

/// What a client says. It may ask whoever is there, of whichever cluster.
pub(crate) fn hello_of_client(cluster: Option<ClusterId>, to: Option<NodeId>) -> Hello {
    Hello { version: PROTOCOL_VERSION, cluster, to, dialler: Dialler::Client }
}
