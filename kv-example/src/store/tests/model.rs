//! The store does what a plain model of its rules does, and so does a replica that restores snapshots, and whoever follows
//! its events.

use std::collections::BTreeMap;

use quickcheck::{Arbitrary, Gen};

use super::*;

/// A command over few keys, versions and leases, so that they meet, some time after the last.
#[derive(Clone, Debug)]
struct Step {
    waits: u64,
    kind: u8,
    key: u8,
    version: Option<u64>,
    value: Vec<u8>,
    lease: u8,
    others: Vec<(u8, bool)>,
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Step {
        Step {
            waits: u64::arbitrary(g) % 3,
            kind: u8::arbitrary(g) % 10,
            key: u8::arbitrary(g) % 5,
            version: bool::arbitrary(g).then(|| u64::arbitrary(g) % 4),
            value: Vec::arbitrary(g),
            lease: u8::arbitrary(g) % 4,
            others: Vec::arbitrary(g),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Step>> {
        quickcheck::empty_shrinker()
    }
}

fn key(number: u8) -> String {
    format!("key/{}", number % 5)
}

impl Step {
    /// The command, if these leases were granted so far.
    fn command(&self, leases: &[LeaseId]) -> Command {
        let key_of = key;
        let key = key(self.key);
        let value = Bytes::from(self.value.clone());
        let lease = leases.iter().rev().nth(self.lease.into()).copied().unwrap_or(LeaseId(999));
        match self.kind {
            0..=1 => Command::Put { key, value, version: Version(self.version.unwrap_or(0)) },
            2 => {
                let lease = Some(lease).filter(|_| self.key.is_multiple_of(2));
                Command::Set { key, value, version: self.version.map(Version), lease }
            }
            3 => Command::Delete { key, version: self.version.map(Version) },
            4..=6 => {
                let lease = Some(lease).filter(|_| self.kind != 4);
                let version = self.version.map(Version);
                let condition = version.map(|version| Condition { key: key.clone(), version });
                let first = Write::Put { key, value: value.clone(), lease };
                let others = self.others.iter().map(|(key, is_put)| match is_put {
                    true => Write::Put { key: key_of(*key), value: value.clone(), lease: None },
                    false => Write::Delete { key: key_of(*key) },
                });
                let writes = std::iter::once(first).chain(others).collect();
                Command::Transact(Transaction {
                    conditions: condition.into_iter().collect(),
                    writes,
                })
            }
            7 => Command::Grant { ttl: Duration::from_secs(u64::from(self.key) + 1) },
            8 => Command::KeepAlive { lease },
            _ => Command::Revoke { lease },
        }
    }
}

/// The rules again, as plainly as they can be said.
#[derive(Default)]
struct Model {
    keys: BTreeMap<String, (u64, Bytes, Option<LeaseId>)>,
    /// Their whole times and their ends.
    leases: BTreeMap<LeaseId, (Duration, Duration)>,
}

impl Model {
    fn apply(&mut self, context: &Context, command: Command) -> Response {
        let ended = self.leases.extract_if(.., |_, (_, end)| *end <= context.time);
        let ended: Vec<LeaseId> = ended.map(|(lease, _)| lease).collect();
        ended.into_iter().for_each(|lease| self.forget(lease));
        match command {
            Command::Put { key, value, version } => self.set(key, value, Some(version), None),
            Command::Set { key, value, version, lease } => self.set(key, value, version, lease),
            Command::Delete { key, version } => match self.version(&key) {
                0 => Response::NoKey,
                current if version.is_none_or(|version| version.0 == current) => {
                    self.keys.remove(&key);
                    Response::Deleted { version: Version(current) }
                }
                current => mismatch(current),
            },
            Command::Transact(transaction) => self.transact(context, transaction),
            Command::Grant { ttl } => {
                let lease = LeaseId(context.index.0);
                self.leases.insert(lease, (ttl, context.time + ttl));
                Response::Granted { lease }
            }
            Command::KeepAlive { lease } => match self.leases.get_mut(&lease) {
                Some((ttl, end)) => {
                    *end = context.time + *ttl;
                    Response::KeptAlive { ttl: *ttl }
                }
                None => Response::NoLease,
            },
            Command::Revoke { lease } => match self.leases.remove(&lease) {
                Some(_) => {
                    self.forget(lease);
                    Response::Revoked
                }
                None => Response::NoLease,
            },
        }
    }

    fn set(
        &mut self,
        key: String,
        value: Bytes,
        version: Option<Version>,
        lease: Option<LeaseId>,
    ) -> Response {
        match self.version(&key) {
            0 if version.is_some_and(|version| version.0 != 0) => Response::NoKey,
            current if version.is_some_and(|version| version.0 != current) => mismatch(current),
            _ if lease.is_some_and(|lease| !self.leases.contains_key(&lease)) => Response::NoLease,
            current => {
                self.keys.insert(key, (current + 1, value, lease));
                written(current + 1)
            }
        }
    }

    fn transact(&mut self, context: &Context, transaction: Transaction) -> Response {
        for Condition { key, version } in transaction.conditions {
            let current = Version(self.version(&key));
            if current != version {
                return Response::ConditionFailed { key, current };
            }
        }
        let mut writes = transaction.writes.iter();
        let lives = |write: &Write| match write {
            Write::Put { lease: Some(lease), .. } => self.leases.contains_key(lease),
            Write::Put { .. } | Write::Delete { .. } => true,
        };
        if !writes.all(lives) {
            return Response::NoLease;
        }
        for write in transaction.writes {
            match write {
                Write::Put { key, value, lease } => {
                    let version = self.version(&key) + 1;
                    self.keys.insert(key, (version, value, lease));
                }
                Write::Delete { key } => {
                    self.keys.remove(&key);
                }
            }
        }
        Response::Committed { revision: Revision(context.index.0) }
    }

    fn version(&self, key: &str) -> u64 {
        self.keys.get(key).map_or(0, |(version, ..)| *version)
    }

    fn forget(&mut self, lease: LeaseId) {
        self.keys.retain(|_, (_, _, tied)| *tied != Some(lease));
    }
}

/// What somebody knows who follows the events of all keys.
#[derive(Default)]
struct Follower {
    next: Cursor,
    keys: BTreeMap<String, (u64, Bytes, Option<LeaseId>)>,
}

impl Follower {
    fn follow(&mut self, store: &Store) {
        let Changes::Events { events, next } = store.history.changes("", self.next) else {
            panic!("nothing is forgotten");
        };
        for Event { key, change, .. } in events {
            let key = (*key).to_owned();
            match change {
                Change::Put(Versioned { version, value, lease, .. }) => {
                    let before = self.keys.insert(key, (version.0, value, lease));
                    assert_eq!(before.map_or(0, |(version, ..)| version) + 1, version.0);
                }
                Change::Deleted { version } => {
                    let before = self.keys.remove(&key);
                    assert_eq!(before.map(|(version, ..)| version), Some(version.0));
                }
            }
        }
        self.next = next;
    }
}

#[test]
fn the_store_does_what_the_model_does_also_across_snapshots_and_so_do_those_who_watch() {
    fn agrees(steps: Vec<Step>, snapshot_each: u8, look_each: u8, limit: u8) -> bool {
        let mut stores = [Store::default(), Store::default()];
        let (mut model, mut follower) = (Model::default(), Follower::default());
        let (mut leases, mut time) = (Vec::new(), 0);
        for (number, step) in (1_u64..).zip(&steps) {
            time += step.waits;
            let (context, command) = (context(number, time), step.command(&leases));
            if number % (u64::from(snapshot_each) + 1) == 0 {
                stores[1] = restored(&image_of(&stores[1])).unwrap();
            }
            let expected = model.apply(&context, command.clone());
            for store in &mut stores {
                assert_eq!(apply(store, &context, command.clone()), expected, "step {number}");
            }
            if let Response::Granted { lease } = expected {
                leases.push(lease);
            }
            if number % (u64::from(look_each) % 4 + 1) == 0 {
                follower.follow(&stores[0]);
            }
        }
        follower.follow(&stores[0]);
        assert_eq!(follower.keys, model.keys);
        assert_eq!(stores[0].state, stores[1].state);
        all(&stores[0], limit) == model.keys
    }
    QuickCheck::new().quickcheck(agrees as fn(Vec<Step>, u8, u8, u8) -> bool);
}

/// All keys, a few a page.
fn all(store: &Store, limit: u8) -> BTreeMap<String, (u64, Bytes, Option<LeaseId>)> {
    let (mut seen, mut after) = (BTreeMap::new(), None);
    loop {
        let page = scan(store, "", after.as_deref(), u32::from(limit % 3) + 1);
        after = page.entries.last().map(|(key, _)| key.clone());
        for (key, Versioned { version, value, lease, .. }) in page.entries {
            assert!(seen.insert(key, (version.0, value, lease)).is_none());
        }
        if !page.more {
            return seen;
        }
    }
}

#[test]
fn commands_survive_their_encoding() {
    fn round_trip(step: Step) -> bool {
        let command = step.command(&[LeaseId(3)]);
        let bytes = postcard::to_stdvec(&command).unwrap();
        postcard::from_bytes::<Command>(&bytes).unwrap() == command
    }
    QuickCheck::new().quickcheck(round_trip as fn(Step) -> bool);
}
