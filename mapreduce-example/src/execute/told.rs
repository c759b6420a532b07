//! What goes wrong in the job's own code is told with what it was given.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::task::TaskError;

/// What `call` returns, which calls the job; or what it said when it panicked. Whatever it has touched is to be given up then.
pub(crate) fn called<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call))
        .map_err(|panic| format!("it panicked: {}", message(&*panic)))
}

/// The same for what says itself why it failed.
pub(super) fn tried<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, TaskError> {
    called(call).flatten().map_err(TaskError::Failed)
}

/// Says before what a task failed of at which `place` that was.
pub(super) fn at<T>(
    place: impl FnOnce() -> String,
    outcome: Result<T, TaskError>,
) -> Result<T, TaskError> {
    outcome.map_err(|error| match error {
        TaskError::Failed(text) => TaskError::Failed(format!("{}: {text}", place())),
        TaskError::LostMap(_) | TaskError::Stopped => error,
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}
