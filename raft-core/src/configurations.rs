//! The configurations of a log, so that the one in force at any index is known, and a truncation rolls back (§6).

use alloc::vec::Vec;

use crate::{Configuration, LogIndex, SnapshotMeta};

/// The configuration in force where the log starts, and each later one with the index of its entry.
///
/// A server uses the latest configuration in its log, whether it is committed or not (§6).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) struct Configurations {
    start: Configuration,
    /// Ascending.
    entries: Vec<(LogIndex, Configuration)>,
}

impl Configurations {
    pub(crate) fn new(
        start: Configuration,
        entries: Vec<(LogIndex, Configuration)>,
    ) -> Configurations {
        Configurations { start, entries }
    }

    pub(crate) fn latest(&self) -> &Configuration {
        self.entries.last().map_or(&self.start, |(_, configuration)| configuration)
    }

    /// Where the latest one stands in the log; [`LogIndex::ZERO`] for that at its start, which is committed.
    pub(crate) fn latest_index(&self) -> LogIndex {
        self.entries.last().map_or(LogIndex::ZERO, |(index, _)| *index)
    }

    /// The one in force once the entry at `index` is in the log.
    pub(crate) fn at(&self, index: LogIndex) -> &Configuration {
        let after = self.entries.partition_point(|(at, _)| *at <= index);
        after.checked_sub(1).map_or(&self.start, |last| &self.entries[last].1)
    }

    /// A snapshot that comes from a node which knew of no configuration then is from before the first change: what was in
    /// force at the start of the log is so at its end.
    pub(crate) fn complete(&self, snapshot: &mut SnapshotMeta) {
        if snapshot.configuration.voters().is_empty() {
            snapshot.configuration = self.start.clone();
        }
    }

    /// The one in force at `index`, and all later ones.
    pub(crate) fn since(&self, index: LogIndex) -> impl Iterator<Item = &Configuration> {
        let later = self.entries.iter().filter(move |(at, _)| *at > index);
        core::iter::once(self.at(index)).chain(later.map(|(_, configuration)| configuration))
    }

    pub(crate) fn push(&mut self, index: LogIndex, configuration: Configuration) {
        debug_assert!(index > self.latest_index(), "the log grows at its end");
        self.entries.push((index, configuration));
    }

    /// The entry at `first` and all after it have left the log: what was in force before them is so again.
    pub(crate) fn truncate(&mut self, first: LogIndex) {
        let kept = self.entries.partition_point(|(at, _)| *at < first);
        self.entries.truncate(kept);
    }

    /// The log starts after `index`.
    pub(crate) fn compact(&mut self, index: LogIndex) {
        let gone = self.entries.partition_point(|(at, _)| *at <= index);
        if let Some((_, configuration)) = self.entries.drain(..gone).next_back() {
            self.start = configuration;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    fn of(count: u64) -> Configuration {
        Configuration::new((1..=count).map(NodeId), [])
    }

    #[test]
    fn each_index_has_its_configuration_after_truncation_and_compaction() {
        let mut all = Configurations::new(of(1), alloc::vec![(LogIndex(3), of(2))]);
        all.push(LogIndex(7), of(3));
        let at = |all: &Configurations, index| all.at(LogIndex(index)).voters().len();
        assert_eq!([0, 2, 3, 6, 7, 99].map(|index| at(&all, index)), [1, 1, 2, 2, 3, 3]);
        all.truncate(LogIndex(8));
        assert_eq!(all.latest(), &of(3));
        all.truncate(LogIndex(7));
        assert_eq!((all.latest(), all.latest_index()), (&of(2), LogIndex(3)));
        all.compact(LogIndex(2));
        assert_eq!(at(&all, 2), 1);
        all.compact(LogIndex(3));
        assert_eq!((at(&all, 3), all.latest_index()), (2, LogIndex::ZERO));
    }
}
