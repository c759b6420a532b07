//! What clients do to the store in the simulator, and what they may be told.
//!
//! | to find | look in |
//! |---|---|
//! | reads, puts and deletes, by versions, in sessions and under names; transactions | here |
//! | leases and watches | `swarm/beside.rs` |
//! | what clients may be told of keys | `swarm/model.rs` |
//! | what they know when an operation has ended | `swarm/outcome.rs` |
//! | what must have happened, given the log | `swarm/oracle.rs`, and what is held against it `swarm/judge.rs` |

mod beside;
mod judge;
mod model;
mod oracle;
mod outcome;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use raft_rsm::{Client, ClientOptions, Options, Runtime, StateMachine};
use raft_sim::event::Digest;
use raft_sim::history::Ended;
use raft_sim::model::register::{self, VersionedStore};
use raft_sim::workload::{Factory, Session, ToldTo, Workload, command_failed};

use self::judge::Kept;
use self::model::TOGETHER;
pub use self::model::{Keys, Model as StoreModel, Reply, Request};
use self::outcome::{answered, deleted, of_key, transacted};
pub use self::outcome::{read, written};
use crate::clerk::{Clerk, Watch};
use crate::limits::Limits;
use crate::store::{
    Answer, Command, Condition, LeaseId, Query, Response, Store, Transaction, Version, Versioned,
    Write,
};

/// A client that wants its value written tries at most so often.
const ROUNDS_MAX: usize = 10;

/// Nodes remember so little of what has happened that watchers come too late at times.
const HISTORY_BYTES_MAX: usize = 16 * 1024;

/// Clients share so many sessions, so that there is more than one command under way in them.
const SESSIONS: u64 = 3;

/// An attempt of which there may be another one within an operation.
const BRIEFLY: Duration = Duration::from_secs(4);

/// Names are used only where they are remembered for longer than anybody tries.
const NAMES_REMEMBERED_MIN: Duration = Duration::from_secs(30);

/// The store of the swarm.
#[must_use]
pub fn store() -> Store {
    Store::new(Limits { history_bytes_max: HISTORY_BYTES_MAX, ..Limits::default() })
}

/// Clients of every kind: they get, scan, put and delete a few keys, by versions, in sessions and under names, make
/// transactions, hold leases and watch.
///
/// By versions, the clerk sends a write until it is answered, and trusts the versions to refuse what comes twice; but a
/// key that was deleted begins again at version 0, so that a write to it could be carried out twice. On keys that are
/// deleted, such writes are therefore sent once, but for deletions without a version, of which the clerk itself knows that.
/// In sessions everything is sent again.
pub struct Clerks<M = Store> {
    /// How many keys there are that are never deleted, and as many that are; at most 10 of each.
    pub keys: usize,
    /// The longest value, in bytes.
    pub value_bytes_max: usize,
    members: Mutex<BTreeMap<u64, Member>>,
    sessions: Mutex<BTreeMap<u64, Clerk>>,
    kept: Mutex<Kept>,
    machine: PhantomData<fn() -> M>,
}

impl<M> Default for Clerks<M> {
    /// Four keys of each kind, values of up to 100 bytes.
    fn default() -> Clerks<M> {
        Clerks {
            keys: 4,
            value_bytes_max: 100,
            members: Mutex::default(),
            sessions: Mutex::default(),
            kept: Mutex::default(),
            machine: PhantomData,
        }
    }
}

/// What a client has from one operation to the next.
struct Member {
    client: Client<Store>,
    clerk: Clerk,
    /// As the clerk, for operations that consist of several.
    brief: Clerk,
    /// Of one of the [`SESSIONS`].
    in_session: Clerk,
    may_use_names: bool,
    /// There is room for all sessions and their answers.
    is_roomy: bool,
    favourite: Kind,
    runtime: Arc<dyn Runtime>,
    lease: Option<LeaseId>,
    watching: Option<(usize, Watch)>,
}

