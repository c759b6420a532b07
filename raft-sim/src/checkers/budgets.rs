//! Bounds: how long packets and logs may be, on disk and in memory, and how many heartbeats may be sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use raft_rsm::Consistency;
use raft_rsm::raft_core::{Configuration, Message, NodeId, Term};
use raft_rsm::transport::Packet;

use super::{Checker, View};
use crate::event::{CallId, Event, ParcelId, RequestKind};

const SECOND: Duration = Duration::from_secs(1);

/// What an entry has beside its command, in bytes.
const ENTRY_BYTES: usize = 128;

/// What a member has beside its address, in bytes.
const MEMBER_BYTES: usize = 32;

/// What a packet has beside entries or a part of a snapshot, in bytes.
const PACKET_BYTES: usize = 256;

/// What a run may use.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// The longest packet, in bytes; one with a single longer command, or with its answer, is as long as that.
    pub packet_bytes_max: usize,
    /// The longest log of a node on its disk, in bytes, once all faults have ended and everybody has caught up. A large
    /// state is not written again for a small log: twice its size is fine.
    pub log_bytes_max: u64,
    /// The most that a node holds of its log in memory, in bytes; a single longer command may be more.
    pub tail_bytes_max: u64,
    /// Heartbeats of a leader to one peer within a second, not counting those that tell a new commit index, nor one for
    /// each read that reached the leader of late.
    pub heartbeats_a_second_max: usize,
}

impl Budgets {
    /// No bounds.
    #[must_use]
    pub fn none() -> Budgets {
        Budgets {
            packet_bytes_max: usize::MAX,
            log_bytes_max: u64::MAX,
            tail_bytes_max: u64::MAX,
            heartbeats_a_second_max: usize::MAX,
        }
    }
}

/// Watches over the bounds.
#[derive(Debug)]
pub struct BudgetsChecker {
    budgets: Budgets,
    /// The heartbeats of the last second, by sender, receiver and term.
    heartbeats: BTreeMap<(NodeId, NodeId), (Term, VecDeque<Duration>)>,
    reads: Reads,
    /// The longest configuration, in bytes.
    configuration_bytes: usize,
    /// The longest command that a client has sent, in bytes.
    command_bytes: usize,
    is_healed: bool,
}

impl BudgetsChecker {
    /// Watches over these bounds.
    #[must_use]
    pub fn new(budgets: Budgets) -> BudgetsChecker {
        BudgetsChecker {
            budgets,
            heartbeats: BTreeMap::new(),
            reads: Reads::default(),
            configuration_bytes: 0,
            command_bytes: 0,
            is_healed: false,
        }
    }

    /// What an entry with the longest command or configuration costs, in bytes.
    fn longest_bytes(&self) -> usize {
        self.command_bytes.max(self.configuration_bytes).saturating_add(ENTRY_BYTES)
    }

    fn tail(&self, node: NodeId, tail_bytes: u64) -> Result<(), String> {
        // A leader always has room for a configuration, and for the next one before the first is durable.
        let configurations = match self.configuration_bytes {
            0 => 0,
            bytes => bytes.saturating_add(ENTRY_BYTES) as u64 * 2,
        };
        let longest = (self.longest_bytes() as u64).saturating_add(configurations);
        let max = self.budgets.tail_bytes_max.saturating_add(longest);
        if tail_bytes > max {
            return Err(format!(
                "node {node} holds {tail_bytes} bytes of its log in memory, the bound is {max}"
            ));
        }
        Ok(())
    }

    fn packet(&self, packet: &Packet, bytes: usize) -> Result<(), String> {
        let max = self.budgets.packet_bytes_max.max(self.longest_bytes());
        // A part of a snapshot names all members beside what it holds.
        let max = max.saturating_add(self.configuration_bytes).saturating_add(PACKET_BYTES);
        if bytes > max {
            let from = packet.from();
            return Err(format!("node {from} sent a packet of {bytes} bytes, the bound is {max}"));
        }
        Ok(())
    }

