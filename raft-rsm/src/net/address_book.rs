//! Where a client finds nodes: at addresses that it was given, and others that it learned.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::NodeId;

use crate::Cluster;
use crate::identity::check_address;

/// The nodes that are learned, at most: far more than any configuration has, and a bound on what an answer that
/// makes no sense can bring about.
const LEARNED_MAX: usize = 1024;

/// Where a client finds nodes.
#[derive(Clone, Debug)]
pub(crate) struct AddressBook {
    given: Cluster,
    learned: BTreeMap<NodeId, String>,
}

impl AddressBook {
    pub(crate) fn new(given: Cluster) -> AddressBook {
        AddressBook { given, learned: BTreeMap::new() }
    }

    /// Forgets what it was given before. What was learned stays.
    pub(crate) fn give(&mut self, given: Cluster) {
        self.given = given;
    }

    /// Forgets what it learned before. What is no address is passed over.
    pub(crate) fn learn(&mut self, nodes: &[(NodeId, String)]) {
        let nodes = nodes.iter().filter(|(_, address)| check_address(address).is_ok());
        self.learned = nodes.take(LEARNED_MAX).cloned().collect();
    }

    /// Whether [`AddressBook::learn`] would change nothing.
    pub(crate) fn knows(&self, nodes: &[(NodeId, String)]) -> bool {
        self.learned.len() == nodes.len()
            && nodes.iter().all(|(id, address)| self.learned.get(id) == Some(address))
    }

    /// All nodes, sorted.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        let given = self.given.addresses().map(|(id, _)| id);
        let all: BTreeSet<NodeId> = self.learned.keys().copied().chain(given).collect();
        all.into_iter().collect()
    }

    /// Where to try to reach a node, in this order: where it is as far as was learned, then where it was given.
    pub(crate) fn addresses(&self, id: NodeId) -> Vec<&str> {
        let learned = self.learned.get(&id).map(String::as_str);
        let given = self.given.address(id).filter(|given| learned != Some(given));
        learned.into_iter().chain(given).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, address: &str) -> (NodeId, String) {
        (NodeId(id), address.to_owned())
    }

    fn book() -> AddressBook {
        AddressBook::new("1=a:1,2=b:2".parse().unwrap())
    }

    #[test]
    fn what_is_learned_comes_first_and_what_was_given_after_it() {
        let mut book = book();
        book.learn(&[node(2, "b:9"), node(3, "c:3"), node(1, "a:1")]);
        assert_eq!(book.nodes(), [NodeId(1), NodeId(2), NodeId(3)]);
        assert_eq!(book.addresses(NodeId(1)), ["a:1"]);
        assert_eq!(book.addresses(NodeId(2)), ["b:9", "b:2"]);
        assert_eq!(book.addresses(NodeId(3)), ["c:3"]);
        assert!(book.addresses(NodeId(4)).is_empty());
        book.learn(&[node(2, "b:2"), node(5, "e:5")]);
        assert_eq!(book.addresses(NodeId(2)), ["b:2"]);
        assert_eq!(book.nodes(), [1, 2, 5].map(NodeId), "node 3 is gone");
        assert!(book.knows(&[node(5, "e:5"), node(2, "b:2")]));
        assert!(!book.knows(&[node(2, "b:2")]) && !book.knows(&[node(2, "b:2"), node(5, "b:2")]));
        book.give("4=d:4".parse().unwrap());
        assert_eq!(book.nodes(), [2, 4, 5].map(NodeId));
    }

    #[test]
    fn what_is_no_address_is_not_learned() {
        let mut book = book();
        book.learn(&[node(1, ""), node(3, ""), node(4, "nonsense")]);
        assert_eq!(book.nodes(), [NodeId(1), NodeId(2)]);
        assert_eq!(book.addresses(NodeId(1)), ["a:1"]);
    }

    #[test]
    fn learned_nodes_are_bounded() {
        let mut book = book();
        let many = |from: u64| (from..from + 3_000).map(|id| node(id, "x:1")).collect::<Vec<_>>();
        book.learn(&many(10));
        assert_eq!(book.nodes().len(), 2 + LEARNED_MAX);
    }
}
