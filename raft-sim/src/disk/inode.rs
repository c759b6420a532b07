//! The contents of a file: as the system shows them, and the way back to what is durable.

use std::collections::VecDeque;

/// The contents of a file.
#[derive(Debug, Default)]
pub(super) struct Inode {
    bytes: Vec<u8>,
    /// What takes back each change that is not durable, oldest first.
    pending: Vec<Undo>,
    /// What is durable, where it is not what `pending` leads back to: some of a failed sync is shown and never
    /// becomes durable.
    durable: Option<Vec<u8>>,
    /// How many of `pending`, from the oldest on, each of the last syncs called durable, though they are not.
    acknowledged: VecDeque<usize>,
    /// Whether it was synced before.
    pub(super) was_synced: bool,
    /// How often it is open.
    pub(super) handles: u32,
    /// Whether it was removed or replaced: it may not be needed any more.
    pub(super) is_removed: bool,
}

/// A change of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLength(usize),
}

/// Takes a change back.
#[derive(Debug)]
struct Undo {
    change: Extent,
    /// The length of the file before, in bytes.
    length: usize,
    /// What was overwritten or cut off.
    overwritten: Vec<u8>,
}

#[derive(Debug)]
enum Extent {
    Write { offset: usize, length: usize },
    SetLength(usize),
}

/// What was done since the file was durable, oldest first.
#[derive(Debug, Default)]
pub(super) struct Undone {
    /// Each change.
    pub(super) changes: Vec<Change>,
    /// The number of changes that each of the last syncs called durable, from the oldest on.
    pub(super) acknowledged: VecDeque<usize>,
}

impl Inode {
    /// A file that is durable.
    pub(super) fn new(bytes: Vec<u8>) -> Inode {
        let was_synced = !bytes.is_empty();
        Inode { bytes, was_synced, ..Inode::default() }
    }

    /// What the system shows.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether what the system shows is durable.
    pub(super) fn is_at_rest(&self) -> bool {
        self.pending.is_empty() && self.durable.is_none()
    }

    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let (length, end) = (self.bytes.len(), offset + data.len());
        let inside = length.saturating_sub(offset).min(data.len());
        let mut overwritten = Vec::new();
        if inside > 0 {
            overwritten.extend_from_slice(&self.bytes[offset..offset + inside]);
            self.bytes[offset..offset + inside].copy_from_slice(&data[..inside]);
        }
        if end > length {
            self.bytes.resize(length.max(offset), 0);
            self.bytes.extend_from_slice(&data[inside..]);
        }
        let change = Extent::Write { offset, length: data.len() };
        self.pending.push(Undo { change, length, overwritten });
    }

    pub(super) fn set_length(&mut self, new_length: usize) {
        let length = self.bytes.len();
        let overwritten = self.bytes.get(new_length..).unwrap_or_default().to_vec();
        self.bytes.resize(new_length, 0);
        self.pending.push(Undo { change: Extent::SetLength(new_length), length, overwritten });
    }

    /// Makes everything durable, but for what an earlier sync failed to.
    pub(super) fn sync(&mut self) {
        if self.durable.is_some() {
            self.sync_some(|| true);
        }
        self.pending.clear();
        self.acknowledged.clear();
        self.was_synced = true;
    }

    /// Makes those changes durable for which `becomes_durable`, asked for each in order. The rest is shown, and
    /// never becomes durable.
    pub(super) fn sync_some(&mut self, mut becomes_durable: impl FnMut() -> bool) {
        let shown = self.bytes.clone();
        let Undone { changes, acknowledged: _ } = self.take_back();
        for change in changes {
            if becomes_durable() {
                change.apply(&mut self.bytes);
            }
        }
        let durable = std::mem::replace(&mut self.bytes, shown);
        self.durable = (durable != self.bytes).then_some(durable);
    }

    /// Calls everything durable, and makes it so `syncs_max` further syncs later.
    pub(super) fn acknowledge(&mut self, syncs_max: usize) {
        if self.durable.is_some() {
            return self.sync();
        }
        let before: usize = self.acknowledged.iter().sum();
        self.acknowledged.push_back(self.pending.len() - before);
        while self.acknowledged.len() > syncs_max {
            let oldest = self.acknowledged.pop_front().unwrap_or(0);
            self.pending.drain(..oldest);
        }
    }

    /// Makes durable what was called so.
    pub(super) fn write_back(&mut self) {
        let acknowledged: usize = self.acknowledged.drain(..).sum();
        self.pending.drain(..acknowledged);
    }

    /// Goes back to what is durable, and returns what has happened since then.
    pub(super) fn take_back(&mut self) -> Undone {
        let pending = std::mem::take(&mut self.pending);
        let changes = take_back(&mut self.bytes, &pending);
        if let Some(durable) = self.durable.take() {
            self.bytes = durable;
        }
        Undone { changes, acknowledged: std::mem::take(&mut self.acknowledged) }
    }

    /// Does a change that is durable at once. Nothing else may be pending.
    pub(super) fn apply_durably(&mut self, change: &Change) {
        change.apply(&mut self.bytes);
    }

    /// What is durable.
    pub(super) fn durable(&self) -> Vec<u8> {
        self.durable.clone().unwrap_or_else(|| {
            let mut bytes = self.bytes.clone();
            take_back(&mut bytes, &self.pending);
            bytes
        })
    }

    /// Flips a bit of a file at rest.
    pub(super) fn flip(&mut self, byte: usize, bit: usize) {
        self.bytes[byte] ^= 1 << bit;
    }
}

/// Takes all of `pending` back, and returns the changes, oldest first.
fn take_back(bytes: &mut Vec<u8>, pending: &[Undo]) -> Vec<Change> {
    let mut changes = Vec::with_capacity(pending.len());
    for undo in pending.iter().rev() {
        match undo.change {
            Extent::Write { offset, length } => {
                // All that came after it is taken back, so this is what it wrote.
                let data = bytes[offset..offset + length].to_vec();
                bytes[offset..offset + undo.overwritten.len()].copy_from_slice(&undo.overwritten);
                bytes.truncate(undo.length);
                changes.push(Change::Write { offset, data });
            }
            Extent::SetLength(length) => {
                bytes.truncate(undo.length);
                bytes.extend_from_slice(&undo.overwritten);
                changes.push(Change::SetLength(length));
            }
        }
    }
    changes.reverse();
    changes
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write { offset, data } => {
                let end = offset + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset..end].copy_from_slice(data);
            }
            Change::SetLength(length) => bytes.resize(*length, 0),
        }
    }
}