/// What a client does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Kind {
    ByVersions,
    InSession,
    Transaction,
    Lease,
    Watch,
}

const KINDS: [Kind; 6] = [
    Kind::ByVersions,
    Kind::InSession,
    Kind::InSession,
    Kind::Transaction,
    Kind::Lease,
    Kind::Watch,
];

/// How a write reaches the store.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Way {
    /// As the clerk sends it without a session: until it is answered, where versions tell what came twice.
    ByVersions,
    /// Sent once.
    Once,
    InSession,
    /// Under a name, by two at the same time.
    Named(u64),
}

/// What the clients may be told of one key: a store in which values are compared by their digests.
pub type Model = VersionedStore<String, Digest>;

/// How an operation of one key ended for a client.
pub type Outcome = Ended<register::Reply<Digest>>;

/// Whatever does what the store does.
pub trait StoreMachine:
    StateMachine<Command = Command, Response = Response, Query = Query, Answer = Answer>
{
}

impl<M> StoreMachine for M where
    M: StateMachine<Command = Command, Response = Response, Query = Query, Answer = Answer>
{
}

#[async_trait]
impl<M: StoreMachine> Workload for Clerks<M> {
    type Machine = M;
    type Model = StoreModel;

    fn model(&self, _: &Factory<M>) -> StoreModel {
        StoreModel::default()
    }

    async fn operation(&self, session: &mut Session<Clerks<M>>) {
        let found = self.members().remove(&session.number());
        let mut member = match found {
            Some(member) => member,
            None => self.member(session),
        };
        let kind = match session.random().chance(0.5) {
            true => member.favourite,
            false => *session.random().choose(&KINDS),
        };
        if session.must_be_answered() {
            self.come_to_the_end(session, &mut member).await;
        }
        match kind {
            Kind::ByVersions => self.by_versions(session, &member).await,
            Kind::InSession => self.in_session(session, &member).await,
            Kind::Transaction => self.transaction(session, &member).await,
            Kind::Lease => self.lease(session, &mut member).await,
            Kind::Watch => self.watch(session, &mut member).await,
        }
        self.members().insert(session.number(), member);
    }

    fn judge(&self, told: &[ToldTo<M>]) -> Result<(), String> {
        self.kept().judge(told)
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        let kept = self.kept();
        kept.counts.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect()
    }

    /// The whole of it, as a snapshot has it.
    fn state(&self, machine: &M) -> Option<Digest> {
        let mut image = Vec::new();
        machine.snapshot().write_to(&mut image).ok()?;
        Some(Digest::of(&image))
    }
}

impl<M> Clerks<M> {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<u64, Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn member<W: StoreWorkload>(&self, session: &mut Session<W>) -> Member {
        let briefly = || client_of(session, Some(BRIEFLY));
        let (client, brief) = (client_of(session, None), briefly());
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let in_session = sessions
            .entry(session.number() % SESSIONS)
            .or_insert_with(|| Clerk::in_session(briefly()));
        Member {
            clerk: Clerk::new(client.clone()),
            client,
            brief: Clerk::new(brief),
            in_session: in_session.clone(),
            may_use_names: session
                .cluster()
                .all_allow(|options| options.name_age_max >= NAMES_REMEMBERED_MIN),
            is_roomy: session.cluster().all_allow(is_roomy),
            favourite: *session.random().choose(&KINDS),
            runtime: session.cluster().world_runtime(session.number()),
            lease: None,
            watching: None,
        }
    }

    async fn by_versions<W: StoreWorkload>(&self, session: &mut Session<W>, member: &Member) {
        let number = session.random().index(self.keys);
        if session.random().chance(0.3) {
            let key = format!("deleted/{number}");
            return self.create_or_delete(session, member, key, Way::Once).await;
        }
        let key = format!("kept/{number}");
        let Some(version) = self.read_version(session, member, &key).await else { return };
        let value = self.draw_value(session);
        match session.random().index(4) {
            0 => {}
            1 => self.put_until_written(session, member, &key, value, version).await,
            _ => {
                self.write(session, member, Way::ByVersions, put(&key, value, version)).await;
            }
        }
    }

