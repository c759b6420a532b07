//! Long histories of busy clients: of a store that is right, and of stores that are wrong in one place.

use std::collections::BTreeMap;

use super::*;
use crate::model::register::carry_out;
use crate::random::Random;

type NumberedStore = VersionedStore<u64, u64>;
type Ask = Request<u64, u64>;
type Tell = Reply<u64>;
/// A version and its value, if there is one.
type Stored = Option<(u64, u64)>;

/// What the store gets wrong, once.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// A get is answered with what was overwritten before it was called.
    StaleRead,
    /// A put is acknowledged and changes nothing.
    LostUpdate,
    /// A put is carried out, and a while after it was answered once more, at the version of that time.
    DuplicatedPut,
    /// A get is answered with a value that nobody has put yet.
    ReadFromTheFuture,
    /// A put is refused and changes the key.
    RefusedAndDone,
}

const FAULTS: [Fault; 5] = [
    Fault::StaleRead,
    Fault::LostUpdate,
    Fault::DuplicatedPut,
    Fault::ReadFromTheFuture,
    Fault::RefusedAndDone,
];

/// Clients that put what they believe to be the next version, and get.
#[derive(Clone)]
struct Busy {
    seed: u64,
    clients: u64,
    operations: usize,
    keys: u64,
    /// The part of operations whose outcome is unknown to the client. Half of them take effect, some much later.
    unknown: f64,
    /// The part of commands that delete.
    deletes: f64,
    fault: Option<Fault>,
}

const BUSY: Busy = Busy {
    seed: 0,
    clients: 15,
    operations: 3_000,
    keys: 1,
    unknown: 0.1,
    deletes: 0.0,
    fault: None,
};

/// What a client, or the store, does at some time.
enum Happens {
    Call { client: u64 },
    TakeEffect { id: OperationId, request: Ask, client: Option<u64> },
    End { id: OperationId, client: u64, ended: Ended<Tell> },
    Repeat { key: u64, value: u64 },
}

struct Run {
    busy: Busy,
    random: Random,
    history: History<Ask, Tell>,
    now: u64,
    due: BTreeMap<(u64, u64), Happens>,
    scheduled: u64,
    store: BTreeMap<u64, Stored>,
    /// What each key held before: until when, and what.
    past: BTreeMap<u64, Vec<(u64, Stored)>>,
    /// What clients believe the versions to be.
    believed: BTreeMap<(u64, u64), u64>,
    values: u64,
    /// The value that the next put of a key has to write, since it was read before; once this get has ended.
    foreseen: BTreeMap<u64, (OperationId, u64)>,
    is_fault_due: bool,
}

impl Busy {
    fn history(&self) -> History<Ask, Tell> {
        let mut run = Run {
            busy: self.clone(),
            random: Random::new(self.seed),
            history: History::new(),
            now: 0,
            due: BTreeMap::new(),
            scheduled: 0,
            store: BTreeMap::new(),
            past: BTreeMap::new(),
            believed: BTreeMap::new(),
            values: 0,
            foreseen: BTreeMap::new(),
            is_fault_due: false,
        };
        for client in 0..self.clients {
            run.after(0..1_000, Happens::Call { client });
        }
        while let Some(((now, _), happens)) = run.due.pop_first() {
            run.now = now;
            run.happens(happens);
        }
        assert_eq!(run.busy.fault, None, "the fault has happened");
        run.history
    }

    /// Whether all keys have an order, and the steps that the first searches for it took.
    fn search<M: Model<Input = Ask, Output = Tell>>(&self, model: &M) -> (bool, u64) {
        let history = self.history();
        let mut steps = 0;
        let is_order = partitions(model, &history).into_values().all(|operations| {
            let timeline = Timeline::new(model, &operations);
            let mut search = Search::new(model, &timeline, AtOnce::Any, STEPS_MAX);
            let found = search.run();
            steps += search.spent();
            matches!(found, Found::Order)
        });
        (is_order, steps)
    }
}

impl Run {
    fn after(&mut self, micros: std::ops::Range<u64>, happens: Happens) {
        self.scheduled += 1;
        let at = self.now + self.random.within(micros);
        self.due.insert((at, self.scheduled), happens);
    }

