//! What happens to keys, as it happens.

use std::collections::VecDeque;
use std::time::Duration;

use raft_rsm::raft_core::NodeId;
use raft_rsm::{Client, ClientError};

use super::wrong_kind;
use crate::store::{Answer, Changes, Cursor, Event, Query, Revision, Store};

/// A node that has nothing to tell says so after this, and is asked again: so it is known to be there, and to be no node
/// that was left behind. An answer that is lost is missed for as long.
///
/// So it is short after something was told, and doubled each time that nothing is. Where much happens, answers come sooner
/// anyway, and the short time costs no more questions; where little happens, few answers can be lost.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A node that cannot be asked, or that lags, may remember what others have forgotten; when that was so in so many rounds in
/// a row, it may be gone for good, and is not waited for.
const UNHEARD_MAX: u32 = 5;

/// Between two such rounds.
const PAUSE: Duration = Duration::from_secs(1);

/// The events of the keys that begin with a prefix, in their order: none is missed and none comes twice, whichever node
/// answers.
#[derive(Debug)]
pub struct Watch {
    client: Client<Store>,
    prefix: String,
    /// What was told and not taken yet ...
    told: VecDeque<Event>,
    /// ... and from where to go on when all of that is taken.
    next: Cursor,
    /// How long the next question waits at the node for something to tell.
    wait: Duration,
    /// How often in a row those who know had forgotten, and somebody could not be asked or lagged.
    unheard: u32,
    /// Those who had forgotten in the last round.
    forgot: Vec<NodeId>,
}

/// Why there is no event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// No node remembers what happened from there on, but for those that could not be asked for some seconds: read the keys,
    /// and watch from that moment on.
    #[error("the history before revision {oldest} is forgotten")]
    Compacted {
        /// From when on a node remembers.
        oldest: Revision,
    },
    /// No node answered in time. Nothing is lost: ask again.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Watch {
    pub(super) fn new(client: Client<Store>, prefix: &str, from: Cursor) -> Watch {
        let prefix = prefix.to_owned();
        Watch {
            client,
            prefix,
            told: VecDeque::new(),
            next: from,
            wait: WAIT_MIN,
            unheard: 0,
            forgot: Vec::new(),
        }
    }

    /// The next event, as soon as it happens. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`WatchError`]. After [`WatchError::Client`] it may be asked again, and goes on where it was.
    pub async fn next(&mut self) -> Result<Event, WatchError> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Ok(event);
            }
            self.ask().await?;
        }
    }

    /// The next events, as soon as there are any; none, if there were none for some seconds.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub async fn next_batch(&mut self) -> Result<Vec<Event>, WatchError> {
        if self.told.is_empty() {
            self.ask().await?;
        }
        Ok(self.told.drain(..).collect())
    }

    /// From where another watch goes on when all events that were told are taken.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.next
    }

    /// Who said so, when the history is said to be forgotten.
    pub(crate) fn forgot(&self) -> &[NodeId] {
        &self.forgot
    }

    async fn ask(&mut self) -> Result<(), WatchError> {
        let query = Query::Changes { prefix: self.prefix.clone(), from: self.next };
        let (events, next) = loop {
            let answer = self.client.query_when_ready(&query, self.wait).await?;
            let oldest = match changes(answer)? {
                Changes::Events { events, next } => break (events, next),
                Changes::Compacted { oldest } => oldest,
            };
            match self.ask_the_others(&query, oldest).await? {
                Some(told) => break told,
                None => self.pause().await?,
            }
        };
        self.unheard = 0;
        self.wait = match events.is_empty() {
            true => self.wait.saturating_mul(2).min(WAIT_MAX),
            false => WAIT_MIN,
        };
        self.told.extend(events);
        self.next = next;
        Ok(())
    }

    /// A node that has restored a snapshot has forgotten what others still know. `None`: somebody may know it who was not
    /// heard yet.
    async fn ask_the_others(
        &mut self,
        query: &Query,
        mut oldest: Revision,
    ) -> Result<Option<(Vec<Event>, Cursor)>, WatchError> {
        self.forgot.clear();
        let mut all_heard = true;
        for node in self.client.nodes() {
            let answer = self.client.query_at(node, query).await;
            match answer.and_then(changes) {
                Ok(Changes::Events { events, next }) if next > self.next => {
                    return Ok(Some((events, next)));
                }
                // It has not come that far: it knows neither what happened from there on nor that it was forgotten.
                Ok(Changes::Events { .. }) | Err(_) => all_heard = false,
                Ok(Changes::Compacted { oldest: other }) => {
                    self.forgot.push(node);
                    oldest = oldest.min(other);
                }
            }
        }
        if all_heard || self.unheard >= UNHEARD_MAX {
            return Err(WatchError::Compacted { oldest });
        }
        self.unheard += 1;
        Ok(None)
    }

    /// A node makes the pause, which has nothing to say to this any sooner: a client has no clock of its own.
    async fn pause(&self) -> Result<(), ClientError> {
        let never = Cursor::from(Revision(u64::MAX));
        let query = Query::Changes { prefix: self.prefix.clone(), from: never };
        self.client.query_when_ready(&query, PAUSE).await.map(drop)
    }
}

fn changes(answer: Answer) -> Result<Changes, ClientError> {
    match answer {
        Answer::Changes(changes) => Ok(changes),
        Answer::Value(_) | Answer::Page(_) | Answer::Lease(_) | Answer::About(_) => {
            Err(wrong_kind())
        }
    }
}

#[cfg(test)]
mod tests;
