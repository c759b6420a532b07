//! What a worker has failed at goes to others, and comes back to it only where there are none, or none that have time.

use super::stragglers::straggling;
use super::*;

fn failed(id: AttemptId) -> Vec<Report> {
    vec![Report::Failed(id, "the disk is full".to_owned())]
}

#[test]
fn what_a_worker_has_failed_at_goes_to_another_one_at_once_and_not_back() {
    let mut table = Table::default();
    let job = table.submit(spec(3, 1, 2));
    let bobs = table.begin(BOB, &[], 1);
    let anns = table.begin(ANN, &[], 1);
    let next = table.work(ANN, &[], failed(anns[0]), 1).begin;
    assert_eq!(tasks(&next), [TaskId::Map(2)], "what nobody has failed at");
    table.wait(limits::FAILED_REST);
    assert!(!table.is_ready_for(ANN, &next), "Bob is there");
    assert_eq!(table.begin(ANN, &next, 5), []);
    assert_eq!(table.begin(BOB, &bobs, 5), [id(job, TaskId::Map(1), 2)]);
}

#[test]
fn a_worker_that_is_alone_may_try_again_after_a_rest() {
    let mut table = Table::default();
    let job = table.submit(spec(2, 1, 9));
    let begun = table.begin(ANN, &[], 1);
    assert_eq!(tasks(&table.work(ANN, &[], failed(begun[0]), 1).begin), [TaskId::Map(1)]);
    let second = [id(job, TaskId::Map(1), 1)];
    assert!(!table.is_ready_for(ANN, &second) && table.is_ready_for(BOB, &[]));
    assert_eq!(table.coordinator.due(), Some(limits::FAILED_REST));
    table.wait(limits::FAILED_REST - Duration::from_nanos(1));
    assert!(!table.is_ready_for(ANN, &second));
    table.wait(Duration::from_nanos(1));
    assert!(table.is_ready_for(ANN, &second));
    assert_eq!(table.coordinator.due(), Some(limits::LEASE), "no rest is waited for any more");
    assert_eq!(table.begin(ANN, &second, 5), [id(job, TaskId::Map(0), 2)]);
}

#[test]
fn a_worker_may_try_again_once_nobody_else_works_on_anything() {
    let mut table = Table::default();
    table.submit(spec(2, 1, 9));
    let (anns, bobs) = (table.begin(ANN, &[], 1), table.begin(BOB, &[], 1));
    table.work(ANN, &[], failed(anns[0]), 0);
    table.wait(2 * SECOND);
    assert!(!table.is_ready_for(ANN, &[]));
    table.finish(BOB, &bobs);
    assert!(table.is_ready_for(ANN, &[]));
}

#[test]
fn what_others_have_no_time_for_goes_back_to_the_one_that_failed_after_a_longer_rest() {
    let mut table = Table::default();
    let job = table.submit(spec(2, 1, 9));
    let (anns, bobs) = (table.begin(ANN, &[], 1), table.begin(BOB, &[], 1));
    table.work(ANN, &[], failed(anns[0]), 0);
    let almost = limits::FAILED_REST_MAX - Duration::from_nanos(1);
    while table.time < almost {
        table.wait(SECOND.min(almost - table.time));
        table.work(BOB, &bobs, vec![], 0);
    }
    assert!(!table.is_ready_for(ANN, &[]), "Bob may still come to it");
    assert_eq!(table.coordinator.due(), Some(limits::FAILED_REST_MAX));
    table.coordinator = images::restored(&table.coordinator);
    assert_eq!(table.coordinator.due(), Some(limits::FAILED_REST_MAX));
    table.wait(Duration::from_nanos(1));
    assert!(table.is_ready_for(ANN, &[]));
    let again = table.begin(ANN, &[], 1);
    assert_eq!(again, [id(job, TaskId::Map(0), 2)]);
    // Nothing waits any more: what Bob has taken so long for may have a second attempt.
    while table.time < limits::STRAGGLER_AFTER {
        table.wait(SECOND);
        table.work(ANN, &again, vec![], 0);
        table.work(BOB, &bobs, vec![], 0);
    }
    assert!(table.is_ready_for(ANN, &again));
    assert_eq!(tasks(&table.begin(ANN, &again, 5)), [TaskId::Map(1)]);
}

