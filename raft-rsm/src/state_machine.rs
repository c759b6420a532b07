//! What a user of this crate writes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use raft_core::{LogIndex, Term};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A deterministic machine that is replicated: the same commands in the same order lead to the same state and
/// the same responses on every node. It reads no clock, draws no random number, and iterates over no
/// collection whose order is left to chance.
pub trait StateMachine: Send + 'static {
    /// What changes the state. It is serialized by postcard, which is not self-describing: variants
    /// and fields are only ever added at the end.
    type Command: Serialize + DeserializeOwned + Send + 'static;
    /// What a command returns. Replicas compare how it is serialized ([`crate::Options::divergence_check_entries`]), so
    /// that must be the same on all of them, too: no hash maps in it, whose order is left to chance, and no new field
    /// on some of them.
    type Response: Serialize + DeserializeOwned + Send + 'static;
    /// What asks about the state.
    type Query: Serialize + DeserializeOwned + Send + 'static;
    /// What a query returns.
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    /// Carries out one committed command.
    fn apply(&mut self, context: &Context, command: Self::Command) -> Self::Response;

    /// The log's time is [`Context::time`] now: whatever is due by then ends, a lease, say. Called before each command, and
    /// when something is [due](StateMachine::due) and nobody writes. It is a part of what replicas do alike: no other
    /// clock decides. By default nothing ever ends.
    fn advance(&mut self, context: &Context) {
        let _ = context;
    }

    /// The log's time at which something ends next. A leader sees to it that the log's time is told by then, and now and then
    /// before, even if nobody writes. (A new leader goes on from the last time that the log tells: so it may end later, by
    /// no more than a quarter of what was left of the wait, or a second, for each change of leader.)
    fn due(&self) -> Option<Duration> {
        None
    }

    /// What each command is asked on the node to which it is proposed, before it enters the log: a limit on sizes, say.
    /// A command that is refused is never carried out. It takes no part in [`StateMachine::apply`], so replicas
    /// may differ in it and do not diverge. Called once, when the replica starts; by default every command is
    /// admitted.
    fn admission(&self) -> Admission<Self::Command> {
        Arc::new(|_| Ok(()))
    }

    /// Answers from the state as it is.
    fn query(&self, query: Self::Query) -> Self::Answer;

    /// Whether there is something to say to `query` yet: one that is asked by [`crate::Raft::query_when_ready`] waits for
    /// that. Asked again after each batch of commands for each query that waits, so make it cheap: what was applied up to
    /// `since` did not make it ready, so only what came later needs to be looked at (at first, that is zero).
    fn is_ready(&self, query: &Self::Query, since: LogIndex) -> bool {
        let (_, _) = (query, since);
        true
    }

    /// A frozen view of the state, to be written out elsewhere while commands go on: make it cheap, by a
    /// persistent map or by reference counts.
    fn snapshot(&self) -> Box<dyn SnapshotView>;

    /// Replaces the whole state by the one that a snapshot's image holds. Nothing of the state before
    /// survives.
    ///
    /// # Errors
    /// The image cannot be read or makes no sense: the node stops.
    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()>;
}

/// Says whether a command may be proposed, and if not, why: see [`StateMachine::admission`].
pub type Admission<C> = Arc<dyn Fn(&C) -> Result<(), String> + Send + Sync>;

/// A state that no longer changes, to be written out.
pub trait SnapshotView: Send + 'static {
    /// Writes the image. Its size should be of the order of the state's, and the memory used on the way bounded.
    ///
    /// # Errors
    /// Those of `image`.
    fn write_to(&self, image: &mut dyn io::Write) -> io::Result<()>;
}

/// A function that owns what it writes.
impl<F> SnapshotView for F
where
    F: Fn(&mut dyn io::Write) -> io::Result<()> + Send + 'static,
{
    fn write_to(&self, image: &mut dyn io::Write) -> io::Result<()> {
        self(image)
    }
}

/// Where and when a command is applied: the same on every node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The index of the command's entry. It only grows.
    pub index: LogIndex,
    /// The term of the entry.
    pub term: Term,
    /// The log's own time: how long leaders have led so far, as they measured it. It never goes back,
    /// no wall clock takes part in it, and it says nothing about dates.
    pub time: Duration,
}
