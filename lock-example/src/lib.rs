//! Distributed locks on the replicated store of [`kv_example`]: a lesson, and a program for shell scripts.
//!
//! | file | what is in it |
//! |---|---|
//! | [`versioned`] | a lock on nothing but versioned put and get, right under "maybe" |
//! | [`fenced`] | a lock that survives its holder: leases, waiters in order, fencing tokens |
//! | [`fence`] | a resource that refuses old tokens |
//! | [`cli`] | the command line: what can be said, and what is done about it |
//! | [`run`] | a command under a lock |
//! | [`hold`] | a holder whose every step is somebody else's to choose |
//! | [`demo`] | waiters in order, a holder that is killed, one that is paused and comes back too late |
//! | [`swarm`] | what clients do with the locks in the simulator, and what they may be told |
//!
//! `main.rs` only calls [`cli::run`]; `bin/lock-swarm.rs` only calls [`raft_sim::cli::run`], with the store and [`swarm`].
//! *Absent:* anything of Raft, and any part of the store: its nodes know nothing of locks.

pub mod cli;
pub mod demo;
pub mod fence;
pub mod fenced;
pub mod hold;
pub mod run;
mod say;
pub mod swarm;
mod time;
pub mod versioned;
