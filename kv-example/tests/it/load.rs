//! Constant writes and linearizable reads, of which none may be lost, wrong or left open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use kv_example::clerk::{Clerk, PutError};
use kv_example::connect::{connect, within};
use kv_example::store::{Version, Versioned};

use crate::process::PATIENCE;

/// Clients, each with a key that nobody else writes, until it is told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
    clients: JoinHandle<()>,
}

impl Load {
    /// Starts `count` clients of `members`; further nodes they find by themselves.
    pub(crate) fn start(members: &str, count: usize) -> Load {
        let (stop, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (members, told, counted) = (members.to_owned(), Arc::clone(&stop), Arc::clone(&writes));
        let clients = std::thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let client = connect(&members.parse().unwrap(), within(PATIENCE)).unwrap();
                let clients = (0..count).map(|number| {
                    let clerk = Clerk::new(client.clone());
                    run(clerk, format!("load/{number}"), Arc::clone(&told), Arc::clone(&counted))
                });
                futures::future::join_all(clients).await;
            });
        });
        Load { stop, writes, clients }
    }

    /// How many writes were acknowledged.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// Ends it. It has failed if any request has.
    pub(crate) fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        if let Err(panic) = self.clients.join() {
            std::panic::resume_unwind(panic);
        }
        self.writes.load(Ordering::SeqCst)
    }
}

/// Counts a key up. Its version counts its writes, so it tells of one that is lost, and of one that is done twice.
async fn run(clerk: Clerk, key: String, stop: Arc<AtomicBool>, writes: Arc<AtomicU64>) {
    let mut version = Version::ABSENT;
    while !stop.load(Ordering::SeqCst) {
        let value = Bytes::from(version.0.to_string());
        let written = match clerk.put(&key, value.clone(), version).await {
            Ok(written) => written,
            // An answer was lost, and the write was sent again: nobody else has written.
            Err(PutError::Maybe) => Version(version.0 + 1),
            Err(error) => panic!("{key} at version {version}: {error}"),
        };
        assert_eq!(written, Version(version.0 + 1), "{key}");
        version = written;
        let found = clerk.get(&key).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        let found = found.map(|Versioned { version, value, .. }| (version, value));
        assert_eq!(found, Some((version, value)), "{key}");
        writes.fetch_add(1, Ordering::SeqCst);
    }
}
