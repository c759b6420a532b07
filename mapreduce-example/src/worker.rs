//! A worker: asks the coordinator for attempts, has them carried out, and reports what became of them.
//!
//! | to find | look in |
//! |---|---|
//! | what it tells the coordinator and when, and when it ends | here |
//! | how one attempt is carried out | `worker/attempt.rs` |
//! | what it remembers of jobs | `worker/specs.rs` |
//!
//! It is a loop with one command under way at a time, in a session, so that each is carried out exactly once. (Where the nodes
//! have no room for another session it goes without: one that is carried out twice costs work, and is not wrong.) It
//! speaks when something has ended, when the coordinator has something new for it, and often enough to keep what it was given. While
//! the coordinator cannot be reached it tries again for ever, and goes on with what it works on: the log's time may stand still
//! meanwhile, and what finishes first counts, whoever has it by then. What others have got it is told to stop.
//!
//! An attempt gives a sign of life each time that it asks whether to stop. One that gives none for long hangs: it is reported as
//! failed, and since nothing can end it but the end of its process, the worker gives back all else and ends.
//!
//! *Absent:* data. That is the [`Executor`]'s.

mod attempt;
mod specs;

use std::collections::BTreeMap;
use std::future::Future;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::{Either, select};
use futures::{FutureExt, StreamExt};
use raft_rsm::{Client, ClientError, Runtime, Session};

use self::attempt::{Attempts, Flag};
use crate::coordinator::limits::SLOTS_MAX;
use crate::coordinator::{Answer, Command, Coordinator, Orders, Query, Report, Response, WorkerId};
use crate::task::{AttemptId, Executor};

/// A lease is renewed so many times in its time: one that fails leaves time for others.
const RENEWED_TIMES: u32 = 3;

/// A worker that has nothing to do asks again after so long: if the answer was lost, or the one who had it.
const IDLE_WAIT: Duration = Duration::from_secs(5);

/// What the cluster did not answer is tried again after so long. The client has been patient before that.
const PAUSE: Duration = Duration::from_millis(200);

/// A worker that goes waits so long for the coordinator to hear of it, and so long for what it works on to end. After that,
/// its leases run out by themselves.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// An attempt that gives no sign of life for so long hangs, unless somebody says otherwise: as long as Hadoop waits, and
/// much longer than any call of a store takes with all of its retries.
pub const HANG_MAX: Duration = Duration::from_secs(600);

/// How a worker works.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct WorkerOptions {
    /// So many attempts at once: at least 1, at most [`SLOTS_MAX`].
    pub slots: u32,
    /// Where they are carried out.
    pub ground: Ground,
    /// An attempt that gives no sign of life for so long hangs. More than nothing: see [`HANG_MAX`].
    pub hang_max: Duration,
}

/// Where attempts are carried out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ground {
    /// On threads of their own ([`Runtime::spawn_blocking`]): for whatever computes, or blocks.
    Threads,
    /// As tasks ([`Runtime::spawn`]): for whatever only waits.
    Tasks,
}

/// Why a worker has ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The coordinator said that all is done.
    AllDone,
    /// It was [asked](WorkerHandle::stop) to.
    Stopped,
    /// This attempt hangs, and occupies the process for ever: it should end.
    Hung(AttemptId),
}

/// A worker.
pub struct Worker {
    id: WorkerId,
    runtime: Arc<dyn Runtime>,
    client: Client<Coordinator>,
    session: Session<Coordinator>,
    /// The last way to send commands that was answered, or the other one.
    is_in_session: bool,
    attempts: Attempts,
    slots: usize,
    events: mpsc::UnboundedReceiver<Event>,
    running: BTreeMap<AttemptId, Arc<Flag>>,
    /// What the coordinator has not heard of yet.
    reports: Vec<Report>,
    /// When, by the clock of this process, it last asked for what it was told; and how long its leases are.
    lease: Option<(Duration, Duration)>,
    /// The coordinator may have given it something that it does not work on.
    is_unsettled: bool,
    /// The coordinator has not answered the last time.
    is_cut_off: bool,
    /// Why it is to end.
    ending: Option<Ended>,
}

/// Asks a worker to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    events: mpsc::UnboundedSender<Event>,
}

