//! What all scenarios have in common: a cluster of coordinators, workers, and whoever submits jobs.

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mapreduce_example::coordinator::{Clerk, Coordinator, JobState, JobView};
use mapreduce_example::swarm::crew::Crew;
use mapreduce_example::swarm::judge::{Verdict, judge};
use mapreduce_example::swarm::toy::{Call, Done, Fate, Store, sequentially};
use mapreduce_example::task::{JobId, JobSpec, TaskId, Work};
use raft_rsm::ClientOptions;
use raft_rsm::raft_core::NodeId;
use raft_sim::{Cluster, Random, Simulation};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Longer than anything takes.
pub(super) const PATIENCE: Duration = SECOND.saturating_mul(600);

/// Each scenario is run with all of them.
const SEEDS: Range<u64> = 0..3;

/// A cluster, and what its workers write. Clones are the same one.
#[derive(Clone)]
pub(super) struct World {
    pub(super) cluster: Cluster<Coordinator>,
    pub(super) store: Store,
    pub(super) clerk: Clerk,
    pub(super) random: Random,
}

/// Plays a scenario with several seeds.
pub(super) fn play<F: Future<Output = ()> + Send + 'static>(
    coordinators: usize,
    scenario: impl Fn(World) -> F,
) {
    for seed in SEEDS {
        // Seen where the test fails.
        println!("seed {seed}");
        Simulation::new(seed)
            .nodes(coordinators)
            .machine(Coordinator::default)
            .scenario(|_| (), |cluster| scenario(World::new(seed, cluster)))
            .unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// All calls go well, and take so long.
pub(super) fn takes(duration: Duration) -> impl Fn(&Work) -> Call + Send + Sync + 'static {
    move |_| Call { takes: duration, fate: Fate::Goes }
}

impl World {
    fn new(seed: u64, cluster: Cluster<Coordinator>) -> World {
        let mut options = ClientOptions::default();
        options.deadline = 3600 * SECOND;
        let clerk = Clerk::new(cluster.client(1, options));
        let random = Random::new(seed).fork("scenario");
        World { cluster, store: Store::default(), clerk, random }
    }

    pub(super) fn crew(
        &self,
        slots: u32,
        luck: impl Fn(&Work) -> Call + Send + Sync + 'static,
    ) -> Crew {
        let (cluster, store) = (self.cluster.clone(), self.store.clone());
        Crew::new(cluster, store, Arc::new(luck), self.random.fork("crew"), slots)
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        self.cluster.sleep(duration).await;
    }

    pub(super) fn now(&self) -> Duration {
        self.cluster.now()
    }

    /// Waits for a leader.
    pub(super) async fn leader(&self) -> NodeId {
        loop {
            if let Some(leader) = self.cluster.leader() {
                return leader;
            }
            self.sleep(10 * MS).await;
        }
    }

    pub(super) async fn submit(&self, spec: &JobSpec) -> JobId {
        let mut random = self.random.fork(&format!("{spec:?}"));
        let token = u128::from(random.next());
        self.clerk.submit(token, spec.clone()).await.unwrap()
    }

    /// How the job ends.
    pub(super) async fn end(&self, job: JobId) -> JobState {
        let until = self.now() + PATIENCE;
        while self.now() < until {
            let state = self.clerk.done(job, 5 * SECOND).await.unwrap();
            let state = state.expect("it is known");
            if state != JobState::Unfinished {
                return state;
            }
        }
        panic!("job {job} does not end");
    }

    pub(super) async fn view(&self, job: JobId) -> JobView {
        self.clerk.job(job).await.unwrap().expect("it is known")
    }

    /// Waits until the job looks like this.
    pub(super) async fn until(&self, job: JobId, is_so: impl Fn(&JobView) -> bool) {
        let until = self.now() + PATIENCE;
        while !is_so(&self.view(job).await) {
            assert!(self.now() < until, "it never is so");
            self.sleep(50 * MS).await;
        }
    }

    /// Waits until a worker works on the job: the coordinator knows of it before the worker does.
    pub(super) async fn until_begun(&self, job: JobId) {
        let until = self.now() + PATIENCE;
        while self.done(job, |_| true).is_empty() {
            assert!(self.now() < until, "it is never begun");
            self.sleep(10 * MS).await;
        }
    }

    /// The job succeeds, and its result is right. Returns what the log says of the run.
    pub(super) async fn expect(&self, job: JobId, spec: &JobSpec) -> Verdict {
        assert_eq!(self.end(job).await, JobState::Succeeded);
        assert_eq!(self.store.published(job), Some(sequentially(spec)));
        judge(&self.cluster.told(), &self.store).unwrap()
    }

    /// What was done for such tasks of a job.
    pub(super) fn done(&self, job: JobId, is_such: impl Fn(TaskId) -> bool) -> Vec<Done> {
        let mut done = self.store.log();
        done.retain(|done| done.id.job == job && is_such(done.id.task));
        done
    }
}

pub(super) fn is_map(task: TaskId) -> bool {
    matches!(task, TaskId::Map(_))
}

pub(super) fn is_reduce(task: TaskId) -> bool {
    matches!(task, TaskId::Reduce(_))
}

/// Whether two workers really worked at the same time.
pub(super) fn is_parallel(done: &[Done]) -> bool {
    let meets = |one: &Done, other: &Done| {
        let (Some(one_end), Some(other_end)) = (one.written, other.written) else { return false };
        one.worker != other.worker && one.begun < other_end && other.begun < one_end
    };
    done.iter().any(|one| done.iter().any(|other| meets(one, other)))
}

/// Chance for calls, which come in the order in which they begin.
pub(super) fn drawing(
    random: Random,
    draw: impl Fn(&mut Random, &Work) -> Call + Send + Sync + 'static,
) -> impl Fn(&Work) -> Call + Send + Sync + 'static {
    let random = Mutex::new(random);
    move |work| draw(&mut random.lock().unwrap(), work)
}
