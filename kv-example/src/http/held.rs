//! What a response holds until it has left, or is given up.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// A body whose length is known is handed over in slices of at most so many bytes. Whoever writes it asks for the next
/// one when the socket has taken most of those before: handed over as a whole, it would have left at once, and would
/// still be in memory.
const SLICE_BYTES_MAX: usize = 32 * 1024;

/// The same response, which keeps `what` until its body has been handed over to the socket, but for a slice or two, or
/// is dropped.
pub(super) fn holding<T: Send + Unpin + 'static>(response: Response, what: T) -> Response {
    response.map(|body| Body::new(Held { body, rest: Bytes::new(), _what: what }))
}

struct Held<T> {
    body: Body,
    /// Of the frame that is handed over in slices.
    rest: Bytes,
    _what: T,
}

impl<T: Unpin> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end @ (Some(Err(_)) | None) => return Poll::Ready(end),
            };
            // The parts of a stream are asked for one by one anyway, and so is what is in slices already.
            let is_stream = self.body.size_hint().exact().is_none();
            match frame.into_data() {
                Ok(data) if !is_stream && data.len() > SLICE_BYTES_MAX => self.rest = data,
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let len = self.rest.len().min(SLICE_BYTES_MAX);
        // A copy: what waits to be written must not keep all of the body in memory.
        let slice = Bytes::copy_from_slice(&self.rest.split_to(len));
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(body.lower().saturating_add(rest));
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;
    use futures::future::poll_fn;

    use super::*;

    #[test]
    fn a_response_holds_its_room_until_its_last_slice_is_asked_for() {
        let source = Bytes::from(vec![7; 100_000]);
        let (room, response) = (Arc::new(()), Response::new(Body::from(source.clone())));
        let held = holding(holding(response, Arc::clone(&room)), ());
        let mut body = held.into_body();
        assert_eq!(HttpBody::size_hint(&body).exact(), Some(100_000));
        let mut lens = Vec::new();
        while !body.is_end_stream() {
            assert_eq!(Arc::strong_count(&room), 2);
            let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never();
            let data = frame.unwrap().unwrap().unwrap().into_data().unwrap();
            assert!(!source.as_ptr_range().contains(&data.as_ptr()), "it keeps the body in memory");
            lens.push(data.len());
            let left = 100_000 - lens.iter().sum::<usize>();
            assert_eq!(HttpBody::size_hint(&body).exact(), Some(left as u64));
        }
        assert_eq!(lens, [32_768, 32_768, 32_768, 1_696]);
        drop(body);
        assert_eq!(Arc::strong_count(&room), 1);
    }
}
