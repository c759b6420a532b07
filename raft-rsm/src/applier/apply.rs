//! The layer between the log and the state machine: the log's time, and commands that come twice (diss. §6.3).

use std::sync::Arc;

use raft_core::{Entry, Payload};

use super::Applier;
use crate::driver::waiters::Proposer;
use crate::error::{ProposeError, StopReason, Uncertain};
use crate::payload::{self, Content, PayloadError};
use crate::sessions::{Place, SessionId, SessionRefusal, Turn};
use crate::{Context, StateMachine};

/// What an entry has led to.
enum Outcome<M: StateMachine> {
    Response(M::Response),
    /// The same as before.
    Again(Arc<[u8]>),
    Session(SessionId),
    Refused(SessionRefusal),
    /// Nobody waits for it.
    TimeMark,
}

impl<M: StateMachine> Applier<M> {
    pub(super) fn apply_one(&mut self, entry: &Entry) -> Result<(), StopReason> {
        let bytes = match &entry.payload {
            Payload::Command(bytes) => bytes,
            Payload::Empty | Payload::Configuration(_) => return Ok(()),
        };
        let unreadable = |error| StopReason::Unreadable {
            problem: format!("entry {} is committed but cannot be read: {error}", entry.id),
        };
        let payload = payload::Payload::decode(bytes).map_err(unreadable)?;
        self.time = self.time.max(payload.time);
        let context = Context { index: entry.id.index, term: entry.id.term, time: self.time };
        self.sessions.expire(self.time);
        self.machine.advance(&context);
        let outcome = self.carry_out_one(&context, &payload.content).map_err(unreadable)?;
        // What the replicas compare: a refusal, too, shows whether their tables are alike.
        match &outcome {
            Outcome::Response(response) => {
                self.checksum.applied(&context, payload.body, response);
            }
            Outcome::Again(answer) => self.checksum.applied(&context, payload.body, answer),
            Outcome::Session(id) => self.checksum.applied(&context, payload.body, &id.0),
            Outcome::Refused(why) => {
                self.checksum.applied(&context, payload.body, &(*why as u8));
            }
            Outcome::TimeMark => self.checksum.applied(&context, payload.body, &()),
        }
        if let Some(proposer) = self.waiter(entry.id.index) {
            outcome.tell(proposer);
        }
        Ok(())
    }

    fn carry_out_one(
        &mut self,
        context: &Context,
        content: &Content<'_>,
    ) -> Result<Outcome<M>, PayloadError> {
        let session = |result: Result<SessionId, SessionRefusal>| match result {
            Ok(id) => Outcome::Session(id),
            Err(why) => Outcome::Refused(why),
        };
        match *content {
            Content::Command(command) => {
                let command = payload::decode_body(command)?;
                Ok(Outcome::Response(self.machine.apply(context, command)))
            }
            Content::TimeMark => Ok(Outcome::TimeMark),
            Content::Open(limits) => {
                Ok(session(self.sessions.open(context.index, context.time, limits)))
            }
            Content::Close(id) => {
                self.sessions.close(id);
                Ok(Outcome::Session(id))
            }
            Content::InSession { request, command } => {
                let turn = self.sessions.request(request, context.time);
                let place = Place::Session(request.session, request.sequence);
                self.take_turn(context, turn, place, command)
            }
            Content::Named { name, limits, command } => {
                let turn = self.sessions.named(name, command, context.time, limits);
                self.take_turn(context, turn, Place::Name(name), command)
            }
        }
    }

    /// Carries the command out if it comes for the first time.
    fn take_turn(
        &mut self,
        context: &Context,
        turn: Turn,
        place: Place<'_>,
        command: &[u8],
    ) -> Result<Outcome<M>, PayloadError> {
        match turn {
            Turn::First => {
                let response = self.machine.apply(context, payload::decode_body(command)?);
                // One that cannot be serialized reaches nobody elsewhere either.
                let answer = postcard::to_allocvec(&response).ok();
                self.sessions.answered(place, answer.as_deref());
                Ok(Outcome::Response(response))
            }
            Turn::Again(answer) => Ok(Outcome::Again(answer)),
            Turn::Refused(why) => Ok(Outcome::Refused(why)),
        }
    }
}

impl<M: StateMachine> Outcome<M> {
    fn tell(self, proposer: Proposer<M>) {
        match (self, proposer) {
            (Outcome::Response(response), Proposer::Command(respond)) => {
                respond.answer(Ok(response))
            }
            (Outcome::Again(answer), Proposer::Command(respond)) => {
                // A response that another version of the program has given may be unreadable for this one.
                let response = payload::decode_body(&answer);
                respond.answer(response.map_err(|_| SessionRefusal::Forgotten.into()));
            }
            (Outcome::Session(id), Proposer::Session(respond)) => respond.answer(Ok(id)),
            (Outcome::Refused(why), proposer) => proposer.fail(why.into()),
            // Whoever waits for an entry has proposed it, so it leads to what is waited for.
            (
                Outcome::Response(_) | Outcome::Again(_) | Outcome::Session(_) | Outcome::TimeMark,
                proposer,
            ) => {
                proposer.fail(ProposeError::Maybe(Uncertain::LostLead));
            }
        }
    }
}
