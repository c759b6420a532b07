//! A lock on nothing but versioned put and get, and what "maybe" takes to get right.
//!
//! The lock is a key. Its value is empty while the lock is free, else a random id that no other acquisition has. To
//! acquire is to put an id at the version at which the key was read empty; to release is to put the empty value at the
//! version that the acquisition led to. The key is never deleted, so its versions never begin again: a put is carried out
//! once at most, however often it is sent and however late it arrives.
//!
//! Whoever dies while it holds such a lock holds it for ever. [`FencedLock`](crate::fenced::FencedLock) does not have that
//! problem.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_example::clerk::{Clerk, PutError};
use kv_example::store::Version;
use raft_rsm::{ClientError, Runtime};

use crate::time::within;

/// Who finds the lock taken looks again after a pause between this and twice as long.
const PAUSE: Duration = Duration::from_millis(10);

/// What a look at the lock said this long ago says nothing of it any more: the store may be gone since.
const FRESH: Duration = Duration::from_secs(1);

/// One client's side of a lock. The clerk tells by versions what came twice: it needs no session.
pub struct Lock {
    clerk: Clerk,
    runtime: Arc<dyn Runtime>,
    key: String,
    state: State,
}

/// What this client knows of its hold on the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// A put of `id` at `version` is on its way, or was: nobody knows whether it is carried out, or will be.
    Unsettled {
        id: Bytes,
        version: Version,
    },
    /// The value is our id, at `version`.
    Held {
        version: Version,
    },
    /// A put of the empty value at `version`, which led to our id, is on its way, or was: the lock is this client's until
    /// it is carried out, and may be anybody's from then on.
    Releasing {
        version: Version,
    },
}

/// Why the lock is not held, as far as is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// *Definitely not*: somebody else held it at each look, the last one of which was a moment ago.
    #[error("somebody else holds the lock")]
    Taken,
    /// *Definitely not*: the store did not answer in time, so that nobody knows who holds it.
    #[error("the store did not answer in time: is a majority of its nodes there?")]
    NoAnswer,
    /// *Maybe*: an answer is missing. Until [`Lock::release`] or [`Lock::acquire`] has succeeded, the lock may be held
    /// by this client, or be so later.
    #[error("the lock may be held")]
    Maybe,
    /// *Definitely not*: the request failed.
    #[error(transparent)]
    Client(ClientError),
}

impl Lock {
    /// The lock whose key is `key`. Nothing is sent yet.
    #[must_use]
    pub fn new(clerk: Clerk, runtime: Arc<dyn Runtime>, key: &str) -> Lock {
        Lock { clerk, runtime, key: key.to_owned(), state: State::Free }
    }

    /// Whether this client knows that it holds the lock.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }

