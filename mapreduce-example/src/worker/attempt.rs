//! One attempt, from its beginning to its report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::mpsc;
use futures::executor::block_on;
use raft_rsm::runtime::blocking;
use raft_rsm::{Client, ClientError, Runtime};

use super::specs::Specs;
use super::{Event, Ground, PAUSE};
use crate::coordinator::{Answer, Coordinator, Query, Report, limits};
use crate::task::{Attempt, AttemptId, Executor, Stop, TaskError, TaskId, Work};

/// Begins attempts. What comes of them arrives as [`Event::Ended`]: exactly once for each, whatever happens.
#[derive(Clone)]
pub(super) struct Attempts {
    runtime: Arc<dyn Runtime>,
    client: Client<Coordinator>,
    executor: Arc<dyn Executor>,
    ground: Ground,
    specs: Arc<Specs>,
    events: mpsc::UnboundedSender<Event>,
}

/// Tells an attempt to stop.
#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Stop for Flag {
    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reports the end of an attempt when it is dropped: also where a panic has ended the task.
struct Ending {
    id: AttemptId,
    report: Option<Report>,
    events: mpsc::UnboundedSender<Event>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let panicked = || Report::Failed(self.id, format!("{} panicked", self.id));
        let report = self.report.take().unwrap_or_else(panicked);
        // A worker that has gone does not want it.
        let _ = self.events.unbounded_send(Event::Ended(report));
    }
}

impl Attempts {
    pub(super) fn new(
        runtime: Arc<dyn Runtime>,
        client: Client<Coordinator>,
        executor: Arc<dyn Executor>,
        ground: Ground,
        events: mpsc::UnboundedSender<Event>,
    ) -> Attempts {
        Attempts { runtime, client, executor, ground, specs: Arc::default(), events }
    }

    pub(super) fn begin(&self, id: AttemptId) -> Arc<Flag> {
        let flag = Arc::new(Flag::default());
        let (attempts, stop) = (self.clone(), Arc::clone(&flag));
        let task = async move {
            let mut ending = Ending { id, report: None, events: attempts.events.clone() };
            ending.report = Some(attempts.carry_out(id, stop).await);
        };
        self.runtime.spawn("attempt", task.boxed());
        flag
    }

    async fn carry_out(&self, id: AttemptId, stop: Arc<Flag>) -> Report {
        let Some(work) = self.prepare(id, &stop).await else { return Report::GaveBack(id) };
        let inputs = Arc::clone(&work.inputs);
        let executed = match self.ground {
            Ground::Tasks => self.executor.execute(work, stop).await,
            Ground::Threads => {
                let executor = Arc::clone(&self.executor);
                let work = move || block_on(executor.execute(work, stop));
                let executed = blocking(&*self.runtime, "attempt", work).await;
                executed.unwrap_or_else(|_| Err(TaskError::Failed(format!("{id} panicked"))))
            }
        };
        match executed {
            Ok(counts) => Report::Finished(id, counts),
            Err(TaskError::Failed(text)) => Report::Failed(id, limits::cut(text)),
            Err(TaskError::Stopped) => Report::GaveBack(id),
            Err(TaskError::LostMap(map)) => {
                // One that it does not build upon is the coordinator's to refuse.
                let number = usize::try_from(map).unwrap_or(usize::MAX);
                let lost = inputs.get(number).copied().unwrap_or(Attempt(0));
                Report::LostMap { attempt: id, map, lost }
            }
        }
    }

    /// What the executor has to know; `None` if the attempt is not wanted any more.
    async fn prepare(&self, id: AttemptId, stop: &Flag) -> Option<Work> {
        let mut pause = Duration::ZERO;
        loop {
            self.runtime.sleep(pause).await;
            if stop.is_stopped() {
                return None;
            }
            match self.ask(id).await {
                Ok(work) => return work,
                Err(error) => tracing::debug!(%id, %error, "the coordinator does not answer"),
            }
            pause = PAUSE;
        }
    }

    async fn ask(&self, id: AttemptId) -> Result<Option<Work>, ClientError> {
        let Some(spec) = self.specs.find(&self.client, id.job).await? else { return Ok(None) };
        let inputs = match id.task {
            TaskId::Map(_) => Some(Vec::new()),
            TaskId::Reduce(_) | TaskId::Publish => {
                let answer = self.client.query(&Query::Inputs(id)).await?;
                let Answer::Inputs(inputs) = answer else { return Ok(None) };
                inputs
            }
        };
        Ok(inputs.map(|inputs| Work { id, spec, inputs: inputs.into() }))
    }
}
