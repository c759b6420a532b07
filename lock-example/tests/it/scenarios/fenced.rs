//! The lock that survives its holder.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use lock_example::fence::Fence;
use lock_example::fenced::AcquireError;
use raft_sim::event::{Crash, Site};
use raft_sim::network::Conditions;

use super::world::{MS, PATIENCE, SECOND, World, assert_growing, play};

const TTL: Duration = SECOND.saturating_mul(2);

/// Clients take the lock in turn for two seconds; under it, each is alone.
fn contend(clients: u64, conditions: Conditions) {
    play(1, |world: World| {
        let conditions = conditions.clone();
        async move {
            world.leader().await;
            world.cluster.network().set_conditions(conditions);
            let until = world.cluster.now() + 2 * SECOND;
            let work = (1..=clients).map(|number| {
                let (client, world) = (world.client(number), world.clone());
                world.clone().spawn(async move {
                    let (locks, mut tokens) = (client.fenced(), Vec::new());
                    while world.cluster.now() < until {
                        let guard = locks.acquire("l", TTL, PATIENCE).await.unwrap();
                        client.use_alone().await;
                        tokens.push(guard.token());
                        guard.release().await.unwrap();
                    }
                    assert_growing(&tokens);
                    tokens
                })
            });
            let tokens: Vec<_> = join_all(work).await.into_iter().map(Result::unwrap).collect();
            let mut tokens = tokens.concat();
            assert!(tokens.len() >= 3, "only {} turns in 2 s", tokens.len());
            tokens.sort_unstable();
            assert_growing(&tokens);
        }
    });
}

#[test]
fn fenced_lock_one_client_reliable() {
    contend(1, Conditions::reliable());
}

#[test]
fn fenced_lock_ten_clients_reliable() {
    contend(10, Conditions::reliable());
}

#[test]
fn fenced_lock_one_client_unreliable() {
    contend(1, Conditions::unreliable());
}

#[test]
fn fenced_lock_ten_clients_unreliable() {
    contend(10, Conditions::unreliable());
}

/// The answer to a release is lost, another client acquires, and the first one repeats its release.
#[test]
fn fenced_lock_release_maybe() {
    play(3, |world| async move {
        let [first, second, third] = [1, 2, 3].map(|number| world.client(number));
        let guard = first.fenced().acquire("l", TTL, PATIENCE).await.unwrap();
        first.lossy.answers_to_lose.store(1, Ordering::SeqCst);
        let lossy = first.lossy.clone();
        let gate = lossy.gate.lock().await;
        let releasing = world.spawn(async move { guard.release().await });
        let seconds = second.fenced().acquire("l", TTL, PATIENCE).await.unwrap();
        drop(gate);
        releasing.await.unwrap().unwrap();
        assert_eq!(first.lossy.answers_to_lose.load(Ordering::SeqCst), 0);
        world.sleep(3 * TTL).await;
        assert!(seconds.is_held());
        let thirds = third.fenced().try_acquire("l", TTL, PATIENCE).await.unwrap();
        assert!(thirds.is_none());
    });
}

/// The answers to what an acquire sends are lost, one, two or all of them: the client finds out that it holds the lock.
#[test]
fn fenced_lock_acquire_maybe() {
    play(3, |world| async move {
        let [first, second] = [1, 2].map(|number| world.client(number));
        let mut tokens = Vec::new();
        for lost in [1, 2, 5] {
            first.lossy.answers_to_lose.store(lost, Ordering::SeqCst);
            let guard = first.fenced().acquire("l", TTL, PATIENCE).await.unwrap();
            tokens.push(guard.token());
            assert!(second.fenced().try_acquire("l", TTL, PATIENCE).await.unwrap().is_none());
            first.lossy.answers_to_lose.store(0, Ordering::SeqCst);
            guard.release().await.unwrap();
            let guard = second.fenced().acquire("l", TTL, PATIENCE).await.unwrap();
            tokens.push(guard.token());
            guard.release().await.unwrap();
        }
        assert_growing(&tokens);
    });
}

