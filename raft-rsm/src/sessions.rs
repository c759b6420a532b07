//! Exactly once: what the replicas remember of clients, so that a command that is sent twice is carried out once
//! (diss. §6.3).
//!
//! The table is a part of the replicated state: it changes by entries of the log alone, in their order, with the log's time
//! as its only clock, and with limits that the entries bring along. So all replicas remember and forget the same, whatever
//! their options and clocks.

mod image;
mod shards;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use raft_core::LogIndex;
use serde::{Deserialize, Serialize};

pub(crate) use self::image::FrozenSessions;
use self::shards::Shards;

/// A session has at most so many commands under way: so many answers are kept for it.
pub const IN_FLIGHT_MAX: u64 = 64;

/// A name for [`crate::Raft::propose_once`] has at most so many bytes.
pub const ONCE_KEY_BYTES_MAX: usize = 255;

/// What an answer that is kept counts for beside its own bytes.
const KEPT_OVERHEAD_BYTES: u64 = 64;

/// What a name counts for beside its own bytes and its answer.
const NAME_OVERHEAD_BYTES: u64 = 136;

/// A session in which there was no command yet ends after so much of the log's time, in nanoseconds, or sooner if sessions
/// do. A client whose request to open one was answered too late has opened another one since: where commits are slow, such
/// sessions would fill the table.
const UNUSED_AGE_MAX_NANOS: u64 = 60_000_000_000;

/// A client's session. Its number is the index of the entry that opened it: no two ever have the same.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which command of which session.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRequest {
    /// The session.
    pub session: SessionId,
    /// The number of the command, which each transmission of it has. Less than `answered_below` + [`IN_FLIGHT_MAX`].
    pub sequence: u64,
    /// The client waits for no command with a lower number: what is kept for those may be forgotten, and copies of them
    /// that are still on their way are refused.
    pub answered_below: u64,
}

/// What may be remembered of sessions, or of names. A leader puts its own into the entries that make the table grow.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableLimits {
    /// A session without commands ends after this much of the log's time, in nanoseconds; so long is a name remembered.
    pub(crate) age_max_nanos: u64,
    /// How many.
    pub(crate) count_max: u64,
    /// Answers that are kept, all together.
    pub(crate) bytes_max: u64,
}

impl TableLimits {
    pub(crate) const BYTES: usize = 24;

    /// As they stand in entries and images.
    pub(crate) fn to_bytes(self) -> [u8; TableLimits::BYTES] {
        let TableLimits { age_max_nanos, count_max, bytes_max } = self;
        let mut bytes = [0; TableLimits::BYTES];
        for (place, number) in bytes.chunks_exact_mut(8).zip([age_max_nanos, count_max, bytes_max])
        {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; TableLimits::BYTES]) -> TableLimits {
        let mut numbers = [0; 3];
        for (number, place) in numbers.iter_mut().zip(bytes.as_chunks().0) {
            *number = u64::from_le_bytes(*place);
        }
        let [age_max_nanos, count_max, bytes_max] = numbers;
        TableLimits { age_max_nanos, count_max, bytes_max }
    }

    /// For sessions without commands.
    fn of_unused(self) -> TableLimits {
        TableLimits { age_max_nanos: self.age_max_nanos.min(UNUSED_AGE_MAX_NANOS), ..self }
    }

    fn is_over(&self, since_nanos: u64, now_nanos: u64) -> bool {
        now_nanos.saturating_sub(since_nanos) >= self.age_max_nanos
    }

    /// Whether `more` bytes can be kept beside those that are.
    fn have_room(&self, kept: u64, more: u64) -> bool {
        kept.saturating_add(KEPT_OVERHEAD_BYTES).saturating_add(more) <= self.bytes_max
    }
}

/// How full the table is.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) sessions: u64,
    pub(crate) session_bytes: u64,
    pub(crate) names: u64,
    pub(crate) name_bytes: u64,
    /// When the session was last used that will be the next to end by itself, by the log's time ...
    oldest_session_nanos: Option<u64>,
    /// ... and when the one was opened that will be the next to end of those that were never used.
    oldest_unused_nanos: Option<u64>,
}

impl Fill {
    /// Whether an entry that is to open a session when the log's time is `time` would be refused.
    pub(crate) fn has_no_room_for_a_session(&self, limits: &TableLimits, time: Duration) -> bool {
        let (now, unused) = (nanos(time), limits.of_unused());
        let one_ends = self.oldest_session_nanos.is_some_and(|since| limits.is_over(since, now))
            || self.oldest_unused_nanos.is_some_and(|since| unused.is_over(since, now));
        self.sessions >= limits.count_max && !one_ends
    }
}

/// What to do with a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It comes for the first time: it is to be carried out, and its answer to be [kept](Sessions::answered).
    First,
    /// It was carried out before, and this is what it was answered.
    Again(Arc<[u8]>),
    Refused(SessionRefusal),
}

