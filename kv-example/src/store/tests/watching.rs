//! No event is missed and none comes twice.

use super::*;

fn from(revision: u64) -> Cursor {
    Cursor::from(Revision(revision))
}

fn changes(store: &Store, prefix: &str, from: Cursor) -> Changes {
    let answer = store.query(Query::Changes { prefix: prefix.to_owned(), from });
    let Answer::Changes(changes) = answer else { panic!("{answer:?}") };
    changes
}

/// The keys and revisions of the events, and from where to go on.
fn events(store: &Store, prefix: &str, from: Cursor) -> (Vec<(String, u64)>, Cursor) {
    match changes(store, prefix, from) {
        Changes::Events { events, next } => {
            let told = events.iter().map(|event| ((*event.key).to_owned(), event.revision.0));
            (told.collect(), next)
        }
        Changes::Compacted { oldest } => panic!("compacted up to {oldest}"),
    }
}

fn is_ready(store: &Store, prefix: &str, from: Cursor, since: u64) -> bool {
    let query = Query::Changes { prefix: prefix.to_owned(), from };
    store.is_ready(&query, LogIndex(since))
}

fn put_at(store: &mut Store, index: u64, key: &str) {
    let version = store.version(key);
    let command = Command::Put { key: key.to_owned(), value: Bytes::from_static(b"v"), version };
    assert_eq!(apply(store, &context(index, 0), command), written(version.0 + 1));
}

fn told(of: &[(&str, u64)]) -> Vec<(String, u64)> {
    of.iter().map(|(key, revision)| ((*key).to_owned(), *revision)).collect()
}

#[test]
fn events_of_the_prefix_are_told_from_the_moment_that_is_asked_for() {
    let mut store = Store::default();
    for (index, key) in [(1, "a/1"), (3, "b"), (4, "a/2"), (9, "a/1")] {
        put_at(&mut store, index, key);
    }
    let all = told(&[("a/1", 1), ("a/2", 4), ("a/1", 9)]);
    assert_eq!(events(&store, "a/", from(1)), (all.clone(), from(10)));
    assert_eq!(events(&store, "a/", from(2)), (all[1..].to_vec(), from(10)));
    assert_eq!(events(&store, "a/", from(10)), (vec![], from(10)));
    // A node that lags behind does not send anybody back.
    assert_eq!(events(&store, "a/", from(50)), (vec![], from(50)));
}

/// A transaction, or the end of a lease, may be larger than all that is remembered. Who has kept up until then misses nothing.
#[test]
fn the_last_moment_is_remembered_however_large_it_is() {
    let limits = Limits { history_bytes_max: 1_000, ..Limits::default() };
    let mut store = Store::new(limits);
    put_at(&mut store, 1, "a");
    let put = |key: usize| Write::Put {
        key: format!("k{key:02}"),
        value: Bytes::from(vec![0; 100]),
        lease: None,
    };
    let transaction = Transaction { conditions: Vec::new(), writes: (0..20).map(put).collect() };
    apply(&mut store, &context(2, 0), Command::Transact(transaction));
    assert_eq!(events(&store, "", from(2)).0.len(), 20);
    assert!(matches!(changes(&store, "", from(1)), Changes::Compacted { .. }));
    put_at(&mut store, 3, "a");
    assert!(matches!(changes(&store, "", from(2)), Changes::Compacted { .. }));
    assert_eq!(events(&store, "", from(3)).0, told(&[("a", 3)]));
}

#[test]
fn an_event_says_what_the_key_became_or_was() {
    let mut store = Store::default();
    put_at(&mut store, 1, "k");
    apply(&mut store, &context(2, 0), Command::Delete { key: "k".to_owned(), version: None });
    let Changes::Events { events, .. } = changes(&store, "k", from(1)) else { panic!() };
    let [written, deleted] = &events[..] else { panic!("{events:?}") };
    let value = Bytes::from_static(b"v");
    assert_eq!(written.change, Change::Put(Versioned::first(Version(1), value)));
    assert_eq!(deleted.change, Change::Deleted { version: Version(1) });
}

#[test]
fn a_long_answer_ends_within_a_moment_and_the_next_one_goes_on_there() {
    let mut store = Store::default();
    let long = Bytes::from(vec![0; 300 * 1024]);
    let write = |number: u64| Write::Put {
        key: format!("{}/{number}", ["x", "y"][usize::try_from(number % 2).unwrap()]),
        value: long.clone(),
        lease: None,
    };
    for index in 1..=3 {
        let writes = (0..8).map(write).collect();
        let transaction = Transaction { conditions: vec![], writes };
        apply(&mut store, &context(index, 0), Command::Transact(transaction));
    }
    let (mut all, mut cursor, mut answers) = (Vec::new(), from(1), 0);
    loop {
        let (told, next) = events(&store, "x/", cursor);
        if told.is_empty() {
            break;
        }
        all.extend(told);
        (cursor, answers) = (next, answers + 1);
    }
    assert_eq!((all.len(), answers), (12, 4));
    all.dedup();
    assert_eq!(all.len(), 12);
    assert_eq!(cursor, from(4));
}

