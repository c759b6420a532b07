//! The Raft consensus protocol as a value: facts go in, effects come out.
//!
//! A [`Node`] is one replica of one group. Its methods are of four kinds:
//!
//! - **getters** tell what it knows ([`Node::role`], [`Node::commit`], [`Node::status`], ...);
//! - **facts** go in by [`Node::step`], which cannot fail: the time, a message, a write that is durable;
//! - **requests** are methods with an error of their own ([`Node::propose`]): an error means that nothing happened and
//!   nothing will;
//! - **effects** come out of [`Node::drain`]: what to write, send, apply, read.
//!
//! There is no I/O, clock, thread, lock, async, callback or global in this crate, and no storage trait. A driver takes
//! all inputs that are there, reads the clock, steps the tick first and then the inputs, drains once, and carries out
//! the effects, all of which may start at once and in parallel. `raft-rsm` is such a driver.
//!
//! # A driver cannot break safety
//!
//! What must wait for the disk has not left the node:
//!
//! 1. RequestVote leaves, and the own vote counts, only once the new term and the vote are durable. A granted vote
//!    leaves only once it is durable. Pre-votes and answers to heartbeats promise nothing and leave at once.
//! 2. An acknowledgement claims only what is durable at that moment, whatever caused it. A leader counts its own
//!    entries from [`Input::Persisted`] on alone, so it replicates in parallel with its own disk (diss. §10.2.1).
//! 3. At most one [`Write`] is out; the next one is made after [`Input::Persisted`], and what arrives meanwhile is merged
//!    into it. A write is atomic.
//! 4. An entry is handed out in [`Effects::applies`] only when it is committed and durable here, so no snapshot is ever
//!    ahead of its own log.
//! 5. A received snapshot enters by [`Input::SnapshotReceived`] when its file is durable; then a write resets the log;
//!    then it is acknowledged and handed out as [`Effects::restore`]. To restore before what is applied later is the one
//!    order that a driver has to keep.
//! 6. Only durable entries leave the memory tail. When others fill it, a follower drops appends and a leader refuses
//!    proposals.
//! 7. A [`Fetch`] is answered by entries, by "compacted", or by a failure, at which the node stops.
//!
//! # The outcome of a proposal
//!
//! [`Node::propose`] names the entry it appended. If that entry comes back in [`Effects::applies`], it is done; if
//! *another* entry comes back at its index, it never will be; if a snapshot passes the index, nobody here knows. A loss of
//! leadership decides nothing.
//!
//! # Where to look
//!
//! Votes are granted in `election.rs`, entries accepted in `append.rs`, sent and committed in `leader.rs`; members change
//! in `membership.rs`, reads are confirmed in `reads.rs`, the lead is handed over in `transfer.rs`; what must be durable
//! first is asked of `disk.rs`. Section numbers (§) are those of the extended Raft paper, "diss." is Ongaro's
//! dissertation.
//!
//! # Features
//!
//! `serde` makes the types that travel or are stored serializable. `model` is for the model checker of this workspace, and
//! no part of the interface.
#![no_std]
extern crate alloc;

mod append;
mod applying;
mod configuration;
mod configurations;
mod disk;
mod effects;
mod election;
mod entries;
mod entry;
mod error;
mod input;
mod leader;
mod log;
mod membership;
mod message;
#[cfg(feature = "model")]
mod model;
mod node;
mod options;
mod progress;
mod quorum;
mod random;
mod reads;
mod receive;
mod snapshot;
mod status;
mod term_runs;
mod transfer;

pub use configuration::{Configuration, Incarnation, Member};
pub use effects::{
    Applies, ChangeOutcome, Effects, Fetch, FetchId, HardState, Read, ReadId, SendSnapshot, Vote,
    Write, WriteId,
};
pub use entries::Entries;
pub use entry::{Entry, EntryId, LogIndex, NodeId, Payload, Term};
pub use error::{
    ChangeError, ChangeFailed, ProposeError, ReadError, ReadRefused, RestoreError, TransferError,
};
pub use input::{Fetched, Input, Restored, SnapshotMeta, SnapshotOutcome};
pub use message::{AppendOutcome, Envelope, Message, ReadOutcome};
pub use node::Node;
pub use options::{Lease, Limits, Options};
pub use status::{Counters, PeerStatus, Replication, Role, Status};
pub use term_runs::TermRuns;

/// The examples of the README are tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
