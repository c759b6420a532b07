//! Disks that call durable what is not: planted faults, which no Raft survives, to show that they are noticed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::State;
use super::directory::{Directory, Names, Node};
use super::inode::Inode;

/// After so many further syncs of a file, a disk that lies has written back what it called durable before.
const CACHED_SYNCS_MAX: usize = 64;

/// How a disk lies. Syncs of directories are honest, and so is the first sync of a file, at which everything else is
/// written back, too: the node finds a log in which nothing is missing but its end, and goes on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A sync makes nothing durable: at a power loss the last of what was synced vanishes, up to 64 syncs.
    AcknowledgesBeforeDurable,
    /// At a power loss the last `syncs` syncs of each file are forgotten.
    ForgetsSynced {
        /// How many.
        syncs: usize,
    },
    /// At each end of a life the whole disk falls back to what was durable at some earlier sync, `syncs` syncs
    /// ago at most.
    FallsBack {
        /// How many.
        syncs: u32,
    },
}

/// A lie, while it is being told.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) lie: Lie,
    syncs: u32,
    /// What the disk falls back to.
    pub(super) image: Option<Image>,
}

/// What was durable at some time.
#[derive(Clone, Debug)]
pub(super) struct Image {
    inodes: BTreeMap<u64, Vec<u8>>,
    directories: BTreeMap<PathBuf, Names>,
}

impl Telling {
    pub(super) fn new(lie: Lie) -> Telling {
        Telling { lie, syncs: 0, image: None }
    }
}

impl State {
    /// Syncs a file as honestly as this disk does it.
    pub(super) fn sync(&mut self, inode: u64) {
        let lie = self.telling.as_ref().map(|telling| telling.lie);
        let Some(file) = self.inodes.get_mut(&inode) else { return };
        let syncs_max = match lie {
            None => return file.sync(),
            Some(Lie::FallsBack { syncs }) => {
                file.sync();
                return self.renew_image(syncs);
            }
            Some(Lie::AcknowledgesBeforeDurable) => CACHED_SYNCS_MAX,
            Some(Lie::ForgetsSynced { syncs }) => syncs,
        };
        if file.was_synced {
            return file.acknowledge(syncs_max);
        }
        file.sync();
        self.inodes.values_mut().for_each(Inode::write_back);
    }

    fn renew_image(&mut self, every_syncs: u32) {
        let Some(telling) = &mut self.telling else { return };
        telling.syncs += 1;
        if telling.syncs < every_syncs {
            return;
        }
        telling.syncs = 0;
        telling.image = Some(Image {
            inodes: self.inodes.iter().map(|(id, inode)| (*id, inode.durable())).collect(),
            directories: self
                .directories
                .iter()
                .map(|(path, directory)| (path.clone(), directory.durable().clone()))
                .collect(),
        });
    }
}

impl Image {
    /// Makes the disk what it was.
    pub(super) fn restore(self, state: &mut State) {
        state.counters.fallbacks += 1;
        state.inodes = self.inodes.into_iter().map(|(id, bytes)| (id, Inode::new(bytes))).collect();
        let is_named = |path: &PathBuf, directories: &BTreeMap<PathBuf, Names>| {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return true };
            let names = directories.get(parent);
            names.and_then(|names| names.get(name.to_str()?)) == Some(&Node::Directory)
        };
        state.directories = self
            .directories
            .iter()
            .filter(|(path, _)| is_named(path, &self.directories))
            .map(|(path, names)| (path.clone(), Directory::new(names.clone())))
            .collect();
    }
}
