//! When to dial again.

use std::time::Duration;

/// Exponential with jitter: starts small, so that a node that was restarted is found quickly, and is capped, so
/// that one that was away for long is found soon.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Backoff {
        Backoff { min, max, next: min }
    }

    /// How long to wait now: between half of the step and all of it, so that nodes that lost each other at the
    /// same time do not dial at the same time.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(2).min(self.max);
        let half = step / 2;
        let jitter_nanos = random % u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(jitter_nanos)
    }

    /// The last connection was good: start small again.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(20);
    const MAX: Duration = Duration::from_secs(1);

    quickcheck::quickcheck! {
        fn each_wait_lies_between_half_of_its_step_and_all_of_it(draws: Vec<u64>) -> bool {
            let mut backoff = Backoff::new(MIN, MAX);
            let mut step = MIN;
            draws.into_iter().all(|draw| {
                let wait = backoff.next(draw);
                let fits = wait >= step / 2 && wait <= step;
                step = (step * 2).min(MAX);
                fits
            })
        }
    }

    #[test]
    fn after_a_good_connection_it_starts_small_again() {
        let mut backoff = Backoff::new(MIN, MAX);
        for _ in 0..20 {
            backoff.next(0);
        }
        assert_eq!(backoff.next(0), MAX / 2);
        backoff.reset();
        assert_eq!(backoff.next(0), MIN / 2);
    }

    #[test]
    fn no_waiting_time_at_all_is_possible() {
        assert_eq!(Backoff::new(Duration::ZERO, Duration::ZERO).next(7), Duration::ZERO);
    }
}