    fn happens(&mut self, happens: Happens) {
        let now = Duration::from_micros(self.now);
        match happens {
            Happens::Call { client } if self.history.len() < self.busy.operations => {
                let request = self.request(client);
                let id = self.history.begin(client, request.clone(), now);
                if self.history.len() > self.busy.operations * 4 / 5 {
                    self.is_fault_due = self.busy.fault.is_some();
                }
                if !self.random.chance(self.busy.unknown) {
                    self.after(0..5_000, Happens::TakeEffect { id, request, client: Some(client) });
                    return;
                }
                if self.random.chance(0.9) {
                    self.after(20_000..20_001, Happens::End { id, client, ended: Ended::Maybe });
                } else {
                    // It is never heard of again, and the client goes on under the same number.
                    self.after(20_000..20_001, Happens::Call { client });
                }
                if self.random.chance(0.5) {
                    let late = if self.random.chance(0.9) { 20_000 } else { 3_000_000 };
                    self.after(0..late, Happens::TakeEffect { id, request, client: None });
                }
            }
            Happens::Call { .. } => {}
            Happens::TakeEffect { id, request, client } => {
                let reply = self.serve(&request, client.map(|_| id));
                if let Some(client) = client {
                    let ended = Ended::Answered(reply);
                    self.after(0..5_000, Happens::End { id, client, ended });
                }
            }
            Happens::End { id, client, ended } => {
                let key = key_of(&self.history.operations()[id.index()].input);
                if let Ended::Answered(reply) = &ended {
                    self.believed.insert((client, key), version_told(reply));
                }
                self.history.end(id, ended, now);
                self.after(0..2_000, Happens::Call { client });
            }
            Happens::Repeat { key, value } => {
                let current = self.store.get(&key).copied().flatten();
                let version = current.map_or(0, |(version, _)| version);
                self.set(key, Some((version + 1, value)));
            }
        }
    }

    fn request(&mut self, client: u64) -> Ask {
        let key = self.random.within(0..self.busy.keys);
        if self.random.chance(0.4) {
            return Request::Get { key };
        }
        let version = self.believed.get(&(client, key)).copied().unwrap_or(0);
        if self.random.chance(self.busy.deletes) {
            let version = self.random.chance(0.5).then_some(version);
            return Request::Delete { key, version };
        }
        self.values += 1;
        let is_told = |id: OperationId| self.history.operations()[id.index()].ended.is_some();
        let foreseen = self.foreseen.remove(&key).filter(|(id, _)| is_told(*id));
        let value = foreseen.map_or(self.values, |(_, value)| value);
        Request::Put { key, value, version }
    }

    fn set(&mut self, key: u64, state: Stored) {
        let before = self.store.insert(key, state).flatten();
        self.past.entry(key).or_default().push((self.now, before));
    }

    fn serve(&mut self, request: &Ask, answered: Option<OperationId>) -> Tell {
        let key = key_of(request);
        let state = self.store.get(&key).copied().flatten();
        let (after, reply) = carry_out(&state, request);
        if self.is_fault_due
            && let Some(id) = answered
            && let Some(reply) = self.break_once(id, request, state, &reply)
        {
            self.is_fault_due = false;
            self.busy.fault = None;
            return reply;
        }
        if after != state {
            self.set(key, after);
        }
        reply
    }

