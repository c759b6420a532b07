use std::io;

use futures::FutureExt;
use futures::channel::oneshot;

use super::*;
use crate::{Context, SnapshotView};

/// Answers each query with itself.
struct Echo;

impl StateMachine for Echo {
    type Command = ();
    type Response = ();
    type Query = u64;
    type Answer = u64;

    fn apply(&mut self, _: &Context, (): ()) {}

    fn query(&self, query: u64) -> u64 {
        query
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        Box::new(|_: &mut dyn io::Write| Ok(()))
    }

    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }
}

type Answer = oneshot::Receiver<Result<u64, QueryError>>;

fn asked(query: u64, deadline: u64) -> (Asked<Echo>, Answer) {
    let (sender, receiver) = oneshot::channel();
    let deadline = Duration::from_secs(deadline);
    let len_bytes = usize::try_from(query).expect("short");
    let (respond, wait_until) = (Responder::Local(sender), Duration::ZERO);
    let asked = Asked { query, respond, len_bytes, deadline, wait_until };
    (asked, receiver)
}

/// Queries from `first` on, whose deadline in seconds is their number, and of as many bytes each.
fn some(numbers: impl IntoIterator<Item = u64>) -> (Vec<Asked<Echo>>, Vec<Answer>) {
    numbers.into_iter().map(|number| asked(number, number)).unzip()
}

/// The machine takes this group: the queries, in the order in which it answers them.
fn take_group(queries: &mut Queries<Echo>, group: u64) -> Vec<u64> {
    let mut taken = Vec::new();
    while let Some(Begun { query, .. }) = queries.begin(group) {
        taken.push(query);
        queries.finish().expect("who asked").answer(Ok(query));
    }
    taken
}

/// `None`: it still waits.
fn answer(answer: &mut Answer) -> Option<Result<u64, QueryError>> {
    Some(answer.now_or_never()?.expect("it is answered before it is dropped"))
}

fn load(count: usize, bytes: usize) -> Load {
    Load { count, bytes }
}

/// What the driver does once the applier has been given everything up to `index`: the number of the group.
fn hand_over(queries: &mut Queries<Echo>, index: LogIndex) -> Option<u64> {
    let ready = queries.ready(index);
    (!ready.is_empty()).then(|| queries.hand_to_machine(ready, None))
}

#[test]
fn a_confirmed_group_goes_to_the_machine_once_the_state_will_contain_its_index() {
    let mut queries = Queries::new();
    let (group, _answers) = some(1..=3);
    queries.wait_for_read(ReadId(7), group);
    assert_eq!(hand_over(&mut queries, LogIndex(100)), None, "the core has not named an index");
    queries.confirmed(ReadId(7), LogIndex(5));
    assert_eq!(hand_over(&mut queries, LogIndex(4)), None);
    let group = hand_over(&mut queries, LogIndex(5)).expect("all of it is handed out");
    assert_eq!(hand_over(&mut queries, LogIndex(5)), None, "once");
    assert_eq!(take_group(&mut queries, group), [1, 2, 3]);
    assert!(take_group(&mut queries, group).is_empty());
    assert_eq!(queries.load(), load(0, 0));
}

#[test]
fn an_index_that_is_applied_already_is_as_good() {
    let mut queries = Queries::new();
    let (group, _answers) = some([1]);
    queries.wait_for_index(LogIndex::ZERO, group);
    assert!(hand_over(&mut queries, LogIndex::ZERO).is_some());
}

/// All that may be answered at one index goes at once, in the order of the indexes; the rest stays.
#[test]
fn groups_whose_index_is_reached_go_together_and_the_others_wait() {
    let mut queries = Queries::new();
    let mut answers = Vec::new();
    for (number, index) in [(1, 9), (2, 3), (3, 6), (4, 3)] {
        let (group, answer) = some([number]);
        queries.wait_for_index(LogIndex(index), group);
        answers.extend(answer);
    }
    let first = hand_over(&mut queries, LogIndex(6)).expect("three of them");
    let (late, _answer) = some([5]);
    let direct = queries.hand_to_machine(late, None);
    let last = hand_over(&mut queries, LogIndex(9)).expect("the last one");
    assert!(first < direct && direct < last, "each group has its own number");
    assert_eq!(take_group(&mut queries, first), [2, 4, 3]);
    assert_eq!(take_group(&mut queries, last), [1]);
    assert_eq!(take_group(&mut queries, direct), [5]);
    let answers: Vec<_> = answers.iter_mut().filter_map(answer).collect();
    assert_eq!(answers, [Ok(1), Ok(2), Ok(3), Ok(4)]);
}

