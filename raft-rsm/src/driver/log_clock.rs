//! The log's own time: how long leaders have led so far, as they measured it; and when it is to be told to the log although
//! nobody writes.

use std::time::Duration;

use raft_core::Term;

/// Stamps the proposals of a leader with the log's time.
///
/// It starts where the log stands once the first entry of the leader's own term is applied: before that,
/// the last stamp may be in an entry that is not applied yet. From there the leader's own clock adds to it.
#[derive(Debug, Default)]
pub(crate) struct LogClock {
    anchor: Option<Anchor>,
    /// The log's time at which something ends in the machine.
    due: Option<Duration>,
    /// When the last mark left: it takes a moment until it is applied and shows in `due`.
    marked_at: Option<Duration>,
}

/// A mark that has shown no effect after this is repeated: it may be lost with a lead, or refused.
const REPEAT_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Anchor {
    term: Term,
    /// The log's time ...
    time: Duration,
    /// ... when the leader's clock showed this.
    at: Duration,
}

impl LogClock {
    /// The machine has applied an entry of `term`, this node leads that term, the log's time is `time`
    /// and the clock shows `now`.
    pub(crate) fn own_term_applied(&mut self, term: Term, time: Duration, now: Duration) {
        if self.anchor.as_ref().is_none_or(|anchor| anchor.term != term) {
            self.anchor = Some(Anchor { term, time, at: now });
        }
    }

    /// The machine says when something ends.
    pub(crate) fn set_due(&mut self, due: Option<Duration>) {
        if self.due != due {
            (self.due, self.marked_at) = (due, None);
        }
    }

    /// When the leader of `term` has to propose a time mark, on its own clock.
    pub(crate) fn mark_at(&self, term: Term) -> Option<Duration> {
        let anchor = self.anchor.as_ref().filter(|anchor| anchor.term == term)?;
        let due_at = anchor.at.saturating_add(self.due?.saturating_sub(anchor.time));
        let repeated_at = self.marked_at.map(|at| at.saturating_add(REPEAT_AFTER));
        Some(repeated_at.map_or(due_at, |at| at.max(due_at)))
    }

    /// A time mark was proposed, or was to be.
    pub(crate) fn marked(&mut self, now: Duration) {
        self.marked_at = Some(now);
    }

    /// The stamp for a proposal in `term`; zero before the clock runs, which changes nothing at those who
    /// apply it.
    pub(crate) fn stamp(&self, term: Term, now: Duration) -> Duration {
        match &self.anchor {
            Some(anchor) if anchor.term == term => {
                anchor.time.saturating_add(now.saturating_sub(anchor.at))
            }
            Some(_) | None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_new_leader_goes_on_from_the_last_stamp_once_its_first_entry_is_applied() {
        let mut clock = LogClock::default();
        assert_eq!(clock.stamp(Term(3), 70 * SECOND), Duration::ZERO);
        clock.own_term_applied(Term(3), 10 * SECOND, 100 * SECOND);
        assert_eq!(clock.stamp(Term(3), 104 * SECOND), 14 * SECOND);
        // Later applies do not move the anchor.
        clock.own_term_applied(Term(3), 11 * SECOND, 104 * SECOND);
        assert_eq!(clock.stamp(Term(3), 105 * SECOND), 15 * SECOND);
        assert_eq!(clock.stamp(Term(4), 105 * SECOND), Duration::ZERO);
        clock.own_term_applied(Term(4), 16 * SECOND, 200 * SECOND);
        assert_eq!(clock.stamp(Term(4), 200 * SECOND), 16 * SECOND);
    }

    #[test]
    fn a_mark_is_proposed_when_something_is_due_and_again_when_it_has_no_effect() {
        let mut clock = LogClock::default();
        clock.set_due(Some(12 * SECOND));
        assert_eq!(clock.mark_at(Term(3)), None, "the clock does not run yet");
        clock.own_term_applied(Term(3), 10 * SECOND, 100 * SECOND);
        assert_eq!(clock.mark_at(Term(3)), Some(102 * SECOND));
        assert_eq!(clock.mark_at(Term(4)), None);
        clock.marked(102 * SECOND);
        clock.set_due(Some(12 * SECOND));
        assert_eq!(clock.mark_at(Term(3)), Some(102 * SECOND + REPEAT_AFTER));
        clock.set_due(Some(13 * SECOND));
        assert_eq!(clock.mark_at(Term(3)), Some(103 * SECOND));
        // What was due in the time of an earlier leader is due at once.
        clock.set_due(Some(9 * SECOND));
        assert_eq!(clock.mark_at(Term(3)), Some(100 * SECOND));
        clock.set_due(None);
        assert_eq!(clock.mark_at(Term(3)), None);
    }
}
