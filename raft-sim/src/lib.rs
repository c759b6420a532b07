//! A deterministic simulator of whole [`raft_rsm`] clusters.

pub mod checkers;
pub mod event;
pub mod executor;
pub mod history;
pub mod model;
pub mod random;
pub mod runtime;
