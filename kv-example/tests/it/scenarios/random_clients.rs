//! Clients that put as fast as they can, while servers and network fail.

use std::convert::Infallible;

use futures::future::{join_all, pending};
use kv_example::store::Version;
use raft_rsm::raft_core::NodeId;
use raft_sim::event::Crash;
use raft_sim::network::{Conditions, Lie};
use raft_sim::{Random, Report};

use super::world::{
    ELECTION_TIMEOUT, MS, SECOND, THRESHOLD, TestClient, World, during, play_seed, play_seeds,
};

/// The clients work so often, with what goes wrong between.
const ROUNDS: usize = 2;

/// In each of them so long.
const ROUND: std::time::Duration = SECOND.saturating_mul(5);

/// The keys of scenarios with random keys.
const KEYS: usize = 10;

/// Who takes part, and what goes wrong.
#[derive(Copy, Clone, Debug)]
struct Scenario {
    clients: u64,
    servers: usize,
    is_unreliable: bool,
    /// All crash in the middle of each round.
    crashes: bool,
    /// A random split every 1 to 1.2 s.
    partitions: bool,
    threshold: Option<u64>,
    has_random_keys: bool,
    /// Every write is made exactly once.
    in_sessions: bool,
}

/// Clients and servers, and nothing goes wrong.
const fn scenario(clients: u64, servers: usize) -> Scenario {
    Scenario {
        clients,
        servers,
        is_unreliable: false,
        crashes: false,
        partitions: false,
        threshold: None,
        has_random_keys: false,
        in_sessions: false,
    }
}

/// Puts of one key, counted.
#[derive(Copy, Clone, Debug, Default)]
struct Puts {
    done: u64,
    maybe: u64,
}

impl Scenario {
    const fn unreliable(self) -> Scenario {
        Scenario { is_unreliable: true, ..self }
    }

    const fn crashes(self) -> Scenario {
        Scenario { crashes: true, ..self }
    }

    const fn partitions(self) -> Scenario {
        Scenario { partitions: true, ..self }
    }

    const fn snapshots(self) -> Scenario {
        Scenario { threshold: Some(THRESHOLD), ..self }
    }

    const fn random_keys(self) -> Scenario {
        Scenario { has_random_keys: true, ..self }
    }

    const fn in_sessions(self) -> Scenario {
        Scenario { in_sessions: true, ..self }
    }

    fn play(self) {
        // Where requests are lost, clients mostly wait, and a run costs little.
        let seeds = if self.is_unreliable { 0..5 } else { 0..2 };
        let run = move |world| self.run(world);
        let reports = play_seeds(seeds, self.servers, self.threshold, run);
        reports.iter().for_each(|report| self.check_report(report));
    }

    /// What was to happen has happened.
    fn check_report(self, report: &Report) {
        let counts = &report.counts;
        assert_eq!(self.crashes, counts.kills + counts.power_losses > 0);
        assert_eq!(self.threshold.is_some(), counts.snapshots_stored > 0);
        assert!(!self.is_unreliable || counts.calls_maybe > 0, "something was lost");
        assert!(!self.partitions || counts.elections_won > 1, "the leader was cut off at times");
    }

    async fn run(self, world: World) {
        world.leader().await;
        if self.is_unreliable {
            world.cluster.network().set_conditions(Conditions::unreliable());
        }
        let mut puts = Puts::default();
        for round in 0..ROUNDS {
            let work = self.round(&world, round, &mut puts);
            match self.threshold {
                Some(_) => during(world.watch_logs(), work).await,
                None => work.await,
            }
        }
        if self.has_random_keys {
            return;
        }
        let found = world.client(u64::MAX).get("k").await;
        let Version(version) = found.map_or(Version::ABSENT, |versioned| versioned.version);
        let is_all_well = !self.is_unreliable && !self.crashes && !self.partitions;
        if is_all_well || self.in_sessions {
            assert_eq!(puts.maybe, 0, "nothing failed, or all is known");
        }
        let possible = puts.done..=puts.done + puts.maybe;
        assert!(possible.contains(&version), "version {version} after {puts:?}");
    }

    async fn round(self, world: &World, round: usize, puts: &mut Puts) {
        let random = world.random.fork(&format!("round {round}"));
        let until = world.cluster.now() + ROUND;
        let clients = (0..self.clients).map(|number| {
            let client = match self.in_sessions {
                true => world.client_in_session(number),
                false => world.client(number),
            };
            let random = random.fork(&format!("client {number}"));
            world.spawn(self.put_until(client, until, random))
        });
        let clients = join_all(clients.collect::<Vec<_>>());
        let network = async {
            if self.partitions {
                split_at_random(world, random.fork("splits")).await
            } else {
                pending().await
            }
        };
        let rest = async {
            if self.crashes {
                world.sleep(ROUND / 2).await;
                crash_all(world, random.fork("crashes")).await;
            }
            world.sleep(until.saturating_sub(world.cluster.now())).await;
        };
        during(network, rest).await;
        world.cluster.network().heal();
        for done in clients.await {
            let Puts { done, maybe } = done.unwrap();
            puts.done += done;
            puts.maybe += maybe;
        }
    }

    /// One client.
    async fn put_until(
        self,
        client: TestClient,
        until: std::time::Duration,
        mut random: Random,
    ) -> Puts {
        let mut puts = Puts::default();
        let mut believed = [Version::ABSENT; KEYS];
        while client.world.cluster.now() < until {
            let number = if self.has_random_keys { random.index(KEYS) } else { 0 };
            let key = if self.has_random_keys { format!("k{number}") } else { "k".to_owned() };
            let value = format!("{:x}", random.next());
            // Keys begin anew, at versions that they had before.
            if self.in_sessions && self.has_random_keys && random.chance(0.3) {
                client.delete(&key, believed[number]).await;
                believed[number] = Version::ABSENT;
            }
            let (version, is_done) = client.put_until_written(&key, value, believed[number]).await;
            believed[number] = version;
            *(if is_done { &mut puts.done } else { &mut puts.maybe }) += 1;
        }
        puts
    }
}

