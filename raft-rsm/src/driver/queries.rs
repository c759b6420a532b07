//! Those who wait for the answer to a query: first for an index that makes it linearizable (diss. §6.4), then until the
//! state contains it, then for the machine.

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
    /// Until when it waits for the machine to have something to say; zero: it does not.
    pub(crate) wait_until: Duration,
}

/// A query that the machine is to answer now.
#[derive(Debug)]
pub(crate) struct Begun<Q> {
    pub(crate) query: Q,
    /// It may [wait](Queries::wait) instead.
    pub(crate) may_wait: bool,
}

/// Where a group of queries stands. Those that arrive together go together.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The core is asked for an index.
    Read(ReadId),
    /// The state must contain this entry.
    Index(LogIndex),
    /// The applier has them, under this number.
    Machine(u64),
    /// The machine has nothing to say to them yet.
    Nothing,
}

struct Answering<M: StateMachine> {
    respond: Responder<M::Answer, QueryError>,
    len_bytes: usize,
    deadline: Duration,
    wait_until: Duration,
}

/// All queries that wait at this node. The driver and the applier share them.
pub(crate) struct Queries<M: StateMachine> {
    groups: BTreeMap<Place, VecDeque<Asked<M>>>,
    /// Who waits for the one that the machine answers now: however long that takes, the deadline holds.
    answering: Option<Answering<M>>,
    load: Load,
    next_group: u64,
    stopped: bool,
}

impl<M: StateMachine> Queries<M> {
    pub(crate) fn new() -> Queries<M> {
        Queries {
            groups: BTreeMap::new(),
            answering: None,
            load: Load::default(),
            next_group: 1,
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
                Place::Read(_) | Place::Index(_) | Place::Machine(_) | Place::Nothing => break,
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
        self.answering = Some(Answering { respond, len_bytes, deadline, wait_until });
        Some(Begun { query, may_wait: !wait_until.is_zero() })
    }

    /// The machine has nothing to say yet to the query that it was to answer.
    pub(crate) fn wait(&mut self, query: M::Query) {
        let Some(answering) = self.answering.take() else { return };
        let Answering { respond, len_bytes, deadline, wait_until } = answering;
        self.load.count -= 1;
        self.load.bytes -= len_bytes;
        let asked = Asked { query, respond, len_bytes, deadline, wait_until };
        self.put(Place::Nothing, vec![asked]);
    }

    /// Takes out those that wait for the machine to have something to say.
    pub(crate) fn take_waiting(&mut self) -> Vec<Asked<M>> {
        self.take(Place::Nothing).into()
    }

    /// There is nothing to say to these yet.
    pub(crate) fn wait_on(&mut self, asked: Vec<Asked<M>>) {
        self.put(Place::Nothing, asked);
    }

    /// Takes out those that have waited long enough: they are to be answered whatever there is to say.
    pub(crate) fn have_waited(&mut self, now: Duration) -> Vec<Asked<M>> {
        let (mut late, left): (Vec<_>, Vec<_>) =
            self.take(Place::Nothing).into_iter().partition(|asked| asked.wait_until <= now);
        self.put(Place::Nothing, left);
        late.iter_mut().for_each(|asked| asked.wait_until = Duration::ZERO);
        late
    }

    /// The machine has answered. `None`: nobody waits for that any more.
    pub(crate) fn finish(&mut self) -> Option<Responder<M::Answer, QueryError>> {
        let Answering { respond, len_bytes, .. } = self.answering.take()?;
        self.load.count -= 1;
        self.load.bytes -= len_bytes;
        Some(respond)
    }

    /// Ends the waits whose deadline has come. Returns the earliest deadline that is left.
    pub(crate) fn sweep(&mut self, now: Duration) -> Option<Duration> {
        let earliest = |queries: &Queries<M>| {
            let answering = queries.answering.as_ref().map(|answering| answering.deadline);
            let waiting = queries.groups.iter().flat_map(|(place, asked)| {
                let ends = |asked: &Asked<M>| match place {
                    Place::Nothing => asked.wait_until,
                    Place::Read(_) | Place::Index(_) | Place::Machine(_) => asked.deadline,
                };
                asked.iter().map(ends)
            });
            waiting.chain(answering).min()
        };
        if earliest(self)? > now {
            return earliest(self);
        }
        if self.answering.as_ref().is_some_and(|answering| answering.deadline <= now)
            && let Some(respond) = self.finish()
        {
            respond.answer(Err(QueryError::TimedOut));
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
        earliest(self)
    }

    /// Ends every wait, because the node stops.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        for asked in std::mem::take(&mut self.groups).into_values().flatten() {
            asked.respond.answer(Err(QueryError::Stopped));
        }
        if let Some(answering) = self.answering.take() {
            answering.respond.answer(Err(QueryError::Stopped));
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
