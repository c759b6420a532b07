//! The connector of a client: requests on their way to nodes, and answers on their way back.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::{Either, select};
use raft_rsm::raft_core::NodeId;
use raft_rsm::transport::{CallError, Connector, Reply};
use raft_rsm::wire::{Known, Outcome, Request, read_answer, read_consistency, read_request};

use super::conditions::Direction;
use super::lies::{LIE_CHANCE, Lie};
use super::{Absence, Cause, Network, State};
use crate::event::{CallId, CallOutcome, Digest, Event, ParcelId, RequestKind, Site};

/// How many of the clients that cannot reach a node notice it before their deadline.
const NOTICE_CHANCE: f64 = 0.5;

/// A client's side of the network.
pub(super) struct ClientConnector {
    network: Network,
    client: u64,
    /// `None`: every node that is known.
    nodes: Mutex<Option<BTreeSet<NodeId>>>,
}

/// A call that waits for its end. Dropped, it ends since its connection was closed.
pub(super) struct Call {
    pub(super) client: u64,
    pub(super) to: NodeId,
    kind: RequestKind,
    end: oneshot::Sender<End>,
}

/// How a call ends.
enum End {
    Answered(Bytes),
    NotSent(&'static str),
    MaybeSent(&'static str),
}

/// Tells that a call has ended, however it does.
struct CallGuard {
    network: Network,
    id: u64,
    outcome: CallOutcome,
}

/// A request on its way.
#[derive(Clone)]
struct Flight {
    id: u64,
    client: u64,
    to: NodeId,
    /// The life of `to` that it was sent to.
    life: u64,
    connection: u64,
    request: Bytes,
    /// A network that lies sends it once more.
    is_repeated: bool,
}

impl ClientConnector {
    pub(super) fn new(
        network: Network,
        client: u64,
        nodes: Option<BTreeSet<NodeId>>,
    ) -> ClientConnector {
        ClientConnector { network, client, nodes: Mutex::new(nodes) }
    }
}

#[async_trait]
impl Connector for ClientConnector {
    async fn call(
        &self,
        to: NodeId,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let (end, ended) = oneshot::channel();
        let id = self.network.ask(self.client, to, request, end);
        let network = self.network.clone();
        let mut guard = CallGuard { network, id, outcome: CallOutcome::Maybe };
        let end = match select(ended, self.network.shared.executor.sleep(deadline)).await {
            Either::Left((Ok(end), _)) => end,
            Either::Left((Err(oneshot::Canceled), _)) => {
                End::MaybeSent("the connection was closed")
            }
            Either::Right(_) => End::MaybeSent("the deadline has passed"),
        };
        match end {
            End::Answered(answer) => {
                guard.outcome = outcome(&answer);
                Ok(answer)
            }
            End::NotSent(reason) => {
                guard.outcome = CallOutcome::Refused;
                Err(CallError::NotSent { to, reason: reason.to_owned() })
            }
            End::MaybeSent(reason) => Err(CallError::MaybeSent { to, reason: reason.to_owned() }),
        }
    }

    fn nodes(&self) -> Vec<NodeId> {
        match &*self.nodes.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(nodes) => nodes.iter().copied().collect(),
            None => self.network.lock().nodes.keys().copied().collect(),
        }
    }

    /// Nodes are found by their id.
    fn wants_to_learn(&self) -> bool {
        false
    }

    /// Nodes are found by their id.
    fn learn(&self, learned: &[(NodeId, String)]) {
        if let Some(nodes) = &mut *self.nodes.lock().unwrap_or_else(PoisonError::into_inner) {
            nodes.extend(learned.iter().map(|(id, _)| *id));
        }
    }
}

impl fmt::Debug for ClientConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConnector").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        let call = state.calls.remove(&self.id);
        let event = Event::CallEnded { call: CallId(self.id), outcome: self.outcome };
        self.network.tell(&state, self.network.now(), event);
        drop(state);
        drop(call);
    }
}