/// Else each round would move all who wait at a slow machine, while it and the driver want the lock.
#[test]
fn whoever_joins_a_group_at_the_machine_comes_last_and_moves_nobody() {
    let mut queries = Queries::new();
    let (first, _answers) = some(0..100);
    let group = queries.hand_to_machine(first, None);
    let place = |queries: &Queries<Echo>| -> (usize, *const Asked<Echo>) {
        let waiting = &queries.groups[&Place::Machine(group)];
        (waiting.capacity(), &raw const waiting[0])
    };
    let mut moved = 0;
    for number in 100..1000 {
        let before = place(&queries);
        let (next, _answer) = some([number]);
        assert_eq!(queries.hand_to_machine(next, Some(group)), group);
        moved += usize::from(place(&queries) != before);
    }
    assert!(moved < 10, "only where there is no more room: {moved}");
    assert_eq!(queries.load(), load(1000, (0..1000).sum()));
    assert_eq!(take_group(&mut queries, group), (0..1000).collect::<Vec<_>>());
    assert_eq!(queries.load(), load(0, 0));
}

#[test]
fn a_refused_read_answers_its_own_queries_and_no_others() {
    let mut queries = Queries::new();
    let (one, mut refused) = some([1, 2]);
    let (other, mut waiting) = some([3]);
    queries.wait_for_read(ReadId(1), one);
    queries.wait_for_read(ReadId(2), other);
    queries.refused(ReadId(1), &QueryError::Superseded);
    for one in &mut refused {
        assert_eq!(answer(one), Some(Err(QueryError::Superseded)));
    }
    assert_eq!(answer(&mut waiting[0]), None);
    assert_eq!(queries.load(), load(1, 3));
    // What the core says of reads that nobody waits for any more is of no use.
    queries.refused(ReadId(1), &QueryError::Superseded);
    queries.confirmed(ReadId(9), LogIndex(1));
    assert_eq!(hand_over(&mut queries, LogIndex(9)), None);
}

#[test]
fn the_load_is_that_of_all_places_together() {
    let mut queries = Queries::new();
    let (read, _r) = some([10, 20]);
    let (index, _i) = some([30]);
    let (machine, _m) = some([40]);
    queries.wait_for_read(ReadId(1), read);
    queries.wait_for_index(LogIndex(4), index);
    let group = queries.hand_to_machine(machine, None);
    assert_eq!(queries.load(), load(4, 100));
    queries.confirmed(ReadId(1), LogIndex(4));
    assert_eq!(queries.load(), load(4, 100), "they only move");
    assert_eq!(take_group(&mut queries, group), [40]);
    assert_eq!(queries.load(), load(3, 60));
}

#[test]
fn deadlines_end_waits_in_every_place_and_the_others_stay_where_they_were() {
    let mut queries = Queries::new();
    let (read, mut at_core) = some([2, 5]);
    let (index, mut at_index) = some([3, 6]);
    let (machine, mut at_machine) = some([1, 7]);
    queries.wait_for_read(ReadId(1), read);
    queries.wait_for_index(LogIndex(4), index);
    let group = queries.hand_to_machine(machine, None);
    assert_eq!(queries.sweep(Duration::ZERO), Some(Duration::from_secs(1)));
    assert_eq!(queries.sweep(Duration::from_secs(3)), Some(Duration::from_secs(5)));
    for place in [&mut at_core, &mut at_index, &mut at_machine] {
        assert_eq!(answer(&mut place[0]), Some(Err(QueryError::TimedOut)));
        assert_eq!(answer(&mut place[1]), None);
    }
    assert_eq!(queries.load(), load(3, 18));
    assert_eq!(take_group(&mut queries, group), [7]);
    queries.confirmed(ReadId(1), LogIndex(4));
    let group = hand_over(&mut queries, LogIndex(4)).expect("both");
    assert_eq!(take_group(&mut queries, group), [6, 5]);
    assert_eq!(queries.sweep(Duration::from_secs(99)), None);
}

