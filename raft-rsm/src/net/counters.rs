//! What a transport counts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::handshake::Refusal;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What a TCP transport has counted since it was bound.
        #[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct TransportCounters {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counters as they count.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn read(&self) -> TransportCounters {
                TransportCounters { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Frames that arrived, of every kind.
    frames_in,
    /// Bytes that arrived.
    bytes_in,
    /// Frames that were written, of every kind.
    frames_out,
    /// Bytes that were written.
    bytes_out,
    /// Connections to peers that were made, each with its handshake.
    connects,
    /// Those of them that were not the first to their peer.
    reconnects,
    /// Connections to peers that could not be made.
    failed_dials,
    /// Connections to peers that the peer refused.
    refused_dials,
    /// Connections accepted from peers and clients, each with its handshake.
    accepted,
    /// Refused: the dialler speaks another protocol version.
    refused_version,
    /// Refused: the dialler belongs to another cluster.
    refused_cluster,
    /// Refused: the dialler wanted another node.
    refused_node,
    /// Refused: the dialler says that it is this node.
    refused_same_node,
    /// Refused: another process is connected as the same node.
    refused_duplicate_node,
    /// Refused: the configuration names another incarnation of the dialler.
    refused_incarnation,
    /// Refused: too many connections.
    refused_busy,
    /// Connections on which no handshake came, or something else.
    failed_handshakes,
    /// Frames and messages that could not be read; each closed its connection.
    bad_frames,
    /// Packets dropped because the queue to their peer was full.
    dropped_full,
    /// Packets dropped because their peer could not be reached.
    dropped_unreachable,
    /// Packets dropped because their peer has no address.
    dropped_unknown,
    /// Packets and answers dropped because they were longer than a frame may be.
    dropped_too_long,
    /// Requests that arrived from clients.
    requests,
    /// Answers that were left out because too much waited for their client to read it.
    dropped_answers,
}

/// One count.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn add_len(&self, count: usize) {
        self.add(count as u64);
    }
}

impl Counters {
    /// Counts a connection that was refused.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        match refusal {
            Refusal::WrongVersion => self.refused_version.add(1),
            Refusal::WrongCluster => self.refused_cluster.add(1),
            Refusal::WrongNode => self.refused_node.add(1),
            Refusal::SameNode => self.refused_same_node.add(1),
            Refusal::DuplicateNode => self.refused_duplicate_node.add(1),
            Refusal::Busy => self.refused_busy.add(1),
            Refusal::OtherIncarnation => self.refused_incarnation.add(1),
            // Only ever received, never given.
            Refusal::Other => {}
        }
    }
}
