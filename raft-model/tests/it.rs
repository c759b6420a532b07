//! The smallest bounds are exhausted, and each error that can be planted is found.

use std::collections::BTreeSet;

use raft_model::{Action, Bounds, Claim, Cluster, Fault};
use stateright::{Checker, HasDiscoveries, Model};

const THREADS: usize = 2;

/// How many states there are within these bounds, in none of which anything is violated.
fn exhaust(name: &str) -> usize {
    let cluster = Cluster { bounds: bounds(name), fault: None };
    let checker = cluster.checker().threads(THREADS);
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    let violated = checker.discoveries().into_iter().next();
    if let Some((claim, path)) = violated {
        panic!("{name}: violated: {claim}, by {:#?}", path.into_actions());
    }
    let states = checker.unique_state_count();
    println!("{name}: all {states} states were seen, by {} steps", checker.state_count());
    states
}

/// The shortest way in which `fault` breaks `claim`, or nearly so.
fn find(fault: Fault, claim: Claim, bounds: Bounds) -> Vec<Action> {
    let cluster = Cluster { bounds, fault: Some(fault) };
    let wanted = HasDiscoveries::AllOf(BTreeSet::from([claim.name()]));
    let checker = cluster.checker().threads(THREADS).finish_when(wanted).spawn_bfs().join();
    let found = checker.discoveries().remove(claim.name());
    let path = found.unwrap_or_else(|| panic!("{fault:?} is not found to break {claim:?}"));
    path.into_actions()
}

fn bounds(name: &str) -> Bounds {
    let bounds = Bounds::named(name);
    bounds.unwrap_or_else(|| panic!("there are no bounds {name}")).clone()
}

#[test]
fn nothing_is_violated_where_disks_are_slow() {
    assert!(exhaust("small") > 50_000);
}

#[test]
fn nothing_is_violated_where_a_server_crashes() {
    assert!(exhaust("crash") > 50_000);
}

#[test]
fn a_vote_that_is_given_twice_is_found() {
    let story = find(Fault::ForgetsVote, Claim::ElectionSafety, bounds("crash"));
    assert!(story.iter().any(|action| matches!(action, Action::Crash(_))), "{story:#?}");
}

#[test]
fn an_acknowledged_entry_that_is_lost_is_found() {
    let story = find(Fault::ForgetsEntries, Claim::LeaderCompleteness, bounds("crash"));
    assert!(story.iter().any(|action| matches!(action, Action::Crash(_))), "{story:#?}");
}

#[test]
fn an_entry_of_an_old_term_that_is_committed_by_counting_is_found() {
    let story = find(Fault::CountsOldTerms, Claim::LeaderCompleteness, bounds("figure-8"));
    let campaigns = story.iter().filter(|action| matches!(action, Action::TimeOut(_))).count();
    assert!(campaigns >= 4, "Figure 8 takes four elections: {story:#?}");
}

#[test]
fn a_configuration_that_is_forgotten_is_found() {
    let bounds = Bounds { crashes: 1, ..bounds("alone") };
    let story = find(Fault::ForgetsConfiguration, Claim::LeaderCompleteness, bounds);
    assert!(story.iter().any(|action| matches!(action, Action::Change(_))), "{story:#?}");
}

#[test]
fn every_name_of_bounds_is_used_once() {
    let names: BTreeSet<&str> = Bounds::ALL.iter().map(|bounds| bounds.name).collect();
    assert_eq!(names.len(), Bounds::ALL.len());
}
