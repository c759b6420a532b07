//! What really happened on a disk.

use serde::Serialize;

/// What happened on a disk, or on many: operations, and faults that took effect.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiskCounters {
    /// Writes, the failed ones included.
    pub writes: u64,
    /// What was written, in bytes.
    pub written_bytes: u64,
    /// Syncs of files, the failed ones included.
    pub syncs: u64,
    /// Losses of power.
    pub power_losses: u64,
    /// Writes, cuts and extensions of files that were not synced and that a power loss left whole.
    pub unsynced_kept: u64,
    /// ... and those that it left in a part.
    pub unsynced_torn: u64,
    /// ... and those that it undid.
    pub unsynced_lost: u64,
    /// Creations, renames and removals that were not synced and that a power loss left.
    pub names_kept: u64,
    /// ... and those that it undid.
    pub names_undone: u64,
    /// Of those, renames.
    pub renames_undone: u64,
    /// Writes that failed by order.
    pub failed_writes: u64,
    /// Syncs of files or directories that failed by order.
    pub failed_syncs: u64,
    /// Other operations that failed by order.
    pub failed_others: u64,
    /// Operations that failed because the disk was full.
    pub full: u64,
    /// Works that had to wait for a disk that was stuck.
    pub stuck_works: u64,
    /// Bits that flipped.
    pub rotten_bits: u64,
    /// Times that everything was gone.
    pub wipes: u64,
    /// Changes that a lie had called durable, and that a crash undid.
    pub forgotten: u64,
    /// Times that the whole disk fell back to what it held earlier.
    pub fallbacks: u64,
}

impl DiskCounters {
    /// Adds what happened on another disk.
    pub fn add(&mut self, other: &DiskCounters) {
        self.writes += other.writes;
        self.written_bytes += other.written_bytes;
        self.syncs += other.syncs;
        self.power_losses += other.power_losses;
        self.unsynced_kept += other.unsynced_kept;
        self.unsynced_torn += other.unsynced_torn;
        self.unsynced_lost += other.unsynced_lost;
        self.names_kept += other.names_kept;
        self.names_undone += other.names_undone;
        self.renames_undone += other.renames_undone;
        self.failed_writes += other.failed_writes;
        self.failed_syncs += other.failed_syncs;
        self.failed_others += other.failed_others;
        self.full += other.full;
        self.stuck_works += other.stuck_works;
        self.rotten_bits += other.rotten_bits;
        self.wipes += other.wipes;
        self.forgotten += other.forgotten;
        self.fallbacks += other.fallbacks;
    }
}
