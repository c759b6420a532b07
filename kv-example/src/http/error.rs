//! The one shape of everything that is not a success.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ETAG, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use raft_rsm::{ProposeError, QueryError};
use serde_json::{Map, Value, json};

use super::Node;
use crate::limits::LimitError;
use crate::store::Version;

/// Why there is no success: `{"error": {"code": ..., "message": ..., "may_take_effect": ...}}`, and more where more is
/// known.
#[derive(Debug)]
pub(super) struct HttpError {
    status: StatusCode,
    code: &'static str,
    message: String,
    may_take_effect: bool,
    again: bool,
    version: Option<Version>,
    more: Map<String, Value>,
}

impl HttpError {
    /// Definitely not.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl ToString) -> HttpError {
        HttpError {
            status,
            code,
            message: message.to_string(),
            may_take_effect: false,
            again: false,
            version: None,
            more: Map::new(),
        }
    }

    /// The request makes no sense, and never will.
    pub(super) fn bad(code: &'static str, message: impl ToString) -> HttpError {
        HttpError::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Not here or not now: to be asked again.
    pub(super) fn unavailable(code: &'static str, message: impl ToString) -> HttpError {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        HttpError { again: true, ..HttpError::new(status, code, message) }
    }

    /// Others take all the memory that there is for this.
    pub(super) fn no_memory() -> HttpError {
        HttpError::unavailable("busy", "too many large requests or responses are under way")
    }

    /// It may have been done, or be done later.
    pub(super) fn maybe(self) -> HttpError {
        HttpError { may_take_effect: true, ..self }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> HttpError {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// The key has another version.
    pub(super) fn version_mismatch(current: Version) -> HttpError {
        let message = match current {
            Version::ABSENT => "the key does not exist".to_owned(),
            current => format!("the key has version {current}"),
        };
        let error = HttpError::new(StatusCode::PRECONDITION_FAILED, "version-mismatch", message);
        let version = (current != Version::ABSENT).then_some(current);
        HttpError { version, ..error }.with("current_version", current.0)
    }

    /// There is no such key.
    pub(super) fn no_key() -> HttpError {
        HttpError::new(StatusCode::NOT_FOUND, "no-key", "there is no such key")
    }

    /// A lease that is needed has ended, or never was.
    pub(super) fn no_lease(status: StatusCode) -> HttpError {
        HttpError::new(status, "no-lease", "there is no such lease, or no longer")
    }

    /// The node answers another question, which no node does: what was asked for has been done.
    pub(super) fn wrong_kind() -> HttpError {
        let message = "the store answered another question";
        HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message).maybe()
    }

    pub(super) async fn of_write(error: ProposeError, node: &Node) -> HttpError {
        let message = error.to_string();
        match error {
            ProposeError::NotLeader { leader } => node.not_leader(leader).await,
            ProposeError::Busy | ProposeError::SessionBusy => {
                HttpError::unavailable("busy", message)
            }
            ProposeError::Superseded => HttpError::unavailable("superseded", message),
            ProposeError::Stopped => HttpError::unavailable("stopped", message),
            ProposeError::SessionsFull => HttpError::unavailable(
                "idempotency-full",
                "the nodes remember as many idempotency keys as they can; ask again later, or without one",
            ),
            ProposeError::NameTaken => HttpError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-taken",
                "another request was sent with this Idempotency-Key",
            ),
            // Of a name, it is remembered only once it was carried out.
            ProposeError::ResponseForgotten => HttpError::new(
                StatusCode::CONFLICT,
                "carried-out",
                "a request with this Idempotency-Key was carried out before, but its response was not kept; read the key",
            )
            .maybe(),
            ProposeError::TooLarge { .. } => {
                HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
            }
            ProposeError::NotAdmitted { .. } => HttpError::bad("not-admitted", message),
            ProposeError::Maybe(_) => {
                HttpError::new(StatusCode::GATEWAY_TIMEOUT, "maybe", message).maybe()
            }
            // No request is made in a session; and what a later version may say is uncertain.
            ProposeError::Serialize { .. } => {
                HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            }
            ProposeError::SessionExpired | _ => HttpError::wrong_kind(),
        }
    }

    pub(super) async fn of_read(error: QueryError, node: &Node) -> HttpError {
        let message = error.to_string();
        match error {
            QueryError::NotLeader { leader } => node.not_leader(leader).await,
            QueryError::Busy => HttpError::unavailable("busy", message),
            QueryError::Superseded => HttpError::unavailable("superseded", message),
            QueryError::Stopped => HttpError::unavailable("stopped", message),
            QueryError::TimedOut | _ => {
                HttpError::new(StatusCode::GATEWAY_TIMEOUT, "timed-out", message)
            }
        }
    }

    fn to_json(&self) -> Value {
        let HttpError { code, message, may_take_effect, more, .. } = self;
        let mut error = Map::new();
        error.insert("code".to_owned(), json!(code));
        error.insert("message".to_owned(), json!(message));
        error.insert("may_take_effect".to_owned(), json!(may_take_effect));
        error.extend(more.clone());
        json!({ "error": error })
    }

    /// The whole response as it stands on the wire, for a connection that nobody serves.
    pub(super) fn on_the_wire(&self) -> Vec<u8> {
        let (status, body) = (self.status, self.to_json());
        let body = format!("{body}\n");
        let retry = if self.again { "retry-after: 1\r\n" } else { "" };
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{retry}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

impl From<LimitError> for HttpError {
    fn from(error: LimitError) -> HttpError {
        let large = |code| HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, code, error);
        match error {
            LimitError::Key { .. } => large("key-too-large"),
            LimitError::Value { .. } => large("value-too-large"),
            LimitError::Transaction { .. } => large("transaction-too-large"),
            LimitError::Ttl { .. } => HttpError::bad("ttl-too-long", error),
        }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &self.to_json());
        let headers = response.headers_mut();
        if self.again {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(version) = self.version {
            headers.insert(ETAG, etag(version));
        }
        response
    }
}

/// A response with JSON in it, which ends with a line feed, as people like it.
pub(super) fn json_response(status: StatusCode, json: &Value) -> Response {
    let mut response = Response::new(Body::from(format!("{json}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A version as an entity tag.
pub(super) fn etag(version: Version) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}
