//! State machines that must not be replicated, and clients that must not be believed.

use super::accounts::{Accounts, Merges, Panics, PaysABonus, requests};
use super::clients::Maybe;
use super::{Planted, bounds};

#[test]
fn an_honest_machine_with_honest_clients_violates_nothing() {
    Planted::new(bounds(15, "all"), Accounts::default, requests).would_be_fine_without();
}

#[test]
fn a_machine_that_is_not_deterministic_is_caught() {
    let checkers = ["state machine safety", "linearizability"];
    Planted::new(bounds(15, "all"), PaysABonus::default, requests)
        .is_seen_first_by(&checkers)
        .is_seen_by(&checkers);
}

/// Kills stop no node by itself, so whoever stops has found that it has diverged.
#[test]
fn a_node_whose_machine_is_not_deterministic_stops_by_itself() {
    let kills = || bounds(15, "kills");
    assert!(Planted::new(kills(), PaysABonus::default, requests).stops() > 0);
    assert_eq!(Planted::new(kills(), Accounts::default, requests).stops(), 0);
}

#[test]
fn a_machine_that_keeps_what_it_had_when_it_is_restored_is_caught() {
    Planted::new(bounds(15, "all"), Merges::default, requests)
        .is_seen_first_by(&["state machine safety"]);
}

#[test]
fn a_machine_that_panics_is_caught() {
    Planted::new(bounds(5, "none"), Panics::default, requests).is_seen_first_by(&["no panics"]);
}

#[test]
fn a_client_that_repeats_a_maybe_is_caught() {
    Planted::new(bounds(10, "all"), Accounts::default, || Maybe::Repeated)
        .is_seen_first_by(&["linearizability"]);
}

#[test]
fn a_client_that_takes_a_maybe_for_a_no_is_caught() {
    Planted::new(bounds(10, "all"), Accounts::default, || Maybe::TakenForNo)
        .is_seen_first_by(&["linearizability"]);
}
