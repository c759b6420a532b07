//! What a service promises to a client that is alone with it: the specification that histories are checked against.

pub mod machine;
pub mod register;

use std::fmt::Debug;
use std::hash::Hash;

use crate::event::Digest;

/// A sequential specification: which answers are right when operations come one after the other.
///
/// Only the first three methods say what is right. The others are hints that make a check faster or its report
/// easier to read; their defaults are always right, a hint that is wrong makes the verdict worthless.
pub trait Model: Send + Sync + 'static {
    /// What a client asks for. Equal inputs are the same to the service, whoever asks.
    type Input: Clone + Debug + Eq + Hash + Send;
    /// What it is told.
    type Output: Clone + Debug + Send;
    /// What answers depend on. States that are equal behave alike for ever.
    type State: Clone + Debug + Eq + Hash;
    /// What parts the operations into groups that have nothing to do with each other.
    type Key: Clone + Debug + Ord;

    /// The part of the state that an operation touches. Operations with different keys never change what the other
    /// sees, so each key is checked alone (P-compositionality), from the initial state. `None`: it touches all of
    /// the state; then everything is checked together.
    fn key(&self, input: &Self::Input) -> Option<Self::Key>;

    /// The state in which a run begins.
    fn initial(&self) -> Self::State;

    /// The state after `input` was carried out in `state`, if `output` is what the client may be told then. Without
    /// an `output`, nobody knows what the answer was or would have been: the state after it, whatever the answer.
    fn step(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Self::State>;

    /// A hint: whether an operation that is answered so, or whose answer is unknown, can change *any* state. Say
    /// `false` for reads and refusals. They then go into the order at the first state that they fit, and no other
    /// place has to be tried.
    fn may_change(&self, _input: &Self::Input, _output: Option<&Self::Output>) -> bool {
        true
    }

    /// A hint, see [`Model::changes_only_at`]: the mark that a state bears.
    fn mark(&self, _state: &Self::State) -> u64 {
        0
    }

    /// A hint: an operation whose outcome is unknown changes only states that bear this [`Model::mark`], and leaves all
    /// others as they are; a write that names the version that it replaces, say. With thousands of unknown outcomes,
    /// each of them is then tried where it matters alone.
    fn changes_only_at(&self, _input: &Self::Input) -> Option<u64> {
        None
    }

    /// A hint: for each input whose outcome is unknown, one that stands for it, given all that clients of the history were
    /// told. Inputs may share one if no client could have told them apart, wherever they took effect: writes of values
    /// that nobody ever read, say. It then only matters how many of them did.
    fn stand_ins(&self, unknown: &[&Self::Input], _told: &[&Self::Output]) -> Vec<Self::Input> {
        unknown.iter().map(|input| (*input).clone()).collect()
    }

    /// A hint: the digest of the command that this puts into the log, as the machines apply it
    /// ([`Digest::of_value`] of the command); `None` for a read. With it, the order in which the machines of a run
    /// applied the commands is tried before any other. If that is not the order, or this not the digest, then no more
    /// than time is lost.
    fn command_digest(&self, _input: &Self::Input) -> Option<Digest> {
        None
    }

    /// How far the state is that this answer shows, where answers show it: a version that only grows. A replica that
    /// answers from what it has applied must not fall back while it runs. `None`: nobody can tell.
    fn version(&self, _input: &Self::Input, _output: &Self::Output) -> Option<u64> {
        None
    }

    /// For the report: what was asked.
    fn describe_input(&self, input: &Self::Input) -> String {
        format!("{input:?}")
    }

    /// For the report: what the client was told about this input.
    fn describe_output(&self, _input: &Self::Input, output: &Self::Output) -> String {
        format!("{output:?}")
    }

    /// For the report: a state.
    fn describe_state(&self, state: &Self::State) -> String {
        format!("{state:?}")
    }

    /// For the report: what the client would have been told in this state, if the model can say.
    fn expected(&self, _state: &Self::State, _input: &Self::Input) -> Option<String> {
        None
    }
}
