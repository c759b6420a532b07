//! What the clients of a run do, and what they were told.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use raft_rsm::{Client, ClientError, StateMachine};
use serde::Serialize;

use crate::event::{Event, Listener};
use crate::executor::Executor;
use crate::history::{Ended, History};
use crate::model::Model;
use crate::model::machine::{MachineModel, Request};
use crate::random::Random;

/// Makes machines in the state in which every replica begins.
pub type Factory<M> = Arc<dyn Fn() -> M + Send + Sync>;

/// What the clients of a run do, one operation after the other, and what they may be told.
#[async_trait]
pub trait Workload: Sized + Send + Sync + 'static {
    /// The machine that is replicated.
    type Machine: StateMachine;
    /// What clients may be told.
    type Model: Model;

    /// The specification that the history is checked against.
    fn model(&self, machine: &Factory<Self::Machine>) -> Self::Model;

    /// Does one operation, or a few, of one client, all of them through [`Session::record`].
    async fn operation(&self, session: &mut Session<Self>);
}

/// One client of a run.
pub struct Session<W: Workload> {
    number: u64,
    client: Client<W::Machine>,
    random: Random,
    /// How many operations it has begun.
    begun: u64,
    shared: Arc<Shared<W::Model>>,
}

/// What all clients of a run share.
pub(crate) struct Shared<S: Model> {
    pub(crate) model: S,
    pub(crate) history: Mutex<History<S::Input, S::Output>>,
    pub(crate) executor: Executor,
    pub(crate) listener: Arc<dyn Listener>,
}

impl<W: Workload> Session<W> {
    pub(crate) fn new(
        number: u64,
        client: Client<W::Machine>,
        random: Random,
        shared: Arc<Shared<W::Model>>,
    ) -> Session<W> {
        Session { number, client, random, begun: 0, shared }
    }

    /// The client's number; each has its own, from 0.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many operations it has begun before: with [`Session::number`] a name that no other operation has.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// The client itself: it knows all nodes.
    #[must_use]
    pub fn client(&self) -> Client<W::Machine> {
        self.client.clone()
    }

    /// Chance of its own.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Takes an operation down: what was asked for, when, and how `call` ends. Returns what `call` returns.
    pub async fn record(
        &mut self,
        input: <W::Model as Model>::Input,
        call: impl Future<Output = Ended<<W::Model as Model>::Output>>,
    ) -> Ended<<W::Model as Model>::Output> {
        self.begun += 1;
        let shared = &self.shared;
        let operation = shared.model.describe_input(&input);
        shared.tell(Event::OperationBegan { client: self.number, operation });
        let id = shared.history().begin(self.number, input.clone(), shared.executor.now());
        let ended = call.await;
        shared.history().end(id, ended.clone(), shared.executor.now());
        let outcome = match &ended {
            Ended::Answered(output) => shared.model.describe_output(&input, output),
            Ended::Maybe => "maybe".to_owned(),
            Ended::Failed => "definitely not".to_owned(),
        };
        let answered = matches!(ended, Ended::Answered(_));
        shared.tell(Event::OperationEnded { client: self.number, answered, outcome });
        ended
    }
}

impl<S: Model> Shared<S> {
    fn tell(&self, event: Event) {
        self.listener.event(self.executor.now(), event);
    }

    pub(crate) fn history(&self) -> std::sync::MutexGuard<'_, History<S::Input, S::Output>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a command that the client did not hear of.
#[must_use]
pub fn command_failed<O>(error: &ClientError) -> Ended<O> {
    if error.may_take_effect() { Ended::Maybe } else { Ended::Failed }
}

/// A command or a query.
#[derive(Clone, Debug)]
pub enum Operation<C, Q> {
    /// Changes the state. It is sent once.
    Command(C),
    /// Asks about it.
    Query(Q),
}

/// What [`Requests`] draws for a machine.
pub type OperationOf<M> = Operation<<M as StateMachine>::Command, <M as StateMachine>::Query>;

type Draw<M> = dyn Fn(&mut Random) -> OperationOf<M> + Send + Sync;

/// The workload for whoever has a machine and no more: commands and queries that a function draws, checked against the
/// machine itself, alone ([`MachineModel`] says which machines can be checked so).
pub struct Requests<M: StateMachine> {
    draw: Box<Draw<M>>,
    readable: Box<dyn Fn(MachineModel<M>) -> MachineModel<M> + Send + Sync>,
}

impl<M: StateMachine> Requests<M> {
    /// Commands and queries as `draw` draws them. The fewer of them are alike, the more the checkers see.
    #[must_use]
    pub fn new(draw: impl Fn(&mut Random) -> OperationOf<M> + Send + Sync + 'static) -> Requests<M>
    where
        M::Command: std::fmt::Debug,
        M::Response: std::fmt::Debug,
        M::Query: std::fmt::Debug,
        M::Answer: std::fmt::Debug,
    {
        Requests { draw: Box::new(draw), readable: Box::new(MachineModel::readable) }
    }

    /// Changes the model: gives it a key, say, by which the operations fall into groups.
    #[must_use]
    pub fn model(
        self,
        change: impl Fn(MachineModel<M>) -> MachineModel<M> + Send + Sync + 'static,
    ) -> Requests<M> {
        let before = self.readable;
        Requests { readable: Box::new(move |model| change(before(model))), draw: self.draw }
    }
}

#[async_trait]
impl<M: StateMachine> Workload for Requests<M> {
    type Machine = M;
    type Model = MachineModel<M>;

    fn model(&self, machine: &Factory<M>) -> MachineModel<M> {
        let machine = Arc::clone(machine);
        (self.readable)(MachineModel::new(move || machine()))
    }

    async fn operation(&self, session: &mut Session<Requests<M>>) {
        let client = session.client();
        match (self.draw)(session.random()) {
            Operation::Command(command) => {
                let Ok(input) = Request::command::<M>(&command) else { return };
                let proposed = client.propose(&command);
                let call = async move {
                    match proposed.await {
                        Ok(response) => encoded(&response),
                        Err(error) => command_failed(&error),
                    }
                };
                session.record(input, call).await;
            }
            Operation::Query(query) => {
                let Ok(input) = Request::query::<M>(&query) else { return };
                let asked = client.query(&query);
                let call = async move {
                    match asked.await {
                        Ok(answer) => encoded(&answer),
                        Err(_) => Ended::Failed,
                    }
                };
                session.record(input, call).await;
            }
        }
    }
}

/// What has come over the wire can be encoded again.
fn encoded<T: Serialize>(answer: &T) -> Ended<Bytes> {
    postcard::to_allocvec(answer).map_or(Ended::Maybe, |bytes| Ended::Answered(bytes.into()))
}

impl<W: Workload> std::fmt::Debug for Session<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("number", &self.number).finish_non_exhaustive()
    }
}
