//! What a clerk makes of the store's responses.

use std::time::Duration;

use raft_rsm::{Answered, ClientError};

use super::wrong_kind;
use crate::store::{LeaseId, Response, Revision, Version};

/// Why a value was not written, as far as is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// *Definitely not*: the key has another version.
    #[error("the key has version {current}")]
    VersionMismatch {
        /// The version that it has.
        current: Version,
    },
    /// *Definitely not*: the key does not exist, and the version given is not 0.
    #[error("there is no such key")]
    NoKey,
    /// *Maybe*: the key no longer has the version given, but an earlier transmission of this same request may be what
    /// has changed it. Read the key.
    #[error("it may have been written by an earlier try")]
    Maybe,
    /// The request failed; [`ClientError::may_take_effect`] says whether it may still be carried out.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Why a key was not deleted, as far as is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// *Definitely not*: the key has another version.
    #[error("the key has version {current}")]
    VersionMismatch {
        /// The version that it has.
        current: Version,
    },
    /// *Definitely not*: the key does not exist.
    #[error("there is no such key")]
    NoKey,
    /// *Maybe*: the key does not exist, or no longer has the version given, but an earlier transmission of this same
    /// request may have deleted it. Read the key.
    #[error("it may have been deleted by an earlier try")]
    Maybe,
    /// The request failed; [`ClientError::may_take_effect`] says whether it may still be carried out.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Why a transaction was not made, as far as is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactError {
    /// *Definitely not*: a condition does not hold.
    #[error("key \"{key}\" has version {current}")]
    ConditionFailed {
        /// The first key of which it does not.
        key: String,
        /// The version that it has; 0: it does not exist.
        current: Version,
    },
    /// *Definitely not*: a lease that a key was to be tied to has ended.
    #[error("there is no such lease, or no longer")]
    NoLease,
    /// *Definitely not*: a lease would have too many keys.
    #[error("too many keys are tied to the lease")]
    TooMany,
    /// *Maybe*: a condition does not hold, but an earlier transmission of this same transaction may be the reason.
    #[error("it may have been made by an earlier try")]
    Maybe,
    /// The request failed; [`ClientError::may_take_effect`] says whether it may still be carried out.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Why there is no such lease.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// It has ended, or never was.
    #[error("there is no such lease, or no longer")]
    NoLease,
    /// There are too many.
    #[error("there are too many leases")]
    TooMany,
    /// The request failed; [`ClientError::may_take_effect`] says whether it may still be carried out.
    #[error(transparent)]
    Client(#[from] ClientError),
}

pub(super) fn put(answered: Answered<Response>) -> Result<Version, PutError> {
    let Answered { response, resent } = answered;
    match response {
        Response::Written { version } => Ok(version),
        Response::VersionMismatch { .. } | Response::NoKey if resent => Err(PutError::Maybe),
        Response::VersionMismatch { current } => Err(PutError::VersionMismatch { current }),
        Response::NoKey => Err(PutError::NoKey),
        Response::Deleted { .. }
        | Response::Committed { .. }
        | Response::ConditionFailed { .. }
        | Response::Granted { .. }
        | Response::KeptAlive { .. }
        | Response::Revoked
        | Response::NoLease
        | Response::TooMany => Err(wrong_kind().into()),
    }
}

pub(super) fn delete(answered: Answered<Response>) -> Result<Version, DeleteError> {
    let Answered { response, resent } = answered;
    match response {
        Response::Deleted { version } => Ok(version),
        Response::VersionMismatch { .. } | Response::NoKey if resent => Err(DeleteError::Maybe),
        Response::VersionMismatch { current } => Err(DeleteError::VersionMismatch { current }),
        Response::NoKey => Err(DeleteError::NoKey),
        Response::Written { .. }
        | Response::Committed { .. }
        | Response::ConditionFailed { .. }
        | Response::Granted { .. }
        | Response::KeptAlive { .. }
        | Response::Revoked
        | Response::NoLease
        | Response::TooMany => Err(wrong_kind().into()),
    }
}

