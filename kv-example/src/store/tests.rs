mod leases;
mod model;
mod transactions;
mod watching;

use std::time::Duration;

use quickcheck::QuickCheck;
use raft_rsm::raft_core::{LogIndex, Term};

use super::*;

const CONTEXT: Context = Context { index: LogIndex(1), term: Term(1), time: Duration::ZERO };

fn context(index: u64, seconds: u64) -> Context {
    Context { index: LogIndex(index), term: Term(1), time: Duration::from_secs(seconds) }
}

/// What a replica does with a committed command.
fn apply(store: &mut Store, context: &Context, command: Command) -> Response {
    store.advance(context);
    store.apply(context, command)
}

fn put(store: &mut Store, key: &str, value: &[u8], version: u64) -> Response {
    let value = Bytes::copy_from_slice(value);
    let command = Command::Put { key: key.to_owned(), value, version: Version(version) };
    store.apply(&CONTEXT, command)
}

fn delete(store: &mut Store, key: &str, version: Option<u64>) -> Response {
    let command = Command::Delete { key: key.to_owned(), version: version.map(Version) };
    store.apply(&CONTEXT, command)
}

fn scan(store: &Store, prefix: &str, after: Option<&str>, limit: u32) -> Page {
    let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
    let Answer::Page(page) = store.query(Query::Scan { prefix, after, limit }) else {
        panic!("a scan returns a page")
    };
    page
}

fn keys(page: &Page) -> Vec<&str> {
    page.entries.iter().map(|(key, _)| key.as_str()).collect()
}

fn store_of(keys: &[&str]) -> Store {
    let mut store = Store::default();
    for key in keys {
        put(&mut store, key, b"v", 0);
    }
    store
}

fn image_of(store: &Store) -> Vec<u8> {
    let mut image = Vec::new();
    store.snapshot().write_to(&mut image).unwrap();
    image
}

fn restored(image: &[u8]) -> io::Result<Store> {
    let mut store = store_of(&["before"]);
    store.restore(&mut { image })?;
    Ok(store)
}

const fn written(version: u64) -> Response {
    Response::Written { version: Version(version) }
}

const fn mismatch(current: u64) -> Response {
    Response::VersionMismatch { current: Version(current) }
}

#[test]
fn version_0_creates_and_the_right_version_replaces_and_adds_one() {
    let mut store = Store::default();
    assert_eq!(put(&mut store, "k", b"a", 0), written(1));
    assert_eq!(put(&mut store, "k", b"b", 1), written(2));
    let expected = Versioned::first(Version(2), Bytes::from_static(b"b"));
    assert_eq!(store.query(Query::Get { key: "k".to_owned() }), Answer::Value(Some(expected)));
    assert_eq!(store.query(Query::Get { key: "other".to_owned() }), Answer::Value(None));
}

#[test]
fn a_wrong_version_is_refused_with_the_current_one_and_changes_nothing() {
    let mut store = Store::default();
    put(&mut store, "k", b"a", 0);
    put(&mut store, "k", b"b", 1);
    for version in [0, 1, 3, u64::MAX] {
        assert_eq!(put(&mut store, "k", b"x", version), mismatch(2));
    }
    assert_eq!(store.get("k").unwrap().value, Bytes::from_static(b"b"));
}

#[test]
fn a_version_above_0_of_an_absent_key_is_an_error_of_its_own() {
    let mut store = Store::default();
    assert_eq!(put(&mut store, "k", b"a", 1), Response::NoKey);
    assert!(store.is_empty());
}

#[test]
fn a_key_is_deleted_whatever_its_version_or_only_at_the_given_one() {
    let mut store = Store::default();
    put(&mut store, "k", b"a", 0);
    assert_eq!(delete(&mut store, "k", Some(2)), mismatch(1));
    assert_eq!(delete(&mut store, "k", Some(1)), Response::Deleted { version: Version(1) });
    assert_eq!(delete(&mut store, "k", Some(1)), Response::NoKey);
    put(&mut store, "k", b"a", 0);
    assert_eq!(delete(&mut store, "k", None), Response::Deleted { version: Version(1) });
    assert!(store.is_empty());
}

#[test]
fn what_is_too_large_is_not_admitted_but_what_is_in_the_log_is_applied() {
    let mut store =
        Store::new(Limits { key_bytes_max: 1, value_bytes_max: 1, ..Limits::default() });
    let value = Bytes::from_static(b"vv");
    let command = Command::Put { key: "k".to_owned(), value, version: Version(0) };
    let problem = store.admission()(&command).unwrap_err();
    assert_eq!(problem, "the value has 2 bytes, the limit is 1");
    assert_eq!(store.apply(&CONTEXT, command), written(1));
}

#[test]
fn a_scan_returns_the_keys_with_the_prefix_in_order_up_to_the_limit() {
    let store = store_of(&["b2", "a", "b", "b1", "c", "bä"]);
    assert_eq!(keys(&scan(&store, "b", None, 10)), ["b", "b1", "b2", "bä"]);
    assert!(!scan(&store, "b", None, 4).more, "nothing follows");
    let page = scan(&store, "b", None, 3);
    assert_eq!((keys(&page), page.more), (vec!["b", "b1", "b2"], true));
    assert_eq!(keys(&scan(&store, "b", Some("b2"), 3)), ["bä"]);
    assert_eq!(keys(&scan(&store, "", None, 10)).len(), 6);
    assert_eq!(keys(&scan(&store, "d", None, 10)), Vec::<&str>::new());
}

