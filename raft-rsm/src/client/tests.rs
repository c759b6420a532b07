use futures::FutureExt;

use crate::nothing::Nothing;
use crate::runtime::ThreadRuntime;

use super::*;
use crate::protocol::{self, Failure};
use crate::transport::CallError;

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

/// The only member that the others know is node 9, and it leads. The client is told of nodes 1 to 3.
struct Moved {
    hint: Option<NodeId>,
    known: Mutex<Vec<NodeId>>,
    calls: Mutex<Vec<(NodeId, Kind)>>,
}

impl Moved {
    fn with_hint(hint: Option<NodeId>) -> Arc<Moved> {
        let (known, calls) = (Mutex::new(NODES.to_vec()), Mutex::default());
        Arc::new(Moved { hint, known, calls })
    }

    fn asked_for_members(&self) -> usize {
        lock(&self.calls).iter().filter(|(_, kind)| *kind == Kind::Status).count()
    }
}

const LEADER: NodeId = NodeId(9);

#[async_trait::async_trait]
impl Connector for Moved {
    async fn call(&self, to: NodeId, request: Bytes, _: Duration) -> Result<Bytes, CallError> {
        let (kind, _) = protocol::decode_request(&request).expect("a request");
        lock(&self.calls).push((to, kind));
        if kind == Kind::Status {
            return Ok(protocol::encode_response(Ok(&status())));
        }
        let elsewhere = Failure::NotLeader { leader: self.hint };
        Ok(protocol::encode_response(if to == LEADER { Ok(&()) } else { Err(elsewhere) }))
    }

    fn nodes(&self) -> Vec<NodeId> {
        lock(&self.known).clone()
    }

    fn learn(&self, nodes: &[(NodeId, String)]) {
        assert_eq!(nodes, [(LEADER, "host:9".to_owned())]);
        let mut known = lock(&self.known);
        if !known.contains(&LEADER) {
            known.push(LEADER);
        }
    }
}

fn status() -> Status {
    let member = raft_core::Member::new(LEADER, "host:9");
    let restored = raft_core::Restored::first_start(Configuration::of_members([member], [], []));
    let node = raft_core::Node::new(raft_core::Options::new(NodeId(1)), restored);
    crate::raft::first_status(&node.unwrap(), None, 0, &crate::Options::new(NodeId(1)))
}

fn client_of(connector: &Arc<Moved>) -> Client<Nothing> {
    let runtime = Arc::new(ThreadRuntime::new());
    Client::new(Arc::clone(connector) as _, runtime, ClientOptions::default())
}

#[test]
fn a_hint_to_a_node_that_is_not_known_leads_there_at_once() {
    let moved = Moved::with_hint(Some(LEADER));
    crate::block_on(client_of(&moved).propose(&())).unwrap();
    let expected = [(NodeId(1), Kind::Propose), (NodeId(1), Kind::Status), (LEADER, Kind::Propose)];
    assert_eq!(*lock(&moved.calls), expected);
}

#[test]
fn a_client_that_knows_only_nodes_that_were_removed_finds_the_others() {
    let moved = Moved::with_hint(None);
    crate::block_on(client_of(&moved).propose(&())).unwrap();
    assert_eq!(moved.asked_for_members(), 1);
    assert!(lock(&moved.calls).len() < 12);
}

#[test]
fn any_number_of_operations_ask_for_the_members_once() {
    let moved = Moved::with_hint(Some(LEADER));
    let client = client_of(&moved);
    let proposals = (0..100).map(|_| client.propose(&()));
    for answer in crate::block_on(futures::future::join_all(proposals)) {
        answer.unwrap();
    }
    assert_eq!(moved.asked_for_members(), 1);
}

#[test]
fn the_next_operation_begins_where_the_lead_was_handed_over_to() {
    let connector = Arc::new(HandsOver::default());
    let runtime = Arc::new(ThreadRuntime::new());
    let client =
        Client::<Nothing>::new(Arc::clone(&connector) as _, runtime, ClientOptions::default());
    assert_eq!(crate::block_on(client.transfer_leadership(None)), Ok(NodeId(3)));
    crate::block_on(client.propose(&())).unwrap();
    assert_eq!(*lock(&connector.0), [NodeId(1), NodeId(3)]);
}