/// A machine that hangs in a query.
#[test]
fn the_deadline_of_the_query_that_is_being_answered_holds_too() {
    let mut queries = Queries::new();
    let (asked, mut answers) = some([1, 2, 9]);
    let group = queries.hand_to_machine(asked, None);
    assert_eq!(queries.begin(group).map(|begun| begun.query), Some(1));
    assert_eq!(queries.load(), load(3, 12));
    assert_eq!(queries.sweep(Duration::from_secs(2)), Some(Duration::from_secs(9)));
    assert_eq!(answer(&mut answers[0]), Some(Err(QueryError::TimedOut)));
    assert_eq!(answer(&mut answers[1]), Some(Err(QueryError::TimedOut)));
    assert!(queries.finish().is_none(), "nobody waits for it");
    assert_eq!(queries.begin(group).map(|begun| begun.query), Some(9));
    queries.stop();
    assert_eq!(answer(&mut answers[2]), Some(Err(QueryError::Stopped)));
    assert!(queries.begin(group).is_none());
    assert_eq!(queries.load(), load(0, 0));
}

/// A sweep leaves no empty group behind: the machine would be asked for nothing.
#[test]
fn a_group_that_has_timed_out_is_gone() {
    let mut queries = Queries::new();
    let (index, _answers) = some([3]);
    queries.wait_for_index(LogIndex(4), index);
    assert_eq!(queries.sweep(Duration::from_secs(3)), None);
    assert_eq!(hand_over(&mut queries, LogIndex(4)), None);
    assert_eq!(queries.load(), load(0, 0));
}

#[test]
fn a_stop_answers_everybody_and_takes_nobody_back() {
    let mut queries = Queries::new();
    let (read, at_core) = some([2]);
    let (index, at_index) = some([3]);
    let (machine, at_machine) = some([4]);
    queries.wait_for_read(ReadId(1), read);
    queries.wait_for_index(LogIndex(4), index);
    let group = queries.hand_to_machine(machine, None);
    queries.stop();
    for mut one in at_core.into_iter().chain(at_index).chain(at_machine) {
        assert_eq!(answer(&mut one), Some(Err(QueryError::Stopped)));
    }
    assert_eq!(queries.load(), load(0, 0));
    assert!(take_group(&mut queries, group).is_empty());
}

/// One that waits until there is something to say, or until this second.
fn waits(number: u64, wait_until: u64) -> (Asked<Echo>, Answer) {
    let (mut asked, answer) = asked(number, 100);
    asked.wait_until = Duration::from_secs(wait_until);
    (asked, answer)
}

