//! A cluster that nobody asks for anything.

use std::collections::BTreeMap;

use raft_core::{Lease, Message, NodeId, Options};

use crate::harness::*;

fn kind(message: &Message) -> &'static str {
    match message {
        Message::PreVote { .. } => "PreVote",
        Message::PreVoteResponse { .. } => "PreVoteResponse",
        Message::RequestVote { .. } => "RequestVote",
        Message::VoteResponse { .. } => "VoteResponse",
        Message::AppendEntries { .. } => "AppendEntries",
        Message::AppendResponse(_) => "AppendResponse",
        Message::Heartbeat { .. } => "Heartbeat",
        Message::HeartbeatResponse { .. } => "HeartbeatResponse",
        Message::TimeoutNow => "TimeoutNow",
        Message::ReadIndex { .. } => "ReadIndex",
        Message::ReadIndexResponse { .. } => "ReadIndexResponse",
    }
}

#[test]
fn a_thousand_idle_seconds_cost_no_write_and_nothing_but_heartbeats() {
    for lease in [None, Some(Lease { clock_drift_ppm: 1000 })] {
        let start = |id| {
            let options = Options { lease, ..Options::new(NodeId(id)) };
            Replica::start(options, Disk::empty(voters(3)))
        };
        let mut cluster = Cluster::new((1..=3).map(start));
        cluster.elect(1);
        cluster.at(1).propose("a");
        cluster.run(1000);
        let mut sent = BTreeMap::new();
        for _ in 0..1_000_000 / 20 {
            for node in 1..=3 {
                cluster.at(node).tick(20);
            }
            loop {
                cluster.collect();
                for envelope in &cluster.wire {
                    *sent.entry(kind(&envelope.message)).or_insert(0) += 1;
                }
                if cluster.deliver() == 0 {
                    break;
                }
                for node in 1..=3 {
                    let replica = cluster.at(node);
                    assert_eq!((&replica.write, &replica.fetches[..]), (&None, &[][..]));
                }
            }
        }
        // Ten rounds a second to two followers.
        let expected = [("Heartbeat", 20_000), ("HeartbeatResponse", 20_000)];
        assert_eq!(sent, BTreeMap::from(expected), "{lease:?}");
        assert_eq!(cluster.leaders(), [1]);
        assert_eq!(cluster.at(1).node.read_by_lease().is_some(), lease.is_some());
    }
}
