//! How a replica is set up.

use std::time::Duration;

use raft_core::{Configuration, Member, NodeId};

use crate::sessions::TableLimits;

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
    /// one in a packet. Up to eight of them (but no more than 8 MiB, and at least one) are on their way to one follower
    /// at once: so much waits in the transport of the leader for each, and up to twice that in the memory of one that
    /// receives.
    pub snapshot_chunk_bytes: usize,
    /// Snapshots leave this node no faster than this, in bytes a second, all transfers together; `None`: as fast as
    /// the followers take them. By default there is no limit, since the sooner a follower is back, the sooner the
    /// cluster bears the next failure, and what is right for one network starves another. Set it where snapshots share
    /// a thin line, or a disk, with the commands: to what can be spared, but so that a snapshot arrives well before the
    /// log has grown by another. At least one `snapshot_chunk_bytes`.
    pub snapshot_bytes_per_second_max: Option<u64>,
    /// Snapshots on their way from this node at once, each to another follower; more wait.
    pub snapshots_sending_max: usize,
    /// A snapshot that a leader sends is refused when its image is longer than this many bytes.
    pub snapshot_bytes_max: u64,
    /// Nobody who proposes or queries here waits longer than this for an answer.
    pub request_timeout: Duration,
    /// Nobody who asks for a snapshot here waits longer than this until it is durable.
    pub snapshot_timeout: Duration,
    /// Proposals, and whatever operators ask for, that wait here for their answers: this many ...
    pub requests_pending_max: usize,
    /// ... and, of those that the driver has not taken up yet, this many bytes (but at least one). Beyond either, they are
    /// answered by `Busy`. What it has taken up is in the log, and bounded by [`raft_core::Limits`].
    pub requests_pending_bytes_max: usize,
    /// Queries that wait here for their answers: this many ...
    pub queries_pending_max: usize,
    /// ... and this many bytes (but at least one). Beyond either, queries are answered by `Busy`. One that comes from a
    /// client counts with its length on the wire, one from this process with the size of its type.
    pub queries_pending_bytes_max: usize,
    /// Packets that have arrived and that the driver has not taken up yet: this many ...
    pub packets_pending_max: usize,
    /// ... and this many bytes (but at least one packet). Beyond either, packets are dropped and counted.
    pub packets_pending_bytes_max: usize,
    /// Reads of old entries from storage at once, for followers that lag and for the state machine; more wait.
    pub reads_at_once_max: usize,
    /// The replicas compare a running checksum of what their machines were told and answered at each index that is a
    /// multiple of this many entries: see [`crate::StopReason::Diverged`]. 0 turns it off, and then nothing
    /// is computed for it. A replica on which it is turned on takes part from the next multiple of 65,536 entries.
    /// Turn it off for as long as replicas with another [`crate::StateMachine::Response`] run in one cluster: what they
    /// answer differs.
    pub divergence_check_entries: u64,
    /// A session in which nothing was asked for this much of the log's time ends; one in which nothing was ever asked, after a
    /// minute. It should be many times what a client tries
    /// for: one that comes later with a command of which it does not know whether it was carried out is told that nobody
    /// knows.
    pub session_idle_max: Duration,
    /// Sessions that the replicas remember: this many. Beyond it, new ones are refused; none that lives is ever forgotten
    /// for another.
    pub sessions_max: u64,
    /// Answers that are kept for sessions, all together, in bytes; each counts 64 bytes beside its own. Where there is no
    /// room for an answer, it is only kept that the command was carried out, and where there is none for that either,
    /// commands of sessions are refused.
    pub session_bytes_max: u64,
    /// So much of the log's time is the name of a command remembered ([`crate::Client::propose_once`]), with its answer. It
    /// should be many times what a client tries for: one that comes later with the same name has its command carried out
    /// again. A session lives for as long as it is used, but each command has a name of its own, so this is the time
    /// in which names pile up: with `names_max` it bounds how many commands with names there can be in a second.
    pub name_age_max: Duration,
    /// Names that the replicas remember: this many. Beyond it, commands with new ones are refused; none is ever forgotten
    /// for another.
    pub names_max: u64,
    /// Names and their answers, all together, in bytes; each counts 200 bytes beside its own. Where there is no room for an
    /// answer, it is only kept that the command was carried out, and where there is none for another name, commands
    /// with new names are refused.
    pub name_bytes_max: u64,
    /// A node that stops waits this long for what is under way: a write, a command that is being
    /// applied, connections that are being closed.
    pub shutdown_timeout: Duration,
}

