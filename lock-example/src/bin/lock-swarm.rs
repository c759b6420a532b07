//! The program `lock-swarm`: clusters of the store in the simulator, clients that take locks, and everything that can go
//! wrong.

use std::process::ExitCode;

use kv_example::store::Store;
use lock_example::swarm::Locks;

fn main() -> ExitCode {
    let command = "cargo run --release -p lock-example --bin lock-swarm --";
    raft_sim::cli::run(command, Store::default, Locks::default)
}
