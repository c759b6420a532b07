//! Those who wait for an entry: they are told "done" or "definitely not" only by what is committed at its index.

use std::collections::VecDeque;
use std::time::Duration;

use raft_core::{Entry, EntryId, LogIndex};

use crate::StateMachine;
use crate::error::{ProposeError, QueryError, Uncertain};
use crate::server::Responder;

/// One who waits.
pub(crate) struct Waiter<M: StateMachine> {
    /// The entry waited for.
    id: EntryId,
    /// When the wait ends, on the runtime's clock.
    deadline: Duration,
    waits_for: WaitsFor<M>,
}

/// What a waiter waits for.
pub(crate) enum WaitsFor<M: StateMachine> {
    /// The response to the command in the entry.
    Command(Responder<M::Response, ProposeError>),
    /// The answer to a query, which may be given as soon as the entry is applied.
    Query(M::Query, Responder<M::Answer, QueryError>),
}

/// Why a wait ends without the entry being applied.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Unmet {
    /// Another entry was committed at the index.
    Superseded,
    /// Nobody knows.
    Maybe(Uncertain),
}

impl<M: StateMachine> WaitsFor<M> {
    pub(crate) fn fail(self, why: Unmet) {
        match self {
            WaitsFor::Command(respond) => respond.answer(Err(match why {
                Unmet::Superseded => ProposeError::Superseded,
                Unmet::Maybe(why) => ProposeError::Maybe(why),
            })),
            WaitsFor::Query(_, respond) => respond.answer(Err(match why {
                Unmet::Superseded | Unmet::Maybe(Uncertain::SnapshotPassed) => {
                    QueryError::Superseded
                }
                Unmet::Maybe(Uncertain::TimedOut) => QueryError::TimedOut,
                Unmet::Maybe(Uncertain::Stopped) => QueryError::Stopped,
            })),
        }
    }
}

/// Those who wait, in the order of their entries' indexes. Several may wait at one index: queries share an
/// entry, and a leader that was deposed and elected again may use an index twice.
pub(crate) struct Waiters<M: StateMachine> {
    queue: VecDeque<Waiter<M>>,
}

impl<M: StateMachine> Waiters<M> {
    pub(crate) fn new() -> Waiters<M> {
        Waiters { queue: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn add(&mut self, id: EntryId, deadline: Duration, waits_for: WaitsFor<M>) {
        let waiter = Waiter { id, deadline, waits_for };
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
                Some(_) => waiter.waits_for.fail(Unmet::Superseded),
                // Committed entries come without a gap, so everybody before them was served.
                None => waiter.waits_for.fail(Unmet::Maybe(Uncertain::SnapshotPassed)),
            }
        }
        moved
    }

    /// Ends the waits for entries up to `index`, which a snapshot has replaced unseen.
    pub(crate) fn passed_by_snapshot(&mut self, index: LogIndex) {
        while let Some(waits_for) = self.take_up_to(index) {
            waits_for.fail(Unmet::Maybe(Uncertain::SnapshotPassed));
        }
    }

    /// The first one who waits for an entry up to `index`.
    pub(crate) fn take_up_to(&mut self, index: LogIndex) -> Option<WaitsFor<M>> {
        self.pop_up_to(index).map(|waiter| waiter.waits_for)
    }

    fn pop_up_to(&mut self, index: LogIndex) -> Option<Waiter<M>> {
        if self.queue.front()?.id.index <= index { self.queue.pop_front() } else { None }
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
                waiter.waits_for.fail(Unmet::Maybe(Uncertain::TimedOut));
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
            waiter.waits_for.fail(Unmet::Maybe(Uncertain::Stopped));
        }
    }
}
