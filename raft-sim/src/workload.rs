//! What the clients of a run do, and what they were told.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use raft_rsm::{Client, ClientError, ClientOptions, Consistency, StateMachine};
use serde::Serialize;

use crate::checkers::stale::{StaleRead, StaleReads};
use crate::cluster::Cluster;
use crate::event::{Digest, Event, Listener};
use crate::executor::Executor;
use crate::history::{Ended, History};
use crate::model::Model;
use crate::model::machine::{MachineModel, Request};
use crate::observed::Told;
use crate::random::Random;

/// Makes machines in the state in which every replica begins.
pub type Factory<M> = Arc<dyn Fn() -> M + Send + Sync>;

/// What machines of this kind are told.
pub type ToldTo<M> = Told<<M as StateMachine>::Command>;

/// What a query may ask for, each as often as it is drawn.
const CONSISTENCIES: [Consistency; 6] = [
    Consistency::Linearizable,
    Consistency::Linearizable,
    Consistency::Linearizable,
    Consistency::Lease,
    Consistency::Lease,
    Consistency::Stale,
];

/// A client that asks one node waits for so long, and then asks whichever can answer.
const ONE_NODE_WITHIN: Duration = Duration::from_secs(1);

/// What the clients of a run do, one operation after the other, and what they may be told.
#[async_trait]
pub trait Workload: Sized + Send + Sync + 'static {
    /// The machine that is replicated.
    type Machine: StateMachine;
    /// What clients may be told.
    type Model: Model;

    /// The specification that the history is checked against.
    fn model(&self, machine: &Factory<Self::Machine>) -> Self::Model;

    /// Does one operation, or a few, of one client, all of them through [`Session::record`] or [`Session::query`].
    async fn operation(&self, session: &mut Session<Self>);

    /// Judges a run once it is over, by all that the machines were told, in the order of the log, and by what the clients
    /// have kept for it.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    fn judge(&self, _told: &[ToldTo<Self::Machine>]) -> Result<(), String> {
        Ok(())
    }

    /// What the clients did, counted, for the summary.
    fn counts(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    /// The state of a machine, as far as it must be the same on all replicas that were told the same. `None`: it is not
    /// compared.
    fn state(&self, _machine: &Self::Machine) -> Option<Digest> {
        None
    }
}

/// One client of a run.
pub struct Session<W: Workload> {
    number: u64,
    client: Client<W::Machine>,
    cluster: Cluster<W::Machine>,
    random: Random,
    /// How many operations it has begun.
    begun: u64,
    /// Whatever is asked for now must be answered.
    must_be_answered: bool,
    shared: Arc<Shared<W::Model>>,
}

/// What all clients of a run share.
pub(crate) struct Shared<S: Model> {
    pub(crate) model: S,
    pub(crate) history: Mutex<History<S::Input, S::Output>>,
    pub(crate) stale: Mutex<StaleReads>,
    pub(crate) executor: Executor,
    pub(crate) listener: Arc<dyn Listener>,
}

impl<W: Workload> Session<W> {
    pub(crate) fn new(
        number: u64,
        client: Client<W::Machine>,
        cluster: Cluster<W::Machine>,
        random: Random,
        shared: Arc<Shared<W::Model>>,
    ) -> Session<W> {
        Session { number, client, cluster, random, begun: 0, must_be_answered: false, shared }
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

    /// Whether all faults have ended: whatever is asked for now must be answered. So this is not the time for what may end
    /// without an answer although nothing fails, such as a command in a session for which the nodes have no room.
    #[must_use]
    pub fn must_be_answered(&self) -> bool {
        self.must_be_answered
    }

    pub(crate) fn all_faults_have_ended(&mut self) {
        self.must_be_answered = true;
    }

    /// The cluster: for a client that needs more than requests, such as a process of its own or time that passes.
    #[must_use]
    pub fn cluster(&self) -> &Cluster<W::Machine> {
        &self.cluster
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
        self.take_down(input, false, call).await
    }

    /// Asks the service, and takes it down: how fresh the answer has to be, and which node is asked, is drawn. `answered`
    /// says what an answer is for the model. A query that nobody answers has failed.
    pub async fn query(
        &mut self,
        input: <W::Model as Model>::Input,
        query: <W::Machine as StateMachine>::Query,
        answered: impl FnOnce(
            <W::Machine as StateMachine>::Answer,
        ) -> Ended<<W::Model as Model>::Output>
        + Send,
    ) -> Ended<<W::Model as Model>::Output> {
        let consistency = *self.random.choose(&CONSISTENCIES);
        let node = *self.random.choose(&self.cluster.ids());
        // What may be stale is asked of a node of which it is known what it said before.
        let asks_one = self.random.chance(0.5) || consistency == Consistency::Stale;
        let (cluster, client) = (self.cluster.clone(), self.client.clone());
        let mut options = ClientOptions::default();
        options.deadline = ONE_NODE_WITHIN;
        let one = cluster.client_of(self.number, &[node], options);
        let life = cluster.life(node);
        let called = self.shared.history().events();
        let mut answered_here = false;
        let is_here = &mut answered_here;
        let call = async move {
            let of_one = one.query_with(&query, consistency);
            let of_any = client.query_with(&query, consistency);
            drop(query);
            if asks_one && let Ok(answer) = of_one.await {
                *is_here = cluster.life(node) == life;
                return answered(answer);
            }
            of_any.await.map_or(Ended::Failed, answered)
        };
        let is_stale = consistency == Consistency::Stale;
        let ended = self.take_down(input.clone(), is_stale, call).await;
        if let (Some(life), true, Ended::Answered(output)) =
            (life, answered_here && is_stale, &ended)
        {
            let ended = self.shared.history().events();
            let read = StaleRead { node, life, called, ended };
            let mut stale = self.shared.stale.lock().unwrap_or_else(PoisonError::into_inner);
            stale.add(&self.shared.model, &input, output, read);
        }
        ended
    }

    async fn take_down(
        &mut self,
        input: <W::Model as Model>::Input,
        is_stale: bool,
        call: impl Future<Output = Ended<<W::Model as Model>::Output>>,
    ) -> Ended<<W::Model as Model>::Output> {
        self.begun += 1;
        let shared = &self.shared;
        let operation = shared.model.describe_input(&input);
        shared.tell(Event::OperationBegan { client: self.number, operation });
        let id = shared.history().begin(self.number, input.clone(), shared.executor.now());
        if is_stale {
            shared.history().may_be_stale(id);
        }
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
                session.query(input, query, |answer| encoded(&answer)).await;
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
