//! What the log itself says of a run: replayed by a plain model of the rules, it shows what workers must have been told; and what they did
//! is held against it.

use std::collections::{BTreeMap, BTreeSet};

use raft_sim::Told;
use raft_sim::event::Digest;

use super::oracle::Oracle;
use super::toy::Store;
use crate::coordinator::limits::FAILED_REST_MAX;
use crate::coordinator::{Command, Report, Response, WorkerId};
use crate::task::{AttemptId, JobId, TaskId};

/// What a run shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Attempts that were handed out.
    pub handed_out: BTreeSet<AttemptId>,
    /// Which tasks were finished, as often as they were.
    pub finished: BTreeMap<(JobId, TaskId), u64>,
    /// Reports that the output of a map task is lost.
    pub losses: u64,
    /// Attempts that failed.
    pub failures: u64,
}

/// Replays what the machines were told.
///
/// # Errors
/// What is wrong, in a sentence: an answer that the rules do not give; a task that was handed out although it was finished and
/// not lost, or to a worker that failed at it last, not long ago, while others work; an attempt that was handed out, or begun,
/// twice; one that was begun and never handed out; one that was reported to have finished and has written nothing; tasks that
/// were done again although nothing of theirs was lost.
pub fn judge(told: &[Told<Command>], store: &Store) -> Result<Verdict, String> {
    let (mut oracle, mut verdict) = (Oracle::default(), Verdict::default());
    let (mut failed, mut reported) = (BTreeMap::new(), BTreeSet::new());
    for Told { context, at: _, command } in told {
        oracle.advance(context.time);
        let Some((command, answered)) = command else { continue };
        let before = finished(&oracle, command);
        let failing = failing(&oracle, command);
        verdict.failures += failing.len() as u64;
        failed.extend(failing.into_iter().map(|(task, worker)| (task, (worker, context.time))));
        for report in reports(command) {
            match report {
                Report::Finished(id, _) => {
                    reported.insert(*id);
                }
                // That others are to try it may be because of this one.
                Report::LostMap { attempt, .. } => {
                    failed.remove(&(attempt.job, attempt.task));
                    verdict.losses += 1;
                }
                Report::Failed(..) | Report::GaveBack(_) => {}
            }
        }
        let response = oracle.apply(context.index.0, context.time, command.clone());
        if Digest::of_value(&response) != *answered {
            return Err(format!(
                "the command of entry {} must be answered by {response:?}, and was not: {command:?}",
                context.index
            ));
        }
        let after = finished(&oracle, command);
        for done in after.difference(&before) {
            *verdict.finished.entry(*done).or_default() += 1;
        }
        let Response::Work(orders) = response else { continue };
        for id in orders.begin {
            if after.contains(&(id.job, id.task)) {
                return Err(format!("{id} is handed out, and its task is finished"));
            }
            let running = oracle.running();
            if let Some((worker, _)) = running.get(&id)
                && let Some((of, at)) = failed.get(&(id.job, id.task))
                && of == worker
                && context.time < *at + FAILED_REST_MAX
                && oracle.are_there_others(*worker)
            {
                return Err(format!("{id} is handed out to {worker}, which has failed at it"));
            }
            if !verdict.handed_out.insert(id) {
                return Err(format!("{id} is handed out twice"));
            }
        }
    }
    let mut begun = BTreeSet::new();
    for done in store.log() {
        if !verdict.handed_out.contains(&done.id) {
            return Err(format!("{} is begun and was never handed out", done.id));
        }
        if !begun.insert(done.id) {
            return Err(format!("{} is begun twice", done.id));
        }
        if done.written.is_some() {
            reported.remove(&done.id);
        }
    }
    if let Some(id) = reported.first() {
        return Err(format!("{id} is said to have finished, and has written nothing"));
    }
    let again: u64 = verdict.finished.values().map(|times| times - 1).sum();
    let lost = store.lost();
    if again > lost {
        return Err(format!("finished tasks were done again {again} times, for {lost} losses"));
    }
    Ok(verdict)
}

/// What a worker says of its attempts.
fn reports(command: &Command) -> &[Report] {
    match command {
        Command::Work { reports, .. } | Command::Leave { reports, .. } => reports,
        Command::Submit { .. }
        | Command::Cancel { .. }
        | Command::Close
        | Command::Forget { .. }
        | Command::Open => &[],
    }
}

/// Which tasks fail by a command, and where.
fn failing(oracle: &Oracle, command: &Command) -> BTreeMap<(JobId, TaskId), WorkerId> {
    let (Command::Work { worker, reports, .. } | Command::Leave { worker, reports }) = command
    else {
        return BTreeMap::new();
    };
    let running = oracle.running();
    let failing = reports.iter().filter_map(|report| match report {
        Report::Failed(id, _) if running.get(id).is_some_and(|(of, _)| of == worker) => Some(id),
        Report::Failed(..)
        | Report::Finished(..)
        | Report::LostMap { .. }
        | Report::GaveBack(_) => None,
    });
    failing.map(|id| ((id.job, id.task), *worker)).collect()
}

/// All tasks that are finished of the jobs that reports speak of.
fn finished(oracle: &Oracle, command: &Command) -> BTreeSet<(JobId, TaskId)> {
    let (Command::Work { .. } | Command::Leave { .. }) = command else { return BTreeSet::new() };
    let of_job = |job| oracle.finished(job).into_keys().map(move |task| (job, task));
    oracle.jobs().flat_map(of_job).collect()
}
