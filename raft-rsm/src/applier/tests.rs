use std::io::Read;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::executor::block_on;
use raft_core::{Entries, Entry, NodeId, Payload, Term};

use super::*;
use crate::Context;
use crate::driver::queries::Asked;
use crate::error::{ProposeError, QueryError};
use crate::options::Options;
use crate::payload::{Draft, Known};
use crate::runtime::ThreadRuntime;
use crate::server::Responder;
use crate::sessions::{SessionId, SessionRequest, TableLimits};
use crate::storage::MemoryStorage;

/// How often the applier of a test makes a mark.
const CHECK_ENTRIES: u64 = 3;

/// Its state is what it was told, and when.
#[derive(Default)]
struct Times {
    value: u8,
    times: Vec<Duration>,
    restores: usize,
    /// The indexes and times at which what is due was to end.
    advanced: Vec<(u64, Duration)>,
    /// Runs while the machine is asked whether there is something to say; there is not.
    asked: Option<Box<dyn Fn() + Send + Sync>>,
}

impl StateMachine for Times {
    type Command = u8;
    type Response = u8;
    type Query = ();
    type Answer = u8;

    fn apply(&mut self, context: &Context, value: u8) -> u8 {
        self.value = value;
        self.times.push(context.time);
        value
    }

    fn query(&self, (): ()) -> u8 {
        self.value
    }

    fn is_ready(&self, (): &(), _: LogIndex) -> bool {
        if let Some(asked) = &self.asked {
            asked();
        }
        false
    }

    fn advance(&mut self, context: &Context) {
        self.advanced.push((context.index.0, context.time));
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        let value = self.value;
        Box::new(move |image: &mut dyn Write| image.write_all(&[value]))
    }

