//! Integration tests.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by a panic")]

mod client;
mod cluster;
mod cluster_commands;
mod cluster_divergence;
mod cluster_faults;
mod cluster_files;
mod cluster_limits;
mod cluster_members;
mod cluster_queries;
mod cluster_snapshots;
mod cluster_transfer;
mod runtime_ahead;
mod runtime_threads;
#[cfg(feature = "tokio")]
mod runtime_tokio;
mod storage_crash;
mod storage_damage;
mod storage_disk;
mod storage_file;
mod storage_identity;
mod storage_memory;
mod storage_recovery;
mod storage_stand;
mod transport_memory;
mod transport_tcp;
#[cfg(feature = "tokio")]
mod transport_tokio;
mod traps;
mod traps_table;
