//! What can happen next.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft_core::{Envelope, Incarnation, Input, Message, NodeId, Role, Term};
use stateright::{Model, Property};

use crate::bounds::Bounds;
use crate::fault::Fault;
use crate::properties::{self, Claim};
use crate::server::{Done, Server};
use crate::state::State;

/// Real nodes within bounds, and perhaps an error that is planted.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// How far to go.
    pub bounds: Bounds,
    /// What is broken on purpose.
    pub fault: Option<Fault>,
}

/// One thing that happens.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// A message arrives. It may arrive again.
    Deliver(Arc<Envelope>),
    /// The first node learns that the second is in a later term.
    Learn(NodeId, NodeId),
    /// A node that does not lead stops waiting: for a leader, or for votes.
    TimeOut(NodeId),
    /// A leader was not heard for the shortest election timeout: it protects nobody from other candidates any more.
    Silence(NodeId),
    /// A leader sends a round of heartbeats.
    Heartbeat(NodeId),
    /// A leader has heard nobody for an election timeout.
    Isolate(NodeId),
    /// The write that is out becomes durable.
    Persist(NodeId),
    /// A server loses what is not on its disk, and starts again.
    Crash(NodeId),
    /// A client proposes a command to a leader.
    Propose(NodeId),
    /// An operator asks a leader for other members.
    Change(NodeId),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Deliver(envelope) => {
                let Envelope { from, to, term, message, .. } = &**envelope;
                write!(f, "{from}→{to}, term {term}: {message:?}")
            }
            Action::Learn(id, from) => write!(f, "{id} learns the term of {from}"),
            Action::TimeOut(id) => write!(f, "{id} times out"),
            Action::Silence(id) => write!(f, "{id} has not heard its leader for a while"),
            Action::Heartbeat(id) => write!(f, "{id} sends heartbeats"),
            Action::Isolate(id) => write!(f, "{id} leads and has heard nobody for a while"),
            Action::Persist(id) => write!(f, "{id}'s write is durable"),
            Action::Crash(id) => write!(f, "{id} crashes and starts again"),
            Action::Propose(id) => write!(f, "{id} is proposed a command"),
            Action::Change(id) => write!(f, "{id} is asked for other members"),
        }
    }
}

impl Cluster {
    fn server_actions(&self, state: &State, server: &Server, actions: &mut Vec<Action>) {
        let (id, node, left) = (server.node.id(), &server.node, state.left);
        let may_campaign = node.term() < Term(self.bounds.term_max);
        if node.role() == Role::Leader {
            if left.heartbeats > 0 {
                actions.push(Action::Heartbeat(id));
            }
            if self.bounds.check_quorum {
                actions.push(Action::Isolate(id));
            }
            if left.proposals > 0 {
                actions.push(Action::Propose(id));
            }
            if left.changes > 0 {
                actions.push(Action::Change(id));
            }
        } else {
            let may_begin = self.bounds.goes_first(id) || !state.is_first();
            let may_campaign = may_campaign && self.bounds.candidates.contains(&id.0);
            if may_campaign && may_begin && node.next_tick() < Duration::MAX {
                actions.push(Action::TimeOut(id));
            }
            if node.hears_until().is_some() {
                actions.push(Action::Silence(id));
            }
        }
        if !self.bounds.refusals {
            let later = state.servers.iter().filter(|other| other.node.term() > node.term());
            actions.extend(later.map(|other| Action::Learn(id, other.node.id())));
        }
        if server.write.is_some() {
            actions.push(Action::Persist(id));
        }
        if left.crashes > 0 {
            actions.push(Action::Crash(id));
        }
    }

    /// Lets the one server that `action` is about take its step. `None`: nothing happens.
    fn act(&self, state: &mut State, action: &Action) -> Option<()> {
        let id = action.server();
        let before = Arc::clone(state.server(id)?);
        let mut done = Done::default();
        self.begin(state, action, &mut done)?;
        let server = state.server_mut(id)?;
        done.see(&server.node);
        server.carry_out(&self.bounds, &mut done);
        server.canonicalize();
        let lies = self.fault.map_or(Vec::new(), |fault| fault.lies(&server.node));
        for envelope in done.sent.drain(..).chain(lies) {
            state.network.send(envelope);
        }
        properties::judge(state, id, &before, &done);
        state.network.canonicalize(&state.servers, &self.bounds);
        state.forget();
        Some(())
    }

