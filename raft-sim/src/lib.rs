//! A deterministic simulator of whole [`raft_rsm`] clusters.

pub mod event;
pub mod executor;
pub mod network;
pub mod random;
pub mod runtime;
