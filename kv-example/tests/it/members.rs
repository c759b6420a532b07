//! Clusters that change: machines come, go, lose their disks and move, and the lead is handed over.

use std::fs;

use crate::load::Load;
use crate::process::{Cluster, NodeProcess, eventually, run};

/// How often `machines_are_replaced_under_load` replaces all three.
fn rounds() -> usize {
    std::env::var("REPLACEMENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Waits until the load has gone on.
fn goes_on(load: &Load) {
    let begun = load.writes();
    eventually("the clients go on", || (load.writes() >= begun + 20).then_some(()));
}

#[test]
fn machines_are_replaced_under_load_and_nothing_fails_or_is_lost() {
    let mut cluster = Cluster::start(3, &["--snapshot-log-bytes", "20000"]);
    let load = Load::start(&cluster.members, 4);
    let mut old = vec![1, 2, 3];
    for _ in 0..rounds() {
        let first = old[2] + 1;
        let new: Vec<usize> = (first..first + 3).collect();
        let grow = |cluster: &mut Cluster, id| {
            let address = cluster.join(id, "--join");
            cluster.add(id, &address);
            goes_on(&load);
            format!("{id}={address}")
        };
        let shrink = |cluster: &mut Cluster, id: usize| {
            cluster.run(&["remove", "--id", &id.to_string()]).ok();
            // It may be the only one that the clients know: it tells them of the others before it goes.
            goes_on(&load);
            cluster.kill(id);
            goes_on(&load);
        };
        let mut members = vec![grow(&mut cluster, new[0]), grow(&mut cluster, new[1])];
        assert_eq!(cluster.voters().len(), 5);
        shrink(&mut cluster, old[0]);
        shrink(&mut cluster, old[1]);
        members.push(grow(&mut cluster, new[2]));
        shrink(&mut cluster, old[2]);
        // None of those that the text named is left.
        cluster.members = members.join(",");
        assert_eq!(cluster.voters(), new.iter().map(|id| *id as u64).collect::<Vec<_>>());
        old = new;
    }
    assert!(load.end() > 0);
    let keys = cluster.run(&["scan", "load/"]).ok();
    assert_eq!(keys.text().lines().count(), 4);
}

#[test]
fn a_node_that_joins_waits_until_it_is_added_and_then_needs_no_flag() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.run(&["put", "k", "v"]).ok();
    let address = cluster.join(4, "--join");
    assert_eq!(cluster.voters(), [1, 2, 3]);
    cluster.kill(4);
    cluster.restart(4);
    cluster.add(4, &address);
    assert_eq!(cluster.voters(), [1, 2, 3, 4]);
    // The text does not name it.
    let status = cluster.status();
    assert_eq!((&status[3]["id"], &status[3]["address"]), (&4.into(), &(&*address).into()));
    assert_eq!((status.len(), &status[3]["reachable"]), (4, &true.into()));
    cluster.kill(4);
    cluster.restart(4);
    let stale = ["get", "k", "--consistency", "stale", "--cluster", &format!("4={address}")];
    eventually("it has the value", || (run(&stale).stdout == b"v\n").then_some(()));
}

#[test]
fn a_learner_has_no_vote_until_it_is_made_a_voter() {
    let mut cluster = Cluster::start(1, &[]);
    let address = cluster.join(2, "--join");
    cluster.run(&["add", "--id", "2", "--address", &address, "--learner"]).ok();
    assert_eq!(cluster.voters(), [1]);
    assert_eq!(cluster.member(2)["role"], "learner");
    cluster.kill(2);
    cluster.run(&["put", "k", "v"]).ok();
    cluster.restart(2);
    cluster.add(2, &address);
    assert_eq!(cluster.voters(), [1, 2]);
}

#[test]
fn what_cannot_be_added_or_removed_is_refused_in_a_sentence() {
    let mut cluster = Cluster::start(1, &[]);
    cluster.leader();
    let add = |id: &str, address: &str| cluster.run(&["add", "--id", id, "--address", address]);
    let own = cluster.members.replacen("1=", "", 1);
    add("2", &own).fails(2, &["node 1 listens", "not node 2"]);
    add("2", "127.0.0.1:1").fails(2, &["127.0.0.1:1", "--join"]);
    let other = Cluster::start(1, &[]);
    let elsewhere = other.members.replacen("1=", "", 1);
    add("1", &elsewhere).fails(2, &["1 at", "cluster"]);
    cluster.run(&["remove", "--id", "7"]).fails(1, &["node 7", "no member", "voter 1"]);
    cluster.run(&["remove", "--id", "1"]).fails(1, &["no voters"]);
    cluster.run(&["transfer"]).fails(1, &["no such voter"]);
    // A node joins with an empty directory, and a cluster of which somebody answers.
    cluster.join(2, "--join");
    cluster.kill(2);
    let mut start = |id, flags: &[&str]| {
        cluster.moves(id);
        let mut command = cluster.command(id, false);
        command.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let log = cluster.dir().join("refused.log");
        NodeProcess::start(&command, &log).map(drop).expect_err("it is refused")
    };
    assert!(start(2, &["--join"]).contains("a data directory already"));
    assert!(start(2, &["--rejoin"]).contains("a data directory already"));
    assert!(start(3, &["--init", "--join"]).contains("cannot be used with"));
    assert!(start(3, &["--join", "--rejoin"]).contains("cannot be used with"));
    cluster.kill(1);
    cluster.moves(3);
    let log = cluster.dir().join("refused.log");
    let rejoins = [cluster.command(3, false), vec!["--rejoin".to_owned()]].concat();
    let refused = NodeProcess::start(&rejoins, &log).map(drop).expect_err("nobody answers");
    assert!(refused.contains("none of the nodes answers"), "{refused}");
    assert!(!cluster.data(3).exists());
}

#[test]
fn a_node_that_was_killed_while_it_created_its_directory_joins_by_the_same_command() {
    let mut cluster = Cluster::start(1, &[]);
    cluster.leader();
    for (id, flag) in [(2, "--join"), (3, "--rejoin")] {
        // What is there until the log is, and the directory says whose it is.
        let data = cluster.data(id);
        fs::create_dir_all(data.join("log")).unwrap();
        for file in ["lock", "identity.tmp", "log/half"] {
            fs::write(data.join(file), "half").unwrap();
        }
        let address = cluster.join(id, flag);
        cluster.add(id, &address);
    }
    assert_eq!(cluster.voters(), [1, 2, 3]);
}

#[test]
fn a_node_that_lost_its_disk_comes_back_when_it_is_added_again() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.run(&["put", "k", "v"]).ok();
    let before = eventually("the leader has named it", || {
        let member = cluster.member(2);
        member["incarnation"].is_string().then(|| member["incarnation"].clone())
    });
    cluster.lose(2);
    let log = cluster.dir().join("refused.log");
    let refused = NodeProcess::start(&cluster.command(2, true), &log).map(drop);
    let refused = refused.expect_err("it has run before");
    assert!(refused.contains("node 2 has run before") && refused.contains("--rejoin"), "{refused}");
    assert!(!cluster.data(2).exists());
    let address = cluster.join(2, "--rejoin");
    assert_eq!(cluster.member(2)["incarnation"], before);
    cluster.add(2, &address);
    assert_eq!(cluster.voters(), [1, 2, 3]);
    assert_ne!(cluster.member(2)["incarnation"], before);
    // It counts again: without it there is no majority.
    cluster.kill(1);
    let moved = format!("2={address},{}", cluster.members.rsplit_once(',').unwrap().1);
    run(&["put", "--cluster", &moved, "k", "w"]).ok();
}

