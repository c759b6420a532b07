//! What a service does with the replica in its own process: no network is between.

use std::future::Future;
use std::sync::{Arc, PoisonError};

use raft_rsm::raft_core::NodeId;
use raft_rsm::{ProposeError, StateMachine};

use super::Cluster;
use crate::event::{CallId, CallOutcome, Digest, Event, OWN_PROCESS, RequestKind};

impl<M: StateMachine> Cluster<M> {
    /// Looks at the machine of a node that runs and is ready, as it is at this moment: what the node has applied, not
    /// what is committed.
    pub fn inspect<R>(&self, id: NodeId, look: impl FnOnce(&M) -> R) -> Option<R> {
        let machine = {
            let nodes = self.nodes();
            Arc::clone(&nodes.get(&id)?.life.as_ref()?.ready.as_ref()?.machine)
        };
        Some(look(&machine.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Proposes `command` at a node as the service around it does. The checkers count it like a client's. A node that
    /// dies answers that nobody knows; one that is paused, not before it goes on.
    ///
    /// # Errors
    /// Those of [`raft_rsm::Raft::propose`]; [`ProposeError::Stopped`] where the node does not run or is not ready.
    pub fn propose(
        &self,
        id: NodeId,
        command: M::Command,
    ) -> impl Future<Output = Result<M::Response, ProposeError>> + Send + use<M> {
        let cluster = self.clone();
        async move {
            let replica = cluster.replica(id).ok_or(ProposeError::Stopped)?;
            let mut asked = Asked::new(cluster, id, Digest::of_value(&command));
            let result = replica.propose(command).await;
            asked.outcome = match &result {
                Ok(_) => CallOutcome::Answered,
                Err(error) if error.may_take_effect() => CallOutcome::Maybe,
                Err(_) => CallOutcome::Refused,
            };
            result
        }
    }
}

/// Tells that a proposal was made, and how it ended, however it does.
struct Asked<M: StateMachine> {
    cluster: Cluster<M>,
    call: CallId,
    outcome: CallOutcome,
}

impl<M: StateMachine> Asked<M> {
    fn new(cluster: Cluster<M>, to: NodeId, command: Digest) -> Asked<M> {
        let call = cluster.network().local_call();
        let kind = RequestKind::Propose(command);
        cluster.tell(Event::Asked { call, client: OWN_PROCESS, to, kind });
        Asked { cluster, call, outcome: CallOutcome::Maybe }
    }
}

impl<M: StateMachine> Drop for Asked<M> {
    fn drop(&mut self) {
        self.cluster.tell(Event::CallEnded { call: self.call, outcome: self.outcome });
    }
}