    /// What the store says where it is wrong, if this is a place for it.
    fn break_once(
        &mut self,
        id: OperationId,
        request: &Ask,
        state: Stored,
        reply: &Tell,
    ) -> Option<Tell> {
        let called = self.history.operations()[id.index()].called.time;
        let key = key_of(request);
        let is_get = matches!(request, Request::Get { .. });
        match (self.busy.fault?, reply) {
            (Fault::StaleRead, Reply::Value(Some(_))) => {
                let past = &self.past[&key];
                let is_old = |(until, state): &&(u64, Stored)| {
                    // So long ago that whoever wrote it had heard of it.
                    state.is_some() && Duration::from_micros(*until + 10_000) < called
                };
                past.iter().rfind(is_old).map(|(_, state)| Reply::Value(*state))
            }
            (Fault::LostUpdate, Reply::Written { .. }) => Some(reply.clone()),
            (Fault::DuplicatedPut, Reply::Written { version }) => {
                let Request::Put { value, .. } = *request else { return None };
                self.set(key, Some((*version, value)));
                self.after(30_000..40_000, Happens::Repeat { key, value });
                Some(reply.clone())
            }
            (Fault::ReadFromTheFuture, _) if is_get => {
                self.values += 1;
                self.foreseen.insert(key, (id, self.values));
                let version = state.map_or(0, |(version, _)| version);
                Some(Reply::Value(Some((version + 1, self.values))))
            }
            (Fault::RefusedAndDone, Reply::VersionMismatch { current }) => {
                let Request::Put { value, .. } = *request else { return None };
                self.set(key, Some((current + 1, value)));
                Some(reply.clone())
            }
            _ => None,
        }
    }
}

fn key_of(request: &Ask) -> u64 {
    match request {
        Request::Get { key } | Request::Put { key, .. } | Request::Delete { key, .. } => *key,
    }
}

fn version_told(reply: &Tell) -> u64 {
    match reply {
        Reply::Value(value) => value.map_or(0, |(version, _)| version),
        Reply::Written { version } | Reply::VersionMismatch { current: version } => *version,
        Reply::Deleted { .. } | Reply::NoKey => 0,
    }
}

/// A store of which the model gives no hints.
struct Unhinted;

impl Model for Unhinted {
    type Input = Ask;
    type Output = Tell;
    type State = Stored;
    type Key = u64;

    fn key(&self, input: &Ask) -> Option<u64> {
        Some(key_of(input))
    }

    fn initial(&self) -> Self::State {
        None
    }

    fn step(&self, state: &Self::State, input: &Ask, output: Option<&Tell>) -> Option<Self::State> {
        NumberedStore::new().step(state, input, output)
    }
}

#[test]
fn busy_clients_of_a_right_store_are_linearizable_in_a_few_steps_an_operation() {
    for keys in [1, 10, 1_000] {
        for deletes in [0.0, 0.1] {
            for seed in 0..3 {
                let busy = Busy { seed, keys, deletes, ..BUSY };
                let (found, steps) = busy.search(&NumberedStore::new());
                assert!(found, "seed {seed}, {keys} keys");
                assert!(steps < 50 * 3_000, "{steps} steps, seed {seed}, {keys} keys");
            }
        }
    }
}

#[test]
fn a_right_store_is_found_to_be_so_without_hints_too() {
    for seed in 0..3 {
        let (found, steps) = Busy { seed, ..BUSY }.search(&Unhinted);
        assert!(found, "seed {seed}");
        assert!(steps < 200 * 3_000, "{steps} steps, seed {seed}");
    }
}

#[test]
fn a_history_of_many_operations_on_one_key_costs_no_more_for_each_than_a_short_one() {
    let (found, steps) = Busy { operations: 45_000, ..BUSY }.search(&NumberedStore::new());
    assert!(found);
    assert!(steps < 15 * 45_000, "{steps} steps");
}

#[test]
fn each_fault_of_a_store_is_found_with_a_short_report() {
    for fault in FAULTS {
        for keys in [1, 10] {
            for seed in 0..3 {
                let busy = Busy { seed, keys, fault: Some(fault), ..BUSY };
                let verdict = check_within(&NumberedStore::new(), &busy.history(), 100_000);
                assert!(matches!(verdict, Verdict::Violation(_)), "{fault:?}, {seed}: {verdict}");
                let lines = verdict.to_string().lines().count();
                assert!(lines < 40, "{lines} lines: {verdict}");
            }
        }
    }
}

#[test]
fn a_stale_read_is_found_among_deletes() {
    for seed in 0..3 {
        let fault = Some(Fault::StaleRead);
        let busy = Busy { seed, operations: 1_000, deletes: 0.1, fault, ..BUSY };
        let verdict = check(&NumberedStore::new(), &busy.history());
        assert!(matches!(verdict, Verdict::Violation(_)), "seed {seed}: {verdict}");
    }
}
