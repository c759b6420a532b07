//! A lock that survives its holder: a lease, a place in a line, and a token that only grows.
//!
//! Whoever wants the lock `n` puts a key `lock/n/<lease>` that is tied to a lease of its own. Keys are created in the order
//! of the log, and the one that was created first holds the lock; each other one waits until the key just before its own is
//! gone, and is woken by that alone. A holder that dies stops keeping its lease alive, the lease ends with its key, and the
//! next in line holds the lock.
//!
//! The *fencing token* is the revision at which the holder's key was created. It grows from each holder to the next: a key
//! with a smaller one than the holder's would stand before it in the line, and what joins the line later is created later.
//! Show it to whatever the lock protects, and have that refuse smaller ones ([`crate::fence`]).
//!
//! | file | what is in it |
//! |---|---|
//! | `fenced.rs` | how the lock is acquired, held, released |
//! | `fenced/lease.rs` | a lease that is kept alive in the background, and when it counts as lost |
//! | `fenced/line.rs` | who stands in line, and who is next |

mod lease;
mod line;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kv_example::clerk::{Clerk, LeaseError, TransactError};
use raft_rsm::{ClientError, Runtime};

use self::lease::KeptLease;
use self::line::{Entered, Line, View};
use crate::fence::Token;
use crate::time::{until, within};

/// The shortest time of a lease. Below it, a keep-alive would hardly arrive before its lease has ended.
pub const TTL_MIN: Duration = Duration::from_millis(100);

/// The longest one: the store's.
pub const TTL_MAX: Duration = kv_example::limits::LEASE_TTL_MAX;

/// The longest name of a lock, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// Who gives up waiting leaves the line, and does not wait longer than this until that is done.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// What cannot be asked now is asked again after this.
const PAUSE: Duration = Duration::from_millis(50);

/// The locks of a store, by their names. Cheap to clone.
#[derive(Clone)]
pub struct FencedLock {
    clerk: Clerk,
    runtime: Arc<dyn Runtime>,
}

