//! What clients and nodes say to each other: `[protocol version: u8][kind: u8][body: postcard]`, both ways.

use bytes::Bytes;
use raft_core::NodeId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::consistency::Consistency;
use crate::error::{
    MembershipError, ProposeError, QueryError, SnapshotError, TransferError, Uncertain,
};
use crate::payload::decode_body;

const VERSION: u8 = 1;

const PROPOSE: u8 = 1;
const QUERY: u8 = 2;
const STATUS: u8 = 3;
const QUERY_BY_LEASE: u8 = 4;
const QUERY_STALE: u8 = 5;
const CHANGE: u8 = 6;
const TRANSFER: u8 = 7;
const SNAPSHOT: u8 = 8;
const OPEN_SESSION: u8 = 9;
const CLOSE_SESSION: u8 = 10;
const PROPOSE_IN_SESSION: u8 = 11;
const PROPOSE_ONCE: u8 = 12;
const QUERY_WHEN_READY: u8 = 13;

const ANSWERED: u8 = 1;
const FAILED: u8 = 2;

/// What a request asks for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The body is a command.
    Propose,
    /// The body is a query.
    Query(Consistency),
    /// The body is empty.
    Status,
    /// The body is a [`crate::MembershipChange`].
    Change,
    /// The body is a node's id, or none.
    Transfer,
    /// The body is empty.
    Snapshot,
    /// The body is empty.
    OpenSession,
    /// The body is a [`crate::SessionId`].
    CloseSession,
    /// The body is a [`crate::SessionRequest`] and a command.
    ProposeInSession,
    /// The body is a name and a command.
    ProposeOnce,
    /// The body is a duration and a query.
    QueryWhenReady,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Propose => PROPOSE,
            Kind::Query(Consistency::Linearizable) => QUERY,
            Kind::Query(Consistency::Lease) => QUERY_BY_LEASE,
            Kind::Query(Consistency::Stale) => QUERY_STALE,
            Kind::Status => STATUS,
            Kind::Change => CHANGE,
            Kind::Transfer => TRANSFER,
            Kind::Snapshot => SNAPSHOT,
            Kind::OpenSession => OPEN_SESSION,
            Kind::CloseSession => CLOSE_SESSION,
            Kind::ProposeInSession => PROPOSE_IN_SESSION,
            Kind::ProposeOnce => PROPOSE_ONCE,
            Kind::QueryWhenReady => QUERY_WHEN_READY,
        }
    }
}

/// Why a request has no response, as it travels. Fields and variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    NotLeader { leader: Option<NodeId> },
    Busy,
    TooLarge { len: u64, max: u64 },
    Superseded,
    Stopped,
    Maybe(Uncertain),
    TimedOut,
    Unreadable { problem: String },
    NotAdmitted { problem: String },
    Membership(MembershipError),
    Transfer(TransferError),
    Snapshot(SnapshotError),
    SessionExpired,
    SessionsFull,
    SessionBusy,
    ResponseForgotten,
    NameTaken,
}