    /// Whether an attempt of this client to acquire or to release the lock was left without an answer, so that the lock may
    /// be held by this client without its knowledge.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        matches!(self.state, State::Unsettled { .. } | State::Releasing { .. })
    }

    /// Acquires the lock within `patience`; who holds it already goes on to hold it. One whose release was left without an
    /// answer releases it first, and stands behind whoever has taken it meanwhile.
    ///
    /// # Errors
    /// [`AcquireError`]. After [`AcquireError::Maybe`], or when the future was dropped, the next [`Lock::acquire`] or
    /// [`Lock::release`] finds out first what came of it.
    pub async fn acquire(&mut self, patience: Duration) -> Result<(), AcquireError> {
        let runtime = Arc::clone(&self.runtime);
        let mut taken_at = None;
        let acquired = within(&*runtime, patience, self.acquire_at_last(&mut taken_at)).await;
        let is_fresh = |at| runtime.now().saturating_sub(at) <= FRESH;
        match acquired {
            Some(acquired) => acquired,
            None if self.is_unsettled() => Err(AcquireError::Maybe),
            None if taken_at.is_some_and(is_fresh) => Err(AcquireError::Taken),
            None => Err(AcquireError::NoAnswer),
        }
    }

    /// Releases the lock if this client holds it or may hold it. Repeated, it changes nothing, whoever holds the lock then:
    /// each put names the version at which the lock was this client's.
    ///
    /// # Errors
    /// The lock may be held, be free, or be somebody else's, and this client no longer counts itself as its holder: release
    /// it again. The same holds when the future was dropped.
    pub async fn release(&mut self) -> Result<(), ClientError> {
        self.settle().await?;
        let State::Held { version } = self.state else { return Ok(()) };
        // Written down first: the future may be dropped at any await, and from the put on others may hold the lock.
        self.state = State::Releasing { version };
        self.settle().await
    }

    /// `taken_at` is when somebody else was last seen to hold the lock.
    async fn acquire_at_last(
        &mut self,
        taken_at: &mut Option<Duration>,
    ) -> Result<(), AcquireError> {
        self.settle().await.map_err(|_| AcquireError::Maybe)?;
        while !self.is_held() && !self.attempt(taken_at).await? {
            let spread = u64::try_from(PAUSE.as_micros()).unwrap_or(u64::MAX).max(1);
            let more = Duration::from_micros(self.runtime.random() % spread);
            self.runtime.sleep(PAUSE + more).await;
        }
        Ok(())
    }

    /// Tries once. Returns whether the lock is held.
    async fn attempt(&mut self, taken_at: &mut Option<Duration>) -> Result<bool, AcquireError> {
        let found = self.clerk.get(&self.key).await.map_err(AcquireError::Client)?;
        let version = match found {
            Some(found) if !found.value.is_empty() => {
                *taken_at = Some(self.runtime.now());
                return Ok(false);
            }
            Some(found) => found.version,
            None => Version::ABSENT,
        };
        let id = self.draw_id();
        // Written down first: the future may be dropped at any await.
        self.state = State::Unsettled { id: id.clone(), version };
        match self.clerk.put(&self.key, id, version).await {
            Ok(version) => self.state = State::Held { version },
            Err(PutError::VersionMismatch { .. } | PutError::NoKey) => self.state = State::Free,
            // The key has left `version`, so the put is done or never will be: whose id is there?
            Err(PutError::Maybe) => self.look().await.map_err(|_| AcquireError::Maybe)?,
            Err(error) => {
                let error = failed(error);
                if error.may_take_effect() {
                    return Err(AcquireError::Maybe);
                }
                self.state = State::Free;
                return Err(AcquireError::Client(error));
            }
        }
        Ok(self.is_held())
    }

    /// Finds out what came of a put that was left without an answer, and carries a release through. To read the key is not
    /// enough, for the put may still be on its way: an empty value at the version that it names takes its place, or shows
    /// that it is too late.
    async fn settle(&mut self) -> Result<(), ClientError> {
        let version = match self.state {
            State::Free | State::Held { .. } => return Ok(()),
            State::Unsettled { version, .. } | State::Releasing { version } => version,
        };
        match self.clerk.put(&self.key, Bytes::new(), version).await {
            Ok(_) => self.state = State::Free,
            Err(PutError::VersionMismatch { .. } | PutError::NoKey | PutError::Maybe) => {
                self.look().await?;
            }
            Err(error) => return Err(failed(error)),
        }
        Ok(())
    }

    /// Of a put that is done or never will be.
    async fn look(&mut self) -> Result<(), ClientError> {
        self.state = match &self.state {
            State::Free | State::Held { .. } => return Ok(()),
            State::Unsettled { id, .. } => match self.clerk.get(&self.key).await? {
                Some(found) if found.value == *id => State::Held { version: found.version },
                Some(_) | None => State::Free,
            },
            // Only the holder changes the key of a lock that is held. If it has changed, an earlier release did it.
            State::Releasing { .. } => State::Free,
        };
        Ok(())
    }

    /// 128 bits of chance, as hexadecimal digits.
    fn draw_id(&self) -> Bytes {
        format!("{:016x}{:016x}", self.runtime.random(), self.runtime.random()).into()
    }
}

/// Of a put that met no version.
fn failed(error: PutError) -> ClientError {
    match error {
        PutError::Client(error) => error,
        other @ (PutError::VersionMismatch { .. } | PutError::NoKey | PutError::Maybe | _) => {
            ClientError::Maybe { reason: other.to_string() }
        }
    }
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock")
            .field("key", &self.key)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
