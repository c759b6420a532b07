//! What must be true in every run: a checker a file, and beside each a fault that it must catch.

use std::time::Duration;

use crate::event::Event;

/// Watches a run for one kind of violation.
pub trait Checker: Send + 'static {
    /// What it watches over, in a few words.
    fn name(&self) -> &'static str;

    /// This happened, at this time.
    ///
    /// # Errors
    /// It must not have happened: what is wrong, in a sentence.
    fn observe(&mut self, now: Duration, event: &Event) -> Result<(), String>;

    /// The run is over.
    ///
    /// # Errors
    /// Something must have happened by now: what is missing, in a sentence.
    fn finish(&mut self, _now: Duration) -> Result<(), String> {
        Ok(())
    }
}
