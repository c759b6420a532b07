//! The calls of a client on one connection: what was sent, what was answered, and what is only maybe.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::channel::oneshot;

use super::queue::BatchQueue;
use super::session::REQUEST_HEADER_BYTES;
use crate::transport::TcpLimits;

/// The calls on one connection, which may still be dialled.
pub(crate) struct Calls {
    /// Requests that the writer has not taken yet.
    pub(crate) queue: BatchQueue<(u64, Bytes)>,
    state: Mutex<State>,
    requests_max: usize,
    request_bytes_max: usize,
}

#[derive(Default)]
struct State {
    pending: BTreeMap<u64, Pending>,
    last_id: u64,
    /// Since the last look, a call began.
    used: bool,
    closed: bool,
}

struct Pending {
    /// `None`: the caller has gone away.
    caller: Option<oneshot::Sender<Outcome>>,
    /// The writer has it: from here on, the request may take effect.
    sent: bool,
}

/// How a call ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answer(Bytes),
    /// The node has it and gives no answer.
    NoAnswer,
    /// It did not leave.
    NotSent(String),
    /// It left, and the connection has ended.
    MaybeSent(String),
}

/// Why a call cannot begin: nothing was sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BeginError {
    #[error("the connection is closed")]
    Closed,
    #[error("too many requests are in flight")]
    Full,
    #[error("the request is too long")]
    TooLong,
}