impl From<ProposeError> for Failure {
    fn from(error: ProposeError) -> Failure {
        match error {
            ProposeError::NotLeader { leader } => Failure::NotLeader { leader },
            ProposeError::Busy => Failure::Busy,
            ProposeError::TooLarge { len, max } => {
                Failure::TooLarge { len: len as u64, max: max as u64 }
            }
            ProposeError::Serialize { problem } => Failure::Unreadable { problem },
            ProposeError::NotAdmitted { problem } => Failure::NotAdmitted { problem },
            ProposeError::Superseded => Failure::Superseded,
            ProposeError::Stopped => Failure::Stopped,
            ProposeError::Maybe(why) => Failure::Maybe(why),
            ProposeError::SessionExpired => Failure::SessionExpired,
            ProposeError::SessionsFull => Failure::SessionsFull,
            ProposeError::SessionBusy => Failure::SessionBusy,
            ProposeError::ResponseForgotten => Failure::ResponseForgotten,
            ProposeError::NameTaken => Failure::NameTaken,
        }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Failure {
        match error {
            QueryError::NotLeader { leader } => Failure::NotLeader { leader },
            QueryError::Busy => Failure::Busy,
            QueryError::Superseded => Failure::Superseded,
            QueryError::TimedOut => Failure::TimedOut,
            QueryError::Stopped => Failure::Stopped,
        }
    }
}

impl From<MembershipError> for Failure {
    fn from(error: MembershipError) -> Failure {
        match error {
            MembershipError::NotLeader { leader } => Failure::NotLeader { leader },
            MembershipError::Busy => Failure::Busy,
            MembershipError::Stopped => Failure::Stopped,
            MembershipError::InProgress { .. }
            | MembershipError::Invalid { .. }
            | MembershipError::NotCaughtUp { .. }
            | MembershipError::NotHeard { .. }
            | MembershipError::Maybe(_) => Failure::Membership(error),
        }
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Failure {
        match error {
            TransferError::NotLeader { leader } => Failure::NotLeader { leader },
            TransferError::Busy => Failure::Busy,
            TransferError::Stopped => Failure::Stopped,
            TransferError::LeadsAlready
            | TransferError::InProgress { .. }
            | TransferError::NoCandidate
            | TransferError::TimedOut { .. } => Failure::Transfer(error),
        }
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Failure {
        match error {
            SnapshotError::Busy => Failure::Busy,
            SnapshotError::Stopped => Failure::Stopped,
            SnapshotError::NothingApplied | SnapshotError::TimedOut => Failure::Snapshot(error),
        }
    }
}

/// Why bytes from the other side make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error("the message is too short")]
    TooShort,
    #[error("it speaks version {0} of the client protocol, this program speaks {VERSION}")]
    Version(u8),
    #[error("message kind {0} is unknown")]
    UnknownKind(u8),
    #[error("{0}")]
    Body(String),
}

pub(crate) fn encode_request<B: Serialize>(
    kind: Kind,
    body: Option<&B>,
) -> Result<Bytes, postcard::Error> {
    let buffer = vec![VERSION, kind.byte()];
    let buffer = match body {
        Some(body) => postcard::to_extend(body, buffer)?,
        None => buffer,
    };
    Ok(Bytes::from(buffer))
}

/// A request that begins with `first`, before what is encoded already.
pub(crate) fn encode_request_before<B: Serialize>(
    kind: Kind,
    first: &B,
    encoded: &[u8],
) -> Result<Bytes, postcard::Error> {
    let mut buffer = postcard::to_extend(first, vec![VERSION, kind.byte()])?;
    buffer.extend_from_slice(encoded);
    Ok(Bytes::from(buffer))
}

pub(crate) fn decode_request(request: &[u8]) -> Result<(Kind, &[u8]), ProtocolError> {
    let (kind, body) = split(request)?;
    let kind = match kind {
        PROPOSE => Kind::Propose,
        QUERY => Kind::Query(Consistency::Linearizable),
        QUERY_BY_LEASE => Kind::Query(Consistency::Lease),
        QUERY_STALE => Kind::Query(Consistency::Stale),
        STATUS => Kind::Status,
        CHANGE => Kind::Change,
        TRANSFER => Kind::Transfer,
        SNAPSHOT => Kind::Snapshot,
        OPEN_SESSION => Kind::OpenSession,
        CLOSE_SESSION => Kind::CloseSession,
        PROPOSE_IN_SESSION => Kind::ProposeInSession,
        PROPOSE_ONCE => Kind::ProposeOnce,
        QUERY_WHEN_READY => Kind::QueryWhenReady,
        kind => return Err(ProtocolError::UnknownKind(kind)),
    };
    Ok((kind, body))
}

/// A response that cannot be serialized is told as a failure: what was asked for has been done.
pub(crate) fn encode_response<T: Serialize>(result: Result<&T, Failure>) -> Bytes {
    let encoded = match result {
        Ok(response) => postcard::to_extend(response, vec![VERSION, ANSWERED]),
        Err(failure) => postcard::to_extend(&failure, vec![VERSION, FAILED]),
    };
    match encoded {
        Ok(buffer) => Bytes::from(buffer),
        // Neither kind nor body: a client takes it for an answer that it cannot read.
        Err(_) => Bytes::from_static(&[VERSION]),
    }
}

pub(crate) fn decode_response(response: &[u8]) -> Result<Result<&[u8], Failure>, ProtocolError> {
    let (kind, body) = split(response)?;
    match kind {
        ANSWERED => Ok(Ok(body)),
        FAILED => Ok(Err(read(body)?)),
        kind => Err(ProtocolError::UnknownKind(kind)),
    }
}

/// Reads a whole body.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ProtocolError> {
    decode_body(body).map_err(|error| ProtocolError::Body(error.to_string()))
}

/// Reads what a body begins with. Returns it and the rest.
pub(crate) fn read_first<'b, T: Deserialize<'b>>(
    body: &'b [u8],
) -> Result<(T, &'b [u8]), ProtocolError> {
    postcard::take_from_bytes(body).map_err(|error| ProtocolError::Body(error.to_string()))
}

fn split(message: &[u8]) -> Result<(u8, &[u8]), ProtocolError> {
    match message {
        [VERSION, kind, body @ ..] => Ok((*kind, body)),
        [] | [VERSION] => Err(ProtocolError::TooShort),
        [version, ..] => Err(ProtocolError::Version(*version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_responses_come_back() {
        let request = encode_request(Kind::Propose, Some(&17u64)).unwrap();
        let (kind, body) = decode_request(&request).unwrap();
        assert_eq!((kind, read::<u64>(body).unwrap()), (Kind::Propose, 17));
        let status = encode_request::<()>(Kind::Status, None).unwrap();
        assert_eq!(decode_request(&status).unwrap(), (Kind::Status, [].as_slice()));

        let response = encode_response(Ok(&"yes".to_owned()));
        let body = decode_response(&response).unwrap().unwrap();
        assert_eq!(read::<String>(body).unwrap(), "yes");
        let failure = Failure::NotLeader { leader: Some(NodeId(3)) };
        let response = encode_response::<()>(Err(failure.clone()));
        assert_eq!(decode_response(&response).unwrap(), Err(failure));
    }

    #[test]
    fn nonsense_and_other_versions_are_errors() {
        assert_eq!(decode_request(&[]), Err(ProtocolError::TooShort));
        assert_eq!(decode_request(&[VERSION]), Err(ProtocolError::TooShort));
        assert_eq!(decode_request(&[9, 1, 1]), Err(ProtocolError::Version(9)));
        assert_eq!(decode_request(&[VERSION, 77]), Err(ProtocolError::UnknownKind(77)));
        assert!(decode_response(&[VERSION, FAILED, 200]).is_err());
    }
}
