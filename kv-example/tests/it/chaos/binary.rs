//! Clients that speak the binary protocol: the program's own `bench`, and clerks in sessions.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use kv_example::clerk::Clerk;
use kv_example::connect::{connect, within};
use kv_example::store::{Transaction, Write};

use super::{Chaos, KEYS, ONCE, READERS_AND_WRITERS, seconds};
use crate::process::{PATIENCE, PROGRAM, Ran};

/// Runs `bench` for as long as it goes on; returns what it says.
pub(super) fn bench(chaos: &Chaos, history: &Path) -> serde_json::Value {
    let members = chaos.cluster().members.clone();
    let (clients, keys) = (READERS_AND_WRITERS.to_string(), KEYS.to_string());
    let seconds = seconds().as_secs_f64().to_string();
    let mut command = Command::new(PROGRAM);
    command.args([
        "bench",
        "--cluster",
        &members,
        "--clients",
        &clients,
        "--keys",
        &keys,
        "--values",
        "64",
        "--reads",
        "50",
        "--seconds",
        &seconds,
        "--history",
        history.to_str().unwrap(),
        "--json",
    ]);
    let ran = Ran::within(&mut command, PATIENCE + super::seconds());
    serde_json::from_slice(&ran.ok().stdout).unwrap()
}

/// Writes new keys, each in a transaction without conditions; returns those that were acknowledged.
pub(super) fn write_once(chaos: &Chaos) -> Vec<String> {
    let members = chaos.cluster().members.parse().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let writers = (0..ONCE).map(|number| {
            let clerk = Clerk::in_session(connect(&members, within(PATIENCE)).unwrap());
            write(chaos, clerk, number)
        });
        futures::future::join_all(writers).await.concat()
    })
}

async fn write(chaos: &Chaos, clerk: Clerk, number: u32) -> Vec<String> {
    let mut written = Vec::new();
    while chaos.goes_on() {
        let key = format!("once/{number}/{}", written.len());
        let write = Write::Put { key: key.clone(), value: Bytes::from("v"), lease: None };
        let transaction = Transaction { conditions: Vec::new(), writes: vec![write] };
        clerk.transact(transaction).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        written.push(key);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    written
}