/// Hands the lead over to node 3. It keeps who was asked to do something.
#[derive(Default)]
struct HandsOver(Mutex<Vec<NodeId>>);

#[async_trait::async_trait]
impl Connector for HandsOver {
    async fn call(&self, to: NodeId, request: Bytes, _: Duration) -> Result<Bytes, CallError> {
        let (kind, _) = protocol::decode_request(&request).expect("a request");
        // Who the members are, it is asked beside.
        if kind != Kind::Status {
            lock(&self.0).push(to);
        }
        if kind == Kind::Transfer {
            return Ok(protocol::encode_response(Ok(&NodeId(3))));
        }
        Ok(protocol::encode_response(Ok(&())))
    }

    fn nodes(&self) -> Vec<NodeId> {
        NODES.to_vec()
    }
}

/// Nobody whom it was told of is there; meanwhile another operation learns of node 9.
#[derive(Default)]
struct LearnsBeside(Mutex<bool>);

#[async_trait::async_trait]
impl Connector for LearnsBeside {
    async fn call(&self, to: NodeId, _: Bytes, _: Duration) -> Result<Bytes, CallError> {
        if to == LEADER {
            return Ok(protocol::encode_response(Ok(&())));
        }
        *lock(&self.0) = true;
        Err(CallError::NotSent { to, reason: "it is dead".to_owned() })
    }

    fn nodes(&self) -> Vec<NodeId> {
        let learned = lock(&self.0).then_some(LEADER);
        NODES.into_iter().chain(learned).collect()
    }
}

#[test]
fn what_one_operation_learns_helps_the_others_that_are_under_way() {
    let runtime = Arc::new(ThreadRuntime::new());
    let options = ClientOptions { deadline: Duration::from_secs(5), ..ClientOptions::default() };
    let client = Client::<Nothing>::new(Arc::new(LearnsBeside::default()), runtime, options);
    crate::block_on(client.propose(&())).unwrap();
}

/// Its time passes when somebody waits, and what is spawned ends before anything else happens.
#[derive(Default)]
struct Clock(Arc<Mutex<Duration>>);

impl Runtime for Clock {
    fn spawn(&self, _: &str, task: futures::future::BoxFuture<'static, ()>) {
        task.now_or_never().expect("nobody lets it wait");
    }

    fn spawn_blocking(&self, name: &str, _: Box<dyn FnOnce() + Send>) {
        unreachable!("a client spawns {name}");
    }

    fn sleep(&self, duration: Duration) -> futures::future::BoxFuture<'static, ()> {
        let now = Arc::clone(&self.0);
        Box::pin(futures::future::lazy(move |_| *lock(&now) += duration))
    }

    fn now(&self) -> Duration {
        *lock(&self.0)
    }

    fn random(&self) -> u64 {
        0
    }
}

/// A cluster of which the client is told node 1, and whose members come and go. Who is a member leads.
struct ComesAndGoes {
    members: Mutex<Vec<NodeId>>,
    known: Mutex<Vec<NodeId>>,
    called: Mutex<Vec<NodeId>>,
    asked_for_members: Mutex<usize>,
    /// A node is silent when it is asked for the members.
    is_silent: bool,
}

impl ComesAndGoes {
    fn new(is_silent: bool) -> Arc<ComesAndGoes> {
        let (members, known) = (Mutex::new(NODES.to_vec()), Mutex::new(vec![NodeId(1)]));
        let (called, asked_for_members) = Default::default();
        Arc::new(ComesAndGoes { members, known, called, asked_for_members, is_silent })
    }

    fn are(&self, members: &[u64]) {
        *lock(&self.members) = members.iter().copied().map(NodeId).collect();
    }

