//! Where `map` puts what it finds.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::mem;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::Job;
use crate::data::{COMBINED_BYTES_MAX, ENCODED_BYTES_MAX, encoded_bytes, long_key};
use crate::task::{Stop, TaskError};

/// A key and a value of a job.
pub(crate) type Pair<J> = (<J as Job>::Key, <J as Job>::Value);

/// Where the emitter puts what is more than it may hold.
pub(crate) type Spill<'a, J> = &'a mut dyn FnMut(&mut Vec<Pair<J>>) -> Result<(), TaskError>;

/// Where `map` puts what it finds. It holds a bounded number of bytes; what is more goes to the disk.
pub struct Emitter<'a, J: Job> {
    job: &'a J,
    held: Held<J>,
    /// An estimate of what is held, in bytes.
    bytes: usize,
    bytes_max: usize,
    spill: Spill<'a, J>,
    /// After it nothing is kept any more: the task has failed, `map` just does not know yet.
    failed: Option<TaskError>,
    /// Hears at each pair that `map` goes on: one call of it may take long.
    heard_by: Option<&'a dyn Stop>,
}

enum Held<J: Job> {
    /// One value a key, because the job combines, unless it grows large.
    Combined {
        table: HashTable<Pair<J>>,
        hasher: DefaultHashBuilder,
        /// Values that grow no further.
        full: Vec<Pair<J>>,
    },
    /// All of them.
    Pairs(Vec<Pair<J>>),
}

/// What the allocator and the table need for an entry, beyond its own bytes: an estimate from above.
const ENTRY_OVERHEAD_BYTES: usize = 24;

impl<'a, J: Job> Emitter<'a, J> {
    pub(crate) fn new(job: &'a J, bytes_max: usize, spill: Spill<'a, J>) -> Emitter<'a, J> {
        let held = match job.combiner() {
            Some(_) => {
                let (table, hasher) = (HashTable::new(), DefaultHashBuilder::default());
                Held::Combined { table, hasher, full: Vec::new() }
            }
            None => Held::Pairs(Vec::new()),
        };
        Emitter { job, held, bytes: 0, bytes_max, spill, failed: None, heard_by: None }
    }

    /// The same, where `stop` is asked at each pair, as a sign of life.
    pub(crate) fn heard_by(self, stop: &'a dyn Stop) -> Emitter<'a, J> {
        Emitter { heard_by: Some(stop), ..self }
    }

    /// One that combines nothing, whatever the job can do.
    pub(crate) fn plain(job: &'a J, spill: Spill<'a, J>) -> Emitter<'a, J> {
        let held = Held::Pairs(Vec::new());
        let (bytes_max, heard_by) = (usize::MAX, None);
        Emitter { job, held, bytes: 0, bytes_max, spill, failed: None, heard_by }
    }

    /// Adds `value` to `key`. A key that is held already is not copied, if the job combines.
    #[inline]
    pub fn emit<Q>(&mut self, key: &Q, value: J::Value)
    where
        J::Key: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = J::Key> + ?Sized,
    {
        let Held::Combined { table, hasher, full: _ } = &mut self.held else {
            return self.push(key.to_owned(), value);
        };
        Self::give_sign(self.heard_by);
        let Some(combine) = self.job.combiner() else { return };
        let hash = hasher.hash_one(key);
        match table.find_mut(hash, |(held, _)| held.borrow() == key) {
            Some((_, held)) => {
                let before = self.job.heap_bytes(held);
                if before.saturating_add(self.job.heap_bytes(&value)) > COMBINED_BYTES_MAX {
                    return self.begin_anew(hash, key.to_owned(), value);
                }
                combine(held, value);
                self.bytes = (self.bytes + self.job.heap_bytes(held)).saturating_sub(before);
            }
            None => self.insert(hash, key.to_owned(), value),
        }
        if self.bytes > self.bytes_max {
            self.spill();
        }
    }

    /// The same for a key that the caller need not keep.
    pub fn emit_owned(&mut self, key: J::Key, value: J::Value) {
        match &self.held {
            Held::Combined { .. } => self.emit(&key, value),
            Held::Pairs(_) => self.push(key, value),
        }
    }

    /// Whether to stop is asked where something can be done about it.
    fn give_sign(heard_by: Option<&dyn Stop>) {
        if let Some(stop) = heard_by {
            stop.is_stopped();
        }
    }

    /// Hands out what is still held.
    pub(crate) fn finish(self) -> Result<Vec<Pair<J>>, TaskError> {
        match (self.failed, self.held) {
            (Some(error), _) => Err(error),
            (None, Held::Combined { table, hasher: _, full }) => {
                Ok(full.into_iter().chain(table).collect())
            }
            (None, Held::Pairs(pairs)) => Ok(pairs),
        }
    }

    /// Whether all went well so far.
    pub(crate) fn outcome(&self) -> Result<(), TaskError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn push(&mut self, key: J::Key, value: J::Value) {
        Self::give_sign(self.heard_by);
        if !self.admit(&key, &value) {
            return;
        }
        if let Held::Pairs(pairs) = &mut self.held {
            pairs.push((key, value));
        }
        if self.bytes > self.bytes_max {
            self.spill();
        }
    }

    #[cold]
    fn insert(&mut self, hash: u64, key: J::Key, value: J::Value) {
        if !self.admit(&key, &value) {
            return;
        }
        if let Held::Combined { table, hasher, full: _ } = &mut self.held {
            let rehash = |(key, _): &Pair<J>| hasher.hash_one(key);
            match table.entry(hash, |_| false, rehash) {
                Entry::Vacant(entry) => entry.insert((key, value)),
                Entry::Occupied(entry) => entry,
            };
        }
    }

    /// The value that is held for the key grows no further; this is the next one.
    #[cold]
    fn begin_anew(&mut self, hash: u64, key: J::Key, value: J::Value) {
        if !self.admit(&key, &value) {
            return;
        }
        if let Held::Combined { table, hasher: _, full } = &mut self.held
            && let Some((held_key, held)) = table.find_mut(hash, |(held, _)| *held == key)
        {
            full.push((mem::replace(held_key, key), mem::replace(held, value)));
        }
        if self.bytes > self.bytes_max {
            self.spill();
        }
    }

    /// Counts what a new pair takes, and says whether it may be held.
    fn admit(&mut self, key: &J::Key, value: &J::Value) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let key_bytes = match encoded_bytes(key) {
            Ok(bytes) if bytes <= ENCODED_BYTES_MAX => bytes,
            Ok(bytes) => {
                self.failed = Some(long_key(key, bytes));
                return false;
            }
            Err(error) => {
                self.failed = Some(error);
                return false;
            }
        };
        let pair = size_of::<Pair<J>>() + self.job.heap_bytes(value);
        self.bytes += pair + key_bytes + ENTRY_OVERHEAD_BYTES;
        true
    }

    #[cold]
    fn spill(&mut self) {
        if self.failed.is_some() {
            return;
        }
        let outcome = match &mut self.held {
            Held::Pairs(pairs) => {
                let outcome = (self.spill)(pairs);
                pairs.clear();
                outcome
            }
            Held::Combined { table, hasher: _, full } => {
                (self.spill)(&mut full.drain(..).chain(table.drain()).collect())
            }
        };
        self.bytes = 0;
        self.failed = outcome.err();
    }
}