#[test]
fn who_waits_is_ready_once_something_has_happened_to_its_keys() {
    let mut store = Store::default();
    put_at(&mut store, 1, "a");
    assert!(is_ready(&store, "a", from(1), 0));
    assert!(!is_ready(&store, "a", from(2), 0));
    put_at(&mut store, 2, "b");
    assert!(!is_ready(&store, "a", from(2), 1));
    put_at(&mut store, 3, "a");
    assert!(is_ready(&store, "a", from(2), 2));
    // What was looked at before is not looked at again.
    assert!(!is_ready(&store, "a", from(2), 3));
    // It was told the first event of that moment, and there is no other.
    assert!(!is_ready(&store, "a", Cursor { revision: Revision(3), skip: 1 }, 2));
}

#[test]
fn what_is_forgotten_is_said_to_be_and_a_moment_is_remembered_as_a_whole_or_not_at_all() {
    let limits = Limits { history_bytes_max: 2000, ..Limits::default() };
    let mut store = Store::new(limits);
    for index in 1..=20 {
        let write =
            |key: &str| Write::Put { key: key.to_owned(), value: Bytes::new(), lease: None };
        let transaction = Transaction { conditions: vec![], writes: vec![write("a"), write("b")] };
        apply(&mut store, &context(index, 0), Command::Transact(transaction));
    }
    let Changes::Compacted { oldest } = changes(&store, "", from(1)) else { panic!() };
    assert!(is_ready(&store, "", from(1), 20), "it need not wait to hear that");
    let (told, _) = events(&store, "", Cursor::from(oldest));
    assert_eq!(told.first(), Some(&("a".to_owned(), oldest.0)));
    assert_eq!(told.len() as u64, 2 * (20 - oldest.0 + 1));
    assert!(matches!(changes(&store, "", from(oldest.0 - 1)), Changes::Compacted { .. }));
    // It forgets no more than it has to.
    let of_moment = 2 * (128 + 1);
    assert!((2000 - of_moment + 1..=2000).contains(&store.history.bytes()));
}

#[test]
fn after_a_restore_history_begins_with_what_comes_after_the_snapshot() {
    let mut store = Store::default();
    put_at(&mut store, 5, "a");
    let mut restored = restored(&image_of(&store)).unwrap();
    assert_eq!(changes(&restored, "", from(5)), Changes::Compacted { oldest: Revision(6) });
    put_at(&mut restored, 8, "b");
    assert_eq!(events(&restored, "", from(6)), (told(&[("b", 8)]), from(9)));
}

#[test]
fn the_end_of_a_lease_is_told_at_the_moment_at_which_it_ends() {
    let mut store = Store::default();
    apply(&mut store, &context(1, 0), Command::Grant { ttl: Duration::from_secs(5) });
    let lease = Some(LeaseId(1));
    let write = Write::Put { key: "k".to_owned(), value: Bytes::new(), lease };
    let transaction = Transaction { conditions: vec![], writes: vec![write] };
    apply(&mut store, &context(2, 0), Command::Transact(transaction));
    store.advance(&context(7, 5));
    assert_eq!(events(&store, "k", from(3)), (told(&[("k", 7)]), from(8)));
}

/// Whoever waits is answered before the history behind it is forgotten, however much happens to the keys of others.
#[test]
fn who_waits_is_told_that_nothing_has_happened_to_its_keys_before_that_is_forgotten() {
    let limits = Limits { history_bytes_max: 2000, ..Limits::default() };
    let mut store = Store::new(limits);
    put_at(&mut store, 1, "a");
    let (mut cursor, mut answers) = (from(2), 0);
    for index in 2..=100 {
        let key = format!("b/{index}");
        put_at(&mut store, index, &key);
        if is_ready(&store, "a", cursor, index - 1) {
            let (told, next) = events(&store, "a", cursor);
            assert_eq!((told.len(), next), (0, from(index + 1)));
            assert!(!is_ready(&store, "a", next, index), "it waits again");
            (cursor, answers) = (next, answers + 1);
        }
    }
    // At each half of the history, and no more often.
    let of_one = u64::try_from(128 + "b/10".len() + 1).unwrap();
    assert!((99 * of_one / 2000..=99 * of_one / 1000).contains(&answers), "{answers}");
}