/// What a worker is told from within its process. There are no more of them than attempts, and requests to stop.
#[derive(Debug)]
enum Event {
    Ended(Report),
    /// The same of one that hangs.
    Hung(Report),
    Stop,
}

impl WorkerHandle {
    /// Lets the worker give back what it works on, and end. Whoever waits for [`Worker::run`] learns when it has.
    pub fn stop(&self) {
        // One that has ended need not stop.
        let _ = self.events.unbounded_send(Event::Stop);
    }
}

impl Worker {
    /// A worker that asks `client` for work, and has it done by `executor`.
    #[must_use]
    pub fn new(
        runtime: Arc<dyn Runtime>,
        client: Client<Coordinator>,
        executor: Arc<dyn Executor>,
        options: WorkerOptions,
    ) -> (Worker, WorkerHandle) {
        let (sender, events) = mpsc::unbounded();
        let handle = WorkerHandle { events: sender.clone() };
        let slots = usize::try_from(options.slots).unwrap_or(SLOTS_MAX).clamp(1, SLOTS_MAX);
        let attempts =
            Attempts::new(Arc::clone(&runtime), client.clone(), executor, options, sender);
        let worker = Worker {
            id: WorkerId(runtime.random()),
            session: client.session(),
            is_in_session: true,
            runtime,
            client,
            attempts,
            slots,
            events,
            running: BTreeMap::new(),
            reports: Vec::new(),
            lease: None,
            is_unsettled: false,
            is_cut_off: false,
            ending: None,
        };
        (worker, handle)
    }

    /// What the coordinator knows it by.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// Works until all is done, it is asked to stop, or an attempt hangs.
    pub async fn run(mut self) -> Ended {
        let ended = loop {
            let orders = self.report().await;
            if let Some(ended) = self.ending {
                break ended;
            }
            match orders {
                Some(orders) if orders.ends => break Ended::AllDone,
                Some(orders) => self.obey(orders),
                None => {
                    let pause = self.runtime.sleep(PAUSE);
                    self.meanwhile(pause, Until::Stop).await;
                    if let Some(ended) = self.ending {
                        break ended;
                    }
                    continue;
                }
            }
            self.wait().await;
            if let Some(ended) = self.ending {
                break ended;
            }
        };
        self.leave().await;
        ended
    }

    /// Tells the coordinator how things stand; `None` if it does not answer, or the worker is to end meanwhile.
    async fn report(&mut self) -> Option<Orders> {
        let begun = self.runtime.now();
        let sent = self.reports.len().min(SLOTS_MAX);
        let free = self.slots.saturating_sub(self.running.len());
        let command = Command::Work {
            worker: self.id,
            running: self.wanted(),
            reports: self.reports.iter().take(sent).cloned().collect(),
            slots: u32::try_from(free).unwrap_or(u32::MAX),
        };
        self.is_unsettled = true;
        let mut told = pin!(self.tell(command));
        let answered = match self.meanwhile(&mut told, Until::Stop).await {
            Some(answered) => answered,
            // What it is given by this is to be given back, and not to come later than that.
            None => self.within(told).await?,
        };
        match answered {
            Ok(Response::Work(orders)) => {
                self.reports.drain(..sent);
                self.lease = Some((begun, orders.lease));
                self.is_unsettled = !orders.begin.is_empty();
                if mem::take(&mut self.is_cut_off) {
                    tracing::warn!("the coordinator answers again");
                }
                Some(orders)
            }
            Ok(other) => {
                tracing::warn!(?other, "the coordinator's answer does not fit the question");
                None
            }
            Err(error) => {
                if !mem::replace(&mut self.is_cut_off, true) {
                    tracing::warn!(%error, "the coordinator does not answer; trying again");
                }
                self.is_in_session = !self.is_in_session;
                None
            }
        }
    }

    /// Tells the coordinator something.
    fn tell(
        &self,
        command: Command,
    ) -> impl Future<Output = Result<Response, ClientError>> + Send + use<> {
        let (session, is_in_session) = (self.session.clone(), self.is_in_session);
        async move {
            match is_in_session {
                true => session.propose(&command).await,
                false => {
                    let told = session.client().propose_until_answered(&command).await;
                    told.map(|answered| answered.response)
                }
            }
        }
    }

