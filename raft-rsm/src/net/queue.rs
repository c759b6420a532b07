//! The queue before a connection's writer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The room that a list keeps when it gives back what a burst has left of it.
const KEPT_ITEMS: usize = 256;

/// A bounded queue whose one consumer takes all that is there at once: one wake-up a batch.
#[derive(Debug)]
pub(crate) struct BatchQueue<T> {
    state: Mutex<State<T>>,
    items_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    /// Set while the consumer waits.
    consumer: Option<Waker>,
    closed: bool,
}

/// Why an item was not taken in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    /// The limit is reached.
    Full,
    /// Nobody takes anything out any more.
    Closed,
}

/// The queue was closed; it is empty.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl<T> BatchQueue<T> {
    /// A queue of at most `items_max` items of together at most `bytes_max`; a single item may be longer.
    pub(crate) fn new(items_max: usize, bytes_max: usize) -> BatchQueue<T> {
        let state = State { items: VecDeque::new(), bytes: 0, consumer: None, closed: false };
        BatchQueue { state: Mutex::new(state), items_max, bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code of others runs under the lock, so the state is whole even when a thread died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item that counts for `bytes`. Never waits.
    pub(crate) fn push(&self, item: T, bytes: usize) -> Result<(), PushError> {
        let mut state = self.lock();
        if state.closed {
            return Err(PushError::Closed);
        }
        let is_full = state.items.len() >= self.items_max
            || state.bytes.saturating_add(bytes) > self.bytes_max;
        if is_full && !state.items.is_empty() {
            return Err(PushError::Full);
        }
        state.bytes += bytes;
        state.items.push_back((item, bytes));
        let consumer = state.consumer.take();
        drop(state);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
        Ok(())
    }

    /// Moves what is there, up to about `bytes_max`, to `out`, which is empty. Waits while there is nothing.
    pub(crate) fn poll_take(
        &self,
        context: &mut Context<'_>,
        out: &mut VecDeque<(T, usize)>,
        bytes_max: usize,
    ) -> Poll<Result<(), Closed>> {
        let mut state = self.lock();
        if state.items.is_empty() {
            if state.closed {
                return Poll::Ready(Err(Closed));
            }
            state.consumer = Some(context.waker().clone());
            return Poll::Pending;
        }
        if state.bytes <= bytes_max {
            state.bytes = 0;
            // A burst is over: what it has left is given back.
            if out.capacity() > 4 * KEPT_ITEMS {
                out.shrink_to(KEPT_ITEMS);
            }
            std::mem::swap(&mut state.items, out);
            return Poll::Ready(Ok(()));
        }
        let mut taken = 0;
        while taken < bytes_max
            && let Some((item, bytes)) = state.items.pop_front()
        {
            state.bytes -= bytes;
            taken += bytes;
            out.push_back((item, bytes));
        }
        Poll::Ready(Ok(()))
    }

    /// Completes when the queue is closed.
    pub(crate) fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.closed {
            return Poll::Ready(());
        }
        state.consumer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Wakes the consumer, for it to look at something else.
    pub(crate) fn wake(&self) {
        let consumer = self.lock().consumer.take();
        if let Some(consumer) = consumer {
            consumer.wake();
        }
    }

    /// Whether [`BatchQueue::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Drops what is queued, and tells how many items it was.
    pub(crate) fn clear(&self) -> usize {
        let mut state = self.lock();
        state.bytes = 0;
        let items = std::mem::take(&mut state.items);
        drop(state);
        items.len()
    }

    /// Drops what is queued and lets nothing in any more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.bytes = 0;
        let items = std::mem::take(&mut state.items);
        let consumer = state.consumer.take();
        drop(state);
        drop(items);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(queue: &BatchQueue<u32>, bytes_max: usize) -> Poll<Result<Vec<u32>, Closed>> {
        let mut out = VecDeque::new();
        let mut context = Context::from_waker(Waker::noop());
        queue
            .poll_take(&mut context, &mut out, bytes_max)
            .map_ok(|()| out.into_iter().map(|(item, _)| item).collect())
    }

    #[test]
    fn the_consumer_takes_all_that_is_there_in_order() {
        let queue = BatchQueue::new(10, 100);
        assert!(take(&queue, 100).is_pending());
        for item in 0..5 {
            queue.push(item, 10).unwrap();
        }
        assert_eq!(take(&queue, 20), Poll::Ready(Ok(vec![0, 1])));
        assert_eq!(take(&queue, 100), Poll::Ready(Ok(vec![2, 3, 4])));
    }

    #[test]
    fn a_full_queue_refuses_what_is_new() {
        let queue = BatchQueue::new(3, 100);
        for item in 0..3 {
            queue.push(item, 10).unwrap();
        }
        assert_eq!(queue.push(3, 10), Err(PushError::Full), "by count");
        assert_eq!(queue.clear(), 3);
        queue.push(4, 60).unwrap();
        assert_eq!(queue.push(5, 60), Err(PushError::Full), "by bytes");
        assert_eq!(take(&queue, 100), Poll::Ready(Ok(vec![4])));
        queue.push(6, 1_000).unwrap();
        assert_eq!(take(&queue, 100), Poll::Ready(Ok(vec![6])), "one long item has to pass");
    }

    #[test]
    fn a_waiting_consumer_is_woken_once_a_batch() {
        let queue = BatchQueue::new(10, 100);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut out = VecDeque::new();
        assert!(queue.poll_take(&mut Context::from_waker(&waker), &mut out, 100).is_pending());
        for item in 0..5 {
            queue.push(item, 1).unwrap();
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_closed_queue_is_empty_and_stays_so() {
        let queue = BatchQueue::new(10, 100);
        queue.push(1, 1).unwrap();
        queue.close();
        assert_eq!(take(&queue, 100), Poll::Ready(Err(Closed)));
        assert_eq!(queue.push(2, 1), Err(PushError::Closed));
    }
}
