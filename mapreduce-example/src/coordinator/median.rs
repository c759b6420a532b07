//! The median of durations that come and go.

use std::time::Duration;

use imbl::OrdSet;

/// How long tasks took, in two halves: no duration of the lower one is greater than any of the upper one, and the lower one
/// has as many as the upper one, or one more. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Median {
    lower: OrdSet<(Duration, u32)>,
    upper: OrdSet<(Duration, u32)>,
}

impl Median {
    /// At least half of the tasks took no longer, and at least half of them took as long.
    pub(super) fn median(&self) -> Option<Duration> {
        self.lower.get_max().map(|(took, _)| *took)
    }

    pub(super) fn insert(&mut self, task: u32, took: Duration) {
        let one = (took, task);
        match self.lower.get_max() {
            Some(middle) if one > *middle => self.upper.insert(one),
            Some(_) | None => self.lower.insert(one),
        };
        self.balance();
    }

    pub(super) fn remove(&mut self, task: u32, took: Duration) {
        let one = (took, task);
        if self.lower.remove(&one).is_none() {
            self.upper.remove(&one);
        }
        self.balance();
    }

    fn balance(&mut self) {
        if self.lower.len() > self.upper.len() + 1
            && let Some(middle) = self.lower.remove_max()
        {
            self.upper.insert(middle);
        }
        if self.lower.len() < self.upper.len()
            && let Some(middle) = self.upper.remove_min()
        {
            self.lower.insert(middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    quickcheck! {
        fn it_is_the_middle_one_of_all_that_are_there(changes: Vec<(u8, bool)>) -> bool {
            let (mut median, mut plain) = (Median::default(), Vec::new());
            changes.into_iter().zip(0u32..).all(|((took, is_removed), task)| {
                let took = Duration::from_secs(took.into());
                plain.push((took, task));
                median.insert(task, took);
                if is_removed {
                    let (took, task) = plain.remove(usize::from(took.subsec_nanos() == 1));
                    median.remove(task, took);
                }
                plain.sort_unstable();
                let middle = plain.get(plain.len().saturating_sub(1) / 2);
                median.median() == middle.map(|(took, _)| *took)
            })
        }
    }
}
