//! One replica: facts and requests in, effects out.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::applying::Applying;
use crate::configurations::Configurations;
use crate::disk::Disk;
use crate::election::Votes;
use crate::leader::Leader;
use crate::log::Log;
use crate::random::Random;
use crate::reads::FollowerReads;
use crate::{
    ChangeOutcome, Configuration, Counters, Effects, Entries, EntryId, Envelope, HardState,
    Incarnation, Input, LogIndex, Message, NodeId, Options, Payload, ProposeError, Read,
    RestoreError, Restored, Role, SnapshotMeta, Status, Term, Vote,
};

/// One replica of one group: a value that takes in facts by [`Node::step`] and requests by methods of their own,
/// and hands out what is to be done by [`Node::drain`].
///
/// The same inputs in the same order give the same effects. It performs no I/O, reads no clock, and draws chance
/// from [`Options::seed`] alone.
///
/// ```
/// use std::time::Duration;
/// use raft_core::{Configuration, Effects, Input, Node, NodeId, Options, Restored, Role};
///
/// let alone = Configuration::new([NodeId(1)], []);
/// let mut node = Node::new(Options::new(NodeId(1)), Restored::first_start(alone))?;
/// let mut effects = Effects::default();
///
/// node.step(Input::Tick(Duration::from_millis(0)));
/// node.drain(&mut effects);
/// // Its own vote counts once it is durable: here the driver writes `effects.write` to the disk.
/// let write = effects.write.take().expect("the new term and the vote");
/// node.step(Input::Persisted(write.id));
/// assert_eq!(node.role(), Role::Leader);
///
/// let id = node.propose("a command".into())?;
/// node.drain(&mut effects);
/// node.step(Input::Persisted(effects.write.take().expect("the command").id));
/// node.drain(&mut effects);
/// let applies = effects.applies.take().expect("committed, and durable here");
/// assert_eq!(applies.entries.last().map(|entry| entry.id), Some(id));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) options: Options,
    pub(crate) incarnation: Incarnation,
    pub(crate) configurations: Configurations,
    pub(crate) random: Random,
    /// The time of the last tick; `None` before the first.
    pub(crate) clock: Option<Duration>,
    pub(crate) term: Term,
    pub(crate) vote: Option<Vote>,
    pub(crate) log: Log,
    pub(crate) commit: LogIndex,
    /// The newest durable snapshot.
    pub(crate) snapshot: EntryId,
    pub(crate) disk: Disk,
    pub(crate) applying: Applying,
    pub(crate) role: RoleState,
    /// Who leads the current term.
    pub(crate) leader: Option<NodeId>,
    /// Until when a leader passes for heard: no vote is granted against it before.
    pub(crate) leader_heard_until: Duration,
    /// When to stop waiting for a leader, and how long the wait is: drawn anew for each election.
    pub(crate) election_deadline: Duration,
    pub(crate) election_timeout: Duration,
    pub(crate) follower: Follower,
    /// Answers that promise nothing and wait for the next drain only.
    pub(crate) answers: Vec<Envelope>,
    pub(crate) next_fetch: u64,
    pub(crate) reads: FollowerReads,
    /// Reads that are confirmed or refused, until the next drain.
    pub(crate) reads_done: Vec<Read>,
    /// What became of a change of membership, until the next drain.
    pub(crate) change_done: Option<ChangeOutcome>,
    pub(crate) counters: Counters,
    pub(crate) stopped: bool,
    /// Whether anything has happened since the last drain that may have an effect.
    pub(crate) has_news: bool,
}

/// What the node is in the current term, and what it needs for it.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
#[expect(clippy::large_enum_variant, reason = "a node has one, in place: no allocation to lead")]
pub(crate) enum RoleState {
    Follower,
    PreCandidate(Votes),
    Candidate(Votes),
    Leader(Leader),
}

/// What a follower owes to others.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) struct Follower {
    /// The log up to here is known to be that of the term's leader, durable or not.
    pub(crate) verified: LogIndex,
    /// The greatest index that was acknowledged to this term's leader.
    pub(crate) claimed: LogIndex,
    /// The leader is owed an answer as soon as everything up to here is durable.
    pub(crate) owed: Option<LogIndex>,
    /// This candidate is owed a vote of the current term, as soon as that is durable.
    pub(crate) vote_owed: bool,
}

