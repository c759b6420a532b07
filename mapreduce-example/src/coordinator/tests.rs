//! The rules of the table of tasks, one by one.

mod failures;
mod images;
mod losses;
mod model;
mod stragglers;

use raft_rsm::raft_core::Term;

use super::*;
use crate::task::{Attempt, AttemptId, Counts, JobId, JobSpec, Split, TaskId};

const SECOND: Duration = Duration::from_secs(1);

const ANN: WorkerId = WorkerId(1);
const BOB: WorkerId = WorkerId(2);
const CARL: WorkerId = WorkerId(3);

pub(super) fn spec(maps: u64, reducers: u32, failures_max: u32) -> JobSpec {
    let split = |number| Split { input: "memory:///in".to_owned(), offset: number * 10, len: 10 };
    JobSpec {
        job: "word-count".to_owned(),
        arguments: [("a".to_owned(), "b".to_owned())].into(),
        inputs: (0..maps).map(split).collect(),
        output: "memory:///out".to_owned(),
        reducers,
        failures_max,
        token: 1,
    }
}

pub(super) fn id(job: JobId, task: TaskId, attempt: u32) -> AttemptId {
    AttemptId { job, task, attempt: Attempt(attempt) }
}

/// A table, and the log's time.
#[derive(Default)]
pub(super) struct Table {
    pub(super) coordinator: Coordinator,
    pub(super) index: u64,
    pub(super) time: Duration,
}

impl Table {
    pub(super) fn apply(&mut self, command: Command) -> Response {
        self.index += 1;
        let context = self.context();
        self.coordinator.apply(&context, command)
    }

    fn context(&self) -> Context {
        Context { index: LogIndex(self.index), term: Term(1), time: self.time }
    }

    pub(super) fn wait(&mut self, duration: Duration) {
        self.time += duration;
        let context = self.context();
        self.coordinator.advance(&context);
    }

    fn submit(&mut self, spec: JobSpec) -> JobId {
        let token = u128::from(self.index);
        let told = self.apply(Command::Submit { token, spec });
        let Response::Submitted(id) = told else { panic!("{told:?}") };
        id
    }

    fn work(
        &mut self,
        worker: WorkerId,
        running: &[AttemptId],
        reports: Vec<Report>,
        slots: u32,
    ) -> Orders {
        let running = running.to_vec();
        let told = self.apply(Command::Work { worker, running, reports, slots });
        let Response::Work(orders) = told else { panic!("{told:?}") };
        orders
    }

    fn begin(&mut self, worker: WorkerId, running: &[AttemptId], slots: u32) -> Vec<AttemptId> {
        self.work(worker, running, vec![], slots).begin
    }

    fn finish(&mut self, worker: WorkerId, all: &[AttemptId]) -> Orders {
        let reports = all.iter().map(|id| Report::Finished(*id, Counts::default())).collect();
        self.work(worker, &[], reports, 0)
    }

    fn view(&self, id: JobId) -> JobView {
        let told = self.coordinator.query(Query::Job(id));
        let Answer::Job(Some(view)) = told else { panic!("{told:?}") };
        *view
    }

    fn state(&self, id: JobId) -> JobState {
        self.view(id).state
    }

    fn inputs(&self, id: AttemptId) -> Option<Vec<Attempt>> {
        let told = self.coordinator.query(Query::Inputs(id));
        let Answer::Inputs(inputs) = told else { panic!("{told:?}") };
        inputs
    }

    fn is_ready_for(&self, worker: WorkerId, running: &[AttemptId]) -> bool {
        let query = Query::WorkFor { worker, running: running.to_vec(), is_free: true };
        self.coordinator.is_ready(&query, LogIndex(0))
    }
}

fn tasks(all: &[AttemptId]) -> Vec<TaskId> {
    all.iter().map(|id| id.task).collect()
}

