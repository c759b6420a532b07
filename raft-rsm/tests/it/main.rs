//! Integration tests.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by a panic")]

mod client;
mod cluster;
mod cluster_commands;
mod cluster_faults;
mod cluster_snapshots;
mod runtime_threads;
#[cfg(feature = "tokio")]
mod runtime_tokio;
mod transport_memory;
