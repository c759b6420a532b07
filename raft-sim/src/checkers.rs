//! What must be true in every run: a checker a file, and for each a fault that it must catch.
#![expect(clippy::wildcard_enum_match_arm, reason = "each looks at a few of all events")]

mod budgets;
mod durability;
mod election_safety;
mod exactly_once;
mod leader_append_only;
mod leader_completeness;
pub mod linearizability;
mod liveness;
mod log_matching;
pub mod stale;
mod state_machine_safety;
mod stored;
#[cfg(test)]
mod told;
mod view;

use std::time::Duration;

pub use self::budgets::{Budgets, BudgetsChecker};
pub use self::durability::Durability;
pub use self::election_safety::ElectionSafety;
pub use self::exactly_once::ExactlyOnce;
pub use self::leader_append_only::LeaderAppendOnly;
pub use self::leader_completeness::LeaderCompleteness;
pub use self::liveness::{LEADER_WITHIN, Liveness};
pub use self::log_matching::LogMatching;
pub use self::state_machine_safety::StateMachineSafety;
pub use self::stored::{Log, State, Stored, Writing};
pub use self::view::{Committed, NodeView, View};
use crate::event::Event;

/// The name of the checker that looks at what the clients saw, once a run is over.
pub const LINEARIZABILITY: &str = "linearizability";

/// The name of the checker that looks at answers that may be stale, once a run is over.
pub const STALE_READS: &str = "stale reads";

/// The name of the checker that looks at the members' states, once a run is over.
pub const SAME_STATE: &str = "same state";

/// The name of the workload's own judgement, once a run is over.
pub const WORKLOAD: &str = "workload";

/// The names of all checkers.
pub const NAMES: [&str; 13] = [
    "election safety",
    "leader append-only",
    "log matching",
    "leader completeness",
    "state machine safety",
    "durability",
    "exactly once",
    "budgets",
    "liveness",
    LINEARIZABILITY,
    STALE_READS,
    SAME_STATE,
    WORKLOAD,
];

/// Watches a run for one kind of violation.
pub trait Checker: Send + 'static {
    /// What it watches over, in a few words.
    fn name(&self) -> &'static str;

    /// This happened, at this true time. `before` is what is known of everything before it happened.
    ///
    /// # Errors
    /// It must not have happened: what is wrong, in a sentence.
    fn observe(&mut self, now: Duration, before: &View, event: &Event) -> Result<(), String>;

    /// The run is over, and this is how it ended.
    ///
    /// # Errors
    /// Something must have happened by now: what is missing, in a sentence.
    fn finish(&mut self, _now: Duration, _end: &View) -> Result<(), String> {
        Ok(())
    }
}

/// All checkers that look at events.
#[must_use]
pub fn all(budgets: Budgets, operation_max: Duration) -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(ElectionSafety::default()),
        Box::new(LeaderAppendOnly::default()),
        Box::new(LogMatching::default()),
        Box::new(LeaderCompleteness),
        Box::new(StateMachineSafety::default()),
        Box::new(Durability::default()),
        Box::new(ExactlyOnce::default()),
        Box::new(BudgetsChecker::new(budgets)),
        Box::new(Liveness::new(operation_max)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_checker_goes_by_its_name() {
        let mut names: Vec<&str> =
            all(Budgets::none(), Duration::MAX).iter().map(|checker| checker.name()).collect();
        names.extend([LINEARIZABILITY, STALE_READS, SAME_STATE, WORKLOAD]);
        assert_eq!(names, NAMES);
    }
}
