//! A job on this machine: the coordinator's nodes and the workers as child processes, which are started again when they
//! die.
//!
//! Nothing depends on a child: what a worker had not finished is handed out again, and a node of the coordinator goes on with
//! what its disk holds. The children end with this process, however it ends: their standard input is a pipe from here.

mod children;
mod merged;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::children::{Children, Role};
use self::merged::Told;
pub use self::merged::merge_results;
use crate::coordinator::limits::tasks_lost_max;
use crate::coordinator::{Clerk, ClerkError, JobState, JobSummary, JobView};
use crate::data::Stores;
use crate::execute::called;
use crate::failure::Failure;
use crate::ground::{abandon, beside, clear, clerk};
use crate::job::Registry;
use crate::process::{Used, stop_signal, tell};
use crate::progress::{Shown, bytes, place, seconds};
use crate::task::{JobId, JobSpec, TaskError};

/// One request to the coordinator ends after this: a node that was killed is back long before.
const PATIENCE: Duration = Duration::from_secs(60);

/// The job is looked at this often, and the children with it.
const EACH: Duration = Duration::from_millis(200);

/// When all is done, workers end by themselves within this, and nodes when they are told to.
const ENDING: Duration = Duration::from_secs(10);

/// A merge that is told to stop ends within this, or is left alone.
const MERGE_ENDING: Duration = Duration::from_secs(2);

