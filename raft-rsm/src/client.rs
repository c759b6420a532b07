//! Finds the leader, follows hints, tries again what definitely did not happen.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raft_core::{Configuration, EntryId, NodeId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::consistency::Consistency;
use crate::error::{MembershipError, SnapshotError, TransferError};
use crate::membership::MembershipChange;
use crate::protocol::{self, Failure, Kind};
use crate::status::Status;
use crate::transport::{CallError, Connector};
use crate::watch::lock;
use crate::{Runtime, StateMachine};

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
    /// Who answered last: where the next operation begins.
    leader: Arc<Mutex<Option<NodeId>>>,
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
            | ClientError::Membership(_)
            | ClientError::Transfer(_)
            | ClientError::Snapshot(_) => false,
        }
    }
}

/// What one try came to.
enum Try {
    Answered(Bytes),
    /// Definitely not done; the node names another one.
    Elsewhere(NodeId),
    /// Definitely not done; it may be done by the next node ...
    Next(String),
    /// ... or by this one, a little later.
    Later(String),
    /// Nobody knows.
    Maybe(String),
    Fatal(ClientError),
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
            leader: Arc::clone(&self.leader),
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
        let leader = Arc::new(Mutex::new(None));
        Client { connector, runtime, options, leader, machine: std::marker::PhantomData }
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
            let (answer, _) = self.execute(request?, AfterMaybe::GiveUp).await?;
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
            let (answer, resent) = self.execute(request?, AfterMaybe::SendAgain).await?;
            Ok(Answered { response: decode(&answer)?, resent })
        }
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
        async move {
            match self.execute(request?, AfterMaybe::SendAgain).await {
                Ok((answer, _)) => decode(&answer),
                Err(ClientError::Maybe { reason }) => Err(ClientError::Unavailable { reason }),
                Err(error) => Err(error),
            }
        }
    }

    /// How one node sees itself and its cluster. Asked once, within [`ClientOptions::call_timeout`].
    ///
    /// # Errors
    /// The node does not answer, or not so that it can be read.
    pub async fn status(&self, node: NodeId) -> Result<Status, ClientError> {
        let request = protocol::encode_request::<()>(Kind::Status, None)
            .map_err(|error| ClientError::Refused { reason: error.to_string() })?;
        self.ask_once(node, request, self.options.call_timeout).await
    }

    /// Asks one node, and no other.
    async fn ask_once<T: DeserializeOwned>(
        &self,
        node: NodeId,
        request: Bytes,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        match self.try_once(node, request, timeout).await {
            Try::Answered(answer) => decode(&answer),
            Try::Elsewhere(other) => {
                Err(ClientError::Unavailable { reason: format!("sent on to {other}") })
            }
            Try::Next(reason) | Try::Later(reason) | Try::Maybe(reason) => {
                Err(ClientError::Unavailable { reason })
            }
            Try::Fatal(error) => Err(error),
        }
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
        let (answer, _) =
            self.execute_within(request, AfterMaybe::GiveUp, patience, patience).await?;
        decode(&answer)
    }

    /// Hands the lead over: see [`crate::Raft::transfer_leadership`]. Returns who leads then.
    ///
    /// # Errors
    /// [`ClientError::Transfer`] says what the leader says; for [`ClientError::Maybe`] the lead may have changed.
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<NodeId, ClientError> {
        let request = encode(Kind::Transfer, &to)?;
        let deadline = self.options.deadline;
        let (answer, _) =
            self.execute_within(request, AfterMaybe::GiveUp, deadline, deadline).await?;
        decode(&answer)
    }

    /// Has one node take a snapshot: see [`crate::Raft::snapshot`]. Returns the last entry that it contains.
    ///
    /// # Errors
    /// The node does not answer within `patience`, or says why there is no snapshot.
    pub async fn snapshot(&self, node: NodeId, patience: Duration) -> Result<EntryId, ClientError> {
        let request = protocol::encode_request::<()>(Kind::Snapshot, None)
            .map_err(|error| ClientError::Refused { reason: error.to_string() })?;
        self.ask_once(node, request, patience).await
    }

    /// The nodes that can be called, sorted.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.connector.nodes()
    }

    /// Returns the body of the answer, and whether an earlier try may have taken effect.
    async fn execute(
        &self,
        request: Bytes,
        after_maybe: AfterMaybe,
    ) -> Result<(Bytes, bool), ClientError> {
        let ClientOptions { deadline, call_timeout, .. } = self.options;
        self.execute_within(request, after_maybe, deadline, call_timeout).await
    }

    async fn execute_within(
        &self,
        request: Bytes,
        after_maybe: AfterMaybe,
        deadline: Duration,
        call_timeout: Duration,
    ) -> Result<(Bytes, bool), ClientError> {
        let nodes = self.connector.nodes();
        let Some(first) = nodes.first().copied() else {
            return Err(ClientError::Unavailable { reason: "there are no nodes".to_owned() });
        };
        let ends_at = self.runtime.now().saturating_add(deadline);
        let mut node = lock(&self.leader).filter(|leader| nodes.contains(leader)).unwrap_or(first);
        let mut route = Route::new(&self.options);
        let mut maybe: Option<String> = None;
        let mut last = "the deadline is too short".to_owned();
        loop {
            let left = ends_at.saturating_sub(self.runtime.now());
            if left.is_zero() {
                return Err(match maybe {
                    Some(reason) => ClientError::Maybe { reason },
                    None => ClientError::Unavailable { reason: last },
                });
            }
            let timeout = left.min(call_timeout);
            let pause = match self.try_once(node, request.clone(), timeout).await {
                Try::Answered(answer) => {
                    *lock(&self.leader) = Some(node);
                    return Ok((answer, maybe.is_some()));
                }
                Try::Elsewhere(hint) => {
                    last = format!("node {node} takes node {hint} for the leader");
                    route.follow(&mut node, hint, &nodes)
                }
                Try::Next(reason) => {
                    last = reason;
                    route.next(&mut node, &nodes)
                }
                Try::Later(reason) => {
                    last = reason;
                    route.pause()
                }
                Try::Maybe(reason) => {
                    if after_maybe == AfterMaybe::GiveUp {
                        self.forget(node);
                        return Err(ClientError::Maybe { reason });
                    }
                    maybe = Some(reason);
                    route.silent = Some(node);
                    route.next(&mut node, &nodes)
                }
                // Another transmission may have been carried out all the same.
                Try::Fatal(error) => {
                    return Err(match maybe {
                        Some(reason) => ClientError::Maybe { reason },
                        None => error,
                    });
                }
            };
            if let Some(pause) = pause {
                let left = ends_at.saturating_sub(self.runtime.now());
                self.runtime.sleep(jitter(pause, self.runtime.random()).min(left)).await;
            }
        }
    }

    async fn try_once(&self, node: NodeId, request: Bytes, timeout: Duration) -> Try {
        let answer = match self.connector.call(node, request, timeout).await {
            Ok(answer) => answer,
            Err(error @ CallError::NotSent { .. }) => return Try::Next(error.to_string()),
            Err(error @ CallError::MaybeSent { .. }) => return Try::Maybe(error.to_string()),
        };
        match protocol::decode_response(&answer) {
            Ok(Ok(body)) => Try::Answered(answer.slice_ref(body)),
            Ok(Err(failure)) => failed(node, failure),
            Err(error) => Try::Fatal(ClientError::Unreadable { reason: error.to_string() }),
        }
    }

    /// The next operation does not begin at `node`, if it would.
    fn forget(&self, node: NodeId) {
        let mut leader = lock(&self.leader);
        if *leader == Some(node) {
            let nodes = self.connector.nodes();
            *leader = following(node, &nodes);
        }
    }
}

