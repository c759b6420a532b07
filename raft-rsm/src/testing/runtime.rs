//! The contract of [`Runtime`], a check for each sentence. Each check panics when the runtime breaks its
//! sentence; [`runtime_conformance!`](crate::runtime_conformance) makes a test of each.

#![allow(clippy::expect_used, reason = "a check fails by a panic")]

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::executor::block_on;

use crate::Runtime;
use crate::runtime::{WorkLost, blocking};

/// A check hangs for at most this long before it fails.
const HANG: Duration = Duration::from_secs(30);

/// Makes a test of each check of [`crate::testing::runtime`]. The argument is an expression that makes the
/// runtime, an `Arc<dyn Runtime>`; it is evaluated once a test.
///
/// ```
/// use std::sync::Arc;
/// use raft_rsm::Runtime;
/// use raft_rsm::runtime::ThreadRuntime;
///
/// raft_rsm::runtime_conformance!(Arc::new(ThreadRuntime::new()) as Arc<dyn Runtime>);
/// ```
#[macro_export]
macro_rules! runtime_conformance {
    ($runtime:expr) => {
        $crate::runtime_conformance!(@tests $runtime;
            a_task_runs_until_it_completes
            tasks_run_beside_the_caller_and_each_other
            a_task_that_waits_is_woken_from_any_thread
            blocking_work_waits_for_no_other
            blocking_work_returns_its_result
            blocking_work_that_panics_is_lost_and_harms_no_other
            a_sleep_is_never_too_short
            sleeps_complete_in_the_order_of_their_ends
            a_sleep_of_no_length_completes
            a_dropped_sleep_disturbs_no_other
            a_sleep_can_be_waited_for_on_any_thread
            time_never_goes_back
            random_numbers_do_not_repeat
            each_bit_of_a_random_number_is_as_good_as_any_other
        );
    };
    (@tests $runtime:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                $crate::testing::runtime::$check($runtime);
            }
        )*
    };
}

/// `spawn`: the task runs until it completes, through all its waits.
pub fn a_task_runs_until_it_completes(runtime: Arc<dyn Runtime>) {
    let (sender, receiver) = channel();
    let inner = Arc::clone(&runtime);
    let task = async move {
        for i in 0..3 {
            inner.sleep(Duration::from_millis(1)).await;
            let _ = sender.send(i);
        }
    };
    runtime.spawn("task", task.boxed());
    for i in 0..3 {
        assert_eq!(receive(&receiver), i);
    }
    assert!(receiver.recv_timeout(HANG).is_err(), "the task is dropped once it is complete");
}

/// `spawn`: returns at once; a task that waits holds up no other.
pub fn tasks_run_beside_the_caller_and_each_other(runtime: Arc<dyn Runtime>) {
    const TASKS: usize = 32;
    let (done, results) = channel();
    // A chain: each task waits for the one that is spawned after it, and the last one for the caller.
    let (mut upstream, end) = oneshot::channel::<usize>();
    let task = async move {
        let _ = done.send(end.await);
    };
    runtime.spawn("end", task.boxed());
    for _ in 0..TASKS {
        let (sender, receiver) = oneshot::channel::<usize>();
        let downstream = std::mem::replace(&mut upstream, sender);
        let task = async move {
            if let Ok(n) = receiver.await {
                let _ = downstream.send(n + 1);
            }
        };
        runtime.spawn("link", task.boxed());
    }
    assert!(upstream.send(0).is_ok(), "the last task of the chain waits");
    assert_eq!(receive(&results), Ok(TASKS));
}

/// `spawn`: a task that waits goes on when another thread wakes it.
pub fn a_task_that_waits_is_woken_from_any_thread(runtime: Arc<dyn Runtime>) {
    let (wake, woken) = oneshot::channel();
    let (sender, receiver) = channel();
    let task = async move {
        let _ = sender.send(woken.await);
    };
    runtime.spawn("waiter", task.boxed());
    let work = move || {
        let _ = wake.send(7);
    };
    runtime.spawn_blocking("waker", Box::new(work));
    assert_eq!(receive(&receiver), Ok(7));
}

/// `spawn_blocking`: any number run at once; none waits for another.
pub fn blocking_work_waits_for_no_other(runtime: Arc<dyn Runtime>) {
    // More than the usual pools of threads hold.
    const WORKS: usize = 600;
    let all = Arc::new(Barrier::new(WORKS));
    let (sender, receiver) = channel();
    for i in 0..WORKS {
        let all = Arc::clone(&all);
        let sender = sender.clone();
        runtime.spawn_blocking(
            "work",
            Box::new(move || {
                all.wait();
                let _ = sender.send(i);
            }),
        );
    }
    let done: BTreeSet<usize> = (0..WORKS).map(|_| receive(&receiver)).collect();
    assert_eq!(done.len(), WORKS);
}

/// `blocking`: returns what the work returned.
pub fn blocking_work_returns_its_result(runtime: Arc<dyn Runtime>) {
    for i in 0..10 {
        assert_eq!(block_on(blocking(&*runtime, "work", move || i * 2)), Ok(i * 2));
    }
}

