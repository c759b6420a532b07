//! Finds the leader, follows hints, tries again what definitely did not happen.

mod call;
mod memory;
mod route;
mod session;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raft_core::{Configuration, EntryId, NodeId};

pub(crate) use self::call::status_of;
use self::call::{Try, ask_once, decode, encode, encode_bare, try_once, unless};
use self::memory::{Asked, Memory, UnderWay};
use self::route::{Route, Search, following, jitter};
pub use self::session::Session;
use crate::consistency::Consistency;
use crate::error::{MembershipError, SnapshotError, TransferError};
use crate::membership::MembershipChange;
use crate::protocol::Kind;
use crate::status::Status;
use crate::transport::Connector;
use crate::watch::lock;
use crate::{Runtime, StateMachine};

/// A node that has not answered within this part of [`ClientOptions::call_timeout`] may hang: that limit is for the slowest
/// write of a healthy cluster.
const SILENT_PART: u32 = 4;

/// How patient a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientOptions {
    /// An operation ends after this, all its tries together.
    pub deadline: Duration,
    /// A node that has not answered one try after this is given up for the next one. Longer than the slowest write
    /// of a healthy cluster, else commands that only took long end as "maybe".
    pub call_timeout: Duration,
    /// When no node could help, the next round begins after a pause of about this at first ...
    pub backoff_min: Duration,
    /// ... twice as long each time, up to this.
    pub backoff_max: Duration,
}

impl Default for ClientOptions {
    /// 10 seconds, 1 second for one try, pauses from 10 to 160 milliseconds.
    fn default() -> ClientOptions {
        ClientOptions {
            deadline: Duration::from_secs(10),
            call_timeout: Duration::from_secs(1),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(160),
        }
    }
}

/// Calls the replicas of a machine from elsewhere. Cheap to clone; any number of operations may be under way.
pub struct Client<M: StateMachine> {
    connector: Arc<dyn Connector>,
    runtime: Arc<dyn Runtime>,
    options: ClientOptions,
    memory: Arc<Mutex<Memory>>,
    machine: std::marker::PhantomData<fn() -> M>,
}

/// What came of a command that was sent until there was an answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Answered<T> {
    /// The machine's response to the last transmission.
    pub response: T,
    /// Whether an earlier transmission may have taken effect as well, before this one or, still on its way, after it.
    pub resent: bool,
}

/// Why an operation has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// *Maybe*: the command may have taken effect, or take effect later.
    #[error("the command may have taken effect: {reason}")]
    Maybe {
        /// What went wrong.
        reason: String,
    },
    /// *Definitely not*: no leader was found before the deadline.
    #[error("no leader was found in time: {reason}")]
    Unavailable {
        /// What the last try met.
        reason: String,
    },
    /// *Definitely not*, and it never will: the command is longer than the limit.
    #[error("the command has {len} bytes, the limit is {max}")]
    TooLarge {
        /// Its length in bytes, serialized.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// *Definitely not*, and it never will: the machine of the node that was asked does not admit the command
    /// ([`StateMachine::admission`]).
    #[error("{reason}")]
    NotAdmitted {
        /// Why not.
        reason: String,
    },
    /// *Definitely not*, and it never will: the node cannot read the request, or it cannot be serialized.
    #[error("the request cannot be read: {reason}")]
    Refused {
        /// Why not.
        reason: String,
    },
    /// *Definitely not*: another command was sent under this name.
    #[error("another command was sent under this name")]
    NameTaken,
    /// *Definitely not*: the session has ended. [`Session`] opens another one by itself.
    #[error("the session has ended")]
    SessionExpired,
    /// The members are not those that were asked for; the error says whether they may be later.
    #[error(transparent)]
    Membership(MembershipError),
    /// The lead was not handed over.
    #[error(transparent)]
    Transfer(TransferError),
    /// There is no new snapshot.
    #[error(transparent)]
    Snapshot(SnapshotError),
    /// *Maybe*: the answer cannot be read, since client and node do not fit together. A node that answers a command
    /// has mostly carried it out; one that speaks another version of the protocol has not.
    #[error("the answer cannot be read: {reason}")]
    Unreadable {
        /// Why not.
        reason: String,
    },
}

