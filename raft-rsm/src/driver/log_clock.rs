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
    /// The log's time, as far as the machine was told.
    told: Duration,
    /// The log's time at which something ends in the machine.
    due: Option<Duration>,
    /// When the last mark left: it takes a moment until it is applied and shows in `told`.
    marked_at: Option<Duration>,
}

/// A mark that has shown no effect after this is repeated: it may be lost with a lead, or refused.
const REPEAT_AFTER: Duration = Duration::from_millis(100);

/// While something is to end later, the log is told the time whenever this part of the wait has passed: a new leader knows
/// of the time before it only what is in the log, and where leaders change often nothing would ever end.
const TOLD_EACH_PART: u32 = 4;

/// Not more often than this, so that it costs next to nothing.
const TOLD_EACH_MIN: Duration = Duration::from_secs(1);

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

    /// The machine was told the log's time up to `told`, and says when something ends.
    pub(crate) fn told(&mut self, told: Duration, due: Option<Duration>) {
        // Where something is due all the same, it is told again no sooner than if nothing had happened.
        let is_told = self.told != told && due.is_some_and(|due| told < due);
        if is_told || self.due != due {
            self.marked_at = None;
        }
        (self.told, self.due) = (told, due);
    }

    /// When the leader of `term` has to propose a time mark, on its own clock.
    pub(crate) fn mark_at(&self, term: Term) -> Option<Duration> {
        let anchor = self.anchor.as_ref().filter(|anchor| anchor.term == term)?;
        let due = self.due?;
        let part = due.saturating_sub(self.told) / TOLD_EACH_PART;
        let told_by = due.min(self.told.saturating_add(part.max(TOLD_EACH_MIN)));
        let told_by = anchor.at.saturating_add(told_by.saturating_sub(anchor.time));
        let repeated_at = self.marked_at.map(|at| at.saturating_add(REPEAT_AFTER));
        Some(repeated_at.map_or(told_by, |at| at.max(told_by)))
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
        clock.told(10 * SECOND, Some(11 * SECOND));
        assert_eq!(clock.mark_at(Term(3)), None, "the clock does not run yet");
        clock.own_term_applied(Term(3), 10 * SECOND, 100 * SECOND);
        assert_eq!(clock.mark_at(Term(3)), Some(101 * SECOND));
        assert_eq!(clock.mark_at(Term(4)), None);
        clock.marked(101 * SECOND);
        clock.told(10 * SECOND, Some(11 * SECOND));
        assert_eq!(clock.mark_at(Term(3)), Some(101 * SECOND + REPEAT_AFTER));
        clock.told(11 * SECOND, Some(12 * SECOND));
        assert_eq!(clock.mark_at(Term(3)), Some(102 * SECOND));
        // What was due in the time of an earlier leader is due at once.
        clock.told(11 * SECOND, Some(9 * SECOND));
        assert_eq!(clock.mark_at(Term(3)), Some(100 * SECOND));
        // A machine that does not end it must not have the log filled with marks.
        clock.marked(100 * SECOND);
        clock.told(12 * SECOND, Some(9 * SECOND));
        assert_eq!(clock.mark_at(Term(3)), Some(100 * SECOND + REPEAT_AFTER));
        clock.told(12 * SECOND, None);
        assert_eq!(clock.mark_at(Term(3)), None);
    }

    #[test]
    fn what_ends_later_ends_although_no_leader_stays_so_long() {
        let mut clock = LogClock::default();
        let due = Some(30 * SECOND);
        let (mut told, mut marks) = (10 * SECOND, Vec::new());
        // Each leader stays for 6 seconds, and then one comes that knows only what the log was told.
        for change in 1..=10_u32 {
            let (term, begin) = (Term(change.into()), 100 * change * SECOND);
            clock.told(told, due);
            clock.own_term_applied(term, told, begin);
            while let Some(at) = clock.mark_at(term).filter(|at| *at <= begin + 6 * SECOND) {
                clock.marked(at);
                told = clock.stamp(term, at);
                marks.push(told);
                clock.told(told, due.filter(|due| told < *due));
            }
        }
        assert_eq!(told, 30 * SECOND, "{marks:?}");
        assert!(marks.len() <= 16, "{marks:?}");
    }
}