impl Calls {
    pub(crate) fn new(limits: &TcpLimits) -> Calls {
        Calls {
            queue: BatchQueue::new(
                limits.requests_inflight_max,
                limits.requests_inflight_bytes_max,
            ),
            state: Mutex::default(),
            requests_max: limits.requests_inflight_max,
            request_bytes_max: limits.frame_bytes_max.saturating_sub(REQUEST_HEADER_BYTES),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock, so the state is whole even when a thread died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request.
    pub(crate) fn begin(
        &self,
        request: Bytes,
    ) -> Result<(u64, oneshot::Receiver<Outcome>), BeginError> {
        let bytes = request.len();
        if bytes > self.request_bytes_max {
            return Err(BeginError::TooLong);
        }
        let (caller, outcome) = oneshot::channel();
        let mut state = self.lock();
        if state.closed {
            return Err(BeginError::Closed);
        }
        if state.pending.len() >= self.requests_max {
            return Err(BeginError::Full);
        }
        state.last_id += 1;
        let id = state.last_id;
        // Under the lock, so that the writer finds the call when it takes the request.
        self.queue.push((id, request), bytes).map_err(|_| BeginError::Full)?;
        state.pending.insert(id, Pending { caller: Some(caller), sent: false });
        state.used = true;
        Ok((id, outcome))
    }

    /// The writer is about to send a request. False: it is no longer wanted, and has to stay.
    pub(crate) fn send(&self, id: u64) -> bool {
        let mut state = self.lock();
        let Some(pending) = state.pending.get_mut(&id) else { return false };
        pending.sent = true;
        // Nobody waits for the answer, but the request was made.
        if pending.caller.is_none() {
            state.pending.remove(&id);
        }
        true
    }

    /// An answer has come. Late ones are for nobody.
    pub(crate) fn complete(&self, id: u64, outcome: Outcome) {
        let pending = self.lock().pending.remove(&id);
        if let Some(caller) = pending.and_then(|pending| pending.caller) {
            // The caller may just go away.
            let _ = caller.send(outcome);
        }
    }

    /// The caller's deadline has passed: a request that did not leave never will. Tells whether it left.
    pub(crate) fn expire(&self, id: u64) -> bool {
        let pending = self.lock().pending.remove(&id);
        // One that is gone was completed meanwhile.
        pending.is_none_or(|pending| pending.sent)
    }

    /// The caller has gone away. Its request still leaves.
    pub(crate) fn abandon(&self, id: u64) {
        let mut state = self.lock();
        match state.pending.get_mut(&id) {
            Some(pending) if pending.sent => drop(state.pending.remove(&id)),
            Some(pending) => pending.caller = None,
            None => {}
        }
    }

    /// Ends all calls: those that left with maybe, the others with certainly not.
    pub(crate) fn close(&self, reason: &str) {
        let mut state = self.lock();
        state.closed = true;
        let pending = std::mem::take(&mut state.pending);
        drop(state);
        self.queue.close();
        for Pending { caller, sent } in pending.into_values() {
            let outcome = match sent {
                true => Outcome::MaybeSent(reason.to_owned()),
                false => Outcome::NotSent(reason.to_owned()),
            };
            if let Some(caller) = caller {
                let _ = caller.send(outcome);
            }
        }
    }

    /// Closes if no call is under way and none began since the last look.
    pub(crate) fn close_if_unused(&self) -> bool {
        let mut state = self.lock();
        if state.used || !state.pending.is_empty() {
            state.used = false;
            return false;
        }
        state.closed = true;
        drop(state);
        self.queue.close();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls() -> Calls {
        Calls::new(&TcpLimits { requests_inflight_max: 3, ..TcpLimits::default() })
    }

    fn outcome(mut receiver: oneshot::Receiver<Outcome>) -> Outcome {
        receiver.try_recv().unwrap().expect("the call has ended")
    }

    #[test]
    fn what_left_before_the_connection_closed_is_maybe_and_the_rest_certainly_not() {
        let calls = calls();
        let (left, left_outcome) = calls.begin(Bytes::new()).unwrap();
        let (_, stayed_outcome) = calls.begin(Bytes::new()).unwrap();
        assert!(calls.send(left));
        calls.close("gone");
        assert_eq!(outcome(left_outcome), Outcome::MaybeSent("gone".to_owned()));
        assert_eq!(outcome(stayed_outcome), Outcome::NotSent("gone".to_owned()));
        assert_eq!(calls.begin(Bytes::new()).unwrap_err(), BeginError::Closed);
    }

    #[test]
    fn a_request_whose_deadline_passed_before_it_left_stays() {
        let calls = calls();
        let (id, _outcome) = calls.begin(Bytes::new()).unwrap();
        assert!(!calls.expire(id));
        assert!(!calls.send(id));
        let (id, _outcome) = calls.begin(Bytes::new()).unwrap();
        assert!(calls.send(id));
        assert!(calls.expire(id));
    }

    #[test]
    fn a_request_whose_caller_has_gone_away_leaves_all_the_same() {
        let calls = calls();
        let (id, _outcome) = calls.begin(Bytes::new()).unwrap();
        calls.abandon(id);
        assert!(calls.send(id));
        assert!(!calls.send(id), "once");
        calls.close_if_unused();
        assert!(calls.close_if_unused(), "nothing is left behind");
    }

    #[test]
    fn calls_in_flight_are_bounded() {
        let calls = calls();
        let begun: Vec<_> = (0..3).map(|_| calls.begin(Bytes::new()).unwrap()).collect();
        assert_eq!(calls.begin(Bytes::new()).unwrap_err(), BeginError::Full);
        for (id, _) in &begun {
            calls.send(*id);
        }
        calls.complete(begun[1].0, Outcome::NoAnswer);
        let mut out = Default::default();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(calls.queue.poll_take(&mut context, &mut out, usize::MAX).is_ready());
        assert!(calls.begin(Bytes::new()).is_ok());
    }

    #[test]
    fn a_request_that_is_too_long_is_refused() {
        let limits = TcpLimits { frame_bytes_max: 100, ..TcpLimits::default() };
        let calls = Calls::new(&limits);
        assert!(calls.begin(Bytes::from(vec![0; 92])).is_ok());
        assert_eq!(calls.begin(Bytes::from(vec![0; 93])).unwrap_err(), BeginError::TooLong);
    }
}
