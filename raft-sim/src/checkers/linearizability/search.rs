//! The search for an order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hash;
use std::rc::Rc;

use super::FixedHashMap;
use super::counts::{Counts, CountsId};
use super::sets::{SetId, Sets};
use super::timeline::{OperationOf, Timeline};
use crate::model::Model;

/// What is kept to not try an operation in the same state again, at most.
const REMEMBERED_STEPS_MAX: usize = 1 << 20;

/// What a search came to.
#[derive(Debug)]
pub(super) enum Found {
    /// There is an order.
    Order,
    /// There is none.
    NoOrder,
    /// Nobody knows.
    TooLong {
        /// The answers before the furthest place.
        explained: usize,
        /// The steps spent.
        steps: u64,
    },
}

/// When an operation that leaves a state as it is goes into the order at once, ahead of its turn.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum AtOnce {
    /// Whenever it fits. Any order that is found is an order; but if none is found there may be one, in which the
    /// operation changes something at another place.
    Any,
    /// If the model says that it changes nothing in any state. Then none is missed.
    Sure,
}

/// Names a state.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct StateId(u32);

/// An operation gets its place in the order.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Move {
    /// An answered one, by its number.
    Answered(u32),
    /// The next one of a kind of unknown ones.
    Unknown(u32),
}

/// A place in the search: what matters of an order that explains all answers before a position, for all that comes
/// later.
#[derive(Copy, Clone, Debug)]
pub(super) struct Place {
    /// The next answer, whose operation is not in the order.
    pub(super) position: u32,
    /// Where the order leads to.
    pub(super) state: StateId,
    /// The operations in the order that are answered later.
    pub(super) early: SetId,
    /// The unknown operations in the order: each kind as often as it was used.
    used: CountsId,
    /// Their number.
    pub(super) used_count: u32,
    /// Moves made since the answer before.
    pub(super) moves: u32,
    /// The last move, and the place before it. What changes nothing goes into the order without a move.
    pub(super) last: Option<(PlaceId, Move)>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlaceId(u32);

/// What is left to be tried at a place.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The operation whose answer is next.
    Next,
    /// Those that are answered later.
    Early,
    /// The unknown ones after which the next one fits, one at a time: so many of all unknown ones were tried.
    Fitting(u32),
    /// The other unknown ones.
    Rest,
}

/// Something to try. The greatest is tried first: the furthest, with the fewest unknown operations, and the fewest
/// moves on top of what the answers ask for.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Task {
    position: u32,
    used_count: Reverse<u32>,
    detour: Reverse<u32>,
    number: Reverse<u64>,
    place: PlaceId,
    stage: Stage,
}

/// The search for an order of one partition.
pub(super) struct Search<'t, 'h, M: Model> {
    pub(super) model: &'t M,
    pub(super) timeline: &'t Timeline<'h, M>,
    /// For each position, the operations called before it and not answered before it.
    pub(super) pending: Vec<SetId>,
    pub(super) sets: Sets,
    counts: Counts,
    pub(super) places: Vec<Place>,
    states: States<M::State>,
    /// The places that were there, with the sets of unknown operations used: none within another.
    seen: FixedHashMap<(u32, StateId, SetId), Vec<CountsId>>,
    remembered: FixedHashMap<(StateId, Move), Option<StateId>>,
    tasks: BinaryHeap<Task>,
    tasks_made: u64,
    at_once: AtOnce,
    /// Whether an order may have been missed.
    is_incomplete: bool,
    steps: u64,
    steps_max: u64,
    /// Room for a list of operations to try.
    scratch: Vec<u32>,
    /// Room for a list of operations that may fit.
    candidates: Vec<u32>,
}