impl Options {
    /// The defaults for the replica `id`: those of [`raft_core::Options::new`], a snapshot each 16 MiB of
    /// log, chunks of 256 KiB, answers within 10 seconds (snapshots within 10 minutes), checksums compared each 1024 entries,
    /// up to 100,000 sessions with 64 MiB of answers, for an hour each, and 250,000 names with 64 MiB, for 10 minutes: some
    /// 400 commands with names in a second.
    #[must_use]
    pub fn new(id: NodeId) -> Options {
        Options {
            core: raft_core::Options::new(id),
            snapshot_log_bytes: 16 * MIB as u64,
            snapshot_chunk_bytes: 256 * KIB,
            snapshot_bytes_per_second_max: None,
            snapshots_sending_max: 4,
            snapshot_bytes_max: 256 * GIB,
            request_timeout: Duration::from_secs(10),
            snapshot_timeout: Duration::from_secs(10 * 60),
            requests_pending_max: 64 * KIB,
            requests_pending_bytes_max: 64 * MIB,
            queries_pending_max: 64 * KIB,
            queries_pending_bytes_max: 64 * MIB,
            packets_pending_max: 16 * KIB,
            packets_pending_bytes_max: 64 * MIB,
            reads_at_once_max: 16,
            divergence_check_entries: 1024,
            session_idle_max: Duration::from_secs(60 * 60),
            sessions_max: 100_000,
            session_bytes_max: 64 * MIB as u64,
            name_age_max: Duration::from_secs(10 * 60),
            names_max: 250_000,
            name_bytes_max: 64 * MIB as u64,
            shutdown_timeout: Duration::from_secs(5),
        }
    }

    pub(crate) fn session_limits(&self) -> TableLimits {
        TableLimits {
            age_max_nanos: nanos(self.session_idle_max),
            count_max: self.sessions_max,
            bytes_max: self.session_bytes_max,
        }
    }

    pub(crate) fn name_limits(&self) -> TableLimits {
        TableLimits {
            age_max_nanos: nanos(self.name_age_max),
            count_max: self.names_max,
            bytes_max: self.name_bytes_max,
        }
    }

    /// What is wrong with them on a transport that carries packets of this many bytes.
    pub(crate) fn check(&self, packet_bytes_max: Option<usize>) -> Result<(), &'static str> {
        /// What else is in a packet: above all, a snapshot names its members, those of a joint configuration twice.
        const OTHER_BYTES: usize =
            16 * KIB + 2 * Configuration::MEMBERS_MAX * (Member::ADDRESS_BYTES_MAX + 32);
        let chunk_bytes = self.snapshot_chunk_bytes;
        if chunk_bytes == 0 {
            return Err("snapshot_chunk_bytes is 0");
        }
        // A chunk that takes longer than that to leave cannot be told from one that is lost.
        if self.snapshot_bytes_per_second_max.is_some_and(|bytes| bytes < chunk_bytes as u64) {
            return Err("snapshot_bytes_per_second_max is less than snapshot_chunk_bytes");
        }
        if self.snapshots_sending_max == 0 {
            return Err("snapshots_sending_max is 0");
        }
        if self.reads_at_once_max == 0 {
            return Err("reads_at_once_max is 0");
        }
        let carries = |bytes: usize| {
            packet_bytes_max.is_none_or(|max| bytes.saturating_add(OTHER_BYTES) <= max)
        };
        let limits = &self.core.limits;
        if !carries(chunk_bytes) {
            return Err("the transport cannot carry a packet with snapshot_chunk_bytes");
        }
        if !carries(limits.command_bytes_max.max(limits.message_bytes_max)) {
            return Err("the transport cannot carry command_bytes_max or message_bytes_max");
        }
        Ok(())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::TcpLimits;

    fn options(change: impl FnOnce(&mut Options)) -> Options {
        let mut options = Options::new(NodeId(1));
        change(&mut options);
        options
    }

    #[test]
    fn the_defaults_fit_the_default_transport() {
        let packet_bytes_max = TcpLimits::default().frame_bytes_max;
        assert_eq!(options(|_| ()).check(Some(packet_bytes_max)), Ok(()));
    }

    #[test]
    fn options_that_send_no_snapshot_are_refused() {
        for senseless in [
            options(|options| options.snapshot_chunk_bytes = 0),
            options(|options| options.snapshots_sending_max = 0),
            options(|options| options.reads_at_once_max = 0),
            options(|options| options.snapshot_bytes_per_second_max = Some(0)),
            options(|options| options.snapshot_bytes_per_second_max = Some(256 * KIB as u64 - 1)),
        ] {
            assert!(senseless.check(None).is_err(), "{senseless:?}");
        }
        let least = options(|o| o.snapshot_bytes_per_second_max = Some(256 * KIB as u64));
        assert_eq!(least.check(None), Ok(()));
    }

    /// It would be dropped each time that it is sent, for ever.
    #[test]
    fn options_that_the_transport_cannot_carry_are_refused() {
        for long in [
            options(|options| options.snapshot_chunk_bytes = 8 * MIB),
            options(|options| options.core.limits.command_bytes_max = 8 * MIB),
            options(|options| options.core.limits.message_bytes_max = 8 * MIB),
        ] {
            assert!(long.check(Some(8 * MIB)).is_err(), "{long:?}");
            assert_eq!(long.check(Some(9 * MIB)), Ok(()));
        }
    }
}
