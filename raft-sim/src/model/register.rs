//! Versioned registers, one for each key: a key/value store whose writes name the version that they replace.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};
use std::marker::PhantomData;

use super::Model;

/// A set whose hashes are the same in each run.
type FixedHashSet<T> = HashSet<T, BuildHasherDefault<DefaultHasher>>;

/// What a client asks of a versioned store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request<K, V> {
    /// The value of a key, with its version.
    Get {
        /// Which key.
        key: K,
    },
    /// Replaces the value of a key at this version; creates the key if the version is 0.
    Put {
        /// Which key.
        key: K,
        /// The new value.
        value: V,
        /// The version that it replaces.
        version: u64,
    },
    /// Removes a key.
    Delete {
        /// Which key.
        key: K,
        /// Only at this version. `None`: whatever the version.
        version: Option<u64>,
    },
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply<V> {
    /// To a get: the version and the value, if the key exists.
    Value(Option<(u64, V)>),
    /// To a put: done, and this is the new version.
    Written {
        /// The version that the key has now, one more than the one before.
        version: u64,
    },
    /// To a delete: done.
    Deleted {
        /// The last version that the key had.
        version: u64,
    },
    /// To a put or a delete: nothing was changed, because the key has another version.
    VersionMismatch {
        /// The version that it has.
        current: u64,
    },
    /// To a put at another version than 0, or a delete: nothing was changed, because there is no such key.
    NoKey,
}

