//! The command line of a swarm: the simulator's own, and that of anyone who has a machine and a workload.

mod arguments;
mod show;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use raft_rsm::StateMachine;

use self::arguments::{Arguments, What};
pub use self::show::replay;
use crate::plan::{Bounds, Plan};
use crate::recorder::TraceTo;
use crate::shrink::shrink;
use crate::simulation::{Failure, Violated};
use crate::swarm::Subject;
use crate::workload::Workload;

/// So many violations are enough to see what is wrong.
const VIOLATIONS_MAX: usize = 10;

/// Without a terminal, progress is a line this often.
const LINE_EACH: Duration = Duration::from_secs(10);

const VIOLATED: u8 = 1;
const USAGE: u8 = 2;

/// Runs the command line for a machine and a workload. `command` is what a user types before the options, for the
/// command that replays a seed. Returns 0 if nothing was violated, 1 if something was, 2 if it could not be run.
///
/// ```no_run
/// use raft_sim::registers::{ReadsAndWrites, Registers};
///
/// fn main() -> std::process::ExitCode {
///     raft_sim::cli::run("cargo run --release --", Registers::default, ReadsAndWrites::default)
/// }
/// ```
pub fn run<M: StateMachine, W: Workload<Machine = M>>(
    command: &str,
    machine: impl Fn() -> M + Send + Sync + 'static,
    workload: impl Fn() -> W + Send + Sync + 'static,
) -> ExitCode {
    let arguments = Arguments::parse();
    let subject = Subject { machine: Arc::new(machine), workload: Arc::new(workload) };
    // A panic within a node is a violation, and told as one.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let outcome = match arguments.what() {
        Ok(What::One(seed)) => one(&subject, command, &arguments, seed),
        Ok(What::Many(seeds)) => many(&subject, command, &arguments, seeds),
        Err(problem) => Err(problem),
    };
    std::panic::set_hook(hook);
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(VIOLATED),
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "error: {problem}");
            ExitCode::from(USAGE)
        }
    }
}

/// Whether nothing was violated, or why it could not be run.
type Outcome = Result<bool, String>;

fn one<W: Workload>(
    subject: &Subject<W>,
    command: &str,
    arguments: &Arguments,
    seed: u64,
) -> Outcome {
    let bounds = arguments.bounds()?;
    let plan = Plan::draw(seed, &bounds).map_err(|error| error.to_string())?;
    if let Some(keep) = &bounds.keep {
        let missing =
            keep.iter().find(|number| !plan.faults.iter().any(|it| it.number == **number));
        if let Some(number) = missing {
            return Err(format!("--keep: seed {seed} draws no fault {number} within these bounds"));
        }
    }
    let trace = arguments.trace.then(|| {
        show::line(&plan.to_string());
        to_stdout()
    });
    match subject.run(seed, &bounds, trace) {
        Ok(report) => {
            show::report(&report, arguments.json);
            Ok(true)
        }
        Err(Failure::Plan(error)) => Err(error.to_string()),
        Err(Failure::Violated(violated)) => {
            show::violated(&violated, &bounds, command, arguments.json);
            if arguments.shrink {
                shrunk(subject, command, seed, &bounds, violated)?;
            }
            Ok(false)
        }
        #[expect(unreachable_patterns, reason = "the enum may grow")]
        Err(other) => Err(other.to_string()),
    }
}

fn shrunk<W: Workload>(
    subject: &Subject<W>,
    command: &str,
    seed: u64,
    bounds: &Bounds,
    violated: Violated,
) -> Result<(), String> {
    let bar = bar(None);
    let progress = |tries: usize, best: &Bounds| {
        let faults = best.keep.as_ref().map_or(0, Vec::len);
        let (nodes, operations) = (best.nodes.unwrap_or(0), best.operations.unwrap_or(0));
        bar.set_message(format!(
            "shrinking: {tries} runs; {faults} faults, {nodes} nodes, {operations} operations"
        ));
        bar.tick();
    };
    let shrunk = shrink(subject, seed, bounds, violated, &progress);
    bar.finish_and_clear();
    show::shrunk(&shrunk.map_err(|error| error.to_string())?, command);
    Ok(())
}

fn many<W: Workload>(
    subject: &Subject<W>,
    command: &str,
    arguments: &Arguments,
    seeds: std::ops::Range<u64>,
) -> Outcome {
    let bounds = arguments.bounds()?;
    let total = seeds.end - seeds.start;
    let bar = bar(Some(total));
    let is_terminal = std::io::stderr().is_terminal();
    let began = Instant::now();
    let last_line = Mutex::new(began);
    let progress = |done: u64, violations: usize| {
        bar.set_message(format!("{violations} violations"));
        bar.set_position(done);
        let mut last = last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_terminal && last.elapsed() >= LINE_EACH {
            *last = Instant::now();
            let _ = writeln!(std::io::stderr(), "{done} of {total} seeds, {violations} violations");
        }
    };
    let jobs = arguments.jobs()?;
    let summary = subject
        .run_all(seeds, &bounds, jobs, VIOLATIONS_MAX, &progress)
        .map_err(|error| error.to_string())?;
    bar.finish_and_clear();
    show::summary(&summary, began.elapsed(), &bounds, command, arguments.json);
    if arguments.shrink
        && let Some(first) = summary.violations.first()
        && let Err(Failure::Violated(violated)) = subject.run(first.seed, &bounds, None)
    {
        shrunk(subject, command, first.seed, &bounds, violated)?;
    }
    Ok(summary.violations.is_empty())
}

fn to_stdout() -> TraceTo {
    Arc::new(|line: &str| show::line(line))
}

/// A bar on a terminal, nothing elsewhere.
fn bar(total: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
    }
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = match total {
        Some(_) => "{bar:30} {pos}/{len} seeds, {per_sec}, {eta} left, {msg}",
        None => "{spinner} {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
