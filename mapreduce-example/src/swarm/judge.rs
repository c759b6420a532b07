//! What the log itself says of a run: replayed by a plain model of the rules, it shows what workers must have been told; and what they did
//! is held against it.

use std::collections::{BTreeMap, BTreeSet};

use raft_sim::Told;
use raft_sim::event::Digest;

use super::oracle::Oracle;
use super::toy::Store;
use crate::coordinator::{Command, Report, Response};
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
}

/// Replays what the machines were told.
///
/// # Errors
/// What is wrong, in a sentence: an answer that the rules do not give; a task that was handed out although it was finished and
/// not lost; an attempt that was handed out, or begun, twice; one that was begun and never handed out.
pub fn judge(told: &[Told<Command>], store: &Store) -> Result<Verdict, String> {
    let (mut oracle, mut verdict) = (Oracle::default(), Verdict::default());
    for Told { context, at: _, command } in told {
        oracle.advance(context.time);
        let Some((command, answered)) = command else { continue };
        let before = finished(&oracle, command);
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
        if let Command::Work { reports, .. } | Command::Leave { reports, .. } = command {
            let losses = reports.iter().filter(|report| matches!(report, Report::LostMap { .. }));
            verdict.losses += losses.count() as u64;
        }
        let Response::Work(orders) = response else { continue };
        for id in orders.begin {
            if after.contains(&(id.job, id.task)) {
                return Err(format!("{id} is handed out, and its task is finished"));
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
    }
    let again: u64 = verdict.finished.values().map(|times| times - 1).sum();
    if again > verdict.losses {
        let losses = verdict.losses;
        return Err(format!("finished tasks were done again {again} times, for {losses} losses"));
    }
    Ok(verdict)
}

/// All tasks that are finished of the jobs that reports speak of.
fn finished(oracle: &Oracle, command: &Command) -> BTreeSet<(JobId, TaskId)> {
    let (Command::Work { .. } | Command::Leave { .. }) = command else { return BTreeSet::new() };
    let of_job = |job| oracle.finished(job).into_keys().map(move |task| (job, task));
    oracle.jobs().flat_map(of_job).collect()
}