#[test]
fn those_who_wait_have_their_turn_in_the_order_in_which_they_came() {
    play(3, |world| async move {
        let clients: Vec<_> = (0..8).map(|number| world.client(number)).collect();
        let first = clients[0].fenced().acquire("l", TTL, PATIENCE).await.unwrap();
        let mut waiting = Vec::new();
        for client in &clients[1..] {
            let (locks, there) = (client.fenced(), world.clone());
            waiting.push(client.spawn(async move {
                let guard = locks.acquire("l", TTL, PATIENCE).await.unwrap();
                let since = there.cluster.now();
                there.sleep(10 * MS).await;
                guard.release().await.unwrap();
                (guard.token(), since)
            }));
            while clients[0].fenced().in_line("l").await.unwrap() <= waiting.len() {
                world.sleep(MS).await;
            }
        }
        first.release().await.unwrap();
        let turns: Vec<_> = join_all(waiting).await.into_iter().map(Result::unwrap).collect();
        assert_growing(&turns.iter().map(|(token, _)| *token).collect::<Vec<_>>());
        assert_growing(&turns.iter().map(|(_, since)| *since).collect::<Vec<_>>());
    });
}

/// Those behind do not ask again and again, and one release does not wake them all.
#[test]
fn waiters_ask_nothing_while_nothing_happens_and_one_release_wakes_one() {
    play(1, |world| async move {
        let node = world.leader().await;
        let clients: Vec<_> = (0..10).map(|number| world.client(number)).collect();
        // Long leases: what is counted is not keeping them alive.
        let ttl = 600 * SECOND;
        let first = clients[0].fenced().acquire("l", ttl, PATIENCE).await.unwrap();
        let waiting: Vec<_> = clients[1..]
            .iter()
            .map(|client| {
                let locks = client.fenced();
                client.spawn(async move { locks.acquire("l", ttl, 3600 * SECOND).await.unwrap() })
            })
            .collect();
        while clients[0].fenced().in_line("l").await.unwrap() < 10 {
            world.sleep(MS).await;
        }
        world.sleep(SECOND).await;
        let requests = || world.cluster.network().counters(node).requests;
        let before = requests();
        world.sleep(20 * SECOND).await;
        // Each watch is asked for again after some seconds; learning the members costs a little.
        let idle = requests() - before;
        assert!(idle <= 9 * 5 + 20, "{idle} requests of nine waiters in 20 s");

        let before = requests();
        first.release().await.unwrap();
        world.sleep(500 * MS).await;
        // The release, the watch that it ends, a look at the line; a few watches that were due.
        let woken = requests() - before;
        assert!(woken <= 3 + 4, "{woken} requests for one release");
        assert_eq!(clients[0].fenced().in_line("l").await.unwrap(), 9);
        let is_done = waiting.into_iter().filter_map(|mut turn| turn.try_recv().unwrap()).count();
        assert_eq!(is_done, 1);
    });
}

#[test]
fn the_lock_of_a_killed_holder_passes_on_after_its_lease() {
    play(3, |world| async move {
        let [first, second] = [1, 2].map(|number| world.client(number));
        let locks = first.fenced();
        let guard = first.spawn(async move { locks.acquire("l", TTL, PATIENCE).await.unwrap() });
        let guard = guard.await.unwrap();
        let begun = world.cluster.now();
        first.kill();
        let seconds = second.fenced().acquire("l", TTL, PATIENCE).await.unwrap();
        let waited = world.cluster.now() - begun;
        assert!(waited <= TTL + SECOND, "{waited:?}");
        assert!(seconds.token() > guard.token());
    });
}

#[test]
fn a_paused_holder_is_refused_by_the_fence_and_knows_that_it_has_lost_the_lock() {
    play(3, |world| async move {
        let [first, second] = [1, 2].map(|number| world.client(number));
        let (locks, mut fence) = (first.fenced(), Fence::default());
        let guard = first.spawn(async move { locks.acquire("l", TTL, PATIENCE).await.unwrap() });
        let guard = guard.await.unwrap();
        fence.admit(guard.token()).unwrap();
        first.pause();
        let seconds = second.fenced().acquire("l", TTL, PATIENCE).await.unwrap();
        fence.admit(seconds.token()).unwrap();
        // It wakes up, and writes before it looks.
        first.resume();
        fence.admit(guard.token()).unwrap_err();
        assert!(!guard.is_held());
        guard.lost().await;
        // Nothing that the first one does takes the lock from the second.
        guard.release().await.unwrap();
        drop(guard);
        world.sleep(2 * TTL).await;
        assert!(seconds.is_held());
        fence.admit(seconds.token()).unwrap();
    });
}

