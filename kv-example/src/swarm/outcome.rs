//! What a client knows of an operation, however it ended.

use raft_rsm::ClientError;
use raft_sim::event::Digest;
use raft_sim::history::Ended;
use raft_sim::model::register;
use raft_sim::workload::command_failed;

use super::Outcome;
use super::model::Reply;
use crate::clerk::{DeleteError, PutError, TransactError};
use crate::store::{Response, Version, Versioned};

pub(super) fn answered(response: Response) -> Ended<Reply> {
    Reply::of(response).map_or(Ended::Maybe, Ended::Answered)
}

pub(super) fn of_key(outcome: Outcome) -> Ended<Reply> {
    match outcome {
        Ended::Answered(reply) => Ended::Answered(Reply::Key(reply)),
        Ended::Maybe => Ended::Maybe,
        Ended::Failed => Ended::Failed,
    }
}

/// What a client knows after a read. It has changed nothing, whatever went wrong.
#[must_use]
pub fn read(found: Result<Option<Versioned>, ClientError>) -> Outcome {
    match found {
        Ok(found) => {
            let value = |versioned: Versioned| (versioned.version.0, Digest::of(&versioned.value));
            Ended::Answered(register::Reply::Value(found.map(value)))
        }
        Err(_) => Ended::Failed,
    }
}

/// What a client knows after a put of the clerk.
#[must_use]
pub fn written(put: Result<Version, PutError>) -> Outcome {
    match put {
        Ok(version) => Ended::Answered(register::Reply::Written { version: version.0 }),
        Err(PutError::VersionMismatch { current }) => {
            Ended::Answered(register::Reply::VersionMismatch { current: current.0 })
        }
        Err(PutError::NoKey) => Ended::Answered(register::Reply::NoKey),
        Err(PutError::Maybe) => Ended::Maybe,
        Err(PutError::Client(error)) => command_failed(&error),
    }
}

/// What a client knows after a deletion by the clerk.
pub(super) fn deleted(delete: Result<Version, DeleteError>) -> Outcome {
    match delete {
        Ok(version) => Ended::Answered(register::Reply::Deleted { version: version.0 }),
        Err(DeleteError::VersionMismatch { current }) => {
            Ended::Answered(register::Reply::VersionMismatch { current: current.0 })
        }
        Err(DeleteError::NoKey) => Ended::Answered(register::Reply::NoKey),
        Err(DeleteError::Maybe) => Ended::Maybe,
        Err(DeleteError::Client(error)) => command_failed(&error),
    }
}

pub(super) fn transacted<R>(made: Result<R, TransactError>) -> Ended<Reply> {
    match made {
        Ok(_) => Ended::Answered(Reply::Committed),
        Err(TransactError::ConditionFailed { key, current: Version(current) }) => {
            Ended::Answered(Reply::ConditionFailed { key, current })
        }
        Err(TransactError::NoLease | TransactError::TooMany | TransactError::Maybe) => Ended::Maybe,
        Err(TransactError::Client(error)) => command_failed(&error),
    }
}
