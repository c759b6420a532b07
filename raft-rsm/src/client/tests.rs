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
    crate::raft::first_status(&node.unwrap(), None, 0)
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

/// Hands the lead over to node 3. It keeps whom it was asked for.
#[derive(Default)]
struct HandsOver(Mutex<Vec<NodeId>>);

#[async_trait::async_trait]
impl Connector for HandsOver {
    async fn call(&self, to: NodeId, request: Bytes, _: Duration) -> Result<Bytes, CallError> {
        lock(&self.0).push(to);
        let (kind, _) = protocol::decode_request(&request).expect("a request");
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