/// The machine has nothing to say to any of this group: what they wait as.
fn say_nothing(queries: &mut Queries<Echo>, group: u64) -> Vec<Waiting> {
    let mut waiting = Vec::new();
    while let Some(Begun { may_wait, .. }) = queries.begin(group) {
        assert!(may_wait);
        waiting.push(queries.wait().expect("it may"));
    }
    waiting
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn who_waits_for_something_to_be_said_is_answered_then_or_when_it_has_waited_long_enough() {
    let mut queries = Queries::new();
    let ((first, mut first_answer), (second, mut second_answer)) = (waits(3, 10), waits(4, 20));
    let group = queries.hand_to_machine(vec![first, second], None);
    let waiting = say_nothing(&mut queries, group);
    assert_eq!((answer(&mut first_answer), queries.load()), (None, load(2, 7)));
    // The end of the wait is no error, so it comes before the deadline.
    assert_eq!(queries.sweep(seconds(5)), Some(seconds(10)));
    assert!(!queries.end_waits(seconds(9)));

    assert!(queries.end_waits(seconds(10)));
    assert_eq!(queries.sweep(seconds(10)), Some(seconds(20)));
    assert_eq!((queries.take_late(), queries.load()), (vec![waiting[0]], load(2, 7)));
    assert!(queries.resume(waiting[0]));
    queries.finish().unwrap().answer(Ok(3));
    assert_eq!(answer(&mut first_answer), Some(Ok(3)));

    assert!(queries.resume(waiting[1]));
    assert_eq!(queries.load(), load(1, 4), "it counts until it is answered");
    queries.finish().unwrap().answer(Ok(4));
    assert_eq!((answer(&mut second_answer), queries.load()), (Some(Ok(4)), load(0, 0)));
    assert!(!queries.resume(waiting[1]), "once");
}

/// Else the driver would sleep until the deadline, and what should be an answer would be an error.
#[test]
fn the_end_of_a_wait_is_known_wherever_the_query_is_and_then_it_is_answered_without_a_wait() {
    let mut queries = Queries::new();
    let (mut answers, asked): (Vec<_>, Vec<_>) = (1..=4)
        .map(|number| waits(number, 10 * number))
        .map(|(asked, answer)| (answer, asked))
        .unzip();
    let mut asked = asked.into_iter().rev().map(|asked| vec![asked]);
    let mut next = || asked.next().expect("four");
    queries.wait_for_read(ReadId(1), next());
    assert_eq!(queries.sweep(Duration::ZERO), Some(seconds(40)));
    queries.wait_for_index(LogIndex(4), next());
    assert_eq!(queries.sweep(Duration::ZERO), Some(seconds(30)));
    let at_machine = queries.hand_to_machine(next(), None);
    assert_eq!(queries.sweep(Duration::ZERO), Some(seconds(20)));
    let answered = queries.hand_to_machine(next(), None);
    assert_eq!(queries.begin(answered).map(|begun| begun.may_wait), Some(true));
    assert_eq!(queries.sweep(Duration::ZERO), Some(seconds(10)));

    assert!(!queries.end_waits(seconds(50)), "none of them waits for something to be said yet");
    assert_eq!(queries.sweep(seconds(50)), Some(seconds(100)), "only the deadline is left");
    assert!(queries.wait().is_none(), "the machine is to answer at once");
    queries.finish().unwrap().answer(Ok(1));
    queries.confirmed(ReadId(1), LogIndex(4));
    let confirmed = hand_over(&mut queries, LogIndex(4)).expect("both");
    for group in [at_machine, confirmed] {
        while let Some(Begun { query, may_wait }) = queries.begin(group) {
            assert!(!may_wait);
            queries.finish().unwrap().answer(Ok(query));
        }
    }
    for (answered, number) in answers.iter_mut().zip(1..) {
        assert_eq!(answer(answered), Some(Ok(number)));
    }
}

/// A machine that hangs must not make the driver queue more and more for it.
#[test]
fn the_applier_is_told_once_of_those_that_have_waited_long_enough() {
    let mut queries = Queries::new();
    let ((first, mut first_answer), (second, mut second_answer)) = (waits(3, 10), waits(4, 20));
    let group = queries.hand_to_machine(vec![first, second], None);
    let waiting = say_nothing(&mut queries, group);
    assert!(queries.end_waits(seconds(10)));
    assert!(!queries.end_waits(seconds(20)), "it has not looked yet");
    assert_eq!(queries.sweep(seconds(20)), Some(seconds(100)));
    // Their deadline holds all the same.
    assert_eq!(queries.sweep(seconds(100)), None);
    for late in [&mut first_answer, &mut second_answer] {
        assert_eq!(answer(late), Some(Err(QueryError::TimedOut)));
    }
    assert_eq!((queries.take_late(), queries.load()), (waiting.clone(), load(0, 0)));
    assert!(waiting.into_iter().all(|number| !queries.resume(number)), "nobody waits");
    assert!(!queries.end_waits(seconds(200)));
}

#[test]
fn nobody_is_left_waiting_for_something_to_be_said_by_a_node_that_stops() {
    let mut queries = Queries::new();
    let ((first, mut first_answer), (second, mut second_answer)) = (waits(3, 10), waits(4, 20));
    let group = queries.hand_to_machine(vec![first], None);
    let waiting = say_nothing(&mut queries, group);
    let group = queries.hand_to_machine(vec![second], None);
    // The applier asks the machine about it just then.
    assert!(queries.begin(group).is_some());
    queries.stop();
    for stopped in [&mut first_answer, &mut second_answer] {
        assert_eq!(answer(stopped), Some(Err(QueryError::Stopped)));
    }
    assert!(queries.wait().is_none() && !queries.resume(waiting[0]));
    assert_eq!(queries.load(), load(0, 0));
}
