//! The order in which commands were applied, as a witness: it is taken where it explains the answers, and nowhere else.

use raft_rsm::raft_core::{EntryId, LogIndex, NodeId, Term};

use super::*;
use crate::checkers::linearizability::witness::{find, is_linearization};
use crate::event::{Digest, Event};
use crate::random::Random;

/// A number. Few different commands, so that many are alike; and one that is answered with nothing, so that its place is
/// not given away.
struct Number;

#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
enum Ask {
    /// Answered with the number.
    Read,
    /// Answered with the number before.
    Add(u8),
    /// Answered with nothing.
    Set(u8),
}

type Tell = Option<u8>;

fn serve(state: &mut u8, ask: Ask) -> Tell {
    let before = *state;
    match ask {
        Ask::Read => Some(before),
        Ask::Add(number) => {
            *state = before.wrapping_add(number);
            Some(before)
        }
        Ask::Set(number) => {
            *state = number;
            None
        }
    }
}

impl Model for Number {
    type Input = Ask;
    type Output = Tell;
    type State = u8;
    type Key = ();

    fn key(&self, _: &Ask) -> Option<()> {
        None
    }

    fn initial(&self) -> u8 {
        0
    }

    fn step(&self, state: &u8, ask: &Ask, told: Option<&Tell>) -> Option<u8> {
        let mut after = *state;
        let right = serve(&mut after, *ask);
        told.is_none_or(|told| *told == right).then_some(after)
    }

    fn command_digest(&self, ask: &Ask) -> Option<Digest> {
        (*ask != Ask::Read).then(|| Digest::of(format!("{ask:?}").as_bytes()))
    }
}

/// A service and its clients: what they are told, and what happens, in order.
#[derive(Default)]
struct Run {
    history: History<Ask, Tell>,
    events: Vec<Event>,
    state: u8,
    applied: u64,
}

impl Run {
    fn begin(&mut self, ask: Ask) -> OperationId {
        self.events.push(Event::OperationBegan { client: 0, operation: String::new() });
        self.history.begin(0, ask, Duration::ZERO)
    }

    fn end(&mut self, id: OperationId, ended: Ended<Tell>) {
        self.history.end(id, ended, Duration::ZERO);
        self.events.push(Event::OperationEnded {
            client: 0,
            outcome: String::new(),
            answered: true,
        });
    }

    fn answer(&mut self, id: OperationId, told: Tell) {
        self.end(id, Ended::Answered(told));
    }

    fn whole(&mut self, ask: Ask, told: Tell) {
        let id = self.begin(ask);
        self.answer(id, told);
    }

    /// The right answer now.
    fn serve(&mut self, ask: Ask) -> Tell {
        if let Some(command) = Number.command_digest(&ask) {
            self.applied += 1;
            self.apply_at(1, self.applied, command);
        }
        serve(&mut self.state, ask)
    }

    fn apply_at(&mut self, node: u64, index: u64, command: Digest) {
        let (node, id) = (NodeId(node), EntryId::new(Term(1), LogIndex(index)));
        self.events.push(Event::Applied { node, id, command, response: Digest(0) });
    }

    fn applications(&self) -> Applications {
        let mut applications = Applications::default();
        self.events.iter().for_each(|event| applications.observe(event));
        applications
    }

    /// Two commands that were applied one after the other are said to be applied the other way round.
    fn mix_up(&mut self, random: &mut Random) {
        let mut commands: Vec<&mut Digest> = Vec::new();
        for event in &mut self.events {
            if let Event::Applied { command, .. } = event {
                commands.push(command);
            }
        }
        let second = 1 + random.index(commands.len().saturating_sub(1));
        if let Some([first, second]) = commands.get_mut(second - 1..=second) {
            std::mem::swap(*first, *second);
        }
    }

    fn operations(&self) -> Vec<&OperationOf<Number>> {
        self.history.operations().iter().filter(|operation| !operation.is_failed()).collect()
    }

    /// Whether the witness alone decides.
    fn is_explained(&self) -> bool {
        let operations = self.operations();
        let order = find(&Number, &operations, &self.applications());
        order.is_some_and(|order| is_linearization(&Number, &operations, &order))
    }

    fn is_linearizable(&self) -> bool {
        check(&Number, &self.history).is_linearizable()
    }
}

