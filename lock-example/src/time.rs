//! Waiting, but not for ever.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use raft_rsm::Runtime;

/// What `work` returns, unless `patience` is over first: then it is dropped.
pub(crate) async fn within<T>(
    runtime: &dyn Runtime,
    patience: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    match select(pin!(work), runtime.sleep(patience)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

/// What `work` returns, unless `end` comes first.
pub(crate) async fn until<T>(
    end: impl Future<Output = ()>,
    work: impl Future<Output = T>,
) -> Option<T> {
    match select(pin!(work), pin!(end)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
