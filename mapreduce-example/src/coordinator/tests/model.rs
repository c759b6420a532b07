//! The table does what a plain model of its rules does, whatever comes; and all that it counts is what a recount finds.

use std::collections::BTreeSet;

use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::images::restored;
use super::*;
use crate::swarm::oracle::Oracle;

/// A command over few workers and jobs, so that they meet, some time after the last.
#[derive(Clone, Debug)]
struct Step {
    waits: u64,
    kind: u8,
    worker: u64,
    draws: Vec<u8>,
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Step {
        Step {
            waits: *g
                .choose(&[0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 7, 9, 14, 130, 8_000])
                .unwrap_or(&0),
            kind: u8::arbitrary(g),
            worker: u64::arbitrary(g) % 3,
            draws: (0..24).map(|_| u8::arbitrary(g)).collect(),
        }
    }
}

/// What the outside world knows.
#[derive(Default)]
struct World {
    jobs: Vec<JobId>,
    /// What each worker was ever given and has not reported.
    given: Vec<(u64, AttemptId)>,
    all_given: BTreeSet<AttemptId>,
}

impl World {
    fn command(&mut self, step: &Step) -> Command {
        let mut draws = step.draws.iter().copied();
        let mut draw = |below: u8| draws.next().unwrap_or(0) % below;
        let worker = WorkerId(step.worker);
        let job = self.jobs.iter().rev().nth(draw(4).into()).copied().unwrap_or(JobId(0));
        match step.kind {
            0..=25 => {
                let (maps, reducers) = (u64::from(draw(6)), u32::from(draw(4)));
                let failures_max = u32::from(draw(4));
                let token = u128::from(draw(200));
                Command::Submit { token, spec: spec(maps, reducers, failures_max) }
            }
            26..=29 => Command::Cancel { job },
            30..=31 => Command::Forget { job },
            32..=33 => Command::Close,
            34..=36 => Command::Open,
            37 => Command::Leave { worker, reports: vec![] },
            _ => {
                let (mut running, mut reports) = (Vec::new(), Vec::new());
                let mut kept = Vec::new();
                for (of, id) in self.given.drain(..) {
                    // Now and then a worker speaks of what is another's.
                    if of != step.worker && draw(16) != 0 {
                        kept.push((of, id));
                        continue;
                    }
                    let counts = Counts { bytes_in: u64::from(draw(9)), ..Counts::default() };
                    let lost = Attempt(u32::from(draw(3)) + 1);
                    match draw(8) {
                        0..=2 => reports.push(Report::Finished(id, counts)),
                        3 => reports.push(Report::Failed(id, format!("text {}", draw(9)))),
                        4 => {
                            let map = u32::from(draw(6));
                            reports.push(Report::LostMap { attempt: id, map, lost });
                        }
                        5 => reports.push(Report::GaveBack(id)),
                        _ => running.push(id),
                    }
                    kept.push((of, id));
                }
                self.given = kept;
                if step.kind < 45 {
                    return Command::Leave { worker, reports };
                }
                Command::Work { worker, running, reports, slots: u32::from(draw(4)) }
            }
        }
    }

    fn told(&mut self, worker: u64, response: &Response) {
        match response {
            Response::Submitted(job) => self.jobs.push(*job),
            Response::Work(orders) => {
                for id in &orders.begin {
                    assert!(self.all_given.insert(*id), "{id} is handed out twice");
                }
                self.given.retain(|(_, id)| !orders.stop.contains(id) || id.attempt.0 % 2 == 0);
                self.given.extend(orders.begin.iter().map(|id| (worker, *id)));
                let many = self.given.len().saturating_sub(12);
                self.given.drain(..many);
            }
            Response::Refused(_)
            | Response::Cancelled
            | Response::HasEnded
            | Response::HasNotEnded
            | Response::NoJob
            | Response::Left
            | Response::Closed
            | Response::Forgotten
            | Response::Opened => {}
        }
    }
}