/// Clients whose operations take effect between their calls and their answers; if nobody knows, at any time after their
/// calls or never. With some probability, an answer is not the right one.
fn busy(seed: u64, operations: usize, unknown: f64, wrong: f64) -> Run {
    let mut random = Random::new(seed);
    let mut run = Run::default();
    let mut under_way: Vec<(OperationId, Ask, Option<Tell>)> = Vec::new();
    let mut late: Vec<Ask> = Vec::new();
    while run.history.len() < operations || !under_way.is_empty() {
        if !late.is_empty() && random.chance(0.1) {
            let ask = late.swap_remove(random.index(late.len()));
            run.serve(ask);
        }
        if run.history.len() < operations && random.chance(0.4) {
            let number = u8::try_from(random.within(0..3)).unwrap();
            let ask = *random.choose(&[Ask::Read, Ask::Read, Ask::Add(number), Ask::Set(number)]);
            under_way.push((run.begin(ask), ask, None));
        }
        if under_way.is_empty() {
            continue;
        }
        let which = random.index(under_way.len());
        let (id, ask, told) = under_way[which];
        if told.is_none() && random.chance(0.7) {
            under_way[which].2 = Some(run.serve(ask));
            continue;
        }
        under_way.swap_remove(which);
        match told {
            Some(_) if random.chance(unknown) => run.end(id, Ended::Maybe),
            Some(_) if random.chance(wrong) => {
                let drawn = u8::try_from(random.within(0..4)).unwrap();
                run.answer(id, Some(drawn));
            }
            Some(told) => run.answer(id, told),
            None if random.chance(0.5) => run.end(id, Ended::Failed),
            None => {
                run.end(id, Ended::Maybe);
                late.push(ask);
            }
        }
    }
    run
}

#[test]
fn the_order_of_a_run_explains_its_answers_without_a_search() {
    for seed in 0..3_000 {
        let run = busy(seed, 40, 0.2, 0.0);
        assert!(run.is_explained(), "seed {seed}: {:#?}", run.history.operations());
    }
}

#[test]
fn what_the_witness_takes_the_search_takes_whether_answers_or_order_are_wrong() {
    let (mut taken, mut refused, mut wrong) = (0, 0, 0);
    for seed in 0..3_000 {
        let mut run = busy(seed, 12, 0.1, if seed % 2 == 0 { 0.1 } else { 0.0 });
        if seed % 4 > 1 {
            run.mix_up(&mut Random::new(seed));
        }
        let is_linearizable = run.is_linearizable();
        wrong += u64::from(!is_linearizable);
        if run.is_explained() {
            taken += 1;
            assert!(is_linearizable, "seed {seed}: {:#?}", run.history.operations());
        } else {
            refused += 1;
        }
    }
    assert!(taken > 500 && refused > 500 && wrong > 500, "{taken} {refused} {wrong}");
}

#[test]
fn many_unknown_commands_are_no_trouble_to_the_witness() {
    let run = busy(1, 2_000, 0.5, 0.0);
    let decide = |applications| check_with(&Number, &run.history, &applications, 100);
    assert!(matches!(decide(Applications::default()), Verdict::Undecided(_)));
    assert!(decide(run.applications()).is_linearizable());
}

#[test]
fn an_undecided_history_says_whether_the_order_of_the_run_was_refuted() {
    let run = busy(1, 2_000, 0.5, 0.0);
    let of_another = busy(2, 2_000, 0.5, 0.0).applications();
    for (applications, expected) in [(Applications::default(), false), (of_another, true)] {
        let verdict = check_with(&Number, &run.history, &applications, 100);
        let Verdict::Undecided(undecided) = verdict else { panic!("{verdict}") };
        assert_eq!(undecided.is_order_refuted, expected);
        assert_eq!(undecided.to_string().contains("does not explain"), expected);
    }
}

#[test]
fn a_read_of_what_was_overwritten_before_its_call_is_not_taken() {
    for (told, is_right) in [(1, true), (0, false)] {
        let mut run = Run::default();
        let id = run.begin(Ask::Set(1));
        run.serve(Ask::Set(1));
        run.answer(id, None);
        run.whole(Ask::Read, Some(told));
        assert_eq!((run.is_explained(), run.is_linearizable()), (is_right, is_right));
    }
}

#[test]
fn a_read_of_what_was_asked_for_after_its_answer_is_not_taken() {
    for (is_called_before, is_right) in [(true, true), (false, false)] {
        let mut run = Run::default();
        let early = is_called_before.then(|| run.begin(Ask::Set(1)));
        run.whole(Ask::Read, Some(1));
        let id = early.unwrap_or_else(|| run.begin(Ask::Set(1)));
        run.serve(Ask::Set(1));
        run.answer(id, None);
        assert_eq!((run.is_explained(), run.is_linearizable()), (is_right, is_right));
    }
}

#[test]
fn a_read_does_not_go_back_behind_what_an_earlier_read_saw() {
    for (told, is_right) in [([0, 1], true), ([1, 1], true), ([1, 0], false)] {
        let mut run = Run::default();
        let id = run.begin(Ask::Set(1));
        run.serve(Ask::Set(1));
        for told in told {
            run.whole(Ask::Read, Some(told));
        }
        run.answer(id, None);
        assert_eq!((run.is_explained(), run.is_linearizable()), (is_right, is_right));
    }
}