#[test]
fn maps_come_before_reduces_and_those_before_the_publication() {
    let mut table = Table::default();
    let job = table.submit(spec(2, 2, 3));
    let maps = table.begin(ANN, &[], 9);
    assert_eq!(tasks(&maps), [TaskId::Map(0), TaskId::Map(1)]);
    table.finish(ANN, &maps);
    let reduces = table.begin(ANN, &[], 9);
    assert_eq!(tasks(&reduces), [TaskId::Reduce(0), TaskId::Reduce(1)]);
    assert_eq!(table.inputs(reduces[0]), Some(vec![Attempt(1), Attempt(1)]));
    table.finish(ANN, &reduces);
    let publish = table.begin(ANN, &[], 9);
    assert_eq!(tasks(&publish), [TaskId::Publish]);
    assert_eq!(table.state(job), JobState::Unfinished);
    table.finish(ANN, &publish);
    assert_eq!(table.state(job), JobState::Succeeded);
}

#[test]
fn a_job_without_inputs_is_reduced_all_the_same() {
    let mut table = Table::default();
    table.submit(spec(0, 1, 1));
    assert_eq!(tasks(&table.begin(ANN, &[], 9)), [TaskId::Reduce(0)]);
}

#[test]
fn a_submission_that_comes_twice_is_one_job() {
    let mut table = Table::default();
    let submit = || Command::Submit { token: 7, spec: spec(1, 1, 1) };
    let first = table.apply(submit());
    assert_eq!(table.apply(submit()), first);
}

#[test]
fn a_job_that_cannot_be_done_is_refused_with_a_reason() {
    let mut table = Table::default();
    let long = JobSpec { job: "x".repeat(101), ..spec(1, 1, 1) };
    let arguments = (0..1_001).map(|number| (number.to_string(), String::new())).collect();
    let many = JobSpec { arguments, ..spec(1, 1, 1) };
    let wide = JobSpec { output: "x".repeat(5_000), ..spec(1, 1, 1) };
    let huge =
        JobSpec { arguments: [("x".repeat(4_000_000), String::new())].into(), ..spec(1, 1, 1) };
    for (spec, why) in [
        (spec(1, 0, 1), "at least 1 reducer"),
        (spec(1, 1, 0), "may fail from 1"),
        (spec(1, 200_000, 1), "at most 100000 tasks"),
        (long, "the name of a job"),
        (many, "at most 1000 arguments"),
        (wide, "the URL of the output"),
        (huge, "the limit is 3145728"),
    ] {
        let token = u128::from(table.index);
        let Response::Refused(text) = table.apply(Command::Submit { token, spec }) else {
            panic!("it is taken, and {why}");
        };
        assert!(text.contains(why), "{text}");
    }
    assert_eq!(table.coordinator.query(Query::Jobs), Answer::Jobs(vec![]));
}

#[test]
fn the_queue_is_bounded_and_takes_more_when_a_job_has_ended() {
    let mut table = Table::default();
    let first = table.submit(spec(1, 1, 1));
    for _ in 1..limits::JOBS_QUEUED_MAX {
        table.submit(spec(1, 1, 1));
    }
    let submit = || Command::Submit { token: u128::MAX, spec: spec(1, 1, 1) };
    assert!(matches!(table.apply(submit()), Response::Refused(_)));
    table.apply(Command::Cancel { job: first });
    assert!(matches!(table.apply(submit()), Response::Submitted(_)));
}

#[test]
fn jobs_that_ended_first_are_forgotten_first() {
    let mut table = Table::default();
    let jobs: Vec<JobId> = (0..3).map(|_| table.submit(spec(1, 1, 1))).collect();
    table.apply(Command::Cancel { job: jobs[1] });
    for _ in 0..limits::JOBS_ENDED_MAX {
        let job = table.submit(spec(1, 1, 1));
        table.apply(Command::Cancel { job });
    }
    assert_eq!(table.coordinator.query(Query::Job(jobs[1])), Answer::Job(None));
    assert_eq!(table.state(jobs[0]), JobState::Unfinished);
    // Its token is forgotten with it.
    assert!(matches!(
        table.apply(Command::Submit { token: 1, spec: spec(1, 1, 1) }),
        Response::Submitted(id) if id != jobs[1]
    ));
}

