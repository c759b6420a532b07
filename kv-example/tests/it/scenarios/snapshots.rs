//! Followers that come back after the log that they lack is gone, and snapshots that stay small.

use kv_example::store::Version;
use raft_rsm::raft_core::NodeId;
use raft_sim::event::Site;

use super::world::{
    ELECTION_TIMEOUT, LOG_BYTES_MAX, Put, THRESHOLD, TestClient, World, during, play, sites,
};

/// Keys of [`kv_snapshot_rpc`], before the follower comes back.
const KEYS: u64 = 50;

const ALL: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

async fn create(client: &TestClient, key: &str, value: &str) {
    assert_eq!(client.put(key, value.to_owned(), Version::ABSENT).await, Put::Done(Version(1)));
}

/// Lets two nodes, and the client, reach each other and nobody else.
fn connect_only(world: &World, client: u64, two: [NodeId; 2]) {
    let third: Vec<NodeId> = ALL.into_iter().filter(|id| !two.contains(id)).collect();
    world.split(&third);
    world.cluster.network().separate(&[Site::Client(client)], &sites(&third));
}

#[test]
fn kv_snapshot_rpc() {
    let reports = play(3, Some(THRESHOLD), |world| async move {
        during(world.watch_logs(), snapshot_rpc(&world)).await;
    });
    for report in reports {
        assert!(report.counts.snapshots_installed > 0, "seed {}: by the log alone", report.seed);
    }
}

async fn snapshot_rpc(world: &World) {
    let client = world.client(1);
    connect_only(world, 1, [ALL[0], ALL[1]]);
    for number in 0..KEYS {
        create(&client, &number.to_string(), &number.to_string()).await;
    }
    world.sleep(ELECTION_TIMEOUT).await;
    create(&client, "b", "B").await;
    check_logs(world);

    // A majority that needs the one that lagged.
    connect_only(world, 1, [ALL[0], ALL[2]]);
    create(&client, "c", "C").await;
    create(&client, "d", "D").await;
    client.expect("b", "B").await;
    client.expect("1", "1").await;
    client.expect("49", "49").await;

    world.cluster.network().heal();
    create(&client, "e", "E").await;
    for (key, value) in [("b", "B"), ("c", "C"), ("d", "D"), ("e", "E")] {
        client.expect(key, value).await;
    }
    for number in 0..KEYS {
        client.expect(&number.to_string(), &number.to_string()).await;
    }
}

#[test]
fn kv_snapshot_size() {
    const ROUNDS: u64 = 200;
    const SNAPSHOT_BYTES_MAX: u64 = 500;
    play(3, Some(THRESHOLD), |world| async move {
        let work = async {
            let client = world.client(1);
            for round in 0..ROUNDS {
                for (value, version) in [("0", 2 * round), ("1", 2 * round + 1)] {
                    let put = client.put("x", value, Version(version)).await;
                    assert_eq!(put, Put::Done(Version(version + 1)));
                    assert_eq!(client.expect("x", value).await, Version(version + 1));
                }
            }
            check_logs(&world);
            for id in ALL {
                let status = world.cluster.status(id).unwrap();
                assert!(status.snapshot.is_some());
                assert!(status.snapshot_bytes <= SNAPSHOT_BYTES_MAX, "{status:?}");
            }
        };
        during(world.watch_logs(), work).await;
    });
}

fn check_logs(world: &World) {
    for id in ALL {
        let bytes = world.cluster.status(id).unwrap().log_bytes;
        assert!(bytes <= LOG_BYTES_MAX, "the log of node {id} has {bytes} bytes");
    }
}