    fn asked_for_members(&self) -> usize {
        *lock(&self.asked_for_members)
    }

    fn client(self: &Arc<Self>) -> (Client<Nothing>, Arc<Clock>) {
        let clock = Arc::new(Clock::default());
        let connector = Arc::clone(self) as _;
        (Client::new(connector, Arc::clone(&clock) as _, ClientOptions::default()), clock)
    }
}

#[async_trait::async_trait]
impl Connector for ComesAndGoes {
    async fn call(&self, to: NodeId, request: Bytes, _: Duration) -> Result<Bytes, CallError> {
        let members = lock(&self.members).clone();
        lock(&self.called).push(to);
        if !members.contains(&to) || !lock(&self.known).contains(&to) {
            return Err(CallError::NotSent { to, reason: "it is dead".to_owned() });
        }
        let (kind, _) = protocol::decode_request(&request).expect("a request");
        if kind != Kind::Status {
            return Ok(protocol::encode_response(Ok(&())));
        }
        *lock(&self.asked_for_members) += 1;
        if self.is_silent {
            return Err(CallError::MaybeSent { to, reason: "no answer".to_owned() });
        }
        let members = members.into_iter().map(|id| raft_core::Member::new(id, "host:1"));
        let configuration = Configuration::of_members(members, [], []);
        Ok(protocol::encode_response(Ok(&Status { configuration, ..status() })))
    }

    fn nodes(&self) -> Vec<NodeId> {
        lock(&self.known).clone()
    }

    fn learn(&self, nodes: &[(NodeId, String)]) {
        let mut known = lock(&self.known);
        known.extend(nodes.iter().map(|(id, _)| *id));
        known.sort_unstable();
        known.dedup();
    }
}

#[test]
fn a_client_finds_the_others_when_the_only_node_that_it_was_told_of_is_gone() {
    let cluster = ComesAndGoes::new(false);
    let (client, _clock) = cluster.client();
    crate::block_on(client.propose(&())).unwrap();
    cluster.are(&[2, 3]);
    crate::block_on(client.propose(&())).unwrap();
    assert_eq!(cluster.asked_for_members(), 1);
}

#[test]
fn a_client_in_use_follows_a_cluster_of_which_every_node_is_replaced() {
    let cluster = ComesAndGoes::new(false);
    let (client, clock) = cluster.client();
    for first in 1..=20 {
        cluster.are(&[first, first + 1, first + 2]);
        crate::block_on(client.propose(&())).unwrap();
        crate::block_on(clock.sleep(Duration::from_secs(31)));
        crate::block_on(client.propose(&())).unwrap();
    }
}

#[test]
fn a_client_asks_for_the_members_once_in_a_while_however_much_it_is_used() {
    let cluster = ComesAndGoes::new(false);
    let (client, clock) = cluster.client();
    for _ in 0..600 {
        crate::block_on(client.propose(&())).unwrap();
        crate::block_on(clock.sleep(Duration::from_millis(100)));
    }
    assert_eq!(cluster.asked_for_members(), 2);
}

#[test]
fn a_node_that_does_not_say_who_the_members_are_is_not_asked_with_each_operation() {
    let cluster = ComesAndGoes::new(true);
    let (client, clock) = cluster.client();
    for _ in 0..50 {
        crate::block_on(client.propose(&())).unwrap();
        crate::block_on(clock.sleep(Duration::from_millis(100)));
    }
    assert_eq!(cluster.asked_for_members(), 5);
}

/// A call to a machine that is gone may cost a time limit.
#[test]
fn who_was_removed_is_not_called_while_a_member_answers_and_is_when_none_does() {
    let cluster = ComesAndGoes::new(false);
    let (client, clock) = cluster.client();
    crate::block_on(client.propose(&())).unwrap();
    // Node 1 is removed, and the client hears of it.
    cluster.are(&[2, 3]);
    crate::block_on(clock.sleep(Duration::from_secs(31)));
    crate::block_on(client.propose(&())).unwrap();
    // One member after the other dies and comes back.
    cluster.are(&[3]);
    crate::block_on(client.propose(&())).unwrap();
    lock(&cluster.called).clear();
    cluster.are(&[2]);
    crate::block_on(client.propose(&())).unwrap();
    assert_eq!(*lock(&cluster.called), [NodeId(3), NodeId(2)]);
    // Nobody of whom it has heard is left: whom it was told of may be there again.
    cluster.are(&[1]);
    crate::block_on(client.propose(&())).unwrap();
}

