//! The program `mapreduce-swarm`: a replicated coordinator in the simulator, workers that die and hang, and everything that can
//! go wrong.

use std::process::ExitCode;

use mapreduce_example::coordinator::Coordinator;
use mapreduce_example::swarm::Jobs;

fn main() -> ExitCode {
    let command = "cargo run --release -p mapreduce-example --bin mapreduce-swarm --";
    raft_sim::cli::run(command, Coordinator::default, Jobs::default)
}