#[test]
fn of_two_workers_a_broken_one_fails_each_task_once_and_no_job() {
    let mut table = Table::default();
    let jobs = [table.submit(spec(20, 5, 2)), table.submit(spec(3, 1, 2))];
    let (mut anns, mut bobs) = (table.begin(ANN, &[], 2), table.begin(BOB, &[], 2));
    while jobs.iter().any(|job| table.state(*job) == JobState::Unfinished) {
        table.wait(SECOND / 2);
        let reports = anns.iter().flat_map(|id| failed(*id)).collect();
        anns = table.work(ANN, &[], reports, 2).begin;
        let reports = bobs.iter().map(|id| Report::Finished(*id, Counts::default())).collect();
        bobs = table.work(BOB, &[], reports, 2).begin;
    }
    assert_eq!(jobs.map(|job| table.state(job)), [JobState::Succeeded, JobState::Succeeded]);
}

/// They fail at whatever they are given, at once, while one that works has something to do for long.
#[test]
fn of_three_workers_two_broken_ones_fail_no_job() {
    let mut table = Table::default();
    let job = table.submit(spec(20, 5, 4));
    let mut carls = table.begin(CARL, &[], 1);
    let mut broken = [(ANN, Vec::new()), (BOB, Vec::new())];
    let mut failures = 0;
    for step in 0_u32.. {
        for (worker, given) in &mut broken {
            failures += given.len();
            let reports = given.iter().flat_map(|id| failed(*id)).collect();
            *given = table.work(*worker, &[], reports, 2).begin;
        }
        table.wait(SECOND / 2);
        // Each task takes as long as ten of these steps, and the first one as long as six hundred.
        let is_done = step > 600 && step % 10 == 0;
        let reports = carls.iter().map(|id| Report::Finished(*id, Counts::default()));
        let reports = if is_done { reports.collect() } else { vec![] };
        let running = if is_done { vec![] } else { carls.clone() };
        let orders = table.work(CARL, &running, reports, u32::from(is_done));
        carls = if is_done { orders.begin } else { carls };
        if table.state(job) != JobState::Unfinished {
            break;
        }
    }
    assert_eq!(table.state(job), JobState::Succeeded);
    assert!((24..200).contains(&failures), "{failures} failures");
}

/// As soon as they are all suspects, nobody speaks for anybody.
#[test]
fn a_job_all_of_whose_calls_fail_fails_soon_however_many_work_on_it() {
    for workers in [1, 2, 5, 20] {
        let mut table = Table::default();
        let job = table.submit(spec(200, 1, 4));
        let mut given = vec![Vec::new(); workers];
        let mut calls = 0;
        while table.state(job) == JobState::Unfinished {
            for (number, given) in (1..).zip(&mut given) {
                calls += given.len();
                let reports = given.iter().flat_map(|id| failed(*id)).collect();
                *given = table.work(WorkerId(number), &[], reports, 2).begin;
            }
            table.wait(SECOND);
        }
        let most = 20 + 10 * workers;
        assert!(calls < most && table.time < 20 * SECOND, "{workers} workers: {calls} calls");
    }
}

/// They begin one after the other, so that each has failed at another job than those that work meanwhile.
#[test]
fn jobs_that_always_fail_do_not_keep_each_other_alive() {
    for workers in 2..8 {
        let mut table = Table::default();
        let jobs = [table.submit(spec(2, 1, 4)), table.submit(spec(2, 1, 4))];
        let mut given = vec![Vec::new(); workers];
        while jobs.iter().any(|job| table.state(*job) == JobState::Unfinished) {
            for (number, given) in (1..).zip(&mut given) {
                let reports = given.iter().flat_map(|id| failed(*id)).collect();
                *given = table.work(WorkerId(number), &[], reports, 1).begin;
                table.wait(SECOND / 2);
            }
            assert!(table.time < 120 * SECOND, "{workers} workers");
        }
    }
}

/// Ann has failed at the one that always fails, and works well at the other.
#[test]
fn a_job_that_always_fails_takes_no_other_one_with_it() {
    let mut table = Table::default();
    let (bad, good) = (table.submit(spec(2, 1, 4)), table.submit(spec(6, 1, 4)));
    let anns = table.begin(ANN, &[], 2);
    assert_eq!(anns, [id(bad, TaskId::Map(0), 1), id(good, TaskId::Map(0), 1)]);
    table.work(ANN, &anns[1..], failed(anns[0]), 0);
    // Bob fails at whatever he is given.
    let mut bobs: Vec<AttemptId> = Vec::new();
    for _ in 0..300 {
        let reports = bobs.iter().flat_map(|id| failed(*id)).collect();
        bobs = table.work(BOB, &[], reports, 2).begin;
        table.wait(SECOND);
        table.work(ANN, &anns[1..], vec![], 0);
    }
    assert!(matches!(table.state(bad), JobState::Failed(_)));
    assert_eq!(table.state(good), JobState::Unfinished);
}

