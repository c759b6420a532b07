//! The operations of one partition, as the search walks through them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::FixedHashMap;
use crate::history::Operation;
use crate::model::Model;

pub(super) type OperationOf<M> = Operation<<M as Model>::Input, <M as Model>::Output>;

/// The operations of one partition. Time is counted in answers: *position* `n` is the time just before the answer
/// number `n` (from 0) reached its client.
pub(super) struct Timeline<'h, M: Model> {
    /// The answered operations. An operation's number is its place here, in the order of the calls.
    pub(super) answered: Vec<Answered<'h, M>>,
    /// The numbers of the answered operations in the order of their answers: one for each position.
    pub(super) answers: Vec<u32>,
    /// For each position, the operations that were called since the position before.
    pub(super) called: Vec<Range<u32>>,
    /// The operations of unknown outcome, alike ones together, in the order of the first call of each kind.
    pub(super) unknown: Vec<Unknown<'h, M>>,
    /// The kinds of unknown operations that change states of a certain mark alone.
    marked: BTreeMap<u64, Vec<u32>>,
    /// The kinds that may change any.
    unmarked: Vec<u32>,
}

/// An operation that was answered.
pub(super) struct Answered<'h, M: Model> {
    pub(super) operation: &'h OperationOf<M>,
    pub(super) output: &'h M::Output,
    /// Whether it can change a state, being answered so.
    pub(super) may_change: bool,
}

/// Operations of unknown outcome that ask for the same, as far as anyone can tell.
///
/// Which of them took effect makes no difference but for the time of its call. Whatever order there is, there is one in
/// which they take effect in the order of their calls: so only how many did has to be found.
pub(super) struct Unknown<'h, M: Model> {
    /// What stands for their inputs.
    pub(super) input: M::Input,
    /// In the order of their calls, each with the first position at which it can have taken effect.
    pub(super) calls: Vec<(u32, &'h OperationOf<M>)>,
}

impl<'h, M: Model> Timeline<'h, M> {
    /// `operations` in the order of their calls.
    pub(super) fn new(model: &M, operations: &[&'h OperationOf<M>]) -> Timeline<'h, M> {
        let mut answered = Vec::new();
        let mut returns = Vec::new();
        for operation in operations {
            if let Some((at, output)) = operation.answer() {
                returns.push((at.sequence, number(answered.len())));
                let may_change = model.may_change(&operation.input, Some(output));
                answered.push(Answered { operation, output, may_change });
            }
        }
        returns.sort_unstable();
        let mut called = Vec::with_capacity(returns.len());
        let mut from = 0;
        for (at, _) in &returns {
            let before = |one: &Answered<'h, M>| one.operation.called.sequence < *at;
            let until = number(answered.partition_point(before));
            called.push(from..until);
            from = until;
        }
        let mut timeline = Timeline {
            answered,
            answers: returns.iter().map(|(_, number)| *number).collect(),
            called,
            unknown: Vec::new(),
            marked: BTreeMap::new(),
            unmarked: Vec::new(),
        };
        timeline.add_unknown(model, operations, &returns);
        timeline
    }

    fn add_unknown(
        &mut self,
        model: &M,
        operations: &[&'h OperationOf<M>],
        returns: &[(u64, u32)],
    ) {
        let unknown: Vec<_> = operations
            .iter()
            .filter(|operation| operation.is_unknown() && model.may_change(&operation.input, None))
            .map(|operation| {
                let is_before = |(at, _): &(u64, u32)| *at < operation.called.sequence;
                (number(returns.partition_point(is_before)), *operation)
            })
            // What was called after the last answer explains nothing.
            .filter(|(from, _)| (*from as usize) < returns.len())
            .collect();
        let inputs: Vec<_> = unknown.iter().map(|(_, operation)| &operation.input).collect();
        let told: Vec<_> = self.answered.iter().map(|answered| answered.output).collect();
        let stand_ins = model.stand_ins(&inputs, &told);
        assert!(stand_ins.len() == inputs.len(), "each input has a stand-in");

        let mut kinds: FixedHashMap<M::Input, usize> = FixedHashMap::default();
        for (call, input) in unknown.into_iter().zip(stand_ins) {
            let kind = *kinds.entry(input).or_insert_with_key(|input| {
                self.unknown.push(Unknown { input: input.clone(), calls: Vec::new() });
                self.unknown.len() - 1
            });
            self.unknown[kind].calls.push(call);
        }
        for (kind, unknown) in self.unknown.iter().enumerate() {
            let kinds = match model.changes_only_at(&unknown.input) {
                Some(mark) => self.marked.entry(mark).or_default(),
                None => &mut self.unmarked,
            };
            kinds.push(number(kind));
        }
    }

    /// The operation whose answer comes next at this position.
    pub(super) fn next_answer(&self, position: u32) -> u32 {
        self.answers[position as usize]
    }

    /// The kinds of unknown operations of which one was called by this position and can change a state of this mark,
    /// those called first first.
    pub(super) fn unknown_at(&self, position: u32, mark: u64) -> impl Iterator<Item = u32> + '_ {
        let marked = self.marked.get(&mark).map_or(&[][..], Vec::as_slice);
        [marked, &self.unmarked].into_iter().flat_map(move |kinds| {
            let is_called = |kind: &u32| self.unknown[*kind as usize].calls[0].0 <= position;
            kinds[..kinds.partition_point(is_called)].iter().copied()
        })
    }
}

/// A place as a number. More than 4 billion operations do not fit into memory.
fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
