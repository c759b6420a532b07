//! What cannot be run is an error that says why, and never a violation.

use std::process::{Command, Output};
use std::time::Duration;

use raft_sim::faults::FaultsError;
use raft_sim::plan::{Bounds, PlanError};
use raft_sim::registers::{ReadsAndWrites, Registers};
use raft_sim::{Failure, Faults, Simulation};

use crate::swarm::subject;

fn refused(bounds: &Bounds) -> PlanError {
    let simulation = Simulation::new(1).bounds(bounds.clone());
    let simulation = simulation.machine(Registers::default).workload(ReadsAndWrites::default());
    let Err(Failure::Plan(one)) = simulation.run() else { panic!("{bounds:?} can be run") };
    let many = subject().run_all(0..3, bounds, 1, 1, &|_, _| ()).unwrap_err();
    assert_eq!(one, many);
    one
}

#[test]
fn bounds_within_which_nothing_can_be_tested_are_refused() {
    let bounds = Bounds::default;
    assert_eq!(refused(&Bounds { nodes: Some(0), ..bounds() }), PlanError::Nodes(0));
    assert_eq!(refused(&Bounds { nodes: Some(10), ..bounds() }), PlanError::Nodes(10));
    assert_eq!(refused(&Bounds { clients: Some(0), ..bounds() }), PlanError::NoClients);
    assert_eq!(refused(&Bounds { operations: Some(0), ..bounds() }), PlanError::NoOperations);
    for duration in [Duration::ZERO, Duration::MAX] {
        assert_eq!(refused(&Bounds { duration, ..bounds() }), PlanError::Duration(duration));
    }
}

#[test]
fn faults_that_no_raft_could_survive_are_refused() {
    let refused = |change: fn(&mut Faults)| {
        let mut faults = Faults::all();
        change(&mut faults);
        refused(&Bounds { faults, ..Bounds::default() })
    };
    let error = refused(|faults| faults.bit_rot = true);
    assert_eq!(error, PlanError::Faults(FaultsError::BitRot));
    let error = refused(|faults| faults.clock_drift_ppm = 60_000);
    assert_eq!(error, PlanError::Faults(FaultsError::ClockDrift { ppm: 60_000 }));
}

#[test]
fn a_checker_that_does_not_exist_is_refused() {
    let simulation = Simulation::new(1).watched_by(&["liveness", "manners"]);
    let simulation = simulation.machine(Registers::default).workload(ReadsAndWrites::default());
    let failure = simulation.run().unwrap_err().to_string();
    assert!(failure.contains("\"manners\"") && failure.contains("log matching"), "{failure}");
}

fn sim(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raft-sim"));
    command.args(arguments.split_whitespace()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_command_line_says_what_is_wrong_and_exits_with_2() {
    for (arguments, said) in [
        ("", "which seed"),
        ("--seeds 0", "FROM..TO"),
        ("--seeds 5..", "FROM..TO"),
        ("--seeds a..b", "FROM..TO"),
        ("--seeds -3..5", "FROM..TO"),
        ("--seeds 9..3", "no seed in it"),
        ("--seed x", "invalid value 'x'"),
        ("--seed 1 --seeds 0..3", "cannot be used with"),
        ("--seeds 0..3 --trace", "cannot be used with"),
        ("--seed 1 --nodes 0", "a cluster of 0 nodes"),
        ("--seeds 0..3 --nodes 10", "a cluster of 10 nodes"),
        ("--seed 1 --clients 0", "no clients"),
        ("--seeds 0..3 --operations 0", "no operations"),
        ("--seed 1 --faults rain", "no kind of fault named \"rain\""),
        ("--seed 1 --faults kills,bit-rot", "no kind of fault named \"bit-rot\""),
        ("--seed 1 --seconds 0", "more than 0"),
        ("--seed 1 --seconds -1", "more than 0"),
        ("--seed 1 --seconds NaN", "more than 0"),
        ("--seed 1 --seconds 1e12", "a day at most"),
        ("--seed 1 --keep 1,two", "\"two\" is no number"),
        ("--rain", "--rain"),
    ] {
        let output = sim(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {stderr}");
        assert!(stderr.contains(said), "{arguments}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments}: {}", stdout(&output));
    }
}

#[test]
fn the_command_line_runs_a_seed_and_says_what_happened() {
    let output = sim("--seed 7 --seconds 2 --nodes 3");
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for said in ["seed 7: 3 nodes", "elections", "snapshots", "faults", "no violation"] {
        assert!(text.contains(said), "{text}");
    }
    assert_eq!(text, stdout(&sim("--seed 7 --seconds 2 --nodes 3")));
}

#[test]
fn the_command_line_tells_a_run_as_a_story() {
    let output = sim("--seed 7 --seconds 2 --nodes 3 --trace");
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for said in
        ["fault 0 at", "LEADER in term", "RequestVote", "client 0:", "all faults have ended"]
    {
        assert!(text.contains(said), "{said:?} is not in the story");
    }
}

#[test]
fn the_command_line_sums_seeds_up_as_json() {
    let output = sim("--seeds 0..4 --jobs 2 --seconds 2 --json");
    assert_eq!(output.status.code(), Some(0));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["seeds"], 4);
    assert!(summary["counts"]["elections_won"].as_u64() > Some(0), "{summary}");
    assert_eq!(summary["violations"].as_array().map(Vec::len), Some(0));
    let report = sim("--seed 3 --seconds 2 --json");
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["seed"], 3);
}

#[test]
fn the_command_line_explains_itself() {
    let output = sim("--help");
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for said in ["--seeds", "--trace", "--shrink", "--json", "power-losses", "Exit codes"] {
        assert!(text.contains(said), "{text}");
    }
}
