//! The lock on versioned put and get.

use std::sync::atomic::Ordering;

use futures::future::{Either, join_all, select};
use lock_example::versioned::AcquireError;
use raft_sim::event::Site;
use raft_sim::network::Conditions;

use super::world::{MS, PATIENCE, SECOND, World, play};

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
                    let (mut lock, mut turns) = (client.versioned(), 0);
                    while world.cluster.now() < until {
                        match lock.acquire(PATIENCE).await {
                            Ok(()) => {}
                            Err(error) => panic!("client {number}: {error}"),
                        }
                        client.use_alone().await;
                        lock.release().await.expect("it never gives up");
                        turns += 1;
                    }
                    turns
                })
            });
            let turns: u32 = join_all(work).await.into_iter().map(Result::unwrap).sum();
            assert!(turns >= 3, "only {turns} turns in 2 s");
        }
    });
}

#[test]
fn lock_one_client_reliable() {
    contend(1, Conditions::reliable());
}

#[test]
fn lock_ten_clients_reliable() {
    contend(10, Conditions::reliable());
}

#[test]
fn lock_one_client_unreliable() {
    contend(1, Conditions::unreliable());
}

#[test]
fn lock_ten_clients_unreliable() {
    contend(10, Conditions::unreliable());
}

/// The answer to a release is lost, another client acquires, and the first one repeats its release.
#[test]
fn lock_release_maybe() {
    play(3, |world| async move {
        let [first, second, third] = [1, 2, 3].map(|number| world.client(number));
        let mut lock = first.versioned();
        lock.acquire(PATIENCE).await.unwrap();

        first.lossy.answers_to_lose.store(1, Ordering::SeqCst);
        let lossy = first.lossy.clone();
        let gate = lossy.gate.lock().await;
        let releasing = world.spawn(async move {
            lock.release().await.unwrap();
            lock
        });
        let mut seconds = second.versioned();
        seconds.acquire(PATIENCE).await.unwrap();
        // Only now does the first one notice, and repeat it.
        drop(gate);
        let mut lock = releasing.await.unwrap();
        assert_eq!(first.lossy.answers_to_lose.load(Ordering::SeqCst), 0);
        lock.release().await.unwrap();

        let mut thirds = third.versioned();
        let refused = thirds.acquire(SECOND).await;
        assert!(matches!(refused, Err(AcquireError::Taken)), "{refused:?}");
        seconds.release().await.unwrap();
        thirds.acquire(PATIENCE).await.unwrap();
    });
}

/// Whose release fails, or is given up, does not count itself as the holder: not even after it has acquired the lock that
/// somebody else holds by then.
#[test]
fn who_has_not_heard_of_its_release_does_not_acquire_what_another_one_holds() {
    for gives_up in [false, true] {
        play(3, |world| async move {
            let (first, second) = (world.client_within(1, SECOND), world.client(2));
            let (mut lock, mut seconds) = (first.versioned(), second.versioned());
            lock.acquire(PATIENCE).await.unwrap();
            // The release is carried out, and all that is ever said about it is lost.
            first.lossy.answers_to_lose.store(usize::MAX, Ordering::SeqCst);
            let patience = if gives_up { 300 * MS } else { PATIENCE };
            match select(Box::pin(lock.release()), Box::pin(world.sleep(patience))).await {
                Either::Left((released, _)) => drop(released.unwrap_err()),
                Either::Right(_) => assert!(gives_up),
            }
            assert!(!lock.is_held() && lock.is_unsettled());
            first.lossy.answers_to_lose.store(0, Ordering::SeqCst);

            seconds.acquire(PATIENCE).await.unwrap();
            let refused = lock.acquire(SECOND).await;
            assert!(matches!(refused, Err(AcquireError::Taken)), "{refused:?}");
            assert!(!lock.is_held());
            seconds.release().await.unwrap();
            lock.acquire(PATIENCE).await.unwrap();
            let refused = seconds.acquire(SECOND).await;
            assert!(matches!(refused, Err(AcquireError::Taken)), "{refused:?}");
        });
    }
}

