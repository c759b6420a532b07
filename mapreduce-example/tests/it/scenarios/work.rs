//! How work is handed out while nothing fails.

use futures::FutureExt;
use futures::future::select_all;
use mapreduce_example::coordinator::JobState;
use mapreduce_example::swarm::toy::{Call, Fate, job};
use mapreduce_example::task::{Attempt, AttemptId, TaskId};
use mapreduce_example::worker::Ended;

use super::world::{MS, SECOND, is_map, is_parallel, is_reduce, play, takes};

/// Two workers really map at the same time.
#[test]
fn map_parallel() {
    play(1, |world| async move {
        drop(world.crew(1, takes(SECOND)).keep(2));
        let spec = job(1, 4, 1, 1);
        let id = world.submit(&spec).await;
        world.expect(id, &spec).await;
        assert!(is_parallel(&world.done(id, is_map)));
    });
}

/// Two workers really reduce at the same time.
#[test]
fn reduce_parallel() {
    play(1, |world| async move {
        drop(world.crew(1, takes(SECOND)).keep(2));
        let spec = job(1, 1, 4, 1);
        let id = world.submit(&spec).await;
        world.expect(id, &spec).await;
        assert!(is_parallel(&world.done(id, is_reduce)));
    });
}

/// Four workers, slow maps: each is done exactly once while nobody fails.
#[test]
fn job_count() {
    play(3, |world| async move {
        let slow = |work: &mapreduce_example::task::Work| match work.id.task {
            TaskId::Map(map) => Call { takes: (3 + map % 3) * SECOND, fate: Fate::Goes },
            TaskId::Reduce(_) | TaskId::Publish => Call::default(),
        };
        drop(world.crew(1, slow).keep(4));
        let spec = job(1, 8, 10, 1);
        let id = world.submit(&spec).await;
        world.expect(id, &spec).await;
        let mut maps: Vec<AttemptId> =
            world.done(id, is_map).into_iter().map(|done| done.id).collect();
        maps.sort_unstable();
        let once = |map| AttemptId { job: id, task: TaskId::Map(map), attempt: Attempt(1) };
        assert_eq!(maps, (0..8).map(once).collect::<Vec<_>>());
    });
}

/// No worker ends before the output is final, and then all of them do.
#[test]
fn early_exit() {
    play(3, |world| async move {
        let slow_end = |work: &mapreduce_example::task::Work| match work.id.task {
            TaskId::Reduce(0) | TaskId::Publish => Call { takes: 8 * SECOND, fate: Fate::Goes },
            TaskId::Map(_) | TaskId::Reduce(_) => Call { takes: 50 * MS, fate: Fate::Goes },
        };
        let mut workers = world.crew(1, slow_end).keep(3);
        let spec = job(1, 8, 3, 1);
        let id = world.submit(&spec).await;
        world.clerk.close().await.unwrap();
        while !workers.is_empty() {
            let (ended, _, others) = select_all(workers).await;
            assert_eq!(ended, Ok(Ended::AllDone));
            assert!(
                world.store.published(id).is_some(),
                "a worker has ended before the output is final"
            );
            workers = others;
        }
        world.expect(id, &spec).await;
    });
}

/// A small job that comes later does not wait for the end of a large one.
#[test]
fn fairness() {
    play(1, |world| async move {
        drop(world.crew(1, takes(SECOND)).keep(2));
        let (large, small) = (job(1, 60, 1, 1), job(2, 2, 1, 1));
        let first = world.submit(&large).await;
        world.sleep(5 * SECOND).await;
        let (second, begun) = (world.submit(&small).await, world.now());
        world.expect(second, &small).await;
        // Every second attempt is its own: four tasks one after the other, and others between.
        assert!(world.now() - begun < 10 * SECOND, "after {:?}", world.now() - begun);
        assert_eq!(world.view(first).await.state, JobState::Unfinished);
        world.expect(first, &large).await;
    });
}

/// Nor where there is but one slot, nor where there are more jobs than slots.
#[test]
fn fairness_with_fewer_slots_than_jobs() {
    play(1, |world| async move {
        drop(world.crew(1, takes(SECOND)).keep(1));
        let large = [job(1, 60, 1, 1), job(2, 60, 1, 1)];
        let mut ids = Vec::new();
        for spec in &large {
            ids.push(world.submit(spec).await);
        }
        world.sleep(5 * SECOND).await;
        let (small, begun) = (job(3, 2, 1, 1), world.now());
        let id = world.submit(&small).await;
        world.expect(id, &small).await;
        // Four tasks, and two of the others between each.
        assert!(world.now() - begun < 20 * SECOND, "after {:?}", world.now() - begun);
        for id in ids {
            assert!(world.view(id).await.summary.maps.done >= 4);
        }
    });
}

