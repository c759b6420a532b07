//! The checker against one that tries every order there is.

use super::*;
use crate::history::Operation;
use crate::model::register::carry_out;
use crate::random::Random;

const HISTORIES: u64 = 20_000;

/// Whether some order of some of the operations called by then explains all answers up to then, by trying them all. What
/// was answered later need not be in the order; if it is, it must be answered so.
fn is_linearizable<M: Model>(
    model: &M,
    history: &History<M::Input, M::Output>,
    until: u64,
) -> bool {
    let is_there =
        |operation: &&OperationOf<M>| !operation.is_failed() && operation.called.sequence < until;
    let operations: Vec<_> = history.operations().iter().filter(is_there).collect();
    can_go_on(model, &operations, &model.initial(), until)
}

fn can_go_on<M: Model>(model: &M, left: &[&OperationOf<M>], state: &M::State, until: u64) -> bool {
    let is_optional =
        |one: &&OperationOf<M>| one.answer().is_none_or(|(at, _)| at.sequence >= until);
    if left.iter().all(is_optional) {
        return true;
    }
    (0..left.len()).any(|place| {
        let operation = left[place];
        if left.iter().any(|other| ended_before(other, operation)) {
            return false;
        }
        let output = operation.answer().map(|(_, output)| output);
        let Some(after) = model.step(state, &operation.input, output) else { return false };
        let mut left = left.to_vec();
        left.remove(place);
        can_go_on(model, &left, &after, until)
    })
}

fn ended_before<I, O>(one: &Operation<I, O>, other: &Operation<I, O>) -> bool {
    one.answer().is_some_and(|(at, _)| at < other.called)
}

/// A register that anyone may write, add to and compare with; its model gives no hints.
struct Plain;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Ask {
    Read,
    Write(u8),
    Add(u8),
    Swap(u8, u8),
}

impl Model for Plain {
    type Input = Ask;
    /// The value before.
    type Output = u8;
    type State = u8;
    type Key = ();

    fn key(&self, _: &Ask) -> Option<()> {
        None
    }

    fn initial(&self) -> u8 {
        0
    }

    fn step(&self, state: &u8, input: &Ask, output: Option<&u8>) -> Option<u8> {
        if output.is_some_and(|output| output != state) {
            return None;
        }
        Some(match input {
            Ask::Read => *state,
            Ask::Write(value) => *value,
            Ask::Add(value) => (*state + *value) % 4,
            Ask::Swap(old, new) => {
                if old == state {
                    *new
                } else {
                    *state
                }
            }
        })
    }
}

/// The same with a write that answers nothing, so that its place is not given away; and hints.
struct Blind;

impl Model for Blind {
    type Input = Ask;
    /// To reads and swaps: the value before.
    type Output = Option<u8>;
    type State = u8;
    type Key = ();

    fn key(&self, _: &Ask) -> Option<()> {
        Some(())
    }

    fn initial(&self) -> u8 {
        0
    }

    fn step(&self, state: &u8, input: &Ask, output: Option<&Option<u8>>) -> Option<u8> {
        let output = output.copied().flatten();
        Plain.step(state, input, output.as_ref())
    }

    fn may_change(&self, input: &Ask, output: Option<&Option<u8>>) -> bool {
        match input {
            Ask::Read => false,
            Ask::Write(_) | Ask::Add(_) => true,
            Ask::Swap(old, _) => output.copied().flatten().is_none_or(|before| before == *old),
        }
    }

    fn mark(&self, state: &u8) -> u64 {
        u64::from(*state)
    }

    fn changes_only_at(&self, input: &Ask) -> Option<u64> {
        match input {
            Ask::Swap(old, _) => Some(u64::from(*old)),
            Ask::Read | Ask::Write(_) | Ask::Add(_) => None,
        }
    }
}

/// What a service does with an input, for a model that is not hidden from the test.
type Serve<M> = fn(&mut <M as Model>::State, &<M as Model>::Input) -> <M as Model>::Output;

const OPERATIONS_MAX: u64 = 7;

