//! A deterministic simulator of whole [`raft_rsm`] clusters.

pub mod checkers;
pub mod cli;
pub mod cluster;
pub mod disk;
pub mod event;
pub mod executor;
pub mod faults;
pub mod history;
pub mod model;
mod nemesis;
pub mod network;
pub mod observed;
pub mod plan;
pub mod random;
pub mod recorder;
pub mod registers;
mod report;
pub mod runtime;
mod shrink;
mod simulation;
mod swarm;
pub mod trace;
pub mod workload;

pub use cluster::{Cluster, NodeSetup};
pub use faults::Faults;
pub use random::Random;
pub use recorder::{TraceTo, Violation};
pub use report::{Counts, Report};
pub use shrink::{Shrunk, shrink};
pub use simulation::{Failure, Simulation, Violated};
pub use swarm::{SeedViolation, Subject, Summary};
pub use workload::{Operation, Requests, Session, Workload};
