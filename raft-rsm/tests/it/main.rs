//! Integration tests.

mod client;
mod cluster;
mod cluster_commands;
mod cluster_faults;
mod cluster_snapshots;
mod runtime_threads;
#[cfg(feature = "tokio")]
mod runtime_tokio;
