//! An order that is known beforehand: the one in which the machines applied the commands.
//!
//! A run of the simulator knows more than its history does: in which order commands came out of the log, those of unknown
//! outcome included. If that order, with the reads at the right places between, explains all answers, the history is
//! linearizable, and no search is needed, however many unknown operations there are.
//!
//! [`find`] guesses such an order and [`is_linearization`] proves it. A wrong guess, for whatever reason, is no more than
//! a search that has to be made: all trust is in [`is_linearization`].

use std::collections::{BTreeMap, VecDeque};

use raft_rsm::raft_core::LogIndex;

use super::FixedHashMap;
use super::timeline::OperationOf;
use crate::event::{Digest, Event};
use crate::history::Instant;
use crate::model::Model;

/// The commands of a run in the order of the log, taken down as the first node applies each: 16 bytes a command.
#[derive(Clone, Debug, Default)]
pub struct Applications {
    applications: Vec<Application>,
    /// The index up to which a node has applied.
    last: LogIndex,
    /// Operations that clients began, and ended, so far. A history counts the same: see [`Instant::sequence`].
    sequence: u64,
}

/// A command is applied for the first time.
#[derive(Copy, Clone, Debug)]
struct Application {
    command: Digest,
    /// It comes after all calls and ends of the history with a lower number, and before all others.
    sequence: u64,
}

impl Applications {
    /// Takes down what matters of what happened.
    pub(crate) fn observe(&mut self, event: &Event) {
        match event {
            Event::OperationBegan { .. } | Event::OperationEnded { .. } => self.sequence += 1,
            Event::Applied { id, command, .. } if id.index > self.last => {
                self.last = id.index;
                let application = Application { command: *command, sequence: self.sequence };
                self.applications.push(application);
            }
            _ => {}
        }
    }

    /// How many commands were applied.
    #[must_use]
    pub fn len(&self) -> usize {
        self.applications.len()
    }

    /// Whether nothing was applied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.applications.is_empty()
    }
}

/// Whether `order`, places in `operations`, is an order of them that explains all answers: then they are linearizable,
/// by definition, wherever the order comes from. None of `operations` has failed.
pub(super) fn is_linearization<M: Model>(
    model: &M,
    operations: &[&OperationOf<M>],
    order: &[usize],
) -> bool {
    let mut is_placed = vec![false; operations.len()];
    let mut latest_call: Option<Instant> = None;
    let mut state = model.initial();
    for &place in order {
        let operation = operations[place];
        let answer = operation.answer();
        // Each operation takes effect once.
        if std::mem::replace(&mut is_placed[place], true) {
            return false;
        }
        // None comes behind one that was called after it was answered.
        if answer.is_some_and(|(at, _)| latest_call.is_some_and(|call| at < call)) {
            return false;
        }
        latest_call = latest_call.max(Some(operation.called));
        // Its answer is the right one at this place.
        let output = answer.map(|(_, output)| output);
        let Some(after) = model.step(&state, &operation.input, output) else { return false };
        state = after;
    }
    // All that were answered took effect.
    operations
        .iter()
        .zip(is_placed)
        .all(|(operation, is_placed)| is_placed || operation.answer().is_none())
}

/// An order of `operations` that may explain all answers: the commands as they were applied, and each read where it fits.
/// `operations` come in the order of their calls. `None`: the reads do not fit.
pub(super) fn find<M: Model>(
    model: &M,
    operations: &[&OperationOf<M>],
    applications: &Applications,
) -> Option<Vec<usize>> {
    Commands::find(model, operations, applications).with_reads(model, operations)
}

/// The operations behind the commands that were applied.
struct Commands<S> {
    /// Their places, in the order of the log.
    order: Vec<usize>,
    /// The state before each, and the one in the end.
    states: Vec<S>,
}