#[test]
fn the_job_with_the_fewest_attempts_is_next_and_the_older_one_of_two() {
    let mut table = Table::default();
    let (old, new) = (table.submit(spec(4, 1, 1)), table.submit(spec(4, 1, 1)));
    let given: Vec<JobId> = table.begin(ANN, &[], 5).iter().map(|id| id.job).collect();
    assert_eq!(given, [old, new, old, new, old]);
}

#[test]
fn of_jobs_with_as_many_attempts_the_one_that_has_waited_longest_is_next() {
    let mut table = Table::default();
    let jobs = [5, 2, 2].map(|maps| table.submit(spec(maps, 1, 1)));
    let mut given = Vec::new();
    let mut running = table.begin(ANN, &[], 1);
    for _ in 0..7 {
        given.push(running[0].job);
        table.coordinator = images::restored(&table.coordinator);
        let reports = vec![Report::Finished(running[0], Counts::default())];
        running = table.work(ANN, &[], reports, 1).begin;
    }
    let [large, second, third] = jobs;
    assert_eq!(given, [large, second, third, large, second, third, large]);
}

#[test]
fn a_worker_that_was_silent_goes_on_with_what_nobody_else_has() {
    let mut table = Table::default();
    let job = table.submit(spec(2, 1, 1));
    let maps = table.begin(ANN, &[], 2);
    for _ in 0..10 {
        table.wait(limits::LEASE);
        assert!(table.is_ready_for(ANN, &maps), "it is to say that it is there");
        let orders = table.work(ANN, &maps, vec![], 1);
        assert_eq!((orders.begin, orders.stop), (vec![], vec![]));
    }
    table.wait(limits::LEASE);
    let second = table.begin(BOB, &[], 1);
    assert_eq!(table.work(ANN, &maps, vec![], 1).stop, maps[..1], "Bob has it");
    table.finish(ANN, &maps[1..]);
    table.finish(BOB, &second);
    assert_eq!(table.view(job).summary.phase, Phase::Reduce);
    // What is finished is of no use any more.
    assert_eq!(table.work(ANN, &maps, vec![], 0).stop, maps);
}

#[test]
fn an_attempt_whose_lease_ran_out_is_handed_out_again_and_the_worker_is_told_to_stop() {
    let mut table = Table::default();
    table.submit(spec(1, 1, 1));
    let first = table.begin(ANN, &[], 1);
    assert_eq!(table.coordinator.due(), Some(limits::LEASE));
    table.wait(3 * SECOND);
    assert_eq!(table.work(ANN, &first, vec![], 1).stop, []);
    assert_eq!(table.coordinator.due(), Some(3 * SECOND + limits::LEASE));
    table.wait(limits::LEASE - Duration::from_nanos(1));
    assert!(!table.is_ready_for(BOB, &[]));
    table.wait(Duration::from_nanos(1));
    assert!(table.is_ready_for(BOB, &[]) && table.is_ready_for(ANN, &first));
    assert_eq!(table.coordinator.due(), None);
    let second = table.begin(BOB, &[], 1);
    assert_eq!(second, [AttemptId { attempt: Attempt(2), ..first[0] }]);
    assert_eq!(table.work(ANN, &first, vec![], 0).stop, first);
}

#[test]
fn what_finishes_after_its_lease_counts_if_it_is_the_first() {
    let mut table = Table::default();
    let job = table.submit(spec(1, 1, 1));
    let first = table.begin(ANN, &[], 1);
    table.wait(limits::LEASE);
    let second = table.begin(BOB, &[], 1);
    table.finish(ANN, &first);
    assert_eq!(table.work(BOB, &second, vec![], 0).stop, second);
    table.finish(BOB, &second);
    let reduce = table.begin(ANN, &[], 1);
    assert_eq!(table.inputs(reduce[0]), Some(vec![Attempt(1)]));
    assert_eq!(table.view(job).summary.maps.done, 1);
}

#[test]
fn a_worker_that_never_heard_of_an_attempt_gives_it_back() {
    let mut table = Table::default();
    let job = table.submit(spec(1, 1, 1));
    table.begin(ANN, &[], 1);
    // The answer was lost.
    let again = table.begin(ANN, &[], 1);
    assert_eq!(again, [id(job, TaskId::Map(0), 2)]);
    assert_eq!(table.view(job).failures, []);
}

