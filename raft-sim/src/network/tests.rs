//! Nodes that note what they are given, clients, and somebody who listens.

mod calls;
mod conditions;
mod lies;
mod packets;
mod topology;

use bytes::Bytes;
use futures::FutureExt;
use raft_rsm::raft_core::{EntryId, Envelope, Incarnation, LogIndex, Message, Term};
use raft_rsm::transport::{CallError, Packet, Reply};

use super::*;
use crate::event::CallOutcome;
use crate::executor::{Step, WORLD};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);
const A: Site = Site::Node(ONE);
const B: Site = Site::Node(TWO);
const C: Site = Site::Node(THREE);
const CLIENT: Site = Site::Client(0);

/// Three nodes and a network.
struct Stand {
    executor: Executor,
    network: Network,
    events: Arc<Events>,
    lives: BTreeMap<NodeId, Living>,
}

struct Living {
    process: ProcessId,
    transport: Arc<dyn Transport>,
    notes: Arc<Notes>,
}

/// What one life of a node was given.
struct Notes {
    node: NodeId,
    executor: Executor,
    state: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    packets: Vec<(Duration, Packet)>,
    disconnected: Vec<(Duration, NodeId)>,
    requests: Vec<Bytes>,
    answering: Answering,
    held: Vec<Reply>,
}

/// What a node does with requests.
#[derive(Copy, Clone, Default)]
enum Answering {
    /// Answers with its id and the body of the request.
    #[default]
    Echo,
    /// Drops the reply.
    Drop,
    /// Keeps the reply.
    Hold,
}

#[derive(Default)]
struct Events(Mutex<Vec<(Duration, Event)>>);

/// When a call ended, and how.
type Ended = (Duration, Result<Bytes, CallError>);
type CallEnd = Arc<Mutex<Option<Ended>>>;

impl Listener for Events {
    fn event(&self, now: Duration, event: Event) {
        self.0.lock().unwrap().push((now, event));
    }
}

impl Inbox for Notes {
    fn deliver(&self, packet: Packet) {
        self.lock().packets.push((self.executor.now(), packet));
    }

    fn disconnected(&self, peer: NodeId) {
        self.lock().disconnected.push((self.executor.now(), peer));
    }
}

impl Service for Notes {
    fn call(&self, request: Bytes, reply: Reply) {
        let mut state = self.lock();
        state.requests.push(request.clone());
        match state.answering {
            Answering::Echo => {
                drop(state);
                reply.send(answer_of(self.node, &request[2..]));
            }
            Answering::Drop => {
                drop(state);
                drop(reply);
            }
            Answering::Hold => state.held.push(reply),
        }
    }
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.state.lock().unwrap()
    }
}

impl Stand {
    fn new(seed: u64) -> Stand {
        let executor = Executor::new(Random::new(seed));
        let events = Arc::new(Events::default());
        let listener = Arc::clone(&events) as Arc<dyn Listener>;
        let network = Network::new(executor.clone(), Random::new(seed), listener);
        let mut stand = Stand { executor, network, events, lives: BTreeMap::new() };
        [ONE, TWO, THREE].into_iter().for_each(|node| stand.start(node));
        stand
    }

    fn with(seed: u64, conditions: Conditions) -> Stand {
        let stand = Stand::new(seed);
        stand.network.set_conditions(conditions);
        stand
    }

    /// Starts a life of a node.
    fn start(&mut self, node: NodeId) {
        let process = self.executor.process();
        let transport = self.network.transport(node, process);
        let (executor, state) = (self.executor.clone(), Mutex::default());
        let notes = Arc::new(Notes { node, executor, state });
        transport.start(Arc::clone(&notes) as _, Arc::clone(&notes) as _);
        self.lives.insert(node, Living { process, transport, notes });
    }

    /// Lets everything happen that is going to.
    fn run(&self) {
        while !matches!(self.executor.step(), Step::Idle) {}
    }

    fn run_for(&self, time: Duration) {
        let end = Arc::new(Mutex::new(false));
        let is_over = Arc::clone(&end);
        self.executor.call_at(self.executor.now() + time, move || *is_over.lock().unwrap() = true);
        while !*end.lock().unwrap() {
            self.executor.step();
        }
    }

    fn send(&self, from: NodeId, to: NodeId, number: u64) {
        self.lives[&from].transport.send(request(from, to, number));
    }

    fn respond(&self, from: NodeId, to: NodeId, number: u64) {
        self.lives[&from].transport.send(response(from, to, number));
    }

    fn notes(&self, node: NodeId) -> MutexGuard<'_, Noted> {
        self.lives[&node].notes.lock()
    }

    /// The numbers of the packets that arrived at a node, in their order.
    fn numbers(&self, node: NodeId) -> Vec<u64> {
        self.notes(node).packets.iter().map(|(_, packet)| number(packet)).collect()
    }

    /// Begins a call of client 0.
    fn call(&self, to: NodeId, body: &str, deadline: Duration) -> CallEnd {
        let connector = self.network.connector(0);
        let (end, clock) = (CallEnd::default(), self.executor.clone());
        let (result, request) = (Arc::clone(&end), propose(body));
        let task = async move {
            let answer = connector.call(to, request, deadline).await;
            *result.lock().unwrap() = Some((clock.now(), answer));
        };
        self.executor.spawn(WORLD, "call", task.boxed());
        end
    }

    /// What comes of a call, and when.
    fn called(&self, to: NodeId, body: &str) -> Ended {
        let end = self.call(to, body, SECOND);
        self.run();
        ended(&end)
    }

    fn events<T>(&self, wanted: impl Fn(&Event) -> Option<T>) -> Vec<T> {
        self.events.0.lock().unwrap().iter().filter_map(|(_, event)| wanted(event)).collect()
    }

    /// Why parcels were lost.
    fn losses(&self) -> Vec<&'static str> {
        self.events(|event| if let Event::Lost { why, .. } = event { Some(*why) } else { None })
    }

    fn outcomes(&self) -> Vec<CallOutcome> {
        self.events(|event| {
            if let Event::CallEnded { outcome, .. } = event { Some(*outcome) } else { None }
        })
    }
}

#[track_caller]
fn ended(end: &CallEnd) -> Ended {
    end.lock().unwrap().take().expect("the call has ended")
}

/// A command, as a client sends it.
fn propose(body: &str) -> Bytes {
    Bytes::from([&[1, 1], body.as_bytes()].concat())
}

fn answer_of(node: NodeId, body: &[u8]) -> Bytes {
    Bytes::from([&[1, 1], format!("{node}: ").as_bytes(), body].concat())
}

fn raft(from: NodeId, to: NodeId, message: Message) -> Packet {
    Packet::Raft(Envelope {
        from,
        incarnation: Incarnation(0),
        is_meant: true,
        to,
        term: Term(7),
        message,
    })
}

fn request(from: NodeId, to: NodeId, number: u64) -> Packet {
    let last = EntryId::new(Term(1), LogIndex(number));
    raft(from, to, Message::RequestVote { last, transfer: false })
}

fn response(from: NodeId, to: NodeId, number: u64) -> Packet {
    let received = LogIndex::ZERO;
    raft(from, to, Message::HeartbeatResponse { round: number, received })
}

fn number(packet: &Packet) -> u64 {
    let Packet::Raft(envelope) = packet else { panic!("no message: {packet:?}") };
    if let Message::RequestVote { last, .. } = envelope.message {
        return last.index.0;
    }
    let Message::HeartbeatResponse { round, .. } = envelope.message else {
        panic!("no number: {packet:?}")
    };
    round
}
