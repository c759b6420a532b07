//! What fails, and is done all the same.

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use mapreduce_example::coordinator::{JobState, Phase};
use mapreduce_example::swarm::toy::{Call, Fate, job};
use mapreduce_example::task::{Attempt, TaskId, Work};
use mapreduce_example::worker::Ended;
use raft_sim::event::Crash;

use super::world::{MS, PATIENCE, SECOND, World, drawing, is_map, play, takes};

/// Each call crashes its worker with p=1/3 or hangs up to 10 s with p=1/3; workers are started again.
#[test]
fn crash() {
    play(3, |world| async move {
        let luck = drawing(world.random.fork("luck"), |random, work| {
            let pause = random.duration(&(Duration::ZERO..10 * SECOND));
            let drawn = *random.choose(&[Fate::Goes, Fate::Crashes, Fate::Hangs(pause)]);
            let fate = if work.id.task == TaskId::Publish { Fate::Goes } else { drawn };
            Call { takes: 100 * MS, fate }
        });
        drop(world.crew(1, luck).keep(3));
        let spec = job(1, 8, 10, 1_000);
        let id = world.submit(&spec).await;
        let verdict = world.expect(id, &spec).await;
        assert!(verdict.handed_out.len() > 19, "nothing went wrong");
        assert!(verdict.finished.values().all(|times| *times == 1));
    });
}

/// Kills the leader, and starts it again after a while.
async fn kill_leader(world: &World) {
    let leader = world.leader().await;
    world.cluster.crash(leader, Crash::Killed);
    world.sleep(3 * SECOND).await;
    world.cluster.start(leader);
}

/// The leading coordinator is killed while there are maps to do, and while there are reduces: nothing that is finished is
/// lost or done again.
#[test]
fn coordinator_crash() {
    play(3, |world| async move {
        drop(world.crew(1, takes(SECOND)).keep(3));
        let spec = job(1, 12, 12, 1);
        let id = world.submit(&spec).await;
        for phase in [Phase::Map, Phase::Reduce] {
            let of_phase = |view: &mapreduce_example::coordinator::JobView| match phase {
                Phase::Map => view.summary.maps.done,
                Phase::Reduce | Phase::Publish => view.summary.reduces.done,
            };
            world.until(id, |view| of_phase(view) >= 3).await;
            assert_eq!(world.view(id).await.summary.phase, phase);
            let done = of_phase(&world.view(id).await);
            kill_leader(&world).await;
            assert!(of_phase(&world.view(id).await) >= done);
        }
        let verdict = world.expect(id, &spec).await;
        // With the publication, the job has ended.
        assert_eq!(verdict.finished.len(), 24);
        assert!(verdict.finished.values().all(|times| *times == 1));
        let log = world.done(id, |_| true);
        let written = log.iter().filter(|done| done.written.is_some()).count();
        assert_eq!(written, 25, "what was finished was done again");
    });
}

/// All coordinators are gone for longer than any lease, and come back.
#[test]
fn all_coordinators_crash() {
    play(3, |world| async move {
        drop(world.crew(2, takes(2 * SECOND)).keep(2));
        let spec = job(1, 12, 4, 1);
        let id = world.submit(&spec).await;
        world.until(id, |view| view.summary.maps.done >= 3).await;
        let done = world.view(id).await.summary.maps.done;
        for node in world.cluster.ids() {
            world.cluster.crash(node, Crash::PowerLost);
        }
        world.sleep(60 * SECOND).await;
        world.cluster.start_all();
        assert!(world.view(id).await.summary.maps.done >= done);
        let verdict = world.expect(id, &spec).await;
        assert!(verdict.finished.values().all(|times| *times == 1));
    });
}

/// No coordinator can be reached for much longer than a lease: what is worked on meanwhile counts all the same, whether it ends
/// before they come back or after, and nothing is done twice.
#[test]
fn a_worker_keeps_what_it_works_on_while_there_is_no_coordinator() {
    for seconds in [20, 55] {
        play(1, move |world| async move {
            drop(world.crew(2, takes(seconds * SECOND)).keep(2));
            let spec = job(1, 4, 1, 1);
            let id = world.submit(&spec).await;
            world.until(id, |view| view.running.len() == 4).await;
            let leader = world.leader().await;
            world.cluster.crash(leader, Crash::PowerLost);
            world.sleep(40 * SECOND).await;
            world.cluster.start(leader);
            let verdict = world.expect(id, &spec).await;
            assert!(verdict.finished.values().all(|times| *times == 1));
            let maps = world.done(id, is_map);
            assert!(maps.iter().all(|done| done.written.is_some()), "{maps:?}");
            assert_eq!(maps.len(), 4, "something was done twice");
        });
    }
}

