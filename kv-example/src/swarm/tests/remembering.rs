//! Tables of sessions as they must not be, each in a machine of its own around the store; its clients send everything again
//! until it is answered, and rely on the table.

use std::io::{self, Read};

use raft_rsm::{Context, SnapshotView};

use super::*;

/// What is wrong with the table.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// It is not in the snapshot.
    NotInSnapshot,
    /// When it is full, it forgets the oldest client.
    EvictsTheOldest,
}

/// So many clients are remembered, where some are forgotten.
const CLIENTS_MAX: usize = 2;

/// A client, the number of its command, and what was answered.
type Remembered = (u64, u64, Response);

struct Remembering {
    store: Store,
    fault: Fault,
    /// The last answer of each client, the oldest first.
    table: Vec<Remembered>,
}

fn remembering(fault: Fault) -> impl Fn() -> Remembering + Send + Sync + Copy + 'static {
    move || Remembering { store: store(), fault, table: Vec::new() }
}

impl StateMachine for Remembering {
    type Command = (u64, u64, Command);
    type Response = Response;
    type Query = Query;
    type Answer = Answer;

    fn apply(&mut self, context: &Context, command: (u64, u64, Command)) -> Response {
        let (client, number, command) = command;
        if let Some((_, last, response)) = self.table.iter().find(|(other, ..)| *other == client)
            && *last >= number
        {
            return response.clone();
        }
        let response = self.store.apply(context, command);
        self.table.retain(|(other, ..)| *other != client);
        self.table.push((client, number, response.clone()));
        if self.fault == Fault::EvictsTheOldest && self.table.len() > CLIENTS_MAX {
            self.table.remove(0);
        }
        response
    }

    fn advance(&mut self, context: &Context) {
        self.store.advance(context);
    }

    fn query(&self, query: Query) -> Answer {
        self.store.query(query)
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        let store = self.store.snapshot();
        let table = match self.fault {
            Fault::NotInSnapshot => Vec::new(),
            Fault::None | Fault::EvictsTheOldest => self.table.clone(),
        };
        Box::new(move |image: &mut dyn io::Write| {
            let table = postcard::to_allocvec(&table).map_err(io::Error::other)?;
            image.write_all(&(table.len() as u64).to_le_bytes())?;
            image.write_all(&table)?;
            store.write_to(image)
        })
    }

    fn restore(&mut self, image: &mut dyn Read) -> io::Result<()> {
        let mut len = [0; 8];
        image.read_exact(&mut len)?;
        let mut table = Vec::new();
        image.take(u64::from_le_bytes(len)).read_to_end(&mut table)?;
        self.table = postcard::from_bytes(&table).map_err(io::Error::other)?;
        self.store.restore(image)
    }
}

/// Clients that put and delete, and trust the table.
#[derive(Default)]
struct Trusting;

#[async_trait]
impl Workload for Trusting {
    type Machine = Remembering;
    type Model = StoreModel;

    fn model(&self, _: &Factory<Remembering>) -> StoreModel {
        StoreModel::default()
    }

    async fn operation(&self, session: &mut Session<Trusting>) {
        let key = format!("k{}", session.random().index(2));
        let client = session.client();
        let get = register::Request::Get { key: key.clone() };
        let found = session.record(Request::Key(get), async {
            match client.query(&Query::Get { key: key.clone() }).await {
                Ok(Answer::Value(found)) => of_key(read(Ok(found))),
                Ok(_) | Err(_) => Ended::Failed,
            }
        });
        let Ended::Answered(Reply::Key(register::Reply::Value(found))) = found.await else {
            return;
        };
        let version = found.map_or(0, |(version, _)| version);
        let value = Bytes::from(format!("{}/{}", session.number(), session.begun()));
        let (command, request) = if version > 0 && session.random().chance(0.5) {
            let version = Some(version);
            let request = register::Request::Delete { key: key.clone(), version };
            (Command::Delete { key, version: version.map(Version) }, request)
        } else {
            let digest = Digest::of(&value);
            let request = register::Request::Put { key: key.clone(), value: digest, version };
            (put(&key, value, Version(version)), request)
        };
        let command = (session.number(), session.begun(), command);
        let call = async {
            match client.propose_until_answered(&command).await {
                Ok(told) => answered(told.response),
                Err(error) => command_failed(&error),
            }
        };
        session.record(Request::Key(request), call).await;
    }
}

#[test]
fn a_table_as_it_must_be_does_no_harm() {
    // What its clients send again is taken for several transmissions.
    for seed in 0..20 {
        let run = Simulation::new(seed).bounds(bounds()).machine(remembering(Fault::None));
        run.workload(Trusting).run().unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn a_table_of_sessions_that_is_left_out_of_the_snapshot_is_found() {
    let first = ["state machine safety", "linearizability", "same state"];
    let violated = found(remembering(Fault::NotInSnapshot), Trusting::default, None);
    assert!(first.contains(&&*violated.violation.checker), "{violated}");
    let alone =
        found(remembering(Fault::NotInSnapshot), Trusting::default, Some("linearizability"));
    assert_eq!(alone.violation.checker, "linearizability");
}

#[test]
fn a_table_of_sessions_that_evicts_the_oldest_when_it_is_full_is_found() {
    let violated = found(remembering(Fault::EvictsTheOldest), Trusting::default, None);
    assert_eq!(violated.violation.checker, "linearizability");
}
