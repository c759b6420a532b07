//! A lease that is kept alive in the background, and when it counts as lost.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Either, Shared, select};
use kv_example::clerk::{Clerk, LeaseError};
use kv_example::store::LeaseId;
use raft_rsm::{ClientError, Runtime};

use crate::time::within;

/// It is kept alive so many times in its time: one that fails leaves time for others.
const KEPT_ALIVE_TIMES: u32 = 3;

/// A holder counts this part of the time less than the store does: clocks that differ by a hundredth do no harm.
const CLOCK_DRIFT_PART: u32 = 100;

/// What failed is tried again after this part of the time of the lease.
const PAUSE_PART: u32 = 20;

/// A lease that nobody needs is given back: what failed is tried again after this, or sooner.
const REVOKE_PAUSE: Duration = Duration::from_secs(1);

/// A lease. Dropped, it is ended in the background.
pub(super) struct KeptLease {
    id: LeaseId,
    runtime: Arc<dyn Runtime>,
    life: Arc<Life>,
    lost: Shared<BoxFuture<'static, ()>>,
    ended: Shared<BoxFuture<'static, Result<(), ClientError>>>,
}

/// What the lease and its keeper both know.
struct Life {
    state: Mutex<State>,
}

struct State {
    /// By the clock of this process. `None`: it has ended.
    until: Option<Duration>,
    /// Dropped, it tells the keeper to end the lease.
    stop: Option<oneshot::Sender<Infallible>>,
}

impl Life {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it lives yet; `None`: it is over, for good.
    fn left(&self, now: Duration) -> Option<Duration> {
        let mut state = self.lock();
        let left =
            state.until.and_then(|until| until.checked_sub(now)).filter(|left| !left.is_zero());
        if left.is_none() {
            state.until = None;
        }
        left
    }

    /// It was kept alive, unless that came too late: what was lost once is never held again.
    fn prolong(&self, now: Duration, until: Duration) -> bool {
        let lives = self.left(now).is_some();
        if lives {
            self.lock().until = Some(until);
        }
        lives
    }

    fn end(&self) {
        let mut state = self.lock();
        (state.until, state.stop) = (None, None);
    }
}

impl KeptLease {
    /// A new lease, which is kept alive from now on.
    pub(super) async fn grant(
        clerk: &Clerk,
        runtime: &Arc<dyn Runtime>,
        ttl: Duration,
    ) -> Result<KeptLease, LeaseError> {
        let begun = runtime.now();
        let id = clerk.grant(ttl).await?;
        let (stop, stopped) = oneshot::channel();
        let (losing, lost) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let state = State { until: Some(begun.saturating_add(counted(ttl))), stop: Some(stop) };
        let life = Arc::new(Life { state: Mutex::new(state) });
        let keeper = Keeper {
            id,
            ttl,
            clerk: clerk.clone(),
            runtime: Arc::clone(runtime),
            life: Arc::clone(&life),
        };
        runtime.spawn("lease", keeper.keep(stopped, losing, ending).boxed());
        Ok(KeptLease {
            id,
            runtime: Arc::clone(runtime),
            life,
            // A keeper that is gone keeps nothing alive.
            lost: lost.map(|_: Result<Infallible, _>| ()).boxed().shared(),
            ended: ended.map(|ended| ended.unwrap_or_else(|_| Err(abandoned()))).boxed().shared(),
        })
    }

    pub(super) fn id(&self) -> LeaseId {
        self.id
    }

    pub(super) fn is_held(&self) -> bool {
        self.life.left(self.runtime.now()).is_some()
    }

    /// Completes once the lease counts as lost, or is ended.
    pub(super) fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.lost.clone()
    }

    /// Ends the lease, and returns when the store has done so or has not answered in time; then it is tried again in the
    /// background.
    pub(super) fn end(&self) -> impl Future<Output = Result<(), ClientError>> + Send + 'static {
        self.life.end();
        self.ended.clone()
    }
}

impl Drop for KeptLease {
    fn drop(&mut self) {
        self.life.end();
    }
}