/// An attempt that takes much longer than others near the end of a phase has a second one, and loses.
#[test]
fn straggler_backup() {
    play(1, |world| async move {
        let luck = |work: &Work| match (work.id.task, work.id.attempt) {
            (TaskId::Map(3), Attempt(1)) => Call { takes: 300 * SECOND, fate: Fate::Goes },
            _ => Call { takes: SECOND, fate: Fate::Goes },
        };
        drop(world.crew(1, luck).keep(2));
        let spec = job(1, 6, 2, 1);
        let (id, begun) = (world.submit(&spec).await, world.now());
        world.expect(id, &spec).await;
        assert!(world.now() - begun < 20 * SECOND, "after {:?}", world.now() - begun);
        let third = world.done(id, |task| task == TaskId::Map(3));
        assert_eq!(third.len(), 2);
        assert!(third[0].written.is_none() && third[1].written.is_some());
        assert_ne!(third[0].worker, third[1].worker);
        // The one that lost has been stopped: its worker does other things.
        let reduces = world.done(id, |task| task != TaskId::Map(3) && !is_map(task));
        assert!(reduces.iter().any(|done| done.worker == third[0].worker));
    });
}

/// A finished map whose output is lost is done again, and nothing else is.
#[test]
fn lost_output() {
    play(1, |world| async move {
        let luck = |work: &Work| {
            let loses = (work.id.task, work.id.attempt) == (TaskId::Reduce(1), Attempt(1));
            let fate = if loses { Fate::Loses } else { Fate::Goes };
            Call { takes: SECOND, fate }
        };
        drop(world.crew(1, luck).keep(2));
        let spec = job(1, 4, 3, 1);
        let id = world.submit(&spec).await;
        let verdict = world.expect(id, &spec).await;
        assert_eq!(world.store.lost(), 1);
        let again: Vec<_> = verdict.finished.iter().filter(|(_, times)| **times > 1).collect();
        assert!(matches!(again[..], [((_, TaskId::Map(_)), 2)]), "{again:?}");
        assert_eq!(world.view(id).await.failures, []);
    });
}

/// A job that is cancelled stops at once, and its workers do others.
#[test]
fn cancel() {
    play(3, |world| async move {
        let (long, short) = (job(1, 4, 1, 1), job(2, 4, 1, 1));
        let long_job = long.clone();
        let luck = move |work: &Work| match *work.spec == long_job {
            true => Call { takes: 3600 * SECOND, fate: Fate::Goes },
            false => Call { takes: 100 * MS, fate: Fate::Goes },
        };
        drop(world.crew(2, luck).keep(2));
        let first = world.submit(&long).await;
        world.until(first, |view| view.running.len() == 4).await;
        world.clerk.cancel(first).await.unwrap();
        let cancelled = world.now();
        assert_eq!(world.end(first).await, JobState::Cancelled);
        let second = world.submit(&short).await;
        world.expect(second, &short).await;
        assert!(world.now() - cancelled < 5 * SECOND, "the workers went on");
        assert!(world.done(first, |_| true).iter().all(|done| done.written.is_none()));
    });
}

/// A task that fails again and again fails its job, with its own words, and no other job.
#[test]
fn failing_task() {
    play(1, |world| async move {
        let (bad, good) = (job(1, 3, 1, 3), job(2, 3, 1, 3));
        let bad_job = bad.clone();
        let luck = move |work: &Work| {
            let fails = *work.spec == bad_job && work.id.task == TaskId::Map(1);
            let fate = if fails { Fate::Fails } else { Fate::Goes };
            Call { takes: 200 * MS, fate }
        };
        drop(world.crew(1, luck).keep(2));
        let (first, second) = (world.submit(&bad).await, world.submit(&good).await);
        let JobState::Failed(why) = world.end(first).await else { panic!("it does not fail") };
        assert!(why.starts_with("map task 1 failed 3 times, the last time: job"), "{why}");
        assert_eq!(world.view(first).await.failures.len(), 3);
        assert_eq!(world.done(first, |task| task == TaskId::Map(1)).len(), 3);
        world.expect(second, &good).await;
    });
}

/// Whoever works on it: no worker is thought to be broken for it.
#[test]
fn a_job_all_of_whose_calls_fail() {
    play(1, |world| async move {
        let fails = |_: &Work| Call { takes: SECOND, fate: Fate::Fails };
        drop(world.crew(1, fails).keep(3));
        let (id, begun) = (world.submit(&job(1, 200, 1, 4)).await, world.now());
        let JobState::Failed(why) = world.end(id).await else { panic!("it does not fail") };
        assert!(why.contains("failed 4 times"), "{why}");
        assert!(world.now() - begun < 30 * SECOND, "after {:?}", world.now() - begun);
    });
}

/// One that fails at whatever it is given fails each task once at most, and no job.
#[test]
fn a_broken_worker_among_others() {
    play(1, |world| async move {
        drop(world.crew(2, takes(300 * MS)).with_broken(0).keep(2));
        let specs = [job(1, 12, 4, 2), job(2, 1, 1, 2)];
        for spec in &specs {
            let id = world.submit(spec).await;
            let verdict = world.expect(id, spec).await;
            assert!(verdict.failures > 0, "it was given nothing");
        }
    });
}

