//! The store's client: it speaks of keys and versions, and says what it knows, and no more.
//!
//! A request whose answer is lost is sent again until one comes. When a *resent* write meets a version error, the
//! try before it may have succeeded, and be what it collides with: the clerk then says "maybe". Only a
//! version error at the first transmission is a definite no.
//!
//! Versions refuse what comes twice only as long as the key is not deleted: it then begins anew, at versions that it
//! had before. A put or a delete that is sent again can take effect in both lives of such a key, and the clerk says no
//! more than "done".

use bytes::Bytes;
use raft_rsm::{Answered, Client, ClientError, Consistency};

use crate::store::{Answer, Command, Page, Query, Response, Store, Version, Versioned};

/// A client of the store. Cheap to clone; any number of requests may be under way at once.
#[derive(Clone)]
pub struct Clerk {
    client: Client<Store>,
}

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

impl Clerk {
    /// A clerk that sends its requests through `client`.
    #[must_use]
    pub fn new(client: Client<Store>) -> Clerk {
        Clerk { client }
    }

    /// The value of a key with its version, or `None` for a key that does not exist.
    ///
    /// # Errors
    /// There was no answer in time.
    pub async fn get(&self, key: &str) -> Result<Option<Versioned>, ClientError> {
        self.get_with(key, Consistency::Linearizable).await
    }

    /// As [`Clerk::get`], with the consistency that is asked for.
    ///
    /// # Errors
    /// There was no answer in time.
    pub async fn get_with(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Option<Versioned>, ClientError> {
        match self.client.query_with(&Query::Get { key: key.to_owned() }, consistency).await? {
            Answer::Value(value) => Ok(value),
            Answer::Page(_) => Err(wrong_kind()),
        }
    }

    /// The keys that begin with `prefix` and come after `after`, in the order of their bytes: at most
    /// `limit`, and fewer where they are large. Each page is a state of the store; two pages need not be
    /// the same one.
    ///
    /// # Errors
    /// There was no answer in time.
    pub async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page, ClientError> {
        self.scan_with(prefix, after, limit, Consistency::Linearizable).await
    }

    /// As [`Clerk::scan`], with the consistency that is asked for.
    ///
    /// # Errors
    /// There was no answer in time.
    pub async fn scan_with(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
        consistency: Consistency,
    ) -> Result<Page, ClientError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        match self.client.query_with(&Query::Scan { prefix, after, limit }, consistency).await? {
            Answer::Page(page) => Ok(page),
            Answer::Value(_) => Err(wrong_kind()),
        }
    }

    /// Writes `value` if `key` has `version` ([`Version::ABSENT`]: if it does not exist), and returns the new version.
    ///
    /// # Errors
    /// [`PutError`]; each variant says whether the value may have been written.
    pub async fn put(
        &self,
        key: &str,
        value: Bytes,
        version: Version,
    ) -> Result<Version, PutError> {
        let command = Command::Put { key: key.to_owned(), value, version };
        put_outcome(self.client.propose_until_answered(&command).await?)
    }

    /// Deletes `key` if it has `version`, or whatever its version, and returns the version that it had.
    ///
    /// # Errors
    /// [`DeleteError`]; each variant says whether the key may have been deleted.
    pub async fn delete(
        &self,
        key: &str,
        version: Option<Version>,
    ) -> Result<Version, DeleteError> {
        let command = Command::Delete { key: key.to_owned(), version };
        delete_outcome(self.client.propose_until_answered(&command).await?)
    }
}

fn put_outcome(answered: Answered<Response>) -> Result<Version, PutError> {
    let Answered { response, resent } = answered;
    match response {
        Response::Written { version } => Ok(version),
        Response::VersionMismatch { .. } | Response::NoKey if resent => Err(PutError::Maybe),
        Response::VersionMismatch { current } => Err(PutError::VersionMismatch { current }),
        Response::NoKey => Err(PutError::NoKey),
        Response::Deleted { .. } => Err(wrong_kind().into()),
    }
}

fn delete_outcome(answered: Answered<Response>) -> Result<Version, DeleteError> {
    let Answered { response, resent } = answered;
    match response {
        Response::Deleted { version } => Ok(version),
        Response::VersionMismatch { .. } | Response::NoKey if resent => Err(DeleteError::Maybe),
        Response::VersionMismatch { current } => Err(DeleteError::VersionMismatch { current }),
        Response::NoKey => Err(DeleteError::NoKey),
        Response::Written { .. } => Err(wrong_kind().into()),
    }
}

/// Client and node are of different programs: what was asked for has been done.
fn wrong_kind() -> ClientError {
    ClientError::Unreadable { reason: "it answers another question".to_owned() }
}

impl std::fmt::Debug for Clerk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clerk")
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
            put_outcome(first(mismatch.clone())),
            Err(PutError::VersionMismatch { current: V1 })
        ));
        assert!(matches!(put_outcome(first(Response::NoKey)), Err(PutError::NoKey)));
        assert!(matches!(
            delete_outcome(first(mismatch)),
            Err(DeleteError::VersionMismatch { current: V1 })
        ));
        assert!(matches!(delete_outcome(first(Response::NoKey)), Err(DeleteError::NoKey)));
    }

    #[test]
    fn any_refusal_of_a_resend_is_a_maybe() {
        for response in [Response::VersionMismatch { current: V1 }, Response::NoKey] {
            let again = Answered { response, resent: true };
            assert!(matches!(put_outcome(again.clone()), Err(PutError::Maybe)));
            assert!(matches!(delete_outcome(again), Err(DeleteError::Maybe)));
        }
    }

    #[test]
    fn success_is_success_however_often_it_was_sent() {
        for resent in [false, true] {
            let written = Answered { response: Response::Written { version: V1 }, resent };
            assert_eq!(put_outcome(written).unwrap(), V1);
            let deleted = Answered { response: Response::Deleted { version: V1 }, resent };
            assert_eq!(delete_outcome(deleted).unwrap(), V1);
        }
    }

    #[test]
    fn an_answer_to_another_question_leaves_open_what_happened() {
        let answered = Answered { response: Response::Deleted { version: V1 }, resent: false };
        let Err(PutError::Client(error)) = put_outcome(answered) else { panic!() };
        assert!(error.may_take_effect());
    }
}