impl Node {
    /// A node that starts from what its disk held ([`Restored::first_start`] for one that never ran).
    ///
    /// # Errors
    /// The disk's content contradicts itself, or `options` do.
    pub fn new(options: Options, restored: Restored) -> Result<Node, RestoreError> {
        check_options(&options)?;
        restored.check(options.id)?;
        let Restored { incarnation, hard_state, start, terms, configurations, snapshot } = restored;
        let snapshot_id = snapshot.as_ref().map_or(EntryId::ZERO, |meta| meta.last);
        let last = terms.last();
        let own = (options.id, incarnation);
        let random = Random::new(options.seed);
        let first_read = random.fork();
        let mut node = Node {
            incarnation,
            configurations: Configurations::new(own, start.configuration, configurations),
            random,
            clock: None,
            term: hard_state.term,
            vote: hard_state.vote,
            log: Log::new(terms),
            commit: hard_state.commit.max(snapshot_id.index),
            snapshot: snapshot_id,
            disk: Disk::new(hard_state, last.index),
            applying: Applying::new(snapshot_id.index),
            role: RoleState::Follower,
            leader: None,
            leader_heard_until: Duration::ZERO,
            election_deadline: Duration::ZERO,
            election_timeout: Duration::ZERO,
            follower: Follower::default(),
            answers: Vec::new(),
            next_fetch: 1,
            reads: FollowerReads::new(first_read),
            reads_done: Vec::new(),
            change_done: None,
            counters: Counters::default(),
            stopped: false,
            has_news: true,
            options,
        };
        if start.last == EntryId::ZERO {
            node.configurations.take_first();
        }
        if let Some(meta) = snapshot {
            node.begin_with_snapshot(meta);
        }
        // An entry or a snapshot of a term says that the term has begun, also when a crash came before the
        // term itself was written; no vote of it can have been given (else it would have been written).
        let seen = node.log.last().term;
        if seen > node.term {
            (node.term, node.vote) = (seen, None);
        }
        node.follower.verified = node.commit;
        node.assert_invariants();
        Ok(node)
    }

    /// The disk held this snapshot: it comes first, or replaces the log.
    fn begin_with_snapshot(&mut self, meta: SnapshotMeta) {
        if self.log.terms().contains(meta.last) {
            self.applying.restore = Some(meta);
            return;
        }
        // A received snapshot was durable, and the reset of the log was not yet (§7).
        self.replace_log(meta);
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.options.id
    }

