//! A value that others watch: the latest one counts, none is queued.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Locks. A holder that panicked leaves nothing half-done in this crate: the sections are short and
/// each leaves its data whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value with watchers.
#[derive(Debug)]
pub(crate) struct Watch<T> {
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    value: T,
    version: u64,
    closed: bool,
    next_watcher: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl<T> Watch<T> {
    pub(crate) fn new(value: T) -> Watch<T> {
        let inner =
            Inner { value, version: 1, closed: false, next_watcher: 0, wakers: BTreeMap::new() };
        Watch { inner: Mutex::new(inner) }
    }

    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&lock(&self.inner).value)
    }

    /// Changes the value; `change` says whether those who watch should hear of it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        let mut inner = lock(&self.inner);
        if change(&mut inner.value) {
            inner.version += 1;
            wake_all(inner);
        }
    }

    /// There will be no further changes.
    pub(crate) fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        wake_all(inner);
    }
}

fn wake_all<T>(mut inner: MutexGuard<'_, Inner<T>>) {
    let wakers = std::mem::take(&mut inner.wakers);
    drop(inner);
    for waker in wakers.into_values() {
        waker.wake();
    }
}

/// One who watches.
#[derive(Debug)]
pub(crate) struct Watcher<T> {
    watch: Arc<Watch<T>>,
    key: u64,
    seen: u64,
}

impl<T: Clone> Watcher<T> {
    pub(crate) fn new(watch: Arc<Watch<T>>) -> Watcher<T> {
        let key = {
            let mut inner = lock(&watch.inner);
            inner.next_watcher += 1;
            inner.next_watcher
        };
        Watcher { watch, key, seen: 0 }
    }

    /// The value, as soon as it is one that was not seen yet; the first is the present one. `None` when there
    /// will be no other.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut inner = lock(&self.watch.inner);
        if inner.version > self.seen {
            self.seen = inner.version;
            return Poll::Ready(Some(inner.value.clone()));
        }
        if inner.closed {
            return Poll::Ready(None);
        }
        inner.wakers.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Watcher<T> {
    fn drop(&mut self) {
        lock(&self.watch.inner).wakers.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_watcher_sees_the_present_value_first_and_then_only_the_latest() {
        let watch = Arc::new(Watch::new(1));
        let mut watcher = Watcher::new(Arc::clone(&watch));
        assert_eq!(block_on(poll_fn(|cx| watcher.poll_next(cx))), Some(1));
        watch.change(|value| {
            *value = 2;
            true
        });
        watch.change(|value| {
            *value = 3;
            true
        });
        assert_eq!(block_on(poll_fn(|cx| watcher.poll_next(cx))), Some(3));
        watch.close();
        assert_eq!(block_on(poll_fn(|cx| watcher.poll_next(cx))), None);
    }

    #[test]
    fn a_watcher_that_is_dropped_leaves_no_waker_behind() {
        let watch = Arc::new(Watch::new(1));
        let mut watcher = Watcher::new(Arc::clone(&watch));
        block_on(poll_fn(|cx| {
            assert!(watcher.poll_next(cx).is_ready());
            assert!(watcher.poll_next(cx).is_pending());
            Poll::Ready(())
        }));
        assert_eq!(lock(&watch.inner).wakers.len(), 1);
        drop(watcher);
        assert_eq!(lock(&watch.inner).wakers.len(), 0);
    }
}