    fn begin(&self, state: &mut State, action: &Action, done: &mut Done) -> Option<()> {
        let (bounds, left) = (&self.bounds, &mut state.left);
        match action {
            Action::Propose(_) => left.proposals -= 1,
            Action::Change(_) => left.changes -= 1,
            Action::Heartbeat(_) => left.heartbeats -= 1,
            Action::Crash(_) => left.crashes -= 1,
            Action::Deliver(_)
            | Action::Learn(..)
            | Action::TimeOut(_)
            | Action::Silence(_)
            | Action::Isolate(_)
            | Action::Persist(_) => {}
        }
        let refusal = match action {
            Action::Learn(id, from) => refusal(state, *id, *from),
            Action::Deliver(_)
            | Action::TimeOut(_)
            | Action::Silence(_)
            | Action::Heartbeat(_)
            | Action::Isolate(_)
            | Action::Persist(_)
            | Action::Crash(_)
            | Action::Propose(_)
            | Action::Change(_) => None,
        };
        let server = state.server_mut(action.server())?;
        let node = &mut server.node;
        match action {
            Action::Deliver(envelope) => node.step(Input::Receive(Envelope::clone(envelope))),
            Action::Learn(..) => node.step(Input::Receive(refusal?)),
            Action::TimeOut(_) | Action::Heartbeat(_) => node.step(Input::Tick(node.next_tick())),
            Action::Silence(_) => node.step(Input::Tick(node.hears_until()?)),
            Action::Isolate(_) => {
                let later = node.time() + Server::election_timeout(bounds);
                node.step(Input::Tick(later));
                if node.role() == Role::Leader {
                    return None;
                }
            }
            Action::Persist(_) => server.persist(done),
            Action::Crash(id) => {
                let mut disk = server.disk.clone();
                if let Some(fault) = self.fault {
                    fault.crash(&mut disk);
                }
                let forgets = self.fault == Some(Fault::ForgetsConfiguration);
                done.restarted = true;
                match Server::start(bounds, *id, disk, forgets) {
                    Some(started) => *server = started,
                    None => state.broken.expect(Claim::NoPanic, false),
                }
            }
            Action::Propose(_) => drop(node.propose(Bytes::new()).ok()?),
            Action::Change(_) => node.change_membership(&bounds.target()?).ok()?,
        }
        Some(())
    }
}

/// What `from` answers to something old that `to` has said.
fn refusal(state: &State, to: NodeId, from: NodeId) -> Option<Envelope> {
    let term = state.server(from)?.node.term();
    let message = Message::VoteResponse { candidate: Incarnation(0), granted: false };
    Some(Envelope { from, incarnation: Incarnation(0), is_meant: true, to, term, message })
}

impl Action {
    /// The one server that takes a step.
    fn server(&self) -> NodeId {
        match self {
            Action::Deliver(envelope) => envelope.to,
            Action::Learn(id, _)
            | Action::TimeOut(id)
            | Action::Silence(id)
            | Action::Heartbeat(id)
            | Action::Isolate(id)
            | Action::Persist(id)
            | Action::Crash(id)
            | Action::Propose(id)
            | Action::Change(id) => *id,
        }
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        State::first(&self.bounds).into_iter().collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(state.network.iter().map(|envelope| Action::Deliver(Arc::clone(envelope))));
        for server in &state.servers {
            self.server_actions(state, server, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match catch_unwind(AssertUnwindSafe(|| self.act(&mut next, &action))) {
            Ok(acted) => acted?,
            Err(_) => {
                next = state.clone();
                next.broken.expect(Claim::NoPanic, false);
            }
        }
        let idle = next.left != state.left && {
            let spent = next.left;
            next.left = state.left;
            let same = next == *state;
            next.left = spent;
            same
        };
        (!idle && next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Cluster>> {
        fn always(claim: Claim, condition: fn(&Cluster, &State) -> bool) -> Property<Cluster> {
            Property::always(claim.name(), condition)
        }
        vec![
            always(Claim::ElectionSafety, |_, s| s.broken.holds(Claim::ElectionSafety)),
            always(Claim::LeaderAppendOnly, |_, s| s.broken.holds(Claim::LeaderAppendOnly)),
            always(Claim::LogMatching, |_, s| s.broken.holds(Claim::LogMatching)),
            always(Claim::LeaderCompleteness, |_, s| s.broken.holds(Claim::LeaderCompleteness)),
            always(Claim::StateMachineSafety, |_, s| s.broken.holds(Claim::StateMachineSafety)),
            always(Claim::Quorum, |_, s| s.broken.holds(Claim::Quorum)),
            always(Claim::Promise, |_, s| s.broken.holds(Claim::Promise)),
            always(Claim::Disk, |_, s| s.broken.holds(Claim::Disk)),
            always(Claim::NoPanic, |_, s| s.broken.holds(Claim::NoPanic)),
        ]
    }

    /// A term after the last one is another model's.
    fn within_boundary(&self, state: &State) -> bool {
        let last = Term(self.bounds.term_max);
        state.servers.iter().all(|server| server.node.term() <= last)
    }
}