#[test]
fn a_holder_that_is_cut_off_knows_it_before_another_one_holds_the_lock() {
    play(3, |world| async move {
        let [first, second] = [1, 2].map(|number| world.client(number));
        let guard = first.fenced().acquire("l", TTL, PATIENCE).await.unwrap();
        let locks = second.fenced();
        let mut seconds =
            second.spawn(async move { locks.acquire("l", TTL, PATIENCE).await.unwrap() });
        world.sleep(3 * TTL).await;
        assert!(guard.is_held(), "it was kept alive");
        world.cluster.network().isolate(Site::Client(1));
        guard.lost().await;
        assert!(!guard.is_held());
        assert!(seconds.try_recv().unwrap().is_none(), "two hold the lock");
        let seconds = seconds.await.unwrap();
        assert!(seconds.token() > guard.token());
    });
}

/// A request ends long before such a lease does: between two tries there is a pause.
#[test]
fn a_holder_of_a_long_lease_that_is_cut_off_is_told_when_it_stops_counting_as_the_holder() {
    play(3, |world| async move {
        let client = world.client_within(1, 2 * SECOND);
        let guard = client.fenced().acquire("l", 100 * SECOND, PATIENCE).await.unwrap();
        world.cluster.network().isolate(Site::Client(1));
        while guard.is_held() {
            assert!(guard.lost().now_or_never().is_none());
            world.sleep(10 * MS).await;
        }
        world.sleep(10 * MS).await;
        assert!(guard.lost().now_or_never().is_some(), "it is not told");
    });
}

#[test]
fn a_lock_that_is_released_while_the_store_is_away_passes_on_when_it_is_back() {
    play(3, |world| async move {
        let [first, second] = [1, 2].map(|number| world.client_within(number, 2 * SECOND));
        let guard = first.fenced().acquire("l", 3600 * SECOND, PATIENCE).await.unwrap();
        world.cluster.network().isolate(Site::Client(1));
        guard.release().await.unwrap_err();
        world.cluster.network().heal();
        let seconds = second.fenced().acquire("l", TTL, 10 * SECOND).await.unwrap();
        assert!(seconds.token() > guard.token());
    });
}

#[test]
fn a_lock_outlives_the_leader_of_the_store() {
    play(3, |world| async move {
        let client = world.client(1);
        let guard = client.fenced().acquire("l", 5 * SECOND, PATIENCE).await.unwrap();
        for _ in 0..3 {
            let leader = world.leader().await;
            world.cluster.crash(leader, Crash::PowerLost);
            world.sleep(4 * SECOND).await;
            world.cluster.start(leader);
            world.sleep(4 * SECOND).await;
        }
        assert!(guard.is_held());
        assert!(guard.lost().now_or_never().is_none());
    });
}

#[test]
fn who_gives_up_waiting_leaves_the_line_and_those_behind_move_up() {
    play(3, |world| async move {
        let [first, second, third] = [1, 2, 3].map(|number| world.client(number));
        let guard = first.fenced().acquire("l", TTL, PATIENCE).await.unwrap();
        let locks = second.fenced();
        let gives_up = second.spawn(async move { locks.acquire("l", 600 * SECOND, SECOND).await });
        while first.fenced().in_line("l").await.unwrap() < 2 {
            world.sleep(MS).await;
        }
        let locks = third.fenced();
        let mut waits =
            third.spawn(async move { locks.acquire("l", TTL, PATIENCE).await.unwrap() });
        let refused = gives_up.await.unwrap();
        assert!(matches!(refused, Err(AcquireError::TimedOut)), "{refused:?}");
        world.sleep(SECOND).await;
        // The third one has been woken, and knows better than to take what the first one holds.
        assert!(waits.try_recv().unwrap().is_none());
        assert_eq!(first.fenced().in_line("l").await.unwrap(), 2);
        guard.release().await.unwrap();
        waits.await.unwrap();
    });
}

