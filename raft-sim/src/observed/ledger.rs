//! What the machines of a run were told, entry by entry.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raft_rsm::raft_core::LogIndex;
use raft_rsm::{Context, StateMachine};

use crate::event::Digest;

/// An entry of the log, as the machines were told of it.
#[derive(Clone, Debug)]
pub struct Told<C> {
    /// Where it stands, and the log's time there.
    pub context: Context,
    /// When the first machine was told, in true time.
    pub at: Duration,
    /// The command, and what the machine answered. `None`: it brought the log's time and nothing else to the machine; a mark,
    /// say, or a command of a session that was carried out before.
    pub command: Option<(C, Digest)>,
}

/// All entries that any machine of a run was told of.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<LogIndex, Entry>,
    difference: Option<String>,
}

#[derive(Debug)]
struct Entry {
    context: Context,
    at: Duration,
    /// Serialized.
    command: Option<(Vec<u8>, Digest)>,
}

impl Ledger {
    /// A machine was told the log's time at an entry.
    pub(super) fn advanced(&self, context: &Context, now: Duration) {
        let mut inner = self.lock();
        let Inner { entries, difference } = &mut *inner;
        let entry = entries.entry(context.index).or_insert(Entry {
            context: *context,
            at: now,
            command: None,
        });
        if entry.context != *context {
            difference.get_or_insert_with(|| {
                format!("one machine was told {:?}, and another one {context:?}", entry.context)
            });
        }
    }

    /// Whether the command of this entry is not known yet.
    pub(super) fn takes_down(&self, context: &Context) -> bool {
        self.lock().entries.get(&context.index).is_some_and(|entry| entry.command.is_none())
    }

    /// A machine has carried a command out. That all of them answer the same is the checkers' matter.
    pub(super) fn applied(&self, context: &Context, command: Vec<u8>, response: Digest) {
        if let Some(entry) = self.lock().entries.get_mut(&context.index) {
            entry.command = Some((command, response));
        }
    }

    /// All entries, in their order.
    pub(crate) fn told<M: StateMachine>(&self) -> Vec<Told<M::Command>> {
        let inner = self.lock();
        let told = inner.entries.values().map(|Entry { context, at, command }| {
            let command = command.as_ref().and_then(|(command, response)| {
                Some((postcard::from_bytes(command).ok()?, *response))
            });
            Told { context: *context, at: *at, command }
        });
        told.collect()
    }

    /// Two machines that were told different times of the log at the same entry.
    pub(crate) fn difference(&self) -> Option<String> {
        self.lock().difference.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
