//! Who can reach whom.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Site;

/// The ways that are closed. A way is open when none of the three closes it.
#[derive(Debug, Default)]
pub(super) struct Topology {
    /// From the first to the second.
    cuts: BTreeSet<(Site, Site)>,
    isolated: BTreeSet<Site>,
    /// The group of each, in a partition; who has none reaches nobody.
    groups: Option<BTreeMap<Site, usize>>,
}

impl Topology {
    pub(super) fn is_cut(&self, from: Site, to: Site) -> bool {
        if from == to {
            return false;
        }
        let is_between_groups = || match &self.groups {
            None => false,
            Some(groups) => match (groups.get(&from), groups.get(&to)) {
                (Some(one), Some(other)) => one != other,
                (None, _) | (_, None) => true,
            },
        };
        (!self.cuts.is_empty() && self.cuts.contains(&(from, to)))
            || (!self.isolated.is_empty()
                && (self.isolated.contains(&from) || self.isolated.contains(&to)))
            || is_between_groups()
    }

    pub(super) fn cut(&mut self, from: Site, to: Site) {
        self.cuts.insert((from, to));
    }

    pub(super) fn mend(&mut self, from: Site, to: Site) {
        self.cuts.remove(&(from, to));
    }

    pub(super) fn isolate(&mut self, site: Site) {
        self.isolated.insert(site);
    }

    pub(super) fn rejoin(&mut self, site: Site) {
        self.isolated.remove(&site);
    }

    pub(super) fn partition(&mut self, groups: &[&[Site]]) {
        let places = groups.iter().enumerate();
        let groups = places.flat_map(|(place, group)| group.iter().map(move |site| (*site, place)));
        self.groups = Some(groups.collect());
    }

    pub(super) fn heal(&mut self) {
        *self = Topology::default();
    }
}
