//! Those who wait for an entry: they are told "done" or "definitely not" only by what is committed at its index, or
//! before it.

use std::collections::VecDeque;
use std::time::Duration;

use raft_core::{Entry, EntryId, LogIndex, Term};

use super::intake::KEPT_ITEMS;
use crate::StateMachine;
use crate::error::{ProposeError, Uncertain};
use crate::server::Responder;
use crate::sessions::SessionId;

/// One who waits.
pub(crate) struct Waiter<M: StateMachine> {
    /// The entry waited for.
    id: EntryId,
    /// When the wait ends, on the runtime's clock.
    deadline: Duration,
    respond: Proposer<M>,
}

/// Who waits for what an entry leads to.
pub(crate) enum Proposer<M: StateMachine> {
    /// The response to a command.
    Command(Responder<M::Response, ProposeError>),
    /// The session that is opened or closed.
    Session(Responder<SessionId, ProposeError>),
}

impl<M: StateMachine> Proposer<M> {
    pub(crate) fn fail(self, error: ProposeError) {
        match self {
            Proposer::Command(respond) => respond.answer(Err(error)),
            Proposer::Session(respond) => respond.answer(Err(error)),
        }
    }
}

/// Why a wait ends without the entry being applied.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Unmet {
    /// Another entry was committed at the index, or one of a later term before it.
    Superseded,
    /// Nobody knows.
    Maybe(Uncertain),
}

impl From<Unmet> for ProposeError {
    fn from(why: Unmet) -> ProposeError {
        match why {
            Unmet::Superseded => ProposeError::Superseded,
            Unmet::Maybe(why) => ProposeError::Maybe(why),
        }
    }
}

/// Those who wait, in the order of their entries' indexes. Several may wait at one index: a leader that was deposed and elected again may use an index twice.
pub(crate) struct Waiters<M: StateMachine> {
    queue: VecDeque<Waiter<M>>,
    /// The term of the last entry that is known to be committed.
    committed_term: Term,
}

