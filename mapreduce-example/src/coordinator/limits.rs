//! What the table of tasks may hold: whatever is submitted, its memory is bounded.

use std::time::Duration;

use super::command::Command;
use crate::task::{Counts, JobSpec};

/// Whoever is silent for so long loses what it was given: much longer than an election takes, so that no work is lost to
/// one. All replicas must agree on it.
pub const LEASE: Duration = Duration::from_secs(5);

/// A worker that has failed at a task is not given it again before so long, whoever else is there: one that fails at once would
/// use up all of its tries in no time. All replicas must agree on it.
pub const FAILED_REST: Duration = Duration::from_secs(1);

/// Nobody keeps a task for the others longer than this: they may be busy for ever, and while it waits nothing else of its job has
/// a second attempt. Many leases, so that others who are there have asked for it by then. All replicas must agree on it.
pub const FAILED_REST_MAX: Duration = Duration::from_secs(10 * LEASE.as_secs());

/// A worker that has failed, and has not finished anything since, is suspected for so long to be broken itself: much longer than
/// it has to [rest](FAILED_REST_MAX), so that it still is when it fails at the next thing that it is given, however long that
/// takes. All replicas must agree on it.
pub const SUSPECTED_FOR: Duration = Duration::from_secs(720 * LEASE.as_secs());

/// So many workers are suspected at most; beyond that, whoever has failed first is not any more.
pub(super) const SUSPECTS_MAX: usize = 10_000;

/// There are at most so many jobs that have not ended.
pub const JOBS_QUEUED_MAX: usize = 1_000;

/// So many jobs are remembered that have ended.
pub const JOBS_ENDED_MAX: usize = 1_000;

/// A job has at most so many tasks: a reduce task is told of each map task.
pub const JOB_TASKS_MAX: usize = 100_000;

/// All jobs together have at most so many tasks that are not done: some 150 MB.
pub const QUEUED_TASKS_MAX: usize = 1_000_000;

/// A specification is at most so long, in bytes: it is one command, and one answer to each worker.
pub const SPEC_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A job is told at most so many arguments: what each of them takes in memory is much more than what it says.
pub const ARGUMENTS_MAX: usize = 1_000;

/// All specifications of jobs that have not ended are at most so long together, in bytes.
pub const QUEUED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The name of a job, and the URL of its output, are at most so long: lists of all jobs show them.
pub const NAME_BYTES_MAX: usize = 100;
/// See [`NAME_BYTES_MAX`].
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024;

/// A worker works on at most so many attempts, and has at most so many reports to make.
pub const SLOTS_MAX: usize = 1_024;

/// A task fails at most so often before its job does.
pub const FAILURES_MAX: u32 = 1_000;

/// A task that was lost so often for each time that it may fail takes its workers with it, as it seems.
const LOSSES_PER_FAILURE: u32 = 3;

/// No task is handed out more often, whatever the reasons: so that its job ends.
pub(super) const ATTEMPTS_MAX: u32 = 100_000;

/// So many failures of a job are remembered, the last ones.
pub(super) const FAILURES_KEPT: usize = 8;

/// A failure's text is cut after so many bytes.
pub(super) const TEXT_BYTES_MAX: usize = 1_000;

/// So many attempts of a job are shown.
pub(super) const RUNNING_SHOWN_MAX: usize = 1_000;

/// An attempt that has taken so many times as long as half of its phase's tasks did is a straggler ...
pub(crate) const STRAGGLER_FACTOR: u32 = 2;

/// ... unless it has taken no longer than this: where tasks are short, there is nothing to gain.
pub(crate) const STRAGGLER_MIN: Duration = Duration::from_secs(1);

/// ... and so is one that has taken so long, whatever others did: they may be too few to tell. Only slots that have nothing else to
/// do are lost to its second attempt.
pub(crate) const STRAGGLER_AFTER: Duration = Duration::from_secs(60);

