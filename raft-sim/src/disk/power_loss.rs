//! What is left of a disk when the power fails.

use std::path::PathBuf;

use super::directory::{NameChange, Node};
use super::inode::{Change, Inode, Undone};
use super::{DiskCounters, Lie, State};
use crate::random::Random;

/// A disk writes a sector whole or not at all, in most cases.
const SECTOR_BYTES: usize = 512;

impl State {
    /// Draws what survives. It is durable from here on.
    pub(super) fn lose_power(&mut self) {
        self.counters.power_losses += 1;
        let lie = self.telling.as_ref().map(|telling| telling.lie);
        for inode in self.inodes.values_mut() {
            lose_changes(inode, lie, &mut self.random, &mut self.counters);
        }
        for directory in self.directories.values_mut() {
            directory.lose(|change| {
                let survives = self.random.chance(0.5);
                let is_rename = matches!(change, NameChange::Rename(..));
                self.counters.names_kept += u64::from(survives);
                self.counters.names_undone += u64::from(!survives);
                self.counters.renames_undone += u64::from(!survives && is_rename);
                survives
            });
        }
        self.drop_lost_directories();
    }

    /// Drops the directories that have lost their name, and all that is in them.
    fn drop_lost_directories(&mut self) {
        // A directory comes after the one that it is in.
        let paths: Vec<PathBuf> = self.directories.keys().cloned().collect();
        for path in paths {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let name = name.to_str().unwrap_or_default();
            let is_named = self
                .directories
                .get(parent)
                .is_some_and(|parent| parent.names().get(name) == Some(&Node::Directory));
            if !is_named {
                self.directories.remove(&path);
            }
        }
    }
}

fn lose_changes(
    inode: &mut Inode,
    lie: Option<Lie>,
    random: &mut Random,
    counters: &mut DiskCounters,
) {
    let Undone { changes, acknowledged } = inode.take_back();
    let called_durable: usize = acknowledged.iter().sum();
    let syncs_kept = match lie {
        Some(Lie::AcknowledgesBeforeDurable) => random.index(acknowledged.len() + 1),
        Some(Lie::ForgetsSynced { .. }) => 0,
        Some(Lie::FallsBack { .. }) | None => acknowledged.len(),
    };
    let durable: usize = acknowledged.iter().take(syncs_kept).sum();
    for (number, change) in changes.iter().enumerate() {
        if number < durable {
            inode.apply_durably(change);
        } else if number < called_durable {
            counters.forgotten += 1;
        } else {
            lose_change(inode, change, random, counters);
        }
    }
    inode.was_synced = !inode.bytes().is_empty();
}

/// Draws what survives of one change.
fn lose_change(
    inode: &mut Inode,
    change: &Change,
    random: &mut Random,
    counters: &mut DiskCounters,
) {
    let lost = |counters: &mut DiskCounters| counters.unsynced_lost += 1;
    let (offset, data) = match change {
        Change::Write { offset, data } => (*offset, data),
        Change::SetLength(_) if random.chance(0.5) => {
            inode.apply_durably(change);
            counters.unsynced_kept += 1;
            return;
        }
        Change::SetLength(_) => return lost(counters),
    };
    let parts: Vec<(usize, &[u8])> = match random.index(4) {
        0 => Vec::new(),
        1 => vec![(offset, &data[..random.index(data.len() + 1)])],
        2 => sectors(offset, data).into_iter().filter(|_| random.chance(0.5)).collect(),
        _ => vec![(offset, data.as_slice())],
    };
    let mut kept_bytes = 0;
    for (offset, part) in parts.into_iter().filter(|(_, part)| !part.is_empty()) {
        kept_bytes += part.len();
        inode.apply_durably(&Change::Write { offset, data: part.to_vec() });
    }
    match kept_bytes {
        0 => lost(counters),
        all if all == data.len() => counters.unsynced_kept += 1,
        _ => counters.unsynced_torn += 1,
    }
}

/// The parts of a write that lie in different sectors.
fn sectors(offset: usize, data: &[u8]) -> Vec<(usize, &[u8])> {
    let first = (SECTOR_BYTES - offset % SECTOR_BYTES).min(data.len());
    let (first, rest) = data.split_at(first);
    let mut parts = vec![(offset, first)];
    let mut offset = offset + first.len();
    for sector in rest.chunks(SECTOR_BYTES) {
        parts.push((offset, sector));
        offset += sector.len();
    }
    parts
}
