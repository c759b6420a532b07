//! A job, from the command line to the coordinator.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::{JobArgs, SubmitArgs};
use crate::coordinator::{JobState, limits};
use crate::data::{self, Location, Stores};
use crate::failure::Failure;
use crate::ground::{abandon, beside, clear, clerk, token};
use crate::job::Registry;
use crate::process::say;
use crate::progress;
use crate::task::JobSpec;

/// Where the results of a job are divided and nobody says into how many.
const REDUCERS: u32 = 10;

/// A job that may be submitted once its output is empty.
pub(super) struct Prepared {
    pub(super) spec: JobSpec,
    /// There is something in the output, and it may be deleted.
    pub(super) is_to_be_cleared: bool,
}

/// Looks at the inputs and the output, and makes the specification.
pub(super) async fn prepare(args: JobArgs, registry: Registry) -> Result<Prepared, Failure> {
    beside(move || prepare_here(args, &registry)).await?
}

fn prepare_here(args: JobArgs, registry: &Registry) -> Result<Prepared, Failure> {
    let JobArgs { job, arguments, input, output, force, reducers, split_bytes, failures } = args;
    let stores = Stores::new();
    let arguments = arguments.into_iter().collect();
    registry.check(&job, &arguments).map_err(Failure::environment)?;
    let most = registry.kinds().find(|kind| kind.name() == job);
    let most = most.map_or(REDUCERS, |kind| kind.reducers_max().min(REDUCERS));
    let reducers = reducers.map_or(most, |reducers| reducers.get());
    let output = stores.locate(&output).map_err(Failure::environment)?;
    let inputs = data::splits(&stores, &input, split_bytes).map_err(Failure::environment)?;
    let url = output.url().to_owned();
    let places = inputs.iter().map(|split| &split.input).chain([&url]);
    if let Some(place) = places.into_iter().find(|place| place.starts_with("memory:")) {
        let why = "each process has a memory of its own, and sees none of the others'";
        return Err(Failure::environment(format!("{place}: {why}")));
    }
    let mut spec = JobSpec {
        job,
        arguments,
        inputs,
        output: url,
        reducers,
        failures_max: failures,
        token: token(),
    };
    registry.prepare(&mut spec, &stores).map_err(Failure::environment)?;
    // The coordinator would say so, too, but not before the old results are deleted.
    limits::check(&spec).map_err(Failure::refused)?;
    let is_to_be_cleared = !data::is_empty(&stores, output.url()).map_err(Failure::environment)?;
    if is_to_be_cleared {
        if !force {
            let name = output.name();
            return Err(Failure::environment(format!(
                "the output folder {name} is not empty; --force deletes what is in it"
            )));
        }
        if let Some(input) = input_within(&spec, &output, &stores)? {
            let name = output.name();
            let why = format!("the input {input} is in the output folder {name}");
            return Err(Failure::environment(why));
        }
    }
    Ok(Prepared { spec, is_to_be_cleared })
}

/// An input that would be deleted with what is in the output folder.
fn input_within(
    spec: &JobSpec,
    output: &Location,
    stores: &Stores,
) -> Result<Option<String>, Failure> {
    let folder = format!("{}/", output.url().trim_end_matches('/'));
    // Links lead there by other names.
    let real = output.local_path().and_then(|path| fs::canonicalize(path).ok());
    let leads_there = |path: &Path| {
        fs::canonicalize(path)
            .is_ok_and(|path| real.as_ref().is_some_and(|output| path.starts_with(output)))
    };
    let mut last = "";
    for split in &spec.inputs {
        if last == split.input {
            continue;
        }
        last = &split.input;
        let input = stores.locate(&split.input).map_err(Failure::environment)?;
        // Also one that is a link there to somewhere else.
        let is_there = input.local_path().is_some_and(|path| path.ancestors().any(leads_there));
        if is_there || input.url().starts_with(&folder) {
            return Ok(Some(input.name()));
        }
    }
    Ok(None)
}

pub(super) async fn submit(args: SubmitArgs, registry: Registry) -> Result<(), Failure> {
    let SubmitArgs { cluster, job, wait, json } = args;
    let clerk = clerk(&cluster.cluster, cluster.timeout)?;
    let prepared = prepare(job, registry).await?;
    // Nothing is deleted for a job that would not be taken.
    clerk.has_room(&prepared.spec).await?;
    let Prepared { spec, is_to_be_cleared } = prepared;
    if is_to_be_cleared {
        clear(spec.output.clone()).await?;
    }
    let (maps, reducers, output) = (spec.inputs.len(), spec.reducers, spec.output.clone());
    // Its inputs may be many, and what it leaves is removed without them.
    let left = JobSpec { inputs: Vec::new(), ..spec.clone() };
    let id = clerk.submit(spec.token, spec).await?;
    if json && !wait {
        say(&json!({ "job": id.0, "maps": maps, "reducers": reducers, "output": output })
            .to_string());
        return Ok(());
    }
    if !json {
        say(&format!("job {id}: {maps} map tasks, {reducers} reduce tasks"));
    }
    if !wait {
        return Ok(());
    }
    let view = progress::follow(&clerk, id).await.map_err(|failure| {
        failure.after(&format!(
            "job {id} was submitted, and what has become of it is not known (`status {id}` asks again)"
        ))
    })?;
    let name = &view.summary.job;
    let failure = match &view.state {
        JobState::Unfinished | JobState::Succeeded => None,
        JobState::Failed(why) => Some(format!("job {id} ({name}) failed: {why}")),
        JobState::Cancelled => Some(format!("job {id} ({name}) was cancelled")),
    };
    if let Some(failure) = failure {
        // Its workers are told to stop, and may write for a moment.
        abandon(left).await;
        return Err(Failure::refused(failure));
    }
    match json {
        true => say(&super::jobs::view_json(&view).to_string()),
        false => say(&format!("job {id} is done: the results are in {}", progress::place(&output))),
    }
    Ok(())
}
