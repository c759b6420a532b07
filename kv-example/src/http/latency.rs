//! How long requests took, in the form that Prometheus reads.

use std::time::Duration;

/// The upper ends of the buckets, in seconds as they are written: from what memory takes to what nobody waits for.
const BOUNDS: [(&str, Duration); 12] = [
    ("0.0005", Duration::from_micros(500)),
    ("0.001", Duration::from_millis(1)),
    ("0.0025", Duration::from_micros(2500)),
    ("0.005", Duration::from_millis(5)),
    ("0.01", Duration::from_millis(10)),
    ("0.025", Duration::from_millis(25)),
    ("0.05", Duration::from_millis(50)),
    ("0.1", Duration::from_millis(100)),
    ("0.25", Duration::from_millis(250)),
    ("1", Duration::from_secs(1)),
    ("5", Duration::from_secs(5)),
    ("10", Duration::from_secs(10)),
];

/// A histogram.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies {
    /// How many took no longer than each bound, and longer than the one before.
    counts: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
}

impl Latencies {
    pub(super) fn add(&mut self, took: Duration) {
        let bucket = BOUNDS.iter().zip(&mut self.counts).find(|((_, bound), _)| took <= *bound);
        if let Some((_, count)) = bucket {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(took);
    }

    /// The upper ends of the buckets, and how many took no longer.
    pub(super) fn buckets(&self) -> Vec<(&'static str, u64)> {
        let mut sum = 0;
        let mut buckets = Vec::with_capacity(BOUNDS.len() + 1);
        for ((bound, _), count) in BOUNDS.iter().zip(self.counts) {
            sum += count;
            buckets.push((*bound, sum));
        }
        buckets.push(("+Inf", self.count));
        buckets
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_all_that_took_no_longer_than_its_bound() {
        let mut latencies = Latencies::default();
        for millis in [1, 2, 30, 60_000] {
            latencies.add(Duration::from_millis(millis));
        }
        let buckets = latencies.buckets();
        let of = |bound| buckets.iter().find(|(b, _)| *b == bound).map(|(_, count)| *count);
        assert_eq!([of("0.0005"), of("0.001"), of("0.0025")], [Some(0), Some(1), Some(2)]);
        assert_eq!([of("0.025"), of("10"), of("+Inf")], [Some(2), Some(3), Some(4)]);
        assert_eq!((latencies.count(), latencies.sum()), (4, Duration::from_millis(60_033)));
    }
}
