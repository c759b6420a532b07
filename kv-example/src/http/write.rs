//! What came of a write.

use axum::http::{HeaderMap, HeaderName};

use super::Node;
use super::condition::only;
use super::error::HttpError;
use crate::store::{Command, Response};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Has a command carried out; exactly once for all requests with the same `Idempotency-Key`.
///
/// # Errors
/// It says whether the command may have taken effect.
pub(super) async fn carry_out(
    node: &Node,
    headers: &HeaderMap,
    command: Command,
) -> Result<Response, HttpError> {
    let name = idempotency_key(headers)?;
    node.limits.check(&command)?;
    let proposed = match name {
        Some(name) => node.raft.propose_once(name, command).await,
        None => node.raft.propose(command).await,
    };
    match proposed {
        Ok(response) => Ok(response),
        Err(error) => Err(HttpError::of_write(error, node).await),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&[u8]>, HttpError> {
    const BYTES_MAX: usize = 255;
    match only(headers, &IDEMPOTENCY_KEY)? {
        Some(name) if name.is_empty() || name.len() > BYTES_MAX => Err(HttpError::bad(
            "bad-idempotency-key",
            format!("Idempotency-Key has {} bytes; expected 1 to {BYTES_MAX}", name.len()),
        )),
        name => Ok(name),
    }
}