fn failed(node: NodeId, failure: Failure) -> Try {
    match failure {
        Failure::NotLeader { leader: Some(leader) } => Try::Elsewhere(leader),
        Failure::NotLeader { leader: None } => Try::Next(format!("node {node} knows no leader")),
        Failure::Busy => Try::Later(format!("node {node} is busy")),
        Failure::TooLarge { len, max } => Try::Fatal(ClientError::TooLarge { len, max }),
        Failure::Superseded => Try::Next(format!("node {node} lost the lead")),
        Failure::Stopped => Try::Next(format!("node {node} has stopped")),
        Failure::Maybe(why) => Try::Maybe(format!("node {node}: {why}")),
        Failure::TimedOut => Try::Maybe(format!("node {node} could not answer in time")),
        Failure::NotAdmitted { problem } => {
            Try::Fatal(ClientError::NotAdmitted { reason: problem })
        }
        Failure::Unreadable { problem } => Try::Fatal(ClientError::Refused { reason: problem }),
        Failure::Membership(error) => Try::Fatal(ClientError::Membership(error)),
        Failure::Transfer(error) => Try::Fatal(ClientError::Transfer(error)),
        Failure::Snapshot(error) => Try::Fatal(ClientError::Snapshot(error)),
    }
}

/// The way of one operation round the nodes.
struct Route {
    /// Tries since the last pause that led nowhere.
    tries: usize,
    backoff: Duration,
    backoff_max: Duration,
    /// A node that did not answer: hints to it are not followed at once.
    silent: Option<NodeId>,
}

impl Route {
    fn new(options: &ClientOptions) -> Route {
        let (backoff, backoff_max) = (options.backoff_min, options.backoff_max);
        Route { tries: 0, backoff, backoff_max, silent: None }
    }

    /// Goes where a hint says. A hint costs no pause, unless hints lead in a circle.
    fn follow(&mut self, node: &mut NodeId, hint: NodeId, nodes: &[NodeId]) -> Option<Duration> {
        if hint == *node || self.silent == Some(hint) || !nodes.contains(&hint) {
            return self.next(node, nodes);
        }
        *node = hint;
        self.count(nodes)
    }

    /// Goes to the next node. Each gets one try, then there is a pause.
    fn next(&mut self, node: &mut NodeId, nodes: &[NodeId]) -> Option<Duration> {
        if let Some(next) = following(*node, nodes) {
            *node = next;
        }
        self.count(nodes)
    }

