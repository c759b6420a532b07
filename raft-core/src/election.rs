//! Elections (§5.2, §5.4.1), PreVote (diss. §9.6) and who is believed to lead.
//!
//! A vote is granted in `Node::receive_request_vote`.

use alloc::vec::Vec;
use core::time::Duration;

use crate::configuration::Speaker;
use crate::node::{Follower, RoleState};
use crate::quorum::Tally;
use crate::{
    Configuration, Effects, EntryId, Incarnation, Member, Message, Node, NodeId, Term, Vote,
};

/// The answers that a candidate or pre-candidate has so far.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) struct Votes {
    answers: Vec<Answer>,
    /// Who was asked again at once, for it has become a rival. Once each: two that refuse each other would not come to rest.
    rivals: Vec<NodeId>,
    /// When it began to ask.
    pub(crate) since: Duration,
    /// The leader has told this node to campaign (diss. §3.10).
    transfer: bool,
    /// Whether those who have not answered are to be asked at the next drain.
    ask: bool,
    /// When those who have not answered by then are asked again.
    pub(crate) ask_again_at: Duration,
}

#[derive(Copy, Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
struct Answer {
    from: Speaker,
    granted: bool,
}

impl Votes {
    /// Asked for from `now` on, and again after `interval`.
    fn new(now: Duration, interval: Duration) -> Votes {
        let ask_again_at = now.saturating_add(interval);
        let (answers, rivals) = (Vec::new(), Vec::new());
        Votes { answers, rivals, since: now, transfer: false, ask: true, ask_again_at }
    }

    /// A grant counts whenever it comes: a refusal that it overtakes was about the time before.
    fn record(&mut self, from: Speaker, granted: bool) {
        match self.answers.iter_mut().find(|answer| answer.from.id == from.id) {
            Some(answer) if granted => *answer = Answer { from, granted },
            Some(_) => {}
            None => self.answers.push(Answer { from, granted }),
        }
    }

    fn by(&self, id: NodeId) -> Option<bool> {
        self.answers.iter().find(|answer| answer.from.id == id).map(|answer| answer.granted)
    }

    /// What counts for this voter.
    fn of(&self, voter: &Member) -> Option<bool> {
        let answer = self.answers.iter().find(|answer| voter.is_spoken_for_by(answer.from));
        answer.map(|answer| answer.granted)
    }

    /// In which order the answers came makes no difference.
    #[cfg(feature = "model")]
    pub(crate) fn canonicalize(&mut self) {
        self.answers.sort_by_key(|answer| answer.from.id);
        self.rivals.sort();
    }

    /// Asks a node again that may have refused: at once for the first time, and with all the others later.
    fn ask_again(&mut self, id: NodeId) {
        self.answers.retain(|answer| answer.from.id != id || answer.granted);
        if !self.rivals.contains(&id) {
            self.rivals.push(id);
            self.ask = true;
        }
    }
}

impl Node {
    /// Whether this node may lead: it is a voter, as the incarnation that it is. So is who is removed by a configuration
    /// that is not known to be committed: it may be that nobody else can complete the change (diss. §4.2.2). It does not
    /// count itself.
    pub(crate) fn is_electable(&self) -> bool {
        let votes = |configuration: &Configuration| self.has_vote_in(configuration);
        // The latest is among those that follow, and mostly says enough.
        (votes(self.configuration()) || self.configurations.since(self.commit).any(votes))
            && self.term.next() < Term(u64::MAX)
    }

    /// Whether this node, though it is only a learner, may have to lead for a moment. A voter may be waiting for its vote,
    /// by a change that did not come about; and cannot get it, if this node alone holds later entries.
    pub(crate) fn is_needed(&self) -> bool {
        let learners = self.configuration().learners();
        self.log.last().index > self.commit
            && learners.iter().any(|learner| self.configurations.is_own(learner))
            && self.term.next() < Term(u64::MAX)
    }

    pub(crate) const LEARNER_ONE_IN: u64 = 8;

    /// Whether to campaign after having heard no leader. A learner does so now and then only: voters come first.
    fn campaigns(&mut self) -> bool {
        self.is_electable()
            || (self.is_needed() && self.random.next().is_multiple_of(Node::LEARNER_ONE_IN))
    }

    /// Whether this node is a voter of that configuration, which is one of its log.
    pub(crate) fn has_vote_in(&self, configuration: &Configuration) -> bool {
        let mut voters = configuration.voters().iter().chain(configuration.outgoing());
        voters.any(|voter| self.configurations.is_own(voter))
    }

    fn as_speaker(&self) -> Speaker {
        let (id, incarnation) = (self.options.id, self.incarnation);
        Speaker { id, incarnation, is_meant: self.configurations.is_known() }
    }

