//! The table of tasks as it is written into a snapshot.
//!
//! ```text
//! image  = "MAPREDUCE" format:u8 record(head) record(job)*        (as many as the head says; ids ascending)
//! record = length:u32 bytes                                       (little-endian; the bytes are postcard's)
//! ```
//!
//! Only what cannot be known from the rest is written: who waits, who is next, sums and medians are made anew. It is written
//! and read a job at a time, so memory holds one beside the table. Checksums are the storage's matter; what is checked
//! here is that the image makes sense.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::attempts::Running;
use super::command::{Failure, JobState, Progress, WorkerId};
use super::job::{End, Job, PHASES};
use super::limits::{self, FAILURES_KEPT};
use super::state::State;
use super::suspects::{FailedAt, Suspects};
use super::tasks::{Failed, Task, Tasks};
use crate::task::{AttemptId, JobId, JobSpec, TaskId};

const MAGIC: &[u8; 9] = b"MAPREDUCE";
const FORMAT: u8 = 3;

/// No task has more attempts at once.
const ATTEMPTS_AT_ONCE_MAX: usize = 2;

#[derive(Serialize, Deserialize)]
struct Head {
    time: Duration,
    index: u64,
    is_closed: bool,
    suspects: Vec<(WorkerId, Duration, FailedAt)>,
    jobs: u64,
}

#[derive(Serialize, Deserialize)]
struct JobImage {
    id: JobId,
    token: u128,
    spec: Arc<JobSpec>,
    submitted_at: Duration,
    tasks: [Vec<Task>; 3],
    running: Vec<(AttemptId, Running)>,
    served: u64,
    doubted: Option<Failed>,
    failures: Vec<Failure>,
    end: Option<(End, [Progress; 3])>,
}

pub(super) fn write(state: &State, image: &mut dyn Write) -> io::Result<()> {
    let mut image = io::BufWriter::new(image);
    image.write_all(MAGIC)?;
    image.write_all(&[FORMAT])?;
    let State { time, index, is_closed, jobs, suspects, .. } = state;
    let (time, index, is_closed) = (*time, *index, *is_closed);
    let suspects = suspects.iter().collect();
    write_record(&mut image, &Head { time, index, is_closed, suspects, jobs: jobs.len() as u64 })?;
    for (id, job) in jobs {
        let of_phase = |phase| job.of_phase(phase);
        let job = JobImage {
            id: *id,
            token: job.token,
            spec: Arc::clone(&job.spec),
            submitted_at: job.submitted_at,
            tasks: PHASES.map(|phase| of_phase(phase).iter().cloned().collect()),
            running: state.attempts.of_job(*id).collect(),
            served: job.served,
            doubted: job.doubted,
            failures: job.failures.iter().cloned().collect(),
            end: job.end.clone().map(|end| (end, PHASES.map(|phase| of_phase(phase).progress()))),
        };
        write_record(&mut image, &job)?;
    }
    image.flush()
}

pub(super) fn read(image: &mut dyn Read) -> io::Result<State> {
    let mut image = io::BufReader::new(image);
    if &array::<9>(&mut image)? != MAGIC {
        return Err(senseless("this is no image of a table of tasks"));
    }
    let [format] = array(&mut image)?;
    if format != FORMAT {
        let advice = match format > FORMAT {
            true => "use the version that wrote it, or a newer one",
            false => {
                "use the version that wrote it until its jobs are done, and begin anew with this one"
            }
        };
        return Err(senseless(format!(
            "the image has format {format}, this program reads format {FORMAT}: {advice}"
        )));
    }
    let Head { time, index, is_closed, suspects, jobs } = read_record(&mut image)?;
    let suspects = Suspects::restored(suspects);
    let mut state = State { time, index, is_closed, suspects, ..State::default() };
    for _ in 0..jobs {
        let job: JobImage = read_record(&mut image)?;
        let id = job.id;
        if state.jobs.get_max().is_some_and(|(last, _)| *last >= id) {
            return Err(senseless(format!("job {id} of the image is out of order")));
        }
        add(&mut state, job).map_err(|why| senseless(format!("job {id} of the image {why}")))?;
    }
    if image.read(&mut [0])? != 0 {
        return Err(senseless(format!("the image goes on after its {jobs} jobs")));
    }
    Ok(state)
}

