//! Those who wait for the answer to a query: first for an index that makes it linearizable (diss. §6.4), then until the
//! state contains it, then for the machine. Whoever waits is in here all the while, so a deadline holds at any moment.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use raft_core::{LogIndex, ReadId};

use super::intake::Load;
use crate::StateMachine;
use crate::error::QueryError;
use crate::server::Responder;

/// A query and who asks.
pub(crate) struct Asked<M: StateMachine> {
    pub(crate) query: M::Query,
    pub(crate) respond: Responder<M::Answer, QueryError>,
    /// What it counts for in the limit, in bytes.
    pub(crate) len_bytes: usize,
    /// When the wait ends, on the runtime's clock.
    pub(crate) deadline: Duration,
    /// Until when it waits for the machine to have something to say; zero: it does not, or no longer.
    pub(crate) wait_until: Duration,
}

/// A query that the machine is to answer now.
#[derive(Debug)]
pub(crate) struct Begun<Q> {
    pub(crate) query: Q,
    /// It may [wait](Queries::wait) instead.
    pub(crate) may_wait: bool,
}

/// A query that waits for the machine to have something to say. What is asked is with the applier, which asks the machine
/// again and again; who asks, and until when, stays in [`Queries`], where the driver finds it at any time.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Waiting(u64);

/// Where a group of queries stands. Those that arrive together go together.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The core is asked for an index.
    Read(ReadId),
    /// The state must contain this entry.
    Index(LogIndex),
    /// The applier has them, under this number.
    Machine(u64),
}

/// Who asks, where the applier has the query.
struct Asker<M: StateMachine> {
    respond: Responder<M::Answer, QueryError>,
    len_bytes: usize,
    deadline: Duration,
    wait_until: Duration,
}

/// All queries that wait at this node. The driver and the applier share them.
pub(crate) struct Queries<M: StateMachine> {
    groups: BTreeMap<Place, VecDeque<Asked<M>>>,
    /// Who waits for the one that the machine answers now: however long that takes, the deadline holds.
    answering: Option<Asker<M>>,
    /// Who waits for the machine to have something to say ...
    waiting: BTreeMap<Waiting, Asker<M>>,
    /// ... and which of them have waited long enough, until the applier looks.
    late: Vec<Waiting>,
    load: Load,
    next_group: u64,
    next_waiting: u64,
    stopped: bool,
}

impl<M: StateMachine> Queries<M> {
    pub(crate) fn new() -> Queries<M> {
        Queries {
            groups: BTreeMap::new(),
            answering: None,
            waiting: BTreeMap::new(),
            late: Vec::new(),
            load: Load::default(),
            next_group: 1,
            next_waiting: 1,
            stopped: false,
        }
    }

    /// All of them.
    pub(crate) fn load(&self) -> Load {
        self.load
    }

    /// They wait for the core's word on `read`.
    pub(crate) fn wait_for_read(&mut self, read: ReadId, asked: Vec<Asked<M>>) {
        self.put(Place::Read(read), asked);
    }

    /// They wait until the state contains `index`.
    pub(crate) fn wait_for_index(&mut self, index: LogIndex, asked: Vec<Asked<M>>) {
        self.put(Place::Index(index), asked);
    }

    /// The core has named the index of `read`.
    pub(crate) fn confirmed(&mut self, read: ReadId, index: LogIndex) {
        let asked = self.take(Place::Read(read));
        self.put(Place::Index(index), asked);
    }

    /// There will be no index for `read`.
    pub(crate) fn refused(&mut self, read: ReadId, why: &QueryError) {
        for asked in self.take(Place::Read(read)) {
            asked.respond.answer(Err(why.clone()));
        }
    }

    /// Takes out those that wait for an index up to `index`.
    pub(crate) fn ready(&mut self, index: LogIndex) -> Vec<Asked<M>> {
        let mut ready = Vec::new();
        while let Some((place, _)) = self.groups.range(Place::Index(LogIndex::ZERO)..).next() {
            let place = *place;
            match place {
                Place::Index(wanted) if wanted <= index => ready.extend(self.take(place)),
                Place::Read(_) | Place::Index(_) | Place::Machine(_) => break,
            }
        }
        ready
    }

    /// They are for the machine as it is then: together with `group`, or as a group of their own. Returns the number of
    /// the group.
    pub(crate) fn hand_to_machine(&mut self, asked: Vec<Asked<M>>, group: Option<u64>) -> u64 {
        let group = group.unwrap_or_else(|| {
            self.next_group += 1;
            self.next_group
        });
        self.put(Place::Machine(group), asked);
        group
    }

    /// The next query of this group, for the machine to answer: [`Queries::finish`] tells whom.
    pub(crate) fn begin(&mut self, group: u64) -> Option<Begun<M::Query>> {
        let asked = self.groups.get_mut(&Place::Machine(group))?;
        let Some(Asked { query, respond, len_bytes, deadline, wait_until }) = asked.pop_front()
        else {
            self.groups.remove(&Place::Machine(group));
            return None;
        };
        self.answering = Some(Asker { respond, len_bytes, deadline, wait_until });
        Some(Begun { query, may_wait: !wait_until.is_zero() })
    }