/// Why a command is not carried out now.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum SessionRefusal {
    /// There is no such session, or no longer.
    Expired,
    /// There is no room for another session or another answer.
    Full,
    /// The session has too many under way.
    TooMany,
    /// It was carried out, or given up, before, and its answer is not kept.
    Forgotten,
    /// Another command has this name.
    NameTaken,
}

/// The table. Sessions and names do not take each other's room.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    open: Shards<SessionId, Open>,
    by_activity: ByActivity,
    /// What is kept for them counts for so many bytes.
    session_bytes: u64,
    session_limits: TableLimits,
    named: Shards<Arc<[u8]>, Named>,
    /// The names by the time at which they came.
    by_age: BTreeSet<(u64, Arc<[u8]>)>,
    /// What is kept for them counts for so many bytes.
    name_bytes: u64,
    name_limits: TableLimits,
}

/// The open sessions, in the order in which they end by themselves.
#[derive(Debug, Default, PartialEq, Eq)]
struct ByActivity {
    /// By the time of their last command.
    used: BTreeSet<(u64, SessionId)>,
    /// Those without commands.
    unused: BTreeSet<(u64, SessionId)>,
}

impl ByActivity {
    fn insert(&mut self, id: SessionId, open: &Open) {
        self.of(open).insert((open.active_at_nanos, id));
    }

    fn remove(&mut self, id: SessionId, open: &Open) {
        self.of(open).remove(&(open.active_at_nanos, id));
    }

    fn of(&mut self, open: &Open) -> &mut BTreeSet<(u64, SessionId)> {
        if open.is_unused() { &mut self.unused } else { &mut self.used }
    }
}

/// A session. As small as it can be: there may be a hundred thousand.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    active_at_nanos: u64,
    answered_below: u64,
    kept: Vec<Kept>,
}

/// The answer to a command of a session; `None` where there was no room for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    sequence: u64,
    answer: Option<Arc<[u8]>>,
}

/// A command with a name of its own, and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    came_at_nanos: u64,
    command_crc: u32,
    answer: Option<Arc<[u8]>>,
}

/// Where the answer of a command that is carried out now is to be kept.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Place<'a> {
    Session(SessionId, u64),
    Name(&'a [u8]),
}

impl Sessions {
    /// The log's time is `time` now: sessions that had no command for too long end, and names are forgotten.
    pub(crate) fn expire(&mut self, time: Duration) {
        let now = nanos(time);
        while let Some((active_at, id)) = self.by_activity.used.first().copied()
            && self.session_limits.is_over(active_at, now)
        {
            self.close(id);
        }
        while let Some((active_at, id)) = self.by_activity.unused.first().copied()
            && self.session_limits.of_unused().is_over(active_at, now)
        {
            self.close(id);
        }
        while self
            .by_age
            .first()
            .is_some_and(|(came_at, _)| self.name_limits.is_over(*came_at, now))
            && let Some((_, name)) = self.by_age.pop_first()
        {
            if let Some(named) = self.named.remove(&*name) {
                self.name_bytes -= name_cost(&name, &named);
            }
        }
    }

    /// Opens the session that the entry at `index` asks for.
    pub(crate) fn open(
        &mut self,
        index: LogIndex,
        time: Duration,
        limits: TableLimits,
    ) -> Result<SessionId, SessionRefusal> {
        self.session_limits = limits;
        self.expire(time);
        if self.open.len() as u64 >= limits.count_max {
            return Err(SessionRefusal::Full);
        }
        let id = SessionId(index.0);
        let active_at_nanos = nanos(time);
        self.take_in(id, Open { active_at_nanos, answered_below: 0, kept: Vec::new() });
        Ok(id)
    }

    /// `None`: it is there already.
    fn take_in(&mut self, id: SessionId, open: Open) -> Option<()> {
        self.by_activity.insert(id, &open);
        self.session_bytes += open.cost();
        self.open.insert::<SessionId>(id, open).is_none().then_some(())
    }

    /// `None`: it is there already.
    fn take_in_name(&mut self, name: Arc<[u8]>, named: Named) -> Option<()> {
        self.by_age.insert((named.came_at_nanos, Arc::clone(&name)));
        self.name_bytes += name_cost(&name, &named);
        self.named.insert::<[u8]>(name, named).is_none().then_some(())
    }

    /// Ends a session. One that has ended has ended.
    pub(crate) fn close(&mut self, id: SessionId) {
        if let Some(open) = self.open.remove(&id) {
            self.by_activity.remove(id, &open);
            self.session_bytes -= open.cost();
        }
    }