impl ClientError {
    /// Whether the command may have taken effect, or take effect later. When `false`, it may be sent again
    /// without harm.
    #[must_use]
    pub fn may_take_effect(&self) -> bool {
        match self {
            ClientError::Maybe { .. }
            | ClientError::Unreadable { .. }
            | ClientError::Membership(MembershipError::Maybe(_)) => true,
            ClientError::Unavailable { .. }
            | ClientError::TooLarge { .. }
            | ClientError::NotAdmitted { .. }
            | ClientError::Refused { .. }
            | ClientError::NameTaken
            | ClientError::SessionExpired
            | ClientError::Membership(_)
            | ClientError::Transfer(_)
            | ClientError::Snapshot(_) => false,
        }
    }
}

/// What to do after a try of which nobody knows whether it took effect.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum AfterMaybe {
    GiveUp,
    SendAgain,
}

impl<M: StateMachine> Clone for Client<M> {
    fn clone(&self) -> Client<M> {
        Client {
            connector: Arc::clone(&self.connector),
            runtime: Arc::clone(&self.runtime),
            options: self.options.clone(),
            memory: Arc::clone(&self.memory),
            machine: std::marker::PhantomData,
        }
    }
}

impl<M: StateMachine> std::fmt::Debug for Client<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<M: StateMachine> Client<M> {
    /// A client of the nodes that `connector` reaches.
    #[must_use]
    pub fn new(
        connector: Arc<dyn Connector>,
        runtime: Arc<dyn Runtime>,
        options: ClientOptions,
    ) -> Client<M> {
        let memory = Arc::new(Mutex::new(Memory::default()));
        Client { connector, runtime, options, memory, machine: std::marker::PhantomData }
    }

