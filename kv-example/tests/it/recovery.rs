//! The last survivor of a cluster begins a new one.

use std::fs;
use std::path::Path;

use crate::process::{Cluster, eventually, run};

#[test]
fn a_survivor_alone_begins_a_new_cluster_that_grows_to_three_again() {
    let mut cluster = Cluster::start(3, &[]);
    let old = cluster.members.clone();
    for number in 0..20 {
        cluster.run(&["put", &format!("k{number:02}"), &number.to_string()]).ok();
    }
    let before = cluster.run(&["scan"]).ok();
    // What is acknowledged is on most disks: the survivor must be one of those, and the leader is.
    let survivor = cluster.leader();
    let lost: Vec<usize> = (1..=3).filter(|id| *id != survivor).collect();
    lost.iter().for_each(|id| cluster.kill(*id));
    fs::remove_dir_all(cluster.data(lost[0])).unwrap();

    let data = cluster.data(survivor).display().to_string();
    let alone = old.split(',').nth(survivor - 1).unwrap().to_owned();
    let recover = |members: &str, flags: &[&str]| {
        run(&[&["recover", "--data", &data, "--members", members], flags].concat())
    };
    recover(&alone, &["--yes"]).fails(2, &["another process"]);
    cluster.kill(survivor);
    recover("9=a:1", &["--yes"]).fails(2, &["not among --members"]);
    let ran = recover(&alone, &[]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("nothing was changed"), "{ran:?}");
    assert!(ran.stderr.contains("Its last entry is of term"), "{ran:?}");
    assert!(ran.stderr.contains("may be lost, or replaced by what this log holds"), "{ran:?}");
    let ran = recover(&alone, &["--yes"]).ok();
    assert!(ran.text().contains("the only voter of the new cluster"), "{ran:?}");

    cluster.members = alone.clone();
    cluster.restart(survivor);
    assert_eq!(cluster.run(&["scan"]).ok().stdout, before.stdout);
    // One of the old ones comes back with its data: it is a stranger.
    let mut stranger = cluster.start_with_old_data(lost[1], &old);
    cluster.run(&["put", "new", "value"]).ok();
    assert_eq!(cluster.voters(), [survivor as u64]);
    assert!(stranger.runs());
    drop(stranger);

    for id in [8, 9] {
        let address = cluster.join(id, "--join");
        cluster.add(id, &address);
    }
    assert_eq!(cluster.voters(), [survivor as u64, 8, 9]);
    cluster.kill(survivor);
    let two = cluster.addresses(&[8, 9]);
    assert_eq!(run(&["get", "--cluster", &two, "new"]).ok().text(), "value\n");
    let after = run(&["scan", "--cluster", &two, "k"]).ok();
    assert_eq!(after.stdout, before.stdout);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn a_copy_of_a_stopped_node_is_a_backup_of_everything_that_it_had() {
    let mut cluster = Cluster::start(3, &[]);
    for number in 0..20 {
        cluster.run(&["put", &format!("k{number:02}"), &number.to_string()]).ok();
    }
    let before = cluster.run(&["scan"]).ok();
    cluster.run(&["snapshot"]).ok();
    cluster.run(&["put", "k05", "after the snapshot"]).ok();
    let leader = cluster.leader();
    let node = leader % 3 + 1;
    let commit = |cluster: &Cluster, id: usize| cluster.status()[id - 1]["commit"].as_u64();
    let reached = commit(&cluster, leader);
    eventually("it knows what is committed", || (commit(&cluster, node) >= reached).then_some(()));
    cluster.node(node).signal("TERM");
    assert_eq!(cluster.node(node).ended(), Some(0));
    cluster.kill(node);
    let backup = cluster.dir().join("backup");
    copy(&cluster.data(node), &backup);
    // The cluster goes on, and is lost.
    cluster.run(&["put", "k06", "after the backup"]).ok();
    (1..=3).filter(|id| *id != node).for_each(|id| cluster.lose(id));

    fs::remove_dir_all(cluster.data(node)).unwrap();
    copy(&backup, &cluster.data(node));
    cluster.members = cluster.members.split(',').nth(node - 1).unwrap().to_owned();
    let data = cluster.data(node).display().to_string();
    run(&["recover", "--data", &data, "--members", &cluster.members, "--yes"]).ok();
    cluster.restart(node);
    let expected = before.text().replace("k05\t1\t5\n", "k05\t2\tafter the snapshot\n");
    assert_ne!(expected, before.text());
    assert_eq!(cluster.run(&["scan"]).ok().text(), expected);
}
