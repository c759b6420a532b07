//! One attempt, from its beginning to its report.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::mpsc;
use futures::executor::block_on;
use futures::future::{Either, select};
use raft_rsm::runtime::blocking;
use raft_rsm::{Client, ClientError, Runtime};

use super::specs::Specs;
use super::{Event, Ground, PAUSE, WorkerOptions};
use crate::coordinator::{Answer, Coordinator, Query, Report, limits};
use crate::task::{Attempt, AttemptId, Counts, Executor, Stop, TaskError, TaskId, Work};

/// An attempt hangs if it gives no sign of life as often as this, at looks that are equally far apart. They are counted rather
/// than timed, so that a process that was stopped for an hour finds nothing but itself to have stood still.
const LOOKS: u32 = 10;

const NO_THREAD: &str = "this worker can start no thread for it";

/// Begins attempts. What comes of them arrives as [`Event::Ended`] or [`Event::Hung`]: exactly once for each, whatever happens.
#[derive(Clone)]
pub(super) struct Attempts {
    runtime: Arc<dyn Runtime>,
    client: Client<Coordinator>,
    executor: Arc<dyn Executor>,
    ground: Ground,
    hang_max: Duration,
    specs: Arc<Specs>,
    events: mpsc::UnboundedSender<Event>,
}

/// Tells an attempt to stop, and whether it goes on.
#[derive(Debug, Default)]
pub(super) struct Flag {
    must_stop: AtomicBool,
    gave_sign: AtomicBool,
}

impl Flag {
    pub(super) fn stop(&self) {
        self.must_stop.store(true, Ordering::Relaxed);
    }

    /// Whether it was told to stop: asked by the worker.
    pub(super) fn must_stop(&self) -> bool {
        self.must_stop.load(Ordering::Relaxed)
    }

    /// Whether the attempt has asked since the last time.
    fn take_sign(&self) -> bool {
        self.gave_sign.swap(false, Ordering::Relaxed)
    }
}

impl Stop for Flag {
    fn is_stopped(&self) -> bool {
        self.gave_sign.store(true, Ordering::Relaxed);
        self.must_stop()
    }
}

/// Reports the end of an attempt when it is dropped: also where a panic has ended the task, or the runtime has no thread for it
/// and drops it as it is.
struct Ending {
    event: Option<Event>,
    events: mpsc::UnboundedSender<Event>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Some(event) = self.event.take() else { return };
        // A worker that has gone does not want it.
        let _ = self.events.unbounded_send(event);
    }
}

impl Attempts {
    pub(super) fn new(
        runtime: Arc<dyn Runtime>,
        client: Client<Coordinator>,
        executor: Arc<dyn Executor>,
        options: WorkerOptions,
        events: mpsc::UnboundedSender<Event>,
    ) -> Attempts {
        let WorkerOptions { slots: _, ground, hang_max } = options;
        Attempts { runtime, client, executor, ground, hang_max, specs: Arc::default(), events }
    }

    pub(super) fn begin(&self, id: AttemptId) -> Arc<Flag> {
        let flag = Arc::new(Flag::default());
        let (attempts, stop) = (self.clone(), Arc::clone(&flag));
        let failed = move |why| Some(Event::Ended(Report::Failed(id, format!("{id}: {why}"))));
        let ending = Ending { event: failed(NO_THREAD), events: self.events.clone() };
        let task = async move {
            // All of it, from the beginning.
            let mut ending = ending;
            ending.event = failed("it panicked");
            ending.event = Some(attempts.carry_out(id, stop).await);
        };
        self.runtime.spawn("attempt", task.boxed());
        flag
    }

