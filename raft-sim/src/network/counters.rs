//! What went through the network.

use std::ops::AddAssign;

use serde::Serialize;

/// What went through the network for one node, over all its lives.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NetworkCounters {
    /// Packets that the node sent.
    pub packets_out: u64,
    /// Their length on the wire, in bytes.
    pub bytes_out: u64,
    /// Packets that reached the node.
    pub packets_in: u64,
    /// Their length on the wire, in bytes.
    pub bytes_in: u64,
    /// Packets that the node sent and that were lost, by whatever cause.
    pub lost: u64,
    /// Packets that the node sent and that were on their way twice.
    pub duplicated: u64,
    /// Packets that reached the node after one that its peer had sent later.
    pub reordered: u64,
    /// Packets that reached the node and could not be read: a defect of the codec.
    pub unreadable: u64,
    /// Requests that clients sent to the node, whether they got there or not.
    pub requests_asked: u64,
    /// Requests of clients that reached the node.
    pub requests: u64,
    /// Answers of the node that reached their clients.
    pub answers: u64,
    /// Requests and answers that were lost, by whatever cause.
    pub requests_lost: u64,
    /// Connections to peers that were closed under the node.
    pub disconnects: u64,
}

impl AddAssign for NetworkCounters {
    fn add_assign(&mut self, other: NetworkCounters) {
        let NetworkCounters {
            packets_out,
            bytes_out,
            packets_in,
            bytes_in,
            lost,
            duplicated,
            reordered,
            unreadable,
            requests_asked,
            requests,
            answers,
            requests_lost,
            disconnects,
        } = other;
        self.packets_out += packets_out;
        self.bytes_out += bytes_out;
        self.packets_in += packets_in;
        self.bytes_in += bytes_in;
        self.lost += lost;
        self.duplicated += duplicated;
        self.reordered += reordered;
        self.unreadable += unreadable;
        self.requests_asked += requests_asked;
        self.requests += requests;
        self.answers += answers;
        self.requests_lost += requests_lost;
        self.disconnects += disconnects;
    }
}
