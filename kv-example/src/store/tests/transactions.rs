//! If these versions, then these writes.

use super::*;

fn condition(key: &str, version: u64) -> Condition {
    Condition { key: key.to_owned(), version: Version(version) }
}

fn put(key: &str, value: &'static str) -> Write {
    Write::Put { key: key.to_owned(), value: Bytes::from(value), lease: None }
}

fn delete(key: &str) -> Write {
    Write::Delete { key: key.to_owned() }
}

fn transact(
    store: &mut Store,
    index: u64,
    conditions: Vec<Condition>,
    writes: Vec<Write>,
) -> Response {
    let transaction = Transaction { conditions, writes };
    apply(store, &context(index, 0), Command::Transact(transaction))
}

const fn committed(revision: u64) -> Response {
    Response::Committed { revision: Revision(revision) }
}

#[test]
fn all_writes_are_made_if_all_conditions_hold() {
    let mut store = store_of(&["a", "b"]);
    let conditions = vec![condition("a", 1), condition("c", 0)];
    let writes = vec![put("a", "x"), delete("b"), put("c", "y"), delete("never there")];
    assert_eq!(transact(&mut store, 7, conditions, writes), committed(7));
    assert_eq!(store.get("a").unwrap().version, Version(2));
    assert_eq!(store.get("b"), None);
    let c = store.get("c").unwrap();
    assert_eq!((c.version, c.created, c.modified), (Version(1), Revision(7), Revision(7)));
}

#[test]
fn nothing_is_written_if_one_condition_does_not_hold_and_the_first_is_named() {
    let mut store = store_of(&["a", "b"]);
    let before = store.state.map.clone();
    let conditions = vec![condition("a", 1), condition("b", 2), condition("c", 3)];
    let failed = Response::ConditionFailed { key: "b".to_owned(), current: Version(1) };
    assert_eq!(transact(&mut store, 7, conditions, vec![put("a", "x")]), failed);
    let failed = Response::ConditionFailed { key: "c".to_owned(), current: Version(0) };
    assert_eq!(transact(&mut store, 8, vec![condition("c", 3)], vec![delete("a")]), failed);
    assert_eq!(store.state.map, before);
}

#[test]
fn conditions_are_about_the_state_before_and_writes_are_made_in_order() {
    let mut store = Store::default();
    let conditions = vec![condition("a", 0)];
    let writes = vec![put("a", "1"), put("a", "2"), delete("a"), put("a", "3")];
    assert_eq!(transact(&mut store, 1, conditions, writes), committed(1));
    let a = store.get("a").unwrap();
    assert_eq!((a.version, &a.value[..]), (Version(1), b"3".as_slice()));
}

#[test]
fn a_transaction_without_parts_is_made() {
    assert_eq!(transact(&mut Store::default(), 3, vec![], vec![]), committed(3));
}

#[test]
fn a_transaction_with_a_lease_that_has_ended_writes_nothing() {
    let mut store = Store::default();
    let lease = Some(LeaseId(99));
    let tied = Write::Put { key: "b".to_owned(), value: Bytes::new(), lease };
    assert_eq!(transact(&mut store, 1, vec![], vec![put("a", "x"), tied]), Response::NoLease);
    assert!(store.is_empty());
}
