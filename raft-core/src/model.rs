//! The canonical form of a node, for the model checker in `raft-model`: with the feature `model` alone, and no part of
//! the public interface.
//!
//! Two nodes that hash alike here behave alike from now on, as long as it is the checker that decides when time passes.
//! What is left out, and why that makes no difference:
//!
//! - *The time.* A checker's clock stands still but where it lets a node time out, and then it goes to what the node waits
//!   for. So it is enough which of its times have come: all that have not are put at one and the same distance from now.
//! - *The random generator.* It draws election timeouts, which the checker decides, the number of a leader's first
//!   round of heartbeats, of which nothing but the distance to later ones matters within a term, and whether a learner that
//!   may have to lead campaigns: here it always does, and not to do so is to time out later.
//! - *Names of writes and fetches*, of which one is out at a time; *counters*, which nothing reads; the *options*, which do
//!   not change.
//! - *What limits count*: how the log is cut into runs, and what is in flight, as long as the limits are far away.
//!
//! Reads, leases and transfers on request are not brought into canonical form: what they add to the state is hashed as
//! it is.

use core::hash::{Hash, Hasher};
use core::time::Duration;

use crate::node::RoleState;
use crate::random::Random;
use crate::{Node, TermRuns};

/// It is always this time, after [`Node::canonicalize`]: late enough that no time before it is lost.
const NOW: Duration = Duration::from_secs(3600);

/// The first number that this seed gives is a multiple of [`Node::LEARNER_ONE_IN`].
const CAMPAIGNS: u64 = 6;

impl Node {
    /// Replaces what makes no difference (see the module) by what is always the same, so that the node can be compared by
    /// its hash.
    #[doc(hidden)]
    pub fn canonicalize(&mut self) {
        let silence = self.options.election_timeout;
        let heard = self.hears_until();
        let before = self.now();
        self.clock = Some(NOW);
        self.random = Random::new(CAMPAIGNS);
        self.leader_heard_until = heard.map_or(Duration::ZERO, |_| NOW + silence);
        // Longer than the time for which a leader passes for heard, so that either can end first.
        self.election_timeout = silence + silence / 2;
        self.election_deadline = NOW + self.election_timeout;
        let interval = self.options.heartbeat_interval;
        let has_lease = self.options.lease.is_some();
        let mut fetches = self.applying.awaits_fetch();
        match &mut self.role {
            RoleState::Follower => {}
            RoleState::PreCandidate(votes) | RoleState::Candidate(votes) => {
                votes.canonicalize();
                // To ask again says the same again.
                votes.ask_again_at = self.election_deadline;
                let is_recent = before < votes.since.saturating_add(interval);
                votes.since = if is_recent { NOW } else { NOW - interval };
            }
            RoleState::Leader(leader) => {
                leader.heartbeat_due = NOW + interval;
                let may_forget_rounds = !has_lease && leader.reads.is_empty();
                if let Some(change) = &mut leader.change {
                    change.canonicalize(NOW);
                }
                for peer in &mut leader.peers {
                    peer.canonicalize(NOW, may_forget_rounds);
                    fetches |= peer.awaits_fetch();
                }
            }
        }
        self.disk.canonicalize(NOW);
        if !fetches {
            self.next_fetch = 1;
        }
    }

    /// Until when a leader passes for heard, if that makes a difference and is not over.
    #[doc(hidden)]
    #[must_use]
    pub fn hears_until(&self) -> Option<Duration> {
        let options = &self.options;
        let matters = options.pre_vote || options.check_quorum || options.lease.is_some();
        Some(self.leader_heard_until).filter(|until| matters && *until > self.now())
    }

    /// The time of the last tick.
    #[doc(hidden)]
    #[must_use]
    pub fn time(&self) -> Duration {
        self.now()
    }

    /// The terms of the log.
    #[doc(hidden)]
    #[must_use]
    pub fn terms(&self) -> &TermRuns {
        self.log.terms()
    }
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Every field is named: whoever adds one decides here whether it makes a difference.
        let Node {
            options: _,
            incarnation,
            configurations,
            random: _,
            clock,
            term,
            vote,
            log,
            commit,
            snapshot,
            disk,
            applying,
            role,
            leader,
            leader_heard_until,
            election_deadline,
            election_timeout,
            follower,
            answers,
            next_fetch,
            reads,
            reads_done,
            change_done,
            counters: _,
            stopped,
            has_news,
        } = self;
        (incarnation, configurations, clock, term, vote, log, commit, snapshot).hash(state);
        (disk, applying, role, leader, leader_heard_until, election_deadline).hash(state);
        (election_timeout, follower, answers, next_fetch, reads, reads_done).hash(state);
        (change_done, stopped, has_news).hash(state);
    }
}