#[test]
fn a_suspect_is_given_what_others_have_failed_at_when_nobody_else_works() {
    let mut table = Table::default();
    let job = table.submit(spec(3, 1, 9));
    let (anns, bobs) = (table.begin(ANN, &[], 1), table.begin(BOB, &[], 1));
    table.work(ANN, &[], failed(anns[0]), 0);
    let carls = table.begin(CARL, &[], 1);
    assert_eq!(carls, [id(job, TaskId::Map(0), 2)]);
    table.work(CARL, &[], failed(carls[0]), 0);
    // Ann may have the one that nobody has failed at.
    assert_eq!(tasks(&table.begin(ANN, &[], 5)), [TaskId::Map(2)]);
    table.work(ANN, &[], failed(id(job, TaskId::Map(2), 1)), 0);
    assert_eq!(table.begin(ANN, &[], 5), []);
    table.work(BOB, &[], vec![Report::GaveBack(bobs[0])], 0);
    assert_eq!(tasks(&table.begin(ANN, &[], 5)), [TaskId::Map(0), TaskId::Map(1)]);
}

#[test]
fn a_suspect_that_finishes_something_is_none_any_more() {
    let mut table = Table::default();
    table.submit(spec(4, 1, 9));
    let (anns, _bobs) = (table.begin(ANN, &[], 2), table.begin(BOB, &[], 1));
    let carls = table.begin(CARL, &[], 1);
    table.work(CARL, &[], failed(carls[0]), 0);
    table.work(ANN, &anns[1..], failed(anns[0]), 0);
    assert_eq!(table.begin(ANN, &anns[1..], 5), []);
    table.finish(ANN, &anns[1..]);
    assert_eq!(table.begin(ANN, &[], 5).first().map(|id| id.task), Some(carls[0].task));
}

#[test]
fn what_one_worker_fails_at_again_and_again_fails_no_job_as_long_as_others_work() {
    let mut table = Table::default();
    let job = table.submit(spec(2, 1, 2));
    let mut anns = table.begin(ANN, &[], 1);
    let bobs = table.begin(BOB, &[], 1);
    for _ in 0..5 {
        assert_eq!(tasks(&anns), [TaskId::Map(0)]);
        table.work(ANN, &[], failed(anns[0]), 0);
        let until = table.time + limits::FAILED_REST_MAX;
        while table.time < until {
            table.wait(SECOND);
            table.work(BOB, &bobs, vec![], 0);
        }
        anns = table.begin(ANN, &[], 1);
    }
    assert_eq!(table.state(job), JobState::Unfinished);
    // Alone, it has nobody to leave it to.
    table.work(BOB, &[], vec![Report::GaveBack(bobs[0])], 0);
    table.work(ANN, &[], failed(anns[0]), 0);
    assert!(matches!(table.state(job), JobState::Failed(_)), "{:?}", table.state(job));
}

#[test]
fn a_job_of_which_a_worker_may_be_given_nothing_does_not_hide_the_next_one() {
    let mut table = Table::default();
    let first = table.submit(spec(1, 1, 2));
    let anns = table.begin(ANN, &[], 1);
    table.work(ANN, &[], failed(anns[0]), 0);
    let second = table.submit(spec(1, 1, 2));
    assert_eq!(table.begin(ANN, &[], 1)[0].job, second);
    assert_eq!(table.begin(BOB, &[], 1)[0].job, first);
}

#[test]
fn a_straggler_has_no_second_attempt_where_it_has_failed() {
    let (mut table, maps) = straggling();
    table.wait(SECOND);
    let second = table.begin(BOB, &[], 1);
    table.work(BOB, &[], failed(second[0]), 0);
    table.wait(2 * SECOND);
    table.work(ANN, &maps[3..], vec![], 0);
    assert!(!table.is_ready_for(BOB, &[]) && table.is_ready_for(CARL, &[]));
    // There may be no others, and Ann's may hang.
    for _ in 0..50 {
        table.work(ANN, &maps[3..], vec![], 0);
        table.wait(SECOND);
    }
    assert!(table.is_ready_for(BOB, &[]));
}

#[test]
fn who_failed_is_known_after_a_restart() {
    let mut table = Table::default();
    table.submit(spec(2, 1, 2));
    let (anns, _) = (table.begin(ANN, &[], 1), table.begin(BOB, &[], 1));
    table.work(ANN, &[], failed(anns[0]), 0);
    for seconds in [0, 2] {
        table.wait(seconds * SECOND);
        table.coordinator = images::restored(&table.coordinator);
        assert!(!table.is_ready_for(ANN, &[]) && table.is_ready_for(CARL, &[]));
    }
}
