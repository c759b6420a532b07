//! One client, one put after the other.

use std::time::Duration;

use kv_example::store::Version;

use super::world::{MS, Put, THRESHOLD, World, during, play};

const PUTS: u64 = 1000;

/// No put may take longer.
const PUT_MAX: Duration = MS.saturating_mul(33);

async fn put_one_after_the_other(world: World) {
    world.leader().await;
    let client = world.client(1);
    // The first one finds out who leads.
    client.put("first", "", Version::ABSENT).await;
    for version in 0..PUTS {
        let began = world.cluster.now();
        let put = client.put("k", version.to_string(), Version(version)).await;
        assert_eq!(put, Put::Done(Version(version + 1)));
        let took = world.cluster.now() - began;
        assert!(took <= PUT_MAX, "put {version} took {took:?}");
    }
    assert_eq!(client.expect("k", &(PUTS - 1).to_string()).await, Version(PUTS));
}

#[test]
fn kv_speed() {
    play(3, None, put_one_after_the_other);
}

#[test]
fn kv_speed_with_snapshots() {
    let reports = play(3, Some(THRESHOLD), |world| async move {
        during(world.clone().watch_logs(), put_one_after_the_other(world)).await;
    });
    assert!(reports.iter().all(|report| report.counts.snapshots_stored > 50));
}
