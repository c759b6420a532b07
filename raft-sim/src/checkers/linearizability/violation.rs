//! The answer that nothing explains, and what a reader needs to see why.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::search::{Place, Search};
use super::timeline::OperationOf;
use crate::history::Instant;
use crate::model::Model;

/// So many of the last changes in the order are shown.
const CHANGES_SHOWN_MAX: usize = 6;
/// So many states that orders lead to are shown.
const STATES_SHOWN_MAX: usize = 4;
/// So many operations that might have come in between are shown.
const OPEN_SHOWN_MAX: usize = 16;

/// An answer that no order explains. All answers before it, of the operations on this key, can be explained. What was
/// under way by then may be in the order too, but only with the answer that it got later.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The key. `None`: all operations together.
    pub key: Option<String>,
    /// The operation with the answer that does not fit.
    pub misfit: Shown,
    /// How many answers had reached their clients before, each of them explained.
    pub explained: usize,
    /// The last changes in one of the orders that explain them.
    pub changes: Vec<Shown>,
    /// The states that such orders lead to, the most likely first: four at most.
    pub states: Vec<Reached>,
    /// How many states more there are.
    pub states_left_out: usize,
    /// The operations that had been called by then, and were answered later or never: each may have taken effect before
    /// the misfit, and none makes it fit. The latest ones: sixteen at most.
    pub open: Vec<Shown>,
    /// How many operations more there are.
    pub open_left_out: usize,
    answered: Instant,
}

/// An operation, for the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Whose it is.
    pub client: u64,
    /// What was asked.
    pub input: String,
    /// What was answered, if anything was.
    pub output: Option<String>,
    /// When it was called, in the true virtual time.
    pub called: Duration,
    /// When it ended for its client. `None`: never.
    pub ended: Option<Duration>,
}

/// A state that explains all answers before the misfit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// What the state is.
    pub state: String,
    /// What the misfit would be answered in it, if the model can say.
    pub expected: Option<String>,
}

impl Violation {
    /// What a search found that has tried everything.
    pub(super) fn new<M: Model>(search: &Search<'_, '_, M>, key: Option<String>) -> Violation {
        let Search { model, timeline, .. } = search;
        let position = search.furthest();
        let misfit = timeline.next_answer(position);
        let operation = timeline.answered[misfit as usize].operation;
        let mut places: Vec<&Place> =
            search.places.iter().filter(|place| place.position == position).collect();
        places.sort_by_key(|place| (place.moves, place.used_count));
        let mut first_of_state: Vec<&Place> = Vec::new();
        for place in &places {
            if !first_of_state.iter().any(|other| other.state == place.state) {
                first_of_state.push(place);
            }
        }
        let states = first_of_state.iter().take(STATES_SHOWN_MAX).map(|place| {
            let state = state_of(search, place);
            Reached {
                state: model.describe_state(&state),
                expected: model.expected(&state, &operation.input),
            }
        });
        let states_left_out = first_of_state.len().saturating_sub(STATES_SHOWN_MAX);
        let (open, open_left_out) = open(search, &places, misfit);
        Violation {
            key,
            misfit: Shown::new(*model, operation),
            explained: position as usize,
            changes: places.first().map_or_else(Vec::new, |place| changes(search, place)),
            states: states.collect(),
            states_left_out,
            open,
            open_left_out,
            answered: operation.answer().map_or(operation.called, |(at, _)| at),
        }
    }

    /// When the misfit was answered.
    #[must_use]
    pub fn answered(&self) -> Instant {
        self.answered
    }
}

/// The state that the operations really lead to, where others may have stood for them in the search.
fn state_of<M: Model>(search: &Search<'_, '_, M>, place: &Place) -> M::State {
    let Search { model, .. } = search;
    let moves: Vec<_> = search.moves(place).collect();
    let replayed = moves.into_iter().rev().try_fold(model.initial(), |state, (before, by)| {
        let operation = search.operation(before, by)?;
        model.step(&state, &operation.input, operation.answer().map(|(_, output)| output))
    });
    replayed.unwrap_or_else(|| search.state(place.state).clone())
}

