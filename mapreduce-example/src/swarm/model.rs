//! What clients of the coordinator may be told of a job.

use raft_sim::model::Model;

use crate::coordinator::JobState;
use crate::task::JobId;

/// What a client asks for, about the job of this token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// It is to be done.
    Submit(u64),
    /// How does it stand?
    Ask(u64),
    /// It is not wanted any more.
    Cancel(u64),
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The job is taken.
    Submitted(JobId),
    /// How it stands.
    State(JobState),
    /// It has ended, and cannot be cancelled.
    HasEnded,
}

/// A job, as far as clients know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Job {
    id: Option<JobId>,
    /// How it ended; in words, since the machine's own has no order.
    end: Option<String>,
    is_cancelled: bool,
}

/// The specification of a job: a token is one job, and what has ended stays as it ended.
#[derive(Copy, Clone, Debug, Default)]
pub struct Jobs;

impl Model for Jobs {
    type Input = Request;
    type Output = Reply;
    type State = Job;
    type Key = u64;

    fn key(&self, input: &Request) -> Option<u64> {
        match input {
            Request::Submit(token) | Request::Ask(token) | Request::Cancel(token) => Some(*token),
        }
    }

    fn initial(&self) -> Job {
        Job::default()
    }

    fn step(&self, job: &Job, input: &Request, output: Option<&Reply>) -> Option<Job> {
        let mut after = job.clone();
        let is_right = match (input, output) {
            (Request::Submit(_), Some(Reply::Submitted(id))) => *after.id.get_or_insert(*id) == *id,
            (Request::Ask(_), Some(Reply::State(JobState::Unfinished))) => {
                job.end.is_none() && !job.is_cancelled
            }
            (Request::Ask(_) | Request::Cancel(_), Some(Reply::State(state))) => {
                let is_cancelled = *state == JobState::Cancelled;
                let state = format!("{state:?}");
                let is_same = job.end.as_ref().is_none_or(|end| *end == state);
                (after.end, after.is_cancelled) = (Some(state), is_cancelled);
                is_same && (is_cancelled || !job.is_cancelled)
            }
            (Request::Cancel(_), Some(Reply::HasEnded)) => !job.is_cancelled,
            // Nobody knows of it, and what it did is seen later, or never.
            (Request::Submit(_) | Request::Ask(_) | Request::Cancel(_), None) => true,
            (Request::Submit(_) | Request::Ask(_) | Request::Cancel(_), Some(_)) => false,
        };
        is_right.then_some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_right(story: &[(Request, Reply)]) -> bool {
        let mut job = Jobs.initial();
        story.iter().all(|(request, reply)| match Jobs.step(&job, request, Some(reply)) {
            Some(after) => {
                job = after;
                true
            }
            None => false,
        })
    }

    #[test]
    fn a_token_that_becomes_two_jobs_is_found_out() {
        let submitted = |id| (Request::Submit(1), Reply::Submitted(JobId(id)));
        assert!(is_right(&[submitted(5), submitted(5)]));
        assert!(!is_right(&[submitted(5), submitted(6)]));
    }

    #[test]
    fn a_job_that_goes_on_after_its_end_is_found_out() {
        let state = |state| (Request::Ask(1), Reply::State(state));
        assert!(is_right(&[state(JobState::Unfinished), state(JobState::Succeeded)]));
        assert!(!is_right(&[state(JobState::Succeeded), state(JobState::Unfinished)]));
        assert!(!is_right(&[state(JobState::Succeeded), state(JobState::Cancelled)]));
    }
}
