//! The processes that go on until they are told to stop: a coordinator's node, and a worker.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::channel::oneshot;
use raft_rsm::raft_core::NodeId;
use raft_rsm::{Begin, Cluster, StopReason, serve};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::coordinator::Coordinator;
use crate::data::{self, Stores};
use crate::execute::{DataExecutor, Limits};
use crate::failure::Failure;
use crate::ground::{cloud_context, worker_client};
use crate::job::Registry;
use crate::task::{Counts, Executor, Stop, TaskError, Work};
use crate::worker::{Ended, Ground, Worker, WorkerOptions};

/// One node of the coordinator.
#[derive(Clone, Debug)]
pub struct CoordinatorOptions {
    /// Its id in the cluster.
    pub id: NodeId,
    /// The nodes and where they listen.
    pub cluster: Cluster,
    /// Its data directory.
    pub data: PathBuf,
    /// Whether it has ever run.
    pub begin: Begin,
    /// It ends when its standard input does: with the process that has started it.
    pub with_parent: bool,
}

/// Runs a node of the coordinator until it is told to stop, or stops by itself.
///
/// # Errors
/// It cannot start, or has stopped by itself.
pub async fn coordinate(options: CoordinatorOptions) -> Result<(), Failure> {
    let CoordinatorOptions { id, cluster, data, begin, with_parent } = options;
    // Whoever waits for the ready line may send a signal at once.
    let told_to_stop = told_to_stop(with_parent)?;
    let place = data.display().to_string();
    let in_place =
        |error: &dyn std::fmt::Display| Failure::environment(format!("{place}: {error}"));
    let raft = serve(&cluster, id, data, begin, Coordinator::default())
        .await
        .map_err(|error| in_place(&error))?;
    say(&format!(
        "{READY}node {id} of the coordinator listens on {}",
        cluster.address(id).unwrap_or("?")
    ));
    let reason = tokio::select! {
        biased;
        reason = raft.stopped() => reason,
        () = told_to_stop => {
            raft.shutdown().await;
            raft.stopped().await
        }
    };
    if with_parent {
        say(&Used::now().line());
    }
    if reason == StopReason::Shutdown {
        return Ok(());
    }
    Err(in_place(&format!("node {id} has stopped: {reason}")))
}

/// A worker's process.
#[derive(Clone, Debug)]
pub struct WorkOptions {
    /// Where the coordinator is.
    pub cluster: Cluster,
    /// How many attempts at once.
    pub slots: u32,
    /// An attempt that gives no sign of life for so long hangs.
    pub hang_max: Duration,
    /// The jobs that it can do.
    pub registry: Registry,
    /// It ends when its standard input does: with the process that has started it.
    pub with_parent: bool,
}

/// Works until the coordinator says that all is done, until it is told to stop, or until an attempt hangs: then it gives back
/// what else it works on, and the process should [end at once](std::process::exit).
///
/// # Errors
/// It cannot listen for signals.
pub async fn work(options: WorkOptions) -> Result<Ended, Failure> {
    let WorkOptions { cluster, slots, hang_max, registry, with_parent } = options;
    let told_to_stop = told_to_stop(with_parent)?;
    let executor = DataExecutor::new(registry, Stores::new(), Limits::default());
    let executor: Arc<dyn Executor> = match cloud_context() {
        Some(handle) => Arc::new(InContext { executor, handle }),
        None => Arc::new(executor),
    };
    let (runtime, client) = worker_client(&cluster);
    let worker_options = WorkerOptions { slots, ground: Ground::Threads, hang_max };
    let (worker, handle) = Worker::new(runtime, client, executor, worker_options);
    say(&format!("{READY}worker {} with {slots} slots", worker.id()));
    let (ended, has_ended) = oneshot::channel();
    std::thread::spawn(move || {
        // Nobody waits any more where the process ends.
        let _ = ended.send(raft_rsm::block_on(worker.run()));
    });
    let mut has_ended = has_ended.fuse();
    let told_to_stop = told_to_stop.fuse();
    tokio::pin!(told_to_stop);
    loop {
        tokio::select! {
            biased;
            ended = &mut has_ended => {
                if with_parent {
                    say(&Used::now().line());
                }
                return ended.map_err(|_| Failure::environment("the worker ended without a word"));
            }
            () = &mut told_to_stop => handle.stop(),
        }
    }
}

/// How the line begins with which a process says that it is there.
const READY: &str = "ready: ";

/// What a process has printed before it said that it is there, and whether it did.
pub(crate) fn ready_split_off(printed: &[u8]) -> (&[u8], bool) {
    let at = printed.windows(READY.len()).position(|window| window == READY.as_bytes());
    at.map_or((printed, false), |at| (&printed[..at], true))
}

/// A worker ends with this exit code when all is done, where its parent has to know: whatever else ends it, also without an
/// error, leaves work to be done.
pub(crate) const ALL_IS_DONE: u8 = 10;