    /// The incarnation under which this node speaks.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The configuration in force: the latest in the log, committed or not (§6).
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.configurations.latest()
    }

    /// Whether the configuration in force is committed: no change of membership is under way in this log.
    #[must_use]
    pub fn configuration_is_committed(&self) -> bool {
        self.configurations.latest_index() <= self.commit
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// What this node does in its term.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.role {
            RoleState::Follower => Role::Follower,
            RoleState::PreCandidate(_) => Role::PreCandidate,
            RoleState::Candidate(_) => Role::Candidate,
            RoleState::Leader(_) => Role::Leader,
        }
    }

    /// Who leads the current term, as far as this node knows: `None` once it has not heard a leader for an
    /// election timeout.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The index up to which the log is known to be committed.
    #[must_use]
    pub fn commit(&self) -> LogIndex {
        self.commit
    }

    /// The last entry that was handed out in [`Effects::applies`], or that a received snapshot replaces, also where
    /// [`Effects::restore`] is still to come: whoever answers reads goes by what came out.
    #[must_use]
    pub fn handed_out(&self) -> LogIndex {
        self.applying.handed_out
    }

    /// The last entry of the log, durable or not.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.log.last()
    }

    /// The entries up to here are durable at this node.
    #[must_use]
    pub fn durable(&self) -> LogIndex {
        self.disk.durable()
    }

    /// What of the log is in memory, in bytes as [`crate::Entry::cost_bytes`] counts them: at most
    /// [`crate::Limits::tail_bytes_max`], or a single longer entry, and the empty entry of a new leader.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.log.tail_bytes()
    }

    /// The time at which this node next wants an [`Input::Tick`], on the clock of the last one; an earlier tick does
    /// no harm. [`Duration::MAX`]: it waits for nothing.
    #[must_use]
    pub fn next_tick(&self) -> Duration {
        if self.stopped {
            return Duration::MAX;
        }
        if self.clock.is_none() {
            return Duration::ZERO;
        }
        let election = match &self.role {
            RoleState::Leader(leader) => leader.next_tick(),
            RoleState::PreCandidate(votes) | RoleState::Candidate(votes) => {
                self.election_deadline.min(votes.ask_again_at)
            }
            RoleState::Follower if self.is_electable() || self.is_needed() => {
                self.election_deadline
            }
            RoleState::Follower => self.leader.map_or(Duration::MAX, |_| self.election_deadline),
        };
        election.min(self.reads.next_deadline())
    }

    /// Whether the log could not be read ([`crate::Fetched::Failed`]): the node does nothing any more.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// What was refused, and how often.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Everything about the node that an operator may want to see.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(self)
    }

    /// Takes in one fact. It cannot fail: what a peer sends and makes no sense is refused and counted.
    ///
    /// # Panics
    /// When an invariant of this crate is broken, which no input can bring about: a defect in this crate.
    pub fn step(&mut self, input: Input) {
        if self.stopped {
            return;
        }
        self.has_news |= self.is_news(&input);
        match input {
            Input::Tick(now) => self.tick(now),
            Input::Receive(envelope) => self.receive(envelope),
            Input::Persisted(write) => self.persisted(write),
            Input::Applied(index) => self.applying.applied(index),
            Input::SnapshotTaken(meta) => self.snapshot_taken(&meta),
            Input::SnapshotReceived(meta) => self.snapshot_received(meta),
            Input::SnapshotSent { to, outcome } => self.snapshot_sent(to, outcome),
            Input::Fetched { id, result } => self.fetched(id, result),
            Input::Disconnected(peer) => self.disconnected(peer),
        }
        self.assert_invariants();
    }

    /// Appends `command` to this leader's log, and returns the id of its entry.
    ///
    /// `Ok` means appended here, not committed: a new leader may overwrite it until it comes back in
    /// [`Effects::applies`] under the same id (§5.3). When another entry comes back at its index, it has no effect and
    /// never will; when a snapshot passes the index, nobody here knows.
    ///
    /// # Errors
    /// Nothing was appended, now or later: the command may be proposed again, anywhere.
    pub fn propose(&mut self, command: Bytes) -> Result<EntryId, ProposeError> {
        let RoleState::Leader(leader) = &mut self.role else {
            return Err(ProposeError::NotLeader { leader: self.leader });
        };
        if let Some(to) = leader.transferring() {
            return Err(ProposeError::Transferring { to });
        }
        let limits = &self.options.limits;
        if command.len() > limits.command_bytes_max {
            let (len, max) = (command.len(), limits.command_bytes_max);
            return Err(ProposeError::TooLarge { len, max });
        }
        let payload = Payload::Command(command);
        let cost = crate::Entry::OVERHEAD_BYTES + payload.len();
        self.log.evict(self.disk.durable(), limits.tail_bytes_max.saturating_sub(cost));
        let tail_is_full = self.log.tail_bytes() + cost > limits.tail_bytes_max
            && self.log.tail_first() <= self.log.last().index;
        if tail_is_full || !leader.uncommitted.has_room(cost, limits) {
            return Err(ProposeError::Busy);
        }
        leader.uncommitted.push(cost);
        self.has_news = true;
        Ok(self.log.push(self.term, payload))
    }

    /// Empties `effects`, keeping what it has allocated, and fills it with what is to be done.
    pub fn drain(&mut self, effects: &mut Effects) {
        effects.clear();
        if !core::mem::take(&mut self.has_news) {
            return;
        }
        if self.stopped {
            self.drain_refusals(effects);
            return;
        }
        self.advance_membership();
        self.log.seal();
        self.drain_answers(effects);
        self.drain_vote(effects);
        self.drain_acknowledgement(effects);
        self.drain_election(effects);
        self.drain_leader(effects);
        // A leader that has just retired refuses what it was asked.
        self.drain_answers(effects);
        self.drain_reads(effects);
        self.drain_applies(effects);
        self.drain_write(effects);
        if self.change_done.is_some() {
            effects.change = self.change_done.take();
        }
    }

    fn drain_answers(&mut self, effects: &mut Effects) {
        if !self.answers.is_empty() {
            effects.messages.append(&mut self.answers);
        }
    }

    /// All that is handed out by a node that has stopped, and once: whoever asked it waits for nothing any more.
    fn drain_refusals(&mut self, effects: &mut Effects) {
        self.reads.refuse_all(&mut self.reads_done);
        effects.reads.append(&mut self.reads_done);
        effects.change = self.change_done.take();
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.unwrap_or(Duration::ZERO)
    }

    /// An envelope from this node, in its current term.
    pub(crate) fn envelope(&self, to: NodeId, message: Message) -> Envelope {
        let (from, incarnation) = (self.options.id, self.incarnation);
        let is_meant = self.configurations.is_known();
        Envelope { from, incarnation, is_meant, to, term: self.term, message }
    }

    pub(crate) fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.commit }
    }

    /// The log is committed up to `index`, which lies within it.
    pub(crate) fn commit_to(&mut self, index: LogIndex) {
        if index <= self.commit {
            return;
        }
        self.commit = index;
        if let RoleState::Leader(leader) = &mut self.role {
            leader.uncommitted.committed(index);
        }
    }

    /// The log cannot be read: the node does nothing any more, and shows no leader, least of all itself.
    pub(crate) fn stop(&mut self) {
        self.stop_leading();
        self.leader = None;
        self.stopped = true;
    }

    /// Whether a fact may have an effect. Every round of a driver begins with a tick, and many have nothing else.
    fn is_news(&self, input: &Input) -> bool {
        match input {
            Input::Tick(now) => *now >= self.next_tick(),
            Input::Applied(_) => self.applying.handed_out < self.commit,
            Input::Receive(_)
            | Input::Persisted(_)
            | Input::SnapshotTaken(_)
            | Input::SnapshotReceived(_)
            | Input::SnapshotSent { .. }
            | Input::Fetched { .. }
            | Input::Disconnected(_) => true,
        }
    }

    fn tick(&mut self, now: Duration) {
        if self.clock.is_none() {
            self.clock = Some(now);
            self.reset_election_timer();
            self.honour_former_leases();
        }
        self.clock = self.clock.max(Some(now));
        self.reads.time_out(now, &mut self.reads_done);
        if matches!(self.role, RoleState::Leader(_)) {
            self.tick_leader();
        } else {
            self.tick_election();
        }
    }

    /// One write, if there is a reason for one and none is out: what came meanwhile is merged into it.
    fn drain_write(&mut self, effects: &mut Effects) {
        let mut state = self.hard_state();
        if self.disk.is_busy() || !self.disk.wants_write(state, self.log.last().index) {
            return;
        }
        let (first, last) = (self.disk.written().next(), self.log.last().index);
        let mut entries = Entries::new();
        if first <= last {
            let bytes_max = self.options.limits.write_bytes_max;
            (entries, _) = self.log.entries(first, last, usize::MAX, bytes_max);
        }
        let written = entries.last().map_or(self.disk.written(), |entry| entry.id.index);
        state.commit = state.commit.min(written);
        let reset = self.disk.reset.take();
        let compact = self.disk.compact.take();
        let (id, hard_state) = self.disk.write_left(self.now(), state, written, reset.clone());
        effects.write = Some(crate::Write { id, reset, compact, entries, hard_state });
    }

    fn persisted(&mut self, write: crate::WriteId) {
        let Some(reset) = self.disk.persisted(write) else { return };
        if let Some(snapshot) = reset {
            self.snapshot_installed(snapshot);
        }
        self.log.evict(self.disk.durable(), self.options.limits.tail_bytes_max);
        match self.role {
            RoleState::Candidate(_) => self.own_vote_may_count(),
            RoleState::Leader(_) if self.disk.durable() > self.commit => self.advance_commit(),
            RoleState::Leader(_) | RoleState::Follower | RoleState::PreCandidate(_) => {}
        }
    }

    fn disconnected(&mut self, peer: NodeId) {
        if let Some(leader) = self.leader_state() {
            if let Some(progress) = leader.progress_mut(peer) {
                progress.connection_lost();
            }
        } else if self.leader == Some(peer) {
            self.leader_disconnected();
        }
    }

    fn assert_invariants(&self) {
        assert!(self.commit <= self.log.last().index, "a commit index lies within the log (§5.3)");
        assert!(
            self.applying.handed_out <= self.commit,
            "only committed entries are applied (§5.3)"
        );
        assert!(self.disk.durable() <= self.log.last().index, "what is durable is in the log");
        assert!(self.log.start().index <= self.commit, "only committed entries are compacted (§7)");
        assert!(self.log.last().term <= self.term, "an entry's term has begun (§5.1)");
        if let RoleState::Leader(_) = self.role {
            let voted = self.disk.holds_vote(self.term, self.own_vote());
            assert!(voted, "a leader's own vote is durable (§5.2)");
        }
    }
}

