//! What the table of tasks says when it is asked.

use std::sync::Arc;

use super::command::{Answer, JobState, JobView, Query, RunningView};
use super::job::{Job, at};
use super::limits::{RUNNING_SHOWN_MAX, SLOTS_MAX};
use super::state::State;
use crate::task::{Attempt, AttemptId, JobId};

pub(super) fn answer(state: &State, query: Query) -> Answer {
    match query {
        Query::Jobs => Answer::Jobs(state.jobs.iter().map(|(id, job)| job.summary(*id)).collect()),
        Query::Job(id) => {
            let job = state.jobs.get(&id);
            Answer::Job(job.map(|job| Box::new(view(state, id, job))))
        }
        Query::Spec(id) => {
            let job = state.jobs.get(&id).filter(|job| job.end.is_none());
            Answer::Spec(job.map(|job| Arc::clone(&job.spec)))
        }
        Query::Inputs(attempt) => Answer::Inputs(inputs(state, attempt)),
        Query::WorkFor { .. } => Answer::WorkFor(is_ready(state, &query)),
        Query::Done(id) => Answer::Done(state.jobs.get(&id).map(|job| job.state())),
        Query::HasRoom(spec) => Answer::HasRoom(state.has_room(&spec)),
    }
}

pub(super) fn is_ready(state: &State, query: &Query) -> bool {
    match query {
        Query::WorkFor { worker, running, is_free } => {
            let is_held = |id: &AttemptId| {
                state.attempts.get(*id).is_some_and(|running| running.worker == *worker)
            };
            // More than a worker may name: it hears of that when it says so.
            state.has_ended()
                || running.len() > SLOTS_MAX
                || (*is_free && state.next_for(*worker).is_some())
                || !running.iter().all(is_held)
        }
        Query::Done(id) => state.jobs.get(id).is_none_or(|job| job.state() != JobState::Unfinished),
        Query::Jobs | Query::Job(_) | Query::Spec(_) | Query::Inputs(_) | Query::HasRoom(_) => true,
    }
}

fn inputs(state: &State, attempt: AttemptId) -> Option<Vec<Attempt>> {
    state.attempts.get(attempt)?;
    state.jobs.get(&attempt.job)?.inputs(attempt.task)
}

fn view(state: &State, id: JobId, job: &Job) -> JobView {
    let until = job.end.as_ref().map_or(state.time, |end| end.at);
    let mut running: Vec<RunningView> = state
        .attempts
        .of_job(id)
        .map(|(attempt, running)| {
            let age = state.time.saturating_sub(running.since);
            let patience = job.of_phase(at(attempt.task).0).patience();
            let is_straggler = patience.is_some_and(|patience| patience <= age);
            RunningView { attempt, worker: running.worker, age, is_straggler }
        })
        .collect();
    running.sort_by_key(|running| std::cmp::Reverse(running.age));
    running.truncate(RUNNING_SHOWN_MAX);
    JobView {
        summary: job.summary(id),
        output: job.spec.output.clone(),
        state: job.state(),
        age: until.saturating_sub(job.submitted_at),
        running,
        failures: job.failures.iter().cloned().collect(),
    }
}
