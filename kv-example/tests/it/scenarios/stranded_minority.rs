//! A leader that is cut off with a minority does not know it, and must not answer.

use futures::FutureExt;
use futures::future::join;
use kv_example::store::Version;
use raft_rsm::raft_core::NodeId;
use raft_sim::event::Site;
use raft_sim::network::Conditions;

use super::world::{ELECTION_TIMEOUT, SECOND, World, play, sites};

#[test]
fn kv_one_partition() {
    play(5, None, one_partition);
}

async fn one_partition(world: World) {
    world.cluster.network().set_conditions(Conditions::unreliable());
    let before = world.client(1);
    before.put_at_least_once("1", "13", Version::ABSENT).await;
    let old = world.leader().await;
    let (minority, majority): (Vec<NodeId>, Vec<NodeId>) = {
        let mut ids = world.cluster.ids();
        ids.sort_by_key(|id| *id != old);
        (ids[..2].to_vec(), ids[2..].to_vec())
    };
    world.split(&minority);
    let (with_majority, putting, getting) = (world.client(2), world.client(3), world.client(4));
    let network = world.cluster.network();
    network.separate(&[Site::Client(2)], &sites(&minority));
    network.separate(&[Site::Client(3), Site::Client(4)], &sites(&majority));

    // The majority goes on.
    let version = with_majority.expect("1", "13").await;
    with_majority.put_at_least_once("1", "14", version).await;
    let version = with_majority.expect("1", "14").await;

    let put = world.spawn(async move { putting.put_at_least_once("1", "15", version).await });
    let get = world.spawn(async move { getting.get("1").await });
    let mut stranded = join(put, get).fuse();
    let mut one_second = world.cluster.sleep(SECOND).fuse();
    futures::select_biased! {
        _ = stranded => panic!("a minority answers"),
        () = one_second => {}
    }
    let version = with_majority.expect("1", "14").await;
    with_majority.put_at_least_once("1", "16", version).await;
    let version = with_majority.expect("1", "16").await;

    world.cluster.network().heal();
    world.sleep(ELECTION_TIMEOUT).await;
    let mut three_seconds = world.cluster.sleep(3 * SECOND).fuse();
    let (put, got) = futures::select_biased! {
        both = stranded => both,
        () = three_seconds => panic!("the put and the get do not finish"),
    };
    put.unwrap();
    let got = got.unwrap().unwrap();
    assert!([&b"15"[..], b"16"].contains(&&*got.value), "{got:?}");
    assert!(with_majority.expect("1", "15").await > version);
}