/// Why a job is not taken, whatever else there is.
pub(crate) fn check(spec: &JobSpec) -> Result<(), String> {
    let JobSpec { job, arguments, inputs, output, reducers, failures_max, token: _ } = spec;
    if job.len() > NAME_BYTES_MAX {
        return Err(format!("the name of a job is at most {NAME_BYTES_MAX} bytes long"));
    }
    if output.len() > OUTPUT_BYTES_MAX {
        return Err(format!("the URL of the output is at most {OUTPUT_BYTES_MAX} bytes long"));
    }
    if arguments.len() > ARGUMENTS_MAX {
        return Err(format!("a job is told at most {ARGUMENTS_MAX} arguments"));
    }
    if *reducers == 0 {
        return Err("a job needs at least 1 reducer".to_owned());
    }
    if !(1..=FAILURES_MAX).contains(failures_max) {
        return Err(format!("a task may fail from 1 to {FAILURES_MAX} times, not {failures_max}"));
    }
    let tasks = tasks(spec);
    if tasks > JOB_TASKS_MAX {
        let (inputs, reducers) = (inputs.len(), *reducers);
        return Err(format!(
            "a job has at most {JOB_TASKS_MAX} tasks, and this one would have {inputs} to map and {reducers} to reduce: \
             make the splits larger"
        ));
    }
    let bytes = bytes(spec);
    if bytes > SPEC_BYTES_MAX {
        return Err(format!(
            "what is to be done takes {bytes} bytes to say, the limit is {SPEC_BYTES_MAX}: make the splits larger"
        ));
    }
    Ok(())
}

/// A task that was lost so often takes its workers with it, as it seems: then its job fails.
pub(crate) fn tasks_lost_max(spec: &JobSpec) -> u32 {
    spec.failures_max.saturating_mul(LOSSES_PER_FAILURE)
}

/// Map and reduce tasks.
pub(super) fn tasks(spec: &JobSpec) -> usize {
    spec.inputs.len().saturating_add(usize::try_from(spec.reducers).unwrap_or(usize::MAX))
}

/// As long as it is at most, serialized.
pub(crate) fn bytes(spec: &JobSpec) -> usize {
    // Two numbers of up to ten bytes each, and one for a length.
    const SPLIT_BYTES: usize = 25;
    const OTHERS: usize = 64;
    let arguments = spec.arguments.iter().map(|(name, value)| name.len() + value.len() + 10);
    let inputs = spec.inputs.iter().map(|split| split.input.len() + SPLIT_BYTES);
    arguments.chain(inputs).sum::<usize>() + spec.job.len() + spec.output.len() + OTHERS
}

/// Why a command is not let into the log.
pub(super) fn admit(command: &Command) -> Result<(), String> {
    let (running, reports) = match command {
        // Refused by its response, so that whoever submits learns of it in one way.
        Command::Submit { .. }
        | Command::Cancel { .. }
        | Command::Close
        | Command::Forget { .. }
        | Command::Open => {
            return Ok(());
        }
        Command::Work { running, reports, .. } => (running.len(), reports.len()),
        Command::Leave { reports, .. } => (0, reports.len()),
    };
    if running > SLOTS_MAX || reports > SLOTS_MAX {
        return Err(format!(
            "a worker has at most {SLOTS_MAX} attempts, and this one runs {running} and reports {reports}"
        ));
    }
    Ok(())
}

/// Counts whose sum over all tasks of a job has room in its range, whatever a worker says.
pub(super) fn cap(counts: Counts) -> Counts {
    const COUNT_MAX: u64 = u64::MAX / (2 * JOB_TASKS_MAX as u64);
    let Counts { bytes_in, bytes_out, records } = counts;
    Counts {
        bytes_in: bytes_in.min(COUNT_MAX),
        bytes_out: bytes_out.min(COUNT_MAX),
        records: records.min(COUNT_MAX),
    }
}

/// A text that is not longer than it may be.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let mut end = TEXT_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
