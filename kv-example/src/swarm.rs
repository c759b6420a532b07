//! What clients do to the store in the simulator, and what they may be told.

use async_trait::async_trait;
use bytes::Bytes;
use raft_rsm::ClientError;
use raft_sim::event::Digest;
use raft_sim::history::Ended;
use raft_sim::model::register::{Reply, Request, VersionedStore};
use raft_sim::workload::{Factory, Session, Workload, command_failed};

use crate::clerk::{Clerk, PutError};
use crate::store::{Command, Response, Store, Version, Versioned};

/// A client that wants its value written tries at most so often.
const ROUNDS_MAX: usize = 10;

/// Clients that get, scan, put and delete a few keys.
///
/// All but deletes goes through the real [`Clerk`], on keys that are never deleted. The clerk sends a write until it
/// is answered, and trusts the versions to refuse what comes twice; but a key that was deleted begins again at
/// version 0, so that a write to it could be carried out twice. On a second set of keys, puts and deletes are therefore
/// sent once.
#[derive(Clone, Debug)]
pub struct Clerks {
    /// How many keys there are that are never deleted, and as many that are; at most 10 of each.
    pub keys: usize,
    /// The longest value, in bytes.
    pub value_bytes_max: usize,
}

impl Default for Clerks {
    /// Four keys of each kind, values of up to 100 bytes.
    fn default() -> Clerks {
        Clerks { keys: 4, value_bytes_max: 100 }
    }
}

/// What the clients may be told: a store in which values are compared by their digests.
pub type Model = VersionedStore<String, Digest>;

/// How an operation ended for a client.
pub type Outcome = Ended<Reply<Digest>>;

#[async_trait]
impl Workload for Clerks {
    type Machine = Store;
    type Model = Model;

    fn model(&self, _: &Factory<Store>) -> Model {
        VersionedStore::new()
    }

    async fn operation(&self, session: &mut Session<Clerks>) {
        let number = session.random().index(self.keys);
        if session.random().chance(0.3) {
            let key = format!("deleted/{number}");
            return self.create_or_delete(session, key).await;
        }
        let key = format!("kept/{number}");
        let found = if session.random().chance(0.2) {
            scan(session, &key).await
        } else {
            get(session, &key).await
        };
        let Some(version) = version_of(&found) else { return };
        let value = self.draw_value(session);
        match session.random().index(4) {
            0 => {}
            1 => put_until_written(session, &key, value, version).await,
            _ => {
                put(session, &key, value, version).await;
            }
        }
    }
}

impl Clerks {
    async fn create_or_delete(&self, session: &mut Session<Clerks>, key: String) {
        let found = get(session, &key).await;
        let Some(version) = version_of(&found) else { return };
        let value = self.draw_value(session);
        let command = match session.random().index(4) {
            0 => Command::Delete { key, version: None },
            1 => Command::Delete { key, version: Some(version) },
            _ => Command::Put { key, value, version },
        };
        send_once(session, command).await;
    }

    /// No two values of a run are alike.
    fn draw_value(&self, session: &mut Session<Clerks>) -> Bytes {
        let mut value = vec![0; session.random().index(self.value_bytes_max + 1)];
        value.extend_from_slice(&session.number().to_le_bytes());
        value.extend_from_slice(&session.begun().to_le_bytes());
        value.into()
    }
}

/// Whatever has clients of the store.
trait StoreWorkload: Workload<Machine = Store, Model = Model> {}

impl<W: Workload<Machine = Store, Model = Model>> StoreWorkload for W {}

/// Of a key that was read; `None` if there was no answer.
fn version_of(found: &Outcome) -> Option<Version> {
    match found {
        Ended::Answered(Reply::Value(found)) => {
            Some(Version(found.as_ref().map_or(0, |(version, _)| *version)))
        }
        Ended::Answered(_) | Ended::Maybe | Ended::Failed => None,
    }
}

async fn get<W: StoreWorkload>(session: &mut Session<W>, key: &str) -> Outcome {
    let clerk = Clerk::new(session.client());
    let call = async { read(clerk.get(key).await) };
    session.record(Request::Get { key: key.to_owned() }, call).await
}

/// A scan for the keys that begin with `key`: there is no other one, so it answers what a get would.
async fn scan<W: StoreWorkload>(session: &mut Session<W>, key: &str) -> Outcome {
    let clerk = Clerk::new(session.client());
    let call = async {
        let page = clerk.scan(key, None, 1).await;
        read(page.map(|page| page.entries.into_iter().next().map(|(_, versioned)| versioned)))
    };
    session.record(Request::Get { key: key.to_owned() }, call).await
}

/// Puts at the version that it believes in, then gets, until the put is done or may be.
async fn put_until_written(
    session: &mut Session<Clerks>,
    key: &str,
    value: Bytes,
    believed: Version,
) {
    let mut version = believed;
    for _ in 0..ROUNDS_MAX {
        let is_refused = match put(session, key, value.clone(), version).await {
            Ended::Answered(Reply::Written { .. }) | Ended::Maybe | Ended::Failed => false,
            Ended::Answered(_) => true,
        };
        let found = get(session, key).await;
        match version_of(&found).filter(|_| is_refused) {
            Some(current) => version = current,
            None => return,
        }
    }
}

