//! All there is at one moment, and what is remembered of the past to judge it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use raft_core::{EntryId, NodeId, Term};

use crate::bounds::Bounds;
use crate::disk::Disk;
use crate::network::Network;
use crate::properties::Broken;
use crate::server::{Done, Server};

/// All servers, all messages, and what may still happen.
#[derive(Clone, Debug)]
pub struct State {
    /// By id, from 1.
    pub(crate) servers: Vec<Arc<Server>>,
    pub(crate) network: Network,
    pub(crate) past: Past,
    pub(crate) left: Left,
    pub(crate) broken: Broken,
}

/// What is remembered of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Past {
    /// Who was seen to lead a term, until no other can lead it any more.
    pub(crate) leaders: Vec<(Term, NodeId)>,
    /// The committed entries from the first on, each with the term of the node that said so first.
    pub(crate) committed: Vec<(EntryId, Term)>,
}

/// How often something may still happen.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    pub(crate) proposals: u8,
    pub(crate) crashes: u8,
    pub(crate) heartbeats: u8,
    pub(crate) changes: u8,
}

impl State {
    /// All servers have just started, for the first time. `None`: a node does not start.
    pub(crate) fn first(bounds: &Bounds) -> Option<State> {
        let mut servers = Vec::new();
        for id in bounds.ids() {
            let mut server = Server::start(bounds, id, Disk::empty(), false)?;
            server.carry_out(bounds, &mut Done::default());
            server.canonicalize();
            servers.push(Arc::new(server));
        }
        let left = Left {
            proposals: bounds.proposals,
            crashes: bounds.crashes,
            heartbeats: bounds.heartbeats,
            changes: u8::from(bounds.change_to.is_some()),
        };
        let (network, past, broken) = (Network::default(), Past::default(), Broken::default());
        Some(State { servers, network, past, left, broken })
    }

    pub(crate) fn server(&self, id: NodeId) -> Option<&Arc<Server>> {
        self.servers.get(place(id)?)
    }

    pub(crate) fn server_mut(&mut self, id: NodeId) -> Option<&mut Server> {
        self.servers.get_mut(place(id)?).map(Arc::make_mut)
    }

    /// Forgets who led a term that no node can enter any more, not even after a crash.
    pub(crate) fn forget(&mut self) {
        let over = self.servers.iter().map(|server| server.disk.term()).min();
        let leads = |term| self.servers.iter().any(|server| server.leads_in(term));
        self.past.leaders.retain(|(term, _)| Some(*term) >= over || leads(*term));
    }

    /// Whether nothing has happened yet.
    pub(crate) fn is_first(&self) -> bool {
        self.servers.iter().all(|server| server.node.term() == Term(0))
            && self.network.prints().count() == 0
    }
}

fn place(id: NodeId) -> Option<usize> {
    usize::try_from(id.0.checked_sub(1)?).ok()
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for server in &self.servers {
            state.write_u64(server.print);
        }
        for print in self.network.prints() {
            state.write_u64(print);
        }
        (&self.past, self.left, self.broken).hash(state);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        let same = |(a, b): (&Arc<Server>, &Arc<Server>)| a.print == b.print;
        self.servers.iter().zip(&other.servers).all(same)
            && self.network.prints().eq(other.network.prints())
            && (&self.past, self.left, self.broken) == (&other.past, other.left, other.broken)
    }
}
