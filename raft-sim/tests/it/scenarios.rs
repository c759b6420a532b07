//! Fault scenarios that every layer must survive, in virtual time: the numbers are those of the test suites of
//! MIT 6.5840 (2025). All checkers watch each of them.
//!
//! | where | what |
//! |---|---|
//! | `stand.rs` | a scenario on many seeds; what scenarios do to a cluster |
//! | `ledger.rs` | the machine of the Raft scenarios, which keeps all commands, and commits on it |
//! | `election.rs`, `log.rs`, `persistence.rs`, `figure8.rs`, `snapshots.rs` | Raft |
//! | `counter.rs`, `rsm.rs` | a replicated machine and those who call it |
//! | `failover.rs`, `idle.rs` | how long nobody leads; what a cluster costs that nobody asks for anything |
//! | `log_time.rs` | the log's own time: what is due ends, the same everywhere |
//! | `switches.rs`, `pauses.rs` | mixed settings; nodes that stand still, and clocks that differ |
//!
//! A scenario that fails says its seed. `SCENARIO_SEEDS=7 cargo test -p raft-sim --test it re_election -- --nocapture` runs
//! that one alone, and tells its story; `SCENARIO_SEEDS=0..1000` runs each scenario on so many.

mod counter;
mod election;
mod failover;
mod figure8;
mod idle;
mod ledger;
mod log;
mod log_time;
mod pauses;
mod persistence;
mod rsm;
mod snapshots;
mod stand;
mod switches;
