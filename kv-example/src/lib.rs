//! A replicated, versioned key/value store on [`raft_rsm`]: server, client, command line.
//!
//! | file | what is in it |
//! |---|---|
//! | [`store`] | the replicated state machine: versioned keys, pages, snapshots |
//! | [`limits`] | how large a key and a value may be |
//! | [`clerk`] | the typed client: what it knows of a write, and when it has to say "maybe" |
//! | [`node`] | one node: a disk, a port, and the replica between them |
//! | [`connect`] | how a client reaches the cluster |
//! | [`http`] | the same over HTTP, for people, curl and probes |
//! | [`text`] | a text into the store, a key a line, and out again, byte for byte |
//! | [`mod@bench`] | a load, how it was borne, and a history of it for an outside checker |
//! | [`demo`] | three nodes in one process, of which one dies |
//! | [`swarm`] | what clients do to the store in the simulator |
//! | [`cli`] | the command line: what can be said, and what is done about it |
//! | [`report`] | what a node says of itself |
//! | [`output`] | how keys, values and tables are shown |
//! | [`failure`] | one line on stderr, and an exit code |
//!
//! `main.rs` only calls [`cli::run`]; `bin/kv-swarm.rs` only calls [`raft_sim::cli::run`], with the store and [`swarm`].

pub mod bench;
pub mod clerk;
pub mod cli;
pub mod connect;
pub mod demo;
pub mod failure;
pub mod http;
pub mod limits;
pub mod node;
pub mod output;
pub mod report;
pub mod store;
pub mod swarm;
pub mod text;
