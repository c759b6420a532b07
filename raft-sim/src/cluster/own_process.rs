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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use raft_rsm::Uncertain;

    use super::*;
    use crate::event::Crash;
    use crate::registers::{Registers, Write, Written};
    use crate::{Report, Simulation};

    const MS: Duration = Duration::from_millis(1);

    fn write(register: u8) -> Write {
        Write { register, version: 0, value: vec![register] }
    }

    fn run<F: Future<Output = ()> + Send + 'static>(
        scenario: impl FnOnce(Cluster<Registers>) -> F,
    ) -> Report {
        let simulation = Simulation::new(7).nodes(1).machine(Registers::default);
        simulation.scenario(|_| {}, scenario).unwrap()
    }

    #[test]
    fn a_proposal_in_its_own_process_is_answered_counted_and_seen_in_the_machine() {
        let report = run(|cluster| async move {
            let id = NodeId(1);
            // It is not ready at once.
            assert!(cluster.inspect(id, |_| ()).is_none());
            assert_eq!(cluster.propose(id, write(1)).await, Err(ProposeError::Stopped));
            cluster.sleep(MS * 100).await;
            assert_eq!(cluster.propose(id, write(1)).await, Ok(Written::Done(1)));
            let read = cluster.inspect(id, |machine| machine.query(1));
            assert_eq!(read, Some(Some((1, vec![1]))));
        });
        assert_eq!((report.counts.calls_answered, report.counts.calls_refused), (1, 0));
    }

    #[test]
    fn a_node_that_dies_leaves_open_what_it_was_asked_to_do() {
        let report = run(|cluster| async move {
            let id = NodeId(1);
            cluster.sleep(MS * 100).await;
            let proposed = cluster.propose(id, write(1));
            cluster.executor().call_at(cluster.now() + MS / 100, {
                let cluster = cluster.clone();
                move || cluster.crash(id, Crash::Killed)
            });
            assert_eq!(proposed.await, Err(ProposeError::Maybe(Uncertain::Stopped)));
            assert!(cluster.inspect(id, |_| ()).is_none());
        });
        assert_eq!(report.counts.calls_maybe, 1);
    }

    #[test]
    fn a_paused_node_answers_when_it_goes_on() {
        run(|cluster| async move {
            let id = NodeId(1);
            cluster.sleep(MS * 100).await;
            cluster.pause(id);
            let resumed_at = cluster.now() + MS * 700;
            cluster.executor().call_at(resumed_at, {
                let cluster = cluster.clone();
                move || cluster.resume(id)
            });
            assert_eq!(cluster.propose(id, write(1)).await, Ok(Written::Done(1)));
            assert!(cluster.now() > resumed_at);
        });
    }
}