async fn put<W: StoreWorkload>(
    session: &mut Session<W>,
    key: &str,
    value: Bytes,
    version: Version,
) -> Outcome {
    let clerk = Clerk::new(session.client());
    let request = put_request(key, &value, version);
    session.record(request, async { written(clerk.put(key, value, version).await) }).await
}

async fn send_once(session: &mut Session<Clerks>, command: Command) -> Outcome {
    let client = session.client();
    let request = match &command {
        Command::Put { key, value, version } => put_request(key, value, *version),
        Command::Delete { key, version } => {
            Request::Delete { key: key.clone(), version: version.map(|version| version.0) }
        }
        Command::Transact(_)
        | Command::Grant { .. }
        | Command::KeepAlive { .. }
        | Command::Revoke { .. }
        | Command::Set { .. } => return Ended::Failed,
    };
    let proposed = client.propose(&command);
    session.record(request, async { carried_out(proposed.await) }).await
}

fn put_request(key: &str, value: &[u8], version: Version) -> Request<String, Digest> {
    Request::Put { key: key.to_owned(), value: Digest::of(value), version: version.0 }
}

/// What a client knows after a read. It has changed nothing, whatever went wrong.
#[must_use]
pub fn read(found: Result<Option<Versioned>, ClientError>) -> Outcome {
    match found {
        Ok(found) => {
            let value = |versioned: Versioned| (versioned.version.0, Digest::of(&versioned.value));
            Ended::Answered(Reply::Value(found.map(value)))
        }
        Err(_) => Ended::Failed,
    }
}

/// What a client knows after a put of the clerk.
#[must_use]
pub fn written(put: Result<Version, PutError>) -> Outcome {
    match put {
        Ok(version) => Ended::Answered(Reply::Written { version: version.0 }),
        Err(PutError::VersionMismatch { current }) => {
            Ended::Answered(Reply::VersionMismatch { current: current.0 })
        }
        Err(PutError::NoKey) => Ended::Answered(Reply::NoKey),
        Err(PutError::Maybe) => Ended::Maybe,
        Err(PutError::Client(error)) => command_failed(&error),
    }
}

/// What a client knows after a command that it sent once.
fn carried_out(response: Result<Response, ClientError>) -> Outcome {
    match response {
        Ok(Response::Written { version }) => Ended::Answered(Reply::Written { version: version.0 }),
        Ok(Response::Deleted { version }) => Ended::Answered(Reply::Deleted { version: version.0 }),
        Ok(Response::VersionMismatch { current }) => {
            Ended::Answered(Reply::VersionMismatch { current: current.0 })
        }
        Ok(Response::NoKey) => Ended::Answered(Reply::NoKey),
        Ok(
            Response::Committed { .. }
            | Response::ConditionFailed { .. }
            | Response::Granted { .. }
            | Response::KeptAlive { .. }
            | Response::Revoked
            | Response::NoLease
            | Response::TooMany,
        ) => Ended::Maybe,
        Err(error) => command_failed(&error),
    }
}

#[cfg(test)]
mod tests {
    use raft_sim::{Failure, Simulation};

    use super::*;

    /// Clients that take a maybe for a no.
    struct Overconfident;

    #[async_trait]
    impl Workload for Overconfident {
        type Machine = Store;
        type Model = Model;

        fn model(&self, _: &Factory<Store>) -> Model {
            VersionedStore::new()
        }

        async fn operation(&self, session: &mut Session<Overconfident>) {
            let found = get(session, "k").await;
            let Some(version) = version_of(&found) else { return };
            let value = Bytes::from(format!("{}/{}", session.number(), session.begun()));
            let (clerk, request) =
                (Clerk::new(session.client()), put_request("k", &value, version));
            let call = async {
                match written(clerk.put("k", value, version).await) {
                    Ended::Maybe => Ended::Failed,
                    told @ (Ended::Answered(_) | Ended::Failed) => told,
                }
            };
            session.record(request, call).await;
        }
    }

    #[test]
    fn clusters_of_the_store_survive_whatever_the_seeds_say() {
        for seed in 0..20 {
            let run = Simulation::new(seed).machine(Store::default).workload(Clerks::default());
            let report = run.run().unwrap_or_else(|failure| panic!("{failure}"));
            assert!(report.counts.calls_answered > 0);
        }
    }

    #[test]
    fn clients_that_take_a_maybe_for_a_no_are_found_out() {
        let is_found_out = |seed| {
            let run = Simulation::new(seed).machine(Store::default).workload(Overconfident);
            match run.run() {
                Err(Failure::Violated(violated)) => {
                    assert_eq!(violated.violation.checker, "linearizability");
                    true
                }
                Ok(_) | Err(_) => false,
            }
        };
        assert!((0..20).any(is_found_out));
    }
}