/// It is not told that its disk is lost, which would lead on to throwing good data away.
#[test]
fn a_directory_that_is_intact_is_not_begun_anew() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.run(&["put", "k", "v"]).ok();
    cluster.kill(2);
    let log = cluster.dir().join("refused.log");
    let refused = NodeProcess::start(&cluster.command(2, true), &log).map(drop);
    let refused = refused.expect_err("it has run before");
    assert!(refused.contains("it is a data directory already"), "{refused}");
    cluster.restart(2);
}

/// TigerBeetle's recovery notes: it has forgotten its votes, and does not know it.
#[test]
fn a_node_that_lost_its_disk_and_is_started_as_if_it_were_new_counts_for_nothing() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.run(&["put", "k", "v"]).ok();
    // The leader has named the incarnations by now.
    let named = eventually("incarnations are named", || {
        let member = cluster.member(2);
        member["incarnation"].is_string().then(|| member["incarnation"].clone())
    });
    cluster.lose(2);
    let mut command = cluster.command(2, true);
    command.extend(["--snapshot-log-bytes".to_owned(), "1000000".to_owned()]);
    let log = cluster.dir().join("again.log");
    // Those who know it do not answer when they are asked.
    [1, 3].iter().for_each(|id| cluster.node(*id).signal("STOP"));
    let _again = NodeProcess::start(&command, &log).expect("nothing on its disk says otherwise");
    [1, 3].iter().for_each(|id| cluster.node(*id).signal("CONT"));
    assert_eq!(cluster.member(2)["other_incarnation"], true);
    assert!(cluster.run(&["members"]).ok().text().contains("as another incarnation"));
    // Nobody even listens to it, and its log says why.
    let refusal = format!("node 2 is incarnation {}, and ", named.as_str().expect("a text"));
    eventually("the others refuse it", || {
        fs::read_to_string(&log).ok()?.contains(&refusal).then_some(())
    });
    cluster.run(&["put", "k", "w"]).ok();
    // With one that counts and one that does not, there is no majority.
    let other = if cluster.leader() == 1 { 3 } else { 1 };
    cluster.kill(other);
    cluster.run(&["put", "--timeout", "2", "k", "x"]).fails(2, &["no leader"]);
    cluster.restart(other);
    assert_eq!(cluster.run(&["get", "k"]).ok().text(), "w\n");
}