    /// The vote of this node for itself.
    pub(crate) fn own_vote(&self) -> Vote {
        Vote { candidate: self.options.id, incarnation: self.incarnation }
    }

    pub(crate) fn is_sole_voter(&self) -> bool {
        let configuration = self.configuration();
        let [voter] = configuration.voters() else { return false };
        !configuration.is_joint() && self.configurations.is_own(voter)
    }

    /// Whether this node is the only voter, for certain: else the leader that makes it so may still lead.
    fn has_no_other_leader(&self) -> bool {
        self.is_sole_voter() && self.configuration_is_committed()
    }

    /// Waits anew for a leader, or for votes, for once to twice the election timeout (§5.2). Who is the only voter
    /// has no leader to wait for.
    pub(crate) fn reset_election_timer(&mut self) {
        let alone = self.has_no_other_leader();
        self.election_timeout = match alone && matches!(self.role, RoleState::Follower) {
            true => Duration::ZERO,
            false => self.random.timeout(self.options.election_timeout),
        };
        self.election_deadline = self.now().saturating_add(self.election_timeout);
    }

    /// The clock of a node that does not lead.
    pub(crate) fn tick_election(&mut self) {
        let now = self.now();
        if now >= self.election_deadline {
            // Status must not show a leader that is not heard any more.
            self.leader = None;
            let campaigns = matches!(self.role, RoleState::Candidate(_));
            if campaigns && !self.disk.holds_vote(self.term, self.own_vote()) {
                // The disk has not even taken this term in. A slow one would never catch up with the next.
                self.reset_election_timer();
                return;
            }
            match self.campaigns() {
                // A learner always asks first: its term must not climb while it is cut off (diss. §9.6).
                true if self.options.pre_vote || !self.is_electable() => self.pre_campaign(),
                true => self.campaign(false),
                false => self.reset_election_timer(),
            }
            return;
        }
        let again = now.saturating_add(self.options.heartbeat_interval);
        match &mut self.role {
            RoleState::PreCandidate(votes) | RoleState::Candidate(votes)
                if now >= votes.ask_again_at =>
            {
                votes.ask = true;
                votes.ask_again_at = again;
            }
            RoleState::PreCandidate(_)
            | RoleState::Candidate(_)
            | RoleState::Follower
            | RoleState::Leader(_) => {}
        }
    }

    /// Asks whether an election could be won. Neither term nor vote change (diss. §9.6).
    fn pre_campaign(&mut self) {
        let mut votes = Votes::new(self.now(), self.options.heartbeat_interval);
        votes.record(self.as_speaker(), true);
        self.role = RoleState::PreCandidate(votes);
        self.reset_election_timer();
        self.count_pre_votes();
    }

    /// Raises the term and votes for itself (§5.2). Neither leaves the node, nor counts, before it is durable.
    pub(crate) fn campaign(&mut self, transfer: bool) {
        self.enter_term(self.term.next());
        self.vote = Some(self.own_vote());
        let votes = Votes::new(self.now(), self.options.heartbeat_interval);
        self.role = RoleState::Candidate(Votes { transfer, ..votes });
        self.reset_election_timer();
    }

    /// The disk has caught up: if it holds the candidate's own vote, that counts now.
    pub(crate) fn own_vote_may_count(&mut self) {
        let (term, own, own_vote) = (self.term, self.as_speaker(), self.own_vote());
        if let RoleState::Candidate(votes) = &mut self.role
            && self.disk.holds_vote(term, own_vote)
        {
            votes.record(own, true);
            self.count_votes();
        }
    }

    fn count_pre_votes(&mut self) {
        let RoleState::PreCandidate(votes) = &self.role else { return };
        match self.configuration().tally(|voter| votes.of(voter)) {
            Tally::Won => self.campaign(false),
            Tally::Lost => self.role = RoleState::Follower,
            Tally::Open => {}
        }
    }

    fn count_votes(&mut self) {
        let RoleState::Candidate(votes) = &self.role else { return };
        match self.configuration().tally(|voter| votes.of(voter)) {
            // A leader acts on its own disk's word: it waits for that, even when the others are enough.
            Tally::Won if votes.by(self.options.id) == Some(true) => self.lead(),
            Tally::Lost => self.role = RoleState::Follower,
            Tally::Won | Tally::Open => {}
        }
    }

