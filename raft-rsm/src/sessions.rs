//! Exactly once: what the replicas remember of clients, so that a command that is sent twice is carried out once
//! (diss. §6.3).
//!
//! The table is a part of the replicated state: it changes by entries of the log alone, in their order, with the log's time
//! as its only clock, and with limits that the entries bring along. So all replicas remember and forget the same, whatever
//! their options and clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use raft_core::LogIndex;
use serde::{Deserialize, Serialize};

/// A session has at most so many commands under way: so many answers are kept for it.
pub const IN_FLIGHT_MAX: u64 = 64;

/// A name for [`crate::Raft::propose_once`] has at most so many bytes.
pub const ONCE_KEY_BYTES_MAX: usize = 255;

/// What an answer that is kept counts for beside its own bytes.
const KEPT_OVERHEAD_BYTES: u64 = 64;

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

/// What the table may hold. A leader puts its own into the entries that make the table grow.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionLimits {
    /// A session without commands ends after this much of the log's time, in nanoseconds.
    pub(crate) idle_max_nanos: u64,
    pub(crate) sessions_max: u64,
    /// Answers that are kept, all together.
    pub(crate) bytes_max: u64,
}

impl SessionLimits {
    /// Whether `more` bytes can be kept beside those that are.
    fn have_room(&self, kept: u64, more: usize) -> bool {
        let more = KEPT_OVERHEAD_BYTES.saturating_add(more as u64);
        kept.saturating_add(more) <= self.bytes_max
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

/// The table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    open: BTreeMap<SessionId, Open>,
    /// The open ones by the time of their last command.
    by_activity: BTreeSet<(u64, SessionId)>,
    named: BTreeMap<Arc<[u8]>, Named>,
    /// The names by the time at which they came.
    by_age: BTreeSet<(u64, Arc<[u8]>)>,
    /// What is kept counts for so many bytes.
    bytes: u64,
    limits: SessionLimits,
}

/// A session. As small as it can be: there may be a hundred thousand.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    active_at_nanos: u64,
    answered_below: u64,
    kept: Vec<Kept>,
}

/// The answer to a command of a session; `None` where there was no room for it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    sequence: u64,
    answer: Option<Arc<[u8]>>,
}