/// Why the lock is not held. *Definitely not*: where a place in line could not be given up, it ends with its lease.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// Others held it all the while, and the store still answered at the end.
    #[error("others held the lock all the while")]
    TimedOut,
    /// The store did not answer in time, or only when the lease that the lock was to have was over: nobody knows who holds
    /// it.
    #[error("the store did not answer in time: is a majority of its nodes there?")]
    NoAnswer,
    /// No such lock is possible.
    #[error("a name of a lock has 1 to {NAME_BYTES_MAX} bytes, not {bytes}")]
    Name {
        /// How many it has.
        bytes: usize,
    },
    /// No such lease is possible.
    #[error("the time of a lease is from {TTL_MIN:?} to {TTL_MAX:?}, not {ttl:?}")]
    Ttl {
        /// What was asked for.
        ttl: Duration,
    },
    /// The store has too many leases.
    #[error("the store has no room for another lease")]
    TooMany,
    /// The store did not answer, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl FencedLock {
    /// Locks in the store that `clerk` reaches. Nothing is sent yet.
    #[must_use]
    pub fn new(clerk: Clerk, runtime: Arc<dyn Runtime>) -> FencedLock {
        FencedLock { clerk, runtime }
    }

    /// Waits for its turn, for at most `patience`, and returns the lock. It is passed on when the guard is released or
    /// dropped, and when nobody has kept its lease alive for `ttl`: because the holder has died, is paused, or is cut off
    /// from the store.
    ///
    /// # Errors
    /// [`AcquireError`]: the lock is not held, and the place in line is given up.
    pub async fn acquire(
        &self,
        name: &str,
        ttl: Duration,
        patience: Duration,
    ) -> Result<Guard, AcquireError> {
        check(name, ttl)?;
        let line = Line::new(self.clerk.clone(), name);
        let mut place = None;
        let turn = within(&*self.runtime, patience, self.turn(&line, ttl, &mut place)).await;
        let in_vain = match line.has_seen_others() {
            true => AcquireError::TimedOut,
            false => AcquireError::NoAnswer,
        };
        self.outcome(name, turn.unwrap_or(Err(in_vain)), place).await
    }

    /// Returns the lock if nobody else has it or waits for it; `patience` is for the store to answer.
    ///
    /// # Errors
    /// [`AcquireError`]: the lock is not held.
    pub async fn try_acquire(
        &self,
        name: &str,
        ttl: Duration,
        patience: Duration,
    ) -> Result<Option<Guard>, AcquireError> {
        check(name, ttl)?;
        let line = Line::new(self.clerk.clone(), name);
        let mut place = None;
        let tried = within(&*self.runtime, patience, self.attempt(&line, ttl, &mut place)).await;
        let token = match tried.unwrap_or(Err(AcquireError::NoAnswer)) {
            Ok(Some(token)) => Ok(token),
            // Whoever is before us was seen there: that the place is given up late does not change it.
            Ok(None) => {
                self.leave(place).await;
                return Ok(None);
            }
            Err(error) => Err(error),
        };
        self.outcome(name, token, place).await.map(Some)
    }

    /// How many hold the lock `name` or wait for it.
    ///
    /// # Errors
    /// There was no answer in time.
    pub async fn in_line(&self, name: &str) -> Result<usize, ClientError> {
        Line::new(self.clerk.clone(), name).len().await
    }

    /// Stands in line until it is first. `place` is what has to be given up if the future is dropped.
    async fn turn(
        &self,
        line: &Line,
        ttl: Duration,
        place: &mut Option<KeptLease>,
    ) -> Result<Token, AcquireError> {
        loop {
            // A place that was lost is lost: at the end of the line again, from where nobody was seen yet.
            line.forget_others();
            let lease = place.insert(self.grant(ttl).await?);
            if let Some(token) = self.stand(line, lease).await? {
                return Ok(token);
            }
        }
    }

    /// `None`: its lease has ended meanwhile.
    async fn stand(&self, line: &Line, lease: &KeptLease) -> Result<Option<Token>, AcquireError> {
        match line.enter(lease.id()).await {
            Ok(Entered::InLine) => {}
            Ok(Entered::NoLease) => return Ok(None),
            Err(error) => return Err(entering(error)),
        }
        while lease.is_held() {
            // What fails here may succeed later, as long as the place is kept.
            let step = until(lease.lost(), self.step(line, lease)).await;
            match step {
                None | Some(Ok(Step::Gone)) => return Ok(None),
                Some(Ok(Step::First(token))) => return Ok(lease.is_held().then_some(token)),
                Some(Ok(Step::Later)) => {}
                Some(Err(_)) => self.runtime.sleep(PAUSE).await,
            }
        }
        Ok(None)
    }

    /// Looks who stands before `lease`, and waits until the last of them is gone.
    async fn step(&self, line: &Line, lease: &KeptLease) -> Result<Step, ClientError> {
        match line.look(lease.id()).await? {
            View::Gone => Ok(Step::Gone),
            View::First { created } => Ok(Step::First(Token(created))),
            View::Behind { key, from } => {
                line.wait_until_gone(&key, from).await?;
                Ok(Step::Later)
            }
        }
    }

    async fn attempt(
        &self,
        line: &Line,
        ttl: Duration,
        place: &mut Option<KeptLease>,
    ) -> Result<Option<Token>, AcquireError> {
        // To ask costs less than to stand in line for nothing.
        if line.len().await? > 0 {
            return Ok(None);
        }
        let lease = place.insert(self.grant(ttl).await?);
        match line.enter(lease.id()).await {
            Ok(Entered::InLine) => {}
            Ok(Entered::NoLease) => return Err(AcquireError::NoAnswer),
            Err(error) => return Err(entering(error)),
        }
        match line.look(lease.id()).await? {
            View::First { created } if lease.is_held() => Ok(Some(Token(created))),
            View::Behind { .. } => Ok(None),
            // The answers took longer than the lease lived: that says nothing of anybody else.
            View::First { .. } | View::Gone => Err(AcquireError::NoAnswer),
        }
    }

    async fn grant(&self, ttl: Duration) -> Result<KeptLease, AcquireError> {
        KeptLease::grant(&self.clerk, &self.runtime, ttl).await.map_err(|error| match error {
            LeaseError::TooMany => AcquireError::TooMany,
            LeaseError::Client(error) => AcquireError::Client(error),
            other @ (LeaseError::NoLease | _) => unexpected(&other),
        })
    }

    /// A guard, or the place in line is given up.
    async fn outcome(
        &self,
        name: &str,
        token: Result<Token, AcquireError>,
        place: Option<KeptLease>,
    ) -> Result<Guard, AcquireError> {
        match (token, place) {
            (Ok(token), Some(lease)) => Ok(Guard { name: name.to_owned(), token, lease }),
            // A place that was kept says that the store was there not long ago; that it takes it back, that it is there.
            (Err(AcquireError::TimedOut), place) => match self.leave(place).await {
                true => Err(AcquireError::TimedOut),
                false => Err(AcquireError::NoAnswer),
            },
            (outcome, place) => {
                self.leave(place).await;
                Err(outcome.err().unwrap_or(AcquireError::NoAnswer))
            }
        }
    }

    /// Gives up a place in line, if there is one. Returns whether the store has said so in time; if not, it goes on in the
    /// background, or the lease ends by itself.
    async fn leave(&self, place: Option<KeptLease>) -> bool {
        let Some(lease) = place else { return true };
        matches!(within(&*self.runtime, LEAVE_MAX, lease.end()).await, Some(Ok(())))
    }
}

