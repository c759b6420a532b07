//! A deterministic simulator of whole [`raft_rsm`] clusters, for this project and for state machines of one's own.
//!
//! The nodes are the real ones: driver, write-ahead log, snapshots, wire codec, client. Time, network, disks, clocks and
//! chance are simulated, on one thread, from one seed, which also says what goes wrong: processes die at any await
//! point and in the middle of a write, machines lose power and what was not synced, the network falls apart, disks
//! stall, fail and fill up, clocks drift. Checkers watch all the while. A seed that fails is a bug, and the same seed
//! shows it again, event by event.
//!
//! Here is a counter under fire; [`cli::run`] makes a command line of the same, with a swarm of seeds, traces and
//! shrinking.
//!
//! ```
//! use std::io::{self, Read, Write};
//!
//! use raft_rsm::{Context, SnapshotView, StateMachine};
//! use raft_sim::{Faults, Operation, Requests, Simulation};
//!
//! #[derive(Default)]
//! struct Counter(u64);
//!
//! impl StateMachine for Counter {
//!     type Command = u64;
//!     type Response = u64;
//!     type Query = ();
//!     type Answer = u64;
//!
//!     fn apply(&mut self, _: &Context, add: u64) -> u64 {
//!         self.0 += add;
//!         self.0
//!     }
//!     fn query(&self, (): ()) -> u64 {
//!         self.0
//!     }
//!     fn snapshot(&self) -> Box<dyn SnapshotView> {
//!         let image = self.0.to_le_bytes();
//!         Box::new(move |to: &mut dyn Write| to.write_all(&image))
//!     }
//!     fn restore(&mut self, image: &mut dyn Read) -> io::Result<()> {
//!         let mut value = [0; 8];
//!         image.read_exact(&mut value)?;
//!         self.0 = u64::from_le_bytes(value);
//!         Ok(())
//!     }
//! }
//!
//! let report = Simulation::new(42)
//!     .nodes(5)
//!     .machine(Counter::default)
//!     .faults(Faults::all())
//!     .workload(Requests::new(|random| match random.chance(0.7) {
//!         true => Operation::Command(random.within(1..1_000_000)),
//!         false => Operation::Query(()),
//!     }))
//!     .run()?;
//! assert!(report.counts.calls_answered > 0 && report.counts.elections_won > 0);
//! # Ok::<(), raft_sim::Failure>(())
//! ```
//!
//! | to find | look in |
//! |---|---|
//! | which task runs next, how time passes | [`executor`], and a process's own clock in [`runtime`] |
//! | what a seed stands for: settings and faults | [`plan`], [`faults`] |
//! | who carries the faults out | `nemesis.rs` |
//! | what a run is, from its start to the verdict | `simulation.rs` |
//! | how a node is started, crashed, paused | [`cluster`] |
//! | what a crash leaves on a disk | [`disk`] |
//! | what happens to a packet | [`network`] |
//! | what clients do, and how it is taken down | [`workload`], [`history`] |
//! | what must hold: a checker a file | [`checkers`] |
//! | what answers are right | [`model`] |
//! | many seeds, smaller failures, the command line | `swarm.rs`, `shrink.rs`, [`cli`] |
//!
//! *Absent:* any change to the nodes. They are told the time, given a disk and a network, and watched from outside:
//! by their status, what they write, what they send and what their machine applies.

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
pub use observed::Told;
pub use random::Random;
pub use recorder::{TraceTo, Violation};
pub use report::{Counts, MembershipCounts, Report, TransferCounts};
pub use shrink::{Shrunk, shrink};
pub use simulation::{Failure, Simulation, Violated};
pub use swarm::{SeedViolation, Subject, Summary};
pub use workload::{Operation, Requests, Session, Workload};
