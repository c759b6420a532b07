//! What of one snapshot is on its way: which chunk is to leave next, and which is to leave again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::snapshot_receiving::{CHUNK_BYTES_MAX, CHUNKS_MAX};

/// A chunk of which nothing is heard for this long is sent again: well above a round trip and the write
/// of a chunk. It doubles each time ...
const RESEND_AFTER: Duration = Duration::from_millis(250);

/// ... up to this, since a receiver whose disk is slow needs no second copy of what waits there.
const RESEND_AFTER_MAX: Duration = Duration::from_secs(2);

/// A sender that has sent nothing for this long asks how it stands, before it sends anything again: it may be an answer
/// that is lost. And a receiver must not take a sender that waits for its turn for dead.
const ASK_AFTER: Duration = Duration::from_millis(100);

/// A receiver that says nothing for this long is given up; the core tries again later.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A receiver that answers but gets no further for this long is given up. Making a large image durable counts as
/// getting no further, so this is long.
pub(super) const STALL_MAX: Duration = Duration::from_secs(60);

/// One transfer as its sender sees it. Positions are offsets in the image, in bytes.
#[derive(Debug)]
pub(super) struct Window {
    image_bytes: u64,
    chunk_bytes: u64,
    /// No more chunks than this are on their way: what a receiver can hold.
    chunks_max: usize,
    /// Names what the receiver has, once it has said so.
    reception: Option<u64>,
    /// Everything before this has arrived.
    confirmed: u64,
    /// Nothing from here on was ever sent.
    next: u64,
    /// The chunks from `confirmed` up to `next`.
    sent: BTreeMap<u64, Sent>,
    /// How many chunks have left, those that left again included: numbers them.
    left: u64,
    /// The greatest `first` of all chunks that have arrived.
    arrived: u64,
    spoke_at: Duration,
    heard_at: Duration,
    progress_at: Duration,
}

/// A chunk that has left.
#[derive(Debug)]
struct Sent {
    /// Its number when it left for the first time ...
    first: u64,
    /// ... and for the last time.
    latest: u64,
    at: Duration,
    patience: Duration,
    /// The receiver has it, but not all before it.
    held: bool,
}

/// The receiver has lost what it had.
#[derive(Debug)]
pub(super) struct Lost;

impl Window {
    pub(super) fn new(image_bytes: u64, chunk_bytes: usize, now: Duration) -> Window {
        Window {
            image_bytes,
            chunk_bytes: chunk_bytes as u64,
            chunks_max: (CHUNK_BYTES_MAX / chunk_bytes).clamp(1, CHUNKS_MAX),
            reception: None,
            confirmed: 0,
            next: 0,
            sent: BTreeMap::new(),
            left: 0,
            arrived: 0,
            spoke_at: now,
            heard_at: now,
            progress_at: now,
        }
    }

    /// The chunk that should leave now: the first one that is lost, else a new one if there is room.
    pub(super) fn due(&self, now: Duration) -> Option<u64> {
        let again = self.sent.iter().find(|(_, sent)| sent.is_lost(self.arrived, now));
        if let Some((offset, _)) = again {
            return Some(*offset);
        }
        // An empty image is one empty chunk.
        let is_left = self.next < self.image_bytes || self.left == 0;
        (is_left && self.sent.len() < self.chunks_max).then_some(self.next)
    }

    /// When a chunk on its way is taken for lost, unless something is heard of it.
    pub(super) fn resend_at(&self) -> Option<Duration> {
        let waiting = self.sent.values().filter(|sent| !sent.held);
        waiting.map(|sent| sent.at.saturating_add(sent.patience)).min()
    }

    /// The chunk at `offset`, which was due, has left.
    pub(super) fn sent(&mut self, offset: u64, now: Duration) {
        self.left += 1;
        self.spoke_at = now;
        let number = self.left;
        let fresh =
            Sent { first: number, latest: number, at: now, patience: RESEND_AFTER, held: false };
        let sent = self.sent.entry(offset).or_insert(fresh);
        if sent.latest != number {
            if sent.latest > self.arrived {
                sent.patience = (sent.patience * 2).min(RESEND_AFTER_MAX);
            }
            sent.latest = number;
            sent.at = now;
        }
        self.next = self.next.max(self.chunk_end(offset));
    }

    /// When to ask, unless something is sent before.
    pub(super) fn ask_at(&self) -> Duration {
        self.spoke_at.saturating_add(ASK_AFTER)
    }

    /// An empty chunk leaves, at the offset that this returns.
    pub(super) fn asked(&mut self, now: Duration) -> u64 {
        self.spoke_at = now;
        self.confirmed
    }

    /// The receiver has everything before `offset`, and these chunks beyond it.
    ///
    /// # Errors
    /// It speaks of another reception than before.
    pub(super) fn answered(
        &mut self,
        reception: u64,
        offset: u64,
        held: &[u64],
        now: Duration,
    ) -> Result<(), Lost> {
        if *self.reception.get_or_insert(reception) != reception {
            return Err(Lost);
        }
        self.heard_at = now;
        if offset > self.confirmed {
            let missing = self.sent.split_off(&self.chunk_start(offset));
            let here = std::mem::replace(&mut self.sent, missing);
            let firsts = here.values().map(|sent| sent.first);
            self.arrived = firsts.fold(self.arrived, u64::max);
            // Never beyond what was sent, whatever it says.
            let confirmed = here.keys().next_back().map(|last| self.chunk_end(*last));
            if let Some(confirmed) = confirmed {
                self.confirmed = confirmed;
                self.progress_at = now;
            }
        }
        for offset in held {
            if let Some(sent) = self.sent.get_mut(offset) {
                sent.held = true;
                self.arrived = self.arrived.max(sent.first);
            }
        }
        // A receiver without room for it may have let go of a chunk; it wants it once it is the next.
        if offset == self.confirmed
            && !held.contains(&offset)
            && let Some(next) = self.sent.get_mut(&offset)
        {
            next.held = false;
        }
        Ok(())
    }

    /// Nothing was heard, or got further, for too long.
    pub(super) fn is_given_up(&self, now: Duration) -> bool {
        now.saturating_sub(self.heard_at) > SILENCE_MAX
            || now.saturating_sub(self.progress_at) > STALL_MAX
    }

    /// Where the chunk that contains `offset` begins. Past the image, that is past every chunk.
    fn chunk_start(&self, offset: u64) -> u64 {
        if offset >= self.image_bytes { offset } else { offset - offset % self.chunk_bytes }
    }

    fn chunk_end(&self, offset: u64) -> u64 {
        offset.saturating_add(self.chunk_bytes).min(self.image_bytes)
    }
}

impl Sent {
    /// What left after it has arrived, and it has not; or nothing is heard of it for too long. The former takes the
    /// first number of what has arrived, since nobody knows which of its copies that was.
    fn is_lost(&self, arrived: u64, now: Duration) -> bool {
        !self.held && (self.latest < arrived || now.saturating_sub(self.at) >= self.patience)
    }
}
