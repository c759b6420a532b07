//! The same seed gives the same run, event by event.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raft_sim::Report;
use raft_sim::plan::Bounds;

use crate::swarm::subject;

fn bounds() -> Bounds {
    Bounds { duration: Duration::from_secs(6), ..Bounds::default() }
}

fn run(seed: u64) -> Report {
    subject().run(seed, &bounds(), None).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    let mut digests = BTreeSet::new();
    for seed in 0..8 {
        let report = run(seed);
        assert_eq!(report, run(seed));
        assert!(report.events > 100, "{report:?}");
        assert!(digests.insert(report.digest), "seed {seed} is like another one");
    }
}

#[test]
fn the_same_seed_tells_the_same_story_line_by_line() {
    let story = || {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&lines);
        let trace = Arc::new(move |line: &str| to.lock().unwrap().push(line.to_owned()));
        subject().run(3, &bounds(), Some(trace)).unwrap();
        std::mem::take(&mut *lines.lock().unwrap())
    };
    let (first, second) = (story(), story());
    assert!(first.len() > 100);
    assert_eq!(first, second);
}

#[test]
fn runs_on_other_threads_at_the_same_time_change_nothing() {
    let alone = run(5);
    let runs: Vec<Report> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| run(5))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(runs.iter().all(|report| *report == alone));
}

#[test]
fn a_swarm_comes_to_the_same_on_any_number_of_threads() {
    let run_all = |jobs, seeds| {
        let summary = subject().run_all(seeds, &bounds(), jobs, 1, &|_, _| ()).unwrap();
        serde_json::to_string(&summary).unwrap()
    };
    let one = run_all(1, 0..10);
    assert_eq!(one, run_all(2, 0..10));
    assert_eq!(one, run_all(5, 0..10));
    assert_ne!(one, run_all(1, 1..11));
}