fn check_options(options: &Options) -> Result<(), RestoreError> {
    if options.heartbeat_interval.is_zero() {
        return Err(RestoreError::Options("the heartbeat interval is zero"));
    }
    if options.election_timeout < options.heartbeat_interval.saturating_mul(2) {
        let problem = "the election timeout is shorter than two heartbeat intervals";
        return Err(RestoreError::Options(problem));
    }
    if options.write_stall_max < options.election_timeout {
        let problem = "write_stall_max is shorter than the election timeout";
        return Err(RestoreError::Options(problem));
    }
    if let Some(lease) = options.lease {
        if !options.check_quorum {
            return Err(RestoreError::Options("a lease needs check_quorum"));
        }
        if lease.clock_drift_ppm >= 500_000 {
            return Err(RestoreError::Options("clock_drift_ppm of the lease is 500,000 or more"));
        }
    }
    let limits = &options.limits;
    if limits.inflight_messages_max == 0 || limits.inflight_bytes_max == 0 {
        return Err(RestoreError::Options(
            "the in-flight window is zero: nothing would ever leave",
        ));
    }
    Ok(())
}

impl SnapshotMeta {
    /// Of a log that starts after `last` with `configuration` in force.
    #[must_use]
    pub fn new(last: EntryId, configuration: Configuration) -> SnapshotMeta {
        SnapshotMeta { last, configuration }
    }
}
