//! What happens to keys, as it happens.

use std::collections::VecDeque;
use std::time::Duration;

use raft_rsm::{Client, ClientError};

use super::wrong_kind;
use crate::store::{Answer, Changes, Cursor, Event, Query, Revision, Store};

/// A node that has nothing to tell says so after this, and is asked again: so it is known to be there, and to be no node
/// that was left behind.
const WAIT: Duration = Duration::from_secs(5);

/// A node that cannot be asked may remember what others have forgotten; when it could not be asked so often in a row, it may
/// be gone for good, and is not waited for.
const UNHEARD_MAX: u32 = 3;

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
    /// How often in a row those who could be asked had forgotten, and somebody could not be asked.
    unheard: u32,
}

/// Why there is no event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// No node remembers what happened from there on: read the keys, and watch from that moment on.
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
        Watch { client, prefix, told: VecDeque::new(), next: from, unheard: 0 }
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

    async fn ask(&mut self) -> Result<(), WatchError> {
        let query = Query::Changes { prefix: self.prefix.clone(), from: self.next };
        let changes = match self.client.query_when_ready(&query, WAIT).await? {
            Answer::Changes(changes) => changes,
            Answer::Value(_) | Answer::Page(_) | Answer::Lease(_) | Answer::About(_) => {
                return Err(wrong_kind().into());
            }
        };
        let (events, next) = match changes {
            Changes::Events { events, next } => (events, next),
            Changes::Compacted { oldest } => self.ask_the_others(&query, oldest).await?,
        };
        self.unheard = 0;
        self.told.extend(events);
        self.next = next;
        Ok(())
    }

    /// A node that has restored a snapshot has forgotten what others still know.
    async fn ask_the_others(
        &mut self,
        query: &Query,
        mut oldest: Revision,
    ) -> Result<(Vec<Event>, Cursor), WatchError> {
        let mut unheard = None;
        for node in self.client.nodes() {
            match self.client.query_at(node, query).await {
                Ok(Answer::Changes(Changes::Events { events, next })) => return Ok((events, next)),
                Ok(Answer::Changes(Changes::Compacted { oldest: other })) => {
                    oldest = oldest.min(other);
                }
                Ok(Answer::Value(_) | Answer::Page(_) | Answer::Lease(_) | Answer::About(_)) => {}
                Err(error) => unheard = Some(error),
            }
        }
        match unheard {
            // Whoever was not heard may still know it.
            Some(error) if self.unheard < UNHEARD_MAX => {
                self.unheard += 1;
                Err(error.into())
            }
            Some(_) | None => Err(WatchError::Compacted { oldest }),
        }
    }
}