#[test]
fn a_worker_that_leaves_gives_all_back_at_once() {
    let mut table = Table::default();
    let job = table.submit(spec(2, 1, 1));
    let maps = table.begin(ANN, &[], 2);
    let reports = vec![Report::Finished(maps[0], Counts::default())];
    assert_eq!(table.apply(Command::Leave { worker: ANN, reports }), Response::Left);
    assert_eq!(table.begin(BOB, &[], 2), [id(job, TaskId::Map(1), 2)]);
}

#[test]
fn a_task_that_fails_too_often_fails_its_job_with_the_last_text_and_no_other_job() {
    let mut table = Table::default();
    let (job, other) = (table.submit(spec(1, 1, 2)), table.submit(spec(1, 1, 2)));
    for text in ["first", "second"] {
        assert_eq!(table.state(job), JobState::Unfinished);
        let begun = table.begin(ANN, &[], 2);
        let failing = begun.iter().find(|id| id.job == job).unwrap();
        table.work(ANN, &[], vec![Report::Failed(*failing, text.to_owned())], 0);
        table.wait(limits::FAILED_REST);
    }
    let why = "map task 0 failed 2 times, the last time: second".to_owned();
    assert_eq!(table.state(job), JobState::Failed(why));
    let texts: Vec<String> = table.view(job).failures.into_iter().map(|one| one.text).collect();
    assert_eq!(texts, ["first", "second"]);
    assert_eq!(table.state(other), JobState::Unfinished);
}

#[test]
fn a_failure_that_is_told_twice_counts_once() {
    let mut table = Table::default();
    let job = table.submit(spec(1, 1, 2));
    let begun = table.begin(ANN, &[], 1);
    let failed = || vec![Report::Failed(begun[0], "no".to_owned())];
    table.work(ANN, &[], failed(), 0);
    table.work(ANN, &[], failed(), 0);
    assert_eq!(table.state(job), JobState::Unfinished);
}

#[test]
fn a_task_that_takes_its_workers_with_it_fails_its_job() {
    let mut table = Table::default();
    let job = table.submit(spec(1, 1, 1));
    for _ in 0..3 {
        assert_eq!(table.state(job), JobState::Unfinished);
        table.begin(ANN, &[], 1);
        table.wait(limits::LEASE);
    }
    let why = "map task 0 (word-count: memory:///in, bytes 0 to 10) was lost 3 times, the last time with its worker".to_owned();
    assert_eq!(table.state(job), JobState::Failed(why));
}

#[test]
fn a_long_text_is_cut() {
    let mut table = Table::default();
    let job = table.submit(spec(1, 1, 2));
    let begun = table.begin(ANN, &[], 1);
    table.work(ANN, &[], vec![Report::Failed(begun[0], "ä".repeat(10_000))], 0);
    let text = &table.view(job).failures[0].text;
    assert!(text.len() < 1_010 && text.ends_with("ä…"), "{text}");
}

#[test]
fn nobody_speaks_for_another_worker() {
    let mut table = Table::default();
    let job = table.submit(spec(1, 1, 1));
    let begun = table.begin(ANN, &[], 1);
    table.finish(BOB, &begun);
    table.work(BOB, &[], vec![Report::Failed(begun[0], "no".to_owned())], 0);
    assert_eq!(table.work(BOB, &begun, vec![], 0).stop, begun);
    assert_eq!(table.view(job).summary.maps.done, 0);
    assert_eq!(table.work(ANN, &begun, vec![], 0).stop, []);
}

#[test]
fn what_was_never_handed_out_cannot_finish() {
    let mut table = Table::default();
    let job = table.submit(spec(1, 1, 1));
    let bogus =
        [id(job, TaskId::Map(0), 1), id(job, TaskId::Map(7), 1), id(job, TaskId::Publish, 0)];
    table.finish(ANN, &bogus);
    table.finish(ANN, &[id(JobId(999), TaskId::Publish, 1)]);
    assert_eq!(table.view(job).summary.maps.done, 0);
    assert_eq!(table.state(job), JobState::Unfinished);
}