    fn heartbeat(
        &mut self,
        now: Duration,
        from: NodeId,
        to: NodeId,
        term: Term,
    ) -> Result<(), String> {
        let (of, times) = self.heartbeats.entry((from, to)).or_default();
        if *of != term {
            (*of, *times) = (term, VecDeque::new());
        }
        while times.front().is_some_and(|time| now.saturating_sub(*time) >= SECOND) {
            times.pop_front();
        }
        times.push_back(now);
        let for_reads = self.reads.of_late(now, from);
        if times.len() > self.budgets.heartbeats_a_second_max.saturating_add(for_reads) {
            return Err(format!(
                "node {from} sent node {to} {} heartbeats within a second",
                times.len()
            ));
        }
        Ok(())
    }
}

/// About how long a configuration is, in bytes.
fn configuration_bytes(configuration: &Configuration) -> usize {
    let (voters, outgoing) = (configuration.voters(), configuration.outgoing());
    let members = voters.iter().chain(outgoing).chain(configuration.learners());
    members.map(|member| MEMBER_BYTES + member.address.len()).sum()
}

/// Reads that may each have a leader start a round of heartbeats.
#[derive(Debug, Default)]
struct Reads {
    /// All that were asked: one may arrive when its client has given it up.
    queries: BTreeSet<CallId>,
    /// Those that a follower has sent on.
    sent_on: BTreeSet<ParcelId>,
    /// When reads reached each node.
    reached: BTreeMap<NodeId, VecDeque<Duration>>,
    /// Since when a node stands still: it takes up what reaches it when it goes on.
    paused: BTreeMap<NodeId, Duration>,
}

impl Reads {
    fn observe(&mut self, now: Duration, event: &Event) {
        match event {
            Event::Asked { call, kind: RequestKind::Query(consistency), .. }
                if *consistency != Consistency::Stale =>
            {
                self.queries.insert(*call);
            }
            Event::RequestArrived { call, at } if self.queries.contains(call) => {
                self.reached.entry(*at).or_default().push_back(now);
            }
            Event::Paused { node } => _ = self.paused.insert(*node, now),
            Event::Resumed { node } => {
                let since = self.paused.remove(node).unwrap_or(now);
                let reached = self.reached.entry(*node).or_default();
                reached.iter_mut().filter(|time| **time >= since).for_each(|time| *time = now);
            }
            Event::Sent { parcel, packet, .. } => {
                if let Packet::Raft(envelope) = &**packet
                    && let Message::ReadIndex { .. } = envelope.message
                {
                    self.sent_on.insert(*parcel);
                }
            }
            Event::Delivered { parcel, to } if self.sent_on.contains(parcel) => {
                self.reached.entry(*to).or_default().push_back(now);
            }
            _ => {}
        }
    }

    /// How many reached the node within the last two seconds: one that waited for a round under way has another one later.
    fn of_late(&mut self, now: Duration, node: NodeId) -> usize {
        let reached = self.reached.entry(node).or_default();
        while reached.front().is_some_and(|time| now.saturating_sub(*time) >= SECOND * 2) {
            reached.pop_front();
        }
        reached.len()
    }
}