impl<'t, 'h, M: Model> Search<'t, 'h, M> {
    pub(super) fn new(
        model: &'t M,
        timeline: &'t Timeline<'h, M>,
        at_once: AtOnce,
        steps_max: u64,
    ) -> Search<'t, 'h, M> {
        Search {
            model,
            timeline,
            pending: Vec::with_capacity(timeline.answers.len()),
            sets: Sets::new(),
            counts: Counts::below(timeline.unknown.len()),
            places: Vec::new(),
            states: States::new(),
            seen: FixedHashMap::default(),
            remembered: FixedHashMap::default(),
            tasks: BinaryHeap::new(),
            tasks_made: 0,
            at_once,
            is_incomplete: false,
            steps: 0,
            steps_max,
            scratch: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// Searches until there is an order, nothing is left to try, or it has taken too long.
    pub(super) fn run(&mut self) -> Found {
        if self.timeline.answers.is_empty() {
            return Found::Order;
        }
        if !self.list_pending() {
            return self.too_long();
        }
        let start = Place {
            position: 0,
            state: self.states.id(self.model.initial()),
            early: SetId::default(),
            used: CountsId::default(),
            used_count: 0,
            moves: 0,
            last: None,
        };
        let mut is_order = self.enter(start, Fits::All);
        while !is_order {
            let Some(task) = self.tasks.pop() else { return Found::NoOrder };
            if self.spent() > self.steps_max {
                return self.too_long();
            }
            is_order = match task.stage {
                Stage::Next => self.try_next(task.place),
                Stage::Early => self.try_early(task.place),
                Stage::Fitting(tried) => self.try_unknown(task.place, true, tried),
                Stage::Rest => self.try_unknown(task.place, false, 0),
            };
        }
        Found::Order
    }

    /// Whether an order may have been missed by putting operations into it at once: see [`AtOnce::Any`].
    pub(super) fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// The furthest position that the search came to.
    pub(super) fn furthest(&self) -> u32 {
        self.places.iter().map(|place| place.position).max().unwrap_or(0)
    }

    pub(super) fn state(&self, id: StateId) -> &M::State {
        &self.states.all[id.0 as usize]
    }

    pub(super) fn place(&self, id: PlaceId) -> &Place {
        &self.places[id.0 as usize]
    }

    /// The next operation of a kind of unknown ones that is not in the order up to a place, with the first position at
    /// which it can be.
    pub(super) fn unused(&self, place: &Place, kind: u32) -> Option<(u32, &'h OperationOf<M>)> {
        let used = self.counts.count(place.used, kind) as usize;
        self.timeline.unknown[kind as usize].calls.get(used).copied()
    }

    /// The moves that lead to a place, the last one first, each with the place before it.
    pub(super) fn moves(&self, place: &Place) -> impl Iterator<Item = (&Place, Move)> {
        let mut last = place.last;
        std::iter::from_fn(move || {
            let (before, by) = last?;
            let before = self.place(before);
            last = before.last;
            Some((before, by))
        })
    }

    /// The operation that a move from a place put into the order.
    pub(super) fn operation(&self, from: &Place, by: Move) -> Option<&'h OperationOf<M>> {
        match by {
            Move::Answered(number) => Some(self.timeline.answered[number as usize].operation),
            Move::Unknown(kind) => self.unused(from, kind).map(|(_, operation)| operation),
        }
    }

    fn too_long(&self) -> Found {
        Found::TooLong { explained: self.furthest() as usize, steps: self.spent() }
    }

    /// What takes time or memory.
    pub(super) fn spent(&self) -> u64 {
        self.steps + (self.sets.len() + self.counts.len()) as u64
    }

    /// Lists what is pending at each position; false if that alone takes too long.
    fn list_pending(&mut self) -> bool {
        let mut pending = SetId::default();
        for (called, answer) in self.timeline.called.iter().zip(&self.timeline.answers) {
            for operation in called.clone() {
                pending = self.sets.with(pending, operation);
            }
            self.pending.push(pending);
            pending = self.sets.without(pending, *answer);
            if self.spent() > self.steps_max {
                return false;
            }
        }
        true
    }

    /// Tries the operation whose answer is next. True once there is an order.
    fn try_next(&mut self, id: PlaceId) -> bool {
        let from = *self.place(id);
        self.add_task(id, Stage::Early);
        let next = Move::Answered(self.timeline.next_answer(from.position));
        match self.step(from.state, next) {
            None => false,
            Some(state) => {
                let position = from.position + 1;
                let to = Place { position, state, moves: 0, last: Some((id, next)), ..from };
                self.enter(to, if state == from.state { Fits::Called } else { Fits::All })
            }
        }
    }

    /// Tries those that are answered after the next one. True once there is an order.
    fn try_early(&mut self, id: PlaceId) -> bool {
        let from = *self.place(id);
        self.add_task(id, Stage::Fitting(0));
        let next = self.timeline.next_answer(from.position);
        let mut others = std::mem::take(&mut self.scratch);
        self.sets.difference(self.pending[from.position as usize], from.early, &mut others);
        // What changes nothing and is not in the order does not fit here.
        let is_tried =
            |other: &u32| *other != next && self.timeline.answered[*other as usize].may_change;
        others.retain(is_tried);
        // The first called first.
        let mut is_order = false;
        while let Some(other) = others.pop()
            && !is_order
        {
            let early = Move::Answered(other);
            if let Some(state) = self.step(from.state, early) {
                let to = Place {
                    state,
                    early: self.sets.with(from.early, other),
                    moves: from.moves + 1,
                    last: Some((id, early)),
                    ..from
                };
                is_order =
                    self.enter(to, if state == from.state { Fits::Nothing } else { Fits::All });
            }
        }
        self.scratch = others;
        is_order
    }

    /// Tries the operations of unknown outcome after which the one whose answer is next fits, until one of them does, or
    /// all others; without the first `tried` of the list. True once there is an order.
    fn try_unknown(&mut self, id: PlaceId, makes_next_fit: bool, tried: u32) -> bool {
        let from = *self.place(id);
        let next = Move::Answered(self.timeline.next_answer(from.position));
        let mark = self.model.mark(self.state(from.state));
        let timeline = self.timeline;
        let kinds = timeline.unknown_at(from.position, mark).skip(tried as usize);
        for (kind, tried) in kinds.zip(tried + 1..) {
            if self.unused(&from, kind).is_none_or(|(called, _)| called > from.position) {
                continue;
            }
            let unknown = Move::Unknown(kind);
            // What changes nothing here need not have taken effect.
            let Some(state) = self.step(from.state, unknown).filter(|to| *to != from.state) else {
                continue;
            };
            if self.step(state, next).is_some() != makes_next_fit {
                continue;
            }
            let to = Place {
                state,
                used: self.counts.with(from.used, kind),
                used_count: from.used_count + 1,
                moves: from.moves + 1,
                last: Some((id, unknown)),
                ..from
            };
            if makes_next_fit {
                self.add_task(id, Stage::Fitting(tried));
                return self.enter(to, Fits::All);
            }
            if self.enter(to, Fits::All) {
                return true;
            }
        }
        if makes_next_fit {
            self.add_task(id, Stage::Rest);
        }
        false
    }

    /// Comes to a place: first puts into the order what goes there at once, of what `may_fit`, and passes all answers
    /// whose operations are in it. True if no answer is left.
    fn enter(&mut self, mut place: Place, mut may_fit: Fits) -> bool {
        loop {
            if place.position as usize == self.timeline.answers.len() {
                return true;
            }
            place.early = self.with_fitting(&place, may_fit);
            let next = self.timeline.next_answer(place.position);
            if !self.sets.contains(place.early, next) {
                break;
            }
            place.early = self.sets.without(place.early, next);
            place.position += 1;
            place.moves = 0;
            may_fit = Fits::Called;
        }
        let Place { position, state, early, used, .. } = place;
        let seen = self.seen.entry((position, state, early)).or_default();
        self.steps += seen.len() as u64;
        if seen.iter().any(|other| self.counts.is_within(*other, used)) {
            return false;
        }
        seen.retain(|other| !self.counts.is_within(used, *other));
        seen.push(used);
        let id = PlaceId(u32::try_from(self.places.len()).unwrap_or(u32::MAX));
        self.places.push(place);
        self.add_task(id, Stage::Next);
        false
    }

    /// What is early at a place, together with the operations that fit its state, leave it as it is, and go into the
    /// order at once.
    fn with_fitting(&mut self, place: &Place, may_fit: Fits) -> SetId {
        let mut candidates = std::mem::take(&mut self.candidates);
        let position = place.position as usize;
        match may_fit {
            Fits::All => {
                self.sets.difference(self.pending[position], place.early, &mut candidates);
            }
            Fits::Called => {
                candidates.clear();
                candidates.extend(self.timeline.called[position].clone());
            }
            Fits::Nothing => candidates.clear(),
        }
        let mut early = place.early;
        for &operation in &candidates {
            let may_change = self.timeline.answered[operation as usize].may_change;
            if may_change && self.at_once == AtOnce::Sure {
                continue;
            }
            let Some(state) = self.step(place.state, Move::Answered(operation)) else { continue };
            let is_same = state == place.state;
            assert!(
                is_same || may_change,
                "what changes nothing, as the model says, leaves a state as it is"
            );
            if is_same {
                early = self.sets.with(early, operation);
                self.is_incomplete |= may_change;
            }
        }
        self.candidates = candidates;
        early
    }

    /// The state after a move.
    fn step(&mut self, from: StateId, by: Move) -> Option<StateId> {
        self.steps += 1;
        if let Some(to) = self.remembered.get(&(from, by)) {
            return *to;
        }
        let (input, output) = match by {
            Move::Answered(operation) => {
                let answered = &self.timeline.answered[operation as usize];
                (&answered.operation.input, Some(answered.output))
            }
            Move::Unknown(kind) => (&self.timeline.unknown[kind as usize].input, None),
        };
        let to = self.model.step(self.state(from), input, output).map(|to| self.states.id(to));
        if self.remembered.len() >= REMEMBERED_STEPS_MAX {
            self.remembered.clear();
        }
        self.remembered.insert((from, by), to);
        to
    }

    fn add_task(&mut self, place: PlaceId, stage: Stage) {
        let Place { position, used_count, moves, .. } = *self.place(place);
        let (used_count, detour) = match stage {
            Stage::Next => (used_count, moves),
            Stage::Early => (used_count, moves + 1),
            Stage::Fitting(_) => (used_count + 1, moves),
            Stage::Rest => (used_count + 1, moves + 1),
        };
        let number = Reverse(self.tasks_made);
        self.tasks_made += 1;
        let (used_count, detour) = (Reverse(used_count), Reverse(detour));
        self.tasks.push(Task { position, used_count, detour, number, place, stage });
    }
}

/// Which operations may go into the order at once, and are not in it yet.
#[derive(Copy, Clone)]
enum Fits {
    /// Any that is pending: the state is new.
    All,
    /// Those called since the answer before: the state is the same as there.
    Called,
    /// None: the state is the same as before, and nothing was called since.
    Nothing,
}

/// All states that a search has reached.
struct States<S> {
    all: Vec<Rc<S>>,
    ids: FixedHashMap<Rc<S>, StateId>,
}

impl<S: Eq + Hash> States<S> {
    fn new() -> States<S> {
        States { all: Vec::new(), ids: FixedHashMap::default() }
    }

    fn id(&mut self, state: S) -> StateId {
        if let Some(id) = self.ids.get(&state) {
            return *id;
        }
        let id = StateId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        let state = Rc::new(state);
        self.all.push(Rc::clone(&state));
        self.ids.insert(state, id);
        id
    }
}