#[test]
fn a_job_that_is_cancelled_stops_at_all_workers() {
    let mut table = Table::default();
    let job = table.submit(spec(2, 1, 1));
    let maps = table.begin(ANN, &[], 2);
    assert_eq!(table.apply(Command::Forget { job }), Response::HasNotEnded);
    assert_eq!(table.apply(Command::Cancel { job }), Response::Cancelled);
    assert!(table.is_ready_for(ANN, &maps));
    assert_eq!(
        table.work(ANN, &maps, vec![], 2),
        Orders { begin: vec![], stop: maps, lease: limits::LEASE, ends: false }
    );
    assert_eq!(table.apply(Command::Cancel { job }), Response::Cancelled);
    assert_eq!(table.apply(Command::Forget { job }), Response::Forgotten);
    assert_eq!(table.apply(Command::Cancel { job }), Response::NoJob);
}

#[test]
fn workers_end_when_no_more_jobs_are_taken_and_all_are_done() {
    let mut table = Table::default();
    let job = table.submit(spec(0, 1, 1));
    table.apply(Command::Close);
    let refused = table.apply(Command::Submit { token: 99, spec: spec(0, 1, 1) });
    assert!(matches!(refused, Response::Refused(_)));
    let reduce = table.begin(ANN, &[], 1);
    assert!(
        !table.finish(ANN, &reduce).ends
            && !table.coordinator.is_ready(&Query::Done(job), LogIndex(0))
    );
    let publish = table.begin(ANN, &[], 1);
    assert!(!table.is_ready_for(BOB, &[]));
    assert!(table.finish(ANN, &publish).ends);
    assert!(
        table.is_ready_for(BOB, &[]) && table.coordinator.is_ready(&Query::Done(job), LogIndex(0))
    );
}

#[test]
fn a_coordinator_that_is_opened_again_takes_jobs_and_keeps_its_workers() {
    let mut table = Table::default();
    table.apply(Command::Close);
    assert!(table.work(ANN, &[], vec![], 1).ends);
    let refused = table.apply(Command::Submit { token: 99, spec: spec(1, 1, 1) });
    let Response::Refused(why) = refused else { panic!("{refused:?}") };
    assert!(why.contains("`open`"), "{why}");
    for _ in 0..2 {
        assert_eq!(table.apply(Command::Open), Response::Opened);
        assert!(!table.is_ready_for(BOB, &[]));
    }
    table.submit(spec(1, 1, 1));
    let orders = table.work(ANN, &[], vec![], 1);
    assert!(!orders.ends && orders.begin.len() == 1);
}

#[test]
fn a_log_of_an_earlier_version_reads_as_it_was_written() {
    let (worker, reports, job) = (ANN, vec![], JobId(1));
    let commands = [
        Command::Submit { token: 1, spec: spec(1, 1, 1) },
        Command::Cancel { job },
        Command::Work { worker, running: vec![], reports: vec![], slots: 1 },
        Command::Leave { worker, reports },
        Command::Close,
        Command::Forget { job },
        Command::Open,
    ];
    let numbers = commands.map(|command| postcard::to_allocvec(&command).unwrap()[0]);
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_worker_that_claims_too_much_is_not_let_into_the_log() {
    let admission = Coordinator::default().admission();
    let attempt = id(JobId(1), TaskId::Publish, 1);
    let (worker, slots) = (ANN, u32::MAX);
    let command =
        |count| Command::Work { worker, running: vec![attempt; count], reports: vec![], slots };
    assert!(admission(&command(limits::SLOTS_MAX)).is_ok());
    assert!(admission(&command(limits::SLOTS_MAX + 1)).is_err());
}

#[test]
fn nobody_is_given_more_than_a_bounded_number_of_attempts_at_once() {
    let mut table = Table::default();
    table.submit(spec(3_000, 1, 1));
    assert_eq!(table.begin(ANN, &[], u32::MAX).len(), limits::SLOTS_MAX);
}
