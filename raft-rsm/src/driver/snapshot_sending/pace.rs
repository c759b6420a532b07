//! How fast a node sends snapshots, all transfers together.

use std::sync::Mutex;
use std::time::Duration;

use crate::watch::lock;

/// Gives out the times at which chunks may leave, in the order in which they are asked for: so the transfers take
/// turns, and none is starved.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second_max: Option<u64>,
    /// When the next chunk may leave.
    free_at: Mutex<Duration>,
}

impl Pace {
    pub(crate) fn new(bytes_per_second_max: Option<u64>) -> Pace {
        Pace { bytes_per_second_max, free_at: Mutex::new(Duration::ZERO) }
    }

    /// When a chunk of so many bytes may leave. What was not used while nothing was sent is not made up for.
    pub(super) fn turn(&self, bytes: usize, now: Duration) -> Duration {
        let Some(bytes_per_second) = self.bytes_per_second_max else { return now };
        let mut free_at = lock(&self.free_at);
        let turn = now.max(*free_at);
        let nanos = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(bytes_per_second.max(1)));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        *free_at = turn.saturating_add(takes);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn chunks_leave_one_after_the_other_and_a_pause_is_not_made_up_for() {
        let pace = Pace::new(Some(1000));
        assert_eq!(pace.turn(100, 5 * MS), 5 * MS);
        assert_eq!(pace.turn(200, 5 * MS), 105 * MS);
        assert_eq!(pace.turn(100, 5 * MS), 305 * MS);
        assert_eq!(pace.turn(100, 900 * MS), 900 * MS);
        assert_eq!(pace.turn(100, 900 * MS), 1000 * MS);
    }

    #[test]
    fn without_a_limit_a_chunk_leaves_at_once() {
        let pace = Pace::new(None);
        assert_eq!(pace.turn(usize::MAX, MS), MS);
        assert_eq!(pace.turn(usize::MAX, MS), MS);
    }

    #[test]
    fn no_limit_and_no_length_overflows() {
        let pace = Pace::new(Some(0));
        assert_eq!(pace.turn(usize::MAX, MS), MS);
        assert!(pace.turn(usize::MAX, MS) > Duration::from_secs(1 << 32));
        assert!(pace.turn(usize::MAX, MS) > Duration::from_secs(1 << 32));
    }
}
