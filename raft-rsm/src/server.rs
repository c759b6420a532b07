//! Answers the requests of clients: the other side of [`crate::Client`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;
use raft_core::NodeId;
use serde::Serialize;

use crate::consistency::Consistency;
use crate::driver::intake::{Intake, Request};
use crate::driver::waiters::Proposer;
use crate::error::ProposeError;
use crate::membership::MembershipChange;
use crate::payload::{Draft, Known};
use crate::protocol::{self, Failure, Kind, ProtocolError};
use crate::sessions::{ONCE_KEY_BYTES_MAX, SessionId, SessionRequest, TableLimits};
use crate::status::Status;
use crate::transport::{Reply, Service};
use crate::watch::Watch;
use crate::{Admission, StateMachine};

/// The way back to whoever asked: a caller in this process, or a client.
#[derive(Debug)]
pub(crate) enum Responder<T, E> {
    Local(oneshot::Sender<Result<T, E>>),
    Remote(Reply),
}

impl<T, E> Responder<T, E> {
    /// Whether a client asks, who can turn to another node.
    pub(crate) fn is_remote(&self) -> bool {
        match self {
            Responder::Local(_) => false,
            Responder::Remote(_) => true,
        }
    }
}

impl<T: Serialize, E: Into<Failure>> Responder<T, E> {
    /// Answers. Whoever has stopped waiting is not told.
    pub(crate) fn answer(self, result: Result<T, E>) {
        match self {
            Responder::Local(sender) => {
                let _ = sender.send(result);
            }
            Responder::Remote(reply) => {
                let answer = match result {
                    Ok(response) => protocol::encode_response(Ok(&response)),
                    Err(error) => protocol::encode_response::<T>(Err(error.into())),
                };
                reply.send(answer);
            }
        }
    }
}

/// Takes requests from the transport to the driver.
pub(crate) struct Server<M: StateMachine> {
    intake: Arc<Intake<M>>,
    status: Arc<Watch<Status>>,
    admission: Admission<M::Command>,
    session_limits: TableLimits,
    name_limits: TableLimits,
}

impl<M: StateMachine> Server<M> {
    pub(crate) fn new(
        intake: Arc<Intake<M>>,
        status: Arc<Watch<Status>>,
        admission: Admission<M::Command>,
        session_limits: TableLimits,
        name_limits: TableLimits,
    ) -> Server<M> {
        Server { intake, status, admission, session_limits, name_limits }
    }

    fn take(&self, kind: Kind, body: &[u8], reply: Reply) -> Result<(), (ProtocolError, Reply)> {
        match kind {
            Kind::Propose => return self.propose(Known::Not, body, reply),
            Kind::ProposeInSession => match protocol::read_first::<SessionRequest>(body) {
                Ok((request, command)) => {
                    return self.propose(Known::InSession(request), command, reply);
                }
                Err(error) => return Err((error, reply)),
            },
            Kind::ProposeOnce => match protocol::read_first::<Vec<u8>>(body) {
                Ok((name, command)) => match check_name(&name) {
                    Ok(()) => {
                        let known = Known::ByName(&name, self.name_limits);
                        return self.propose(known, command, reply);
                    }
                    Err(problem) => return Err((ProtocolError::Body(problem), reply)),
                },
                Err(error) => return Err((error, reply)),
            },
            Kind::OpenSession => {
                let respond = Proposer::Session(Responder::Remote(reply));
                let draft = Draft::open(self.session_limits);
                self.intake.request(Request::Propose { draft, respond });
            }
            Kind::CloseSession => match protocol::read::<SessionId>(body) {
                Ok(session) => {
                    let respond = Proposer::Session(Responder::Remote(reply));
                    let draft = Draft::close(session);
                    self.intake.request(Request::Propose { draft, respond });
                }
                Err(error) => return Err((error, reply)),
            },
            Kind::Query(consistency) => {
                return self.query(consistency, Duration::ZERO, body, reply);
            }
            Kind::QueryWhenReady => match protocol::read_first::<Duration>(body) {
                Ok((wait, query)) => {
                    return self.query(Consistency::Linearizable, wait, query, reply);
                }
                Err(error) => return Err((error, reply)),
            },
            Kind::Change => match protocol::read::<MembershipChange>(body) {
                Ok(change) => {
                    self.intake
                        .request(Request::Change { change, respond: Responder::Remote(reply) });
                }
                Err(error) => return Err((error, reply)),
            },
            Kind::Transfer => match protocol::read::<Option<NodeId>>(body) {
                Ok(to) => {
                    self.intake
                        .request(Request::Transfer { to, respond: Responder::Remote(reply) });
                }
                Err(error) => return Err((error, reply)),
            },
            Kind::Snapshot => self.intake.request(Request::Snapshot(Responder::Remote(reply))),
            Kind::Status => {
                let answer = self.status.read(|status| protocol::encode_response(Ok(status)));
                reply.send(answer);
            }
        }
        Ok(())
    }

    fn propose(
        &self,
        known: Known<'_>,
        body: &[u8],
        reply: Reply,
    ) -> Result<(), (ProtocolError, Reply)> {
        // What does not decode here would stop every node once it is committed.
        let command = match protocol::read::<M::Command>(body) {
            Ok(command) => command,
            Err(error) => return Err((error, reply)),
        };
        let respond = Responder::Remote(reply);
        match (self.admission)(&command) {
            Ok(()) => {
                let draft = Draft::encoded_command(known, body);
                let respond = Proposer::Command(respond);
                self.intake.request(Request::Propose { draft, respond });
            }
            Err(problem) => respond.answer(Err(ProposeError::NotAdmitted { problem })),
        }
        Ok(())
    }

    fn query(
        &self,
        consistency: Consistency,
        wait: Duration,
        body: &[u8],
        reply: Reply,
    ) -> Result<(), (ProtocolError, Reply)> {
        let query = match protocol::read::<M::Query>(body) {
            Ok(query) => query,
            Err(error) => return Err((error, reply)),
        };
        let len_bytes = size_of::<M::Query>().max(body.len());
        let respond = Responder::Remote(reply);
        self.intake.request(Request::Query { query, consistency, wait, len_bytes, respond });
        Ok(())
    }
}

/// A name for a command can be kept.
///
/// # Errors
/// Why not.
pub(crate) fn check_name(name: &[u8]) -> Result<(), String> {
    match name.len() {
        0 => Err("the name of a command is empty".to_owned()),
        1..=ONCE_KEY_BYTES_MAX => Ok(()),
        len => {
            Err(format!("the name of a command has {len} bytes, the limit is {ONCE_KEY_BYTES_MAX}"))
        }
    }
}

impl<M: StateMachine> Service for Server<M> {
    fn call(&self, request: Bytes, reply: Reply) {
        let refused = match protocol::decode_request(&request) {
            Ok((kind, body)) => self.take(kind, body, reply),
            Err(error) => Err((error, reply)),
        };
        if let Err((error, reply)) = refused {
            let failure = Failure::Unreadable { problem: error.to_string() };
            reply.send(protocol::encode_response::<()>(Err(failure)));
        }
    }
}
