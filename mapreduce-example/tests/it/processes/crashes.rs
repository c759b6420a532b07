//! `run`, while its processes are killed.

use super::{Folder, Running, signal};

/// So much that there is time to kill somebody: a split is a fifth of a second's work or less.
fn folder() -> Folder {
    Folder::of_the_book(8, 12)
}

fn start(folder: &Folder, more: &[&str]) -> Running {
    let (pattern, output) = (folder.pattern(), folder.output());
    let args = ["run", "--job", "word-count", "--input", &pattern, "--output", &output];
    Running::start(&[&args[..], &["--split-bytes", "250000"], more].concat())
}

/// `kill -9` of workers, each as soon as it is there: see `staged.rs` for some that are in the middle of a call.
#[test]
fn workers_that_are_killed_are_started_again() {
    let folder = folder();
    let running = start(&folder, &["--workers", "3", "--slots", "1", "--json"]);
    let mut processes: Vec<(&str, Option<u32>)> =
        ["worker 1", "worker 2", "worker 3"].map(|who| (who, None)).into();
    for round in 0..6 {
        let (who, before) = &mut processes[round % 3];
        let process = running.process(who, *before);
        signal("KILL", process);
        *before = Some(process);
    }
    let ran = running.end().ok();
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(report["processes_started_again"].as_u64() >= Some(3), "{report}");
    folder.assert_is_done("word-count", &[]);
}

/// Nodes of the coordinator, each in its turn, so the leader among them: at the beginning, and while it reduces.
#[test]
fn nodes_of_the_coordinator_that_are_killed_are_started_again() {
    for nodes in ["1", "3"] {
        let folder = folder();
        let running = start(&folder, &["--coordinators", nodes, "--json"]);
        for id in 1..=nodes.parse().unwrap() {
            let who = format!("node {id} of the coordinator");
            signal("KILL", running.process(&who, None));
        }
        let is_reducing = |line: &str| line.contains(": reduce ").then_some(());
        running.hears(is_reducing);
        let who = "node 1 of the coordinator";
        let first = running.process(who, None);
        signal("KILL", running.process(who, Some(first)));
        let ran = running.end().ok();
        let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(report["processes_started_again"].as_u64() >= Some(1), "{report}");
        folder.assert_is_done("word-count", &[]);
    }
}

/// Also where it cannot say so any more: see `staged.rs` for one that can.
#[test]
fn the_processes_of_a_run_that_is_killed_end_by_themselves() {
    let folder = folder();
    let running = start(&folder, &["--workers", "2"]);
    let processes =
        ["node 1 of the coordinator", "worker 1", "worker 2"].map(|who| running.process(who, None));
    drop(running);
    for process in processes {
        super::cluster::eventually_gone(process);
    }
}
