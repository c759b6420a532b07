//! A state machine as its own specification: replicated, it must answer as one copy of it would.

use std::fmt::{self, Debug};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use raft_rsm::raft_core::{LogIndex, Term};
use raft_rsm::{Context, StateMachine};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Model;
use crate::event::Digest;

/// What every command is told about where and when it is applied. The history does not know the true values.
const CONTEXT: Context = Context { index: LogIndex(1), term: Term(1), time: Duration::ZERO };

/// A command or a query, as it travels: in postcard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// A command.
    Command(Bytes),
    /// A query.
    Query(Bytes),
}

impl Request {
    /// A command of `M`.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn command<M: StateMachine>(command: &M::Command) -> Result<Request, postcard::Error> {
        encode(command).map(Request::Command)
    }

    /// A query of `M`.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn query<M: StateMachine>(query: &M::Query) -> Result<Request, postcard::Error> {
        encode(query).map(Request::Query)
    }

    fn decode<M: StateMachine>(&self) -> Result<Decoded<M>, postcard::Error> {
        match self {
            Request::Command(bytes) => postcard::from_bytes(bytes).map(Decoded::Command),
            Request::Query(bytes) => postcard::from_bytes(bytes).map(Decoded::Query),
        }
    }
}

/// What a [`Request`] says.
pub enum Decoded<M: StateMachine> {
    /// A command.
    Command(M::Command),
    /// A query.
    Query(M::Query),
}

/// A snapshot's image. Machines are in the same state if their images are the same; a machine that writes one state
/// in many ways (from a hash map in any order, say) is checked as well, only more slowly.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Image(Bytes);

impl Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an image of {} bytes, digest {}", self.0.len(), Digest::of(&self.0))
    }
}

/// A state machine as its own specification: each step restores a fresh machine from an image, carries out the request,
/// compares the encoded answer with the one observed, and takes an image again. What the machine itself gets wrong,
/// it gets wrong here as well; what is found is where replicas together behave unlike one machine alone.
///
/// - It answers [`Model::Output`] in postcard, as it travels.
/// - Answers must not depend on the [`Context`]: the index, term and time of a command are not in the history. They
///   are always the same here.
/// - Each state reached is kept for the time of the check: images should be small, or parted by a key.
pub struct MachineModel<M: StateMachine> {
    machine: Box<dyn Fn() -> M + Send + Sync>,
    key: Option<Box<KeyOf<M>>>,
    changes_nothing: Option<Box<ChangesNothing<M>>>,
    describe: Option<Describe<M>>,
}

type KeyOf<M> = dyn Fn(&Decoded<M>) -> Option<String> + Send + Sync;
type ChangesNothing<M> =
    dyn Fn(&<M as StateMachine>::Command, &<M as StateMachine>::Response) -> bool + Send + Sync;

/// How inputs and outputs are shown, where their types can say so.
struct Describe<M: StateMachine> {
    input: fn(&Decoded<M>) -> String,
    output: fn(&Request, &Bytes) -> String,
}

impl<M: StateMachine> MachineModel<M> {
    /// The specification of what `machine` makes: a machine in the state in which a replica begins.
    #[must_use]
    pub fn new(machine: impl Fn() -> M + Send + Sync + 'static) -> MachineModel<M> {
        MachineModel {
            machine: Box::new(machine),
            key: None,
            changes_nothing: None,
            describe: None,
        }
    }

    /// Parts the operations by a key: see [`Model::key`], whose promise it makes. Without it, all are checked together.
    #[must_use]
    pub fn by_key(
        self,
        key: impl Fn(&Decoded<M>) -> Option<String> + Send + Sync + 'static,
    ) -> MachineModel<M> {
        MachineModel { key: Some(Box::new(key)), ..self }
    }

    /// Says which commands are sure to have changed nothing, by their responses: see [`Model::may_change`]. That a
    /// query changes nothing is known.
    #[must_use]
    pub fn changes_nothing_if(
        self,
        changes_nothing: impl Fn(&M::Command, &M::Response) -> bool + Send + Sync + 'static,
    ) -> MachineModel<M> {
        MachineModel { changes_nothing: Some(Box::new(changes_nothing)), ..self }
    }