/// What is handed out is not finished, no task has more than two attempts, and no two of one worker.
fn check_orders(oracle: &Oracle, worker: WorkerId, response: &Response) {
    let running = oracle.running();
    let Response::Work(orders) = response else { return };
    for id in &orders.begin {
        let finished = oracle.finished(id.job);
        assert!(!finished.contains_key(&id.task), "{id} is finished");
        let of_task =
            running.iter().filter(|(other, _)| (other.job, other.task) == (id.job, id.task));
        let workers: Vec<WorkerId> = of_task.map(|(_, (worker, _))| *worker).collect();
        assert!(workers.len() <= 2, "{id} is one of {}", workers.len());
        assert_eq!(workers.iter().filter(|of| **of == worker).count(), 1, "{id}");
    }
}

fn check_table(table: &Table, oracle: &Oracle) {
    let coordinator = &table.coordinator;
    for job in oracle.jobs() {
        let view = table.view(job);
        assert_eq!(Some(view.state), oracle.state(job));
        if oracle.state(job) == Some(JobState::Unfinished) {
            let summary = view.summary;
            let finished = oracle.finished(job);
            let maps = finished.keys().filter(|task| matches!(task, TaskId::Map(_))).count();
            let reduces = finished.keys().filter(|task| matches!(task, TaskId::Reduce(_))).count();
            let done = (summary.maps.done, summary.reduces.done);
            assert_eq!(done, (u32::try_from(maps).unwrap(), u32::try_from(reduces).unwrap()));
        }
    }
    let running = oracle.running();
    let state = &coordinator.state;
    let held = running.keys().all(|id| state.attempts.get(*id).is_some());
    let all: usize = oracle.jobs().map(|job| state.attempts.of_job(job).count()).sum();
    assert!(held && all == running.len(), "other attempts run: {running:?}");
    // Time is to be told when the first lease or rest ends, and not later; earlier only for a straggler.
    let first_end = running.values().map(|(_, ends_at)| *ends_at).chain(oracle.next_rest()).min();
    let due = coordinator.due();
    match (due, first_end) {
        (Some(due), Some(end)) => {
            assert!(due <= end && due > table.time);
            let is_straggler = state.stragglers.iter().any(|(late, _)| *late == due);
            assert!(due == end || is_straggler);
        }
        (due, end) => assert_eq!(due, end),
    }
    // Everything that is derived is what a recount finds.
    assert_eq!(restored(coordinator), *coordinator);
}

fn play(steps: Vec<Step>) -> bool {
    let (mut table, mut oracle, mut world) =
        (Table::default(), Oracle::default(), World::default());
    for step in steps {
        let command = world.command(&step);
        table.time += Duration::from_millis(500 * step.waits);
        oracle.advance(table.time);
        table.wait(Duration::ZERO);
        let worker = WorkerId(step.worker);
        let (running, is_free) = (vec![], true);
        let query = Query::WorkFor { worker, running, is_free };
        let was_ready = table.coordinator.is_ready(&query, LogIndex(0));
        let is_plain = matches!(&command, Command::Work { reports, running, slots: 1.., .. }
            if reports.is_empty() && running.is_empty() && !oracle.running().values().any(|(of, _)| *of == worker));
        let response = table.apply(command.clone());
        let expected = oracle.apply(table.index, table.time, command.clone());
        assert_eq!(response, expected, "{command:?}");
        if let (true, Response::Work(orders)) = (is_plain, &response) {
            assert_eq!(was_ready, orders.ends || !orders.begin.is_empty(), "{command:?}");
        }
        check_orders(&oracle, worker, &response);
        check_table(&table, &oracle);
        world.told(step.worker, &response);
    }
    true
}

#[test]
fn the_table_does_what_the_model_does() {
    let generator = Gen::new(150);
    QuickCheck::new().rng(generator).tests(400).quickcheck(play as fn(Vec<Step>) -> bool);
}