/// What came of a look at the line.
enum Step {
    First(Token),
    /// Whoever stood before is gone: look again.
    Later,
    Gone,
}

fn check(name: &str, ttl: Duration) -> Result<(), AcquireError> {
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
        return Err(AcquireError::Name { bytes: name.len() });
    }
    match (TTL_MIN..=TTL_MAX).contains(&ttl) {
        true => Ok(()),
        false => Err(AcquireError::Ttl { ttl }),
    }
}

fn entering(error: TransactError) -> AcquireError {
    match error {
        TransactError::Client(error) => AcquireError::Client(error),
        TransactError::TooMany => AcquireError::TooMany,
        other @ (TransactError::NoLease
        | TransactError::ConditionFailed { .. }
        | TransactError::Maybe
        | _) => unexpected(&other),
    }
}

/// An answer that nobody gives to what was asked.
fn unexpected(error: &dyn std::error::Error) -> AcquireError {
    AcquireError::Client(ClientError::Unreadable { reason: error.to_string() })
}

/// The lock, as long as its lease lives. Dropped, the lock is passed on as well, in the background.
#[derive(Debug)]
pub struct Guard {
    name: String,
    token: Token,
    lease: KeptLease,
}

impl Guard {
    /// The lock's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Greater than the token of every holder before. Show it to whatever the lock protects.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// Whether the lease lives, by this process's own clock. Only the fence knows whether it still does when something
    /// arrives that is sent now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.lease.is_held()
    }

    /// Completes once the lease counts as lost, or the lock is released: whoever relies on it has to stop.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.lease.lost()
    }

    /// Passes the lock on, and returns when that is done. Repeated, it changes nothing.
    ///
    /// # Errors
    /// There was no answer. This process no longer holds it, and goes on trying to pass it on in the background; the next one
    /// has to wait until that succeeds, or the lease ends.
    pub async fn release(&self) -> Result<(), ClientError> {
        self.lease.end().await
    }
}

impl std::fmt::Debug for FencedLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FencedLock").finish_non_exhaustive()
    }
}
