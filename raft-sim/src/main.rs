//! The simulator's own swarm: versioned registers, and everything that can go wrong.

use std::process::ExitCode;

use raft_sim::registers::{ReadsAndWrites, Registers};

fn main() -> ExitCode {
    let command = "cargo run --release -p raft-sim --";
    raft_sim::cli::run(command, Registers::default, ReadsAndWrites::default)
}
