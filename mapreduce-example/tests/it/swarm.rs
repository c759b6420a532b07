//! The program `mapreduce-swarm`: what it prints, and its exit codes.

use std::process::{Command, Output};

fn swarm(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mapreduce-swarm")).args(arguments).output().unwrap()
}

#[test]
fn seeds_without_a_violation_are_summed_up_and_the_exit_code_is_0() {
    let output = swarm(&["--seeds", "0..3", "--seconds", "5", "--jobs", "1"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.starts_with("3 seeds") && told.ends_with("no violation\n"), "{told}");
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    let digest = || {
        let output = swarm(&["--seed", "7", "--seconds", "5"]);
        let told = String::from_utf8(output.stdout).unwrap();
        told.lines().find(|line| line.contains("digest")).map(str::to_owned).expect("a digest")
    };
    assert_eq!(digest(), digest());
}
