//! The Raft consensus protocol as a value.
#![no_std]
extern crate alloc;

mod configuration;
mod effects;
mod entry;
mod input;
mod message;
mod node;
mod options;
mod term_runs;

pub use configuration::Configuration;
pub use effects::{Applies, Effects, Fetch, FetchId, HardState, SendSnapshot, Write, WriteId};
pub use entry::{Entry, EntryId, LogIndex, NodeId, Payload, Term};
pub use input::{Fetched, Input, Restored, SnapshotMeta, SnapshotOutcome};
pub use message::{AppendOutcome, Envelope, Message};
pub use node::{Node, ProposeError, RestoreError, Role};
pub use options::{Limits, Options};
pub use term_runs::TermRuns;
