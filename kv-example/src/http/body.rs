//! The body of a request, within its limits.

use axum::body::{Body, BodyDataStream};
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::OwnedSemaphorePermit;

use super::error::HttpError;
use super::{BODY_PAUSE_MAX, BODY_TIMEOUT, Node};

/// Of a body that is too long, so much is read and thrown away: who only writes before it reads would not see the
/// answer otherwise.
const THROWN_AWAY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A body, and the memory that it is allowed to take.
pub(super) struct Read {
    pub(super) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Reads a body of at most `bytes_max`.
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
    let len = declared.unwrap_or(bytes_max);
    let mut body = body.into_data_stream();
    if len > bytes_max {
        // Whoever asks first is told before it sends anything.
        if !headers.contains_key(EXPECT) {
            throw_away(&mut body).await;
        }
        return Err(too_large());
    }
    let room = node.room(len)?;
    match tokio::time::timeout(BODY_TIMEOUT, collect(&mut body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(Read { bytes, _room: room }),
        Ok(Err(Unread::TooLarge)) => {
            throw_away(&mut body).await;
            Err(too_large())
        }
        Ok(Err(Unread::BrokenOff(error))) => Err(HttpError::bad("body-broken-off", error)),
        Ok(Err(Unread::Paused)) | Err(_) => {
            let message = "the body pauses for too long, or takes too long as a whole";
            Err(HttpError::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", message))
        }
    }
}

impl Node {
    /// Memory for so many bytes of a body.
    pub(super) fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, HttpError> {
        let room = u32::try_from(bytes).ok();
        let room =
            room.and_then(|n| std::sync::Arc::clone(&self.bodies).try_acquire_many_owned(n).ok());
        room.ok_or_else(|| {
            HttpError::unavailable("busy", "too many requests with large bodies are under way")
        })
    }
}

/// Why a body was not read.
enum Unread {
    TooLarge,
    Paused,
    BrokenOff(axum::Error),
}

async fn collect(body: &mut BodyDataStream, bytes_max: usize) -> Result<Bytes, Unread> {
    let mut bytes = BytesMut::new();
    loop {
        let part = tokio::time::timeout(BODY_PAUSE_MAX, body.next());
        match part.await.map_err(|_| Unread::Paused)? {
            Some(Ok(part)) if bytes.len() + part.len() > bytes_max => return Err(Unread::TooLarge),
            Some(Ok(part)) => bytes.extend_from_slice(&part),
            Some(Err(error)) => return Err(Unread::BrokenOff(error)),
            None => return Ok(bytes.freeze()),
        }
    }
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
    let _ = tokio::time::timeout(BODY_PAUSE_MAX, all).await;
}
