//! The command line: what can be said, and what is done about it.

mod jobs;
mod submit;

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use raft_rsm::raft_core::NodeId;
use raft_rsm::{Begin, Cluster};

use crate::failure::{Failure, one_line};
use crate::generate::generate;
use crate::ground::beside;
use crate::job::Registry;
use crate::process::{self, CoordinatorOptions, WorkOptions, log_to_stderr, say, tell};
use crate::run;
use crate::worker::{Ended, HANG_MAX};

const ABOUT: &str =
    "MapReduce whose coordinator is replicated: workers, coordinators and machines may come and go";

const AFTER_HELP: &str = "\
Try it, all on this machine:
  mapreduce-example generate text/ --files 8 --bytes 400000
  mapreduce-example run --job word-count --input 'text/*.txt' --output counts/

With a coordinator of three nodes (each in a terminal of its own, or on machines that share the data's stores):
  CLUSTER=1=127.0.0.1:7301,2=127.0.0.1:7302,3=127.0.0.1:7303
  mapreduce-example coordinator --id 1 --cluster $CLUSTER --data node1 --init
  mapreduce-example coordinator --id 2 --cluster $CLUSTER --data node2 --init
  mapreduce-example coordinator --id 3 --cluster $CLUSTER --data node3 --init
  mapreduce-example worker --cluster $CLUSTER
  mapreduce-example submit --cluster $CLUSTER --job word-count --input 'text/*.txt' --output counts/ --wait

What goes wrong and stops nothing is logged to stderr; RUST_LOG says how much (warn, info, debug).

Exit codes:
  0  it was done
  1  the job failed or was cancelled, the coordinator said no, or a task hangs at this worker
  2  the command was used wrongly, or a file, a port or a majority of the coordinators is missing";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "mapreduce-example", version, about = ABOUT, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Do a job on this machine: coordinator, workers and all
    Run(RunArgs),
    /// Run one node of the coordinator until it is told to stop
    Coordinator(CoordinatorArgs),
    /// Work until told to stop, or until the coordinator is closed and all is done
    Worker(WorkerArgs),
    /// Submit a job to a coordinator
    Submit(SubmitArgs),
    /// Print the jobs that the coordinator knows
    Jobs(ListArgs),
    /// Print how a job is doing: tasks, workers, what takes long, what failed
    Status(StatusArgs),
    /// Cancel a job
    Cancel(CancelArgs),
    /// Take no more jobs until `open`, and let the workers end when those that were taken are done
    Close(CloseArgs),
    /// Take jobs again after `close`; workers that have ended are to be started again
    Open(OpenArgs),
    /// Write text to try things with: made up, as large as you like, the same for the same seed
    Generate(GenerateArgs),
}

/// Which coordinator, and how long to try.
#[derive(Debug, Args)]
struct ClusterArgs {
    /// The coordinator's nodes and where they listen: ID=HOST:PORT,ID=HOST:PORT,...
    #[arg(long, value_name = "CLUSTER")]
    cluster: Cluster,
    /// Give up after this many seconds without an answer
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    timeout: Duration,
}

/// What is to be done.
#[derive(Debug, Args)]
struct JobArgs {
    /// The job: see `--help` for their names
    #[arg(long, value_name = "NAME")]
    job: String,
    /// What the job is told; may be repeated
    #[arg(long = "arg", value_name = "NAME=VALUE", value_parser = argument)]
    arguments: Vec<(String, String)>,
    /// The inputs: paths or URLs, with *, ? and [...] as in a shell; may be repeated
    #[arg(long, value_name = "PATTERN", required = true)]
    input: Vec<String>,
    /// The folder of the results, a path or URL: empty, or not there yet
    #[arg(long, value_name = "FOLDER")]
    output: String,
    /// Delete what is in the output folder
    #[arg(long)]
    force: bool,
    /// How many files the results are divided into
    #[arg(long, value_name = "N")]
    reducers: Option<NonZeroU32>,
    /// Divide inputs into splits of at most so many bytes, a map task each
    #[arg(long, value_name = "BYTES", default_value_t = crate::data::SPLIT_BYTES_MAX,
        value_parser = clap::value_parser!(u64).range(1..))]
    split_bytes: u64,
    /// A task that failed so often fails the job
    #[arg(long, value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    failures: u32,
}

