//! A deterministic simulator of whole [`raft_rsm`] clusters.

pub mod disk;
pub mod event;
pub mod executor;
pub mod random;
pub mod runtime;
