//! Whether clients saw what one copy of the service would have shown them.
//!
//! A history is linearizable if each operation can be given a moment between its call and its answer such that all
//! operations, carried out at these moments one after the other, lead to just these answers (Herlihy and Wing 1990).
//! An operation of unknown outcome has any moment after its call, or none at all. This checker is complete: it finds
//! such an order if there is one, and if it finds none, there is none. Where it would take too long, it says so.
//!
//! # How it works
//!
//! Operations on different keys are checked apart (P-compositionality, Horn and Kroening 2015). For one key, the order in
//! which the machines applied the commands is tried first, where it is known ([`check_with`]). Most often that is all: it
//! explains the answers. Otherwise the search builds the order from the front, after Wing and Gong (1993), and walks through the history answer by answer:
//!
//! - *Just in time* (Lowe 2017): before an answer reaches its client, its operation must have got its place in the order,
//!   perhaps behind others that were called by then. Nothing else is placed before it has to be: whatever order exists,
//!   one that the search can take exists. So a place in the search is the next answer, the state reached, those
//!   answered later that already have their place, and the unknown ones that took effect.
//! - *No place is searched twice* (Lowe 2017). Of two that differ only in the unknown operations that they used, the one
//!   that used a part of the other's can do all that the other can: only it goes on.
//! - *What changes nothing*, a read or a refusal, goes into the order at the first state that it fits: it could not fit
//!   anywhere better, and bars the way to nothing. Where the model does not say what changes nothing, a first search
//!   guesses so by what an operation does to the state at hand; only an order that it finds counts.
//! - *Unknown operations that ask for the same* are interchangeable, so they take effect in the order of their calls, and
//!   only their number counts. They are used only after everything else failed: the more of them, the later.
//! - The place that has come furthest goes on first, so a history that is linearizable is mostly found to be so without
//!   a detour. If there is no order, the search has tried all places up to the furthest one: the answer at which it
//!   ended is the first that nothing explains.
//!
//! # Sources
//! - M. Herlihy, J. Wing: Linearizability: a correctness condition for concurrent objects. 1990.
//! - J. Wing, C. Gong: Testing and verifying concurrent objects. 1993.
//! - G. Lowe: Testing for linearizability. 2017.
//! - A. Horn, D. Kroening: Faster linearizability checking via P-compositionality. 2015.

mod counts;
mod search;
mod sets;
#[cfg(test)]
mod tests;
mod timeline;
mod violation;
mod witness;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher};

use self::search::{AtOnce, Found, Search};
use self::timeline::{OperationOf, Timeline};
pub use self::violation::{Reached, Shown, Violation};
pub use self::witness::Applications;
use crate::history::History;
use crate::model::Model;

/// Steps of the search that [`check`] spends on one key, twice at most: a few seconds of work, and of the order of a
/// hundred megabytes of memory beside the states themselves.
pub const STEPS_MAX: u64 = 10_000_000;

/// A map whose hashes are the same in each run.
type FixedHashMap<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// What is known about a history after a check.
#[derive(Clone, Debug)]
#[must_use]
pub enum Verdict {
    /// There is an order that explains all answers.
    Linearizable,
    /// There is none.
    Violation(Box<Violation>),
    /// Neither was found in the given number of steps.
    Undecided(Undecided),
}

/// Where the search took too long.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Undecided {
    /// The key whose operations are too many, or too much at the same time. `None`: all operations together.
    pub key: Option<String>,
    /// How many operations that are.
    pub operations: usize,
    /// How many of them had been answered before the first answer that nothing had explained by then.
    pub explained: usize,
    /// The number of steps taken.
    pub steps: u64,
    /// Whether the order in which the commands were applied is known, and does not explain the answers either. That is
    /// suspicious, and proves nothing.
    pub is_order_refuted: bool,
}

/// Checks a history against a model, within [`STEPS_MAX`] for each key.
///
/// # Panics
/// The model contradicts itself: an operation of which it says that it changes nothing changes a state.
pub fn check<M: Model>(model: &M, history: &History<M::Input, M::Output>) -> Verdict {
    check_within(model, history, STEPS_MAX)
}

