//! What nodes promise survives them.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::time::Duration;

use kv_example::clerk::Clerk;
use kv_example::connect::{connect, within};
use kv_example::text::{self, Import};

use crate::process::{Cluster, eventually};

/// Lines of many lengths and contents, none like another.
fn text(lines: usize) -> Vec<u8> {
    (0..lines)
        .flat_map(|line| format!("{line}: {}\n", "lorem ipsum ".repeat(line % 17)).into_bytes())
        .collect()
}

/// Imports `text` with 64 lines in flight, and calls `at_half` once, when half of them are acknowledged.
fn import(members: &str, text: &[u8], at_half: impl FnOnce() + Send) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let survey = text::survey(&mut { text }).unwrap();
    let at_half = Mutex::new(Some(at_half));
    let progress = |done| {
        if done >= survey.lines / 2
            && let Some(at_half) = at_half.lock().unwrap().take()
        {
            at_half();
        }
    };
    let imported = runtime.block_on(async {
        let members = members.parse().unwrap();
        let clerk = Clerk::new(connect(&members, within(Duration::from_secs(60))).unwrap());
        let window = NonZeroUsize::new(64).unwrap();
        Import { clerk: &clerk, survey, window, progress: &progress }.run(text).await
    });
    let imported = imported.unwrap();
    assert_eq!(imported.written + imported.present, survey.lines);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_leader_and_then_all_nodes_are_killed() {
    let text = text(2_000);
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    let members = cluster.members.clone();
    import(&members, &text, || cluster.kill(leader));
    cluster.restart(leader);
    for id in 1..=3 {
        cluster.kill(id);
    }
    for id in 1..=3 {
        cluster.restart(id);
    }
    assert!(cluster.run(&["export"]).ok().stdout == text, "the export differs from the file");
}

#[test]
fn a_node_that_missed_what_is_compacted_gets_a_snapshot_and_keeps_it() {
    let text = text(3_000);
    let mut cluster = Cluster::start(3, &["--snapshot-log-bytes", "50000"]);
    let leader = cluster.leader();
    let missing = leader % 3 + 1;
    cluster.kill(missing);
    let members = cluster.members.clone();
    import(&members, &text, || {});
    cluster.restart(missing);
    let last = cluster.status()[leader - 1]["commit"].as_u64().unwrap();
    eventually("the node has caught up", || {
        let status = cluster.status().swap_remove(missing - 1);
        let snapshot = status["snapshot"]["index"].as_u64()?;
        (status["applied"].as_u64()? >= last && snapshot > 0).then_some(())
    });
    // Without the one that has always been there, the others need it.
    cluster.kill(leader);
    assert!(cluster.run(&["export"]).ok().stdout == text, "the export differs from the file");
    cluster.kill(missing);
    cluster.restart(missing);
    assert!(cluster.run(&["export"]).ok().stdout == text, "the export differs after a restart");
}

#[test]
fn a_node_that_is_told_to_stop_stops_in_good_order_and_starts_again() {
    let mut cluster = Cluster::start(1, &[]);
    cluster.run(&["put", "k", "v"]).ok();
    for name in ["TERM", "INT"] {
        cluster.node(1).signal(name);
        let logged = cluster.node(1).logged();
        assert_eq!(cluster.node(1).ended(), Some(0), "{logged}");
        cluster.restart(1);
        assert_eq!(cluster.run(&["get", "k"]).ok().text(), "v\n");
    }
}
