//! What the coordinator knows of jobs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{CancelArgs, CloseArgs, ListArgs, OpenArgs, StatusArgs};
use crate::coordinator::{ClerkError, JobState, JobSummary, JobView, Progress, RunningView};
use crate::failure::{Failure, one_line};
use crate::ground::clerk;
use crate::process::say;
use crate::progress::{bytes, place, seconds};
use crate::task::JobId;

pub(super) async fn list(args: ListArgs) -> Result<(), Failure> {
    let jobs = clerk(&args.cluster.cluster, args.cluster.timeout)?.jobs().await?;
    if args.json {
        say(&Value::from_iter(jobs.iter().map(summary_json)).to_string());
        return Ok(());
    }
    let mut text = format!("{:<8}{:<18}{:<12}{:<14}{}", "job", "name", "state", "maps", "reduces");
    for JobSummary { id, job, state, maps, reduces, .. } in &jobs {
        let of = |progress: &Progress| format!("{}/{}", progress.done, progress.tasks);
        text += &format!(
            "\n{:<8}{:<18}{:<12}{:<14}{}",
            id.0,
            one_line(job),
            state_name(state),
            of(maps),
            of(reduces)
        );
    }
    say(&text);
    Ok(())
}

pub(super) async fn status(args: StatusArgs) -> Result<(), Failure> {
    let StatusArgs { cluster, job, json } = args;
    let view = clerk(&cluster.cluster, cluster.timeout)?.job(JobId(job)).await?;
    let Some(view) = view else {
        return Err(Failure::refused(format!("there is no job {job}, or none any more")));
    };
    match json {
        true => say(&view_json(&view).to_string()),
        false => say(&view_text(&view)),
    }
    Ok(())
}

pub(super) async fn cancel(args: CancelArgs) -> Result<(), Failure> {
    let CancelArgs { cluster, job } = args;
    let cancelled = clerk(&cluster.cluster, cluster.timeout)?.cancel(JobId(job)).await;
    cancelled.map_err(|error| match error {
        ClerkError::Client(_) | ClerkError::Unfit => Failure::from(error),
        ClerkError::Refused(_)
        | ClerkError::NoJob
        | ClerkError::HasEnded
        | ClerkError::HasNotEnded => Failure::refused(format!("job {job}: {error}")),
    })?;
    say(&format!("job {job} is cancelled"));
    Ok(())
}

pub(super) async fn close(args: CloseArgs) -> Result<(), Failure> {
    clerk(&args.cluster.cluster, args.cluster.timeout)?.close().await?;
    say("no more jobs are taken, until `open`; the workers end when all is done");
    Ok(())
}

pub(super) async fn open(args: OpenArgs) -> Result<(), Failure> {
    clerk(&args.cluster.cluster, args.cluster.timeout)?.open().await?;
    say("jobs are taken; workers that have ended are to be started again");
    Ok(())
}

fn view_text(view: &JobView) -> String {
    let JobView { summary, output, state, age, running, failures } = view;
    let workers: BTreeSet<_> = running.iter().map(|one| one.worker).collect();
    let mut text = format!(
        "job {} ({}): {}, {} {}",
        summary.id,
        one_line(&summary.job),
        state_name(state),
        if matches!(state, JobState::Unfinished) { "for" } else { "after" },
        seconds(*age),
    );
    if let JobState::Failed(why) = state {
        text += &format!("\n  {}", one_line(why));
    }
    let mut row = |name: &str, progress: &Progress| {
        let Progress { tasks, done, pending, counts } = progress;
        let left = tasks.saturating_sub(*done).saturating_sub(*pending);
        let running = if matches!(state, JobState::Unfinished) { left } else { 0 };
        let milliseconds = u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1);
        let per_second = counts.bytes_in.saturating_mul(1_000) / milliseconds;
        text += &format!(
            "\n  {name:<8}{done:>6} of {tasks} done, {running} running, {pending} waiting; {} in, {} out, {}/s",
            bytes(counts.bytes_in),
            bytes(counts.bytes_out),
            bytes(per_second)
        );
    };
    row("map", &summary.maps);
    row("reduce", &summary.reduces);
    text += &format!("\n  output  {}", place(output));
    if !running.is_empty() {
        let plural = if workers.len() == 1 { "" } else { "s" };
        text += &format!("\n  {} running, at {} worker{plural}:", running.len(), workers.len());
    }
    for RunningView { attempt, worker, age, is_straggler } in running {
        let slow = if *is_straggler { ", slow" } else { "" };
        text += &format!(
            "\n    {}, attempt {}: {} at worker {worker}{slow}",
            attempt.task,
            attempt.attempt.0,
            seconds(*age)
        );
    }
    for failure in failures {
        text += &format!(
            "\n  failed: {}, attempt {} at worker {}: {}",
            failure.task,
            failure.attempt.0,
            failure.worker,
            one_line(&failure.text)
        );
    }
    text
}

fn state_name(state: &JobState) -> &'static str {
    match state {
        JobState::Unfinished => "unfinished",
        JobState::Succeeded => "succeeded",
        JobState::Failed(_) => "failed",
        JobState::Cancelled => "cancelled",
    }
}

fn summary_json(summary: &JobSummary) -> Value {
    let JobSummary { id, job, state, phase, maps, reduces, running } = summary;
    let progress = |progress: &Progress| {
        let Progress { tasks, done, pending, counts } = progress;
        json!({
            "tasks": tasks, "done": done, "pending": pending,
            "bytes_in": counts.bytes_in, "bytes_out": counts.bytes_out, "records": counts.records,
        })
    };
    json!({
        "job": id.0, "name": job, "state": state_name(state), "phase": phase.to_string(),
        "maps": progress(maps), "reduces": progress(reduces), "running": running,
    })
}

pub(super) fn view_json(view: &JobView) -> Value {
    let JobView { summary, output, state, age, running, failures } = view;
    let mut object = summary_json(summary);
    object["output"] = json!(output);
    object["seconds"] = json!(age.as_secs_f64());
    if let JobState::Failed(why) = state {
        object["error"] = json!(why);
    }
    object["attempts"] = Value::from_iter(running.iter().map(|one| {
        json!({
            "task": one.attempt.task.to_string(), "attempt": one.attempt.attempt.0,
            "worker": one.worker.to_string(), "seconds": one.age.as_secs_f64(), "slow": one.is_straggler,
        })
    }));
    object["failures"] = Value::from_iter(failures.iter().map(|one| {
        json!({
            "task": one.task.to_string(), "attempt": one.attempt.0, "worker": one.worker.to_string(), "error": one.text,
        })
    }));
    object
}