/// That others were seen once says nothing of them when the store is gone: whether its own lease is over by then, or not.
#[test]
fn who_hears_nothing_of_the_store_does_not_say_that_others_held_the_lock() {
    for ttl in [TTL, 600 * SECOND] {
        play(3, |world| async move {
            let [first, second] = [1, 2].map(|number| world.client(number));
            let _guard = first.fenced().acquire("l", TTL, PATIENCE).await.unwrap();
            let locks = second.fenced();
            let waiting = second.spawn(async move { locks.acquire("l", ttl, 10 * SECOND).await });
            while first.fenced().in_line("l").await.unwrap() < 2 {
                world.sleep(MS).await;
            }
            world.sleep(SECOND).await;
            world.cluster.network().isolate(Site::Client(2));
            let refused = waiting.await.unwrap();
            assert!(matches!(refused, Err(AcquireError::NoAnswer)), "{refused:?}");
        });
    }
}

/// "Not now" is said of others alone: not where the own lease ended before the store had answered.
#[test]
fn who_tries_a_free_lock_for_longer_than_its_lease_lives_is_not_told_that_others_have_it() {
    play(3, |world| async move {
        let client = world.client(1);
        // Each command is done at once, and its answer is lost, until the lease of the first one is over.
        let gate = client.lossy.gate.lock().await;
        let (locks, ttl) = (client.fenced(), 500 * MS);
        client.lossy.answers_to_lose.store(usize::MAX, Ordering::SeqCst);
        let trying = client.spawn(async move { locks.try_acquire("l", ttl, PATIENCE).await });
        world.sleep(3 * SECOND).await;
        client.lossy.answers_to_lose.store(0, Ordering::SeqCst);
        drop(gate);
        let tried = trying.await.unwrap();
        assert!(matches!(tried, Err(AcquireError::NoAnswer)), "{tried:?}");
    });
}

#[test]
fn a_guard_that_is_dropped_passes_the_lock_on_at_once() {
    play(3, |world| async move {
        let [first, second] = [1, 2].map(|number| world.client(number));
        drop(first.fenced().acquire("l", 600 * SECOND, PATIENCE).await.unwrap());
        second.fenced().acquire("l", TTL, SECOND).await.unwrap();
    });
}

#[test]
fn a_lock_can_be_tried_and_others_are_not_kept_waiting_by_that() {
    play(3, |world| async move {
        let [first, second] = [1, 2].map(|number| world.client(number));
        let ttl = 600 * SECOND;
        let guard = first.fenced().try_acquire("l", ttl, PATIENCE).await.unwrap().unwrap();
        assert!(second.fenced().try_acquire("l", ttl, PATIENCE).await.unwrap().is_none());
        assert_eq!(first.fenced().in_line("l").await.unwrap(), 1);
        guard.release().await.unwrap();
        // A release that is repeated is the same release.
        guard.release().await.unwrap();
        assert!(second.fenced().try_acquire("l", ttl, PATIENCE).await.unwrap().is_some());
    });
}

#[test]
fn a_name_that_begins_with_anothers_is_another_lock() {
    play(1, |world| async move {
        let client = world.client(1);
        let _a = client.fenced().acquire("a", TTL, PATIENCE).await.unwrap();
        let _b = client.fenced().acquire("a/b", TTL, SECOND).await.unwrap();
        let _c = client.fenced().acquire("a/0123456789abcdef", TTL, SECOND).await.unwrap();
        assert_eq!(client.fenced().in_line("a").await.unwrap(), 1);
    });
}

#[test]
fn what_cannot_be_a_lock_is_refused_on_the_spot() {
    play(1, |world| async move {
        let locks = world.client(1).fenced();
        let refused = locks.acquire("", TTL, PATIENCE).await;
        assert!(matches!(refused, Err(AcquireError::Name { bytes: 0 })), "{refused:?}");
        let refused = locks.acquire("l", Duration::ZERO, PATIENCE).await;
        assert!(matches!(refused, Err(AcquireError::Ttl { .. })), "{refused:?}");
        let refused = locks.acquire("l", Duration::MAX, PATIENCE).await;
        assert!(matches!(refused, Err(AcquireError::Ttl { .. })), "{refused:?}");
    });
}