fn add(state: &mut State, image: JobImage) -> Result<(), String> {
    let JobImage { id, token, spec, submitted_at, tasks, running, served, doubted, failures, end } =
        image;
    if state.tokens.insert(token, id).is_some() {
        return Err("has the token of another one".to_owned());
    }
    if failures.len() > FAILURES_KEPT {
        return Err("has too many failures".to_owned());
    }
    let (tasks, end) = match end {
        None => (unfinished(&spec, tasks)?, None),
        Some((end, progress)) => (ended(tasks, &running, &end, &progress)?, Some(end)),
    };
    let mut job = Job::with_tasks(token, spec, submitted_at, tasks);
    job.failures = failures.into();
    job.served = served;
    job.doubted = doubted;
    match &end {
        None => state.queued.add(&job.spec),
        Some(end) => {
            state.ended.insert((end.index, id));
        }
    }
    job.end = end;
    let is_unfinished = job.end.is_none();
    job.running = u32::try_from(running.len()).map_err(|_| "has too many attempts")?;
    for (attempt, running) in running {
        let is_its = attempt.job == id
            && job.task(attempt.task).is_some_and(|task| task.may_finish(attempt.attempt));
        let others = state.attempts.of_task(id, attempt.task);
        if !is_its || others.count() >= ATTEMPTS_AT_ONCE_MAX {
            return Err(format!("has an attempt that makes no sense: {attempt}"));
        }
        if state.attempts.get(attempt).is_some() {
            return Err(format!("has an attempt twice: {attempt}"));
        }
        state.attempts.insert(attempt, running);
    }
    let (maps, reduces) = (job.maps.progress().tasks, job.reduces.progress().tasks);
    state.jobs.insert(id, Arc::new(job));
    if is_unfinished {
        let all = (0..maps).map(TaskId::Map).chain((0..reduces).map(TaskId::Reduce));
        all.chain([TaskId::Publish]).for_each(|task| state.set(id, task));
        state.queue(id);
    }
    Ok(())
}

/// The tasks of a job that has not ended.
fn unfinished(spec: &JobSpec, tasks: [Vec<Task>; 3]) -> Result<[Tasks; 3], String> {
    limits::check(spec)?;
    let lens = tasks.each_ref().map(Vec::len);
    let reducers = usize::try_from(spec.reducers).unwrap_or(usize::MAX);
    if lens != [spec.inputs.len(), reducers, 1] {
        return Err(format!("has {lens:?} tasks, which are not those of its specification"));
    }
    let is_right = |task: &Task| {
        let Task { handed_out, void, failures, failed, finished, .. } = task;
        let is_handed_out = finished.is_none_or(|finished| {
            *void < finished.attempt.0
                && finished.attempt.0 <= *handed_out
                && finished.counts == limits::cap(finished.counts)
        });
        let is_failed = failed.is_some() || *failures == 0;
        void <= handed_out && *handed_out <= limits::ATTEMPTS_MAX && is_handed_out && is_failed
    };
    if !tasks.iter().flatten().all(is_right) {
        return Err("has a task that was finished by no attempt, or failed and did not".to_owned());
    }
    let [maps, reduces, publish] = tasks.map(Tasks::restored);
    let (Some(maps), Some(reduces), Some(publish)) = (maps, reduces, publish) else {
        return Err("has too many tasks".to_owned());
    };
    if publish.is_done() {
        return Err("is published and has not ended".to_owned());
    }
    Ok([maps, reduces, publish])
}

/// What is remembered of the tasks of a job that has ended.
fn ended(
    tasks: [Vec<Task>; 3],
    running: &[(AttemptId, Running)],
    end: &End,
    progress: &[Progress; 3],
) -> Result<[Tasks; 3], String> {
    let is_over = end.state != JobState::Unfinished && running.is_empty();
    if !is_over || tasks.iter().any(|tasks| !tasks.is_empty()) {
        return Err("has ended and goes on".to_owned());
    }
    match progress.each_ref().map(Tasks::ended) {
        [Some(maps), Some(reduces), Some(publish)] => Ok([maps, reduces, publish]),
        [_, _, _] => Err("has done more tasks than it had".to_owned()),
    }
}

fn write_record<T: Serialize>(image: &mut impl Write, record: &T) -> io::Result<()> {
    let bytes = postcard::to_allocvec(record).map_err(|error| senseless(error.to_string()))?;
    let len = u32::try_from(bytes.len())
        .map_err(|_| senseless(format!("a job of {} bytes does not fit the image", bytes.len())))?;
    image.write_all(&len.to_le_bytes())?;
    image.write_all(&bytes)
}

/// Memory grows with what is there, not with what a damaged length claims.
fn read_record<T: DeserializeOwned>(image: &mut impl Read) -> io::Result<T> {
    let len = u32::from_le_bytes(array(image)?);
    let mut bytes = Vec::new();
    image.take(len.into()).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != u64::from(len) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match postcard::take_from_bytes(&bytes) {
        Ok((record, [])) => Ok(record),
        Ok((_, more)) => Err(senseless(format!("a record has {} bytes too many", more.len()))),
        Err(error) => Err(senseless(error.to_string())),
    }
}

fn array<const N: usize>(image: &mut impl Read) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    image.read_exact(&mut array)?;
    Ok(array)
}

fn senseless(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}