/// The specification of a versioned store. A version is 1 for a key's first value and grows by 1 with each put; a key
/// that was deleted begins anew.
///
/// Values are compared with each other and never looked into: their digests do as well.
#[derive(Debug)]
pub struct VersionedStore<K, V> {
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> VersionedStore<K, V> {
    /// The specification of a store that begins without keys.
    #[must_use]
    pub fn new() -> VersionedStore<K, V> {
        VersionedStore { types: PhantomData }
    }
}

impl<K, V> Default for VersionedStore<K, V> {
    fn default() -> VersionedStore<K, V> {
        VersionedStore::new()
    }
}

impl<K, V> Model for VersionedStore<K, V>
where
    K: Clone + Debug + Ord + Hash + Send + 'static,
    V: Clone + Debug + Eq + Hash + Send + 'static,
{
    type Input = Request<K, V>;
    type Output = Reply<V>;
    /// Of one key: its version and value, if it exists.
    type State = Option<(u64, V)>;
    type Key = K;

    fn key(&self, input: &Request<K, V>) -> Option<K> {
        match input {
            Request::Get { key } | Request::Put { key, .. } | Request::Delete { key, .. } => {
                Some(key.clone())
            }
        }
    }

    fn initial(&self) -> Option<(u64, V)> {
        None
    }

    fn step(
        &self,
        state: &Option<(u64, V)>,
        input: &Request<K, V>,
        output: Option<&Reply<V>>,
    ) -> Option<Option<(u64, V)>> {
        let (after, reply) = carry_out(state, input);
        output.is_none_or(|output| *output == reply).then_some(after)
    }

    fn may_change(&self, input: &Request<K, V>, output: Option<&Reply<V>>) -> bool {
        match output {
            Some(Reply::Written { .. } | Reply::Deleted { .. }) => true,
            Some(Reply::Value(_) | Reply::VersionMismatch { .. } | Reply::NoKey) => false,
            None => match input {
                Request::Put { .. } | Request::Delete { .. } => true,
                Request::Get { .. } => false,
            },
        }
    }

    /// Of stores from which nothing is deleted; where it is, this is not for them.
    fn version(&self, input: &Request<K, V>, output: &Reply<V>) -> Option<u64> {
        match (input, output) {
            (Request::Get { .. }, Reply::Value(found)) => Some(version_of(found)),
            _ => None,
        }
    }

    fn mark(&self, state: &Option<(u64, V)>) -> u64 {
        version_of(state)
    }

    fn changes_only_at(&self, input: &Request<K, V>) -> Option<u64> {
        match input {
            Request::Put { version, .. } => Some(*version),
            Request::Delete { version, .. } => *version,
            Request::Get { .. } => None,
        }
    }

    /// A value that nobody read at the version that its put leads to is as good as any other such value.
    fn stand_ins(&self, unknown: &[&Request<K, V>], told: &[&Reply<V>]) -> Vec<Request<K, V>> {
        let mut read = FixedHashSet::default();
        for reply in told {
            if let Reply::Value(Some((version, value))) = reply {
                read.insert((*version, value));
            }
        }
        let mut unread = BTreeMap::new();
        let stand_in = |input: &&Request<K, V>| match input {
            Request::Put { key, value, version }
                if !read.contains(&(version.saturating_add(1), value)) =>
            {
                let value = unread.entry(*version).or_insert_with(|| value.clone()).clone();
                Request::Put { key: key.clone(), value, version: *version }
            }
            Request::Put { .. } | Request::Get { .. } | Request::Delete { .. } => (*input).clone(),
        };
        unknown.iter().map(stand_in).collect()
    }

    fn describe_state(&self, state: &Option<(u64, V)>) -> String {
        match state {
            Some((version, value)) => format!("version {version}: {value:?}"),
            None => String::from("no such key"),
        }
    }

    fn expected(&self, state: &Option<(u64, V)>, input: &Request<K, V>) -> Option<String> {
        Some(self.describe_output(input, &carry_out(state, input).1))
    }
}

fn version_of<V>(state: &Option<(u64, V)>) -> u64 {
    state.as_ref().map_or(0, |(version, _)| *version)
}

pub(crate) fn carry_out<K, V: Clone>(
    state: &Option<(u64, V)>,
    input: &Request<K, V>,
) -> (Option<(u64, V)>, Reply<V>) {
    let current = version_of(state);
    let refusal = || match state {
        Some(_) => Reply::VersionMismatch { current },
        None => Reply::NoKey,
    };
    match input {
        Request::Get { .. } => (state.clone(), Reply::Value(state.clone())),
        Request::Put { value, version, .. } if *version == current => {
            let version = current.saturating_add(1);
            (Some((version, value.clone())), Reply::Written { version })
        }
        Request::Delete { version, .. }
            if state.is_some() && version.is_none_or(|version| version == current) =>
        {
            (None, Reply::Deleted { version: current })
        }
        Request::Put { .. } | Request::Delete { .. } => (state.clone(), refusal()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: u64, version: u64) -> Request<char, u64> {
        Request::Put { key: 'k', value, version }
    }

    fn delete(version: Option<u64>) -> Request<char, u64> {
        Request::Delete { key: 'k', version }
    }

    #[test]
    fn a_put_replaces_the_version_that_it_names_and_no_other() {
        let cases = [
            (None, put(7, 0), Some((1, 7)), Reply::Written { version: 1 }),
            (None, put(7, 1), None, Reply::NoKey),
            (Some((3, 5)), put(7, 3), Some((4, 7)), Reply::Written { version: 4 }),
            (Some((3, 5)), put(7, 0), Some((3, 5)), Reply::VersionMismatch { current: 3 }),
            (Some((3, 5)), delete(None), None, Reply::Deleted { version: 3 }),
            (Some((3, 5)), delete(Some(3)), None, Reply::Deleted { version: 3 }),
            (Some((3, 5)), delete(Some(2)), Some((3, 5)), Reply::VersionMismatch { current: 3 }),
            (None, delete(Some(0)), None, Reply::NoKey),
            (None, delete(None), None, Reply::NoKey),
            (Some((3, 5)), Request::Get { key: 'k' }, Some((3, 5)), Reply::Value(Some((3, 5)))),
        ];
        for (state, input, after, reply) in cases {
            assert_eq!(carry_out(&state, &input), (after, reply), "{input:?} at {state:?}");
        }
    }

    #[test]
    fn only_values_that_were_read_at_the_version_that_they_lead_to_are_told_apart() {
        let model = VersionedStore::<char, u64>::new();
        let read = Reply::Value(Some((2, 7)));
        let unknown = [put(5, 1), put(6, 1), put(7, 1), put(7, 0), put(8, 0), delete(None)];
        let stand_ins = model.stand_ins(&unknown.each_ref(), &[&read]);
        assert_eq!(
            stand_ins,
            [put(5, 1), put(5, 1), put(7, 1), put(7, 0), put(7, 0), delete(None)]
        );
    }

    #[test]
    fn its_hints_agree_with_what_it_does() {
        let model = VersionedStore::<char, u64>::new();
        let states = [None, Some((1, 5)), Some((2, 5)), Some((2, 6))];
        let inputs = [
            Request::Get { key: 'k' },
            put(5, 0),
            put(5, 1),
            put(6, 2),
            delete(None),
            delete(Some(0)),
            delete(Some(1)),
            delete(Some(2)),
        ];
        for state in &states {
            for input in &inputs {
                let (after, reply) = carry_out(state, input);
                if after != *state {
                    assert!(model.may_change(input, Some(&reply)) && model.may_change(input, None));
                    let only_at = model.changes_only_at(input);
                    assert!(only_at.is_none_or(|mark| mark == model.mark(state)), "{input:?}");
                }
            }
        }
    }
}
