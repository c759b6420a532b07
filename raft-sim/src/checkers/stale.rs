//! What a replica answers from what it has applied, however old, may be old; but it must not fall back while it runs.
//!
//! That it was right at some time, and not of the future, is shown by [`super::linearizability`]
//! ([`crate::history::History::with_stale_calls_first`]).

use std::collections::BTreeMap;

use raft_rsm::raft_core::NodeId;

use crate::model::Model;

/// Where and when such an answer was given.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct StaleRead {
    /// By which node.
    pub node: NodeId,
    /// In which of its lives.
    pub life: u64,
    /// How many calls and ends of the history came before it was asked.
    pub called: u64,
    /// How many came before it was answered.
    pub ended: u64,
}

/// The answers of each node, in each of its lives, about each key.
#[derive(Clone, Debug, Default)]
pub struct StaleReads {
    /// Each with the version that the answer shows.
    reads: BTreeMap<(NodeId, u64, String), Vec<(StaleRead, u64)>>,
}

impl StaleReads {
    /// Takes an answer down, if it shows how far the state was.
    pub fn add<M: Model>(
        &mut self,
        model: &M,
        input: &M::Input,
        output: &M::Output,
        read: StaleRead,
    ) {
        if let Some(version) = model.version(input, output) {
            let key = model.key(input).map_or(String::new(), |key| format!(" of key {key:?}"));
            let key = (read.node, read.life, key);
            self.reads.entry(key).or_default().push((read, version));
        }
    }

    /// Whether no node has said, of one key and in one life, something older than what it had said before it was asked.
    ///
    /// # Errors
    /// Which one has, in a sentence.
    pub fn check(&self) -> Result<(), String> {
        for ((node, _, key), reads) in &self.reads {
            for (later, version) in reads {
                let before = reads.iter().filter(|(earlier, _)| earlier.ended <= later.called);
                let newest = before.map(|(_, version)| *version).max();
                if let Some(newest) = newest.filter(|newest| newest > version) {
                    return Err(format!(
                        "node {node} answered with version {version}{key} after it had answered \
                         with version {newest}, in the same life"
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::register::{Reply, Request, VersionedStore};

    /// What is said to answers of nodes: node, life, called, ended, version.
    fn check(reads: &[(u64, u64, u64, u64, u64)]) -> Result<(), String> {
        let model = VersionedStore::<u8, u8>::new();
        let mut stale = StaleReads::default();
        for (node, life, called, ended, version) in reads {
            let read =
                StaleRead { node: NodeId(*node), life: *life, called: *called, ended: *ended };
            let output = Reply::Value((*version > 0).then_some((*version, 0)));
            stale.add(&model, &Request::Get { key: 1 }, &output, read);
        }
        stale.check()
    }

    #[test]
    fn a_replica_that_falls_back_while_it_runs_is_caught() {
        assert!(check(&[(1, 1, 0, 1, 5), (1, 1, 2, 3, 4)]).unwrap_err().contains("version 4"));
        assert!(check(&[(1, 1, 0, 1, 5), (1, 1, 2, 3, 0)]).is_err());
    }

    #[test]
    fn another_node_another_life_and_what_was_asked_at_the_same_time_may_be_older() {
        assert_eq!(check(&[(1, 1, 0, 1, 5), (2, 1, 2, 3, 4)]), Ok(()));
        assert_eq!(check(&[(1, 1, 0, 1, 5), (1, 2, 2, 3, 4)]), Ok(()));
        assert_eq!(check(&[(1, 1, 0, 2, 5), (1, 1, 1, 3, 4)]), Ok(()));
        assert_eq!(check(&[(1, 1, 0, 1, 4), (1, 1, 1, 3, 5)]), Ok(()));
    }
}