/// The last changes in the order that leads to a place.
fn changes<M: Model>(search: &Search<'_, '_, M>, place: &Place) -> Vec<Shown> {
    let mut after = place.state;
    let changes = search.moves(place).filter_map(|(before, by)| {
        let is_change = before.state != after;
        after = before.state;
        is_change.then(|| search.operation(before, by)).flatten()
    });
    let mut changes: Vec<_> = changes
        .take(CHANGES_SHOWN_MAX)
        .map(|operation| Shown::new(search.model, operation))
        .collect();
    changes.reverse();
    changes
}

/// The operations that might have come before the misfit, from one of these places on: those answered later, and the
/// unknown ones that change one of the states. With the number of those left out.
fn open<M: Model>(
    search: &Search<'_, '_, M>,
    places: &[&Place],
    misfit: u32,
) -> (Vec<Shown>, usize) {
    let Search { model, timeline, .. } = search;
    let Some(place) = places.first() else { return (Vec::new(), 0) };
    let mut answered = Vec::new();
    search.sets.difference(search.pending[place.position as usize], place.early, &mut answered);
    let answered = answered.into_iter().filter(|number| *number != misfit);
    let answered = answered.map(|number| timeline.answered[number as usize].operation);
    let mut unknown = BTreeSet::new();
    for place in places.iter().take(STATES_SHOWN_MAX) {
        let state = search.state(place.state);
        unknown.extend(timeline.unknown_at(place.position, model.mark(state)).filter(|kind| {
            let input = &timeline.unknown[*kind as usize].input;
            model.step(state, input, None).is_some_and(|after| after != *state)
        }));
    }
    let unknown = unknown.into_iter().filter_map(|kind| search.unused(place, kind));
    let unknown = unknown.filter(|(called, _)| *called <= place.position);
    let unknown = unknown.map(|(_, operation)| operation);
    let mut open: Vec<_> = answered.chain(unknown).collect();
    open.sort_by_key(|operation| operation.called);
    let left_out = open.len().saturating_sub(OPEN_SHOWN_MAX);
    (open[left_out..].iter().map(|operation| Shown::new(*model, operation)).collect(), left_out)
}

impl Shown {
    fn new<M: Model>(model: &M, operation: &OperationOf<M>) -> Shown {
        let output = operation.answer().map(|(_, output)| output);
        Shown {
            client: operation.client,
            input: model.describe_input(&operation.input),
            output: output.map(|output| model.describe_output(&operation.input, output)),
            called: operation.called.time,
            ended: operation.ended.as_ref().map(|(at, _)| at.time),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let output = self.output.as_deref().unwrap_or("nobody knows");
        write!(f, "client {}: {} -> {output}", self.client, self.input)?;
        write!(f, "   ({:.6} s to ", self.called.as_secs_f64())?;
        match self.ended {
            Some(ended) => write!(f, "{:.6} s)", ended.as_secs_f64()),
            None => f.write_str("the end)"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not linearizable")?;
        if let Some(key) = &self.key {
            write!(f, ", key {key}")?;
        }
        write!(f, ": no order of the operations explains the answer\n  {}\n", self.misfit)?;
        write!(f, "The {} answers before it are explained", self.explained)?;
        if !self.changes.is_empty() {
            f.write_str(", with these changes as the last ones")?;
        }
        writeln!(f, ":")?;
        for change in &self.changes {
            writeln!(f, "  {change}")?;
        }
        for reached in &self.states {
            write!(f, "  which leads to: {}", reached.state)?;
            match &reached.expected {
                Some(expected) => writeln!(f, ", where the answer were {expected}")?,
                None => writeln!(f)?,
            }
        }
        if self.states_left_out > 0 {
            writeln!(f, "  or to {} states more, in other orders", self.states_left_out)?;
        }
        if self.open.is_empty() {
            return f.write_str("Nothing else was under way that may have come before it.");
        }
        f.write_str("Under way by then, and of no help, wherever they are put:")?;
        for open in &self.open {
            write!(f, "\n  {open}")?;
        }
        if self.open_left_out > 0 {
            write!(f, "\n  and {} before these", self.open_left_out)?;
        }
        Ok(())
    }
}
