//! What travels, as bytes: for transports of one's own, and for tools that watch the traffic.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::consistency::Consistency;
pub use crate::entry_codec::DecodeEntryError;
use crate::error::MembershipError;
use crate::net::message_codec;
pub use crate::net::message_codec::DecodePacketError;
use crate::protocol::{self, Failure, Kind};
use crate::sessions::{SessionId, SessionRequest};
use crate::transport::Packet;

/// The binary form of a packet, the same on every transport of this crate. Integers are little-endian.
#[must_use]
pub fn encode_packet(packet: &Packet) -> Bytes {
    let mut body = BytesMut::new();
    if let Some(payload) = message_codec::encode_packet(packet, &mut body) {
        body.extend_from_slice(payload);
    }
    body.freeze()
}

/// Reads a packet; `body` is all of it. Payloads share the memory of `body`.
///
/// # Errors
/// The bytes are no packet.
pub fn decode_packet(body: Bytes) -> Result<Packet, DecodePacketError> {
    message_codec::decode_packet(body)
}

/// What a client's request asks for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request<'b> {
    /// That this command, as postcard, is carried out.
    Propose(&'b [u8]),
    /// That this command, as postcard, is carried out exactly once, however often it is sent in this way.
    ProposeKnown {
        /// By what it is known again.
        known: Known<'b>,
        /// The command.
        command: &'b [u8],
    },
    /// That a session is opened or closed.
    Session,
    /// The answer to this query, as postcard.
    Query(&'b [u8]),
    /// How the node is.
    Status,
    /// Anything that an operator asks for: a change of membership, a transfer of the lead, a snapshot.
    Operation,
}

/// By what a command is known again that is sent twice.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Known<'b> {
    /// By its number in a session.
    InSession(SessionId, u64),
    /// By a name of its own.
    ByName(&'b [u8]),
}

/// What a node's answer to a client says.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome<'b> {
    /// The machine's response or answer, or the status, as postcard.
    Answered(&'b [u8]),
    /// *Definitely not*: a command was not carried out, and this transmission never will be.
    Refused,
    /// *Maybe*: a command may have taken effect, or take effect later.
    Maybe,
}

/// Looks into a client's request; `None` if it is none that this version knows.
#[must_use]
pub fn read_request(request: &[u8]) -> Option<Request<'_>> {
    let (kind, body) = protocol::decode_request(request).ok()?;
    Some(match kind {
        Kind::Propose => Request::Propose(body),
        Kind::ProposeInSession => {
            let (request, command) = protocol::read_first::<SessionRequest>(body).ok()?;
            let known = Known::InSession(request.session, request.sequence);
            Request::ProposeKnown { known, command }
        }
        Kind::ProposeOnce => {
            let (name, command) = protocol::read_first::<&[u8]>(body).ok()?;
            Request::ProposeKnown { known: Known::ByName(name), command }
        }
        Kind::OpenSession | Kind::CloseSession => Request::Session,
        Kind::Query(_) => Request::Query(body),
        Kind::QueryWhenReady => Request::Query(protocol::read_first::<Duration>(body).ok()?.1),
        Kind::Status => Request::Status,
        Kind::Change | Kind::Transfer | Kind::Snapshot => Request::Operation,
    })
}

/// How fresh the answer to a client's query has to be; `None` if the request is no query.
#[must_use]
pub fn read_consistency(request: &[u8]) -> Option<Consistency> {
    match protocol::decode_request(request).ok()? {
        (Kind::Query(consistency), _) => Some(consistency),
        (Kind::QueryWhenReady, _) => Some(Consistency::Linearizable),
        (
            Kind::Propose
            | Kind::ProposeInSession
            | Kind::ProposeOnce
            | Kind::OpenSession
            | Kind::CloseSession
            | Kind::Status
            | Kind::Change
            | Kind::Transfer
            | Kind::Snapshot,
            _,
        ) => None,
    }
}

/// Looks into a node's answer; `None` if it is none that this version knows.
#[must_use]
pub fn read_answer(answer: &[u8]) -> Option<Outcome<'_>> {
    Some(match protocol::decode_response(answer).ok()? {
        Ok(body) => Outcome::Answered(body),
        Err(
            Failure::Maybe(_)
            | Failure::TimedOut
            | Failure::ResponseForgotten
            | Failure::Membership(MembershipError::Maybe(_)),
        ) => Outcome::Maybe,
        Err(
            Failure::NotLeader { .. }
            | Failure::Busy
            | Failure::TooLarge { .. }
            | Failure::Superseded
            | Failure::Stopped
            | Failure::Unreadable { .. }
            | Failure::NotAdmitted { .. }
            | Failure::Membership(_)
            | Failure::Transfer(_)
            | Failure::Snapshot(_)
            | Failure::SessionExpired
            | Failure::SessionsFull
            | Failure::SessionBusy
            | Failure::NameTaken,
        ) => Outcome::Refused,
    })
}

#[cfg(test)]
mod tests {
    use raft_core::NodeId;

    use super::*;
    use crate::error::Uncertain;
    use crate::transport::{SnapshotResponse, SnapshotStatus};

    #[test]
    fn a_packet_comes_back() {
        let (from, to) = (NodeId(1), NodeId(2));
        let status = SnapshotStatus::Continue { reception: 5, offset: 7, held: vec![9] };
        let response = SnapshotResponse { from, to, transfer: 3, status };
        let packet = Packet::SnapshotResponse(response);
        assert_eq!(decode_packet(encode_packet(&packet)), Ok(packet));
    }

    #[test]
    fn requests_and_answers_show_what_they_are_about() {
        let request = protocol::encode_request(Kind::Propose, Some(&5u8)).unwrap();
        assert_eq!(read_request(&request), Some(Request::Propose(&[5])));
        let answer = protocol::encode_response(Ok(&6u8));
        assert_eq!(read_answer(&answer), Some(Outcome::Answered(&[6])));
        let answer = protocol::encode_response::<()>(Err(Failure::Superseded));
        assert_eq!(read_answer(&answer), Some(Outcome::Refused));
        let answer = protocol::encode_response::<()>(Err(Failure::Maybe(Uncertain::TimedOut)));
        assert_eq!(read_answer(&answer), Some(Outcome::Maybe));
        assert_eq!((read_request(&[]), read_answer(&[9, 9])), (None, None));
        let session = SessionRequest { session: SessionId(3), sequence: 17, answered_below: 4 };
        let sent = protocol::encode_request_before(Kind::ProposeInSession, &session, &[5]).unwrap();
        let known = Known::InSession(SessionId(3), 17);
        assert_eq!(read_request(&sent), Some(Request::ProposeKnown { known, command: &[5] }));
        let sent = protocol::encode_request(Kind::ProposeOnce, Some(&(b"me".as_slice(), 5u8)));
        let known = Known::ByName(b"me");
        let named = Request::ProposeKnown { known, command: &[5] };
        assert_eq!(read_request(&sent.unwrap()), Some(named));
        let waits = (Duration::from_secs(1), 5u8);
        let waits = protocol::encode_request(Kind::QueryWhenReady, Some(&waits)).unwrap();
        assert_eq!(read_request(&waits), Some(Request::Query(&[5])));
        assert_eq!(read_consistency(&waits), Some(Consistency::Linearizable));
        assert_eq!(read_consistency(&request), None);
        for consistency in [Consistency::Linearizable, Consistency::Lease, Consistency::Stale] {
            let query = protocol::encode_request(Kind::Query(consistency), Some(&5u8)).unwrap();
            assert_eq!(read_consistency(&query), Some(consistency));
        }
    }
}