/// Fewer than a task may fail, at the side of one that works and takes its time.
#[test]
fn many_broken_workers_and_one_that_works() {
    play(1, |world| async move {
        let crew = world.crew(1, takes(2 * SECOND));
        let spec = job(1, 8, 2, 4);
        drop(crew.keep(1));
        let id = world.submit(&spec).await;
        world.until_begun(id).await;
        for number in 1..4 {
            drop(crew.clone().with_broken(number).hire(number, 0));
        }
        let verdict = world.expect(id, &spec).await;
        assert!(verdict.failures > 4, "they were given nothing");
    });
}

/// A worker that is the only one tries again what it has failed at, as often as it may.
#[test]
fn a_lonely_worker_tries_again() {
    play(1, |world| async move {
        let luck = |work: &Work| {
            let fate = if work.id.attempt < Attempt(3) { Fate::Fails } else { Fate::Goes };
            Call { takes: 100 * MS, fate }
        };
        drop(world.crew(1, luck).keep(1));
        let spec = job(1, 2, 1, 3);
        let (id, begun) = (world.submit(&spec).await, world.now());
        world.expect(id, &spec).await;
        // Three phases with two rests each, and nothing besides that is waited for.
        assert!(world.now() - begun < 10 * SECOND, "after {:?}", world.now() - begun);
    });
}

/// A call that gives no sign of life keeps neither its task nor its worker for ever: the task fails, and the worker gives back
/// what else it has and ends.
#[test]
fn a_call_that_hangs_is_found_out() {
    play(3, |world| async move {
        let luck = |work: &Work| match (work.id.task, work.id.attempt) {
            (TaskId::Map(0), Attempt(1)) => Call { takes: SECOND, fate: Fate::Sticks },
            (TaskId::Map(1), Attempt(1)) => Call { takes: 3600 * SECOND, fate: Fate::Goes },
            _ => Call { takes: SECOND, fate: Fate::Goes },
        };
        let crew = world.crew(2, luck).with_hang_max(30 * SECOND);
        let (_, ended) = crew.hire(1, 0);
        let spec = job(1, 2, 1, 2);
        let (id, begun) = (world.submit(&spec).await, world.now());
        let patience = pin!(world.sleep(PATIENCE));
        let Either::Left((Ok(Ended::Hung(hung)), _)) = select(ended, patience).await else {
            panic!("it is not found out")
        };
        assert_eq!((hung.task, hung.attempt), (TaskId::Map(0), Attempt(1)));
        let after = world.now() - begun;
        assert!((30 * SECOND..40 * SECOND).contains(&after), "after {after:?}");
        let view = world.view(id).await;
        let text = &view.failures[0].text;
        assert!(
            text.contains("bytes 0 to") && text.contains("hung") && view.failures.len() == 1,
            "{view:?}"
        );
        assert_eq!(view.running, [], "what else it had is not given back");
        drop(crew.hire(2, 0));
        world.expect(id, &spec).await;
    });
}

/// A worker whose calls hang is started again, and the job is done although there is no other one.
#[test]
fn calls_that_hang_now_and_then() {
    play(1, |world| async move {
        let luck = drawing(world.random.fork("luck"), |random, _| {
            let fate = *random.choose(&[Fate::Goes, Fate::Goes, Fate::Sticks]);
            Call { takes: 100 * MS, fate }
        });
        drop(world.crew(2, luck).with_hang_max(5 * SECOND).keep(1));
        let spec = job(1, 8, 4, 1_000);
        let id = world.submit(&spec).await;
        let verdict = world.expect(id, &spec).await;
        assert!(verdict.failures > 0, "nothing hung");
    });
}

/// Nobody else has what it works on: it goes on with that, however often it is away for longer than its lease.
#[test]
fn a_lonely_worker_that_was_away_for_too_long_begins_nothing_again() {
    play(1, |world| async move {
        let crew = world.crew(2, takes(60 * SECOND));
        let (sleeper, _ended) = crew.hire(1, 0);
        let spec = job(1, 2, 1, 1);
        let id = world.submit(&spec).await;
        world.until_begun(id).await;
        for _ in 0..5 {
            world.cluster.executor().pause(sleeper.process);
            world.sleep(7 * SECOND).await;
            world.cluster.executor().resume(sleeper.process);
            world.sleep(3 * SECOND).await;
        }
        let verdict = world.expect(id, &spec).await;
        assert_eq!(verdict.handed_out.len(), 4, "something was handed out again");
        assert!(world.done(id, |_| true).iter().all(|done| done.written.is_some()));
    });
}

/// A worker that was paused for longer than its lease goes on as if nothing had happened; what it finishes then does no harm.
#[test]
fn a_worker_that_was_away_for_too_long_is_told_to_stop() {
    play(3, |world| async move {
        let crew = world.crew(1, takes(3 * SECOND));
        let (sleeper, _ended) = crew.hire(1, 0);
        let spec = job(1, 1, 1, 1);
        let id = world.submit(&spec).await;
        world.until_begun(id).await;
        world.cluster.executor().pause(sleeper.process);
        drop(crew.hire(2, 0));
        world.sleep(7 * SECOND).await;
        world.cluster.executor().resume(sleeper.process);
        let verdict = world.expect(id, &spec).await;
        assert!(verdict.finished.values().all(|times| *times == 1));
        assert!(verdict.handed_out.len() > 3, "nothing was handed out again");
    });
}