/// Answers as long as it is there, and notes with which nodes' cluster it was told to stay.
#[derive(Default)]
struct Stays {
    is_gone: Mutex<bool>,
    told: Mutex<Vec<Option<NodeId>>>,
}

#[async_trait::async_trait]
impl Connector for Stays {
    async fn call(&self, to: NodeId, _: Bytes, _: Duration) -> Result<Bytes, CallError> {
        match *lock(&self.is_gone) {
            true => Err(CallError::NotSent { to, reason: "it is dead".to_owned() }),
            false => Ok(protocol::encode_response(Ok(&()))),
        }
    }

    fn nodes(&self) -> Vec<NodeId> {
        NODES.to_vec()
    }

    fn wants_to_learn(&self) -> bool {
        false
    }

    fn stay_with(&self, node: Option<NodeId>) {
        lock(&self.told).push(node);
    }
}

/// The cluster may have been recovered from one survivor, which is another cluster since.
#[test]
fn a_client_stays_with_the_cluster_that_helped_until_nobody_of_it_is_heard_for_a_whole_deadline() {
    let stays = Arc::new(Stays::default());
    let connector: Arc<dyn Connector> = Arc::clone(&stays) as _;
    let client =
        Client::<Nothing>::new(connector, Arc::new(Clock::default()), ClientOptions::default());
    let told = || std::mem::take(&mut *lock(&stays.told));
    crate::block_on(client.query_with(&(), Consistency::Stale)).unwrap();
    assert_eq!(told(), [], "whatever cluster that was");
    for _ in 0..2 {
        crate::block_on(client.propose(&())).unwrap();
    }
    assert_eq!(told(), [Some(NodeId(1))]);
    *lock(&stays.is_gone) = true;
    crate::block_on(client.propose(&())).unwrap_err();
    assert_eq!(told(), [None]);
    *lock(&stays.is_gone) = false;
    crate::block_on(client.propose(&())).unwrap();
    assert_eq!(told().len(), 1);
}

/// One node is silent, whatever it is asked; the others answer.
struct Silent {
    node: NodeId,
    called: Mutex<Vec<NodeId>>,
}

#[async_trait::async_trait]
impl Connector for Silent {
    async fn call(&self, to: NodeId, _: Bytes, _: Duration) -> Result<Bytes, CallError> {
        lock(&self.called).push(to);
        if to == self.node {
            return Err(CallError::MaybeSent { to, reason: "no answer".to_owned() });
        }
        Ok(protocol::encode_response(Ok(&())))
    }

    fn nodes(&self) -> Vec<NodeId> {
        NODES.to_vec()
    }

    fn wants_to_learn(&self) -> bool {
        false
    }
}

/// Its deadline may not be longer than the silence: then each operation would end where the one before it did.
#[test]
fn an_operation_does_not_begin_at_a_node_that_was_silent_the_last_time() {
    let connector = Arc::new(Silent { node: NodeId(1), called: Mutex::default() });
    let client = Client::<Nothing>::new(
        Arc::clone(&connector) as _,
        Arc::new(Clock::default()),
        ClientOptions::default(),
    );
    for _ in 0..2 {
        crate::block_on(client.query(&())).unwrap();
    }
    assert_eq!(*lock(&connector.called), [NodeId(1), NodeId(2), NodeId(2)]);
}

