//! The types that travel or are stored, with the feature `serde`.

use raft_core::Entries;

use crate::harness::*;

#[test]
fn entries_come_back_as_they_were() {
    for terms in [&[][..], &[1], &[1, 1, 2]] {
        let before: Entries = entries(0, terms).into();
        let text = serde_json::to_string(&before).unwrap();
        let after: Entries = serde_json::from_str(&text).unwrap();
        assert_eq!(after, before, "{text}");
    }
}
