//! One request to one node, and what came of it.

use std::time::Duration;

use bytes::Bytes;
use raft_core::NodeId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ClientError;
use crate::error::ProposeError;
use crate::protocol::{self, Failure, Kind};
use crate::status::Status;
use crate::transport::{CallError, Connector};

/// What one try came to.
pub(super) enum Try {
    Answered(Bytes),
    /// Definitely not done; the node names another one.
    Elsewhere(NodeId),
    /// Definitely not done: the node cannot be reached.
    Unreachable(String),
    /// Definitely not done; it may be done by the next node ...
    Next(String),
    /// ... or by this one, a little later ...
    Later(String),
    /// ... or once there is room for it.
    NoRoom(String),
    /// Nobody knows: the node says so (`is_answer`), or nothing at all.
    Maybe {
        reason: String,
        is_answer: bool,
    },
    Fatal(ClientError),
}

/// How a node sees itself and its cluster.
pub(crate) async fn status_of(
    connector: &dyn Connector,
    node: NodeId,
    timeout: Duration,
) -> Result<Status, ClientError> {
    ask_once(connector, node, encode_bare(Kind::Status)?, timeout).await
}

/// Asks one node, and no other.
pub(super) async fn ask_once<T: DeserializeOwned>(
    connector: &dyn Connector,
    node: NodeId,
    request: Bytes,
    timeout: Duration,
) -> Result<T, ClientError> {
    match try_once(connector, node, request, timeout).await {
        Try::Answered(answer) => decode(&answer),
        Try::Elsewhere(other) => {
            Err(ClientError::Unavailable { reason: format!("sent on to {other}") })
        }
        Try::Unreachable(reason)
        | Try::Next(reason)
        | Try::Later(reason)
        | Try::NoRoom(reason)
        | Try::Maybe { reason, is_answer: _ } => Err(ClientError::Unavailable { reason }),
        Try::Fatal(error) => Err(error),
    }
}

pub(super) async fn try_once(
    connector: &dyn Connector,
    node: NodeId,
    request: Bytes,
    timeout: Duration,
) -> Try {
    let answer = match connector.call(node, request, timeout).await {
        Ok(answer) => answer,
        Err(error @ CallError::NotSent { .. }) => return Try::Unreachable(error.to_string()),
        Err(error @ CallError::MaybeSent { .. }) => {
            return Try::Maybe { reason: error.to_string(), is_answer: false };
        }
    };
    match protocol::decode_response(&answer) {
        Ok(Ok(body)) => Try::Answered(answer.slice_ref(body)),
        Ok(Err(failure)) => failed(node, failure),
        Err(error) => Try::Fatal(ClientError::Unreadable { reason: error.to_string() }),
    }
}

/// The error, unless an earlier try may have taken effect.
pub(super) fn unless(maybe: Option<String>, error: ClientError) -> ClientError {
    maybe.map_or(error, |reason| ClientError::Maybe { reason })
}

fn failed(node: NodeId, failure: Failure) -> Try {
    match failure {
        Failure::NotLeader { leader: Some(leader) } => Try::Elsewhere(leader),
        Failure::NotLeader { leader: None } => Try::Next(format!("node {node} knows no leader")),
        Failure::Busy => Try::Later(format!("node {node} is busy")),
        Failure::TooLarge { len, max } => Try::Fatal(ClientError::TooLarge { len, max }),
        Failure::Superseded => Try::Next(format!("node {node} lost the lead")),
        Failure::Stopped => Try::Next(format!("node {node} has stopped")),
        Failure::Maybe(why) => {
            Try::Maybe { reason: format!("node {node}: {why}"), is_answer: true }
        }
        Failure::TimedOut => {
            Try::Maybe { reason: format!("node {node} could not answer in time"), is_answer: true }
        }
        Failure::NotAdmitted { problem } => {
            Try::Fatal(ClientError::NotAdmitted { reason: problem })
        }
        Failure::Unreadable { problem } => Try::Fatal(ClientError::Refused { reason: problem }),
        Failure::Membership(error) => Try::Fatal(ClientError::Membership(error)),
        Failure::Transfer(error) => Try::Fatal(ClientError::Transfer(error)),
        Failure::Snapshot(error) => Try::Fatal(ClientError::Snapshot(error)),
        Failure::SessionExpired => Try::Fatal(ClientError::SessionExpired),
        Failure::SessionsFull => Try::NoRoom(ProposeError::SessionsFull.to_string()),
        Failure::SessionBusy => Try::Later("the session has too many under way".to_owned()),
        Failure::ResponseForgotten => Try::Fatal(ClientError::Maybe {
            reason: "an earlier try was carried out, but its response is not kept".to_owned(),
        }),
        Failure::NameTaken => Try::Fatal(ClientError::NameTaken),
    }
}

pub(super) fn encode<T: Serialize>(kind: Kind, body: &T) -> Result<Bytes, ClientError> {
    protocol::encode_request(kind, Some(body))
        .map_err(|error| ClientError::Refused { reason: error.to_string() })
}

/// A request that says nothing but its kind.
pub(super) fn encode_bare(kind: Kind) -> Result<Bytes, ClientError> {
    protocol::encode_request::<()>(kind, None)
        .map_err(|error| ClientError::Refused { reason: error.to_string() })
}

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    protocol::read(body).map_err(|error| ClientError::Unreadable { reason: error.to_string() })
}
