//! The replicated table of tasks: which jobs there are, what of them is done, and who works on what.
//!
//! | to find | look in |
//! |---|---|
//! | what it is told and asked | `coordinator/command.rs`, and for those who submit jobs `coordinator/clerk.rs` |
//! | what happens to jobs, tasks and attempts, and who is given what | `coordinator/state.rs` |
//! | one job and its phases; the tasks of a phase, and its stragglers | `coordinator/job.rs`, `coordinator/tasks.rs` |
//! | what can be handed out, and who is not to have it | `coordinator/offers.rs`, `coordinator/suspects.rs` |
//! | leases | `coordinator/attempts.rs` |
//! | what it says when it is asked | `coordinator/view.rs` |
//! | how much it holds | [`limits`] |
//! | how it is written down | `coordinator/image.rs` |
//!
//! A task is handed out as an attempt, with a lease on the log's time that the worker renews. It may be handed out again when
//! the lease has run out, when it failed or was given back, and near the end of a phase when it takes much longer than
//! others did, or very long; of its attempts, the first that is heard to have finished is the task's. It is done again only if what
//! it has written is lost.
//!
//! What a worker has failed at goes to others: it is not given the same again as long as any of them works on something, and
//! else only after a [rest](limits::FAILED_REST). Until it finishes something it is a [suspect](limits::SUSPECTED_FOR): it is given
//! nothing that anybody has failed at, and what it fails at does not count, as long as any others work that are no suspects, or at
//! least not for the same job. Nothing waits for those [for ever](limits::FAILED_REST_MAX), as they may be busy for as long; but
//! that does not count either. So workers that fail at everything fail no job while another one works, as long as there are fewer
//! of them than a task may fail. And a job that always fails does so soon: those who work on it are suspects, all of them.
//!
//! Likewise no map task is done again because one worker cannot read what it has written, while others work: another one has to
//! say so, too, or none has read all of it for as long.
//!
//! A worker that was silent for longer than its lease goes on with what it has, unless others have it by then.
//!
//! *Absent:* whatever a worker reads or writes. The table only knows which attempt counts.

mod attempts;
mod clerk;
mod command;
mod image;
mod job;
pub mod limits;
mod median;
mod offers;
mod state;
mod suspects;
mod tasks;
#[cfg(test)]
mod tests;
mod view;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use raft_rsm::raft_core::LogIndex;
use raft_rsm::{Admission, Context, SnapshotView, StateMachine};

pub use self::clerk::{Clerk, ClerkError};
pub use self::command::*;
use self::state::State;

/// The state machine.
///
/// Its collections are persistent: a clone costs nothing and shares all that does not change later, which is what makes a
/// snapshot cheap. No command looks at all tasks of a job but its submission, its end, and whoever asks what a reduce task
/// builds upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coordinator {
    state: State,
}

impl StateMachine for Coordinator {
    type Command = Command;
    type Response = Response;
    type Query = Query;
    type Answer = Answer;

    fn apply(&mut self, context: &Context, command: Command) -> Response {
        let state = &mut self.state;
        // It may be that time was told without an entry.
        state.advance(context.index.0, context.time);
        match command {
            Command::Submit { token, spec } => state.submit(token, spec),
            Command::Cancel { job } => state.cancel(job),
            Command::Work { worker, running, reports, slots } => {
                state.work(worker, &running, reports, slots)
            }
            Command::Leave { worker, reports } => state.leave(worker, reports),
            Command::Close => {
                state.is_closed = true;
                Response::Closed
            }
            Command::Forget { job } => state.forget(job),
            Command::Open => {
                state.is_closed = false;
                Response::Opened
            }
        }
    }

    fn advance(&mut self, context: &Context) {
        self.state.advance(context.index.0, context.time);
    }

    fn due(&self) -> Option<Duration> {
        self.state.due()
    }

    fn admission(&self) -> Admission<Command> {
        Arc::new(limits::admit)
    }

    fn query(&self, query: Query) -> Answer {
        view::answer(&self.state, query)
    }

    fn is_ready(&self, query: &Query, _: LogIndex) -> bool {
        view::is_ready(&self.state, query)
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        Box::new(View(self.state.clone()))
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        // The old state goes first, so that memory never holds both.
        self.state = State::default();
        self.state = image::read(image)?;
        Ok(())
    }
}

/// The table as it was when a snapshot was asked for.
struct View(State);

impl SnapshotView for View {
    fn write_to(&self, image: &mut dyn io::Write) -> io::Result<()> {
        image::write(&self.0, image)
    }
}