/// A release that never arrived is carried through by the next acquire, and the lock is held anew.
#[test]
fn who_has_not_heard_of_its_release_acquires_the_lock_anew_where_it_is_free() {
    play(3, |world| async move {
        let (first, second) = (world.client_within(1, SECOND), world.client(2));
        let (mut lock, mut seconds) = (first.versioned(), second.versioned());
        lock.acquire(PATIENCE).await.unwrap();
        world.cluster.network().isolate(Site::Client(1));
        lock.release().await.unwrap_err();
        let unknown = lock.acquire(SECOND).await;
        assert!(matches!(unknown, Err(AcquireError::Maybe)), "{unknown:?}");
        world.cluster.network().heal();
        lock.acquire(PATIENCE).await.unwrap();
        let refused = seconds.acquire(SECOND).await;
        assert!(matches!(refused, Err(AcquireError::Taken)), "{refused:?}");
        lock.release().await.unwrap();
        seconds.acquire(PATIENCE).await.unwrap();
    });
}

/// "Taken" is what the store has just said, not what it once said.
#[test]
fn who_hears_nothing_of_the_store_does_not_say_that_the_lock_is_taken() {
    play(3, |world| async move {
        let [first, second] = [1, 2].map(|number| world.client(number));
        let (mut lock, mut seconds) = (first.versioned(), second.versioned());
        lock.acquire(PATIENCE).await.unwrap();
        let waiting = second.spawn(async move { seconds.acquire(10 * SECOND).await });
        world.sleep(5 * SECOND).await;
        world.cluster.network().isolate(Site::Client(2));
        let refused = waiting.await.unwrap();
        assert!(matches!(refused, Err(AcquireError::NoAnswer)), "{refused:?}");
    });
}

/// The answer to an acquire is lost: the client finds out that it holds the lock, and nobody waits for ever.
#[test]
fn lock_acquire_maybe() {
    play(3, |world| async move {
        let [first, second] = [1, 2].map(|number| world.client(number));
        let (mut lock, mut seconds) = (first.versioned(), second.versioned());
        for lost in [1, 2, 5] {
            first.lossy.answers_to_lose.store(lost, Ordering::SeqCst);
            lock.acquire(PATIENCE).await.unwrap();
            assert_eq!(first.lossy.answers_to_lose.load(Ordering::SeqCst), 0);
            let refused = seconds.acquire(100 * MS).await;
            assert!(matches!(refused, Err(AcquireError::Taken)), "{refused:?}");
            lock.release().await.unwrap();
            seconds.acquire(PATIENCE).await.unwrap();
            seconds.release().await.unwrap();
        }
    });
}

/// A client gives up before it hears of its acquire: it may hold the lock, says so, and can let go of it.
#[test]
fn who_gives_up_may_hold_the_lock_and_can_let_go_of_it() {
    play(3, |world| async move {
        let [first, second] = [1, 2].map(|number| world.client(number));
        let (mut lock, mut seconds) = (first.versioned(), second.versioned());
        first.lossy.answers_to_lose.store(1, Ordering::SeqCst);
        let gate = first.lossy.gate.lock().await;
        let given_up = lock.acquire(SECOND).await;
        assert!(matches!(given_up, Err(AcquireError::Maybe)), "{given_up:?}");
        assert!(lock.is_unsettled());
        drop(gate);
        let refused = seconds.acquire(SECOND).await;
        assert!(matches!(refused, Err(AcquireError::Taken)), "{refused:?}");
        lock.release().await.unwrap();
        assert!(!lock.is_unsettled());
        seconds.acquire(PATIENCE).await.unwrap();
    });
}

/// What a client that gave up had sent arrives late, when it has settled that it does not hold the lock: then it must not
/// take it, for nobody would let go of it.
#[test]
fn an_acquire_that_arrives_late_takes_no_lock_that_nobody_holds() {
    play(1, |world| async move {
        let [first, second] = [1, 2].map(|number| world.client(number));
        // From here on, its commands are on their way for two thirds of a second and more, its reads are not told apart.
        let mut slow = Conditions::reliable();
        slow.in_order = false;
        slow.requests.hold = 0.5;
        slow.requests.hold_time = raft_sim::network::Delay::Uniform(500 * MS..2 * SECOND);
        let id = world.leader().await;
        let (from, to) = (Site::Client(1), Site::Node(id));
        world.cluster.network().set_link_conditions(from, to, Some(slow));
        let (mut lock, mut seconds) = (first.versioned(), second.versioned());
        for _ in 0..30 {
            // Whatever comes of it.
            let _ = lock.acquire(150 * MS).await;
            lock.release().await.unwrap();
            world.sleep(3 * SECOND).await;
            seconds.acquire(PATIENCE).await.expect("nobody holds it");
            seconds.release().await.unwrap();
        }
    });
}
