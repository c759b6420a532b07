//! The machine and the workload of the simulator's own swarm: versioned registers, written one version at a time.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use raft_rsm::{ClientError, Context, SnapshotView, StateMachine};
use serde::{Deserialize, Serialize};

use crate::event::Digest;
use crate::history::Ended;
use crate::model::register::{Reply, Request, VersionedStore};
use crate::workload::{Factory, Session, Workload, command_failed};

/// Registers, each with a version that counts its writes.
#[derive(Clone, Debug, Default)]
pub struct Registers {
    registers: BTreeMap<u8, Register>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Register {
    version: u64,
    value: Vec<u8>,
}

/// Writes a register if it has this version; 0 if it was never written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Write {
    /// Which one.
    pub register: u8,
    /// The version that it must have.
    pub version: u64,
    /// What to write.
    pub value: Vec<u8>,
}

/// What came of a [`Write`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Written {
    /// Done: this is the new version.
    Done(u64),
    /// Not done: it has this version.
    Version(u64),
}

impl StateMachine for Registers {
    type Command = Write;
    type Response = Written;
    /// Which register.
    type Query = u8;
    /// Its version and value.
    type Answer = Option<(u64, Vec<u8>)>;

    fn apply(&mut self, _: &Context, write: Write) -> Written {
        let Write { register, version, value } = write;
        let current = self.registers.get(&register).map_or(0, |register| register.version);
        if current != version {
            return Written::Version(current);
        }
        self.registers.insert(register, Register { version: version + 1, value });
        Written::Done(version + 1)
    }

    fn query(&self, register: u8) -> Option<(u64, Vec<u8>)> {
        self.registers.get(&register).map(|register| (register.version, register.value.clone()))
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        let registers = self.registers.clone();
        Box::new(move |image: &mut dyn io::Write| {
            let bytes = postcard::to_allocvec(&registers).map_err(io::Error::other)?;
            image.write_all(&bytes)
        })
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        image.read_to_end(&mut bytes)?;
        self.registers = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
        Ok(())
    }
}

/// Clients that read and write a few registers, at the version that they believe in.
#[derive(Clone, Debug)]
pub struct ReadsAndWrites {
    /// How many registers there are.
    pub registers: u8,
    /// The longest value, in bytes.
    pub value_bytes_max: usize,
}

impl Default for ReadsAndWrites {
    /// Five registers, values of up to 100 bytes.
    fn default() -> ReadsAndWrites {
        ReadsAndWrites { registers: 5, value_bytes_max: 100 }
    }
}

#[async_trait]
impl Workload for ReadsAndWrites {
    type Machine = Registers;
    type Model = VersionedStore<u8, Digest>;

    fn model(&self, _: &Factory<Registers>) -> VersionedStore<u8, Digest> {
        VersionedStore::new()
    }

    fn state(&self, machine: &Registers) -> Option<Digest> {
        Some(Digest::of_value(&machine.registers))
    }

    /// Reads a register, and mostly writes it then at the version that it had.
    async fn operation(&self, session: &mut Session<ReadsAndWrites>) {
        let register = u8::try_from(session.random().index(self.registers.into())).unwrap_or(0);
        let read = read(session, register).await;
        let Ended::Answered(Reply::Value(found)) = read else { return };
        if session.random().chance(0.2) {
            return;
        }
        let version = found.map_or(0, |(version, _)| version);
        let mut value = vec![0; session.random().index(self.value_bytes_max + 1)];
        // No two writes are alike.
        value.extend_from_slice(&session.number().to_le_bytes());
        value.extend_from_slice(&session.begun().to_le_bytes());
        if session.random().chance(0.5) {
            write(session, Write { register, version, value }).await;
        } else {
            write_until_answered(session, Write { register, version, value }).await;
        }
    }
}

type Outcome = Ended<Reply<Digest>>;

async fn read(session: &mut Session<ReadsAndWrites>, register: u8) -> Outcome {
    let answered = |found: Option<(u64, Vec<u8>)>| {
        let found = found.map(|(version, value)| (version, Digest::of(&value)));
        Ended::Answered(Reply::Value(found))
    };
    session.query(Request::Get { key: register }, register, answered).await
}

/// Sent once: without an answer it is a maybe.
async fn write(session: &mut Session<ReadsAndWrites>, write: Write) -> Outcome {
    let client = session.client();
    let request = request(&write);
    let call = async move { outcome(client.propose(&write).await.map(|written| (written, false))) };
    session.record(request, call).await
}

/// Sent until it is answered: a refusal may then be due to an earlier transmission.
async fn write_until_answered(session: &mut Session<ReadsAndWrites>, write: Write) -> Outcome {
    let client = session.client();
    let request = request(&write);
    let call = async move {
        let answered = client.propose_until_answered(&write).await;
        outcome(answered.map(|answered| (answered.response, answered.resent)))
    };
    session.record(request, call).await
}

fn request(write: &Write) -> Request<u8, Digest> {
    let Write { register, version, value } = write;
    Request::Put { key: *register, value: Digest::of(value), version: *version }
}

fn outcome(answer: Result<(Written, bool), ClientError>) -> Outcome {
    match answer {
        Ok((Written::Done(version), _)) => Ended::Answered(Reply::Written { version }),
        Ok((Written::Version(_), true)) => Ended::Maybe,
        // Nobody ever deletes a register: one without a version was never written.
        Ok((Written::Version(0), false)) => Ended::Answered(Reply::NoKey),
        Ok((Written::Version(current), false)) => {
            Ended::Answered(Reply::VersionMismatch { current })
        }
        Err(error) => command_failed(&error),
    }
}

/// A new machine.
#[must_use]
pub fn factory() -> Factory<Registers> {
    Arc::new(Registers::default)
}
