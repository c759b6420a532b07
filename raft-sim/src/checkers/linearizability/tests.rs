mod brute_force;
mod planted;
mod witness;

use std::time::Duration;

use super::*;
use crate::history::{Ended, OperationId};
use crate::model::register::{Reply, Request, VersionedStore};

type Store = VersionedStore<char, u64>;
type Kv = History<Request<char, u64>, Reply<u64>>;

fn get() -> Request<char, u64> {
    Request::Get { key: 'k' }
}

fn put(value: u64, version: u64) -> Request<char, u64> {
    Request::Put { key: 'k', value, version }
}

fn written(version: u64) -> Ended<Reply<u64>> {
    Ended::Answered(Reply::Written { version })
}

fn value(version: u64, value: u64) -> Ended<Reply<u64>> {
    Ended::Answered(Reply::Value(Some((version, value))))
}

fn absent() -> Ended<Reply<u64>> {
    Ended::Answered(Reply::Value(None))
}

/// A history in which each call and each end comes a second after the one before.
#[derive(Default)]
struct Story {
    history: Kv,
    now: u64,
}

impl Story {
    fn begin(&mut self, client: u64, request: Request<char, u64>) -> OperationId {
        self.now += 1;
        self.history.begin(client, request, Duration::from_secs(self.now))
    }

    fn end(&mut self, id: OperationId, ended: Ended<Reply<u64>>) {
        self.now += 1;
        self.history.end(id, ended, Duration::from_secs(self.now));
    }

    fn whole(&mut self, client: u64, request: Request<char, u64>, ended: Ended<Reply<u64>>) {
        let id = self.begin(client, request);
        self.end(id, ended);
    }

    fn verdict(&self) -> Verdict {
        check(&Store::new(), &self.history)
    }

    fn violation(&self) -> Violation {
        match self.verdict() {
            Verdict::Violation(violation) => *violation,
            other @ (Verdict::Linearizable | Verdict::Undecided(_)) => panic!("{other}"),
        }
    }
}

#[test]
fn nothing_happened_is_linearizable() {
    assert!(Story::default().verdict().is_linearizable());
}

#[test]
fn a_read_may_see_either_side_of_a_write_under_way() {
    for seen in [absent(), value(1, 7)] {
        let mut story = Story::default();
        let write = story.begin(1, put(7, 0));
        story.whole(2, get(), seen);
        story.end(write, written(1));
        assert!(story.verdict().is_linearizable());
    }
}

#[test]
fn once_a_read_has_seen_a_write_no_later_read_may_miss_it() {
    let mut story = Story::default();
    let write = story.begin(1, put(7, 0));
    story.whole(2, get(), value(1, 7));
    story.whole(3, get(), absent());
    story.end(write, written(1));
    let violation = story.violation();
    assert_eq!((violation.misfit.client, violation.explained), (3, 1));
}

#[test]
fn a_write_whose_answer_was_lost_may_show_at_any_later_time_and_need_not() {
    for seen in [absent(), value(1, 7)] {
        let mut story = Story::default();
        story.whole(1, put(7, 0), Ended::Maybe);
        story.whole(2, get(), absent());
        story.whole(3, get(), seen);
        assert!(story.verdict().is_linearizable());
    }
}

#[test]
fn a_write_that_never_ended_is_as_unknown_as_one_whose_answer_was_lost() {
    let mut story = Story::default();
    story.begin(1, put(7, 0));
    story.whole(2, get(), absent());
    story.whole(3, get(), value(1, 7));
    assert!(story.verdict().is_linearizable());
}

#[test]
fn a_write_that_failed_shows_at_no_time() {
    let mut story = Story::default();
    story.whole(1, put(7, 0), Ended::Failed);
    story.whole(2, get(), value(1, 7));
    assert_eq!(story.violation().misfit.client, 2);
}

#[test]
fn a_lost_write_never_takes_effect_before_its_call() {
    let mut story = Story::default();
    story.whole(1, get(), value(1, 7));
    story.whole(2, put(7, 0), Ended::Maybe);
    story.whole(3, get(), value(1, 7));
    assert_eq!(story.violation().misfit.client, 1);
}

#[test]
fn a_lost_write_takes_effect_once_and_two_of_the_kind_twice() {
    // A second one may be called before the last get, after it, or not at all.
    for (before, after) in [(true, false), (false, true), (false, false)] {
        let mut story = Story::default();
        story.whole(1, put(7, 0), Ended::Maybe);
        story.whole(2, get(), value(1, 7));
        if before {
            story.whole(5, put(7, 0), Ended::Maybe);
        }
        let delete = Request::Delete { key: 'k', version: None };
        story.whole(3, delete, Ended::Answered(Reply::Deleted { version: 1 }));
        story.whole(4, get(), value(1, 7));
        if after {
            story.whole(5, put(7, 0), Ended::Maybe);
        }
        story.whole(6, get(), value(1, 7));
        if before {
            assert!(story.verdict().is_linearizable());
        } else {
            assert_eq!(story.violation().misfit.client, 4);
        }
    }
}

#[test]
fn the_first_violation_in_time_is_told_whatever_its_key() {
    let mut story = Story::default();
    story.whole(1, Request::Get { key: 'b' }, value(1, 7));
    story.whole(2, Request::Get { key: 'a' }, value(1, 7));
    assert_eq!(story.violation().key.as_deref(), Some("'b'"));
}

#[test]
fn what_takes_too_long_is_undecided_and_never_a_false_alarm() {
    let mut story = Story::default();
    let writes: Vec<_> = (0..10).map(|client| story.begin(client, put(client, client))).collect();
    story.whole(10, get(), value(10, 9));
    for (write, version) in writes.into_iter().zip(1..) {
        story.end(write, written(version));
    }
    assert!(story.verdict().is_linearizable());
    let verdict = check_within(&Store::new(), &story.history, 20);
    let Verdict::Undecided(undecided) = verdict else { panic!("{verdict}") };
    assert_eq!((undecided.operations, undecided.explained), (11, 0));
    assert_eq!(undecided.key.as_deref(), Some("'k'"));
}

#[test]
fn a_violation_shows_the_misfit_and_what_came_before_it() {
    let mut story = Story::default();
    story.whole(1, put(7, 0), written(1));
    story.whole(1, put(8, 1), Ended::Maybe);
    let late = story.begin(2, put(9, 1));
    story.whole(3, get(), value(1, 5));
    story.end(late, written(2));
    let expected = "\
not linearizable, key 'k': no order of the operations explains the answer
  client 3: Get { key: 'k' } -> Value(Some((1, 5)))   (6.000000 s to 7.000000 s)
The 1 answers before it are explained, with these changes as the last ones:
  client 1: Put { key: 'k', value: 7, version: 0 } -> Written { version: 1 }   (1.000000 s to 2.000000 s)
  which leads to: version 1: 7, where the answer were Value(Some((1, 7)))
  which leads to: version 2: 9, where the answer were Value(Some((2, 9)))
  which leads to: version 2: 8, where the answer were Value(Some((2, 8)))
Under way by then, and of no help, wherever they are put:
  client 1: Put { key: 'k', value: 8, version: 1 } -> nobody knows   (3.000000 s to 4.000000 s)
  client 2: Put { key: 'k', value: 9, version: 1 } -> Written { version: 2 }   (5.000000 s to 8.000000 s)";
    assert_eq!(story.violation().to_string(), expected);
}
