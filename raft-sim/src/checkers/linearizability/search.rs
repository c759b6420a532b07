//! The search for an order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hash;
use std::rc::Rc;

use super::FixedHashMap;
use super::sets::{SetId, Sets};
use super::timeline::Timeline;
use crate::model::Model;

/// Unknown operations are tried so many at a time, so that all places get their turn with the latest ones before one of
/// them goes through all.
const UNKNOWN_BATCH: usize = 16;

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
    used: SetId,
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
    /// A batch of the unknown ones.
    Unknown(u32),
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
    pub(super) places: Vec<Place>,
    states: States<M::State>,
    /// The places that were there, with the sets of unknown operations used: none within another.
    seen: FixedHashMap<(u32, StateId, SetId), Vec<SetId>>,
    remembered: FixedHashMap<(StateId, Move), Option<StateId>>,
    tasks: BinaryHeap<Task>,
    tasks_made: u64,
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
        steps_max: u64,
    ) -> Search<'t, 'h, M> {
        Search {
            model,
            timeline,
            pending: Vec::with_capacity(timeline.answers.len()),
            sets: Sets::new(),
            places: Vec::new(),
            states: States::new(),
            seen: FixedHashMap::default(),
            remembered: FixedHashMap::default(),
            tasks: BinaryHeap::new(),
            tasks_made: 0,
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
            used: SetId::default(),
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
                Stage::Unknown(batch) => self.try_unknown(task.place, batch),
            };
        }
        Found::Order
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

    /// How many operations of a kind of unknown ones are in the order up to a place.
    pub(super) fn used(&self, place: &Place, kind: u32) -> usize {
        self.sets.count(place.used, kind)
    }

    fn too_long(&self) -> Found {
        Found::TooLong { explained: self.furthest() as usize, steps: self.spent() }
    }

    /// What takes time or memory.
    fn spent(&self) -> u64 {
        self.steps + self.sets.len() as u64
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
        self.add_task(id, Stage::Unknown(0));
        let next = self.timeline.next_answer(from.position);
        let mut others = std::mem::take(&mut self.scratch);
        self.sets.difference(self.pending[from.position as usize], from.early, &mut others);
        // The first called first. What changes nothing and is not in the order does not fit here.
        let is_tried =
            |other: &u32| *other != next && self.timeline.answered[*other as usize].may_change;
        others.retain(is_tried);
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

    /// Tries a batch of the operations of unknown outcome. True once there is an order.
    fn try_unknown(&mut self, id: PlaceId, batch: u32) -> bool {
        let from = *self.place(id);
        let mark = self.model.mark(self.state(from.state));
        let mut kinds = std::mem::take(&mut self.scratch);
        kinds.clear();
        let all = self.timeline.unknown_at(from.position, mark);
        kinds.extend(all.skip(batch as usize * UNKNOWN_BATCH).take(UNKNOWN_BATCH));
        if kinds.len() == UNKNOWN_BATCH {
            self.add_task(id, Stage::Unknown(batch + 1));
        }
        let mut is_order = false;
        for &kind in &kinds {
            let calls = &self.timeline.unknown[kind as usize].calls;
            let next = calls.get(self.sets.count(from.used, kind));
            if is_order || next.is_none_or(|(called, _)| *called > from.position) {
                continue;
            }
            let unknown = Move::Unknown(kind);
            // What changes nothing here need not have taken effect.
            let Some(state) = self.step(from.state, unknown).filter(|to| *to != from.state) else {
                continue;
            };
            let to = Place {
                state,
                used: self.sets.with(from.used, kind),
                used_count: from.used_count + 1,
                moves: from.moves + 1,
                last: Some((id, unknown)),
                ..from
            };
            is_order = self.enter(to, Fits::All);
        }
        self.scratch = kinds;
        is_order
    }

    /// Comes to a place: first puts into the order what changes nothing and `may_fit`, and passes all answers whose
    /// operations are in it. True if no answer is left.
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
        if seen.iter().any(|other| self.sets.is_within(*other, used)) {
            return false;
        }
        seen.retain(|other| !self.sets.is_within(used, *other));
        seen.push(used);
        let id = PlaceId(u32::try_from(self.places.len()).unwrap_or(u32::MAX));
        self.places.push(place);
        self.add_task(id, Stage::Next);
        false
    }

    /// What is early at a place, together with the operations that fit its state and change nothing.
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
        candidates.retain(|operation| !self.timeline.answered[*operation as usize].may_change);
        let mut early = place.early;
        for &operation in &candidates {
            if let Some(state) = self.step(place.state, Move::Answered(operation)) {
                assert!(
                    state == place.state,
                    "what changes nothing, as the model says, changes nothing"
                );
                early = self.sets.with(early, operation);
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
            Move::Unknown(kind) => (self.timeline.unknown[kind as usize].input(), None),
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
            Stage::Unknown(batch) => (used_count + 1, moves + batch),
        };
        let number = Reverse(self.tasks_made);
        self.tasks_made += 1;
        let (used_count, detour) = (Reverse(used_count), Reverse(detour));
        self.tasks.push(Task { position, used_count, detour, number, place, stage });
    }
}

/// Which operations that change nothing may fit a place, and are not in the order yet.
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