/// How long a task may do nothing.
#[derive(Debug, Args)]
struct HangArgs {
    /// A task that reads, writes and emits nothing for so long hangs: it fails, and its worker ends. At least as long as a call of the object store takes with its retries
    #[arg(long = "hang-seconds", value_name = "N", default_value_t = HANG_MAX.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Worker processes [default: one for each two cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: Option<u32>,
    /// Tasks at once in each worker [default: as many as make all cores work]
    #[arg(long, value_name = "N", value_parser = slots)]
    slots: Option<u32>,
    #[command(flatten)]
    hang: HangArgs,
    /// Nodes of the coordinator, a process each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=7))]
    coordinators: u32,
    /// Print how it went as an object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CoordinatorArgs {
    /// This node's id in the cluster
    #[arg(long, value_name = "ID")]
    id: u64,
    /// The nodes and where they listen: ID=HOST:PORT,ID=HOST:PORT,...
    #[arg(long, value_name = "CLUSTER")]
    cluster: Cluster,
    /// The directory with this node's log and snapshots
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// This is the first start: create the directory
    #[arg(long)]
    init: bool,
    /// End when standard input does
    #[arg(long, hide = true)]
    with_parent: bool,
}

#[derive(Debug, Args)]
struct WorkerArgs {
    /// The coordinator's nodes and where they listen: ID=HOST:PORT,ID=HOST:PORT,...
    #[arg(long, value_name = "CLUSTER")]
    cluster: Cluster,
    /// Tasks at once [default: one for each core]
    #[arg(long, value_name = "N", value_parser = slots)]
    slots: Option<u32>,
    #[command(flatten)]
    hang: HangArgs,
    /// End when standard input does
    #[arg(long, hide = true)]
    with_parent: bool,
}

#[derive(Debug, Args)]
struct SubmitArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    job: JobArgs,
    /// Wait until the job has ended, and show how it goes on
    #[arg(long)]
    wait: bool,
    /// Print an object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The number of the job, as `submit` and `jobs` print it
    #[arg(value_name = "JOB")]
    job: u64,
    /// Print an object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CancelArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The number of the job, as `submit` and `jobs` print it
    #[arg(value_name = "JOB")]
    job: u64,
}

#[derive(Debug, Args)]
struct CloseArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Args)]
struct OpenArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Args)]
struct GenerateArgs {
    /// The folder, which is created
    dir: PathBuf,
    /// How many files
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    files: u32,
    /// How large each is
    #[arg(long, value_name = "BYTES", default_value_t = 400_000)]
    bytes: u64,
    /// Another number is another text
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Reads the command line, does what it says with these jobs, and returns the exit code. What goes wrong is told on stderr.
///
/// A program with jobs of its own has a `main` that calls this with a registry that knows them: it then is coordinator,
/// worker and all for them, and so are the processes that its `run` starts.
pub async fn run(registry: Registry, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let jobs = jobs_help(&registry);
    let command = Cli::command()
        .mut_subcommand("run", |run| run.after_help(jobs.clone()))
        .mut_subcommand("submit", |submit| submit.after_help(jobs));
    let parsed = command.try_get_matches_from(args);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    log_to_stderr(matches!(
        cli.action,
        Action::Coordinator(CoordinatorArgs { with_parent: true, .. })
    ));
    match act(cli.action, registry).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&format!("error: {failure}"));
            failure.exit_code()
        }
    }
}

