//! How a replica is set up.

use std::time::Duration;

use raft_core::NodeId;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: u64 = 1024 * 1024 * 1024;

/// How a replica is set up. All replicas of a cluster should have the same options, but for the id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The options of the protocol: the id, times, and the limits of its queues and buffers. Its seed is
    /// mixed with a random number of the runtime, so it needs no attention.
    pub core: raft_core::Options,
    /// A snapshot is taken when the log has grown by this many bytes on disk since the last one (by the size
    /// of the last image, where that is greater, so that a large state is not written again and again).
    pub snapshot_log_bytes: u64,
    /// Snapshots are sent to followers in parts of this many bytes. A transport must be able to carry
    /// one in a packet.
    pub snapshot_chunk_bytes: usize,
    /// A snapshot that a leader sends is refused when its image is longer than this many bytes.
    pub snapshot_bytes_max: u64,
    /// Nobody who proposes or queries here waits longer than this for an answer.
    pub request_timeout: Duration,
    /// Proposals and queries that wait here for their answers: this many ...
    pub requests_pending_max: usize,
    /// ... and, of those that the driver has not taken up yet, this many bytes (but at least one
    /// proposal). Beyond either, requests are answered by `Busy`.
    pub requests_pending_bytes_max: usize,
    /// Packets that have arrived and that the driver has not taken up yet: this many ...
    pub packets_pending_max: usize,
    /// ... and this many bytes (but at least one packet). Beyond either, packets are dropped and counted.
    pub packets_pending_bytes_max: usize,
    /// The replicas compare a running checksum of what their machines were told and answered at each index that is a
    /// multiple of this many entries: see [`crate::StopReason::Diverged`]. 0 turns it off, and then nothing
    /// is computed for it. A replica on which it is turned on takes part from the next multiple of 65,536 entries.
    /// Turn it off for as long as replicas with another [`crate::StateMachine::Response`] run in one cluster: what they
    /// answer differs.
    pub divergence_check_entries: u64,
    /// A node that stops waits this long for what is under way: a write, a command that is being
    /// applied, connections that are being closed.
    pub shutdown_timeout: Duration,
}

impl Options {
    /// The defaults for the replica `id`: those of [`raft_core::Options::new`], a snapshot each 16 MiB of
    /// log, chunks of 256 KiB, answers within 10 seconds, checksums compared each 1024 entries.
    #[must_use]
    pub fn new(id: NodeId) -> Options {
        Options {
            core: raft_core::Options::new(id),
            snapshot_log_bytes: 16 * MIB as u64,
            snapshot_chunk_bytes: 256 * KIB,
            snapshot_bytes_max: 256 * GIB,
            request_timeout: Duration::from_secs(10),
            requests_pending_max: 64 * KIB,
            requests_pending_bytes_max: 64 * MIB,
            packets_pending_max: 16 * KIB,
            packets_pending_bytes_max: 64 * MIB,
            divergence_check_entries: 1024,
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}
