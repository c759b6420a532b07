//! The log's own time: how long leaders have led so far, as they measured it.

use std::time::Duration;

use raft_core::Term;

/// Stamps the proposals of a leader with the log's time.
///
/// It starts where the log stands once the first entry of the leader's own term is applied: before that,
/// the last stamp may be in an entry that is not applied yet. From there the leader's own clock adds to it.
#[derive(Debug, Default)]
pub(crate) struct LogClock {
    anchor: Option<Anchor>,
}

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
}
