//! What a worker remembers of jobs, so that it need not ask for each attempt.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::lock::Mutex;
use raft_rsm::{Client, ClientError};

use crate::coordinator::{Answer, Coordinator, Query, limits};
use crate::task::{JobId, JobSpec};

/// All that is remembered is at most so long, in bytes, but one specification always is.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// The specifications of the last jobs.
#[derive(Default)]
pub(super) struct Specs {
    /// Held by whoever asks for one, so that each is asked for once.
    by_job: Mutex<BTreeMap<JobId, Arc<JobSpec>>>,
}

impl Specs {
    /// What is to be done for a job; `None` if the job has ended.
    pub(super) async fn find(
        &self,
        client: &Client<Coordinator>,
        job: JobId,
    ) -> Result<Option<Arc<JobSpec>>, ClientError> {
        let mut by_job = self.by_job.lock().await;
        if let Some(spec) = by_job.get(&job) {
            return Ok(Some(Arc::clone(spec)));
        }
        let Answer::Spec(Some(spec)) = client.query(&Query::Spec(job)).await? else {
            return Ok(None);
        };
        by_job.insert(job, Arc::clone(&spec));
        let mut bytes: usize = by_job.values().map(|spec| limits::bytes(spec)).sum();
        while bytes > BYTES_MAX
            && let Some(oldest) = by_job.keys().copied().find(|of| *of != job)
        {
            bytes -= by_job.remove(&oldest).map_or(0, |spec| limits::bytes(&spec));
        }
        Ok(Some(spec))
    }
}
