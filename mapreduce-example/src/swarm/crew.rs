//! Workers in the simulator, each a process of its own that can die and is started again.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{Either, select};
use raft_rsm::{Client, ClientOptions, Runtime};
use raft_sim::executor::{ProcessId, WORLD};
use raft_sim::runtime::{Clock, ProcessRuntime};
use raft_sim::{Cluster, Random};

use super::toy::{Call, Fate, Luck, Store, Toy};
use crate::coordinator::{Coordinator, WorkerId};
use crate::worker::{Ended, Ground, HANG_MAX, Worker, WorkerHandle, WorkerOptions};

/// Workers have numbers of their own on the network, from here.
const FIRST_SITE: u64 = 1_000_000;

/// A worker that died, or whose call hangs, is started again after so long.
const STARTED_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// And one whose work was all done after so long.
const LOOKS_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A worker that is told to stop is told so within this.
const STOPPED_WITHIN: std::ops::Range<Duration> = Duration::ZERO..Duration::from_secs(20);

/// Whoever hires workers. Clones are the same.
#[derive(Clone)]
pub struct Crew {
    cluster: Cluster<Coordinator>,
    store: Store,
    luck: Luck,
    random: Random,
    slots: u32,
    hang_max: Duration,
    /// Its calls all fail.
    broken: Option<u64>,
    /// How likely it is that a worker is told to stop.
    stopped: f64,
    /// Those that have ended are started again, too.
    is_for_ever: bool,
}

/// One life of a worker.
#[derive(Clone)]
pub struct Hand {
    /// What the coordinator knows it by.
    pub id: WorkerId,
    /// Its process.
    pub process: ProcessId,
    /// Asks it to stop.
    pub handle: WorkerHandle,
}

impl Crew {
    /// Workers of `cluster` that write to `store`; `luck` says what becomes of their calls.
    #[must_use]
    pub fn new(
        cluster: Cluster<Coordinator>,
        store: Store,
        luck: Luck,
        random: Random,
        slots: u32,
    ) -> Crew {
        let (hang_max, broken, stopped, is_for_ever) = (HANG_MAX, None, 0.0, false);
        Crew { cluster, store, luck, random, slots, hang_max, broken, stopped, is_for_ever }
    }

    /// The same, where a call that gives no sign of life for so long hangs.
    #[must_use]
    pub fn with_hang_max(mut self, hang_max: Duration) -> Crew {
        self.hang_max = hang_max;
        self
    }

    /// The same, where the worker of this number fails at whatever it is given, in all its lives.
    #[must_use]
    pub fn with_broken(mut self, number: u64) -> Crew {
        self.broken = Some(number);
        self
    }

    /// The same, where a worker is told to stop with this chance, some time after it has begun.
    #[must_use]
    pub fn with_stopped(mut self, chance: f64) -> Crew {
        self.stopped = chance;
        self
    }

    /// The same, where a worker whose work is all done is started again after a while: there may be more.
    #[must_use]
    pub fn for_ever(mut self) -> Crew {
        self.is_for_ever = true;
        self
    }

    /// Starts a worker. The receiver is told how it ended; it is cancelled when the worker dies.
    pub fn hire(&self, number: u64, life: u64) -> (Hand, oneshot::Receiver<Ended>) {
        let executor = self.cluster.executor().clone();
        let process = executor.process();
        let mut random = self.random.fork(&format!("worker {number} life {life}"));
        let drift_ppm = i32::try_from(random.within(0..2_000)).unwrap_or(0) - 1_000;
        let clock = Clock { origin: Duration::ZERO, drift_ppm };
        let work_time = Arc::new(|_: &str| Duration::ZERO);
        let runtime: Arc<dyn Runtime> =
            Arc::new(ProcessRuntime::new(executor.clone(), process, clock, random, work_time));
        let connector =
            self.cluster.network().connector_to(FIRST_SITE + number, &self.cluster.ids());
        let client = Client::new(connector, Arc::clone(&runtime), ClientOptions::default());
        let luck = if self.broken == Some(number) { fails(&self.luck) } else { self.luck.clone() };
        let toy = Toy::new(executor.clone(), process, number, self.store.clone(), luck);
        let options =
            WorkerOptions { slots: self.slots, ground: Ground::Tasks, hang_max: self.hang_max };
        let (worker, handle) = Worker::new(runtime, client, Arc::new(toy), options);
        let id = worker.id();
        let (sender, ended) = oneshot::channel();
        let task = async move {
            // Who does not look does not want it.
            let _ = sender.send(worker.run().await);
        };
        executor.spawn(process, "worker", task.boxed());
        (Hand { id, process, handle }, ended)
    }

    /// Keeps so many workers going until each of them has ended by itself, or for ever.
    pub fn keep(&self, workers: u64) -> Vec<oneshot::Receiver<Ended>> {
        (0..workers).map(|number| self.keep_one(number)).collect()
    }

    fn keep_one(&self, number: u64) -> oneshot::Receiver<Ended> {
        let (crew, (sender, ended)) = (self.clone(), oneshot::channel());
        let task = async move {
            for life in 0.. {
                let (hand, ended) = crew.hire(number, life);
                let mut random = crew.random.fork(&format!("stop of {number} life {life}"));
                let ended = if random.chance(crew.stopped) {
                    let stop = crew.cluster.sleep(random.duration(&STOPPED_WITHIN));
                    match select(ended, pin!(stop)).await {
                        Either::Left((ended, _)) => ended,
                        Either::Right(((), ended)) => {
                            hand.handle.stop();
                            ended.await
                        }
                    }
                } else {
                    ended.await
                };
                let pause = match ended {
                    // Its process has ended with it.
                    Ok(Ended::Hung(_)) | Err(_) => STARTED_AGAIN_AFTER,
                    Ok(Ended::AllDone | Ended::Stopped) if crew.is_for_ever => LOOKS_AGAIN_AFTER,
                    Ok(ended @ (Ended::AllDone | Ended::Stopped)) => {
                        // Who does not look does not want it.
                        let _ = sender.send(ended);
                        return;
                    }
                };
                crew.cluster.sleep(pause).await;
            }
        };
        self.cluster.executor().spawn(WORLD, "keeper of a worker", task.boxed());
        ended
    }
}

/// Calls take as long, and fail.
fn fails(luck: &Luck) -> Luck {
    let luck = Arc::clone(luck);
    Arc::new(move |work| Call { fate: Fate::Fails, ..luck(work) })
}