/// Thousands of tasks that take no time cost a few commands each at most.
#[test]
fn many_small_tasks() {
    play(1, |world| async move {
        drop(world.crew(4, takes(MS)).keep(4));
        let spec = job(1, 600, 10, 1);
        let id = world.submit(&spec).await;
        let verdict = world.expect(id, &spec).await;
        assert_eq!(verdict.handed_out.len(), 611, "something was handed out twice");
        let commands = world.cluster.told().iter().filter(|told| told.command.is_some()).count();
        assert!(commands < 2 * 611, "{commands} commands");
    });
}

/// A worker that has nothing to do costs no command, however long that lasts.
#[test]
fn idle_workers_are_silent() {
    play(1, |world| async move {
        drop(world.crew(1, takes(MS)).keep(5));
        world.sleep(60 * SECOND).await;
        let commands = world.cluster.told().iter().filter(|told| told.command.is_some()).count();
        assert_eq!(commands, 5);
        // And it is there at once when there is something.
        let (spec, begun) = (job(1, 5, 1, 1), world.now());
        let id = world.submit(&spec).await;
        world.expect(id, &spec).await;
        assert!(world.now() - begun < SECOND, "after {:?}", world.now() - begun);
    });
}

/// A worker that is asked to end gives back what it works on, at once.
#[test]
fn a_worker_that_is_asked_to_end_gives_its_tasks_back() {
    play(3, |world| async move {
        let crew = world.crew(1, takes(2 * SECOND));
        let (hand, ended) = crew.hire(1, 0);
        let spec = job(1, 1, 1, 1);
        let id = world.submit(&spec).await;
        world.until_begun(id).await;
        hand.handle.stop();
        assert_eq!(ended.await, Ok(Ended::Stopped));
        let (_, second) = crew.hire(2, 0);
        world.expect(id, &spec).await;
        let maps = world.done(id, is_map);
        assert!(maps[1].begun - maps[0].begun < 2 * SECOND, "the lease was waited for");
        assert_eq!(second.now_or_never(), None, "the other one goes on");
    });
}

/// It is asked to stop while it tells of one attempt; another one ends meanwhile.
#[test]
fn what_a_worker_has_finished_when_it_ends_is_not_given_back() {
    for step in 0..80_u32 {
        play(1, move |world| async move {
            let luck = |work: &mapreduce_example::task::Work| match work.id.task {
                TaskId::Map(map) => Call { takes: 20 * MS + map * MS / 2, fate: Fate::Goes },
                TaskId::Reduce(_) | TaskId::Publish => Call::default(),
            };
            let crew = world.crew(2, luck);
            let (hand, ended) = crew.hire(1, 0);
            let spec = job(1, 2, 1, 1);
            let id = world.submit(&spec).await;
            world.until_begun(id).await;
            world.sleep(step * MS / 4).await;
            hand.handle.stop();
            assert_eq!(ended.await, Ok(Ended::Stopped));
            drop(crew.hire(2, 0));
            world.expect(id, &spec).await;
            let maps = world.done(id, is_map);
            let again = maps.iter().filter(|done| done.worker == 2);
            let written = maps.iter().filter(|done| done.worker == 1 && done.written.is_some());
            assert_eq!(again.count() + written.count(), 2, "{maps:?}");
        });
    }
}

/// It is asked to stop when it has asked for work and has no answer yet: what it is given by that answer, nobody works on.
#[test]
fn a_worker_that_is_stopped_at_once_keeps_nothing() {
    for milliseconds in 0..12_u32 {
        play(1, move |world| async move {
            let crew = world.crew(1, takes(SECOND));
            let spec = job(1, 1, 1, 1);
            let id = world.submit(&spec).await;
            let (hand, ended) = crew.hire(1, 0);
            world.sleep(milliseconds * MS).await;
            hand.handle.stop();
            assert_eq!(ended.await, Ok(Ended::Stopped));
            let (_, _second) = crew.hire(2, 0);
            let begun = world.now();
            world.expect(id, &spec).await;
            assert!(world.now() - begun < 4 * SECOND, "the lease was waited for");
        });
    }
}

/// A worker ends when it is asked to, also where nobody answers.
#[test]
fn a_worker_ends_without_a_coordinator() {
    play(1, |world| async move {
        let leader = world.leader().await;
        world.cluster.crash(leader, raft_sim::event::Crash::Killed);
        let (hand, ended) = world.crew(1, takes(SECOND)).hire(1, 0);
        world.sleep(60 * SECOND).await;
        let begun = world.now();
        hand.handle.stop();
        assert_eq!(ended.await, Ok(Ended::Stopped));
        assert!(world.now() - begun < 20 * SECOND);
        world.cluster.start(leader);
    });
}
