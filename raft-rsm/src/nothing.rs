//! A state machine for tests of what lies around one.

use std::io;

use crate::{Context, SnapshotView, StateMachine};

/// Has no state, and answers each command and query with nothing.
pub(crate) struct Nothing;

impl StateMachine for Nothing {
    type Command = ();
    type Response = ();
    type Query = ();
    type Answer = ();

    fn apply(&mut self, _: &Context, (): ()) {}

    fn query(&self, (): ()) {}

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        Box::new(|_: &mut dyn io::Write| Ok(()))
    }

    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }
}
