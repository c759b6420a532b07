//! Many keys: `/v1/kv`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Node;
use super::error::{HttpError, json_response};
use super::held::holding;
use super::routes::Parameters;
use crate::connect::Consistency;
use crate::output::entry_json;
use crate::store::{Answer, Page, Query};

const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageParameters {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    limit: Option<u32>,
    #[serde(default)]
    consistency: Consistency,
}

/// The keys that begin with a prefix, a page at a time.
pub(super) async fn get(
    State(node): State<Arc<Node>>,
    Parameters(parameters): Parameters<PageParameters>,
) -> Result<Response, HttpError> {
    let PageParameters { prefix, after, limit, consistency } = parameters;
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let message = format!("limit is {limit}; expected a number from 1 to {LIMIT_MAX}");
        return Err(HttpError::bad("bad-query", message));
    }
    match node.ask(Query::Scan { prefix, after, limit }, consistency).await? {
        Answer::Page(page) => node.hold_response(&page_json(&page)),
        Answer::Value(_) | Answer::Changes(_) | Answer::Lease(_) | Answer::About(_) => {
            Err(HttpError::wrong_kind())
        }
    }
}

fn page_json(page: &Page) -> Value {
    let entries = page.entries.iter().map(|(key, versioned)| entry_json(key, versioned));
    json!({
        "entries": Value::from_iter(entries),
        "more": page.more,
        "revision": page.revision.0,
    })
}

impl Node {
    /// A response that counts for as long as it is in memory, however slowly it is read.
    fn hold_response(&self, json: &Value) -> Result<Response, HttpError> {
        let response = json_response(StatusCode::OK, json);
        let size = hyper::body::Body::size_hint(response.body()).exact().unwrap_or(0);
        let room = self.responses.take(usize::try_from(size).unwrap_or(usize::MAX))?;
        Ok(holding(response, room))
    }
}
