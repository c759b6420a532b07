//! The configurations of a log, so that the one in force at any index is known, and a truncation rolls back (§6).

use alloc::vec::Vec;

use crate::{Configuration, Incarnation, LogIndex, Member, NodeId, SnapshotMeta};

/// The configuration in force where the log starts, and each later one with the index of its entry.
///
/// A server uses the latest configuration in its log, whether it is committed or not (§6).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) struct Configurations {
    /// Whose log it is.
    own: (NodeId, Incarnation),
    start: Configuration,
    /// Ascending.
    entries: Vec<(LogIndex, Configuration)>,
    /// What is asked for each message and drain, and changes with them only.
    known: bool,
    settled: bool,
}

impl Configurations {
    pub(crate) fn new(
        own: (NodeId, Incarnation),
        start: Configuration,
        entries: Vec<(LogIndex, Configuration)>,
    ) -> Configurations {
        let mut configurations =
            Configurations { own, start, entries, known: false, settled: false };
        configurations.changed();
        configurations
    }

    fn changed(&mut self) {
        let (id, incarnation) = self.own;
        let named = self.start.member(id).and_then(|member| member.incarnation);
        self.known = named == Some(incarnation);
        let latest = self.latest();
        self.settled = !latest.is_joint()
            && latest.names_all_incarnations()
            && latest.without_learning_voters().is_none();
    }

    /// The first configuration was given to this node when it was set up, so where it names no incarnation of the node
    /// this one is meant. One that comes by a log or a snapshot may mean a former one, whose disk is lost.
    pub(crate) fn take_first(&mut self) {
        self.start = self.with_own(&self.start);
        self.changed();
    }

    /// Whether this node is meant by a member of one of these configurations.
    pub(crate) fn is_own(&self, member: &Member) -> bool {
        let (id, incarnation) = self.own;
        member.is(id, incarnation) && (member.incarnation.is_some() || self.is_known())
    }

    /// Whether the start of the log names this very incarnation: what it does not name means this one, then.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    /// Whether the latest one needs no other to follow it: it is not joint, names all incarnations, and no voter is on its
    /// way back as another.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    fn with_own(&self, configuration: &Configuration) -> Configuration {
        let (own, incarnation) = self.own;
        configuration.with_incarnations(|id| (id == own).then_some(incarnation))
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

    /// The log is replaced by a received snapshot, which is completed ([`Configurations::complete`]).
    pub(crate) fn replace(&mut self, snapshot: &mut SnapshotMeta) {
        self.complete(snapshot);
        self.start = snapshot.configuration.clone();
        self.entries.clear();
        self.changed();
    }

    /// A snapshot that comes from a node which knew of no configuration then is from before the first change: what was in
    /// force at the start of the log is so at its end. And who is known is known to itself, whoever has not heard of it.
    fn complete(&self, snapshot: &mut SnapshotMeta) {
        if snapshot.configuration.voters().is_empty() {
            snapshot.configuration = self.start.clone();
        } else if self.is_known() {
            snapshot.configuration = self.with_own(&snapshot.configuration);
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
        self.changed();
    }

    /// The entry at `first` and all after it have left the log: what was in force before them is so again.
    pub(crate) fn truncate(&mut self, first: LogIndex) {
        let kept = self.entries.partition_point(|(at, _)| *at < first);
        if kept < self.entries.len() {
            self.entries.truncate(kept);
            self.changed();
        }
    }

    /// The log starts after `index`.
    pub(crate) fn compact(&mut self, index: LogIndex) {
        let gone = self.entries.partition_point(|(at, _)| *at <= index);
        let last = self.entries.drain(..gone).next_back();
        if let Some((_, configuration)) = last {
            self.start = match self.is_known() {
                true => self.with_own(&configuration),
                false => configuration,
            };
            self.changed();
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
        let own = (NodeId(1), Incarnation(0));
        let mut all = Configurations::new(own, of(1), alloc::vec![(LogIndex(3), of(2))]);
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

    #[test]
    fn only_the_first_configuration_means_whichever_incarnation_it_is_given_to() {
        let unnamed =
            || Configuration::of_members([1, 2].map(|id| Member::new(NodeId(id), "")), [], []);
        let own = (NodeId(1), Incarnation(7));
        let means = |all: &Configurations| all.latest().voters().iter().any(|v| all.is_own(v));
        let mut received = Configurations::new(own, unnamed(), Vec::new());
        assert!(!means(&received));
        received.push(LogIndex(1), unnamed());
        assert!(!means(&received));
        let mut first = Configurations::new(own, unnamed(), Vec::new());
        first.take_first();
        assert!(means(&first));
        // And it stays so, until there is another name.
        first.push(LogIndex(1), unnamed());
        assert!(means(&first));
        first.compact(LogIndex(1));
        assert!(means(&first));
        let mut snapshot = SnapshotMeta::new(crate::EntryId::ZERO, unnamed());
        first.complete(&mut snapshot);
        assert_eq!(snapshot.configuration.voters()[0].incarnation, Some(Incarnation(7)));
        first.push(LogIndex(2), of(2));
        assert!(!means(&first));
    }
}
