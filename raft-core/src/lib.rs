//! The Raft consensus protocol as a value.
#![no_std]
extern crate alloc;

mod append;
mod applying;
mod configuration;
mod disk;
mod effects;
mod election;
mod entries;
mod entry;
mod error;
mod input;
mod leader;
mod log;
mod message;
mod node;
mod options;
mod progress;
mod quorum;
mod random;
mod receive;
mod snapshot;
mod status;
mod term_runs;

pub use configuration::Configuration;
pub use effects::{Applies, Effects, Fetch, FetchId, HardState, SendSnapshot, Write, WriteId};
pub use entries::Entries;
pub use entry::{Entry, EntryId, LogIndex, NodeId, Payload, Term};
pub use error::{ProposeError, RestoreError};
pub use input::{Fetched, Input, Restored, SnapshotMeta, SnapshotOutcome};
pub use message::{AppendOutcome, Envelope, Message};
pub use node::Node;
pub use options::{Limits, Options};
pub use status::{Counters, PeerStatus, Replication, Role, Status};
pub use term_runs::TermRuns;
