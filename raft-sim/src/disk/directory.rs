//! The names in a directory: as the system shows them, and as they are durable.

use std::collections::{BTreeMap, BTreeSet};

/// The names in a directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    names: Names,
    durable: Names,
    pending: Vec<NameChange>,
}

/// What goes by which name.
pub(super) type Names = BTreeMap<String, Node>;

/// What goes by a name.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(u64),
    Directory,
}

/// A change of the names in a directory. A file is known by its inode: whichever of the earlier changes are
/// undone, a rename leaves it under the new name alone, and a removal under none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NameChange {
    Create(String, Node),
    Rename(u64, String),
    Remove(u64),
}

impl Directory {
    /// A directory whose names are durable.
    pub(super) fn new(names: Names) -> Directory {
        Directory { durable: names.clone(), names, pending: Vec::new() }
    }

    /// What the system shows.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// What is durable.
    pub(super) fn durable(&self) -> &Names {
        &self.durable
    }

    pub(super) fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) {
        self.sync_some(self.pending.len());
    }

    /// How many changes are not durable.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Makes the oldest changes durable, so many of them: a journal is written in order.
    pub(super) fn sync_some(&mut self, changes: usize) {
        for change in self.pending.drain(..changes) {
            change.apply(&mut self.durable);
        }
    }

    /// What is durable is all that is left of it; of what was pending, what `survives`, asked for each in order.
    pub(super) fn lose(&mut self, mut survives: impl FnMut(&NameChange) -> bool) {
        for change in std::mem::take(&mut self.pending) {
            if survives(&change) {
                change.apply(&mut self.durable);
            }
        }
        self.names = self.durable.clone();
    }

    /// Adds the inodes of the files that have a name here, or may get one back.
    pub(super) fn name_inodes(&self, inodes: &mut BTreeSet<u64>) {
        let created = self.pending.iter().filter_map(|change| match change {
            NameChange::Create(_, node) => Some(*node),
            NameChange::Rename(inode, _) => Some(Node::File(*inode)),
            NameChange::Remove(_) => None,
        });
        for node in self.names.values().chain(self.durable.values()).copied().chain(created) {
            if let Node::File(inode) = node {
                inodes.insert(inode);
            }
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            NameChange::Create(name, node) => {
                names.insert(name.clone(), *node);
            }
            NameChange::Rename(inode, name) => {
                names.retain(|_, node| *node != Node::File(*inode));
                names.insert(name.clone(), Node::File(*inode));
            }
            NameChange::Remove(inode) => names.retain(|_, node| *node != Node::File(*inode)),
        }
    }
}