async fn act(action: Action, registry: Registry) -> Result<(), Failure> {
    match action {
        Action::Run(args) => run_here(args, registry).await,
        Action::Coordinator(args) => {
            let CoordinatorArgs { id, cluster, data, init, with_parent } = args;
            let begin = if init { Begin::Anew } else { Begin::Again };
            let id = NodeId(id);
            process::coordinate(CoordinatorOptions { id, cluster, data, begin, with_parent }).await
        }
        Action::Worker(args) => {
            let WorkerArgs { cluster, slots, hang: HangArgs { seconds }, with_parent } = args;
            let slots = slots.unwrap_or_else(cores);
            let hang_max = Duration::from_secs(seconds);
            let options = WorkOptions { cluster, slots, hang_max, registry, with_parent };
            match process::work(options).await? {
                Ended::AllDone if with_parent => std::process::exit(process::ALL_IS_DONE.into()),
                Ended::AllDone | Ended::Stopped => Ok(()),
                Ended::Hung(id) => {
                    tell(&format!(
                        "error: {id} hangs, without a sign of life for {seconds} seconds: this worker ends, since nothing else ends that"
                    ));
                    // The end of `main` would wait for it, where it hangs on a thread of the runtime.
                    std::process::exit(1);
                }
            }
        }
        Action::Submit(args) => submit::submit(args, registry).await,
        Action::Jobs(args) => jobs::list(args).await,
        Action::Status(args) => jobs::status(args).await,
        Action::Cancel(args) => jobs::cancel(args).await,
        Action::Close(args) => jobs::close(args).await,
        Action::Open(args) => jobs::open(args).await,
        Action::Generate(args) => {
            let GenerateArgs { dir, files, bytes, seed } = args;
            let place = dir.display().to_string();
            let generated = beside(move || generate(&dir, files, bytes, seed)).await?;
            let paths = generated.map_err(|error| {
                Failure::environment(format!("cannot write to {place}: {error}"))
            })?;
            say(&format!("{} files of {bytes} bytes in {place}", paths.len()));
            Ok(())
        }
    }
}

async fn run_here(args: RunArgs, registry: Registry) -> Result<(), Failure> {
    let RunArgs { job, workers, slots, hang, coordinators, json } = args;
    let workers = workers.unwrap_or_else(|| cores().div_ceil(2));
    let slots = slots.unwrap_or_else(|| cores().div_ceil(workers));
    let submit::Prepared { spec, is_to_be_cleared } =
        submit::prepare(job, registry.clone()).await?;
    let report = run::run(run::Options {
        spec,
        is_to_be_cleared,
        workers,
        slots,
        hang_max: Duration::from_secs(hang.seconds),
        coordinators,
        registry,
    })
    .await?;
    if json {
        say(&report.json().to_string());
    } else {
        say(&report.to_string());
    }
    Ok(())
}

/// What the jobs are called, and what they can be told.
fn jobs_help(registry: &Registry) -> String {
    let mut text = "Jobs:\n".to_owned();
    for kind in registry.kinds() {
        text += &format!("  {:<16}{}\n", kind.name(), kind.about());
        for argument in kind.arguments() {
            let needed = if argument.required { "" } else { " (may be left out)" };
            text +=
                &format!("  {:<16}  --arg {}=...  {}{needed}\n", "", argument.name, argument.about);
        }
    }
    text + "\nEach worker reads the inputs and writes the results itself: on several machines, they must reach all of them."
}

fn usage(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    if error.kind() == ErrorKind::ValueValidation {
        // The rest is advice that a wrong value does not need.
        tell(&one_line(text.split("\n\n").next().unwrap_or_default()));
    } else {
        // A closed stdout is no reason for another exit code.
        let _ = error.print();
    }
    if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
}

fn cores() -> u32 {
    std::thread::available_parallelism()
        .ok()
        .and_then(|cores| u32::try_from(cores.get()).ok())
        .unwrap_or(1)
        .clamp(1, 256)
}

fn argument(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected NAME=VALUE".to_owned()),
    }
}

fn slots(text: &str) -> Result<u32, String> {
    const SLOTS_POSSIBLE: u32 = 256;
    match text.parse::<u32>() {
        Ok(slots) if (1..=SLOTS_POSSIBLE).contains(&slots) => Ok(slots),
        Ok(_) | Err(_) => Err(format!("expected a number from 1 to {SLOTS_POSSIBLE}")),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    const SECONDS_MAX: f64 = 86_400.0;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => {
            Ok(Duration::from_secs_f64(seconds))
        }
        Ok(_) | Err(_) => Err(format!("expected a number of seconds from 0 to {SECONDS_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_names_all_jobs() {
        Cli::command().debug_assert();
        let help = jobs_help(&Registry::shipped());
        assert!(Registry::shipped().kinds().all(|kind| help.contains(kind.name())));
    }
}