impl<M: StateMachine> Waiters<M> {
    pub(crate) fn new() -> Waiters<M> {
        Waiters { queue: VecDeque::new(), committed_term: Term(0) }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn add(&mut self, id: EntryId, deadline: Duration, respond: Proposer<M>) {
        let waiter = Waiter { id, deadline, respond };
        if self.queue.back().is_none_or(|last| last.id.index <= id.index) {
            self.queue.push_back(waiter);
        } else {
            let place = self.queue.partition_point(|other| other.id.index <= id.index);
            self.queue.insert(place, waiter);
        }
    }

    /// Moves those who wait for one of these committed entries to `to`; where another entry is committed at
    /// the index waited for, the wait is over. Returns whether any moved.
    pub(crate) fn hand_over(&mut self, committed: &[Entry], to: &mut Waiters<M>) -> bool {
        let (Some(first), Some(last)) = (committed.first(), committed.last()) else { return false };
        let mut moved = false;
        while let Some(waiter) = self.pop_up_to(last.id.index) {
            let at = waiter.id.index.0.checked_sub(first.id.index.0);
            let entry = at.and_then(|at| usize::try_from(at).ok()).and_then(|at| committed.get(at));
            match entry {
                Some(entry) if entry.id == waiter.id => {
                    to.queue.push_back(waiter);
                    moved = true;
                }
                Some(_) => waiter.respond.fail(Unmet::Superseded.into()),
                // Committed entries come without a gap, so everybody before them was served.
                None => waiter.respond.fail(Unmet::Maybe(Uncertain::SnapshotPassed).into()),
            }
        }
        self.committed(last.id.term);
        moved
    }

    /// An entry of `term` is committed before all that is still waited for. Terms never decrease along a
    /// log, so no entry of an earlier term can be committed after it (§5.3, §5.4): those who wait for one
    /// need not wait until their index is reached.
    fn committed(&mut self, term: Term) {
        if term <= self.committed_term {
            return;
        }
        self.committed_term = term;
        let waiting = self.queue.len();
        for _ in 0..waiting {
            let Some(waiter) = self.queue.pop_front() else { break };
            if waiter.id.term < term {
                waiter.respond.fail(Unmet::Superseded.into());
            } else {
                self.queue.push_back(waiter);
            }
        }
    }

    /// Ends the waits for entries up to `last`, which a snapshot has replaced unseen.
    pub(crate) fn passed_by_snapshot(&mut self, last: EntryId) {
        while let Some(respond) = self.take_up_to(last.index) {
            respond.fail(Unmet::Maybe(Uncertain::SnapshotPassed).into());
        }
        self.committed(last.term);
    }

    /// The first one who waits for an entry up to `index`.
    pub(crate) fn take_up_to(&mut self, index: LogIndex) -> Option<Proposer<M>> {
        self.pop_up_to(index).map(|waiter| waiter.respond)
    }

    fn pop_up_to(&mut self, index: LogIndex) -> Option<Waiter<M>> {
        if self.queue.front()?.id.index > index {
            return None;
        }
        let waiter = self.queue.pop_front();
        if self.queue.is_empty() && self.queue.capacity() > 4 * KEPT_ITEMS {
            self.queue.shrink_to(KEPT_ITEMS);
        }
        waiter
    }

    /// Ends the waits whose deadline has come. Returns the earliest deadline that is left.
    pub(crate) fn sweep(&mut self, now: Duration) -> Option<Duration> {
        let earliest = |queue: &VecDeque<Waiter<M>>| queue.iter().map(|w| w.deadline).min();
        if earliest(&self.queue)? > now {
            return earliest(&self.queue);
        }
        let mut left = VecDeque::with_capacity(self.queue.len());
        for waiter in self.queue.drain(..) {
            if waiter.deadline <= now {
                waiter.respond.fail(Unmet::Maybe(Uncertain::TimedOut).into());
            } else {
                left.push_back(waiter);
            }
        }
        self.queue = left;
        earliest(&self.queue)
    }

    /// Ends every wait, because the node stops.
    pub(crate) fn stop(&mut self) {
        for waiter in self.queue.drain(..) {
            waiter.respond.fail(Unmet::Maybe(Uncertain::Stopped).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::channel::oneshot;

    use super::*;
    use crate::nothing::Nothing;

    type Answer = oneshot::Receiver<Result<(), ProposeError>>;

    fn id(index: u64, term: u64) -> EntryId {
        EntryId::new(Term(term), LogIndex(index))
    }

    fn entries(ids: &[(u64, u64)]) -> Vec<Entry> {
        ids.iter().map(|(index, term)| Entry::command(id(*index, *term), "x")).collect()
    }

    fn waiting(ids: &[(u64, u64)]) -> (Waiters<Nothing>, Vec<Answer>) {
        let mut waiters = Waiters::new();
        let answers = ids.iter().map(|(index, term)| {
            let (sender, receiver) = oneshot::channel();
            let deadline = Duration::from_secs(*index);
            waiters.add(id(*index, *term), deadline, Proposer::Command(Responder::Local(sender)));
            receiver
        });
        let answers = answers.collect();
        (waiters, answers)
    }

    fn answer(answer: &mut Answer) -> Option<ProposeError> {
        let answer = answer.now_or_never()?;
        Some(answer.expect("answered").expect_err("nothing was applied"))
    }

    #[test]
    fn who_waits_for_a_committed_entry_goes_along_with_it() {
        let (mut waiters, mut answers) = waiting(&[(3, 1), (4, 1), (5, 1)]);
        let mut applying = Waiters::new();
        assert!(waiters.hand_over(&entries(&[(2, 1), (3, 1), (4, 1)]), &mut applying));
        assert_eq!((waiters.len(), applying.len()), (1, 2));
        assert!(applying.take_up_to(LogIndex(2)).is_none());
        assert!(applying.take_up_to(LogIndex(3)).is_some());
        assert_eq!(answer(&mut answers[2]), None);
    }

    /// Callers who wait for ever: when the log is overwritten.
    #[test]
    fn another_entry_at_the_index_means_definitely_not() {
        let (mut waiters, mut answers) = waiting(&[(3, 1), (3, 3)]);
        let mut applying = Waiters::new();
        waiters.hand_over(&entries(&[(3, 3)]), &mut applying);
        assert_eq!(answer(&mut answers[0]), Some(ProposeError::Superseded));
        assert_eq!(answer(&mut answers[1]), None);
        assert_eq!((waiters.len(), applying.len()), (0, 1));
    }

    #[test]
    fn a_later_term_committed_before_the_index_means_definitely_not() {
        let (mut waiters, mut answers) = waiting(&[(3, 1), (9, 1), (9, 3)]);
        let mut applying = Waiters::new();
        waiters.hand_over(&entries(&[(2, 1)]), &mut applying);
        assert_eq!(answer(&mut answers[1]), None);
        waiters.hand_over(&entries(&[(3, 2)]), &mut applying);
        assert_eq!(answer(&mut answers[0]), Some(ProposeError::Superseded));
        assert_eq!(answer(&mut answers[1]), Some(ProposeError::Superseded));
        assert_eq!(answer(&mut answers[2]), None);
    }

    #[test]
    fn a_snapshot_that_passes_the_index_means_maybe() {
        let (mut waiters, mut answers) = waiting(&[(3, 1), (7, 1), (8, 4)]);
        waiters.passed_by_snapshot(id(5, 4));
        let maybe = ProposeError::Maybe(Uncertain::SnapshotPassed);
        assert_eq!(answer(&mut answers[0]), Some(maybe));
        assert_eq!(answer(&mut answers[1]), Some(ProposeError::Superseded));
        assert_eq!(answer(&mut answers[2]), None);
    }

    #[test]
    fn a_burst_of_waiters_leaves_no_memory_behind() {
        let ids: Vec<(u64, u64)> = (1..=20_000).map(|index| (index, 1)).collect();
        let (mut waiters, _answers) = waiting(&ids);
        assert!(waiters.queue.capacity() >= 20_000);
        while waiters.take_up_to(LogIndex(20_000)).is_some() {}
        assert!(waiters.queue.capacity() <= 4 * KEPT_ITEMS);
    }

    #[test]
    fn a_deadline_that_has_come_means_maybe() {
        let (mut waiters, mut answers) = waiting(&[(3, 1), (7, 1)]);
        assert_eq!(waiters.sweep(Duration::from_secs(2)), Some(Duration::from_secs(3)));
        assert_eq!(waiters.sweep(Duration::from_secs(3)), Some(Duration::from_secs(7)));
        let maybe = ProposeError::Maybe(Uncertain::TimedOut);
        assert_eq!(answer(&mut answers[0]), Some(maybe));
        assert_eq!(answer(&mut answers[1]), None);
        assert_eq!(waiters.sweep(Duration::from_secs(7)), None);
    }
}