/// A command with a name of its own, and its answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        let is_over = |since: u64, idle: u64| now.saturating_sub(since) >= idle;
        let idle = self.limits.idle_max_nanos;
        while let Some((active_at, id)) = self.by_activity.first().copied()
            && is_over(active_at, idle)
        {
            self.close(id);
        }
        while self.by_age.first().is_some_and(|(came_at, _)| is_over(*came_at, idle))
            && let Some((_, name)) = self.by_age.pop_first()
        {
            if let Some(named) = self.named.remove(&name) {
                self.bytes -= cost(named.answer.as_deref()) + name.len() as u64;
            }
        }
    }

    /// Opens the session that the entry at `index` asks for.
    pub(crate) fn open(
        &mut self,
        index: LogIndex,
        time: Duration,
        limits: SessionLimits,
    ) -> Result<SessionId, SessionRefusal> {
        self.limits = limits;
        self.expire(time);
        if self.is_full() {
            return Err(SessionRefusal::Full);
        }
        let id = SessionId(index.0);
        let active_at_nanos = nanos(time);
        self.by_activity.insert((active_at_nanos, id));
        self.open.insert(id, Open { active_at_nanos, answered_below: 0, kept: Vec::new() });
        Ok(id)
    }

    /// Ends a session. One that has ended has ended.
    pub(crate) fn close(&mut self, id: SessionId) {
        if let Some(open) = self.open.remove(&id) {
            self.by_activity.remove(&(open.active_at_nanos, id));
            self.bytes -= open.kept.iter().map(|kept| cost(kept.answer.as_deref())).sum::<u64>();
        }
    }

    /// A command of a session is committed.
    pub(crate) fn request(&mut self, request: SessionRequest, time: Duration) -> Turn {
        let SessionRequest { session, sequence, answered_below } = request;
        let Some(open) = self.open.get_mut(&session) else {
            return Turn::Refused(SessionRefusal::Expired);
        };
        self.by_activity.remove(&(open.active_at_nanos, session));
        open.active_at_nanos = nanos(time);
        self.by_activity.insert((open.active_at_nanos, session));
        open.answered_below = open.answered_below.max(answered_below);
        let below = open.answered_below;
        for forgotten in open.kept.extract_if(.., |kept| kept.sequence < below) {
            self.bytes -= cost(forgotten.answer.as_deref());
        }
        if sequence < below {
            return Turn::Refused(SessionRefusal::Forgotten);
        }
        match open.kept.iter().find(|kept| kept.sequence == sequence) {
            Some(Kept { answer: Some(answer), .. }) => Turn::Again(Arc::clone(answer)),
            Some(Kept { answer: None, .. }) => Turn::Refused(SessionRefusal::Forgotten),
            None if sequence - below >= IN_FLIGHT_MAX => Turn::Refused(SessionRefusal::TooMany),
            None if !self.limits.have_room(self.bytes, 0) => Turn::Refused(SessionRefusal::Full),
            None => Turn::First,
        }
    }

    /// A command with a name of its own is committed.
    pub(crate) fn named(
        &mut self,
        name: &[u8],
        command: &[u8],
        time: Duration,
        limits: SessionLimits,
    ) -> Turn {
        self.limits = limits;
        self.expire(time);
        let command_crc = crc32fast::hash(command);
        match self.named.get(name) {
            Some(named) if named.command_crc != command_crc => {
                return Turn::Refused(SessionRefusal::NameTaken);
            }
            Some(Named { answer: Some(answer), .. }) => return Turn::Again(Arc::clone(answer)),
            Some(Named { answer: None, .. }) => return Turn::Refused(SessionRefusal::Forgotten),
            None if self.is_full() || !self.limits.have_room(self.bytes, name.len()) => {
                return Turn::Refused(SessionRefusal::Full);
            }
            None => {}
        }
        let shared: Arc<[u8]> = Arc::from(name);
        let came_at_nanos = nanos(time);
        self.by_age.insert((came_at_nanos, Arc::clone(&shared)));
        self.named.insert(shared, Named { came_at_nanos, command_crc, answer: None });
        self.bytes += cost(None) + name.len() as u64;
        Turn::First
    }

    /// The command was carried out. Where there is no room for its answer, it is kept that it was.
    pub(crate) fn answered(&mut self, place: Place<'_>, answer: Option<&[u8]>) {
        let answer = answer
            .filter(|answer| self.limits.have_room(self.bytes, answer.len()))
            .map(Arc::<[u8]>::from);
        match place {
            Place::Session(session, sequence) => {
                let Some(open) = self.open.get_mut(&session) else { return };
                self.bytes += cost(answer.as_deref());
                // Most sessions have one command under way at a time.
                open.kept.reserve_exact(1);
                open.kept.push(Kept { sequence, answer });
            }
            Place::Name(name) => {
                let Some(named) = self.named.get_mut(name) else { return };
                self.bytes += cost(answer.as_deref()) - cost(None);
                named.answer = answer;
            }
        }
    }

    /// How many sessions and names there are.
    pub(crate) fn len(&self) -> usize {
        self.open.len() + self.named.len()
    }

    fn is_full(&self) -> bool {
        self.len() as u64 >= self.limits.sessions_max
    }

    /// The table as it stands in a snapshot.
    pub(crate) fn to_image(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_allocvec(&(&self.limits, &self.open, &self.named))
    }

    /// # Errors
    /// The image is not that of a table.
    pub(crate) fn from_image(image: &[u8]) -> Result<Sessions, postcard::Error> {
        type Image = (SessionLimits, BTreeMap<SessionId, Open>, BTreeMap<Arc<[u8]>, Named>);
        let ((limits, open, named), rest): (Image, _) = postcard::take_from_bytes(image)?;
        if !rest.is_empty() {
            return Err(postcard::Error::DeserializeBadEncoding);
        }
        let by_activity = open.iter().map(|(id, open)| (open.active_at_nanos, *id)).collect();
        let by_age =
            named.iter().map(|(name, named)| (named.came_at_nanos, Arc::clone(name))).collect();
        let kept = open.values().flat_map(|open| &open.kept);
        let bytes = kept.map(|kept| cost(kept.answer.as_deref())).sum::<u64>()
            + named
                .iter()
                .map(|(name, named)| cost(named.answer.as_deref()) + name.len() as u64)
                .sum::<u64>();
        Ok(Sessions { open, by_activity, named, by_age, bytes, limits })
    }
}

/// What an answer that is kept counts for, in bytes.
fn cost(answer: Option<&[u8]>) -> u64 {
    KEPT_OVERHEAD_BYTES + answer.map_or(0, |answer| answer.len() as u64)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
