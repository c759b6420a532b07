//! A replicated state machine on [`raft_core`].

mod entry_codec;
mod identity;
pub mod runtime;
mod state_machine;
pub mod storage;
pub mod testing;
pub mod transport;

pub use identity::{Cluster, ClusterId, Identity, Incarnation, ParseClusterError};
pub use raft_core;
pub use runtime::Runtime;
pub use state_machine::{Context, SnapshotView, StateMachine};
pub use storage::Storage;
pub use transport::Transport;
