//! The store's client: it speaks of keys and versions, and says what it knows, and no more.
//!
//! It has two honest modes. *By versions* ([`Clerk::new`]), a request whose answer is lost is sent again until one comes. When
//! a *resent* write meets a version error, the try before it may have succeeded, and be what it collides with: the
//! clerk then says "maybe". Only a version error at the first transmission is a definite no. Versions refuse what comes
//! twice only as long as the key is not deleted: it then begins anew, at versions that it had before, and a write that is
//! sent again can take effect in both lives of such a key. A deletion whatever the version has nothing that would refuse it
//! the second time, so it is sent once: where its answer is lost, it is a "maybe".
//!
//! *In a session* ([`Clerk::in_session`]), the nodes know what comes twice: every write is made exactly once, and its
//! answer is its answer however often it was sent. "Maybe" is left for a deadline that passes and for a session that has
//! ended meanwhile.

mod error;
mod watch;

use std::time::Duration;

use bytes::Bytes;
use raft_rsm::{Answered, Client, ClientError, Consistency, Session};

pub use self::error::{DeleteError, LeaseError, PutError, TransactError};
pub use self::watch::{Watch, WatchError};
use crate::store::{
    Answer, Command, Cursor, LeaseId, LeaseInfo, Page, Query, Response, Revision, Store,
    Transaction, Version, Versioned,
};

/// A client of the store. Cheap to clone; any number of requests may be under way at once.
#[derive(Clone)]
pub struct Clerk {
    client: Client<Store>,
    session: Option<Session<Store>>,
}

impl Clerk {
    /// A clerk that sends its requests through `client`, and tells by versions what came twice.
    #[must_use]
    pub fn new(client: Client<Store>) -> Clerk {
        Clerk { client, session: None }
    }

    /// A clerk in a session of its own: every write is made exactly once. The session is opened by its first write; end it
    /// with [`Clerk::close`].
    #[must_use]
    pub fn in_session(client: Client<Store>) -> Clerk {
        let session = Some(client.session());
        Clerk { client, session }
    }

    /// How it reaches the nodes.
    #[must_use]
    pub fn client(&self) -> &Client<Store> {
        &self.client
    }

    /// Ends its session, if it has one. A later write opens another.
    ///
    /// # Errors
    /// The nodes may remember the session until it ends by itself.
    pub async fn close(&self) -> Result<(), ClientError> {
        match &self.session {
            Some(session) => session.close().await,
            None => Ok(()),
        }
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
            Answer::Page(_) | Answer::Changes(_) | Answer::Lease(_) | Answer::About(_) => {
                Err(wrong_kind())
            }
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
            Answer::Value(_) | Answer::Changes(_) | Answer::Lease(_) | Answer::About(_) => {
                Err(wrong_kind())
            }
        }
    }

    /// The moment of the store's last change: what happens from the [next](Revision::next) on can be watched without a gap.
    ///
    /// # Errors
    /// There was no answer in time.
    pub async fn revision(&self) -> Result<Revision, ClientError> {
        Ok(self.scan("", None, 0).await?.revision)
    }

    /// What happens to the keys that begin with `prefix`, from the moment `from` on; `None`: from now on. Nothing is missed
    /// and nothing comes twice, whichever nodes fail meanwhile.
    ///
    /// # Errors
    /// There was no answer in time.
    pub async fn watch(&self, prefix: &str, from: Option<Revision>) -> Result<Watch, ClientError> {
        let from = match from {
            Some(from) => from,
            None => self.revision().await?.next(),
        };
        Ok(self.watch_from(prefix, Cursor::from(from)))
    }

    /// As [`Clerk::watch`], from where another one ended ([`Watch::cursor`]).
    #[must_use]
    pub fn watch_from(&self, prefix: &str, from: Cursor) -> Watch {
        Watch::new(self.client.clone(), prefix, from)
    }

    /// Writes `value` if `key` has `version` ([`Version::ABSENT`]: if it does not exist), and returns the new version. The
    /// key is tied to no lease from then on.
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
        error::put(self.carry_out(&command).await?)
    }

    /// Deletes `key` if it has `version`, or whatever its version, and returns the version that it had. Outside a session, one
    /// without a version is sent again only where it was definitely not carried out: somebody may have created the key since.
    ///
    /// # Errors
    /// [`DeleteError`]; each variant says whether the key may have been deleted.
    pub async fn delete(
        &self,
        key: &str,
        version: Option<Version>,
    ) -> Result<Version, DeleteError> {
        let command = Command::Delete { key: key.to_owned(), version };
        let answered = match (&self.session, version) {
            (None, None) => {
                Answered { response: self.client.propose(&command).await?, resent: false }
            }
            (Some(_), _) | (None, Some(_)) => self.carry_out(&command).await?,
        };
        error::delete(answered)
    }

    /// Makes all writes of the transaction at one moment, if all its conditions hold, and returns that moment. By versions,
    /// a transaction that is sent again may be made twice unless a condition refuses that.
    ///
    /// # Errors
    /// [`TransactError`]; each variant says whether the writes may have been made.
    pub async fn transact(&self, transaction: Transaction) -> Result<Revision, TransactError> {
        error::transact(self.carry_out(&Command::Transact(transaction)).await?)
    }

    /// Grants a lease, which ends when it is not [kept alive](Clerk::keep_alive) for `ttl`. The time that counts is the
    /// log's: it stands still while nobody leads, so a lease may last longer, but it does not end early.
    ///
    /// # Errors
    /// [`LeaseError`]. Where it may have been granted all the same, it ends by itself.
    pub async fn grant(&self, ttl: Duration) -> Result<LeaseId, LeaseError> {
        error::granted(&self.carry_out(&Command::Grant { ttl }).await?)
    }

    /// Lets a lease live for its whole time from now on, and returns that time. Whoever relies on the lease counts it
    /// from the moment *before* this call, on a clock of its own.
    ///
    /// # Errors
    /// [`LeaseError::NoLease`]: it has ended, and its keys are deleted.
    pub async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, LeaseError> {
        // Twice is as good as once, so no session need remember it.
        let command = Command::KeepAlive { lease };
        error::kept_alive(&self.client.propose_until_answered(&command).await?)
    }

    /// Ends a lease: its keys are deleted. One that has ended has ended.
    ///
    /// # Errors
    /// There was no answer in time.
    pub async fn revoke(&self, lease: LeaseId) -> Result<(), ClientError> {
        error::revoked(&self.client.propose_until_answered(&Command::Revoke { lease }).await?)
    }

    /// A lease, if it lives.
    ///
    /// # Errors
    /// There was no answer in time.
    pub async fn lease(&self, lease: LeaseId) -> Result<Option<LeaseInfo>, ClientError> {
        match self.client.query(&Query::Lease { lease }).await? {
            Answer::Lease(lease) => Ok(lease),
            Answer::Value(_) | Answer::Page(_) | Answer::Changes(_) | Answer::About(_) => {
                Err(wrong_kind())
            }
        }
    }

    async fn carry_out(&self, command: &Command) -> Result<Answered<Response>, ClientError> {
        match &self.session {
            // It was carried out once, however often it was sent.
            Some(session) => {
                let response = session.propose(command).await?;
                Ok(Answered { response, resent: false })
            }
            None => self.client.propose_until_answered(command).await,
        }
    }
}

/// Client and node are of different programs: what was asked for has been done.
fn wrong_kind() -> ClientError {
    ClientError::Unreadable { reason: "it answers another question".to_owned() }
}

impl std::fmt::Debug for Clerk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clerk").field("session", &self.session).finish_non_exhaustive()
    }
}
