//! Which cluster a node is to join: those who are in it are asked.

use std::time::Duration;

use futures::future::join_all;
use raft_core::NodeId;

use crate::transport::Connector;
use crate::{Cluster, ClusterId};

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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::transport::{CallError, IdentifyError};
    use crate::{Identity, Incarnation};

    /// Who listens at `host:1`, `host:2`, ...: nodes of these clusters, or nobody.
    struct Listening(Vec<Option<u64>>);

    #[async_trait]
    impl Connector for Listening {
        async fn call(&self, to: NodeId, _: Bytes, _: Duration) -> Result<Bytes, CallError> {
            Err(CallError::NotSent { to, reason: "it is only asked who it is".to_owned() })
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
    fn silence_and_contradictions_are_told_with_the_addresses() {
        let silence = joins(THREE, vec![None, None, None]).unwrap_err().to_string();
        assert!(silence.contains("host:1: it is dead; "), "{silence}");
        let disagreement = joins(THREE, vec![Some(7), Some(8), None]).unwrap_err().to_string();
        assert!(disagreement.contains("host:1 and host:2"), "{disagreement}");
        assert!(disagreement.contains(&ClusterId(8).to_string()), "{disagreement}");
    }
}
