//! Several keys at one moment: `/v1/transactions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::entry::value_of;
use super::error::{HttpError, json_response};
use super::routes::{NoParameters, Parameters};
use super::write::carry_out;
use super::{Node, body};
use crate::limits::TRANSACTION_PARTS_MAX;
use crate::store::{Command, Condition, LeaseId, Response as Outcome, Transaction, Version, Write};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    conditions: Vec<AskedCondition>,
    writes: Vec<AskedWrite>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedCondition {
    key: String,
    version: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum AskedWrite {
    Put(AskedPut),
    Delete(AskedDelete),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedPut {
    key: String,
    value: Option<String>,
    value_base64: Option<String>,
    lease: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedDelete {
    key: String,
}

/// All of these writes, if these keys have these versions; else nothing.
pub(super) async fn post(
    State(node): State<Arc<Node>>,
    _: Parameters<NoParameters>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let transaction = {
        let read = body::read(&node, &headers, body, node.transaction_bytes_max()).await?;
        let asked = serde_json::from_slice::<Asked>(&read.bytes);
        let asked = asked.map_err(|error| HttpError::bad("bad-json", error))?;
        transaction(asked).map_err(|problem| HttpError::bad("bad-json", problem))?
    };
    match carry_out(&node, &headers, Command::Transact(transaction)).await? {
        Outcome::Committed { revision } => {
            Ok(json_response(StatusCode::OK, &json!({ "revision": revision.0 })))
        }
        Outcome::ConditionFailed { key, current } => {
            let status = StatusCode::PRECONDITION_FAILED;
            let message = format!("key {} has version {current}", crate::output::quoted(&key));
            let error = HttpError::new(status, "condition-failed", message);
            Err(error.with("key", key).with("current_version", current.0))
        }
        Outcome::NoLease => Err(HttpError::no_lease(StatusCode::CONFLICT)),
        Outcome::TooMany => Err(HttpError::new(
            StatusCode::CONFLICT,
            "lease-full",
            "too many keys are tied to the lease",
        )),
        Outcome::Written { .. }
        | Outcome::Deleted { .. }
        | Outcome::VersionMismatch { .. }
        | Outcome::NoKey
        | Outcome::Granted { .. }
        | Outcome::KeptAlive { .. }
        | Outcome::Revoked => Err(HttpError::wrong_kind()),
    }
}

impl Node {
    /// Values may be base64, which takes a third more, and keys may be as long as they are allowed to be.
    fn transaction_bytes_max(&self) -> usize {
        2 * self.limits.value_bytes_max + TRANSACTION_PARTS_MAX * (self.limits.key_bytes_max + 128)
    }
}

fn transaction(asked: Asked) -> Result<Transaction, String> {
    let conditions = asked
        .conditions
        .into_iter()
        .map(|AskedCondition { key, version }| Condition { key, version: Version(version) });
    let writes = asked.writes.into_iter().map(|write| match write {
        AskedWrite::Put(AskedPut { key, value, value_base64, lease }) => {
            let value = value_of(value, value_base64)?;
            Ok(Write::Put { key, value, lease: lease.map(LeaseId) })
        }
        AskedWrite::Delete(AskedDelete { key }) => Ok(Write::Delete { key }),
    });
    Ok(Transaction {
        conditions: conditions.collect(),
        writes: writes.collect::<Result<_, String>>()?,
    })
}