    /// Asks those voters that have not answered.
    pub(crate) fn drain_election(&mut self, effects: &mut Effects) {
        if !matches!(self.role, RoleState::PreCandidate(_) | RoleState::Candidate(_)) {
            return;
        }
        let (id, own_vote) = (self.options.id, self.own_vote());
        let campaign = self.term.next();
        let last = self.log.last();
        let (votes, message) = match &mut self.role {
            RoleState::PreCandidate(votes) => (votes, Message::PreVote { campaign, last }),
            RoleState::Candidate(votes) if self.disk.holds_vote(self.term, own_vote) => {
                let transfer = votes.transfer;
                (votes, Message::RequestVote { last, transfer })
            }
            RoleState::Candidate(_) | RoleState::Follower | RoleState::Leader(_) => return,
        };
        if !core::mem::take(&mut votes.ask) {
            return;
        }
        let configuration = self.configurations.latest();
        let waiting = configuration.members().into_iter().map(|member| member.id).filter(|other| {
            *other != id && configuration.is_voter(*other) && votes.by(*other).is_none()
        });
        for voter in waiting.collect::<Vec<_>>() {
            effects.messages.push(self.envelope(voter, message.clone()));
        }
    }

    /// Answers a [`Message::PreVote`]. It promises nothing, changes no term, and is no contact with a leader.
    pub(crate) fn receive_pre_vote(&mut self, from: NodeId, campaign: Term, last: EntryId) {
        let own = (self.log.last(), self.options.id);
        let mut granted = campaign > self.term
            && last >= self.log.last()
            && !self.hears_a_leader()
            && self.has_joined();
        // Two who ask at the same time would split the votes: the one with the longer log, or the greater id, goes
        // first.
        let is_rival = campaign == self.term.next() && self.configuration().is_voter(from);
        let (now, interval) = (self.now(), self.options.heartbeat_interval);
        let mut stands_back = false;
        if let RoleState::PreCandidate(votes) = &mut self.role
            && is_rival
        {
            let goes_first = own >= (last, from);
            // Who has not been elected by then had better not stand in the way: perhaps only the other one can be.
            granted &= !goes_first || now >= votes.since.saturating_add(interval);
            stands_back = granted && !goes_first;
            if !stands_back {
                // It hears no leader any more either, whatever it said before.
                votes.ask_again(from);
            }
        }
        if stands_back {
            self.role = RoleState::Follower;
            self.reset_election_timer();
        }
        let answer = self.envelope(from, Message::PreVoteResponse { campaign, granted });
        self.answers.push(answer);
    }

    /// Counts an answer, also one from an earlier term: it is about a term that neither is in yet.
    pub(crate) fn receive_pre_vote_response(
        &mut self,
        from: Speaker,
        campaign: Term,
        granted: bool,
    ) {
        let counts = self.vote_counts(from);
        if let RoleState::PreCandidate(votes) = &mut self.role
            && campaign == self.term.next()
            && counts
        {
            votes.record(from, granted);
            self.count_pre_votes();
        }
    }

    /// Whether this incarnation of a node has a vote. One that the configuration does not mean may answer for what it has
    /// forgotten.
    fn vote_counts(&mut self, from: Speaker) -> bool {
        let counts = self.configuration().is_spoken_for_by(from);
        let is_forgotten = !counts && self.configuration().is_voter(from.id);
        self.counters.forgotten_incarnations += u64::from(is_forgotten);
        counts
    }

    /// Whether a [`Message::RequestVote`] is to be ignored altogether, its term included: a leader is heard, so the
    /// candidate is one that was removed or cut off (§6, diss. §4.2.3).
    pub(crate) fn is_disruption(&self) -> bool {
        self.options.check_quorum && self.hears_a_leader()
    }

    /// Answers a [`Message::RequestVote`] of the current term: one vote a term, first come, first served, and only
    /// for a log at least as up-to-date as the own one (§5.2, §5.4.1). Another incarnation is another candidate: both may
    /// be about, one as a voter of the configuration before a change and one of that after it.
    ///
    /// Whether the candidate is a voter in the configuration known here does not matter: it may know a newer one.
    pub(crate) fn receive_request_vote(&mut self, from: Speaker, last: EntryId) {
        let asked = Vote { candidate: from.id, incarnation: from.incarnation };
        let free = match self.vote {
            Some(vote) => vote == asked,
            None => self.leader.is_none(),
        };
        let granted = free && last >= self.log.last() && self.has_joined();
        if granted {
            self.vote = Some(asked);
            // It leaves once it is durable: `drain_vote`.
            self.follower.vote_owed = true;
            // A pre-candidate stands back for the one that it voted for.
            self.role = RoleState::Follower;
            self.reset_election_timer();
        } else {
            let answer = Message::VoteResponse { candidate: from.incarnation, granted };
            let answer = self.envelope(from.id, answer);
            self.answers.push(answer);
        }
    }

    /// Whether this node knows of members, and not of other incarnations of its own alone: else it is on its way to
    /// becoming a learner, or its disk was wiped. Then it has forgotten what it voted and acknowledged. A voter whose later
    /// incarnation is a learner has not: it may be needed, should that one never become a voter.
    fn has_joined(&self) -> bool {
        let configuration = self.configuration();
        !configuration.voters().is_empty()
            && (!configuration.contains(self.options.id)
                || configuration
                    .every_incarnation()
                    .any(|member| self.configurations.is_own(member)))
    }

