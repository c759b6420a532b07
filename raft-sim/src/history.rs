//! What clients asked, when, and what they were told: the evidence that a checker judges.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Names an operation of one history.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(usize);

impl OperationId {
    /// Its place among [`History::operations`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

/// A point of a run. What happens within one moment of virtual time still happens in an order, and that order counts:
/// a client that begins after another was answered can know of the answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    /// How many calls and ends were recorded before this one.
    pub sequence: u64,
    /// The true virtual time, for those who read the report.
    pub time: Duration,
}

/// How an operation ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended<O> {
    /// With an answer of the service.
    Answered(O),
    /// Nobody knows: it took effect at some time after it was called, will yet do so, or never does.
    Maybe,
    /// It definitely never takes effect.
    Failed,
}

/// One operation of a client.
#[derive(Clone, Debug)]
pub struct Operation<I, O> {
    /// Whose it is.
    pub client: u64,
    /// What was asked for.
    pub input: I,
    /// When.
    pub called: Instant,
    /// When it ended, and how. One that has not ended is as unknown as one that ended with [`Ended::Maybe`].
    pub ended: Option<(Instant, Ended<O>)>,
}

impl<I, O> Operation<I, O> {
    /// When it was answered, and with what.
    #[must_use]
    pub fn answer(&self) -> Option<(Instant, &O)> {
        match &self.ended {
            Some((at, Ended::Answered(output))) => Some((*at, output)),
            Some((_, Ended::Maybe | Ended::Failed)) | None => None,
        }
    }

    /// Whether it definitely never takes effect.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        match &self.ended {
            Some((_, Ended::Failed)) => true,
            Some((_, Ended::Answered(_) | Ended::Maybe)) | None => false,
        }
    }

    /// Whether it may or may not take effect, and nobody was told.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        !self.is_failed() && self.answer().is_none()
    }
}

/// How many operations of a history ended in which way.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Answered.
    pub answered: usize,
    /// Ended, and nobody knows how.
    pub maybe: usize,
    /// Definitely without effect.
    pub failed: usize,
    /// Not ended.
    pub open: usize,
}

/// All operations of all clients of a run, in the order of their calls. It grows with the run: some hundred bytes an
/// operation.
#[derive(Clone)]
pub struct History<I, O> {
    operations: Vec<Operation<I, O>>,
    events: u64,
    /// The operations whose answer may be of any earlier time.
    stale: BTreeSet<OperationId>,
}

impl<I, O> History<I, O> {
    /// A history without operations.
    #[must_use]
    pub fn new() -> History<I, O> {
        History { operations: Vec::new(), events: 0, stale: BTreeSet::new() }
    }

    /// A client calls, at the true virtual time `now`. To be recorded before anything of the call leaves the client.
    pub fn begin(&mut self, client: u64, input: I, now: Duration) -> OperationId {
        let called = self.instant(now);
        self.operations.push(Operation { client, input, called, ended: None });
        OperationId(self.operations.len() - 1)
    }

    /// An operation ended. To be recorded after all that the client has heard of it.
    ///
    /// # Panics
    /// It had ended before, or is of another history.
    pub fn end(&mut self, id: OperationId, ended: Ended<O>, now: Duration) {
        let at = self.instant(now);
        let operation = &mut self.operations[id.0];
        assert!(operation.ended.is_none(), "an operation ends once");
        operation.ended = Some((at, ended));
    }

    /// The answer to this operation may be as old as it likes: of any time before it is answered.
    pub fn may_be_stale(&mut self, id: OperationId) {
        self.stale.insert(id);
    }

    /// The same history, in which all that may be stale was called when the run began. So an order of it that explains
    /// all answers shows that these, too, were right at some time, and not of the future.
    #[must_use]
    pub fn with_stale_calls_first(&self) -> History<I, O>
    where
        I: Clone,
        O: Clone,
    {
        let start = Instant { sequence: 0, time: Duration::ZERO };
        let mut history = self.clone();
        for id in &self.stale {
            history.operations[id.0].called = start;
        }
        // The sort is stable: the others stay in the order of their calls.
        history.operations.sort_by_key(|operation| operation.called);
        history.stale.clear();
        history
    }

    /// The operations, in the order of their calls.
    #[must_use]
    pub fn operations(&self) -> &[Operation<I, O>] {
        &self.operations
    }

    /// How many operations were called.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// How many calls and ends were recorded.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Whether nothing was called.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// How many operations ended in which way.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for operation in &self.operations {
            let count = match &operation.ended {
                Some((_, Ended::Answered(_))) => &mut outcomes.answered,
                Some((_, Ended::Maybe)) => &mut outcomes.maybe,
                Some((_, Ended::Failed)) => &mut outcomes.failed,
                None => &mut outcomes.open,
            };
            *count += 1;
        }
        outcomes
    }

    fn instant(&mut self, time: Duration) -> Instant {
        let sequence = self.events;
        self.events += 1;
        Instant { sequence, time }
    }
}

impl<I, O> Default for History<I, O> {
    fn default() -> History<I, O> {
        History::new()
    }
}

impl<I, O> fmt::Debug for History<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("operations", &self.len())
            .field("outcomes", &self.outcomes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_ends_of_one_moment_keep_their_order() {
        let mut history = History::new();
        let first = history.begin(1, "a", Duration::ZERO);
        history.end(first, Ended::Answered(()), Duration::ZERO);
        history.begin(2, "b", Duration::ZERO);
        let [first, second] = history.operations() else { panic!("two were called") };
        let (ended, &()) = first.answer().unwrap();
        assert!(first.called < ended && ended < second.called);
    }

    #[test]
    fn outcomes_are_counted_by_kind() {
        let mut history = History::new();
        for ended in [Ended::Answered(1), Ended::Maybe, Ended::Maybe, Ended::Failed] {
            let id = history.begin(0, (), Duration::ZERO);
            history.end(id, ended, Duration::ZERO);
        }
        history.begin(0, (), Duration::ZERO);
        let expected = Outcomes { answered: 1, maybe: 2, failed: 1, open: 1 };
        assert_eq!(history.outcomes(), expected);
        let unknown = history.operations().iter().filter(|operation| operation.is_unknown());
        assert_eq!(unknown.count(), 3);
    }

    #[test]
    #[should_panic(expected = "ends once")]
    fn an_operation_does_not_end_twice() {
        let mut history = History::new();
        let id = history.begin(0, (), Duration::ZERO);
        history.end(id, Ended::Answered(()), Duration::ZERO);
        history.end(id, Ended::Maybe, Duration::ZERO);
    }
}