/// A small history of a service whose answers are sometimes drawn instead, so that some have an order and some have
/// none.
fn small<M: Model>(
    random: &mut Random,
    model: &M,
    input: fn(&mut Random) -> M::Input,
    output: fn(&mut Random) -> M::Output,
    serve: Serve<M>,
) -> History<M::Input, M::Output> {
    let calls = 1 + random.within(0..OPERATIONS_MAX);
    let mut state = model.initial();
    let mut history = History::new();
    let mut under_way = Vec::new();
    let mut called = 0;
    while called < calls || (!under_way.is_empty() && random.chance(0.9)) {
        if called < calls && random.chance(0.45) {
            called += 1;
            let input = input(random);
            let id = history.begin(called, input.clone(), Duration::ZERO);
            under_way.push((id, input, None));
        } else if !under_way.is_empty() {
            let which = random.index(under_way.len());
            let (_, input, answer) = &mut under_way[which];
            if answer.is_none() && random.chance(0.9) {
                *answer = Some(serve(&mut state, input));
                continue;
            }
            let (id, _, answer) = under_way.swap_remove(which);
            let answer = answer.filter(|_| random.chance(0.8)).unwrap_or_else(|| output(random));
            let ended = match random.within(0..8) {
                0 => Ended::Failed,
                1 => Ended::Maybe,
                _ => Ended::Answered(answer),
            };
            history.end(id, ended, Duration::ZERO);
        }
    }
    history
}

/// Checks many small histories against brute force, and that many of them have an order, and many have none.
fn check_many<M: Model>(
    histories: u64,
    model: &M,
    input: fn(&mut Random) -> M::Input,
    output: fn(&mut Random) -> M::Output,
    serve: Serve<M>,
) {
    let mut linearizable = 0;
    for seed in 0..histories {
        let history = small(&mut Random::new(seed), model, input, output, serve);
        let verdict = check(model, &history);
        let is_right = match &verdict {
            Verdict::Linearizable => is_linearizable(model, &history, u64::MAX),
            Verdict::Violation(violation) => {
                // Without the misfit's answer, there is an order up to then.
                let at = violation.answered().sequence;
                !is_linearizable(model, &history, at + 1) && is_linearizable(model, &history, at)
            }
            Verdict::Undecided(_) => false,
        };
        assert!(is_right, "seed {seed}: {verdict}\n{:#?}", history.operations());
        linearizable += u64::from(verdict.is_linearizable());
    }
    let part = linearizable * 100 / histories;
    assert!((20..=80).contains(&part), "{part} % have an order");
}

fn draw_ask(random: &mut Random) -> Ask {
    let mut small = || u8::try_from(random.within(0..3)).unwrap();
    let (one, other) = (small(), small());
    match random.within(0..4) {
        0 => Ask::Write(one),
        1 => Ask::Add(one),
        2 => Ask::Swap(one, other),
        _ => Ask::Read,
    }
}

fn serve_plain(state: &mut u8, ask: &Ask) -> u8 {
    let before = *state;
    *state = Plain.step(&before, ask, None).unwrap();
    before
}

fn serve_blind(state: &mut u8, ask: &Ask) -> Option<u8> {
    let before = serve_plain(state, ask);
    matches!(ask, Ask::Read | Ask::Swap(..)).then_some(before)
}

fn draw_request(random: &mut Random) -> Request<char, u64> {
    let version = random.within(0..3);
    match random.within(0..6) {
        0 => get(),
        1 => Request::Delete { key: 'k', version: random.chance(0.5).then_some(version) },
        _ => put(random.within(0..2), version),
    }
}

fn draw_reply(random: &mut Random) -> Reply<u64> {
    let version = random.within(1..3);
    match random.within(0..6) {
        0 => Reply::NoKey,
        1 => Reply::Deleted { version },
        2 => Reply::VersionMismatch { current: version },
        3 => Reply::Value(Some((version, random.within(0..2)))),
        _ => Reply::Written { version },
    }
}

#[test]
fn it_agrees_with_brute_force_on_a_register_without_hints() {
    let draw = |random: &mut Random| u8::try_from(random.within(0..3)).unwrap();
    check_many(HISTORIES, &Plain, draw_ask, draw, serve_plain);
}

#[test]
fn it_agrees_with_brute_force_on_writes_that_answer_nothing() {
    let draw = |random: &mut Random| {
        random.chance(0.8).then(|| u8::try_from(random.within(0..3)).unwrap())
    };
    check_many(HISTORIES, &Blind, draw_ask, draw, serve_blind);
}

#[test]
fn it_agrees_with_brute_force_on_versioned_registers() {
    let serve: Serve<Store> = |state, request| {
        let (after, reply) = carry_out(state, request);
        *state = after;
        reply
    };
    check_many(HISTORIES, &Store::new(), draw_request, draw_reply, serve);
}