    /// Deletes and re-creations are sent again, too.
    async fn in_session<W: StoreWorkload>(&self, session: &mut Session<W>, member: &Member) {
        if session.random().chance(0.03) {
            // Others may have commands under way in it.
            let close = async {
                // If nobody hears of it, it ends by itself.
                let _ = member.in_session.close().await;
                DONE
            };
            session.record(Request::Beside("close"), close).await;
            return;
        }
        let way = match member.may_use_names && session.random().chance(0.25) {
            _ if !may_be_in_session(session, member) => Way::Once,
            true => Way::Named(session.random().next()),
            false => Way::InSession,
        };
        let number = session.random().index(self.keys);
        if session.random().chance(0.5) {
            return self.create_or_delete(session, member, format!("deleted/{number}"), way).await;
        }
        let key = format!("kept/{number}");
        let Some(version) = self.read_version(session, member, &key).await else { return };
        let value = self.draw_value(session);
        self.write(session, member, way, put(&key, value, version)).await;
    }

    /// If nobody has changed some of what was read together, then some of it is written together.
    async fn transaction<W: StoreWorkload>(&self, session: &mut Session<W>, member: &Member) {
        let clerk = &member.clerk;
        let call = async {
            match clerk.scan(TOGETHER, None, u32::MAX).await {
                Ok(page) => Ended::Answered(Reply::Together(digests(page.entries))),
                Err(_) => Ended::Failed,
            }
        };
        let found = session.record(Request::ReadTogether, call).await;
        let Ended::Answered(Reply::Together(found)) = found else { return };
        let mut transaction = Transaction::default();
        for number in 0..self.keys {
            let key = format!("{TOGETHER}{number}");
            let version = found.get(&key).map_or(0, |(version, _)| *version);
            if session.random().chance(0.5) {
                let version = Version(version);
                transaction.conditions.push(Condition { key: key.clone(), version });
            }
            match session.random().index(4) {
                0 => transaction.writes.push(Write::Delete { key }),
                1 | 2 => {
                    let value = self.draw_value(session);
                    transaction.writes.push(Write::Put { key, value, lease: None });
                }
                _ => {}
            }
        }
        let way = *session.random().choose(&[Way::Once, Way::InSession, Way::InSession]);
        let way = if may_be_in_session(session, member) { way } else { Way::Once };
        self.write(session, member, way, Command::Transact(transaction)).await;
        if session.random().chance(0.3) {
            self.set(session, member, &found).await;
        }
    }

    /// A key of the transactions alone, mostly whatever it holds: that nothing would refuse if it came twice, but its name.
    async fn set<W: StoreWorkload>(&self, session: &mut Session<W>, member: &Member, found: &Keys) {
        let key = format!("{TOGETHER}{}", session.random().index(self.keys));
        let current = found.get(&key).map_or(0, |(version, _)| *version);
        let version = session.random().chance(0.3).then_some(Version(current));
        let value = self.draw_value(session);
        let way = match member.may_use_names && may_be_in_session(session, member) {
            true => Way::Named(session.random().next()),
            false => Way::Once,
        };
        self.write(session, member, way, Command::Set { key, value, version, lease: None }).await;
    }

    async fn create_or_delete<W: StoreWorkload>(
        &self,
        session: &mut Session<W>,
        member: &Member,
        key: String,
        way: Way,
    ) {
        let Some(version) = self.read_version(session, member, &key).await else { return };
        let value = self.draw_value(session);
        let (way, command) = match (session.random().index(4), way) {
            (0, Way::Once) => (Way::ByVersions, Command::Delete { key, version: None }),
            (0, _) => (way, Command::Delete { key, version: None }),
            (1, _) => (way, Command::Delete { key, version: Some(version) }),
            (_, _) => (way, put(&key, value, version)),
        };
        self.write(session, member, way, command).await;
    }