/// Checks a history against a model. A search takes at most `steps_max` steps: one is to try one operation in one state,
/// to compare one place with another, or to keep a part of a set. There are two searches a key at most.
///
/// Of several keys without an order, the verdict tells of the one where it shows first.
///
/// # Panics
/// As for [`check`].
pub fn check_within<M: Model>(
    model: &M,
    history: &History<M::Input, M::Output>,
    steps_max: u64,
) -> Verdict {
    check_with(model, history, &Applications::default(), steps_max)
}

/// As [`check_within`], but first tries the order in which the commands of this history were applied, if the model can
/// name them ([`Model::command_digest`]). A search is made only where that order does not explain the answers.
///
/// # Panics
/// As for [`check`].
pub fn check_with<M: Model>(
    model: &M,
    history: &History<M::Input, M::Output>,
    applications: &Applications,
    steps_max: u64,
) -> Verdict {
    let mut violation: Option<Violation> = None;
    let mut undecided: Option<Undecided> = None;
    for (key, operations) in partitions(model, history) {
        let is_order_known = !applications.is_empty()
            && operations.iter().any(|one| model.command_digest(&one.input).is_some());
        if is_order_known
            && let Some(order) = witness::find(model, &operations, applications)
            && witness::is_linearization(model, &operations, &order)
        {
            continue;
        }
        let timeline = Timeline::new(model, &operations);
        // Most histories have an order, and are quicker to go through without being sure to find it.
        let mut search = Search::new(model, &timeline, AtOnce::Any, steps_max);
        let mut found = search.run();
        if search.is_incomplete() && !matches!(found, Found::Order) {
            search = Search::new(model, &timeline, AtOnce::Sure, steps_max);
            found = search.run();
        }
        let key = key.map(|key| format!("{key:?}"));
        match found {
            Found::Order => {}
            Found::NoOrder => {
                let found = Violation::new(&search, key);
                if violation.as_ref().is_none_or(|first| found.answered() < first.answered()) {
                    violation = Some(found);
                }
            }
            Found::TooLong { explained, steps } => {
                undecided.get_or_insert(Undecided {
                    key,
                    operations: operations.len(),
                    explained,
                    steps,
                    is_order_refuted: is_order_known,
                });
            }
        }
    }
    match (violation, undecided) {
        (Some(violation), _) => Verdict::Violation(Box::new(violation)),
        (None, Some(undecided)) => Verdict::Undecided(undecided),
        (None, None) => Verdict::Linearizable,
    }
}

type Partitions<'h, M> = BTreeMap<Option<<M as Model>::Key>, Vec<&'h OperationOf<M>>>;

/// The operations that may have had an effect, by key; all together if one of them has none.
fn partitions<'h, M: Model>(
    model: &M,
    history: &'h History<M::Input, M::Output>,
) -> Partitions<'h, M> {
    let mut partitions = Partitions::<'h, M>::new();
    for operation in history.operations().iter().filter(|operation| !operation.is_failed()) {
        partitions.entry(model.key(&operation.input)).or_default().push(operation);
    }
    if partitions.len() > 1 && partitions.contains_key(&None) {
        let mut all: Vec<_> = partitions.into_values().flatten().collect();
        all.sort_unstable_by_key(|operation| operation.called);
        partitions = BTreeMap::from([(None, all)]);
    }
    partitions
}

impl Verdict {
    /// Whether there is an order that explains all answers.
    #[must_use]
    pub fn is_linearizable(&self) -> bool {
        matches!(self, Verdict::Linearizable)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Linearizable => f.write_str("linearizable"),
            Verdict::Violation(violation) => violation.fmt(f),
            Verdict::Undecided(undecided) => undecided.fmt(f),
        }
    }
}

impl fmt::Display for Undecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Undecided { key, operations, explained, steps, is_order_refuted } = self;
        write!(f, "linearizability: not decided within {steps} steps: {operations} operations")?;
        if let Some(key) = key {
            write!(f, " on key {key}")?;
        }
        write!(f, ", of which {explained} answers were explained")?;
        if *is_order_refuted {
            f.write_str("; the order in which they were applied does not explain them all")?;
        }
        Ok(())
    }
}
