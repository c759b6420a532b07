//! A failing seed is made small, and fails in the same way.

use std::sync::Arc;

use raft_sim::plan::{Bounds, Plan};
use raft_sim::{Failure, Subject, Violated, Workload, shrink};

use crate::planted::accounts::{Accounts, Merges, requests};
use crate::planted::bounds;
use crate::planted::clients::Maybe;

fn violated<W: Workload>(subject: &Subject<W>, seed: u64, bounds: &Bounds) -> Option<Violated> {
    match subject.run(seed, bounds, None) {
        Ok(_) => None,
        Err(Failure::Violated(violated)) => Some(violated),
        Err(failure) => panic!("{failure}"),
    }
}

/// The first failing runs of some size are made smaller in faults, and some of them in nodes and in operations: not each can
/// be, where only the last operations show what is wrong, say.
fn are_made_small<W: Workload>(subject: &Subject<W>, bounds: &Bounds) {
    let plans = (1_000..1_400).map(|seed| Plan::draw(seed, bounds).unwrap());
    let large = plans.filter(|plan| plan.faults.len() >= 5 && plan.setups.len() >= 5);
    let found = large.filter_map(|plan| violated(subject, plan.seed, bounds).map(|v| (plan, v)));
    let plans = found.take(8).map(|(plan, found)| {
        let small = made_small(subject, bounds, &plan, &found);
        (plan, small)
    });
    let plans: Vec<(Plan, Plan)> = plans.collect();
    assert!(plans.iter().any(|(plan, small)| small.setups.len() < plan.setups.len()));
    assert!(plans.iter().any(|(plan, small)| small.operations < plan.operations));
}

fn made_small<W: Workload>(
    subject: &Subject<W>,
    bounds: &Bounds,
    plan: &Plan,
    found: &Violated,
) -> Plan {
    let seed = plan.seed;
    let shrunk = shrink(subject, seed, bounds, found.clone(), &|_, _| ()).unwrap();

    println!("{plan}\n{found}\nafter {} tries\n{}\n{}", shrunk.tries, shrunk.plan, shrunk.violated);
    assert_eq!(shrunk.violated.violation.checker, found.violation.checker);
    assert!(shrunk.plan.faults.len() <= plan.faults.len() / 2);
    assert!(shrunk.plan.setups.len() <= plan.setups.len());
    assert!(shrunk.plan.clients <= plan.clients);
    assert!(shrunk.plan.operations <= plan.operations);
    assert!(shrunk.plan.duration <= plan.duration);

    let replayed = violated(subject, seed, &shrunk.bounds).expect("it does not fail any more");
    assert_eq!(replayed.violation, shrunk.violated.violation);
    assert_eq!(replayed.report, shrunk.violated.report);
    shrunk.plan
}

#[test]
fn a_restore_that_merges_fails_in_a_smaller_run() {
    let subject = Subject { machine: Arc::new(Merges::default), workload: Arc::new(requests) };
    are_made_small(&subject, &bounds(15, "all"));
}

#[test]
fn a_client_that_repeats_a_maybe_fails_in_a_smaller_run() {
    let subject =
        Subject { machine: Arc::new(Accounts::default), workload: Arc::new(|| Maybe::Repeated) };
    are_made_small(&subject, &bounds(10, "all"));
}