/// `blocking`: work that panics is [`WorkLost`], and work after it is done.
pub fn blocking_work_that_panics_is_lost_and_harms_no_other(runtime: Arc<dyn Runtime>) {
    // Unwinds as a panic does, without the report that the panic hook would print.
    let work = || -> u32 { std::panic::resume_unwind(Box::new("on purpose")) };
    for _ in 0..3 {
        assert_eq!(block_on(blocking(&*runtime, "work", work)), Err(WorkLost));
        assert_eq!(block_on(blocking(&*runtime, "work", || 1)), Ok(1));
    }
}

/// `sleep`: not before its duration has passed on the clock of `now`.
pub fn a_sleep_is_never_too_short(runtime: Arc<dyn Runtime>) {
    for micros in [1, 100, 999, 1_001, 5_500, 20_000] {
        let duration = Duration::from_micros(micros);
        let (sender, receiver) = channel();
        let inner = Arc::clone(&runtime);
        let task = async move {
            let start = inner.now();
            inner.sleep(duration).await;
            let _ = sender.send(inner.now() - start);
        };
        runtime.spawn("sleeper", task.boxed());
        let slept = receive(&receiver);
        assert!(slept >= duration, "slept {slept:?} instead of {duration:?}");
    }
}

/// `sleep`: a shorter one that starts later completes first.
pub fn sleeps_complete_in_the_order_of_their_ends(runtime: Arc<dyn Runtime>) {
    let (sender, receiver) = channel();
    let inner = Arc::clone(&runtime);
    let task = async move {
        let long = inner.sleep(Duration::from_secs(3600)).map(|()| "long");
        let short = inner.sleep(Duration::from_millis(20)).map(|()| "short");
        let first = futures::future::select(long, short).await.factor_first().0;
        let _ = sender.send(first);
    };
    runtime.spawn("sleeper", task.boxed());
    assert_eq!(receive(&receiver), "short");
}

/// `sleep`: no length is a length.
pub fn a_sleep_of_no_length_completes(runtime: Arc<dyn Runtime>) {
    let (sender, receiver) = channel();
    let sleep = runtime.sleep(Duration::ZERO);
    let task = async move {
        sleep.await;
        let _ = sender.send(());
    };
    runtime.spawn("sleeper", task.boxed());
    receive(&receiver);
}

/// `sleep`: one that is dropped before its end leaves the others as they are.
pub fn a_dropped_sleep_disturbs_no_other(runtime: Arc<dyn Runtime>) {
    let (sender, receiver) = channel();
    let inner = Arc::clone(&runtime);
    let task = async move {
        let mut kept = inner.sleep(Duration::from_millis(20));
        assert!((&mut kept).now_or_never().is_none());
        for _ in 0..100 {
            assert!(inner.sleep(Duration::from_millis(10)).now_or_never().is_none());
            assert!(inner.sleep(Duration::from_secs(3600)).now_or_never().is_none());
        }
        kept.await;
        let _ = sender.send(());
    };
    runtime.spawn("sleeper", task.boxed());
    receive(&receiver);
}

/// `sleep`: whoever polls it is woken, on the runtime or not.
pub fn a_sleep_can_be_waited_for_on_any_thread(runtime: Arc<dyn Runtime>) {
    block_on(runtime.sleep(Duration::from_millis(5)));
}

/// `now`: never goes back.
pub fn time_never_goes_back(runtime: Arc<dyn Runtime>) {
    let mut last = runtime.now();
    for _ in 0..10_000 {
        let now = runtime.now();
        assert!(now >= last, "{now:?} after {last:?}");
        last = now;
    }
}

/// `random`: two numbers, of one runtime or of two threads, are the same by no more than chance.
pub fn random_numbers_do_not_repeat(runtime: Arc<dyn Runtime>) {
    let (sender, receiver) = channel();
    for _ in 0..2 {
        let sender = sender.clone();
        let inner = Arc::clone(&runtime);
        let work = move || {
            let numbers: Vec<u64> = (0..1_000).map(|_| inner.random()).collect();
            let _ = sender.send(numbers);
        };
        runtime.spawn_blocking("draw", Box::new(work));
    }
    let mut numbers = receive(&receiver);
    numbers.extend(receive(&receiver));
    let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(distinct.len(), numbers.len());
}

/// `random`: each bit is set in about half of the numbers.
pub fn each_bit_of_a_random_number_is_as_good_as_any_other(runtime: Arc<dyn Runtime>) {
    const DRAWS: u32 = 4_096;
    let mut set = [0u32; 64];
    for _ in 0..DRAWS {
        let number = runtime.random();
        for (bit, count) in set.iter_mut().enumerate() {
            *count += u32::from(number >> bit & 1 == 1);
        }
    }
    // 12 standard deviations (32 each) around the mean: never by chance.
    let half = DRAWS / 2;
    for (bit, count) in set.iter().enumerate() {
        assert!(count.abs_diff(half) < 384, "bit {bit} is set in {count} of {DRAWS}");
    }
}

fn receive<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(HANG).expect("the runtime did not do it in time")
}