/// What is to be done, and by how many.
#[derive(Clone, Debug)]
pub struct Options {
    /// The job.
    pub spec: JobSpec,
    /// What is in the output is deleted, once nothing is in the way of the job.
    pub is_to_be_cleared: bool,
    /// Worker processes.
    pub workers: u32,
    /// Attempts at once in each.
    pub slots: u32,
    /// A task that does nothing for so long has failed, and its worker is started again: whole seconds, and not none.
    pub hang_max: Duration,
    /// Nodes of the coordinator.
    pub coordinators: u32,
    /// The jobs that this program knows.
    pub registry: Registry,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Report {
    view: JobView,
    took: Duration,
    merged: String,
    /// How many children died and were started again.
    died: u32,
    /// What the coordinator's nodes, and what the workers have used, but for those that died.
    used: [Used; 2],
}

impl Report {
    /// As an object.
    #[must_use]
    pub fn json(&self) -> Value {
        let Report { view, took, merged, died, used: [coordinators, workers] } = self;
        let (maps, reduces) = (&view.summary.maps, &view.summary.reduces);
        json!({
            "job": view.summary.job,
            "maps": maps.tasks,
            "reduces": reduces.tasks,
            "bytes_in": maps.counts.bytes_in,
            "seconds": took.as_secs_f64(),
            "processes_started_again": died,
            "own_cpu_seconds": Used::now().cpu_seconds,
            "coordinators_cpu_seconds": coordinators.cpu_seconds,
            "workers_cpu_seconds": workers.cpu_seconds,
            "worker_peak_bytes": workers.peak_bytes,
            "output": view.output,
            "merged": merged,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { view, took, merged, died, used: _ } = self;
        let maps = &view.summary.maps;
        write!(
            f,
            "{}: {} in {} splits, done in {}",
            view.summary.job,
            bytes(maps.counts.bytes_in),
            maps.tasks,
            seconds(*took)
        )?;
        if *died > 0 {
            write!(f, "; {died} processes were started again")?;
        }
        write!(f, "\nresults in {}, all in one in {merged}", place(&view.output))
    }
}

/// Does a job, and merges its results into one file besides. SIGTERM and SIGINT stop it, within a
/// minute whatever hangs.
///
/// # Errors
/// The job failed, it was told to stop, or a process cannot be started. Whatever of the results is there is whole, and
/// `_SUCCESS` is not there unless all are; it is there if they only could not be merged. What is left between map and reduce is
/// removed.
pub async fn run(options: Options) -> Result<Report, Failure> {
    let Options { spec, is_to_be_cleared, workers, slots, hang_max, coordinators, registry } =
        options;
    let begin = Instant::now();
    let mut stopped = Box::pin(stop_signal()?);
    let losses_max = tasks_lost_max(&spec);
    let worker_args = vec![
        "--slots".to_owned(),
        slots.to_string(),
        "--hang-seconds".to_owned(),
        hang_max.as_secs().to_string(),
    ];
    let mut children = tokio::select! {
        biased;
        signal = &mut stopped => return Err(stopped_by(signal, "before the job was begun")),
        children = Children::start(coordinators, workers, worker_args, losses_max) => children?,
    };
    let clerk = clerk(children.cluster(), PATIENCE)?;
    let tasks_done = AtomicU32::new(0);
    let doing = async {
        if is_to_be_cleared {
            clear(spec.output.clone()).await?;
        }
        do_it(&clerk, spec.clone(), &tasks_done).await
    };
    let done = tokio::select! {
        biased;
        done = doing => done,
        // Before the children: whoever signals all processes of a service has signalled them, too.
        signal = &mut stopped => Err(stopped_by(signal, "before the job was done")),
        failure = children.keep_running(EACH, &tasks_done) => Err(failure),
    };
    let view = match done {
        Ok(view) => view,
        Err(failure) => {
            children.stop(ENDING).await;
            // Nobody writes any more.
            abandon(spec).await;
            return Err(failure);
        }
    };
    let signal = tokio::select! {
        biased;
        signal = &mut stopped => Some(signal),
        () = children.wait_for_workers(ENDING) => None,
    };
    children.stop(ENDING).await;
    let merged = match signal {
        Some(signal) => Err(unmerged(signal, &spec)),
        None => merge(registry, spec, stopped).await,
    }?;
    let (took, died, used) = (begin.elapsed(), children.died(), children.used());
    Ok(Report { view, took, merged, died, used })
}

/// Merges the results, until it is done or `stopped` is.
async fn merge(
    registry: Registry,
    spec: JobSpec,
    stopped: impl Future<Output = &'static str>,
) -> Result<String, Failure> {
    let (told, spec) = (Arc::new(Told::default()), Arc::new(spec));
    let work = {
        let (told, spec) = (Arc::clone(&told), Arc::clone(&spec));
        let merge = move || merge_results(&registry, &spec, &Stores::new(), &*told);
        // It calls the job.
        move || called(merge).unwrap_or_else(|panic| Err(TaskError::Failed(panic)))
    };
    let mut merging = pin!(beside(work));
    let (merged, signal) = tokio::select! {
        biased;
        merged = &mut merging => (merged?, None),
        signal = stopped => {
            told.stop();
            // What it waits for now may take long: a store that does not answer.
            let merged = tokio::time::timeout(MERGE_ENDING, merging).await;
            (merged.unwrap_or(Ok(Err(TaskError::Stopped)))?, Some(signal))
        }
    };
    merged.map_err(|error| match (error, signal) {
        (TaskError::Stopped, Some(signal)) => unmerged(signal, &spec),
        (error @ (TaskError::Stopped | TaskError::Failed(_) | TaskError::LostMap(_)), _) => {
            let output = place(&spec.output);
            let job = &spec.job;
            Failure::environment(format!(
                "the results are in {output}, and cannot be merged ({job}): {error}"
            ))
        }
    })
}

fn stopped_by(signal: &str, when: &str) -> Failure {
    Failure::environment(format!("stopped by {signal} {when}"))
}

fn unmerged(signal: &str, spec: &JobSpec) -> Failure {
    let output = place(&spec.output);
    stopped_by(signal, &format!("before the results were merged: all of them are in {output}"))
}

/// Has the job done, and tells how many of its `tasks_done` are.
async fn do_it(clerk: &Clerk, spec: JobSpec, tasks_done: &AtomicU32) -> Result<JobView, Failure> {
    let job = clerk.submit(spec.token, spec).await?;
    // The workers end with the job.
    clerk.close().await?;
    let mut shown = Shown::new(job);
    loop {
        if let Some(view) = look(clerk, job).await? {
            shown.show(&view);
            let JobSummary { maps, reduces, .. } = &view.summary;
            tasks_done.store(maps.done.saturating_add(reduces.done), Ordering::Relaxed);
            match &view.state {
                JobState::Unfinished => {}
                JobState::Succeeded => return Ok(view),
                JobState::Failed(why) => return Err(Failure::refused(why)),
                JobState::Cancelled => return Err(Failure::refused("the job was cancelled")),
            }
        }
    }
}

/// How the job stands; `None` while the coordinator does not answer, which is no reason to give up.
async fn look(clerk: &Clerk, job: JobId) -> Result<Option<JobView>, Failure> {
    let looked = async {
        clerk.done(job, EACH).await?;
        clerk.job(job).await
    };
    match tokio::time::timeout(EACH * 5, looked).await {
        Ok(Ok(Some(view))) => Ok(Some(view)),
        Ok(Ok(None)) => Err(Failure::environment("the coordinator does not know the job any more")),
        Ok(Err(ClerkError::Client(_))) | Err(_) => Ok(None),
        Ok(Err(error)) => Err(error.into()),
    }
}

/// Tells on stderr that a child died, which is nothing to worry about.
fn tell_of_death(role: &Role, how: &str) {
    tell(&format!("{role} has died ({how}), and is started again"));
}

/// For those who want to kill one.
fn introduce(role: &Role, process: u32) {
    tell(&format!("{role} is process {process}"));
}
