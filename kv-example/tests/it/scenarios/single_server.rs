//! What a store on one machine promises, on a cluster of one.

use kv_example::store::Version;
use raft_sim::network::Conditions;

use super::world::{Put, World, play};

#[test]
fn kv_single_server() {
    play(1, None, |world| async move {
        let client = world.client(1);
        assert_eq!(client.put("k", "6.5840", Version::ABSENT).await, Put::Done(Version(1)));
        assert_eq!(client.expect("k", "6.5840").await, Version(1));
        // It exists.
        assert_eq!(client.put("k", "6.5840", Version::ABSENT).await, Put::Version(Version(1)));
        assert_eq!(client.put("k", "6.5840", Version(2)).await, Put::Version(Version(1)));
        assert_eq!(client.put("absent", "6.5840", Version(1)).await, Put::NoKey);
        assert_eq!(client.get("absent").await, None);
        assert_eq!(client.put("k", "6.5841", Version(1)).await, Put::Done(Version(2)));
        assert_eq!(client.expect("k", "6.5841").await, Version(2));
    });
}

/// A put that ends as a maybe is tried again with another value: that may only be refused, since the first one counted.
#[test]
fn kv_single_server_lost_replies() {
    const ROUNDS: u64 = 100;
    play(1, None, |world| async move {
        world.cluster.network().set_conditions(Conditions::unreliable());
        let client = world.client(1);
        let mut maybes = 0;
        for round in 0..ROUNDS {
            let mut put = client.put("k", "first", Version(round)).await;
            assert!(matches!(put, Put::Done(_) | Put::Maybe), "{put:?}");
            while put == Put::Maybe {
                maybes += 1;
                put = client.put("k", "again", Version(round)).await;
                let expected = [Put::Maybe, Put::Version(Version(round + 1))];
                assert!(expected.contains(&put), "a put was carried out twice: {put:?}");
            }
            assert_eq!(client.expect("k", "first").await, Version(round + 1));
        }
        assert!(maybes > 0, "no reply was lost in {ROUNDS} rounds");
    });
}

#[test]
fn kv_single_server_reads_from_its_disk_what_it_had() {
    play(1, None, |world: World| async move {
        let client = world.client(1);
        client.put("k", "v", Version::ABSENT).await;
        for crash in [raft_sim::event::Crash::Killed, raft_sim::event::Crash::PowerLost] {
            let id = world.leader().await;
            world.cluster.crash(id, crash);
            world.cluster.start(id);
            assert_eq!(client.expect("k", "v").await, Version(1));
        }
    });
}
