use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Duration;

use raft_rsm::SnapshotView;
use serde::Deserialize;

use super::*;
use crate::checkers::linearizability::{Verdict, Violation, check};
use crate::history::{Ended, History};

/// Counters by name, which never go above a limit.
#[derive(Default)]
struct Counters {
    counters: BTreeMap<String, u64>,
    forgets: bool,
}

const LIMIT: u64 = 10;

#[derive(Debug, Serialize, Deserialize)]
struct Add(String, u64);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Added {
    Now(u64),
    TooMuch,
}

#[derive(Debug, Serialize, Deserialize)]
struct Get(String);

impl StateMachine for Counters {
    type Command = Add;
    type Response = Added;
    type Query = Get;
    type Answer = Option<u64>;

    fn apply(&mut self, _: &Context, Add(name, add): Add) -> Added {
        let counter = self.counters.entry(name).or_default();
        if *counter + add > LIMIT {
            return Added::TooMuch;
        }
        *counter += add;
        Added::Now(*counter)
    }

    fn query(&self, Get(name): Get) -> Option<u64> {
        self.counters.get(&name).copied()
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        let image = postcard::to_allocvec(&self.counters).unwrap();
        Box::new(move |to: &mut dyn Write| to.write_all(&image))
    }

    fn restore(&mut self, image: &mut dyn Read) -> io::Result<()> {
        if self.forgets {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = Vec::new();
        image.read_to_end(&mut bytes)?;
        self.counters = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
        Ok(())
    }
}

fn model() -> MachineModel<Counters> {
    MachineModel::new(Counters::default).readable()
}

#[derive(Default)]
struct Story(History<Request, Bytes>);

impl Story {
    fn add(&mut self, name: &str, add: u64, answer: Option<Added>) {
        let request = Request::command::<Counters>(&Add(name.to_owned(), add)).unwrap();
        let id = self.0.begin(1, request, Duration::ZERO);
        let ended = answer.map_or(Ended::Maybe, |answer| Ended::Answered(encode(&answer).unwrap()));
        self.0.end(id, ended, Duration::ZERO);
    }

    fn get(&mut self, name: &str, answer: Option<u64>) {
        let request = Request::query::<Counters>(&Get(name.to_owned())).unwrap();
        let id = self.0.begin(2, request, Duration::ZERO);
        self.0.end(id, Ended::Answered(encode(&answer).unwrap()), Duration::ZERO);
    }

    fn violation(&self, model: &MachineModel<Counters>) -> Violation {
        match check(model, &self.0) {
            Verdict::Violation(violation) => *violation,
            other @ (Verdict::Linearizable | Verdict::Undecided(_)) => panic!("{other}"),
        }
    }
}

#[test]
fn answers_of_one_copy_are_linearizable_with_unknown_commands_or_without() {
    let mut story = Story::default();
    story.get("a", None);
    story.add("a", 3, Some(Added::Now(3)));
    story.add("a", 2, None);
    story.add("b", 9, Some(Added::Now(9)));
    story.add("b", 2, Some(Added::TooMuch));
    story.get("a", Some(3));
    story.get("a", Some(5));
    let by_name = |request: &Decoded<Counters>| match request {
        Decoded::Command(Add(name, _)) | Decoded::Query(Get(name)) => Some(name.clone()),
    };
    assert!(check(&model(), &story.0).is_linearizable());
    assert!(check(&model().by_key(by_name), &story.0).is_linearizable());
    let refused = |_: &Add, added: &Added| *added == Added::TooMuch;
    assert!(check(&model().changes_nothing_if(refused), &story.0).is_linearizable());
}

#[test]
fn a_command_that_is_applied_twice_is_found_and_shown_as_its_type_does() {
    let mut story = Story::default();
    story.add("a", 3, Some(Added::Now(3)));
    story.get("a", Some(6));
    let violation = story.violation(&model());
    assert_eq!(violation.misfit.input, "Get(\"a\")");
    assert_eq!(violation.misfit.output.as_deref(), Some("Some(6)"));
    assert_eq!(violation.states[0].expected.as_deref(), Some("Some(3)"));
    assert_eq!(violation.changes[0].input, "Add(\"a\", 3)");
    assert_eq!(violation.changes[0].output.as_deref(), Some("Now(3)"));
}

#[test]
fn a_violation_names_the_key() {
    let mut story = Story::default();
    story.add("a", 3, Some(Added::Now(3)));
    story.add("b", 4, Some(Added::Now(7)));
    let by_name = |request: &Decoded<Counters>| match request {
        Decoded::Command(Add(name, _)) | Decoded::Query(Get(name)) => Some(name.clone()),
    };
    let violation = story.violation(&model().by_key(by_name));
    assert_eq!(violation.key.as_deref(), Some("\"b\""));
}

#[test]
fn a_machine_that_cannot_read_its_own_snapshot_is_told_as_the_reason() {
    let mut story = Story::default();
    story.get("a", None);
    let machine = || Counters { forgets: true, ..Counters::default() };
    let violation = story.violation(&MachineModel::new(machine));
    let expected = violation.states[0].expected.as_deref().unwrap();
    assert!(expected.contains("cannot read it again"), "{expected}");
}

#[test]
fn a_command_is_known_by_the_digest_of_what_the_machines_apply_and_a_query_is_none() {
    let add = Add("a".to_owned(), 3);
    let request = Request::command::<Counters>(&add).unwrap();
    assert_eq!(model().command_digest(&request), Some(Digest::of_value(&add)));
    let query = Request::query::<Counters>(&Get("a".to_owned())).unwrap();
    assert_eq!(model().command_digest(&query), None);
}
