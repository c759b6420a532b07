//! A replicated state machine on [`raft_core`].
//!
//! A service is a [`StateMachine`]; this crate replicates it, keeps it on disk, and brings clients to its leader.
//! Here is a replicated counter, whole, with three replicas in one process for once:
//!
//! ```
//! use std::io::{self, Read, Write};
//!
//! use raft_rsm::raft_core::NodeId;
//! use raft_rsm::{Begin, Cluster, Context, SnapshotView, StateMachine, block_on, connect, serve};
//!
//! struct Counter(u64);
//!
//! impl StateMachine for Counter {
//!     type Command = u64;
//!     type Response = u64;
//!     type Query = ();
//!     type Answer = u64;
//!
//!     fn apply(&mut self, _: &Context, add: u64) -> u64 {
//!         self.0 += add;
//!         self.0
//!     }
//!     fn query(&self, (): ()) -> u64 {
//!         self.0
//!     }
//!     fn snapshot(&self) -> Box<dyn SnapshotView> {
//!         let image = self.0.to_le_bytes();
//!         Box::new(move |to: &mut dyn Write| to.write_all(&image))
//!     }
//!     fn restore(&mut self, image: &mut dyn Read) -> io::Result<()> {
//!         let mut value = [0; 8];
//!         image.read_exact(&mut value)?;
//!         self.0 = u64::from_le_bytes(value);
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let data = "/var/lib/counter";
//!     let cluster = "1=127.0.0.1:7101,2=127.0.0.1:7102,3=127.0.0.1:7103";
//! #   let data = tempfile::tempdir()?;
//! #   let data = data.path().display();
//! #   let bind = || std::net::TcpListener::bind("127.0.0.1:0");
//! #   let free = [bind()?, bind()?, bind()?];
//! #   let [a, b, c] = free.each_ref().map(|free| free.local_addr());
//! #   let cluster = format!("1={},2={},3={}", a?, b?, c?);
//! #   drop(free);
//!     let cluster: Cluster = cluster.parse()?;
//!     for id in 1..=3 {
//!         block_on(serve(&cluster, NodeId(id), format!("{data}/{id}"), Begin::Anew, Counter(0)))?;
//!     }
//!     let client = connect::<Counter>(&cluster);
//!     println!("now {}", block_on(client.propose(&5))?);
//!     assert_eq!(block_on(client.query(&()))?, 5);
//!     Ok(())
//! }
//! ```

mod applier;
mod client;
mod configuration_codec;
mod consistency;
mod driver;
mod entry_codec;
mod error;
mod identity;
mod image;
mod join;
mod membership;
mod net;
#[cfg(test)]
mod nothing;
mod options;
mod payload;
mod protocol;
mod raft;
pub mod runtime;
mod serve;
mod server;
mod sessions;
mod state_machine;
mod status;
pub mod storage;
mod tasks;
pub mod testing;
pub mod transport;
mod watch;
pub mod wire;

pub use client::{Answered, Client, ClientError, ClientOptions, Session};
pub use consistency::Consistency;
pub use error::{
    MembershipError, ProposeError, QueryError, SnapshotError, StartError, StopReason,
    TransferError, Uncertain,
};
/// Runs a future on the calling thread, for those who have no executor of their own.
pub use futures::executor::block_on;
pub use identity::{Cluster, ClusterId, Identity, Incarnation, ParseClusterError, check_address};
pub use join::{JoinError, cluster_to_join};
pub use membership::MembershipChange;
pub use options::Options;
pub use raft::Raft;
pub use raft_core;
pub use runtime::Runtime;
pub use serve::{Begin, ServeError, connect, serve};
pub use sessions::{IN_FLIGHT_MAX, ONCE_KEY_BYTES_MAX, SessionId, SessionRequest};
pub use state_machine::{Admission, Context, SnapshotView, StateMachine};
pub use status::{Divergence, Refused, Remembered, Status, StatusChanges, TableStatus};
pub use storage::Storage;
pub use transport::Transport;

/// The examples of the workspace's README are tested.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeExamples;