/// A node that is left behind knows no leader, and says so for ever.
#[test]
fn who_only_says_that_it_cannot_help_does_not_keep_a_client_with_its_cluster() {
    let stays = Arc::new(LeftBehind::default());
    let client = Client::<Nothing>::new(
        Arc::clone(&stays) as _,
        Arc::new(Clock::default()),
        ClientOptions::default(),
    );
    crate::block_on(client.propose(&())).unwrap();
    *lock(&stays.is_alone) = true;
    crate::block_on(client.propose(&())).unwrap_err();
    assert_eq!(*lock(&stays.told), [Some(NodeId(1)), None]);
}

/// Leads until it is alone.
#[derive(Default)]
struct LeftBehind {
    is_alone: Mutex<bool>,
    told: Mutex<Vec<Option<NodeId>>>,
}

#[async_trait::async_trait]
impl Connector for LeftBehind {
    async fn call(&self, _: NodeId, _: Bytes, _: Duration) -> Result<Bytes, CallError> {
        let alone = Failure::NotLeader { leader: None };
        let answer = if *lock(&self.is_alone) { Err(alone) } else { Ok(&()) };
        Ok(protocol::encode_response(answer))
    }

    fn nodes(&self) -> Vec<NodeId> {
        vec![NodeId(1)]
    }

    fn wants_to_learn(&self) -> bool {
        false
    }

    fn stay_with(&self, node: Option<NodeId>) {
        lock(&self.told).push(node);
    }
}

/// Node 1 is stopped: it takes requests, and never answers. The client's time limit for that passes at once, if at all.
struct FirstHangs {
    limit_passes: bool,
    calls: Mutex<Vec<NodeId>>,
}

impl FirstHangs {
    fn new(limit_passes: bool) -> Arc<FirstHangs> {
        Arc::new(FirstHangs { limit_passes, calls: Mutex::default() })
    }
}

#[async_trait::async_trait]
impl Connector for FirstHangs {
    async fn call(&self, to: NodeId, request: Bytes, _: Duration) -> Result<Bytes, CallError> {
        let (kind, _) = protocol::decode_request(&request).expect("a request");
        if kind == Kind::Propose {
            lock(&self.calls).push(to);
        }
        match to {
            NodeId(1) if self.limit_passes => {
                Err(CallError::MaybeSent { to, reason: "silent".to_owned() })
            }
            NodeId(1) => std::future::pending().await,
            _ => Ok(protocol::encode_response(Ok(&()))),
        }
    }

    fn nodes(&self) -> Vec<NodeId> {
        NODES.to_vec()
    }
}

/// Whoever has a time limit of its own drops the operation before the client gives the node up.
#[test]
fn a_client_whose_operations_are_dropped_does_not_begin_at_the_same_hung_node_each_time() {
    let (connector, clock) = (FirstHangs::new(false), Arc::new(Clock::default()));
    let (nodes, runtime) = (Arc::clone(&connector), Arc::clone(&clock));
    let client = Client::<Nothing>::new(nodes, runtime, ClientOptions::default());
    let drop_after = |after: Duration| {
        let mut operation = Box::pin(client.propose(&()));
        assert!((&mut operation).now_or_never().is_none(), "the node hangs");
        crate::block_on(clock.sleep(after));
    };
    // Too soon to say that it hangs.
    drop_after(Duration::from_millis(249));
    drop_after(Duration::from_millis(250));
    crate::block_on(client.propose(&())).unwrap();
    assert_eq!(*lock(&connector.calls), [1, 1, 2].map(NodeId));
}

#[test]
fn a_new_client_does_not_begin_at_the_same_hung_node_each_time() {
    let (connector, clock) = (FirstHangs::new(true), Arc::new(Clock::default()));
    let nodes = Arc::clone(&connector);
    let client = Client::<Nothing>::new(nodes, clock, ClientOptions::default());
    let error = crate::block_on(client.propose(&())).unwrap_err();
    assert!(matches!(error, ClientError::Maybe { .. }), "{error}");
    crate::block_on(client.propose(&())).unwrap();
    assert_eq!(*lock(&connector.calls), [1, 2].map(NodeId));
}