#[test]
fn of_commands_that_are_alike_the_one_that_is_answered_next_was_applied() {
    let mut run = Run::default();
    let first = run.begin(Ask::Set(1));
    let second = run.begin(Ask::Set(1));
    run.serve(Ask::Set(1));
    run.answer(second, None);
    let between = run.begin(Ask::Set(2));
    run.serve(Ask::Set(2));
    run.answer(between, None);
    run.serve(Ask::Set(1));
    run.answer(first, None);
    run.whole(Ask::Read, Some(1));
    assert!(run.is_explained());
}

#[test]
fn of_commands_that_are_alike_the_one_with_the_right_answer_was_applied() {
    let mut run = Run::default();
    let first = run.begin(Ask::Add(1));
    let second = run.begin(Ask::Add(1));
    let told = [run.serve(Ask::Add(1)), run.serve(Ask::Add(1))];
    run.answer(first, told[1]);
    run.answer(second, told[0]);
    assert!(run.is_explained());
}

#[test]
fn of_commands_that_are_alike_an_answered_one_was_applied_before_an_unknown_one() {
    let mut run = Run::default();
    let unknown = run.begin(Ask::Add(1));
    run.end(unknown, Ended::Maybe);
    let answered = run.begin(Ask::Add(1));
    let told = run.serve(Ask::Add(1));
    run.answer(answered, told);
    run.whole(Ask::Read, Some(1));
    assert!(run.is_explained());
}

#[test]
fn an_unknown_command_may_be_applied_long_after_its_client_gave_up_and_not_before_its_call() {
    for (is_called_before, is_right) in [(true, true), (false, false)] {
        let mut run = Run::default();
        let give_up = |run: &mut Run| {
            let id = run.begin(Ask::Add(1));
            run.end(id, Ended::Maybe);
        };
        if is_called_before {
            give_up(&mut run);
        }
        run.whole(Ask::Read, Some(0));
        run.serve(Ask::Add(1));
        run.whole(Ask::Read, Some(1));
        if !is_called_before {
            give_up(&mut run);
        }
        assert_eq!((run.is_explained(), run.is_linearizable()), (is_right, is_right));
    }
}

#[test]
fn an_answered_command_that_was_never_applied_is_not_taken() {
    let mut run = Run::default();
    run.whole(Ask::Set(0), None);
    assert!(!run.is_explained());
    // The history alone does not show it.
    assert!(run.is_linearizable());
}

#[test]
fn a_command_that_other_nodes_apply_as_well_or_again_is_applied_once() {
    let mut run = Run::default();
    let (one, other) = (run.begin(Ask::Add(1)), run.begin(Ask::Add(2)));
    let told = [run.serve(Ask::Add(1)), run.serve(Ask::Add(2))];
    for index in [1, 2] {
        let command = Number.command_digest(&Ask::Add(u8::try_from(index).unwrap())).unwrap();
        run.apply_at(2, index, command);
    }
    run.answer(one, told[0]);
    run.answer(other, told[1]);
    assert!(run.is_explained());
    assert_eq!(run.applications().len(), 2);
}

#[test]
fn only_an_order_of_all_answered_operations_each_once_in_time_and_rightly_answered_counts() {
    let mut run = Run::default();
    let lost = run.begin(Ask::Add(1));
    run.whole(Ask::Set(1), None);
    run.whole(Ask::Set(1), None);
    run.end(lost, Ended::Maybe);
    run.whole(Ask::Read, Some(2));
    let is_order = |order: &[usize]| is_linearization(&Number, &run.operations(), order);
    assert!(is_order(&[1, 2, 0, 3]));
    // Twice.
    assert!(!is_order(&[1, 2, 0, 0, 3]) && !is_order(&[1, 2, 0, 3, 3]));
    // An answered one is missing.
    assert!(!is_order(&[1, 0, 3]) && !is_order(&[1, 2, 0]) && !is_order(&[]));
    // Behind one that was called after its answer.
    assert!(!is_order(&[2, 1, 0, 3]));
    // Wrongly answered.
    assert!(!is_order(&[1, 2, 3]) && !is_order(&[1, 2, 3, 0]) && !is_order(&[1, 0, 2, 3]));
}

#[test]
fn time_is_kept_with_all_that_came_before_not_only_the_last_one() {
    let mut run = Run::default();
    let lost = run.begin(Ask::Set(2));
    run.whole(Ask::Set(1), None);
    run.whole(Ask::Set(1), None);
    run.end(lost, Ended::Maybe);
    let is_order = |order: &[usize]| is_linearization(&Number, &run.operations(), order);
    assert!(is_order(&[1, 0, 2]));
    assert!(!is_order(&[2, 0, 1]));
}