/// What a process has used until now, as far as that can be found out.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub(crate) struct Used {
    /// The time of all its threads on the processor, in seconds.
    pub(crate) cpu_seconds: f64,
    /// The most memory that it had at once, in bytes; 0 where nobody knows.
    pub(crate) peak_bytes: u64,
}

impl Used {
    const BEGINS: &str = "used: ";

    /// This process.
    pub(crate) fn now() -> Used {
        let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu_seconds = clock.tv_sec as f64 + clock.tv_nsec as f64 / 1e9;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = peak.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Used { cpu_seconds, peak_bytes: kibibytes.unwrap_or(0).saturating_mul(1024) }
    }

    /// What a child tells its parent when it ends.
    fn line(self) -> String {
        let Used { cpu_seconds, peak_bytes } = self;
        format!("{}{cpu_seconds} {peak_bytes}", Used::BEGINS)
    }

    /// The same, read again at the end of what a child has printed: the rest of that, and what it has used.
    pub(crate) fn split_off(printed: &[u8]) -> (&[u8], Option<Used>) {
        let begins = Used::BEGINS.as_bytes();
        let at = printed.windows(begins.len()).rposition(|window| window == begins);
        let said = at.and_then(|at| Some((at, Used::read(&printed[at + begins.len()..])?)));
        said.map_or((printed, None), |(at, used)| (&printed[..at], Some(used)))
    }

    fn read(figures: &[u8]) -> Option<Used> {
        let (cpu_seconds, peak_bytes) = str::from_utf8(figures).ok()?.trim_end().split_once(' ')?;
        Some(Used { cpu_seconds: cpu_seconds.parse().ok()?, peak_bytes: peak_bytes.parse().ok()? })
    }

    /// Of several processes: the time of all, the memory of the one with most.
    pub(crate) fn and(self, other: Used) -> Used {
        let cpu_seconds = self.cpu_seconds + other.cpu_seconds;
        Used { cpu_seconds, peak_bytes: self.peak_bytes.max(other.peak_bytes) }
    }
}

/// Enters a tokio runtime for what the stores in clouds do.
struct InContext {
    executor: DataExecutor,
    handle: tokio::runtime::Handle,
}

#[async_trait]
impl Executor for InContext {
    async fn execute(&self, work: Work, stop: Arc<dyn Stop>) -> Result<Counts, TaskError> {
        let execution = self.executor.execute(work, stop);
        let _entered = self.handle.enter();
        // Whoever polls this is there to be blocked.
        data::wait(execution)
    }
}

/// Completes at SIGTERM or SIGINT; and when standard input ends, where that is the parent's.
fn told_to_stop(with_parent: bool) -> Result<impl Future<Output = ()>, Failure> {
    let stop_signal = stop_signal()?;
    let parent_ended = if with_parent { Some(end_of_input()) } else { None };
    Ok(async move {
        let parent_ended = async {
            match parent_ended {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = stop_signal => {}
            () = parent_ended => {}
        }
    })
}

/// Listens for SIGTERM and SIGINT from now on; completes at the first, with its name.
pub(crate) fn stop_signal() -> Result<impl Future<Output = &'static str>, Failure> {
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Failure::environment(format!("cannot listen for signals: {error}")))
    };
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

fn end_of_input() -> oneshot::Receiver<()> {
    let (ended, has_ended) = oneshot::channel();
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut bytes = [0; 64];
        while stdin.read(&mut bytes).is_ok_and(|read| read > 0) {}
        // The process may be ending for another reason.
        let _ = ended.send(());
    });
    has_ended
}

/// A line on stdout, on which nothing depends.
pub(crate) fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// The same on stderr: that nobody reads it any more (`2>&1 | head`) is no reason to stop.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// What goes wrong and stops nothing is logged to stderr; `RUST_LOG` says how much of it.
///
/// The nodes of a `run` begin and end all at once, and that they cannot connect for a moment is nothing that goes wrong.
pub(crate) fn log_to_stderr(with_parent: bool) {
    let otherwise = if with_parent { "warn,raft_rsm::net::link=error" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(otherwise));
    // A program with jobs of its own may have a log already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Attempt, AttemptId, JobId, JobSpec, TaskId};

    struct Never;

    impl Stop for Never {
        fn is_stopped(&self) -> bool {
            false
        }
    }

    #[test]
    fn what_needs_a_runtime_is_carried_out_where_a_future_is_driven_already() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let executor = DataExecutor::new(Registry::empty(), Stores::new(), Limits::default());
        let executor = InContext { executor, handle: runtime.handle().clone() };
        let spec = JobSpec::of_nothing("memory:///out", 1);
        let id = AttemptId { job: JobId(1), task: TaskId::Map(0), attempt: Attempt(1) };
        let work = Work { id, spec: Arc::new(spec), inputs: Arc::default() };
        let executed = futures::executor::block_on(executor.execute(work, Arc::new(Never)));
        let Err(TaskError::Failed(why)) = executed else { panic!("{executed:?}") };
        assert!(why.contains("there is no job \"word-count\""), "{why}");
    }
}