    async fn carry_out(&self, id: AttemptId, flag: Arc<Flag>) -> Event {
        let Some(work) = self.prepare(id, &flag).await else {
            return Event::Ended(Report::GaveBack(id));
        };
        let (inputs, place) = (Arc::clone(&work.inputs), work.spec.place(id.task));
        let executed = pin!(self.execute(work, Arc::clone(&flag)));
        let executed = match select(executed, pin!(self.hangs(&flag))).await {
            Either::Left((executed, _)) => executed,
            Either::Right(((), _)) => {
                // Should it ever go on.
                flag.stop();
                let seconds = self.hang_max.as_secs_f64();
                let text =
                    format!("{id} ({place}): it hung: no sign of life for {seconds} seconds");
                return Event::Hung(Report::Failed(id, limits::cut(text)));
            }
        };
        Event::Ended(match executed {
            Ok(counts) => Report::Finished(id, counts),
            Err(TaskError::Failed(text)) => Report::Failed(id, limits::cut(text)),
            Err(TaskError::Stopped) => Report::GaveBack(id),
            Err(TaskError::LostMap(map)) => {
                // One that it does not build upon is the coordinator's to refuse.
                let number = usize::try_from(map).unwrap_or(usize::MAX);
                let lost = inputs.get(number).copied().unwrap_or(Attempt(0));
                Report::LostMap { attempt: id, map, lost }
            }
        })
    }

    async fn execute(&self, work: Work, flag: Arc<Flag>) -> Result<Counts, TaskError> {
        let (id, executor) = (work.id, Arc::clone(&self.executor));
        match self.ground {
            Ground::Tasks => executor.execute(work, flag).await,
            Ground::Threads => {
                let work = move || block_on(executor.execute(work, flag));
                let executed = blocking(&*self.runtime, "attempt", work).await;
                // What panics there says so itself.
                executed.unwrap_or_else(|_| Err(TaskError::Failed(format!("{id}: {NO_THREAD}"))))
            }
        }
    }

    /// Waits until the attempt has given no sign of life for so long.
    async fn hangs(&self, flag: &Flag) {
        let mut silent = 0;
        while silent < LOOKS {
            self.runtime.sleep(self.hang_max / LOOKS).await;
            silent = if flag.take_sign() { 0 } else { silent + 1 };
        }
    }

    /// What the executor has to know; `None` if the attempt is not wanted any more.
    async fn prepare(&self, id: AttemptId, stop: &Flag) -> Option<Work> {
        let mut pause = Duration::ZERO;
        loop {
            self.runtime.sleep(pause).await;
            if stop.must_stop() {
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use futures::StreamExt;
    use futures::future::BoxFuture;

    use super::*;
    use crate::ground::worker_client;
    use crate::task::JobId;
    use crate::worker::HANG_MAX;

    /// One that has no thread left for attempts.
    struct Exhausted(Arc<dyn Runtime>);

    impl Runtime for Exhausted {
        fn now(&self) -> Duration {
            self.0.now()
        }

        fn random(&self) -> u64 {
            self.0.random()
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            self.0.sleep(duration)
        }

        fn spawn(&self, _: &str, task: BoxFuture<'static, ()>) {
            drop(task);
        }

        fn spawn_blocking(&self, _: &str, work: Box<dyn FnOnce() + Send>) {
            drop(work);
        }
    }

    struct Idle;

    #[async_trait]
    impl Executor for Idle {
        async fn execute(&self, _: Work, _: Arc<dyn Stop>) -> Result<Counts, TaskError> {
            Ok(Counts::default())
        }
    }

    #[test]
    fn an_attempt_for_which_there_is_no_thread_fails() {
        let (runtime, client) = worker_client(&"1=127.0.0.1:1".parse().unwrap());
        let runtime = Arc::new(Exhausted(runtime));
        let options = WorkerOptions { slots: 1, ground: Ground::Threads, hang_max: HANG_MAX };
        let (events, mut heard) = mpsc::unbounded();
        let attempts = Attempts::new(runtime, client, Arc::new(Idle), options, events);
        let id = AttemptId { job: JobId(7), task: TaskId::Map(3), attempt: Attempt(1) };
        attempts.begin(id);
        // Nobody else has anything to say.
        drop(attempts);
        let event = block_on(heard.next());
        let Some(Event::Ended(Report::Failed(failed, why))) = event else { panic!("{event:?}") };
        assert_eq!(failed, id);
        assert!(why.contains("no thread"), "{why}");
    }
}
