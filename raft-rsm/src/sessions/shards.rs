//! A map of which a frozen copy costs little, however long it is.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::SessionId;

/// A copy shares each of so many parts until one of the two changes it. So a copy costs this many reference counts, and the
/// first change of a part after it a 512th of the map.
const SHARDS: usize = 512;

/// A map in parts. The order in which it is gone through is the same wherever its content is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shards<K, V> {
    shards: Box<[Arc<BTreeMap<K, V>>]>,
    len: usize,
}

/// Spreads keys over the parts of a map, the same in every process.
pub(super) trait Spread {
    fn spread(&self) -> u64;
}

impl Spread for SessionId {
    fn spread(&self) -> u64 {
        /// 2^64 divided by the golden ratio: numbers that lie at any one distance from each other are spread evenly.
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        self.0.wrapping_mul(GOLDEN) >> 32
    }
}

impl Spread for [u8] {
    fn spread(&self) -> u64 {
        crc32fast::hash(self).into()
    }
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Shards<K, V> {
        let empty = Arc::new(BTreeMap::new());
        Shards { shards: vec![empty; SHARDS].into(), len: 0 }
    }
}

impl<K: Ord + Clone, V: Clone> Shards<K, V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + Spread + ?Sized,
    {
        self.shards[shard(key)].get(key)
    }

    pub(super) fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + Spread + ?Sized,
    {
        let shard = &mut self.shards[shard(key)];
        // What is not there is not worth a copy.
        if !shard.contains_key(key) {
            return None;
        }
        Arc::make_mut(shard).get_mut(key)
    }

    /// Returns the value that `key` had before.
    pub(super) fn insert<Q>(&mut self, key: K, value: V) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + Spread + ?Sized,
    {
        let shard = &mut self.shards[shard(key.borrow())];
        let before = Arc::make_mut(shard).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    pub(super) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + Spread + ?Sized,
    {
        let shard = &mut self.shards[shard(key)];
        if !shard.contains_key(key) {
            return None;
        }
        let removed = Arc::make_mut(shard).remove(key);
        self.len -= usize::from(removed.is_some());
        removed
    }
}

fn shard<Q: Spread + ?Sized>(key: &Q) -> usize {
    usize::try_from(key.spread() % SHARDS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(count: u64, step: u64) -> Shards<SessionId, u64> {
        let mut map = Shards::default();
        for number in 0..count {
            assert_eq!(map.insert::<SessionId>(SessionId(number * step), number), None);
        }
        map
    }

    #[test]
    fn it_is_a_map() {
        let mut map = numbered(1000, 7);
        assert_eq!((map.len(), map.iter().count()), (1000, 1000));
        assert_eq!((map.get(&SessionId(70)), map.get(&SessionId(71))), (Some(&10), None));
        *map.get_mut(&SessionId(70)).unwrap() = 99;
        assert_eq!(map.insert::<SessionId>(SessionId(70), 100), Some(99));
        assert_eq!((map.remove(&SessionId(70)), map.remove(&SessionId(70))), (Some(100), None));
        assert_eq!((map.len(), map.get_mut(&SessionId(70))), (999, None));
    }

    #[test]
    fn a_copy_shares_what_has_not_changed_since_and_shows_nothing_of_what_has() {
        let mut map = numbered(10_000, 1);
        let frozen = map.clone();
        assert!(
            map.get_mut(&SessionId(20_000)).is_none() && map.remove(&SessionId(20_000)).is_none()
        );
        *map.get_mut(&SessionId(1)).unwrap() = 99;
        map.remove(&SessionId(2));
        map.insert::<SessionId>(SessionId(20_000), 0);
        assert_eq!(frozen, numbered(10_000, 1));
        let pairs = map.shards.iter().zip(&frozen.shards);
        let copied = pairs.filter(|(one, other)| !Arc::ptr_eq(one, other)).count();
        assert!((1..=3).contains(&copied), "{copied} of {SHARDS} parts were copied");
    }

    /// Whatever the distance between sessions in the log, and if it is a multiple of the number of parts.
    #[test]
    fn the_parts_are_of_about_the_same_size() {
        for step in [1, 2, 3, 64, SHARDS as u64, 1000, 1 << 20] {
            let map = numbered(100 * SHARDS as u64, step);
            let longest = map.shards.iter().map(|shard| shard.len()).max().unwrap();
            assert!(longest < 300, "with a distance of {step}, one has {longest} instead of 100");
        }
    }
}