impl Checker for BudgetsChecker {
    fn name(&self) -> &'static str {
        "budgets"
    }

    fn observe(&mut self, now: Duration, _: &View, event: &Event) -> Result<(), String> {
        self.reads.observe(now, event);
        match event {
            Event::Asked { bytes, .. } => {
                self.command_bytes = self.command_bytes.max(*bytes);
                Ok(())
            }
            Event::Configured { configuration, .. } => {
                let bytes = configuration_bytes(configuration);
                self.configuration_bytes = self.configuration_bytes.max(bytes);
                Ok(())
            }
            Event::Healed => {
                self.is_healed = true;
                Ok(())
            }
            Event::Sent { packet, bytes, .. } => {
                self.packet(packet, *bytes)?;
                let Packet::Raft(envelope) = &**packet else { return Ok(()) };
                // One without a round tells a commit index: there are as many as there are commits.
                if let Message::Heartbeat { round: Some(_), .. } = envelope.message {
                    return self.heartbeat(now, envelope.from, envelope.to, envelope.term);
                }
                Ok(())
            }
            Event::Progress { node, tail_bytes, .. } => self.tail(*node, *tail_bytes),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, _: Duration, end: &View) -> Result<(), String> {
        // Before, what cannot be committed or applied cannot be compacted.
        if !self.is_healed {
            return Ok(());
        }
        let longest = self.longest_bytes() as u64;
        // Who is no member any more has nobody who tells it what is committed.
        for (id, node) in end.members() {
            let max = self.budgets.log_bytes_max.max(node.image_bytes.saturating_mul(2));
            let max = max.saturating_add(longest.saturating_mul(2));
            if node.log_bytes > max {
                let bytes = node.log_bytes;
                return Err(format!("the log of node {id} has {bytes} bytes, the bound is {max}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use raft_rsm::raft_core::LogIndex;

    use super::super::told::{assert_caught, commits, sent, sent_bytes, started, tell, tell_at};
    use super::*;
    use crate::event::CallOutcome;

    const BUDGETS: Budgets = Budgets {
        packet_bytes_max: 1000,
        log_bytes_max: 5000,
        tail_bytes_max: 600,
        heartbeats_a_second_max: 10,
    };

    fn heartbeat(round: Option<u64>) -> Message {
        Message::Heartbeat { commit: LogIndex(0), round }
    }

    #[test]
    fn a_packet_that_is_too_long_is_caught() {
        let check = |bytes| {
            let packet = sent_bytes(1, 2, 1, heartbeat(None), bytes);
            tell(BudgetsChecker::new(BUDGETS), &[packet])
        };
        assert_eq!(check(1000 + PACKET_BYTES), Ok(()));
        assert_caught(check(1001 + PACKET_BYTES), "a packet of 1257 bytes");
    }

    #[test]
    fn a_command_may_be_longer_than_any_limit() {
        let (kind, to) = (RequestKind::Query(Consistency::Stale), NodeId(1));
        let call = CallId(1);
        let asked = Event::Asked { call, client: 1, to, kind, bytes: 100_000 };
        let packet = sent_bytes(1, 2, 1, heartbeat(None), 100_200);
        assert_eq!(tell(BudgetsChecker::new(BUDGETS), &[asked, packet]), Ok(()));
    }

    #[test]
    fn a_log_that_is_too_long_is_caught() {
        let check = |log, tail, image, rest: &[Event]| {
            let mut progress = commits(1, 0, raft_rsm::raft_core::EntryId::ZERO);
            if let Event::Progress { log_bytes, tail_bytes, image_bytes, .. } = &mut progress {
                (*log_bytes, *tail_bytes, *image_bytes) = (log, tail, image);
            }
            let story = [&[started(1), progress], rest].concat();
            tell(BudgetsChecker::new(BUDGETS), &story)
        };
        let (entry, healed) = (ENTRY_BYTES as u64, [Event::Healed]);
        assert_eq!(check(5000 + 2 * entry, 600 + entry, 0, &healed), Ok(()));
        assert_caught(check(5001 + 2 * entry, 0, 0, &healed), "the log of node 1 has 5257 bytes");
        assert_caught(check(0, 601 + entry, 0, &[]), "node 1 holds 729 bytes of its log in memory");
        // While things go wrong it may be longer, and beside a large state, too.
        assert_eq!(check(50_000, 0, 0, &[]), Ok(()));
        assert_eq!(check(50_000, 0, 25_000, &healed), Ok(()));
    }

    #[test]
    fn a_read_may_cost_a_heartbeat_and_one_that_a_leader_takes_up_when_it_goes_on_may_too() {
        let (call, client, to) = (CallId(1), 1, NodeId(1));
        let kind = RequestKind::Query(Consistency::Lease);
        let asked = Event::Asked { call, client, to, kind, bytes: 1 };
        let arrived = Event::RequestArrived { call, at: to };
        let beats = |from: u64, count: u64| {
            (0..count).map(move |n| (from + n, sent(1, 2, 1, heartbeat(Some(n)))))
        };
        let check = |before: &[(u64, Event)], count| {
            let story = before.iter().cloned().chain(beats(9000, count));
            let story = story.map(|(at, event)| (Duration::from_millis(at), event));
            tell_at(&mut BudgetsChecker::new(BUDGETS), story)
        };
        let of_late = [(8000, asked.clone()), (8001, arrived.clone())];
        assert_eq!(check(&of_late, 11), Ok(()));
        assert_caught(check(&of_late, 12), "12 heartbeats within a second");
        // Its client has given it up on its way.
        let ended = Event::CallEnded { call, outcome: CallOutcome::Maybe };
        let late = [(7000, asked.clone()), (7001, ended), (8001, arrived.clone())];
        assert_eq!(check(&late, 11), Ok(()));
        let long_ago = [(1000, asked.clone()), (1001, arrived.clone())];
        assert_caught(check(&long_ago, 11), "11 heartbeats within a second");
        let (paused, resumed) = (Event::Paused { node: to }, Event::Resumed { node: to });
        let meanwhile = [(900, paused), (1000, asked), (1001, arrived), (8900, resumed)];
        assert_eq!(check(&meanwhile, 11), Ok(()));
    }

    #[test]
    fn a_leader_has_room_for_configurations_beside_a_full_tail() {
        let check = |tail, is_known: bool| {
            let mut progress = commits(1, 0, raft_rsm::raft_core::EntryId::ZERO);
            if let Event::Progress { tail_bytes, .. } = &mut progress {
                *tail_bytes = tail;
            }
            let configuration = Configuration::new([1, 2, 3].map(NodeId), []);
            let incarnation = raft_rsm::raft_core::Incarnation(0);
            let configured =
                Event::Configured { node: NodeId(1), incarnation, configuration, leads: None };
            let known = is_known.then_some(configured);
            let story = [started(1)].into_iter().chain(known).chain([progress]);
            tell(BudgetsChecker::new(BUDGETS), &story.collect::<Vec<_>>())
        };
        let entry = ENTRY_BYTES as u64;
        let configuration = 3 * MEMBER_BYTES as u64 + entry;
        assert_eq!(check(600 + 3 * configuration, true), Ok(()));
        assert_caught(check(601 + 3 * configuration, true), "bytes of its log in memory");
        assert_caught(check(601 + entry, false), "bytes of its log in memory");
    }

    #[test]
    fn too_many_heartbeats_within_a_second_are_caught() {
        let check = |each: u32, count: u32, event: fn(u64) -> Event| {
            let times = (0..count).map(|number| Duration::from_millis(1) * each * number);
            let story = times.zip((0..).map(event));
            tell_at(&mut BudgetsChecker::new(BUDGETS), story)
        };
        let one_peer = |round| sent(1, 2, 1, heartbeat(Some(round)));
        assert_eq!(check(100, 50, one_peer), Ok(()));
        assert_eq!(check(10, 10, one_peer), Ok(()));
        assert_caught(check(90, 50, one_peer), "11 heartbeats within a second");
        // Several peers, several terms, and commit indexes do not add up.
        assert_eq!(
            check(10, 50, |round| sent(1, 2 + round % 5, 1, heartbeat(Some(round)))),
            Ok(())
        );
        assert_eq!(check(10, 50, |round| sent(1, 2, round / 10, heartbeat(Some(round)))), Ok(()));
        assert_eq!(check(10, 50, |_| sent(1, 2, 1, heartbeat(None))), Ok(()));
    }
}
