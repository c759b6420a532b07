//! A client's connection, at the server.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::channel::oneshot;

use super::batch::WriteBatch;
use super::endpoint::Endpoint;
use super::frame::{Frame, FrameKind};
use super::incoming::EndError;
use super::pump::{FrameReader, Outgoing, Setup, write_frames};
use super::queue::{BatchQueue, PushError};
use super::socket::{Network, Socket};
use crate::transport::{Reply, TcpLimits};

/// Before the request in a request's body: its id.
pub(crate) const REQUEST_HEADER_BYTES: usize = 8;

/// Before the answer in a response's body: the id of the request, and whether there is an answer.
pub(crate) const RESPONSE_HEADER_BYTES: usize = 9;

/// What an answer takes in the queue beside its bytes.
const ANSWER_OVERHEAD_BYTES: usize = 64;

/// A client's connection.
struct Session {
    answers: BatchQueue<Answer>,
    slots: Mutex<Slots>,
    /// Closes the connection. Gone once it is closed: replies that are given late, or never, must not keep the
    /// socket open.
    close_socket: Mutex<Option<Box<dyn Fn() + Send>>>,
}

struct Answer {
    id: u64,
    answer: Option<Bytes>,
    /// The slot that is free once the answer is written.
    request_bytes: usize,
}

/// Requests that are not answered yet.
#[derive(Default)]
struct Slots {
    count: usize,
    bytes: usize,
    closed: bool,
    waiting: Option<Waker>,
}

/// Reads requests until the connection ends; returns why it did.
pub(crate) async fn serve_client<N: Network>(
    endpoint: &Arc<Endpoint<N>>,
    socket: N::Socket,
    reader: &mut FrameReader<N::Socket>,
) -> EndError {
    let limits = &endpoint.setup.limits;
    let answers_max = limits.requests_inflight_max.saturating_add(1);
    let closing_socket = socket.clone();
    let session = Arc::new(Session {
        answers: BatchQueue::new(answers_max, limits.answers_bytes_max),
        slots: Mutex::default(),
        close_socket: Mutex::new(Some(Box::new(move || closing_socket.close()))),
    });
    let (reading, reader_ended) = oneshot::channel();
    let writer = Arc::clone(&session);
    let setup = Arc::clone(&endpoint.setup);
    let closing = CloseSession(Arc::clone(&session));
    endpoint.spawn("net-answers", async move {
        let answers = Answers { session: &writer, setup: &setup, written: (0, 0) };
        write_frames(socket, &writer.answers, answers, reader_ended, &setup).await;
        drop(closing);
    });
    let error = read_requests(endpoint, &session, reader).await;
    session.close();
    drop(reading);
    error
}

async fn read_requests<N: Network>(
    endpoint: &Arc<Endpoint<N>>,
    session: &Arc<Session>,
    reader: &mut FrameReader<N::Socket>,
) -> EndError {
    let setup = &endpoint.setup;
    let delivery = endpoint.delivery();
    loop {
        let mut body = match reader.next(setup.limits.silence_max).await {
            Ok(Frame { kind: FrameKind::Request, body }) => body,
            Ok(Frame { kind: FrameKind::KeepAlive, .. }) => continue,
            Ok(Frame { kind, .. }) => {
                return EndError::Unexpected(format!("a frame of the kind {kind:?}"));
            }
            Err(error) => return error.into(),
        };
        let Ok(id) = body.try_get_u64_le() else {
            return EndError::Unexpected("a request without an id".to_owned());
        };
        let request_bytes = body.len();
        if !session.slot(request_bytes, &setup.limits).await {
            return EndError::Unexpected("the answers could not be written".to_owned());
        }
        setup.counters.requests.add(1);
        let Some(delivery) = delivery.as_ref().filter(|_| !endpoint.tasks.is_stopped()) else {
            return EndError::Unexpected("it is shutting down here".to_owned());
        };
        let (session, setup) = (Arc::clone(session), Arc::clone(setup));
        let reply = Reply::new(move |answer| {
            if session.answer(Answer { id, answer, request_bytes }) == Err(PushError::Full) {
                setup.counters.dropped_answers.add(1);
                // That takes next to nothing, and the other requests of this client do not suffer. One that reads nothing
                // at all is sent away by the timeout for writes.
                let none = Answer { id, answer: None, request_bytes };
                if session.answers.push(none, 0) == Err(PushError::Full) {
                    session.close();
                }
            }
        });
        delivery.service.call(body, reply);
    }
}

impl Session {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        // No code of others runs under the lock, so the state is whole even when a thread died.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot. False: the connection has ended.
    async fn slot(&self, request_bytes: usize, limits: &TcpLimits) -> bool {
        poll_fn(|context| {
            let mut slots = self.slots();
            if slots.closed {
                return Poll::Ready(false);
            }
            let is_full = slots.count >= limits.requests_inflight_max
                || slots.bytes.saturating_add(request_bytes) > limits.requests_inflight_bytes_max;
            if is_full && slots.count > 0 {
                slots.waiting = Some(context.waker().clone());
                return Poll::Pending;
            }
            slots.count += 1;
            slots.bytes += request_bytes;
            Poll::Ready(true)
        })
        .await
    }

    fn answer(&self, answer: Answer) -> Result<(), PushError> {
        let bytes = ANSWER_OVERHEAD_BYTES + answer.answer.as_ref().map_or(0, Bytes::len);
        self.answers.push(answer, bytes)
    }

    fn free(&self, count: usize, bytes: usize) {
        let mut slots = self.slots();
        slots.count = slots.count.saturating_sub(count);
        slots.bytes = slots.bytes.saturating_sub(bytes);
        let waiting = slots.waiting.take();
        drop(slots);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn close(&self) {
        let close_socket = self.close_socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(close) = close_socket {
            close();
        }
        self.answers.close();
        let mut slots = self.slots();
        slots.closed = true;
        let waiting = slots.waiting.take();
        drop(slots);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// Ends the reader when the writer ends, or never started.
struct CloseSession(Arc<Session>);

impl Drop for CloseSession {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Answers as they go out.
struct Answers<'s> {
    session: &'s Session,
    setup: &'s Setup,
    /// The slots, count and bytes, of what is encoded and not written.
    written: (usize, usize),
}

impl Outgoing for Answers<'_> {
    type Item = Answer;

    fn encode(&mut self, item: Answer, batch: &mut WriteBatch) {
        let Answer { id, answer, request_bytes } = item;
        self.written.0 += 1;
        self.written.1 += request_bytes;
        let body_bytes_max = self.setup.limits.frame_bytes_max;
        let encoded = batch.frame(FrameKind::Response, body_bytes_max, |out| {
            encode_response(id, answer.is_some(), out);
            answer.as_ref()
        });
        if let Err(error) = encoded {
            self.setup.counters.dropped_too_long.add(1);
            tracing::warn!(%error, "an answer is too long to be sent");
            // Without a payload it is never too long.
            let _ = batch.frame(FrameKind::Response, RESPONSE_HEADER_BYTES, |out| {
                encode_response(id, false, out);
                None
            });
        }
    }

    fn written(&mut self) {
        let (count, bytes) = std::mem::take(&mut self.written);
        if count > 0 {
            self.session.free(count, bytes);
        }
    }
}

fn encode_response(id: u64, is_answered: bool, out: &mut BytesMut) {
    out.put_u64_le(id);
    out.put_u8(u8::from(is_answered));
}
