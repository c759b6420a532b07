//! The node's own machine and storage, with somebody who looks over their shoulder.

mod ledger;
mod machine;
mod storage;

pub(crate) use self::ledger::Ledger;
pub use self::ledger::Told;
pub use self::machine::ObservedMachine;
pub use self::storage::ObservedStorage;

use std::sync::{Arc, Mutex, PoisonError};

use raft_rsm::raft_core::{EntryId, NodeId};

use crate::event::{Event, Listener};
use crate::executor::Executor;

/// Tells the listener what happens at one node.
#[derive(Clone)]
pub struct Observer {
    node: NodeId,
    executor: Executor,
    listener: Arc<dyn Listener>,
    /// Has the node's status told, if it has changed: called before a write is told that came out of the change.
    look: Arc<dyn Fn() + Send + Sync>,
    /// Takes down what the machines are told.
    ledger: Arc<Ledger>,
    /// Where the snapshot ends that was opened last: a restore reads that one.
    opened: Arc<Mutex<EntryId>>,
}

impl Observer {
    /// Tells `listener` what happens at `node`; before a write it calls `look`.
    pub(crate) fn new(
        node: NodeId,
        executor: Executor,
        listener: Arc<dyn Listener>,
        look: Arc<dyn Fn() + Send + Sync>,
        ledger: Arc<Ledger>,
    ) -> Observer {
        Observer { node, executor, listener, look, ledger, opened: Arc::default() }
    }

    fn tell(&self, event: Event) {
        self.listener.event(self.executor.now(), event);
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, EntryId> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("node", &self.node).finish_non_exhaustive()
    }
}