    /// Puts at the version that it believes in, then gets, until the put is done or may be.
    async fn put_until_written<W: StoreWorkload>(
        &self,
        session: &mut Session<W>,
        member: &Member,
        key: &str,
        value: Bytes,
        believed: Version,
    ) {
        let mut version = believed;
        for _ in 0..ROUNDS_MAX {
            let command = put(key, value.clone(), version);
            let is_refused = match self.write(session, member, Way::ByVersions, command).await {
                Ended::Answered(Reply::Key(register::Reply::Written { .. }))
                | Ended::Maybe
                | Ended::Failed => false,
                Ended::Answered(_) => true,
            };
            let found = self.read_version(session, member, key).await;
            match found.filter(|_| is_refused) {
                Some(current) => version = current,
                None => return,
            }
        }
    }

    /// The version of a key that was read; `None` if there was no answer. A scan for the keys that begin with the key
    /// answers what a get would: there is no other one.
    async fn read_version<W: StoreWorkload>(
        &self,
        session: &mut Session<W>,
        member: &Member,
        key: &str,
    ) -> Option<Version> {
        let scans = session.random().chance(0.2);
        let call = async {
            let found =
                match scans {
                    true => member.clerk.scan(key, None, 1).await.map(|page| {
                        page.entries.into_iter().next().map(|(_, versioned)| versioned)
                    }),
                    false => member.clerk.get(key).await,
                };
            of_key(read(found))
        };
        let request = register::Request::Get { key: key.to_owned() };
        match session.record(Request::Key(request), call).await {
            Ended::Answered(Reply::Key(register::Reply::Value(found))) => {
                Some(Version(found.map_or(0, |(version, _)| version)))
            }
            Ended::Answered(_) | Ended::Maybe | Ended::Failed => None,
        }
    }

    async fn write<W: StoreWorkload>(
        &self,
        session: &mut Session<W>,
        member: &Member,
        way: Way,
        command: Command,
    ) -> Ended<Reply> {
        let request = match &command {
            Command::Put { key, value, version } => Request::Key(register::Request::Put {
                key: key.clone(),
                value: Digest::of(value),
                version: version.0,
            }),
            Command::Delete { key, version } => Request::Key(register::Request::Delete {
                key: key.clone(),
                version: version.map(|version| version.0),
            }),
            Command::Transact(transaction) => Request::transact(transaction),
            Command::Set { key, value, version, .. } => Request::set(key, value, *version),
            Command::Grant { .. } | Command::KeepAlive { .. } | Command::Revoke { .. } => {
                return Ended::Failed;
            }
        };
        let call = async {
            match (self.carry_out(member, way, &command).await, &command) {
                (Ended::Answered(reply), Command::Set { key, .. }) => {
                    Ended::Answered(Reply::of_set(reply, key))
                }
                (ended, _) => ended,
            }
        };
        session.record(request, call).await
    }

    async fn carry_out(&self, member: &Member, way: Way, command: &Command) -> Ended<Reply> {
        let ended = match way {
            Way::ByVersions => return by_clerk(&member.clerk, command.clone()).await,
            Way::Once => return once(&member.client, command).await,
            Way::InSession => by_clerk(&member.in_session, command.clone()).await,
            Way::Named(name) => self.named(member, name, command).await,
        };
        self.kept().count(match (&ended, command) {
            (Ended::Answered(_), Command::Set { .. }) => "set exactly once",
            (Ended::Answered(_), _) => "exactly once",
            (Ended::Maybe, _) => "maybe in a session",
            (Ended::Failed, _) => "no room for a session",
        });
        // There may be no room for a session: then it is known that it was not done.
        match ended {
            Ended::Failed => once(member.brief.client(), command).await,
            ended @ (Ended::Answered(_) | Ended::Maybe) => ended,
        }
    }