    /// A command of a session is committed.
    pub(crate) fn request(&mut self, request: SessionRequest, time: Duration) -> Turn {
        let SessionRequest { session, sequence, answered_below } = request;
        let Some(open) = self.open.get_mut(&session) else {
            return Turn::Refused(SessionRefusal::Expired);
        };
        self.by_activity.remove(session, open);
        open.active_at_nanos = nanos(time);
        open.answered_below = open.answered_below.max(answered_below);
        let below = open.answered_below;
        for forgotten in open.kept.extract_if(.., |kept| kept.sequence < below) {
            self.session_bytes -= cost(forgotten.answer.as_deref());
        }
        open.give_back_room();
        self.by_activity.insert(session, open);
        if sequence < below {
            return Turn::Refused(SessionRefusal::Forgotten);
        }
        match open.kept.iter().find(|kept| kept.sequence == sequence) {
            Some(Kept { answer: Some(answer), .. }) => Turn::Again(Arc::clone(answer)),
            Some(Kept { answer: None, .. }) => Turn::Refused(SessionRefusal::Forgotten),
            None if sequence - below >= IN_FLIGHT_MAX => Turn::Refused(SessionRefusal::TooMany),
            None if !self.session_limits.have_room(self.session_bytes, 0) => {
                Turn::Refused(SessionRefusal::Full)
            }
            None => Turn::First,
        }
    }

    /// A command with a name of its own is committed.
    pub(crate) fn named(
        &mut self,
        name: &[u8],
        command: &[u8],
        time: Duration,
        limits: TableLimits,
    ) -> Turn {
        self.name_limits = limits;
        self.expire(time);
        let command_crc = crc32fast::hash(command);
        match self.named.get(name) {
            Some(named) if named.command_crc != command_crc => {
                return Turn::Refused(SessionRefusal::NameTaken);
            }
            Some(Named { answer: Some(answer), .. }) => return Turn::Again(Arc::clone(answer)),
            Some(Named { answer: None, .. }) => return Turn::Refused(SessionRefusal::Forgotten),
            None if self.named.len() as u64 >= limits.count_max
                || !limits.have_room(self.name_bytes, NAME_OVERHEAD_BYTES + name.len() as u64) =>
            {
                return Turn::Refused(SessionRefusal::Full);
            }
            None => {}
        }
        let named = Named { came_at_nanos: nanos(time), command_crc, answer: None };
        self.take_in_name(Arc::from(name), named);
        Turn::First
    }

    /// The command was carried out. Where there is no room for its answer, it is kept that it was.
    pub(crate) fn answered(&mut self, place: Place<'_>, answer: Option<&[u8]>) {
        let (limits, bytes) = match place {
            Place::Session(..) => (self.session_limits, self.session_bytes),
            Place::Name(_) => (self.name_limits, self.name_bytes),
        };
        let answer = answer
            .filter(|answer| limits.have_room(bytes, answer.len() as u64))
            .map(Arc::<[u8]>::from);
        match place {
            Place::Session(session, sequence) => {
                let Some(open) = self.open.get_mut(&session) else { return };
                self.session_bytes += cost(answer.as_deref());
                self.by_activity.remove(session, open);
                // Most sessions have one command under way at a time.
                open.kept.reserve_exact(1);
                open.kept.push(Kept { sequence, answer });
                self.by_activity.insert(session, open);
            }
            Place::Name(name) => {
                let Some(named) = self.named.get_mut(name) else { return };
                self.name_bytes += cost(answer.as_deref()) - cost(None);
                named.answer = answer;
            }
        }
    }

    /// How full it is.
    pub(crate) fn fill(&self) -> Fill {
        Fill {
            sessions: self.open.len() as u64,
            session_bytes: self.session_bytes,
            names: self.named.len() as u64,
            name_bytes: self.name_bytes,
            oldest_session_nanos: self.by_activity.used.first().map(|(active_at, _)| *active_at),
            oldest_unused_nanos: self.by_activity.unused.first().map(|(active_at, _)| *active_at),
        }
    }
}

impl Open {
    /// No command has been carried out in it.
    fn is_unused(&self) -> bool {
        self.answered_below == 0 && self.kept.is_empty()
    }

    /// Who had many commands under way once need not have their room for ever.
    fn give_back_room(&mut self) {
        const SPARE: usize = 2;
        if self.kept.capacity() > 2 * (self.kept.len() + SPARE) {
            self.kept.shrink_to(self.kept.len() + SPARE);
        }
    }

    fn cost(&self) -> u64 {
        self.kept.iter().map(|kept| cost(kept.answer.as_deref())).sum()
    }
}

/// What an answer that is kept counts for, in bytes.
fn cost(answer: Option<&[u8]>) -> u64 {
    KEPT_OVERHEAD_BYTES + answer.map_or(0, |answer| answer.len() as u64)
}

fn name_cost(name: &[u8], named: &Named) -> u64 {
    NAME_OVERHEAD_BYTES + cost(named.answer.as_deref()) + name.len() as u64
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