    fn count(&mut self, nodes: &[NodeId]) -> Option<Duration> {
        self.tries += 1;
        if self.tries < nodes.len() { None } else { self.pause() }
    }

    fn pause(&mut self) -> Option<Duration> {
        self.tries = 0;
        self.silent = None;
        let pause = self.backoff;
        self.backoff = self.backoff.saturating_mul(2).min(self.backoff_max);
        Some(pause)
    }
}

fn following(node: NodeId, nodes: &[NodeId]) -> Option<NodeId> {
    nodes.iter().find(|other| **other > node).or(nodes.first()).copied()
}

/// From half of `pause` to all of it, so that clients do not come in step.
fn jitter(pause: Duration, random: u64) -> Duration {
    const STEPS: u32 = 1024;
    let step = u32::try_from(random % u64::from(STEPS)).unwrap_or(0);
    pause / 2 + pause / 2 * step / STEPS
}

fn encode<T: Serialize>(kind: Kind, body: &T) -> Result<Bytes, ClientError> {
    protocol::encode_request(kind, Some(body))
        .map_err(|error| ClientError::Refused { reason: error.to_string() })
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    protocol::read(body).map_err(|error| ClientError::Unreadable { reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use std::io;

    use crate::runtime::ThreadRuntime;
    use crate::{Context, SnapshotView};

    use super::*;

    /// A machine that is never run.
    struct Nothing;

    impl StateMachine for Nothing {
        type Command = ();
        type Response = ();
        type Query = ();
        type Answer = ();

        fn apply(&mut self, _: &Context, (): ()) {}

        fn query(&self, (): ()) {}

        fn snapshot(&self) -> Box<dyn SnapshotView> {
            Box::new(|_: &mut dyn io::Write| Ok(()))
        }

        fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
            Ok(())
        }
    }

    /// Loses the first answer; to everything else a node says that it is too long.
    #[derive(Default)]
    struct LosesFirst(Mutex<bool>);

    #[async_trait::async_trait]
    impl Connector for LosesFirst {
        async fn call(&self, to: NodeId, _: Bytes, _: Duration) -> Result<Bytes, CallError> {
            if !std::mem::replace(&mut *lock(&self.0), true) {
                return Err(CallError::MaybeSent { to, reason: "lost".to_owned() });
            }
            Ok(protocol::encode_response::<()>(Err(Failure::TooLarge { len: 2, max: 1 })))
        }

        fn nodes(&self) -> Vec<NodeId> {
            NODES.to_vec()
        }
    }

    /// TiDB 2.1.7: "failed" for what may have taken effect before.
    #[test]
    fn a_refusal_after_a_lost_answer_is_still_maybe() {
        let runtime = Arc::new(ThreadRuntime::new());
        let connector = Arc::new(LosesFirst::default());
        let client = Client::<Nothing>::new(connector, runtime, ClientOptions::default());
        let first = crate::block_on(client.propose_until_answered(&())).unwrap_err();
        assert!(matches!(first, ClientError::Maybe { .. }), "{first}");
        // Where no answer was lost, it is definite.
        let second = crate::block_on(client.propose_until_answered(&())).unwrap_err();
        assert_eq!(second, ClientError::TooLarge { len: 2, max: 1 });
    }

    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    #[test]
    fn each_node_gets_one_try_before_there_is_a_pause_and_pauses_grow_up_to_a_limit() {
        let options = ClientOptions::default();
        let mut route = Route::new(&options);
        let mut node = NodeId(2);
        let mut pauses = Vec::new();
        let mut visited = Vec::new();
        for _ in 0..18 {
            visited.push(node.0);
            pauses.extend(route.next(&mut node, &NODES));
        }
        assert_eq!(visited[..6], [2, 3, 1, 2, 3, 1]);
        let expected = [10, 20, 40, 80, 160, 160].map(Duration::from_millis);
        assert_eq!(pauses, expected);
    }

    #[test]
    fn a_hint_is_followed_at_once_unless_it_leads_in_a_circle_or_to_a_silent_node() {
        let mut route = Route::new(&ClientOptions::default());
        let mut node = NodeId(1);
        assert_eq!(route.follow(&mut node, NodeId(3), &NODES), None);
        assert_eq!(node, NodeId(3));
        assert_eq!(route.follow(&mut node, NodeId(1), &NODES), None);
        assert!(route.follow(&mut node, NodeId(3), &NODES).is_some());
        let mut route = Route::new(&ClientOptions::default());
        route.silent = Some(NodeId(3));
        let mut node = NodeId(1);
        assert_eq!(route.follow(&mut node, NodeId(3), &NODES), None);
        assert_eq!(node, NodeId(2));
    }

    #[test]
    fn a_pause_is_half_chance() {
        let pause = Duration::from_millis(100);
        for random in [0, 1, 511, 1023, u64::MAX] {
            let jittered = jitter(pause, random);
            assert!(jittered >= pause / 2 && jittered <= pause, "{jittered:?}");
        }
    }
}