    fn restore(&mut self, image: &mut dyn Read) -> io::Result<()> {
        let mut value = [0];
        image.read_exact(&mut value)?;
        self.value = value[0];
        self.restores += 1;
        Ok(())
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn id(index: u64) -> EntryId {
    EntryId::new(Term(1), LogIndex(index))
}

fn voters() -> Configuration {
    Configuration::new([NodeId(1)], [])
}

fn applier() -> Applier<Times> {
    Applier::new(
        Times::default(),
        CHECK_ENTRIES,
        Shared {
            work: Arc::default(),
            waiters: Arc::new(Mutex::new(Waiters::new())),
            queries: Arc::new(Mutex::new(Queries::new())),
            intake: Arc::new(Intake::new(&Options::new(NodeId(1)))),
            storage: Arc::new(MemoryStorage::new(voters())),
            runtime: Arc::new(ThreadRuntime::new()),
            tasks: Tasks::new(|| ()),
        },
    )
}

/// Commands from `first` on: the value and the stamp in seconds of each.
fn apply(first: u64, commands: &[(u8, u64)]) -> Work {
    let entries = commands.iter().zip(first..).map(|((value, stamp), index)| {
        let payload = Draft::command(Known::Not, value).expect("a byte").stamp(seconds(*stamp));
        Entry::command(id(index), payload)
    });
    let entries: Entries = entries.collect();
    Work::Apply(Applies { entries, configuration: voters() })
}

fn restore(last: u64) -> Work {
    Work::Restore(SnapshotMeta::new(id(last), voters()))
}

fn carry_out(applier: &mut Applier<Times>, work: impl IntoIterator<Item = Work>) {
    applier.carry_out(work.into_iter().collect()).expect("it can be done");
}

fn store(applier: &Applier<Times>, last: u64, value: u8, time: Duration) {
    let meta = SnapshotMeta::new(id(last), voters());
    let view = move |image: &mut dyn Write| image.write_all(&[value]);
    let header = ImageHeader { time, checksum: None };
    let sessions = Sessions::default().freeze();
    write_snapshot(&*applier.shared.storage, meta, header, sessions, &view).expect("stored");
}

fn marks(applier: &Applier<Times>) -> Vec<Mark> {
    let is_mark = |completion| match completion {
        Completion::Marked(mark) => Some(mark),
        Completion::Applied { .. }
        | Completion::Restored { .. }
        | Completion::SnapshotTaken { .. }
        | Completion::SnapshotSkipped
        | Completion::SnapshotReceived { .. }
        | Completion::SnapshotSent { .. }
        | Completion::Fetched { .. }
        | Completion::Stop(_) => None,
    };
    completions(applier).into_iter().filter_map(is_mark).collect()
}

/// Ten commands: enough for three marks.
const TEN: [(u8, u64); 10] =
    [(1, 5), (2, 3), (3, 0), (4, 7), (5, 7), (6, 8), (7, 8), (8, 8), (9, 9), (10, 9)];

/// The marks that a machine makes which is told [`TEN`] at once.
fn marks_of_ten() -> Vec<Mark> {
    let mut applier = applier();
    carry_out(&mut applier, [apply(1, &TEN)]);
    marks(&applier)
}

fn completions(applier: &Applier<Times>) -> Vec<Completion> {
    applier.shared.intake.close().completions
}

#[test]
fn the_logs_time_is_the_greatest_stamp_so_far() {
    let mut applier = applier();
    // A leader that does not know the log's time yet stamps with zero.
    carry_out(&mut applier, [apply(1, &[(1, 5), (2, 3), (3, 0), (4, 7)])]);
    assert_eq!(applier.machine.times, [5, 5, 5, 7].map(seconds));
    let completions = completions(&applier);
    let [.., Completion::Applied { last, time, due: None, .. }] = completions[..] else {
        panic!("{completions:?}")
    };
    assert_eq!((last, time), (id(4), seconds(7)));
}

#[test]
fn the_logs_time_goes_on_from_that_of_the_restored_snapshot() {
    let mut applier = applier();
    store(&applier, 9, 90, seconds(100));
    carry_out(&mut applier, [restore(9), apply(10, &[(1, 40), (2, 101)])]);
    assert_eq!(applier.machine.times, [100, 101].map(seconds));
}

#[test]
fn where_two_snapshots_arrived_the_newer_one_is_restored_once_and_what_it_contains_is_skipped() {
    let mut applier = applier();
    store(&applier, 5, 50, seconds(5));
    // The second one is durable before the machine comes to restore the first.
    store(&applier, 8, 80, seconds(8));
    let (sender, mut answer) = oneshot::channel();
    lock(&applier.shared.waiters).add(
        id(6),
        seconds(60),
        Proposer::Command(Responder::Local(sender)),
    );

    carry_out(&mut applier, [restore(5), apply(6, &[(6, 6)]), Work::Snapshot, restore(8)]);
    let answer = (&mut answer).now_or_never().expect("answered").expect("not dropped");
    assert_eq!(answer, Err(ProposeError::Maybe(Uncertain::SnapshotPassed)));
    assert_eq!((applier.machine.value, applier.machine.restores), (80, 1));
    assert!(applier.machine.times.is_empty(), "nothing that the snapshot contains is applied");

    carry_out(&mut applier, [apply(9, &[(9, 0)])]);
    assert_eq!((applier.machine.value, applier.machine.times.clone()), (9, vec![seconds(8)]));
    let ends = completions(&applier).into_iter().map(|completion| match completion {
        Completion::Applied { last, .. } => last.index.0,
        Completion::Restored { meta, .. } => meta.last.index.0,
        Completion::SnapshotSkipped => 0,
        other @ (Completion::SnapshotTaken { .. }
        | Completion::SnapshotReceived { .. }
        | Completion::SnapshotSent { .. }
        | Completion::Fetched { .. }
        | Completion::Marked(_)
        | Completion::Stop(_)) => panic!("{other:?}"),
    });
    assert_eq!(ends.collect::<Vec<u64>>(), [5, 6, 0, 8, 9]);
}

#[test]
fn no_snapshot_is_taken_ahead_of_what_the_core_has_handed_out() {
    let mut applier = applier();
    store(&applier, 8, 80, seconds(8));
    carry_out(&mut applier, [restore(5)]);
    // As if the one that was restored were not known here.
    applier.snapshot = LogIndex(5);
    carry_out(&mut applier, [Work::Snapshot]);
    let completions = completions(&applier);
    assert!(matches!(completions.last(), Some(Completion::SnapshotSkipped)), "{completions:?}");
}

#[test]
fn an_entry_that_does_not_follow_is_an_error() {
    let mut applier = applier();
    let result = applier.carry_out([apply(2, &[(1, 1)])].into_iter().collect());
    assert!(matches!(result, Err(StopReason::Internal { .. })), "{result:?}");
    assert!(applier.machine.times.is_empty());
}

#[test]
fn the_marks_are_the_same_whatever_the_batches() {
    let expected = marks_of_ten();
    assert_eq!(expected.iter().map(|mark| mark.index.0).collect::<Vec<u64>>(), [3, 6, 9]);
    for batch in 1..TEN.len() {
        let mut applier = applier();
        for (commands, first) in TEN.chunks(batch).zip((1..).step_by(batch)) {
            carry_out(&mut applier, [apply(first, commands)]);
        }
        assert_eq!(marks(&applier), expected, "in batches of {batch}");
    }
}

#[test]
fn the_marks_tell_commands_and_stamps_apart() {
    let expected = marks_of_ten();
    for change in
        [|(value, _): &mut (u8, u64)| *value = 99, |(_, stamp): &mut (u8, u64)| *stamp = 99]
    {
        let mut ten = TEN;
        change(&mut ten[4]);
        let mut applier = applier();
        carry_out(&mut applier, [apply(1, &ten)]);
        let marks = marks(&applier);
        assert_eq!(marks[0], expected[0]);
        assert!(marks[1].checksum != expected[1].checksum, "{marks:?}");
        assert!(marks[2].checksum != expected[2].checksum, "{marks:?}");
    }
}

#[test]
fn entries_without_a_command_are_passed_and_change_no_checksum() {
    let empty = |index| Entry { id: id(index), payload: Payload::Empty };
    let configuration = Entry { id: id(2), payload: Payload::Configuration(voters()) };
    let entries: Entries = [empty(1), configuration, empty(3)].into_iter().collect();
    let mut applier = applier();
    carry_out(&mut applier, [Work::Apply(Applies { entries, configuration: voters() })]);
    assert_eq!(marks(&applier), [Mark { index: LogIndex(3), checksum: 0 }]);
}

#[test]
fn the_marks_go_on_through_a_snapshot_and_its_restore() {
    let expected = marks_of_ten();
    for taken in 1..10 {
        let mut one = applier();
        carry_out(&mut one, [apply(1, &TEN[..taken]), Work::Snapshot]);
        block_on(one.shared.tasks.ended());
        let last = taken as u64;
        let mut other = applier();
        other.shared.storage = Arc::clone(&one.shared.storage);
        carry_out(&mut other, [restore(last), apply(last + 1, &TEN[taken..])]);
        let rest = expected.iter().filter(|mark| mark.index.0 > last).copied();
        assert_eq!(marks(&other), rest.collect::<Vec<Mark>>(), "restored at {taken}");
    }
}

#[test]
fn without_a_check_nothing_is_marked_and_a_snapshot_holds_no_checksum() {
    let mut one = applier();
    one.checksum = RunningChecksum::new(0);
    carry_out(&mut one, [apply(1, &TEN[..4]), Work::Snapshot]);
    block_on(one.shared.tasks.ended());
    assert!(marks(&one).is_empty());
    let mut other = applier();
    other.shared.storage = Arc::clone(&one.shared.storage);
    carry_out(&mut other, [restore(4), apply(5, &TEN[4..])]);
    assert!(marks(&other).is_empty(), "what it would compare is not known");
}

fn queued(queue: &WorkQueue) -> Vec<String> {
    let name = |work: &Work| match work {
        Work::Restore(meta) => format!("restore {}", meta.last.index),
        Work::Apply(applies) => format!("apply {}", applies.entries.len()),
        Work::Answer(group) => format!("answer {group}"),
        Work::AnswerLate => "answer late".to_owned(),
        Work::Snapshot => "snapshot".to_owned(),
    };
    lock(&queue.inner).work.iter().map(name).collect()
}

/// However long the machine takes, and however many rounds of the driver bring queries meanwhile.
#[test]
fn queries_that_come_while_the_machine_is_busy_are_one_group() {
    let queue = WorkQueue::default();
    for _ in 0..3 {
        queue.push_answer(|group| group.unwrap_or(7));
    }
    queue.push(apply(1, &[(1, 1)]));
    for _ in 0..3 {
        queue.push_answer(|group| group.unwrap_or(8));
    }
    assert_eq!(queued(&queue), ["answer 7", "apply 1", "answer 8"]);
}

/// Snapshots that arrive faster than a slow machine takes them in, with entries between them. The queries that wait for
/// those see the snapshot instead, never less.
#[test]
fn a_received_snapshot_replaces_what_was_queued_to_be_applied() {
    let queue = WorkQueue::default();
    for last in [10, 20, 30] {
        queue.push(apply(last - 2, &[(1, 1)]));
        let Work::Restore(meta) = restore(last) else { unreachable!("it is one") };
        queue.push_restore(meta);
        queue.push(Work::Answer(last));
    }
    queue.push(apply(31, &[(2, 2)]));
    assert_eq!(queued(&queue), ["restore 30", "answer 10", "answer 20", "answer 30", "apply 1"]);
}

/// The driver looks for deadlines whenever it likes, and sets its alarm by what it finds: on a quiet node there is no other.
#[test]
fn who_waits_for_something_to_be_said_is_found_while_the_machine_is_asked_whether_there_is() {
    let mut applier = applier();
    let (sender, mut answer) = oneshot::channel();
    let asked = Asked {
        query: (),
        respond: Responder::Local(sender),
        len_bytes: 9,
        deadline: seconds(20),
        wait_until: seconds(10),
    };
    let group = lock(&applier.shared.queries).hand_to_machine(vec![asked], None);
    carry_out(&mut applier, [Work::Answer(group)]);
    assert!((&mut answer).now_or_never().is_none(), "it waits");

    let (queries, found) = (Arc::clone(&applier.shared.queries), Arc::new(Mutex::new(Vec::new())));
    applier.machine.asked = Some(Box::new({
        let found = Arc::clone(&found);
        move || {
            let mut queries = lock(&queries);
            let ends = (queries.end_waits(seconds(3)), queries.sweep(seconds(3)));
            lock(&found).push((ends, queries.load().count, queries.load().bytes));
        }
    }));
    carry_out(&mut applier, [apply(1, &[(7, 1)])]);
    assert_eq!(*lock(&found), [((false, Some(seconds(10))), 1, 9)]);

    assert!(lock(&applier.shared.queries).end_waits(seconds(10)));
    carry_out(&mut applier, [Work::AnswerLate]);
    assert_eq!((&mut answer).now_or_never(), Some(Ok(Ok(7))));
    assert!(applier.waiting.is_empty());
}

/// Else what is asked would stay in memory for as long as the node runs.
#[test]
fn a_query_whose_deadline_has_come_is_forgotten_by_the_applier() {
    let mut applier = applier();
    let (sender, answer) = oneshot::channel();
    let (respond, len_bytes) = (Responder::Local(sender), 9);
    let (deadline, wait_until) = (seconds(20), seconds(10));
    let asked = Asked { query: (), respond, len_bytes, deadline, wait_until };
    let group = lock(&applier.shared.queries).hand_to_machine(vec![asked], None);
    carry_out(&mut applier, [Work::Answer(group)]);
    assert!(lock(&applier.shared.queries).end_waits(seconds(20)));
    assert_eq!(lock(&applier.shared.queries).sweep(seconds(20)), None);
    assert_eq!(answer.now_or_never(), Some(Ok(Err(QueryError::TimedOut))));
    carry_out(&mut applier, [Work::AnswerLate]);
    assert!(applier.waiting.is_empty());
}

const LIMITS: TableLimits =
    TableLimits { age_max_nanos: 60_000_000_000, count_max: 10, bytes_max: 10_000 };

/// What waits for an entry is told, once it is applied at `at` seconds.
fn outcome<T>(
    applier: &mut Applier<Times>,
    index: u64,
    at: u64,
    draft: Draft,
    proposer: impl FnOnce(Responder<T, ProposeError>) -> Proposer<Times>,
) -> Result<T, ProposeError> {
    let (sender, answer) = oneshot::channel();
    let proposer = proposer(Responder::Local(sender));
    lock(&applier.shared.waiters).add(id(index), seconds(60), proposer);
    let entries: Entries =
        [Entry::command(id(index), draft.stamp(seconds(at)))].into_iter().collect();
    carry_out(applier, [Work::Apply(Applies { entries, configuration: voters() })]);
    answer.now_or_never().expect("answered").expect("not dropped")
}

fn in_session(session: SessionId, sequence: u64, value: u8) -> Draft {
    let request = SessionRequest { session, sequence, answered_below: 0 };
    Draft::command(Known::InSession(request), &value).expect("a byte")
}

#[test]
fn a_command_of_a_session_is_told_to_the_machine_once() {
    let mut applier = applier();
    let id = outcome(&mut applier, 1, 0, Draft::open(LIMITS), Proposer::Session).unwrap();
    for index in 2..5 {
        let draft = in_session(id, 0, 7);
        assert_eq!(outcome(&mut applier, index, index, draft, Proposer::Command), Ok(7));
    }
    assert_eq!(applier.machine.times, [seconds(2)]);
    let closed = outcome(&mut applier, 5, 5, Draft::close(id), Proposer::Session);
    assert_eq!(closed, Ok(id));
    let late = outcome(&mut applier, 6, 6, in_session(id, 0, 7), Proposer::Command);
    assert_eq!((late, applier.machine.times.len()), (Err(ProposeError::SessionExpired), 1));
}

#[test]
fn a_command_with_a_name_is_told_to_the_machine_once() {
    let mut applier = applier();
    let named = |value: u8| Draft::command(Known::ByName(b"me", LIMITS), &value).expect("a byte");
    assert_eq!(outcome(&mut applier, 1, 0, named(7), Proposer::Command), Ok(7));
    assert_eq!(outcome(&mut applier, 2, 1, named(7), Proposer::Command), Ok(7));
    let other = outcome(&mut applier, 3, 1, named(8), Proposer::Command);
    assert_eq!((other, applier.machine.times.len()), (Err(ProposeError::NameTaken), 1));
}

/// Traps: a dedup table that is not in the snapshot.
#[test]
fn sessions_come_back_with_a_snapshot() {
    let mut first = applier();
    let session = outcome(&mut first, 1, 0, Draft::open(LIMITS), Proposer::Session).unwrap();
    assert_eq!(outcome(&mut first, 2, 1, in_session(session, 0, 7), Proposer::Command), Ok(7));
    let mut second = applier();
    let meta = SnapshotMeta::new(id(2), voters());
    let header = ImageHeader { time: seconds(1), checksum: None };
    let sessions = first.sessions.freeze();
    let view = |image: &mut dyn Write| image.write_all(&[7]);
    write_snapshot(&*second.shared.storage, meta, header, sessions, &view).expect("stored");
    carry_out(&mut second, [restore(2)]);
    assert_eq!(outcome(&mut second, 3, 9, in_session(session, 0, 7), Proposer::Command), Ok(7));
    assert!(second.machine.times.is_empty());
    // What ends a session in one replica ends it in the other.
    let late = outcome(&mut second, 4, 69, in_session(session, 1, 7), Proposer::Command);
    assert_eq!(late, Err(ProposeError::SessionExpired));
}

#[test]
fn a_time_mark_lets_what_is_due_end_and_is_told_to_nobody_else() {
    let mut applier = applier();
    carry_out(&mut applier, [apply(1, &[(1, 5)])]);
    let entries: Entries =
        [Entry::command(id(2), Draft::time_mark().stamp(seconds(9)))].into_iter().collect();
    carry_out(&mut applier, [Work::Apply(Applies { entries, configuration: voters() })]);
    assert_eq!((applier.time, applier.machine.times.clone()), (seconds(9), vec![seconds(5)]));
    assert_eq!(applier.machine.advanced, [(1, seconds(5)), (2, seconds(9))]);
}
