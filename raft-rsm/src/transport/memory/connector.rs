//! A client's side of the network in memory.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::{Either, select};
use raft_core::NodeId;

use super::faults::Fate;
use super::{Call, MemoryNetwork, Shared};
use crate::transport::{CallError, Connector, Reply};

/// A client's side of a [`MemoryNetwork`].
pub struct MemoryConnector {
    network: MemoryNetwork,
    reach: Mutex<Option<Vec<NodeId>>>,
}

/// Removes a call when its future ends, however it ends.
struct CallGuard {
    shared: Arc<Shared>,
    id: u64,
}

impl MemoryConnector {
    pub(super) fn new(network: MemoryNetwork) -> Arc<MemoryConnector> {
        Arc::new(MemoryConnector { network, reach: Mutex::new(None) })
    }

    /// Puts the client into a partition with these nodes (`None`: with all): what it sends to others is lost.
    pub fn set_reach(&self, nodes: Option<&[NodeId]>) {
        *self.reach.lock().unwrap_or_else(PoisonError::into_inner) = nodes.map(<[NodeId]>::to_vec);
    }

    fn reaches(&self, id: NodeId) -> bool {
        let reach = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
        reach.as_ref().is_none_or(|nodes| nodes.contains(&id))
    }
}

#[async_trait]
impl Connector for MemoryConnector {
    async fn call(
        &self,
        to: NodeId,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let shared = &self.network.shared;
        let maybe = |reason: &str| CallError::MaybeSent { to, reason: reason.to_owned() };
        let (answer, answered) = oneshot::channel();
        let (fate, life, id) = {
            let mut state = shared.lock();
            let Some(life) = state.nodes.get(&to).map(|gate| gate.life) else {
                return Err(CallError::NotSent { to, reason: "it is not running".to_owned() });
            };
            state.last_call += 1;
            let id = state.last_call;
            state.calls.insert(id, Call { to, answer });
            (state.dice.throw(), life, id)
        };
        let _guard = CallGuard { shared: Arc::clone(shared), id };
        match fate {
            Fate::Arrives { after, .. } if self.reaches(to) => {
                let network = Arc::downgrade(shared);
                let arrive = move || {
                    if let Some(network) = network.upgrade() {
                        network.request(to, life, id, request);
                    }
                };
                if !shared.carry(after, None, Box::new(arrive)) {
                    let reason = "too much is on its way".to_owned();
                    return Err(CallError::NotSent { to, reason });
                }
            }
            Fate::Arrives { .. } | Fate::Lost => {}
        }
        match select(answered, shared.runtime.sleep(deadline)).await {
            Either::Left((Ok(Some(answer)), _)) => Ok(answer),
            Either::Left((Ok(None), _)) => Err(maybe("it gave no answer")),
            Either::Left((Err(oneshot::Canceled), _)) => Err(maybe("the connection was closed")),
            Either::Right(_) => Err(maybe("the deadline has passed")),
        }
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.network.shared.lock().known.iter().copied().collect()
    }

    fn wants_to_learn(&self) -> bool {
        false
    }
}

impl fmt::Debug for MemoryConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryConnector")
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.shared.lock().calls.remove(&self.id);
    }
}

impl Shared {
    /// A request arrives at a node.
    fn request(self: &Arc<Self>, to: NodeId, life: u64, call: u64, request: Bytes) {
        let mut state = self.lock();
        let Some(gate) = state.nodes.get(&to).filter(|gate| gate.life == life).cloned() else {
            // The caller is told by the drop that the connection was closed.
            let call = state.calls.remove(&call);
            drop(state);
            return drop(call);
        };
        state.counters.entry(to).or_default().requests += 1;
        drop(state);
        let network = Arc::downgrade(self);
        let reply = Reply::new(move |answer| {
            if let Some(network) = network.upgrade() {
                network.answer(call, answer);
            }
        });
        gate.call(request, reply);
    }

    /// An answer leaves a node. One that is lost leaves the caller waiting for its deadline.
    fn answer(self: &Arc<Self>, call: u64, answer: Option<Bytes>) {
        let fate = self.lock().dice.throw();
        let Fate::Arrives { after, .. } = fate else { return };
        let network = Arc::downgrade(self);
        let arrive = move || {
            let call = network.upgrade().and_then(|network| network.lock().calls.remove(&call));
            if let Some(call) = call {
                // A caller that has gone away no longer wants it.
                let _ = call.answer.send(answer);
            }
        };
        // Beyond the limit it is lost, too.
        let _ = self.carry(after, None, Box::new(arrive));
    }
}
