//! The program `kv-swarm`: clusters of the store in the simulator, with everything that can go wrong.

use std::process::ExitCode;

use kv_example::swarm::{self, Clerks};

fn main() -> ExitCode {
    let command = "cargo run --release -p kv-example --bin kv-swarm --";
    raft_sim::cli::run(command, swarm::store, Clerks::default)
}
