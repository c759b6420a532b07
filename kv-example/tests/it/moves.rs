//! Nodes that start again elsewhere, or with another text of the cluster.

use crate::process::{Cluster, NodeProcess, free_address, free_members, run};

#[test]
fn a_node_that_moved_is_found_by_the_others() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.run(&["put", "k", "before"]).ok();
    cluster.kill(2);
    let address = free_address();
    cluster.restart_with(2, &["--listen", &address]);
    cluster.kill(3);
    // Without the moved one there is no majority; the list that the other one has is still the old one. The client knows
    // better, since either may lead.
    let first = cluster.members.split(',').next().unwrap();
    let both = format!("{first},2={address}");
    run(&["put", "--cluster", &both, "k", "after"]).ok();
    assert_eq!(run(&["get", "--cluster", &both, "k"]).ok().text(), "after\n");
}

#[test]
fn a_node_that_starts_again_knows_by_itself_where_it_belongs() {
    let mut cluster = Cluster::start(1, &[]);
    cluster.run(&["put", "k", "v"]).ok();
    cluster.kill(1);
    // Other addresses, other members, and not itself among them.
    let address = free_address();
    cluster.members = free_members(2).replacen("1=", "7=", 1);
    cluster.restart_with(1, &["--listen", &address, "--advertise", "localhost:1"]);
    let moved = format!("1={address}");
    assert_eq!(run(&["get", "--cluster", &moved, "k"]).ok().text(), "v\n");
    cluster.kill(1);
    cluster.members = free_members(1);
    cluster.restart(1);
    assert_eq!(cluster.run(&["get", "k"]).ok().text(), "v\n");
}

#[test]
fn a_node_that_the_text_does_not_have_starts_where_it_is_told_to_listen() {
    let cluster = Cluster::start(1, &[]);
    let address = free_address();
    let data = cluster.dir().join("node9").display().to_string();
    let command =
        ["node", "--id", "9", "--cluster", &cluster.members, "--data", &data, "--init", "--listen"];
    let command: Vec<String> = command.into_iter().chain([&*address]).map(str::to_owned).collect();
    let _node = NodeProcess::start(&command, &cluster.dir().join("node9.log")).expect("it starts");
    let status = run(&["status", "--json", "--cluster", &format!("9={address}")]).ok();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let own = status.as_array().unwrap().iter().find(|status| status["id"] == 9).unwrap();
    assert_eq!(own["role"], "follower");
    // Nobody has it among its members.
    cluster.run(&["put", "k", "v"]).ok();
}
