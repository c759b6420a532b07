use futures::FutureExt;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn run(executor: &Executor) {
    while !matches!(executor.step(), Step::Idle) {}
}

fn log_order(seed: u64) -> Vec<u32> {
    let executor = Executor::new(Random::new(seed));
    let log = Arc::new(Mutex::new(Vec::new()));
    for id in 0..8 {
        let (log, task) = (Arc::clone(&log), executor.clone());
        let task = async move {
            log.lock().unwrap().push(id);
            task.sleep(MS * (8 - id)).await;
            log.lock().unwrap().push(100 + id);
        };
        executor.spawn(WORLD, "task", task.boxed());
    }
    run(&executor);
    let log = log.lock().unwrap();
    log.clone()
}

#[test]
fn the_seed_decides_who_goes_next_and_time_decides_who_wakes() {
    assert_eq!(log_order(1), log_order(1));
    assert_ne!(log_order(1)[..8], log_order(2)[..8]);
    assert_eq!(log_order(1)[8..], [107, 106, 105, 104, 103, 102, 101, 100]);
}

#[test]
fn time_jumps_to_what_is_due_next() {
    let executor = Executor::new(Random::new(1));
    executor.call_at(MS * 60_000, || ());
    run(&executor);
    assert_eq!(executor.now(), MS * 60_000);
}

#[test]
fn a_killed_process_does_nothing_more_and_its_tasks_are_dropped() {
    let executor = Executor::new(Random::new(1));
    let process = executor.process();
    let held = Arc::new(());
    let (in_task, in_work) = (Arc::clone(&held), Arc::clone(&held));
    let sleep = executor.sleep(MS);
    let task = async move {
        sleep.await;
        drop(in_task);
        panic!("it was killed before");
    };
    executor.spawn(process, "task", task.boxed());
    let work = Box::new(move || {
        drop(in_work);
        panic!("it was killed before");
    });
    executor.work_after(process, "work", MS, work);
    assert!(matches!(executor.step(), Step::Ran { .. }));
    executor.kill(process);
    run(&executor);
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(executor.is_dead(process));
}

#[test]
fn a_paused_process_goes_on_where_it_was_once_it_is_resumed() {
    let executor = Executor::new(Random::new(1));
    let process = executor.process();
    let done = Arc::new(Mutex::new(Vec::new()));
    let (by_task, by_work) = (Arc::clone(&done), Arc::clone(&done));
    let sleeping = executor.clone();
    let task = async move {
        sleeping.sleep(MS).await;
        by_task.lock().unwrap().push(sleeping.now());
    };
    executor.spawn(process, "task", task.boxed());
    let clock = executor.clone();
    let work = Box::new(move || by_work.lock().unwrap().push(clock.now()));
    executor.work_after(process, "work", MS, work);
    executor.pause(process);
    let resuming = executor.clone();
    executor.call_at(MS * 50, move || _ = resuming.resume(process));
    run(&executor);
    // The task had not even begun to sleep.
    assert_eq!(*done.lock().unwrap(), [MS * 50, MS * 51]);
}

#[test]
fn a_panic_ends_its_task_alone() {
    let executor = Executor::new(Random::new(1));
    executor.spawn(WORLD, "bad", async { panic!("no") }.boxed());
    let Step::Panicked { name, message, .. } = executor.step() else { panic!("it panics") };
    assert_eq!((&*name, &*message), ("bad", "no"));
    assert!(matches!(executor.step(), Step::Idle));
}

#[test]
fn a_sleep_that_is_dropped_leaves_nothing_behind() {
    let executor = Executor::new(Random::new(1));
    let mut sleep = executor.sleep(MS).boxed();
    let mut context = Context::from_waker(Waker::noop());
    assert!(sleep.poll_unpin(&mut context).is_pending());
    drop(sleep);
    assert!(executor.lock().due.is_empty());
}

#[test]
fn what_is_due_after_the_end_of_time_is_due_at_its_end() {
    let executor = Executor::new(Random::new(1));
    executor.call_at(MS, || ());
    executor.step();
    executor.work_after(WORLD, "work", Duration::MAX, Box::new(|| ()));
    let sleep = executor.sleep(Duration::MAX);
    executor.spawn(WORLD, "sleep", sleep.boxed());
    run(&executor);
    assert_eq!(executor.now(), Duration::MAX);
}

#[test]
fn work_that_waited_in_a_paused_process_comes_before_what_is_due_since() {
    let executor = Executor::new(Random::new(1));
    let process = executor.process();
    let done = Arc::new(Mutex::new(Vec::new()));
    executor.pause(process);
    let resuming = executor.clone();
    executor.call_at(MS * 3, move || _ = resuming.resume(process));
    for number in 1..=5 {
        let done = Arc::clone(&done);
        let work = Box::new(move || done.lock().unwrap().push(number));
        executor.work_after(process, "work", MS * number, work);
    }
    run(&executor);
    assert_eq!(*done.lock().unwrap(), [1, 2, 3, 4, 5]);
}
