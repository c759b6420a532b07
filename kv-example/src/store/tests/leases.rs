//! Leases end by the log's time alone, with their keys.

use super::*;

fn grant(store: &mut Store, index: u64, at: u64, ttl: u64) -> LeaseId {
    let ttl = Duration::from_secs(ttl);
    let granted = apply(store, &context(index, at), Command::Grant { ttl });
    let Response::Granted { lease } = granted else { panic!("{granted:?}") };
    lease
}

fn tie(store: &mut Store, index: u64, at: u64, key: &str, lease: LeaseId) -> Response {
    let write =
        Write::Put { key: key.to_owned(), value: Bytes::from_static(b"v"), lease: Some(lease) };
    let transaction = Transaction { conditions: vec![], writes: vec![write] };
    apply(store, &context(index, at), Command::Transact(transaction))
}

fn keep_alive(store: &mut Store, index: u64, at: u64, lease: LeaseId) -> Response {
    apply(store, &context(index, at), Command::KeepAlive { lease })
}

fn keys_of(store: &Store) -> Vec<&str> {
    store.iter().map(|(key, _)| key).collect()
}

#[test]
fn a_lease_that_nobody_keeps_alive_ends_and_takes_its_keys_with_it() {
    let mut store = store_of(&["free"]);
    let lease = grant(&mut store, 2, 10, 5);
    assert_eq!((lease, store.due()), (LeaseId(2), Some(Duration::from_secs(15))));
    tie(&mut store, 3, 11, "tied", lease);
    store.advance(&context(4, 14));
    assert_eq!(keys_of(&store), ["free", "tied"]);
    store.advance(&context(5, 15));
    assert_eq!((keys_of(&store), store.due()), (vec!["free"], None));
    assert_eq!(store.state.revision, Revision(5));
    assert_eq!(keep_alive(&mut store, 6, 15, lease), Response::NoLease);
}

#[test]
fn what_is_due_ends_before_the_command_that_tells_the_time() {
    let mut store = Store::default();
    let lease = grant(&mut store, 1, 0, 5);
    tie(&mut store, 2, 0, "lock", lease);
    let value = Bytes::from_static(b"mine");
    let create = Command::Put { key: "lock".to_owned(), value, version: Version::ABSENT };
    assert_eq!(apply(&mut store, &context(3, 5), create), written(1));
    assert_eq!(store.get("lock").unwrap().lease, None);
}

#[test]
fn a_lease_that_is_kept_alive_lives_for_its_whole_time_again() {
    let mut store = Store::default();
    let lease = grant(&mut store, 1, 0, 5);
    let ttl = Duration::from_secs(5);
    assert_eq!(keep_alive(&mut store, 2, 4, lease), Response::KeptAlive { ttl });
    assert_eq!(store.due(), Some(Duration::from_secs(9)));
    assert_eq!(keep_alive(&mut store, 3, 8, lease), Response::KeptAlive { ttl });
    assert_eq!(keep_alive(&mut store, 4, 13, lease), Response::NoLease);
}

#[test]
fn a_key_that_is_written_without_the_lease_or_deleted_is_tied_to_it_no_more() {
    let mut store = Store::default();
    let (first, second) = (grant(&mut store, 1, 0, 5), grant(&mut store, 2, 0, 50));
    for key in ["put", "deleted", "moved"] {
        tie(&mut store, 3, 0, key, first);
    }
    put(&mut store, "put", b"x", 1);
    delete(&mut store, "deleted", None);
    put(&mut store, "deleted", b"again", 0);
    tie(&mut store, 4, 0, "moved", second);
    store.advance(&context(5, 20));
    assert_eq!(keys_of(&store), ["deleted", "moved", "put"]);
    store.advance(&context(6, 60));
    assert_eq!(keys_of(&store), ["deleted", "put"]);
}

#[test]
fn a_lease_that_is_revoked_takes_its_keys_with_it_and_revoking_it_twice_does_no_harm() {
    let mut store = Store::default();
    let lease = grant(&mut store, 1, 0, 5);
    tie(&mut store, 2, 0, "tied", lease);
    let revoke = |store: &mut Store| apply(store, &context(3, 1), Command::Revoke { lease });
    assert_eq!(revoke(&mut store), Response::Revoked);
    assert!(store.is_empty());
    assert_eq!(revoke(&mut store), Response::NoLease);
}