impl std::fmt::Debug for KeptLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptLease").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Keeps a lease alive until it is told to stop or the lease is lost, and then ends it.
struct Keeper {
    id: LeaseId,
    ttl: Duration,
    clerk: Clerk,
    runtime: Arc<dyn Runtime>,
    life: Arc<Life>,
}

/// Why a keeper stops.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Over {
    Told,
    /// The time is over by the clock of this process; not necessarily so in the store.
    TimeIsUp,
    /// The store has ended it.
    Ended,
}

impl Keeper {
    async fn keep(
        self,
        mut stopped: oneshot::Receiver<Infallible>,
        losing: oneshot::Sender<Infallible>,
        ending: oneshot::Sender<Result<(), ClientError>>,
    ) {
        let over = loop {
            if let Some(over) = self.keep_once(&mut stopped).await {
                break over;
            }
        };
        self.life.end();
        drop(losing);
        match over {
            // Nobody need wait for it.
            Over::Ended => drop(ending.send(Ok(()))),
            Over::Told | Over::TimeIsUp => {
                // After that it has run out.
                let _ = within(&*self.runtime, self.ttl, self.revoke(ending)).await;
            }
        }
    }

    /// Ends it in the store, and goes on trying however late the store is there again: whoever is behind would wait for a
    /// holder that has gone. What came of the first try is told at once.
    async fn revoke(&self, ending: oneshot::Sender<Result<(), ClientError>>) {
        let mut ending = Some(ending);
        loop {
            let revoked = self.clerk.revoke(self.id).await;
            let is_done = revoked.is_ok();
            if let Some(ending) = ending.take() {
                // Nobody need wait for it.
                let _ = ending.send(revoked);
            }
            if is_done {
                return;
            }
            self.runtime.sleep(REVOKE_PAUSE.min(self.ttl / PAUSE_PART)).await;
        }
    }

    /// Waits until it is time, and keeps the lease alive; `None`: it lives.
    async fn keep_once(&self, stopped: &mut oneshot::Receiver<Infallible>) -> Option<Over> {
        let Some(left) = self.life.left(self.runtime.now()) else {
            return Some(self.end_of_time());
        };
        // Counted from the end, so that whatever was late before is made up for.
        let spare = counted(self.ttl) / KEPT_ALIVE_TIMES * (KEPT_ALIVE_TIMES - 1);
        let wait = left.saturating_sub(spare);
        if let Either::Left(_) = select(&mut *stopped, self.runtime.sleep(wait)).await {
            return Some(Over::Told);
        }
        match select(stopped, pin!(self.prolong())).await {
            Either::Left(_) => Some(Over::Told),
            Either::Right((over, _)) => over,
        }
    }

    async fn prolong(&self) -> Option<Over> {
        let begun = self.runtime.now();
        let Some(left) = self.life.left(begun) else { return Some(self.end_of_time()) };
        match within(&*self.runtime, left, self.clerk.keep_alive(self.id)).await {
            Some(Ok(ttl)) => {
                let until = begun.saturating_add(counted(ttl));
                (!self.life.prolong(self.runtime.now(), until)).then(|| self.end_of_time())
            }
            Some(Err(LeaseError::NoLease)) => Some(Over::Ended),
            Some(Err(_)) => {
                // No longer than it counts: whoever relies on it has to hear that it is over when it is.
                let left = self.life.left(self.runtime.now()).unwrap_or_default();
                self.runtime.sleep(left.min(self.ttl / PAUSE_PART)).await;
                None
            }
            None => Some(Over::TimeIsUp),
        }
    }

    /// A lease that has ended in this process was given up by its holder, or its time is over.
    fn end_of_time(&self) -> Over {
        match self.life.lock().stop {
            Some(_) => Over::TimeIsUp,
            None => Over::Told,
        }
    }
}

/// How long a holder relies on a lease that was granted or kept alive: from *before* that was asked for.
fn counted(ttl: Duration) -> Duration {
    ttl - ttl / CLOCK_DRIFT_PART
}

fn abandoned() -> ClientError {
    ClientError::Unavailable { reason: "nobody has said that the lease is over".to_owned() }
}
