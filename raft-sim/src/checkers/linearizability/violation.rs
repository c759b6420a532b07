//! The answer that nothing explains, and what a reader needs to see why.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::search::{Move, Place, Search};
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
        let mut ids = Vec::new();
        for place in &places {
            if !ids.contains(&place.state) {
                ids.push(place.state);
            }
        }
        let reached = |state: &M::State| Reached {
            state: model.describe_state(state),
            expected: model.expected(state, &operation.input),
        };
        let shown = ids.iter().take(STATES_SHOWN_MAX).map(|id| reached(search.state(*id)));
        let (open, open_left_out) = open(search, &places, misfit);
        Violation {
            key,
            misfit: Shown::new(*model, operation),
            explained: position as usize,
            changes: places.first().map_or_else(Vec::new, |place| changes(search, place)),
            states: shown.collect(),
            states_left_out: ids.len().saturating_sub(STATES_SHOWN_MAX),
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

/// The last changes in the order that leads to a place.
fn changes<M: Model>(search: &Search<'_, '_, M>, place: &Place) -> Vec<Shown> {
    let mut changes = Vec::new();
    let mut place = place;
    while let Some((before, last)) = place.last
        && changes.len() < CHANGES_SHOWN_MAX
    {
        let before = search.place(before);
        if before.state != place.state {
            let operation = match last {
                Move::Answered(number) => search.timeline.answered[number as usize].operation,
                Move::Unknown(kind) => {
                    let calls = &search.timeline.unknown[kind as usize].calls;
                    calls[search.used(before, kind)].1
                }
            };
            changes.push(Shown::new(search.model, operation));
        }
        place = before;
    }
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
            let input = timeline.unknown[*kind as usize].input();
            model.step(state, input, None).is_some_and(|after| after != *state)
        }));
    }
    let unknown = unknown.into_iter().filter_map(|kind| {
        let next = timeline.unknown[kind as usize].calls.get(search.used(place, kind));
        next.filter(|(called, _)| *called <= place.position).map(|(_, operation)| *operation)
    });
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