impl<S> Commands<S> {
    /// Looks for the operation behind each application: of those that ask for this command and were called by then, the
    /// one that is answered next among those that are answered rightly. If there is none, one of unknown outcome.
    ///
    /// If all answered ones can be found, they are. For take another choice that finds them and is the same before this
    /// application. The operation that is taken here is behind a later one there, since it was answered in time. Let the
    /// two change places: both were called by now, the other one is unknown or answered later, and both have the same
    /// answer. So this choice finds them too.
    fn find<M: Model<State = S>>(
        model: &M,
        operations: &[&OperationOf<M>],
        applications: &Applications,
    ) -> Commands<S> {
        let mut alike: FixedHashMap<Digest, Alike> = FixedHashMap::default();
        let mut calls = operations.iter().enumerate().peekable();
        let mut state = model.initial();
        let mut commands = Commands { order: Vec::new(), states: Vec::new() };
        for Application { command, sequence } in &applications.applications {
            let is_called = |call: &(usize, &&OperationOf<M>)| call.1.called.sequence < *sequence;
            while let Some((place, operation)) = calls.next_if(is_called) {
                if let Some(command) = model.command_digest(&operation.input) {
                    alike.entry(command).or_default().add(place, operation.answer());
                }
            }
            // A command of another partition, or one that nobody took down, is left out.
            if let Some(alike) = alike.get_mut(command)
                && let Some((place, after)) = alike.take(model, operations, &state)
            {
                commands.order.push(place);
                commands.states.push(std::mem::replace(&mut state, after));
            }
        }
        commands.states.push(state);
        commands
    }

    /// The order with all reads in it, each at the first place where its answer is right and what was answered before its
    /// call is before it.
    ///
    /// No other choice can do better: a read changes no state, and one that comes later than it has to only keeps those
    /// from their place that are called after it was answered. So if any order of these commands explains all reads,
    /// each of them comes here no later than there.
    fn with_reads<M: Model<State = S>>(
        &self,
        model: &M,
        operations: &[&OperationOf<M>],
    ) -> Option<Vec<usize>> {
        // What was answered, and how many commands have to come before whatever is called after that.
        let mut answers: BTreeMap<Instant, usize> = BTreeMap::new();
        for (place, before) in self.order.iter().zip(1..) {
            answers.extend(operations[*place].answer().map(|(at, _)| (at, before)));
        }
        let mut reads = vec![Vec::new(); self.states.len()];
        let mut before = 0;
        // In the order of the calls, so that reads at the same place are in the right order as well.
        for (place, operation) in operations.iter().enumerate() {
            let Some((at, output)) = operation.answer() else { continue };
            if model.command_digest(&operation.input).is_some() {
                continue;
            }
            while let Some(first) = answers.first_entry()
                && *first.key() < operation.called
            {
                before = before.max(first.remove());
            }
            let is_right = |state| model.step(state, &operation.input, Some(output)).is_some();
            let read_at = before + self.states[before..].iter().position(is_right)?;
            answers.insert(at, read_at);
            reads[read_at].push(place);
        }
        let mut order = reads.remove(0);
        for (command, reads) in self.order.iter().zip(reads) {
            order.push(*command);
            order.extend(reads);
        }
        Some(order)
    }
}

/// Operations that ask for the same command, were called, and have not been found behind an application.
#[derive(Default)]
struct Alike {
    /// In the order of their answers.
    answered: BTreeMap<Instant, usize>,
    /// In the order of their calls.
    unknown: VecDeque<usize>,
}

impl Alike {
    fn add<O>(&mut self, place: usize, answer: Option<(Instant, &O)>) {
        match answer {
            Some((at, _)) => _ = self.answered.insert(at, place),
            None => self.unknown.push_back(place),
        }
    }

    /// The operation that is applied in `state`, and the state after it.
    fn take<M: Model>(
        &mut self,
        model: &M,
        operations: &[&OperationOf<M>],
        state: &M::State,
    ) -> Option<(usize, M::State)> {
        let fitting = self.answered.iter().find_map(|(at, place)| {
            let output = operations[*place].answer().map(|(_, output)| output);
            let after = model.step(state, &operations[*place].input, output)?;
            Some((*at, *place, after))
        });
        if let Some((at, place, after)) = fitting {
            self.answered.remove(&at);
            return Some((place, after));
        }
        let place = self.unknown.pop_front()?;
        let after = model.step(state, &operations[place].input, None)?;
        Some((place, after))
    }
}