#[test]
fn a_scan_goes_on_after_a_key_that_is_gone_and_starts_at_the_prefix_after_one_before_it() {
    let store = store_of(&["b1", "b3", "c"]);
    assert_eq!(keys(&scan(&store, "b", Some("b2"), 10)), ["b3"]);
    assert_eq!(keys(&scan(&store, "b", Some("a"), 10)), ["b1", "b3"]);
    assert_eq!(keys(&scan(&store, "b", Some("c"), 10)), Vec::<&str>::new());
}

#[test]
fn a_page_is_bounded_in_bytes_but_holds_at_least_one_entry() {
    let mut store = Store::default();
    put(&mut store, "a", &vec![0; 2 * SCAN_BYTES_MAX], 0);
    put(&mut store, "b", &vec![0; SCAN_BYTES_MAX / 2], 0);
    put(&mut store, "c", &vec![0; SCAN_BYTES_MAX / 2], 0);
    let page = scan(&store, "", None, 10);
    assert_eq!((keys(&page), page.more), (vec!["a"], true));
    let page = scan(&store, "", Some("a"), 10);
    assert_eq!((keys(&page), page.more), (vec!["b"], true));
    let page = scan(&store, "", Some("b"), 10);
    assert_eq!((keys(&page), page.more), (vec!["c"], false));
}

#[test]
fn a_scan_for_no_entries_says_whether_there_are_any() {
    let page = scan(&store_of(&["a"]), "", None, 0);
    assert_eq!((page.entries.len(), page.more), (0, true));
}

#[test]
fn a_snapshot_restores_to_the_same_store() {
    for keys in [&[][..], &["a"], &["", "a", "ä", "b"]] {
        let store = store_of(keys);
        assert_eq!(restored(&image_of(&store)).unwrap().state, store.state);
    }
}

/// jgroups-raft #301: a restore that merges brings deleted keys back.
#[test]
fn a_restore_replaces_so_that_deleted_keys_stay_deleted() {
    let image = image_of(&store_of(&["a", "b"]));
    let mut store = store_of(&["b", "c"]);
    put(&mut store, "b", b"newer", 1);
    store.restore(&mut image.as_slice()).unwrap();
    assert_eq!(store.state, store_of(&["a", "b"]).state);
}

#[test]
fn a_snapshot_is_frozen_while_commands_go_on() {
    let mut store = store_of(&["a", "b", "c"]);
    let before = image_of(&store);
    let view = store.snapshot();
    put(&mut store, "a", b"changed", 1);
    put(&mut store, "d", b"new", 0);
    delete(&mut store, "b", None);
    let mut image = Vec::new();
    view.write_to(&mut image).unwrap();
    assert_eq!(image, before);
}

#[test]
fn an_image_that_is_cut_or_goes_on_is_refused() {
    let mut image = image_of(&store_of(&["a", "b"]));
    for len in 0..image.len() {
        assert!(restored(&image[..len]).is_err(), "cut at {len}");
    }
    image.push(0);
    assert!(restored(&image).unwrap_err().to_string().contains("goes on"));
}

#[test]
fn an_image_of_another_format_names_both_formats() {
    let mut image = image_of(&store_of(&["a"]));
    image[7] = 9;
    let error = restored(&image).unwrap_err().to_string();
    assert!(error.contains("format 9") && error.contains("format 2"), "{error}");
    image[0] = b'X';
    assert!(restored(&image).is_err());
}

#[test]
fn no_image_makes_a_restore_panic_or_claim_memory_that_is_not_there() {
    fn random_bytes(bytes: Vec<u8>, leases: u8, keys: u8) -> bool {
        let mut image = b"KVSTORE\x02".to_vec();
        for number in [7, 9, u64::from(leases)] {
            image.extend_from_slice(&number.to_le_bytes());
        }
        if leases == 0 {
            image.extend_from_slice(&u64::from(keys).to_le_bytes());
        }
        image.extend_from_slice(&bytes);
        restored(&image).is_err() || (leases == 0 && keys == 0 && bytes.is_empty())
    }
    QuickCheck::new().quickcheck(random_bytes as fn(Vec<u8>, u8, u8) -> bool);
    let mut huge = b"KVSTORE\x02".to_vec();
    huge.extend_from_slice(&[0; 24]);
    huge.extend_from_slice(&u64::MAX.to_le_bytes());
    huge.extend_from_slice(&[0xff; 8]);
    huge.extend_from_slice(&[1; 32]);
    assert!(restored(&huge).is_err());
}

#[test]
fn a_value_is_set_whatever_its_version_unless_one_is_named() {
    let mut store = Store::default();
    let mut set = |version: Option<u64>, lease: Option<u64>| {
        let (key, value) = ("k".to_owned(), Bytes::from_static(b"v"));
        let (version, lease) = (version.map(Version), lease.map(LeaseId));
        store.apply(&CONTEXT, Command::Set { key, value, version, lease })
    };
    let written = |version| Response::Written { version: Version(version) };
    assert_eq!(set(Some(1), None), Response::NoKey);
    assert_eq!(set(None, None), written(1));
    assert_eq!(set(None, None), written(2));
    assert_eq!(set(Some(2), None), written(3));
    assert_eq!(set(Some(2), None), Response::VersionMismatch { current: Version(3) });
    assert_eq!(set(Some(0), None), Response::VersionMismatch { current: Version(3) });
    assert_eq!(set(None, Some(9)), Response::NoLease);
}
