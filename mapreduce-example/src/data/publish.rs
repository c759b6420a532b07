//! The results get their names.

use std::fs;
use std::io::ErrorKind;

use super::layout::{Layout, SUCCESS};
use super::location::{DataError, Location, Stores};
use crate::task::{Attempt, JobSpec, TaskError, TaskId};

/// Gives the outputs of these attempts, one for each reduce task in order, the names of results; says that all are there; then
/// removes what was between. It may be repeated, be done twice at once, or end half-way and be done again: what is between stays
/// until all results are there, and each step finds out whether it was done already.
///
/// `check_stop` is asked before each step, and whether the folder is still this job's: one that was cancelled meanwhile has no
/// results, and the folder may be the next one's already.
pub(crate) fn publish(
    layout: &Layout,
    attempts: &[Attempt],
    check_stop: impl Fn() -> Result<(), TaskError>,
) -> Result<(), TaskError> {
    let success = layout.success();
    let mut text = format!("job {}, attempts", layout.job());
    for Attempt(attempt) in attempts {
        text += &format!(" {attempt}");
    }
    text += "\n";
    let is_published = || match success.read() {
        Ok(bytes) => Ok(bytes == text.as_bytes()),
        Err(DataError::Missing { .. }) => Ok(false),
        Err(error @ (DataError::Failed { .. } | DataError::Damaged { .. })) => Err(error),
    };
    // Whether it is still to be done. Somebody else who was faster gives the folder back, too.
    let is_open = || -> Result<bool, TaskError> {
        if is_published()? {
            return Ok(false);
        }
        if layout.is_owned()? {
            return Ok(true);
        }
        if is_published()? { Ok(false) } else { Err(layout.not_owned()) }
    };
    if is_open()? {
        for (reduce, attempt) in (0..).zip(attempts) {
            check_stop()?;
            let output = layout.attempt(TaskId::Reduce(reduce), *attempt);
            match output.copy_to(&layout.part(reduce)) {
                Ok(()) => {}
                // Somebody else was faster, and is removing already.
                Err(DataError::Missing { .. }) if is_published()? => break,
                Err(error) => return Err(error.into()),
            }
        }
        check_stop()?;
        if is_open()? {
            check_stop()?;
            success.put(text.clone().into())?;
        }
    }
    // The results are complete: that something is left beside them is no reason to say otherwise.
    remove_between(layout);
    Ok(())
}

/// Removes what is left between map and reduce of a job that has failed or was cancelled. What is another job's stays, and so do
/// results that have their names already.
///
/// An attempt that is still under way may write again afterwards; nobody removes that.
pub(crate) fn abandon(stores: &Stores, spec: &JobSpec) {
    match Layout::new(stores, spec) {
        Ok(layout) => remove_between(&layout),
        Err(error) => tracing::warn!(%error, "there is no such output"),
    }
}

fn remove_between(layout: &Layout) {
    let removed = remove_folder(&layout.between()).and_then(|()| layout.disclaim());
    if let Err(error) = removed {
        tracing::warn!(%error, "what was between map and reduce cannot be removed");
    }
    // Others may have left something.
    remove_if_empty(&layout.all_between());
}

/// Whether there is nothing in the folder, or no such folder.
///
/// # Errors
/// It cannot be listed.
pub fn is_empty(stores: &Stores, output: &str) -> Result<bool, DataError> {
    let folder = stores.locate(output)?;
    if let Some(path) = folder.local_path() {
        // Also what a store would not list, such as empty folders and half-written files.
        return match fs::read_dir(&path) {
            Ok(mut entries) => Ok(entries.next().is_none()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            Err(error) => Err(failed(&folder, &error)),
        };
    }
    let list = folder.list()?;
    Ok(list.objects.is_empty() && list.common_prefixes.is_empty())
}

/// Deletes all that is in the folder.
///
/// # Errors
/// Something cannot be deleted; other things may be gone.
pub fn clear(stores: &Stores, output: &str) -> Result<(), DataError> {
    let folder = stores.locate(output)?;
    let Some(path) = folder.local_path() else { return folder.delete_below() };
    let failed = |error| failed(&folder, &error);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    // Else what is half deleted would look finished.
    match fs::remove_file(path.join(SUCCESS)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_name() == SUCCESS {
            continue;
        }
        // A link is deleted, not what it leads to.
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        let path = entry.path();
        let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.map_err(failed)?;
    }
    Ok(())
}

fn remove_folder(folder: &Location) -> Result<(), DataError> {
    match folder.local_path() {
        None => folder.delete_below(),
        Some(path) => match fs::remove_dir_all(path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(folder, &error)),
        },
    }
}

fn remove_if_empty(folder: &Location) {
    if let Some(path) = folder.local_path() {
        let _ = fs::remove_dir(path);
    }
}

fn failed(folder: &Location, error: &std::io::Error) -> DataError {
    DataError::Failed { place: folder.name(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_abandoned_leaves_what_is_another_ones() {
        let (stores, dir) = (Stores::new(), tempfile::tempdir().unwrap());
        for output in [dir.path().to_str().unwrap(), "memory:///abandoned"] {
            let spec = |token| JobSpec::of_nothing(output, token);
            let [ours, theirs] = [7, 8].map(|token| Layout::new(&stores, &spec(token)).unwrap());
            let run = |layout: &Layout| layout.attempt(TaskId::Map(0), Attempt(1));
            let is_there = |place: &Location| place.head().is_ok();
            let owner = ours.all_between().join("owner");
            for owns in [&ours, &theirs] {
                owns.claim().unwrap();
                for layout in [&ours, &theirs] {
                    run(layout).put("a run".into()).unwrap();
                }
                abandon(&stores, &spec(7));
                assert!(!is_there(&run(&ours)) && is_there(&run(&theirs)));
            }
            assert_eq!(owner.read().unwrap(), theirs.job(), "it was free in between");
            abandon(&stores, &spec(8));
            assert!(!is_there(&owner) && !is_there(&run(&theirs)));
        }
        assert!(is_empty(&stores, dir.path().to_str().unwrap()).unwrap());
    }
}
