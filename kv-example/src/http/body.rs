//! The body of a request, within its limits.

use axum::body::{Body, BodyDataStream};
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::HttpError;
use super::room::{Budget, Room};
use super::{BODY_PAUSE_MAX, Node, paid_for};

/// Of a body that is too long, so much is read and thrown away: who only writes before it reads would not see the
/// answer otherwise.
const THROWN_AWAY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A body, and the memory that it takes.
pub(super) struct Read {
    pub(super) bytes: Bytes,
    _room: Room,
}

/// Reads a body of at most `bytes_max`. It takes memory as its parts arrive, whatever its length is said to be.
///
/// # Errors
/// It is too long, too slow or broken off, or there is no room for it now.
pub(super) async fn read(
    node: &Node,
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<Read, HttpError> {
    let too_large = || {
        let message = format!("the body has more bytes than the limit, {bytes_max}");
        HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", message)
    };
    let declared = headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
    let len_max: usize = declared.unwrap_or(bytes_max);
    let mut body = body.into_data_stream();
    if len_max > bytes_max {
        // Whoever asks first is told before it sends anything.
        if !headers.contains_key(EXPECT) {
            throw_away(&mut body).await;
        }
        return Err(too_large());
    }
    match collect(&mut body, len_max, &node.bodies).await {
        Ok(read) => Ok(read),
        Err(Unread::TooLarge) => {
            throw_away(&mut body).await;
            Err(too_large())
        }
        Err(Unread::BrokenOff(error)) => Err(HttpError::bad("body-broken-off", error)),
        Err(Unread::NoRoom(error)) => Err(error),
        Err(Unread::TooSlow) => {
            let message = "the body pauses for too long, or takes too long as a whole";
            Err(HttpError::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", message))
        }
    }
}

/// Why a body was not read.
enum Unread {
    TooLarge,
    TooSlow,
    BrokenOff(axum::Error),
    NoRoom(HttpError),
}

async fn collect(
    body: &mut BodyDataStream,
    len_max: usize,
    budget: &Budget,
) -> Result<Read, Unread> {
    let begun = Instant::now();
    let (mut bytes, mut room) = (Vec::new(), budget.take(0).map_err(Unread::NoRoom)?);
    loop {
        let part = match timeout_at(give_up_at(begun, bytes.len()), body.next()).await {
            Ok(Some(part)) => part.map_err(Unread::BrokenOff)?,
            Ok(None) => return Ok(Read { bytes: bytes.into(), _room: room }),
            Err(_) => return Err(Unread::TooSlow),
        };
        let len = bytes.len() + part.len();
        if len > len_max {
            return Err(Unread::TooLarge);
        }
        if len > bytes.capacity() {
            // Twice as much each time, so that a body is copied a few times at most.
            let capacity = len.max(2 * bytes.capacity()).min(len_max);
            let more = budget.take(capacity.saturating_sub(room.bytes()));
            room.grow(more.map_err(Unread::NoRoom)?);
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&part);
    }
}

/// When a body is too slow of which so many bytes have come, unless more comes before.
fn give_up_at(begun: Instant, bytes: usize) -> Instant {
    let pause_ends = Instant::now() + BODY_PAUSE_MAX;
    pause_ends.min(begun + BODY_PAUSE_MAX + paid_for(bytes))
}

async fn throw_away(body: &mut BodyDataStream) {
    let all = async {
        let mut left = THROWN_AWAY_BYTES_MAX;
        while let Some(Ok(part)) = body.next().await
            && let Some(rest) = left.checked_sub(part.len() as u64)
        {
            left = rest;
        }
    };
    let _ = timeout(BODY_PAUSE_MAX, all).await;
}
