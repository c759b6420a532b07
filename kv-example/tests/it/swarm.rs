//! The program `kv-swarm`: what it prints, and its exit codes.

use std::process::{Command, Output};

fn swarm(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kv-swarm")).args(arguments).output().unwrap()
}

#[test]
fn seeds_without_a_violation_are_summed_up_and_the_exit_code_is_0() {
    let output = swarm(&["--seeds", "0..3", "--seconds", "5", "--jobs", "1"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.starts_with("3 seeds") && told.ends_with("no violation\n"), "{told}");
}

#[test]
fn what_cannot_be_run_is_told_in_one_line_and_the_exit_code_is_2() {
    for (arguments, problem) in [
        (&[][..], "say which seed to run"),
        (&["--seeds", "7"], "expected FROM..TO"),
        (&["--seed", "7", "--clients", "0"], "no clients"),
        (&["--seed", "7", "--faults", "rain"], "rain"),
    ] {
        let output = swarm(arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(problem) && told.lines().count() == 1, "{told}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_help_says_what_is_simulated_and_how_it_ends() {
    let output = swarm(&["--help"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for part in ["Usage: kv-swarm", "--seeds", "--shrink", "Exit codes:"] {
        assert!(told.contains(part), "{part} is missing: {told}");
    }
}
