//! What a node asks the others before it begins: which cluster it is to join, and whether it has run before.

use std::time::Duration;

use futures::future::join_all;
use raft_core::NodeId;

use crate::client::status_of;
use crate::transport::Connector;
use crate::{Cluster, ClusterId, Incarnation};

/// It is not known which cluster a node is to join. Nothing was created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The text of the cluster has no other node.
    #[error("there is no node to ask which cluster to join: {cluster} has no other one")]
    NobodyToAsk {
        /// The text.
        cluster: Cluster,
    },
    /// None of the others answers.
    #[error("none of the nodes answers that know which cluster to join: {reasons}")]
    NoAnswer {
        /// What each try met.
        reasons: String,
    },
    /// Two of them are of different clusters.
    #[error(
        "the nodes at {} and {} are of different clusters, {} and {}: check the addresses",
        one.0, other.0, one.1, other.1
    )]
    Disagreement {
        /// The address and the cluster of one ...
        one: (String, ClusterId),
        /// ... and of another one.
        other: (String, ClusterId),
    },
}

/// Asks the nodes of `cluster`, but for `own`, of which cluster they are: all of them at once, each for at most
/// `patience`. It is enough if one answers.
///
/// # Errors
/// Nobody answers, or they contradict each other.
pub async fn cluster_to_join(
    connector: &dyn Connector,
    cluster: &Cluster,
    own: NodeId,
    patience: Duration,
) -> Result<ClusterId, JoinError> {
    let asked = cluster.addresses().filter(|(id, _)| *id != own);
    let answers = join_all(asked.map(|(_, address)| async move {
        let answer = connector.identify(address, patience).await;
        answer.map(|identity| (address.to_owned(), identity.cluster))
    }));
    let answers = answers.await;
    if answers.is_empty() {
        return Err(JoinError::NobodyToAsk { cluster: cluster.clone() });
    }
    let (found, failed): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    let mut found = found.into_iter().flatten();
    let Some(one) = found.next() else {
        let reasons: Vec<_> =
            failed.into_iter().filter_map(Result::err).map(|e| e.to_string()).collect();
        return Err(JoinError::NoAnswer { reasons: reasons.join("; ") });
    };
    match found.find(|other| other.1 != one.1) {
        Some(other) => Err(JoinError::Disagreement { one, other }),
        None => Ok(one.1),
    }
}

/// Whether one of the others in `cluster` knows node `own` under an incarnation already: then it has run before, and what it
/// promised is on a disk that this is not. Who it is that knows it, and as what. Nodes that do not answer within `patience`
/// cannot tell, so `None` proves nothing.
pub(crate) async fn known_already(
    connector: &dyn Connector,
    cluster: &Cluster,
    id: ClusterId,
    own: NodeId,
    patience: Duration,
) -> Option<(NodeId, Incarnation)> {
    let others = cluster.addresses().filter(|(other, _)| *other != own);
    let known = others.map(|(other, address)| async move {
        let identity = connector.identify(address, patience).await.ok()?;
        if (identity.node, identity.cluster) != (other, id) {
            return None;
        }
        let status = status_of(connector, other, patience).await.ok()?;
        let known = status.configuration.member(own)?.incarnation?;
        (known != Incarnation::NOBODY).then_some((other, known))
    });
    join_all(known).await.into_iter().flatten().next()
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use bytes::Bytes;
    use raft_core::{Configuration, Member, Node, Options, Restored};

    use super::*;
    use crate::transport::{CallError, IdentifyError};
    use crate::{Identity, protocol};

    /// Who listens at `host:1`, `host:2`, ...: nodes of these clusters, or nobody. Node 2 knows node 3 as incarnation 7, and
    /// the others know no incarnation.
    struct Listening(Vec<Option<u64>>);

    #[async_trait]
    impl Connector for Listening {
        async fn call(&self, to: NodeId, request: Bytes, _: Duration) -> Result<Bytes, CallError> {
            let (kind, _) = protocol::decode_request(&request).expect("a request");
            assert_eq!(kind, protocol::Kind::Status);
            let unnamed = Configuration::new([1, 2, 3].map(NodeId), []).unnamed();
            let named = unnamed.with_voter(Member::of_incarnation(NodeId(3), Incarnation(7), ""));
            let configuration = if to == NodeId(2) { named } else { unnamed };
            let restored = Restored::first_start(configuration);
            let node = Node::new(Options::new(to), restored).expect("it can be started");
            let options = crate::Options::new(to);
            let status = crate::raft::first_status(&node, None, 0, &options);
            Ok(protocol::encode_response(Ok(&status)))
        }

        fn nodes(&self) -> Vec<NodeId> {
            Vec::new()
        }

        async fn identify(&self, address: &str, _: Duration) -> Result<Identity, IdentifyError> {
            let port: u64 = address.rsplit_once(':').unwrap().1.parse().unwrap();
            let cluster = self.0[usize::try_from(port).unwrap() - 1];
            let cluster = cluster.ok_or_else(|| IdentifyError {
                address: address.to_owned(),
                reason: "it is dead".to_owned(),
            })?;
            let (cluster, incarnation) = (ClusterId(cluster), Incarnation(1));
            Ok(Identity { cluster, node: NodeId(port), incarnation })
        }
    }

    fn joins(text: &str, listening: Vec<Option<u64>>) -> Result<ClusterId, JoinError> {
        let (cluster, patience) = (text.parse().unwrap(), Duration::from_secs(1));
        let asked = Listening(listening);
        crate::block_on(cluster_to_join(&asked, &cluster, NodeId(3), patience))
    }

    const THREE: &str = "1=host:1,2=host:2,3=host:3";

    #[test]
    fn one_answer_is_enough() {
        assert_eq!(joins(THREE, vec![None, Some(7), None]), Ok(ClusterId(7)));
        assert_eq!(joins(THREE, vec![Some(7), Some(7), None]), Ok(ClusterId(7)));
    }

    #[test]
    fn a_node_does_not_ask_itself() {
        assert_eq!(joins(THREE, vec![Some(7), Some(7), Some(8)]), Ok(ClusterId(7)));
        let alone = joins("3=host:3", vec![None, None, Some(8)]);
        assert!(matches!(alone, Err(JoinError::NobodyToAsk { .. })), "{alone:?}");
    }

    #[test]
    fn a_node_that_the_others_know_by_its_incarnation_has_run_before() {
        let asks = |own, listening| {
            let (cluster, patience) = (THREE.parse().unwrap(), Duration::from_secs(1));
            let asked = Listening(listening);
            let asks = known_already(&asked, &cluster, ClusterId(7), NodeId(own), patience);
            crate::block_on(asks)
        };
        let all = || vec![Some(7), Some(7), Some(7)];
        assert_eq!(asks(3, all()), Some((NodeId(2), Incarnation(7))));
        assert_eq!(asks(1, all()), None, "nobody knows it yet");
        assert_eq!(asks(3, vec![Some(7), None, None]), None, "nobody who knows it answers");
        assert_eq!(asks(3, vec![Some(7), Some(8), None]), None, "that is another cluster");
    }

    #[test]
    fn silence_and_contradictions_are_told_with_the_addresses() {
        let silence = joins(THREE, vec![None, None, None]).unwrap_err().to_string();
        assert!(silence.contains("host:1: it is dead; "), "{silence}");
        let disagreement = joins(THREE, vec![Some(7), Some(8), None]).unwrap_err().to_string();
        assert!(disagreement.contains("host:1 and host:2"), "{disagreement}");
        assert!(disagreement.contains(&ClusterId(8).to_string()), "{disagreement}");
    }
}
