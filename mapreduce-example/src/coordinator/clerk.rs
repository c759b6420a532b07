//! The coordinator as those see it who submit jobs and wait for them.

use std::time::Duration;

use raft_rsm::{Client, ClientError};

use super::{Answer, Command, Coordinator, JobState, JobSummary, JobView, Query, Response};
use crate::task::{JobId, JobSpec};

/// Submits jobs, and asks for them. Each command may be repeated, so it is sent until there is an answer.
#[derive(Clone, Debug)]
pub struct Clerk {
    client: Client<Coordinator>,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClerkError {
    /// *Definitely not*: the coordinator has said why.
    #[error("{0}")]
    Refused(String),
    /// There is no such job, or none any more.
    #[error("there is no such job, or none any more")]
    NoJob,
    /// The job had ended before.
    #[error("the job has ended before")]
    HasEnded,
    /// The job has not ended.
    #[error("the job has not ended")]
    HasNotEnded,
    /// There was no answer; the error says whether it may be done all the same. It may be asked for again.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The answer does not fit the question: client and nodes are not of the same version.
    #[error("the coordinator's answer does not fit the question")]
    Unfit,
}

impl Clerk {
    /// A clerk that asks `client`.
    #[must_use]
    pub fn new(client: Client<Coordinator>) -> Clerk {
        Clerk { client }
    }

    /// Submits a job; the same `token`, a random number, is the same submission.
    ///
    /// # Errors
    /// It is not taken; or it may be: then it may be submitted again under the same token.
    pub async fn submit(&self, token: u128, spec: JobSpec) -> Result<JobId, ClerkError> {
        let response = self.command(Command::Submit { token, spec }).await?;
        let Response::Submitted(job) = response else { return Err(unexpected(response)) };
        Ok(job)
    }

    /// Whether a job would be taken now: for whoever has something to do before it is submitted.
    ///
    /// # Errors
    /// It would not be, or nobody answers.
    pub async fn has_room(&self, spec: &JobSpec) -> Result<(), ClerkError> {
        let answer = self.client.query(&Query::HasRoom(spec.clone())).await?;
        let Answer::HasRoom(has_room) = answer else { return Err(ClerkError::Unfit) };
        has_room.map_err(ClerkError::Refused)
    }

    /// Cancels a job, if it has not ended.
    ///
    /// # Errors
    /// There is none, it has ended otherwise, or nobody answers.
    pub async fn cancel(&self, job: JobId) -> Result<(), ClerkError> {
        let response = self.command(Command::Cancel { job }).await?;
        let Response::Cancelled = response else { return Err(unexpected(response)) };
        Ok(())
    }

    /// Forgets a job that has ended.
    ///
    /// # Errors
    /// There is none, it has not ended, or nobody answers.
    pub async fn forget(&self, job: JobId) -> Result<(), ClerkError> {
        let response = self.command(Command::Forget { job }).await?;
        let Response::Forgotten = response else { return Err(unexpected(response)) };
        Ok(())
    }

    /// No more jobs are taken, until the coordinator is [opened](Clerk::open), and workers end when all that were taken are done.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn close(&self) -> Result<(), ClerkError> {
        let response = self.command(Command::Close).await?;
        let Response::Closed = response else { return Err(unexpected(response)) };
        Ok(())
    }

    /// Jobs are taken again, if the coordinator was closed.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn open(&self) -> Result<(), ClerkError> {
        let response = self.command(Command::Open).await?;
        let Response::Opened = response else { return Err(unexpected(response)) };
        Ok(())
    }

    /// How a job stands once it has ended, or after `wait`; `None` if it is not known.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn done(&self, job: JobId, wait: Duration) -> Result<Option<JobState>, ClerkError> {
        let answer = self.client.query_when_ready(&Query::Done(job), wait).await?;
        let Answer::Done(state) = answer else { return Err(ClerkError::Unfit) };
        Ok(state)
    }

    /// All jobs, in the order in which they were submitted.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn jobs(&self) -> Result<Vec<JobSummary>, ClerkError> {
        let Answer::Jobs(jobs) = self.client.query(&Query::Jobs).await? else {
            return Err(ClerkError::Unfit);
        };
        Ok(jobs)
    }

    /// One job, at length; `None` if it is not known.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn job(&self, job: JobId) -> Result<Option<JobView>, ClerkError> {
        let Answer::Job(view) = self.client.query(&Query::Job(job)).await? else {
            return Err(ClerkError::Unfit);
        };
        Ok(view.map(|view| *view))
    }

    async fn command(&self, command: Command) -> Result<Response, ClerkError> {
        Ok(self.client.propose_until_answered(&command).await?.response)
    }
}

fn unexpected(response: Response) -> ClerkError {
    match response {
        Response::Refused(why) => ClerkError::Refused(why),
        Response::NoJob => ClerkError::NoJob,
        Response::HasEnded => ClerkError::HasEnded,
        Response::HasNotEnded => ClerkError::HasNotEnded,
        Response::Submitted(_)
        | Response::Cancelled
        | Response::Work(_)
        | Response::Left
        | Response::Closed
        | Response::Forgotten
        | Response::Opened => ClerkError::Unfit,
    }
}
