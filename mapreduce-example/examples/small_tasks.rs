//! How many small tasks a second a coordinator hands out, against the puts that the store of `kv-example` takes from as many
//! clients, in the same run.
//!
//! ```sh
//! cargo run --release -p mapreduce-example --example small_tasks                  # 10000 tasks, 32 clients, 3 rounds
//! cargo run --release -p mapreduce-example --example small_tasks -- 10000 64 5
//! ```
//!
//! Both have three nodes in processes of their own, at default settings, on the loopback interface and a temporary directory,
//! and are measured in turn. Exit code 1 says that there was less than a task for four puts. The tasks do nothing, so all that is seen is what it costs to hand them out: each worker works on
//! one at a time, and each is told of with its lease, reported, and on the disks of a majority before the next one.

use std::error::Error;
use std::ffi::OsString;
use std::net::TcpListener;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use kv_example::clerk::Clerk as StoreClerk;
use kv_example::store::Version;
use mapreduce_example::coordinator::{Coordinator, JobState};
use mapreduce_example::ground::clerk;
use mapreduce_example::job::Registry;
use mapreduce_example::task::{Counts, Executor, JobSpec, Split, Stop, TaskError, Work};
use mapreduce_example::worker::{Ground, HANG_MAX, Worker, WorkerOptions};
use raft_rsm::runtime::TokioRuntime;
use raft_rsm::transport::{TcpLimits, TokioConnector};
use raft_rsm::{Client, ClientOptions, Cluster};

const NODES: u64 = 3;
/// Fewer tasks for each put are a goal missed: a task is two commands, its beginning and its end, each larger than a put.
const TASKS_PER_PUT_MIN: f64 = 0.25;
/// Nothing takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(120);

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // The nodes are this program, too, so that there is nothing to look for.
    match arguments.get(1).and_then(|first| first.to_str()) {
        Some("node") => kv_example::cli::run(arguments).await,
        Some("coordinator") => mapreduce_example::cli::run(Registry::shipped(), arguments).await,
        Some(_) | None => match measure(&arguments[1..]).await {
            Ok(tasks_per_put) if tasks_per_put < TASKS_PER_PUT_MIN => {
                eprintln!(
                    "small_tasks: {tasks_per_put:.2} tasks a put, the goal is {TASKS_PER_PUT_MIN} or more"
                );
                ExitCode::FAILURE
            }
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("small_tasks: {error}");
                ExitCode::from(2)
            }
        },
    }
}

/// The median of tasks a put.
async fn measure(arguments: &[OsString]) -> Outcome<f64> {
    let number = |at: usize, default: u32| -> Outcome<u32> {
        Ok(arguments.get(at).map_or(Ok(default), |text| text.to_string_lossy().parse())?)
    };
    let (tasks, clients, rounds) = (number(0, 10_000)?, number(1, 32)?, number(2, 3)?);
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let (handed_out, put) = match round % 2 {
            0 => {
                let put = puts(tasks, clients).await?;
                (hand_out(tasks, clients).await?, put)
            }
            _ => (hand_out(tasks, clients).await?, puts(tasks, clients).await?),
        };
        let ratio = handed_out / put;
        println!("{handed_out:.0} tasks a second, {put:.0} puts a second: {ratio:.2}");
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    let median = *ratios.get(ratios.len() / 2).ok_or("no round, no figures")?;
    println!("{tasks} tasks, {clients} clients: median {median:.2} tasks a put");
    Ok(median)
}

/// Puts a second.
async fn puts(count: u32, clients: u32) -> Outcome<f64> {
    let nodes = Nodes::start("node")?;
    let store = || -> Outcome<StoreClerk> {
        Ok(StoreClerk::new(kv_example::connect::connect(
            &nodes.cluster,
            kv_example::connect::within(PATIENCE),
        )?))
    };
    let value = Bytes::from_static(&[b'v'; 128]);
    store()?.put("ready", value.clone(), Version::ABSENT).await?;
    let begin = Instant::now();
    let clients = (0..clients).map(|number| {
        let (store, value) = (store(), value.clone());
        async move {
            let (store, key) = (store?, format!("key {number}"));
            for put in 0..count / clients {
                store.put(&key, value.clone(), Version(put.into())).await?;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        }
    });
    try_join_all(clients).await?;
    Ok(f64::from(count) / begin.elapsed().as_secs_f64())
}

/// Tasks a second.
async fn hand_out(tasks: u32, workers: u32) -> Outcome<f64> {
    let nodes = Nodes::start("coordinator")?;
    let clerk = clerk(&nodes.cluster, PATIENCE)?;
    clerk.jobs().await?;
    let runtime = Arc::new(TokioRuntime::current()?);
    let mut working = Vec::new();
    for _ in 0..workers {
        let (cluster, limits) = (nodes.cluster.clone(), TcpLimits::default());
        let connector = TokioConnector::new(cluster, None, limits, Arc::clone(&runtime));
        let client: Client<Coordinator> =
            Client::new(connector, Arc::clone(&runtime) as _, ClientOptions::default());
        let options = WorkerOptions { slots: 1, ground: Ground::Tasks, hang_max: HANG_MAX };
        let (worker, _) =
            Worker::new(Arc::clone(&runtime) as _, client, Arc::new(Nothing), options);
        working.push(tokio::spawn(worker.run()));
    }
    let split = |number| Split { input: "memory:///nothing".to_owned(), offset: number, len: 1 };
    let spec = JobSpec {
        job: "nothing".to_owned(),
        arguments: Default::default(),
        inputs: (0..u64::from(tasks)).map(split).collect(),
        output: "memory:///results".to_owned(),
        reducers: 1,
        failures_max: 1,
        token: 1,
    };
    let begin = Instant::now();
    let job = clerk.submit(1, spec).await?;
    clerk.close().await?;
    while begin.elapsed() < PATIENCE {
        match clerk.done(job, Duration::from_secs(1)).await? {
            Some(JobState::Unfinished) => {}
            Some(JobState::Succeeded) => {
                let rate = f64::from(tasks) / begin.elapsed().as_secs_f64();
                for worker in working {
                    worker.await?;
                }
                return Ok(rate);
            }
            state => return Err(format!("the job ended as {state:?}").into()),
        }
    }
    Err("the job does not end".into())
}

/// A task that does nothing.
struct Nothing;

#[async_trait]
impl Executor for Nothing {
    async fn execute(&self, _: Work, _: Arc<dyn Stop>) -> Result<Counts, TaskError> {
        Ok(Counts::default())
    }
}

/// Three nodes in processes of their own.
struct Nodes {
    cluster: Cluster,
    processes: Vec<Child>,
    _dir: tempfile::TempDir,
}

impl Nodes {
    fn start(command: &str) -> Outcome<Nodes> {
        let listeners: Vec<_> =
            (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let addresses: Vec<_> =
            listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        drop(listeners);
        let members = (1..).zip(addresses).map(|(id, address): (u64, _)| format!("{id}={address}"));
        let members = members.collect::<Vec<_>>().join(",");
        let dir = tempfile::tempdir()?;
        let mut processes = Vec::new();
        for id in 1..=NODES {
            let mut process = Command::new(std::env::current_exe()?);
            process.args([command, "--id", &id.to_string(), "--cluster", &members, "--init"]);
            process.arg("--data").arg(dir.path().join(id.to_string()));
            process.env("RUST_LOG", "error").stdin(Stdio::null()).stdout(Stdio::null());
            processes.push(process.spawn()?);
        }
        Ok(Nodes { cluster: members.parse()?, processes, _dir: dir })
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