    /// The machine has nothing to say yet to the query that it was to answer: the applier keeps it under this number.
    /// `None`: it has waited long enough, or nobody waits for it any more.
    pub(crate) fn wait(&mut self) -> Option<Waiting> {
        let asker = self.answering.take_if(|asker| !asker.wait_until.is_zero())?;
        let number = Waiting(self.next_waiting);
        self.next_waiting += 1;
        self.waiting.insert(number, asker);
        Some(number)
    }

    /// The machine is to answer this one now: [`Queries::finish`] tells whom. `false`: nobody waits for it any more.
    pub(crate) fn resume(&mut self, number: Waiting) -> bool {
        let Some(asker) = self.waiting.remove(&number) else { return false };
        self.answering = Some(asker);
        true
    }

    /// Those that have waited long enough: they are to be answered whatever there is to say.
    pub(crate) fn take_late(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.late)
    }

    /// Whoever has waited long enough waits no longer for something to be said, wherever the query is. Returns whether the
    /// applier is to [look](Queries::take_late); where it has been told before and did not come to it, it is not told again.
    pub(crate) fn end_waits(&mut self, now: Duration) -> bool {
        let is_over = |wait_until: Duration| !wait_until.is_zero() && wait_until <= now;
        let queued = self.groups.values_mut().flatten().map(|asked| &mut asked.wait_until);
        let answering = self.answering.iter_mut().map(|asker| &mut asker.wait_until);
        for wait_until in queued.chain(answering).filter(|wait_until| is_over(**wait_until)) {
            *wait_until = Duration::ZERO;
        }
        let knows = !self.late.is_empty();
        for (number, asker) in &mut self.waiting {
            if is_over(asker.wait_until) {
                asker.wait_until = Duration::ZERO;
                self.late.push(*number);
            }
        }
        !knows && !self.late.is_empty()
    }

    /// The machine has answered. `None`: nobody waits for that any more.
    pub(crate) fn finish(&mut self) -> Option<Responder<M::Answer, QueryError>> {
        let Asker { respond, len_bytes, .. } = self.answering.take()?;
        self.load.count -= 1;
        self.load.bytes -= len_bytes;
        Some(respond)
    }

    /// Ends the waits whose deadline has come. Returns when there is something to end next.
    pub(crate) fn sweep(&mut self, now: Duration) -> Option<Duration> {
        if self.earliest()? > now {
            return self.earliest();
        }
        let is_late = |asker: &Asker<M>| asker.deadline <= now;
        let late = self.waiting.iter().filter(|(_, asker)| is_late(asker));
        let late: Vec<Waiting> = late.map(|(number, _)| *number).collect();
        let waiting = late.iter().filter_map(|number| self.waiting.remove(number));
        for asker in waiting.chain(self.answering.take_if(|asker| is_late(asker))) {
            self.load.count -= 1;
            self.load.bytes -= asker.len_bytes;
            asker.respond.answer(Err(QueryError::TimedOut));
        }
        let places: Vec<Place> = self.groups.keys().copied().collect();
        for place in places {
            let (late, left): (Vec<_>, Vec<_>) =
                self.take(place).into_iter().partition(|asked| asked.deadline <= now);
            self.put(place, left);
            for asked in late {
                asked.respond.answer(Err(QueryError::TimedOut));
            }
        }
        self.earliest()
    }

    /// When the first wait ends: for something to be said, or for an answer at all.
    fn earliest(&self) -> Option<Duration> {
        let queued = self.groups.values().flatten();
        let queued = queued.map(|asked| (asked.wait_until, asked.deadline));
        let kept = self.waiting.values().chain(&self.answering);
        let kept = kept.map(|asker| (asker.wait_until, asker.deadline));
        let ends = |(wait_until, deadline): (Duration, Duration)| {
            if wait_until.is_zero() { deadline } else { wait_until.min(deadline) }
        };
        queued.chain(kept).map(ends).min()
    }

    /// Ends every wait, because the node stops.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        for asked in std::mem::take(&mut self.groups).into_values().flatten() {
            asked.respond.answer(Err(QueryError::Stopped));
        }
        let waiting = std::mem::take(&mut self.waiting).into_values();
        for asker in waiting.chain(self.answering.take()) {
            asker.respond.answer(Err(QueryError::Stopped));
        }
        self.load = Load::default();
    }

    fn put(&mut self, place: Place, asked: impl Into<VecDeque<Asked<M>>>) {
        let mut asked = asked.into();
        if asked.is_empty() {
            return;
        }
        if self.stopped {
            asked.into_iter().for_each(|asked| asked.respond.answer(Err(QueryError::Stopped)));
            return;
        }
        self.load.count += asked.len();
        self.load.bytes += len_bytes(&asked);
        self.groups.entry(place).or_default().append(&mut asked);
    }

    fn take(&mut self, place: Place) -> VecDeque<Asked<M>> {
        let asked = self.groups.remove(&place).unwrap_or_default();
        self.load.count -= asked.len();
        self.load.bytes -= len_bytes(&asked);
        asked
    }
}

fn len_bytes<M: StateMachine>(asked: &VecDeque<Asked<M>>) -> usize {
    asked.iter().map(|asked| asked.len_bytes).sum()
}

#[cfg(test)]
mod tests;