impl Network {
    /// Sends a request; `end` hears of it unless the deadline passes first.
    fn ask(&self, client: u64, to: NodeId, request: Bytes, end: oneshot::Sender<End>) -> u64 {
        let mut state = self.lock();
        let now = self.now();
        let id = state.next_id();
        if state.is_cleared {
            return id;
        }
        let kind = request_kind(&request);
        let bytes = request.len();
        self.tell(&state, now, Event::Asked { call: CallId(id), client, to, kind, bytes });
        state.calls.insert(id, Call { client, to, kind, end });

        let way = (Site::Client(client), Site::Node(to));
        let fate = state.draw(way.0, way.1, Direction::Request);
        let notices_after = state.draw_notice(way.0, way.1);
        if let Some(node) = state.nodes.get_mut(&to) {
            node.counters.requests_asked += 1;
        }
        let reached = state.nodes.get(&to).and_then(|node| node.life.as_ref());
        let reached = reached.filter(|life| life.gate.is_some() && !self.is_dead(life));
        let reached = reached.map(|life| life.id);
        let is_silent = state.nodes.get(&to).is_some_and(|node| node.absence == Absence::Silent);
        if is_silent || state.topology.is_cut(way.0, way.1) {
            let cause = if is_silent { Cause::Absent } else { Cause::Cut };
            self.lose_of_call(&mut state, id, to, cause);
            if let Some(after) = notices_after {
                let at = now.saturating_add(after);
                self.end_call_at(at, id, End::NotSent("it cannot be reached"));
            }
            return id;
        }
        let Some(life) = reached else {
            self.lose_of_call(&mut state, id, to, Cause::Absent);
            let at = now.saturating_add(fate.after);
            self.end_call_at(at, id, End::NotSent("the connection was refused"));
            return id;
        };
        match state.depart(now, way, request.len(), fate) {
            Ok(departure) => {
                let connection = departure.connection;
                let flight =
                    Flight { id, client, to, life, connection, request, is_repeated: false };
                self.maybe_repeat(&mut state, departure.at, &flight);
                self.carry_request(departure.at, flight);
            }
            Err(cause @ Cause::Crowded) => {
                self.lose_of_call(&mut state, id, to, cause);
                self.end_call_at(now, id, End::NotSent(cause.why()));
            }
            // Nobody is told: the caller waits for its deadline.
            Err(cause) => self.lose_of_call(&mut state, id, to, cause),
        }
        id
    }

    fn carry_request(&self, at: Duration, flight: Flight) {
        let network = self.clone();
        self.shared.executor.call_at(at, move || network.request_arrives(flight));
    }

    fn request_arrives(&self, flight: Flight) {
        let Flight { id, client, to, life, connection, request, is_repeated } = flight;
        let mut state = self.lock();
        let landed = state.land((Site::Client(client), Site::Node(to)), connection).map(drop);
        let gate = landed.and_then(|()| self.gate(&state, to, Some(life)).ok_or(Cause::Absent));
        let gate = match gate {
            Ok(gate) => gate,
            Err(cause) => return self.lose_of_call(&mut state, id, to, cause),
        };
        state.node(to).counters.requests += 1;
        self.tell(&state, self.now(), Event::RequestArrived { call: CallId(id), at: to });
        drop(state);
        let network = self.clone();
        let reply = Reply::new(move |answer| {
            // The repetition is answered, too, and nobody waits for it.
            if !is_repeated {
                network.answer(id, client, (to, life), answer);
            }
        });
        self.hand(gate.process, move || gate.service.call(request, reply));
    }

    /// An answer, or the news that there is none, leaves a node.
    fn answer(&self, id: u64, client: u64, (node, life): (NodeId, u64), answer: Option<Bytes>) {
        let mut state = self.lock();
        if !self.is_alive(&state, node, life) {
            return;
        }
        let way = (Site::Node(node), Site::Client(client));
        let fate = state.draw(way.0, way.1, Direction::Response);
        let bytes = answer.as_ref().map_or(0, Bytes::len);
        match state.depart(self.now(), way, bytes, fate) {
            Ok(departure) => {
                let (network, connection) = (self.clone(), departure.connection);
                let arrive = move || network.answer_arrives(id, way, connection, answer);
                self.shared.executor.call_at(departure.at, arrive);
            }
            Err(cause) => self.lose_of_call(&mut state, id, node, cause),
        }
    }

    fn answer_arrives(&self, id: u64, way: (Site, Site), connection: u64, answer: Option<Bytes>) {
        let mut state = self.lock();
        let landed = state.land(way, connection).map(drop);
        // A caller that has gone away no longer wants it.
        let Some(to) = state.calls.get(&id).map(|call| call.to) else { return };
        if let Err(cause) = landed {
            return self.lose_of_call(&mut state, id, to, cause);
        }
        let Some(call) = state.calls.remove(&id) else { return };
        state.node(to).counters.answers += 1;
        let end = match answer {
            Some(answer) => End::Answered(state.maybe_swap(call.kind, answer)),
            None => End::MaybeSent("it gave no answer"),
        };
        drop(state);
        let _ = call.end.send(end);
    }