#[test]
fn a_lease_tells_what_is_left_of_it_and_its_keys() {
    let mut store = Store::default();
    let lease = grant(&mut store, 1, 0, 5);
    tie(&mut store, 2, 2, "b", lease);
    tie(&mut store, 3, 2, "a", lease);
    let info = LeaseInfo {
        ttl: Duration::from_secs(5),
        left: Duration::from_secs(3),
        keys: vec!["a".to_owned(), "b".to_owned()],
    };
    assert_eq!(store.query(Query::Lease { lease }), Answer::Lease(Some(info)));
    assert_eq!(store.query(Query::Lease { lease: LeaseId(9) }), Answer::Lease(None));
}

/// A dedup table or an expiry that is not in the snapshot makes replicas differ.
#[test]
fn leases_and_what_is_tied_to_them_come_back_with_a_snapshot() {
    let mut store = store_of(&["free"]);
    let lease = grant(&mut store, 2, 10, 5);
    tie(&mut store, 3, 11, "tied", lease);
    let mut restored = restored(&image_of(&store)).unwrap();
    assert_eq!((&restored.state, restored.due()), (&store.state, store.due()));
    restored.advance(&context(4, 15));
    assert_eq!(keys_of(&restored), ["free"]);
}

#[test]
fn there_are_not_more_leases_than_there_is_room_for() {
    let mut store = Store::default();
    for index in 0..u64::try_from(super::super::leases::LEASES_MAX).unwrap() {
        grant(&mut store, index + 1, 0, 5);
    }
    let one_more = Command::Grant { ttl: Duration::from_secs(5) };
    assert_eq!(apply(&mut store, &context(200_000, 4), one_more.clone()), Response::TooMany);
    store.advance(&context(200_001, 5));
    let granted = apply(&mut store, &context(200_002, 5), one_more);
    assert_eq!(granted, Response::Granted { lease: LeaseId(200_002) });
}

#[test]
fn a_lease_that_has_all_the_keys_that_it_may_lets_them_be_written_again_and_takes_no_other() {
    let mut store = Store::default();
    let lease = grant(&mut store, 1, 0, 5);
    let key = |number: usize| format!("k{number}");
    for number in 0..super::super::leases::KEYS_MAX {
        let tied = tie(&mut store, 2, 0, &key(number), lease);
        assert_eq!(tied, Response::Committed { revision: Revision(2) });
    }
    let set = |key: String| {
        let value = Bytes::from_static(b"w");
        Command::Set { key, value, version: None, lease: Some(lease) }
    };
    assert_eq!(apply(&mut store, &context(3, 0), set(key(7))), written(2));
    let both = [key(7), key(8)].map(|key| Write::Put {
        key,
        value: Bytes::from_static(b"x"),
        lease: Some(lease),
    });
    let both = Transaction { conditions: vec![], writes: both.into() };
    let made = apply(&mut store, &context(4, 0), Command::Transact(both));
    assert_eq!(made, Response::Committed { revision: Revision(4) });
    assert_eq!(apply(&mut store, &context(5, 0), set("other".to_owned())), Response::TooMany);
    assert_eq!(tie(&mut store, 6, 0, "other", lease), Response::TooMany);
}

#[test]
fn a_node_says_how_much_it_holds() {
    let mut store = store_of(&["a", "b"]);
    grant(&mut store, 2, 10, 5);
    store.advance(&context(3, 12));
    let Answer::About(about) = store.query(Query::About) else { panic!() };
    let history_age = Some(Duration::from_secs(12));
    let history_bytes = store.history.bytes() as u64;
    assert!(history_bytes > 0);
    let (history_from, history_to) = (Revision(0), Revision(3));
    let holds = Holds { keys: 2, leases: 1, history_bytes, history_from, history_to, history_age };
    assert_eq!(about.holds, holds);
}
