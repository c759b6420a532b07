//! The last survivor of a cluster begins a new one.

use crate::process::{Cluster, run};

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
    std::fs::remove_dir_all(cluster.data(lost[0])).unwrap();

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