pub(super) fn transact(answered: Answered<Response>) -> Result<Revision, TransactError> {
    let Answered { response, resent } = answered;
    match response {
        Response::Committed { revision } => Ok(revision),
        Response::ConditionFailed { .. } | Response::NoLease | Response::TooMany if resent => {
            Err(TransactError::Maybe)
        }
        Response::ConditionFailed { key, current } => {
            Err(TransactError::ConditionFailed { key, current })
        }
        Response::NoLease => Err(TransactError::NoLease),
        Response::TooMany => Err(TransactError::TooMany),
        Response::Written { .. }
        | Response::Deleted { .. }
        | Response::VersionMismatch { .. }
        | Response::NoKey
        | Response::Granted { .. }
        | Response::KeptAlive { .. }
        | Response::Revoked => Err(wrong_kind().into()),
    }
}

pub(super) fn granted(answered: &Answered<Response>) -> Result<LeaseId, LeaseError> {
    match answered.response {
        Response::Granted { lease } => Ok(lease),
        Response::TooMany => Err(LeaseError::TooMany),
        Response::Written { .. }
        | Response::Deleted { .. }
        | Response::VersionMismatch { .. }
        | Response::NoKey
        | Response::Committed { .. }
        | Response::ConditionFailed { .. }
        | Response::KeptAlive { .. }
        | Response::Revoked
        | Response::NoLease => Err(wrong_kind().into()),
    }
}

pub(super) fn kept_alive(answered: &Answered<Response>) -> Result<Duration, LeaseError> {
    match answered.response {
        Response::KeptAlive { ttl } => Ok(ttl),
        Response::NoLease => Err(LeaseError::NoLease),
        Response::Written { .. }
        | Response::Deleted { .. }
        | Response::VersionMismatch { .. }
        | Response::NoKey
        | Response::Committed { .. }
        | Response::ConditionFailed { .. }
        | Response::Granted { .. }
        | Response::Revoked
        | Response::TooMany => Err(wrong_kind().into()),
    }
}

pub(super) fn revoked(answered: &Answered<Response>) -> Result<(), ClientError> {
    match answered.response {
        Response::Revoked | Response::NoLease => Ok(()),
        Response::Written { .. }
        | Response::Deleted { .. }
        | Response::VersionMismatch { .. }
        | Response::NoKey
        | Response::Committed { .. }
        | Response::ConditionFailed { .. }
        | Response::Granted { .. }
        | Response::KeptAlive { .. }
        | Response::TooMany => Err(wrong_kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: Version = Version(1);

    #[test]
    fn a_version_error_at_the_first_transmission_is_a_definite_no() {
        let first = |response| Answered { response, resent: false };
        let mismatch = Response::VersionMismatch { current: V1 };
        assert!(matches!(
            put(first(mismatch.clone())),
            Err(PutError::VersionMismatch { current: V1 })
        ));
        assert!(matches!(put(first(Response::NoKey)), Err(PutError::NoKey)));
        assert!(matches!(
            delete(first(mismatch)),
            Err(DeleteError::VersionMismatch { current: V1 })
        ));
        assert!(matches!(delete(first(Response::NoKey)), Err(DeleteError::NoKey)));
    }

    #[test]
    fn any_refusal_of_a_resend_is_a_maybe() {
        for response in [Response::VersionMismatch { current: V1 }, Response::NoKey] {
            let again = Answered { response, resent: true };
            assert!(matches!(put(again.clone()), Err(PutError::Maybe)));
            assert!(matches!(delete(again), Err(DeleteError::Maybe)));
        }
    }

    #[test]
    fn success_is_success_however_often_it_was_sent() {
        for resent in [false, true] {
            let written = Answered { response: Response::Written { version: V1 }, resent };
            assert_eq!(put(written).unwrap(), V1);
            let deleted = Answered { response: Response::Deleted { version: V1 }, resent };
            assert_eq!(delete(deleted).unwrap(), V1);
        }
    }

    #[test]
    fn an_answer_to_another_question_leaves_open_what_happened() {
        let answered = Answered { response: Response::Deleted { version: V1 }, resent: false };
        let Err(PutError::Client(error)) = put(answered) else { panic!() };
        assert!(error.may_take_effect());
    }
}