    /// Has `command` carried out once, or not at all: it is sent again only where it definitely was not
    /// carried out.
    ///
    /// # Errors
    /// [`ClientError::may_take_effect`] says which ones leave open whether the command takes effect.
    pub fn propose<'c>(
        &'c self,
        command: &M::Command,
    ) -> impl Future<Output = Result<M::Response, ClientError>> + Send + use<'c, M> {
        // The command is encoded at once, so that the future can move between threads whatever the command is.
        let request = encode(Kind::Propose, command);
        async move {
            let (answer, _) = self.execute(request?, Asked::Leader, AfterMaybe::GiveUp).await?;
            decode(&answer)
        }
    }

    /// Has `command` carried out at least once: it is sent again also where it may have been carried out. For commands
    /// that may be repeated, since a repetition changes nothing (idempotent) or is refused by the machine
    /// (conditional on a version).
    ///
    /// # Errors
    /// [`ClientError::may_take_effect`] says which ones leave open whether the command takes effect.
    pub fn propose_until_answered<'c>(
        &'c self,
        command: &M::Command,
    ) -> impl Future<Output = Result<Answered<M::Response>, ClientError>> + Send + use<'c, M> {
        let request = encode(Kind::Propose, command);
        async move {
            let (answer, resent) =
                self.execute(request?, Asked::Leader, AfterMaybe::SendAgain).await?;
            Ok(Answered { response: decode(&answer)?, resent })
        }
    }

    /// Has `command` carried out exactly once, however often it is sent under this `name` within the time that names are
    /// remembered ([`crate::Options::name_age_max`]), by whomever: all have the same response. Where many commands
    /// follow each other, a [`Session`] costs less. A name has 1 to 255 bytes, and should contain a random part.
    ///
    /// # Errors
    /// [`ClientError::may_take_effect`] says which ones leave open whether the command takes effect: it may then be sent
    /// again under the same name.
    pub fn propose_once<'c>(
        &'c self,
        name: &[u8],
        command: &M::Command,
    ) -> impl Future<Output = Result<M::Response, ClientError>> + Send + use<'c, M> {
        let request = encode(Kind::ProposeOnce, &(name, command));
        async move {
            let (answer, _) = self.execute(request?, Asked::Leader, AfterMaybe::SendAgain).await?;
            decode(&answer)
        }
    }

    /// A session, in which every command is carried out exactly once. Nothing is sent before its first command.
    #[must_use]
    pub fn session(&self) -> Session<M> {
        Session::new(self.clone())
    }

    /// Answers from a state that contains every command that had its response when `query` was called
    /// (linearizable).
    ///
    /// # Errors
    /// There is no answer before the deadline, or none that can be read. A query has no effect: it may always be
    /// asked again.
    pub fn query<'c>(
        &'c self,
        query: &M::Query,
    ) -> impl Future<Output = Result<M::Answer, ClientError>> + Send + use<'c, M> {
        self.query_with(query, Consistency::Linearizable)
    }

    /// As [`Client::query`], with the consistency that is asked for. [`Consistency::Stale`] may be older than what this
    /// client has read or written before: whichever node answers.
    ///
    /// # Errors
    /// There is no answer before the deadline, or none that can be read. A query has no effect: it may always be
    /// asked again.
    pub fn query_with<'c>(
        &'c self,
        query: &M::Query,
        consistency: Consistency,
    ) -> impl Future<Output = Result<M::Answer, ClientError>> + Send + use<'c, M> {
        let request = encode(Kind::Query(consistency), query);
        let asked = match consistency {
            Consistency::Linearizable => Asked::Anyone,
            Consistency::Stale => Asked::Stale,
            Consistency::Lease => Asked::Leader,
        };
        async move {
            match self.execute(request?, asked, AfterMaybe::SendAgain).await {
                Ok((answer, _)) => decode(&answer),
                Err(ClientError::Maybe { reason }) => Err(ClientError::Unavailable { reason }),
                Err(error) => Err(error),
            }
        }
    }

    /// As [`Client::query`], but waits at the node until its machine has something to say
    /// ([`StateMachine::is_ready`]), or for `wait`, if the node does not allow less: then it is answered all the same. This is how
    /// clients learn of changes without asking again and again.
    ///
    /// # Errors
    /// There is no answer within `wait` and the deadline together, or none that can be read. A query has no effect: it may
    /// always be asked again.
    pub fn query_when_ready<'c>(
        &'c self,
        query: &M::Query,
        wait: Duration,
    ) -> impl Future<Output = Result<M::Answer, ClientError>> + Send + use<'c, M> {
        let request = encode(Kind::QueryWhenReady, &(wait, query));
        let ClientOptions { deadline, call_timeout, .. } = self.options;
        let (deadline, call_timeout) =
            (deadline.saturating_add(wait), call_timeout.saturating_add(wait));
        async move {
            let after_maybe = AfterMaybe::SendAgain;
            let asked = self
                .execute_within(request?, Asked::Anyone, after_maybe, deadline, call_timeout)
                .await;
            match asked {
                Ok((answer, _)) => decode(&answer),
                Err(ClientError::Maybe { reason }) => Err(ClientError::Unavailable { reason }),
                Err(error) => Err(error),
            }
        }
    }

    /// Answers from what this one node has applied, however old. Asked once, within [`ClientOptions::call_timeout`].
    ///
    /// # Errors
    /// The node does not answer, or not so that it can be read.
    pub fn query_at<'c>(
        &'c self,
        node: NodeId,
        query: &M::Query,
    ) -> impl Future<Output = Result<M::Answer, ClientError>> + Send + use<'c, M> {
        let request = encode(Kind::Query(Consistency::Stale), query);
        async move { ask_once(&*self.connector, node, request?, self.options.call_timeout).await }
    }

    /// How one node sees itself and its cluster. Asked once, within [`ClientOptions::call_timeout`].
    ///
    /// # Errors
    /// The node does not answer, or not so that it can be read.
    pub async fn status(&self, node: NodeId) -> Result<Status, ClientError> {
        status_of(&*self.connector, node, self.options.call_timeout).await
    }

    /// Changes the members: see [`crate::Raft::change_membership`]. It waits for `patience` at most, the catching up of
    /// voters that join included.
    ///
    /// # Errors
    /// [`ClientError::Membership`] says what the leader says; [`ClientError::may_take_effect`] which ones leave open
    /// whether the change takes effect.
    pub async fn change_membership(
        &self,
        change: &MembershipChange,
        patience: Duration,
    ) -> Result<Configuration, ClientError> {
        let request = encode(Kind::Change, change)?;
        let (answer, _) = self
            .execute_within(request, Asked::Leader, AfterMaybe::GiveUp, patience, patience)
            .await?;
        decode(&answer)
    }

    /// Hands the lead over: see [`crate::Raft::transfer_leadership`]. Returns who leads then.
    ///
    /// # Errors
    /// [`ClientError::Transfer`] says what the leader says; for [`ClientError::Maybe`] the lead may have changed.
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<NodeId, ClientError> {
        let request = encode(Kind::Transfer, &to)?;
        let deadline = self.options.deadline;
        let (answer, _) = self
            .execute_within(request, Asked::Leader, AfterMaybe::GiveUp, deadline, deadline)
            .await?;
        let leader = decode(&answer)?;
        lock(&self.memory).remember(Asked::Leader, leader);
        Ok(leader)
    }

    /// Has one node take a snapshot: see [`crate::Raft::snapshot`]. Returns the last entry that it contains.
    ///
    /// # Errors
    /// The node does not answer within `patience`, or says why there is no snapshot.
    pub async fn snapshot(&self, node: NodeId, patience: Duration) -> Result<EntryId, ClientError> {
        let request = encode_bare(Kind::Snapshot)?;
        ask_once(&*self.connector, node, request, patience).await
    }

    /// How it reaches the nodes.
    #[must_use]
    pub fn connector(&self) -> &Arc<dyn Connector> {
        &self.connector
    }

    /// The nodes that can be called, sorted: those that it was given, and those that it heard of since.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.connector.nodes()
    }

    /// Returns the body of the answer, and whether an earlier try may have taken effect.
    async fn execute(
        &self,
        request: Bytes,
        asked: Asked,
        after_maybe: AfterMaybe,
    ) -> Result<(Bytes, bool), ClientError> {
        let ClientOptions { deadline, call_timeout, .. } = self.options;
        self.execute_within(request, asked, after_maybe, deadline, call_timeout).await
    }

    async fn execute_within(
        &self,
        request: Bytes,
        asked: Asked,
        after_maybe: AfterMaybe,
        deadline: Duration,
        call_timeout: Duration,
    ) -> Result<(Bytes, bool), ClientError> {
        let mut nodes = self.members();
        let Some(first) = nodes.first().copied() else {
            return Err(ClientError::Unavailable { reason: "there are no nodes".to_owned() });
        };
        let ends_at = self.runtime.now().saturating_add(deadline);
        let remembered = lock(&self.memory).first(asked, &self.connector.nodes());
        let mut node = remembered.unwrap_or(first);
        let mut route = Route::new(&self.options);
        let mut maybe: Option<String> = None;
        let mut last = "the deadline is too short".to_owned();
        loop {
            let left = ends_at.saturating_sub(self.runtime.now());
            if left.is_zero() {
                if !route.was_taken_up {
                    // The cluster that is meant may be another one by now, with other members.
                    *lock(&self.memory) = Memory::default();
                    self.connector.stay_with(None);
                }
                return Err(unless(maybe, ClientError::Unavailable { reason: last }));
            }
            let timeout = left.min(call_timeout);
            let under_way = UnderWay::begin(
                &*self.runtime,
                &self.memory,
                (node, &nodes),
                // A longer time limit is for an answer that takes as much longer.
                self.options.call_timeout / SILENT_PART
                    + call_timeout.saturating_sub(self.options.call_timeout),
            );
            let tried = try_once(&*self.connector, node, request.clone(), timeout).await;
            under_way.ended();
            let pause = match tried {
                Try::Answered(answer) => {
                    self.answered(asked, node);
                    return Ok((answer, maybe.is_some()));
                }
                Try::Elsewhere(hint) => {
                    last = format!("node {node} takes node {hint} for the leader");
                    route.hear(node);
                    if !nodes.contains(&hint) {
                        self.learn_from(node, left).await;
                        nodes = self.members();
                        if self.connector.nodes().contains(&hint) && !nodes.contains(&hint) {
                            nodes.push(hint);
                            nodes.sort_unstable();
                        }
                    }
                    route.follow(&mut node, hint, &nodes)
                }
                Try::Unreachable(reason) => {
                    last = reason;
                    lock(&self.memory).forget(node, &nodes);
                    route.next(&mut node, &nodes)
                }
                Try::Next(reason) => {
                    last = reason;
                    route.hear(node);
                    route.next(&mut node, &nodes)
                }
                Try::Later(reason) => {
                    last = reason;
                    route.is_taken_up(node);
                    route.pause()
                }
                Try::NoRoom(reason) => {
                    last = reason;
                    route.is_taken_up(node);
                    route.pause_for_room()
                }
                Try::Maybe { reason, is_answer } => {
                    lock(&self.memory).forget(node, &nodes);
                    if is_answer {
                        route.is_taken_up(node);
                    }
                    if after_maybe == AfterMaybe::GiveUp {
                        return Err(ClientError::Maybe { reason });
                    }
                    maybe = Some(reason);
                    route.silent = Some(node);
                    route.next(&mut node, &nodes)
                }
                // Another transmission may have been carried out all the same.
                Try::Fatal(error) => return Err(unless(maybe, error)),
            };
            if let Some(pause) = pause {
                let left = ends_at.saturating_sub(self.runtime.now());
                let search = route.search();
                if let Search::MembersBy(spoke) | Search::AllBy(spoke) = search {
                    self.learn_from(spoke, left).await;
                }
                // Another operation may have learned of nodes meanwhile.
                nodes = match search {
                    Search::Members | Search::MembersBy(_) => self.members(),
                    Search::All | Search::AllBy(_) => self.connector.nodes(),
                };
                if !nodes.contains(&node) {
                    node = following(node, &nodes).unwrap_or(node);
                }
                self.runtime.sleep(jitter(pause, self.runtime.random()).min(left)).await;
            }
        }
    }

    /// The nodes that can be called, without those that are known to be no members.
    fn members(&self) -> Vec<NodeId> {
        lock(&self.memory).members_of(self.connector.nodes())
    }

    /// Asks `node` who the members are and where they listen, unless somebody asked a moment ago.
    async fn learn_from(&self, node: NodeId, left: Duration) {
        let ClientOptions { backoff_min, backoff_max, call_timeout, .. } = self.options;
        if lock(&self.memory).may_learn(self.runtime.now(), backoff_min) {
            self.learning(node, left.min(call_timeout).min(backoff_max)).run().await;
        }
    }

    /// A node has answered: the next operation begins there.
    fn answered(&self, asked: Asked, node: NodeId) {
        let mut memory = lock(&self.memory);
        memory.remember(asked, node);
        let begins_to_stay = asked != Asked::Stale && !memory.stays;
        memory.stays |= begins_to_stay;
        let stays = memory.stays;
        drop(memory);
        if begins_to_stay {
            self.connector.stay_with(Some(node));
        }
        // Who answers with whatever it has may be of another cluster.
        if stays {
            self.learn_beside(node);
        }
    }

    /// Asks `node`, which has just answered, for the members if that is due: whom the client was told of may be gone when
    /// it needs somebody else. Beside the operation, which does not wait for it.
    fn learn_beside(&self, node: NodeId) {
        if self.connector.wants_to_learn()
            && lock(&self.memory).should_learn(node, self.runtime.now())
        {
            let learning = self.learning(node, self.options.call_timeout);
            self.runtime.spawn("client-learn", Box::pin(learning.run()));
        }
    }

    fn learning(&self, node: NodeId, timeout: Duration) -> Learning {
        let (connector, runtime) = (Arc::clone(&self.connector), Arc::clone(&self.runtime));
        Learning { connector, runtime, memory: Arc::clone(&self.memory), node, timeout }
    }
}

/// Asks one node who the members are and where they listen, once.
struct Learning {
    connector: Arc<dyn Connector>,
    runtime: Arc<dyn Runtime>,
    memory: Arc<Mutex<Memory>>,
    node: NodeId,
    timeout: Duration,
}

impl Learning {
    async fn run(self) {
        let Learning { connector, runtime, memory, node, timeout } = self;
        if let Ok(status) = status_of(&*connector, node, timeout).await
            && lock(&memory).learn(&status, runtime.now())
        {
            let members = status.configuration.members().into_iter();
            let members = members.map(|member| (member.id, member.address.clone()));
            connector.learn(&members.collect::<Vec<_>>());
        }
    }
}

#[cfg(test)]
mod tests;
