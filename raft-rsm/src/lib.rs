//! A replicated state machine on [`raft_core`].

mod applier;
mod client;
mod driver;
mod entry_codec;
mod error;
mod identity;
mod image;
mod net;
mod options;
mod payload;
mod protocol;
mod raft;
pub mod runtime;
mod server;
mod state_machine;
mod status;
pub mod storage;
mod tasks;
pub mod testing;
pub mod transport;
mod watch;

pub use client::{Answered, Client, ClientError, ClientOptions};
pub use error::{ProposeError, QueryError, SnapshotError, StartError, StopReason, Uncertain};
pub use identity::{Cluster, ClusterId, Identity, Incarnation, ParseClusterError};
pub use options::Options;
pub use raft::Raft;
pub use raft_core;
pub use runtime::Runtime;
pub use state_machine::{Admission, Context, SnapshotView, StateMachine};
pub use status::{Refused, Status, StatusChanges};
pub use storage::Storage;
pub use transport::Transport;