    /// Tells the callers of a node, after a while, that their connection to it was closed.
    pub(super) fn tell_callers_closed(&self, state: &mut State, node: NodeId) {
        let now = self.now();
        let calls = state.calls.iter().filter(|(_, call)| call.to == node);
        let calls: Vec<(u64, u64)> = calls.map(|(id, call)| (*id, call.client)).collect();
        for (id, client) in calls {
            let way = (Site::Node(node), Site::Client(client));
            let at = state.closing_time(now, way.0, way.1);
            let network = self.clone();
            self.shared.executor.call_at(at, move || {
                let is_cut = network.lock().topology.is_cut(way.0, way.1);
                if !is_cut {
                    network.end_call(id, End::MaybeSent("the connection was closed"));
                }
            });
        }
    }

    fn end_call_at(&self, at: Duration, id: u64, end: End) {
        let network = self.clone();
        self.shared.executor.call_at(at, move || network.end_call(id, end));
    }

    fn end_call(&self, id: u64, end: End) {
        let call = self.lock().calls.remove(&id);
        if let Some(call) = call {
            let _ = call.end.send(end);
        }
    }

    fn lose_of_call(&self, state: &mut State, id: u64, node: NodeId, cause: Cause) {
        if let Some(node) = state.nodes.get_mut(&node) {
            node.counters.requests_lost += 1;
        }
        self.tell(state, self.now(), Event::Lost { parcel: ParcelId(id), why: cause.why() });
    }

    /// A network that lies lets a request arrive twice.
    fn maybe_repeat(&self, state: &mut State, at: Duration, flight: &Flight) {
        if state.lie == Some(Lie::RepeatsRequests) && state.dice.lies.chance(LIE_CHANCE) {
            state.in_flight += 1;
            self.carry_request(at, Flight { is_repeated: true, ..flight.clone() });
        }
    }
}

impl State {
    /// After how long a client notices that it cannot reach a node, if it does. Always draws twice.
    fn draw_notice(&mut self, from: Site, to: Site) -> Option<Duration> {
        let link = self.links.entry((from, to)).or_default();
        let conditions = link.conditions.as_deref().unwrap_or(&self.conditions);
        let after = self.dice.calls.duration(&conditions.unreachable_delay);
        self.dice.calls.chance(NOTICE_CHANCE).then_some(after)
    }

    /// What a client gets as its answer: of a network that lies, at times the one before, to the same kind of call.
    fn maybe_swap(&mut self, kind: RequestKind, answer: Bytes) -> Bytes {
        let place = match kind {
            RequestKind::Propose(_) | RequestKind::ProposeKnown { .. } => 0,
            RequestKind::Query(_) => 1,
            RequestKind::Session | RequestKind::Status => return answer,
        };
        let is_lying = self.lie == Some(Lie::AnswersOfAnotherCall);
        if !is_lying || !matches!(read_answer(&answer), Some(Outcome::Answered(_))) {
            return answer;
        }
        let before = self.last_answers[place].replace(answer.clone());
        before.filter(|_| self.dice.lies.chance(LIE_CHANCE)).unwrap_or(answer)
    }
}

fn request_kind(request: &[u8]) -> RequestKind {
    match read_request(request) {
        Some(Request::Propose(command)) => RequestKind::Propose(Digest::of(command)),
        Some(Request::ProposeKnown { known, command }) => {
            let known = match known {
                Known::InSession(session, sequence) => {
                    Digest::of(&[session.0.to_le_bytes(), sequence.to_le_bytes()].concat())
                }
                Known::ByName(name) => Digest::of(name),
            };
            RequestKind::ProposeKnown { known, command: Digest::of(command) }
        }
        Some(Request::Session) => RequestKind::Session,
        Some(Request::Query(_)) => {
            RequestKind::Query(read_consistency(request).unwrap_or_default())
        }
        // What no node can read has no effect either.
        Some(Request::Status | _) | None => RequestKind::Status,
    }
}

fn outcome(answer: &[u8]) -> CallOutcome {
    match read_answer(answer) {
        Some(Outcome::Answered(_)) => CallOutcome::Answered,
        Some(Outcome::Refused) => CallOutcome::Refused,
        // The client cannot tell from what it cannot read.
        Some(Outcome::Maybe | _) | None => CallOutcome::Maybe,
    }
}