    /// Lets reports show commands, queries and answers as their types do, and not as bytes.
    #[must_use]
    pub fn readable(self) -> MachineModel<M>
    where
        M::Command: Debug,
        M::Response: Debug,
        M::Query: Debug,
        M::Answer: Debug,
    {
        let input = |input: &Decoded<M>| match input {
            Decoded::Command(command) => format!("{command:?}"),
            Decoded::Query(query) => format!("{query:?}"),
        };
        let output = |request: &Request, output: &Bytes| match request {
            Request::Command(_) => debug_as::<M::Response>(output),
            Request::Query(_) => debug_as::<M::Answer>(output),
        };
        MachineModel { describe: Some(Describe { input, output }), ..self }
    }

    /// The state after a request, and the answer to it.
    fn carry_out(&self, state: &Image, request: &Request) -> Result<(Image, Bytes), Failure> {
        let mut machine = self.restored(state)?;
        match request.decode::<M>()? {
            Decoded::Command(command) => {
                let response = machine.apply(&CONTEXT, command);
                Ok((image(&machine)?, encode(&response)?))
            }
            Decoded::Query(query) => Ok((state.clone(), encode(&machine.query(query))?)),
        }
    }

    fn restored(&self, state: &Image) -> Result<M, Failure> {
        let mut machine = (self.machine)();
        machine.restore(&mut &*state.0).map_err(Failure::Image)?;
        Ok(machine)
    }
}

/// Why a machine cannot be its own specification.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the machine cannot write its snapshot, or cannot read it again: {0}")]
    Image(#[source] io::Error),
    #[error("a request, or the answer to it, cannot be encoded or decoded: {0}")]
    Codec(#[from] postcard::Error),
}

impl<M: StateMachine> Model for MachineModel<M> {
    type Input = Request;
    type Output = Bytes;
    type State = Image;
    type Key = String;

    fn key(&self, input: &Request) -> Option<String> {
        let key = self.key.as_ref()?;
        input.decode::<M>().ok().and_then(|input| key(&input))
    }

    fn initial(&self) -> Image {
        // A machine that cannot write its image is found at the first step, where it can be told.
        image(&(self.machine)()).unwrap_or_else(|_| Image(Bytes::new()))
    }

    fn step(&self, state: &Image, input: &Request, output: Option<&Bytes>) -> Option<Image> {
        let (after, answer) = self.carry_out(state, input).ok()?;
        output.is_none_or(|output| *output == answer).then_some(after)
    }

    fn may_change(&self, input: &Request, output: Option<&Bytes>) -> bool {
        let Request::Command(command) = input else { return false };
        let (Some(changes_nothing), Some(output)) = (&self.changes_nothing, output) else {
            return true;
        };
        match (postcard::from_bytes(command), postcard::from_bytes(output)) {
            (Ok(command), Ok(response)) => !changes_nothing(&command, &response),
            (Err(_), _) | (_, Err(_)) => true,
        }
    }

    fn command_digest(&self, input: &Request) -> Option<Digest> {
        match input {
            Request::Command(command) => Some(Digest::of(command)),
            Request::Query(_) => None,
        }
    }

    fn describe_input(&self, input: &Request) -> String {
        match (&self.describe, input.decode::<M>()) {
            (Some(describe), Ok(decoded)) => (describe.input)(&decoded),
            (Some(_) | None, _) => format!("{input:?}"),
        }
    }

    fn describe_output(&self, input: &Request, output: &Bytes) -> String {
        match &self.describe {
            Some(describe) => (describe.output)(input, output),
            None => format!("{output:?}"),
        }
    }

    fn expected(&self, state: &Image, input: &Request) -> Option<String> {
        Some(match self.carry_out(state, input) {
            Ok((_, answer)) => self.describe_output(input, &answer),
            Err(failure) => failure.to_string(),
        })
    }
}

impl<M: StateMachine> Debug for MachineModel<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineModel").field("by_key", &self.key.is_some()).finish_non_exhaustive()
    }
}

fn image<M: StateMachine>(machine: &M) -> Result<Image, Failure> {
    let mut bytes = Vec::new();
    machine.snapshot().write_to(&mut bytes).map_err(Failure::Image)?;
    Ok(Image(bytes.into()))
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, postcard::Error> {
    postcard::to_allocvec(value).map(Bytes::from)
}

fn debug_as<T: DeserializeOwned + Debug>(bytes: &[u8]) -> String {
    match postcard::from_bytes::<T>(bytes) {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{bytes:?}, which is no answer: {error}"),
    }
}

#[cfg(test)]
mod tests;