    /// All who send a command under one name have the same answer.
    async fn named(&self, member: &Member, name: u64, command: &Command) -> Ended<Reply> {
        let (name, client) = (name.to_le_bytes(), member.brief.client());
        let (one, other) = futures::join!(
            client.propose_once(&name, command),
            client.propose_once(&name, command)
        );
        match (one, other) {
            (Ok(one), Ok(other)) if one != other => {
                let problem = format!("{command:?} was answered by {one:?} and by {other:?}");
                self.kept().problem.get_or_insert(problem);
                Ended::Maybe
            }
            (Ok(response), _) | (_, Ok(response)) => answered(response),
            (Err(one), Err(other)) => {
                let is_open = one.may_take_effect() || other.may_take_effect();
                if is_open { Ended::Maybe } else { Ended::Failed }
            }
        }
    }

    /// No two values of a run are alike.
    fn draw_value<W: StoreWorkload>(&self, session: &mut Session<W>) -> Bytes {
        let mut value = vec![0; session.random().index(self.value_bytes_max + 1)];
        value.extend_from_slice(&session.number().to_le_bytes());
        value.extend_from_slice(&session.begun().to_le_bytes());
        value.extend_from_slice(&session.random().next().to_le_bytes());
        value.into()
    }
}

/// Whatever has clients of the store.
trait StoreWorkload: Workload<Machine: StoreMachine, Model = StoreModel> {}

impl<W: Workload<Machine: StoreMachine, Model = StoreModel>> StoreWorkload for W {}

const DONE: Ended<Reply> = Ended::Answered(Reply::Done);

/// Whether 15 clients, who share a few sessions, find room for all that they have under way, and for all names.
fn is_roomy(options: &Options) -> bool {
    options.sessions_max >= 1000
        && options.session_bytes_max >= 100_000
        && options.names_max >= 1000
        && options.name_bytes_max >= 100_000
}

/// Where there is no room, a command ends at its deadline, and then nobody knows of the last transmission.
fn may_be_in_session<W: StoreWorkload>(session: &Session<W>, member: &Member) -> bool {
    member.is_roomy || !session.must_be_answered()
}

/// What is spoken is the store's language, whatever the machine.
fn client_of<W: StoreWorkload>(session: &Session<W>, deadline: Option<Duration>) -> Client<Store> {
    let mut options = ClientOptions::default();
    options.deadline = deadline.unwrap_or(options.deadline);
    let connector = Arc::clone(session.client().connector());
    let runtime = session.cluster().world_runtime(session.number());
    Client::new(connector, runtime, options)
}

fn put(key: &str, value: Bytes, version: Version) -> Command {
    Command::Put { key: key.to_owned(), value, version }
}

fn digests(entries: Vec<(String, Versioned)>) -> Keys {
    let digest = |(key, versioned): (String, Versioned)| {
        (key, (versioned.version.0, Digest::of(&versioned.value)))
    };
    entries.into_iter().map(digest).collect()
}

async fn by_clerk(clerk: &Clerk, command: Command) -> Ended<Reply> {
    match command {
        Command::Put { key, value, version } => {
            of_key(written(clerk.put(&key, value, version).await))
        }
        Command::Delete { key, version } => of_key(deleted(clerk.delete(&key, version).await)),
        Command::Transact(transaction) => transacted(clerk.transact(transaction).await),
        Command::Set { .. }
        | Command::Grant { .. }
        | Command::KeepAlive { .. }
        | Command::Revoke { .. } => Ended::Failed,
    }
}

async fn once(client: &Client<Store>, command: &Command) -> Ended<Reply> {
    match client.propose(command).await {
        Ok(response) => answered(response),
        Err(error) => command_failed(&error),
    }
}

impl<M> std::fmt::Debug for Clerks<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clerks").field("keys", &self.keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