    /// A granted vote leaves only once it is durable.
    pub(crate) fn drain_vote(&mut self, effects: &mut Effects) {
        if let Some(vote) = self.vote
            && self.follower.vote_owed
            && self.disk.holds_vote(self.term, vote)
        {
            self.follower.vote_owed = false;
            let Vote { candidate, incarnation } = vote;
            let answer = Message::VoteResponse { candidate: incarnation, granted: true };
            effects.messages.push(self.envelope(candidate, answer));
        }
    }

    pub(crate) fn receive_vote_response(
        &mut self,
        from: Speaker,
        candidate: Incarnation,
        granted: bool,
    ) {
        if candidate != self.incarnation {
            self.counters.misaddressed += 1;
            return;
        }
        let counts = self.vote_counts(from);
        if let RoleState::Candidate(votes) = &mut self.role
            && counts
        {
            votes.record(from, granted);
            self.count_votes();
        }
    }

    /// Whether this node leads, or has heard a leader within the shortest election timeout.
    fn hears_a_leader(&self) -> bool {
        match self.role {
            RoleState::Leader(_) => true,
            RoleState::Follower | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                self.now() < self.leader_heard_until || self.may_have_promised()
            }
        }
    }

    /// Whether this node has just started, and in a former life may have promised a leader not to vote for another one: it
    /// does not know yet from when on that promise is kept.
    fn may_have_promised(&self) -> bool {
        let never_ran = self.term == Term(0);
        self.clock.is_none() && self.options.lease.is_some() && !never_ran
    }

    /// What was promised to the leader of a former life is kept for the longest time that a lease can last
    /// (diss. §6.4.1), from the first tick on.
    pub(crate) fn honour_former_leases(&mut self) {
        let never_ran = self.term == Term(0);
        if self.options.lease.is_some() && !never_ran && !self.has_no_other_leader() {
            self.leader_heard_until = self.now().saturating_add(self.options.election_timeout);
            self.election_deadline = self.election_deadline.max(self.leader_heard_until);
        }
    }

    /// The connection to the leader's process is closed, so it is probably dead: asks at once whether an election could be
    /// won. It cannot as long as the others hear the leader. A lease that the leader may hold is waited for.
    pub(crate) fn leader_disconnected(&mut self) {
        if !self.options.pre_vote {
            // Without it, an election would depose a leader that is alive.
            return;
        }
        self.leader = None;
        if self.options.lease.is_none() {
            self.leader_heard_until = self.now();
        }
        self.election_deadline = self.leader_heard_until.max(self.now());
        if self.election_deadline <= self.now() && self.is_electable() {
            self.pre_campaign();
        }
    }

    /// Enters a later term: nothing that was said in the one before holds in it.
    pub(crate) fn enter_term(&mut self, term: Term) {
        debug_assert!(term > self.term, "terms only grow (§5.1)");
        self.term = term;
        self.vote = None;
        self.leader = None;
        if self.options.lease.is_none() {
            self.leader_heard_until = Duration::ZERO;
        }
        // What is committed is in every later leader's log (§5.4.3).
        self.follower =
            Follower { verified: self.commit, claimed: self.commit, ..Follower::default() };
        self.stop_leading();
    }

    /// Becomes a follower in the current term.
    pub(crate) fn stop_leading(&mut self) {
        let role = core::mem::replace(&mut self.role, RoleState::Follower);
        if let RoleState::Leader(leader) = role {
            self.leader = None;
            self.reset_election_timer();
            self.lead_lost(leader);
        }
    }

    /// A message of the current term's leader has arrived. `false`: it is not to be believed.
    #[inline]
    pub(crate) fn hear_leader(&mut self, from: NodeId) -> bool {
        let follows = matches!(self.role, RoleState::Follower) && self.leader == Some(from);
        if !follows && !self.follow(from) {
            return false;
        }
        let now = self.now();
        self.leader_heard_until = now.saturating_add(self.options.election_timeout);
        self.election_deadline = now.saturating_add(self.election_timeout);
        true
    }

    /// Follows `from` from now on, unless another node leads.
    fn follow(&mut self, from: NodeId) -> bool {
        let leads = matches!(self.role, RoleState::Leader(_));
        if leads || self.leader.is_some_and(|leader| leader != from) {
            // Election safety (§5.2) is broken somewhere: whoever is second is not followed.
            self.counters.second_leader += 1;
            return false;
        }
        self.role = RoleState::Follower;
        self.leader = Some(from);
        true
    }
}
