//! What the program is told that makes no sense.

use crate::process::{Nodes, run};

const CLUSTER: &str = "1=127.0.0.1:1";

#[test]
fn what_makes_no_sense_is_told_with_exit_code_2_and_starts_nothing() {
    let run_with = |args: &[&str]| {
        let mut all = vec!["run", "--cluster", CLUSTER, "--name", "l"];
        all.extend(args);
        run(&all)
    };
    run_with(&["--ttl", "0", "--", "true"]).fails(2, &["--ttl", "100ms"]);
    run_with(&["--ttl", "25h", "--", "true"]).fails(2, &["--ttl", "24 h"]);
    run_with(&["--ttl", "soon", "--", "true"]).fails(2, &["--ttl", "10s"]);
    run_with(&["--wait=-1s", "--", "true"]).fails(2, &["--wait"]);
    run_with(&["--grace", "é", "--", "true"]).fails(2, &["--grace"]);
    run(&["run", "--cluster", "nonsense", "--name", "l", "--", "true"]).fails(2, &["--cluster"]);
    run(&["run", "--cluster", CLUSTER, "--name", "", "--", "true"]).fails(2, &["--name"]);
    let long = "n".repeat(257);
    run(&["run", "--cluster", CLUSTER, "--name", &long, "--", "true"]).fails(2, &["256"]);
}

#[test]
fn a_command_that_is_missing_is_asked_for() {
    for args in [
        &["run", "--cluster", CLUSTER, "--name", "l"][..],
        &["run", "--cluster", CLUSTER, "--name", "l", "--"],
        &["run", "--name", "l", "--", "true"],
        &[],
        &["hang"],
    ] {
        let ran = run(args);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains("Usage: lock-example"), "{ran:?}");
    }
}

#[test]
fn a_cluster_that_nobody_hears_of_is_told_with_exit_code_125() {
    let ran = run(&["run", "--cluster", CLUSTER, "--name", "l", "--wait", "500ms", "--", "true"]);
    ran.fails(125, &["\"l\"", "did not answer in time"]);
}

#[test]
fn a_command_that_does_not_exist_or_cannot_be_started_has_the_codes_of_a_shell() {
    let nodes = Nodes::start();
    let start =
        |command: &str| run(&["run", "--cluster", &nodes.cluster, "--name", "l", "--", command]);
    start("/no/such/command").fails(127, &["/no/such/command"]);
    start("/").fails(126, &["cannot start"]);
    // The lock is not kept by what was never started.
    assert_eq!(nodes.run(&["--wait", "5s"], "exit 0").code, Some(0));
}

#[test]
fn a_token_is_needed_to_add_a_line_and_a_file_that_is_no_such_file_is_left_alone() {
    let nodes = Nodes::start();
    let file = nodes.path("file").display().to_string();
    run(&["append", &file, "text"]).fails(2, &["LOCK_TOKEN", "--token"]);
    run(&["append", "--token", "x", &file, "text"]).fails(2, &["--token"]);
    std::fs::write(&file, "dear diary\n").unwrap();
    run(&["append", "--token", "7", &file, "text"]).fails(2, &["token"]);
    assert_eq!(nodes.read("file"), "dear diary\n");
    let nowhere = nodes.path("no/such/directory").display().to_string();
    run(&["append", "--token", "7", &nowhere, "text"]).fails(2, &["no/such/directory"]);
}
