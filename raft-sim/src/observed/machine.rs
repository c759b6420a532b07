//! A machine that tells what it applies.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raft_rsm::raft_core::{EntryId, LogIndex};
use raft_rsm::{Admission, Context, SnapshotView, StateMachine};

use super::Observer;
use crate::event::{Digest, Event};

/// A user's machine, unchanged, that tells an [`Observer`] what it applies and restores. Whoever holds it, too, can look
/// at it between two steps.
#[derive(Debug)]
pub struct ObservedMachine<M> {
    machine: Arc<Mutex<M>>,
    observer: Observer,
}

impl<M> ObservedMachine<M> {
    /// `machine`, observed.
    #[must_use]
    pub fn new(machine: Arc<Mutex<M>>, observer: Observer) -> ObservedMachine<M> {
        ObservedMachine { machine, observer }
    }

    fn machine(&self) -> MutexGuard<'_, M> {
        // One that panicked ends its node, and the run.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: StateMachine> StateMachine for ObservedMachine<M> {
    type Command = M::Command;
    type Response = M::Response;
    type Query = M::Query;
    type Answer = M::Answer;

    fn apply(&mut self, context: &Context, command: M::Command) -> M::Response {
        let digest = Digest::of_value(&command);
        let ledger = &self.observer.ledger;
        let takes_down = ledger.takes_down(context);
        let encoded = takes_down.then(|| postcard::to_allocvec(&command).ok()).flatten();
        let response = self.machine().apply(context, command);
        let answered = Digest::of_value(&response);
        if let Some(encoded) = encoded {
            ledger.applied(context, encoded, answered);
        }
        self.observer.tell(Event::Applied {
            node: self.observer.node,
            id: EntryId::new(context.term, context.index),
            command: digest,
            response: answered,
        });
        response
    }

    fn advance(&mut self, context: &Context) {
        self.observer.ledger.advanced(context, self.observer.executor.now());
        self.machine().advance(context);
    }

    fn due(&self) -> Option<Duration> {
        self.machine().due()
    }

    fn is_ready(&self, query: &M::Query, since: LogIndex) -> bool {
        self.machine().is_ready(query, since)
    }

    fn admission(&self) -> Admission<M::Command> {
        self.machine().admission()
    }

    fn query(&self, query: M::Query) -> M::Answer {
        self.machine().query(query)
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        self.machine().snapshot()
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        self.machine().restore(image)?;
        let last = *self.observer.opened();
        self.observer.tell(Event::Restored { node: self.observer.node, last });
        Ok(())
    }
}