/// Once the clients have worked for a while without, a random split every 1 to 1.2 s.
async fn split_at_random(world: &World, mut random: Random) -> Infallible {
    world.sleep(SECOND).await;
    loop {
        let left: Vec<NodeId> =
            world.cluster.ids().into_iter().filter(|_| random.chance(0.5)).collect();
        world.split(&left);
        world.sleep(random.duration(&(SECOND..1200 * MS))).await;
    }
}

/// Ends all nodes at once, and starts them again a while later.
async fn crash_all(world: &World, mut random: Random) {
    let crash = *random.choose(&[Crash::Killed, Crash::PowerLost]);
    for id in world.cluster.ids() {
        world.cluster.crash(id, crash);
    }
    world.sleep(ELECTION_TIMEOUT).await;
    world.cluster.start_all();
}

#[test]
fn kv_basic() {
    scenario(1, 5).play();
}

#[test]
fn kv_concurrent() {
    scenario(5, 5).play();
}

#[test]
fn kv_unreliable() {
    scenario(5, 5).unreliable().play();
}

#[test]
fn kv_many_partitions_one_client() {
    scenario(1, 5).partitions().play();
}

#[test]
fn kv_many_partitions_many_clients() {
    scenario(5, 5).partitions().play();
}

#[test]
fn kv_persist_one() {
    scenario(1, 5).crashes().play();
}

#[test]
fn kv_persist_concurrent() {
    scenario(5, 5).crashes().play();
}

#[test]
fn kv_persist_concurrent_unreliable() {
    scenario(5, 5).unreliable().crashes().play();
}

#[test]
fn kv_persist_partition() {
    scenario(5, 5).crashes().partitions().play();
}

#[test]
fn kv_persist_partition_unreliable() {
    scenario(5, 5).unreliable().crashes().partitions().play();
}

#[test]
fn kv_persist_partition_unreliable_linearizable() {
    scenario(15, 7).unreliable().crashes().partitions().random_keys().play();
}

#[test]
fn kv_snapshot_recover() {
    scenario(1, 5).crashes().snapshots().play();
}

#[test]
fn kv_snapshot_recover_many_clients() {
    scenario(20, 5).crashes().snapshots().play();
}

#[test]
fn kv_snapshot_unreliable() {
    scenario(5, 5).unreliable().snapshots().play();
}

#[test]
fn kv_snapshot_unreliable_recover() {
    scenario(5, 5).unreliable().crashes().snapshots().play();
}

#[test]
fn kv_snapshot_unreliable_recover_partition() {
    scenario(5, 5).unreliable().crashes().partitions().snapshots().play();
}

#[test]
fn kv_snapshot_unreliable_recover_partition_linearizable() {
    scenario(15, 7).unreliable().crashes().partitions().snapshots().random_keys().play();
}

#[test]
fn kv_session_basic() {
    scenario(1, 5).in_sessions().play();
}

#[test]
fn kv_session_concurrent() {
    scenario(5, 5).in_sessions().play();
}

#[test]
fn kv_session_unreliable() {
    scenario(5, 5).in_sessions().unreliable().play();
}

#[test]
fn kv_session_many_partitions_many_clients() {
    scenario(5, 5).in_sessions().partitions().play();
}

#[test]
fn kv_session_persist_concurrent_unreliable() {
    scenario(5, 5).in_sessions().unreliable().crashes().play();
}

#[test]
fn kv_session_persist_partition_unreliable_linearizable() {
    scenario(15, 7).in_sessions().unreliable().crashes().partitions().random_keys().play();
}

#[test]
fn kv_session_snapshot_unreliable_recover() {
    scenario(5, 5).in_sessions().unreliable().crashes().snapshots().play();
}

#[test]
fn kv_session_snapshot_unreliable_recover_partition() {
    scenario(5, 5).in_sessions().unreliable().crashes().partitions().snapshots().play();
}

#[test]
fn kv_session_snapshot_unreliable_recover_partition_linearizable() {
    scenario(15, 7)
        .in_sessions()
        .unreliable()
        .crashes()
        .partitions()
        .snapshots()
        .random_keys()
        .play();
}

/// The same on a cluster of one, as far as it makes sense.
#[test]
fn kv_single_server_random_clients() {
    for scenario in [
        scenario(1, 1),
        scenario(5, 1),
        scenario(5, 1).unreliable(),
        scenario(5, 1).unreliable().crashes(),
        scenario(20, 1).crashes().snapshots(),
        scenario(15, 1).unreliable().crashes().snapshots().random_keys(),
        scenario(5, 1).in_sessions().unreliable().crashes(),
        scenario(15, 1).in_sessions().unreliable().crashes().snapshots().random_keys(),
    ] {
        scenario.play();
    }
}

#[test]
#[should_panic(expected = "no order of the operations explains")]
fn a_network_that_mixes_up_answers_is_found_out() {
    play_seed(
        0,
        5,
        |_| (),
        |world| async move {
            world.cluster.network().lie(Some(Lie::AnswersOfAnotherCall));
            // Without a final count, which would notice it as well.
            scenario(5, 5).unreliable().random_keys().run(world).await;
        },
    );
}

#[test]
#[should_panic(expected = "the log of node")]
fn a_log_that_nobody_compacts_is_found_out() {
    play_seed(0, 3, |_| (), |world| scenario(5, 3).snapshots().run(world));
}