    fn obey(&mut self, orders: Orders) {
        for id in orders.stop {
            if let Some(flag) = self.running.get(&id) {
                flag.stop();
            }
        }
        for id in orders.begin {
            let flag = self.attempts.begin(id);
            self.running.insert(id, flag);
        }
    }

    /// Waits until there is something to say to the coordinator, or the worker is to end.
    async fn wait(&mut self) {
        loop {
            self.hear_all();
            let now = self.runtime.now();
            let running = self.wanted();
            let left = match self.lease {
                Some((begun, lease)) if !running.is_empty() => {
                    begun.saturating_add(lease / RENEWED_TIMES).saturating_sub(now)
                }
                Some(_) | None => IDLE_WAIT,
            };
            if self.ending.is_some() || !self.reports.is_empty() || left.is_zero() {
                return;
            }
            let is_free = self.running.len() < self.slots;
            let query = Query::WorkFor { worker: self.id, running, is_free };
            let asked = ask(self.client.clone(), Arc::clone(&self.runtime), query, left);
            if self.meanwhile(asked, Until::Event).await == Some(true) {
                return;
            }
        }
    }

    /// Waits for `work`, and takes in what happens meanwhile in this process. `None`: that was enough.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>, until: Until) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let event = match select(&mut work, self.events.next()).await {
                Either::Left((done, _)) => return Some(done),
                Either::Right((event, _)) => event,
            };
            // Whoever begins attempts can send more of them.
            let Some(event) = event else { continue };
            self.hear(event);
            match until {
                Until::Event => return None,
                Until::Stop if self.ending.is_some() => return None,
                Until::Stop => {}
            }
        }
    }

    /// What has happened in this process until now.
    fn hear_all(&mut self) {
        while let Some(Some(event)) = self.events.next().now_or_never() {
            self.hear(event);
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Ended(report) => {
                self.running.remove(&report.attempt());
                self.reports.push(report);
            }
            Event::Hung(report) => {
                self.ending = Some(Ended::Hung(report.attempt()));
                self.running.remove(&report.attempt());
                self.reports.push(report);
            }
            Event::Stop => {
                self.ending.get_or_insert(Ended::Stopped);
            }
        }
    }

    /// What runs and is to go on.
    fn wanted(&self) -> Vec<AttemptId> {
        let wanted = self.running.iter().filter(|(_, flag)| !flag.must_stop());
        wanted.map(|(id, _)| *id).collect()
    }

    /// Gives back what it works on, and waits for a while until that has ended.
    async fn leave(&mut self) {
        self.hear_all();
        self.running.values().for_each(|flag| flag.stop());
        if self.is_unsettled || !self.running.is_empty() || !self.reports.is_empty() {
            let reports = self.reports.iter().take(SLOTS_MAX).cloned().collect();
            let command = Command::Leave { worker: self.id, reports };
            if self.within(self.tell(command)).await.is_none() {
                tracing::info!("the coordinator did not hear in time that this worker goes");
            }
        }
        let runtime = Arc::clone(&self.runtime);
        let ended = async {
            while !self.running.is_empty()
                && let Some(event) = self.events.next().await
            {
                self.hear(event);
            }
        };
        select(pin!(ended), runtime.sleep(LEAVE_WITHIN)).await;
        let session = self.session.clone();
        // If nobody hears of it, the session ends by itself.
        let _ = self.within(session.close()).await;
    }

    async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match select(pin!(work), self.runtime.sleep(LEAVE_WITHIN)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(((), _)) => None,
        }
    }
}

/// What ends the wait for something else.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Until {
    /// Whatever happens in this process.
    Event,
    /// That the worker is to end.
    Stop,
}

/// Whether the coordinator has something new for a worker: asked for so long, however that ends.
async fn ask(
    client: Client<Coordinator>,
    runtime: Arc<dyn Runtime>,
    query: Query,
    wait: Duration,
) -> bool {
    let asked = async {
        match client.query_when_ready(&query, wait).await {
            Ok(Answer::WorkFor(is_new)) => is_new,
            Ok(_) | Err(_) => {
                runtime.sleep(PAUSE).await;
                false
            }
        }
    };
    match select(pin!(asked), runtime.sleep(wait)).await {
        Either::Left((is_new, _)) => is_new,
        Either::Right(((), _)) => false,
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("id", &self.id)
            .field("running", &self.running.keys())
            .finish_non_exhaustive()
    }
}