#[test]
fn the_lead_goes_to_each_node_in_turn() {
    let cluster = Cluster::start(3, &[]);
    let load = Load::start(&cluster.members, 2);
    for to in ["1", "2", "3", "3", "1"] {
        let ran = cluster.run(&["transfer", "--to", to]).ok();
        assert_eq!(ran.text(), format!("node {to} leads\n"));
        goes_on(&load);
    }
    let ran = cluster.run(&["transfer", "--json"]).ok();
    assert_ne!(ran.text(), "{\"leader\":1}\n");
    load.end();
    cluster.run(&["transfer", "--to", "9"]).fails(1, &["no such voter"]);
}

#[test]
fn a_member_that_moved_is_found_and_its_new_address_is_written_down() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.run(&["put", "k", "before"]).ok();
    cluster.kill(2);
    let address = cluster.moves(2);
    cluster.restart(2);
    cluster.run(&["put", "k", "after"]).ok();
    cluster.add(2, &address);
    let member = cluster.member(2);
    assert_eq!((&member["address"], &member["role"]), (&address.into(), &"voter".into()));
    assert_eq!(member["reachable"], true);
    // The text that a client has is the old one, and the leader may well be the one that moved.
    cluster.kill(3);
    cluster.run(&["put", "k", "later"]).ok();
    cluster.run(&["transfer", "--to", "2"]).ok();
    assert_eq!(cluster.run(&["get", "k", "--consistency", "lease"]).ok().text(), "later\n");
}

#[test]
fn without_a_majority_what_is_stale_can_still_be_read_and_nothing_else() {
    let mut cluster = Cluster::start(3, &["--lease-drift-ppm", "1000"]);
    cluster.run(&["put", "k", "v"]).ok();
    for consistency in ["linearizable", "lease", "stale"] {
        cluster.run(&["get", "k", "--consistency", consistency]).ok();
        cluster.run(&["scan", "--consistency", consistency]).ok();
    }
    let leader = cluster.leader();
    let last = cluster.status()[leader - 1]["commit"].as_u64().unwrap();
    let follower = leader % 3 + 1;
    eventually("the follower has applied everything", || {
        (cluster.status()[follower - 1]["applied"].as_u64()? >= last).then_some(())
    });
    cluster.kill(leader);
    cluster.kill(follower % 3 + 1);
    let get =
        |consistency| cluster.run(&["get", "k", "--timeout", "2", "--consistency", consistency]);
    assert_eq!(get("stale").ok().text(), "v\n");
    get("linearizable").fails(2, &["no leader"]);
    get("lease").fails(2, &["no leader"]);
}

#[test]
fn a_leader_that_is_told_to_stop_hands_the_lead_over() {
    let mut cluster = Cluster::start(3, &[]);
    let load = Load::start(&cluster.members, 2);
    for _ in 0..3 {
        goes_on(&load);
        let leader = cluster.leader();
        cluster.node(leader).signal("TERM");
        assert_eq!(cluster.node(leader).ended(), Some(0));
        assert_ne!(cluster.leader(), leader);
        cluster.restart(leader);
    }
    load.end();
}

#[test]
fn a_snapshot_is_taken_when_it_is_asked_for() {
    let cluster = Cluster::start(2, &[]);
    cluster.run(&["put", "k", "v"]).ok();
    let ran = cluster.run(&["snapshot"]).ok();
    assert_eq!(ran.text().lines().count(), 2, "{ran:?}");
    let ran = cluster.run(&["snapshot", "--id", "2", "--json"]).ok();
    let taken: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(taken[0]["id"], 2);
    let status = cluster.status();
    assert!(status.iter().all(|status| status["snapshot"]["index"].as_u64() > Some(0)));
    cluster.run(&["snapshot", "--id", "9"]).fails(2, &["node 9"]);
}
