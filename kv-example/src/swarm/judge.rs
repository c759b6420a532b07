//! What the log itself says of a run: replayed by the [`Oracle`], it shows what the store must have answered, what pages and
//! watchers must have shown, and when leases ended.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_sim::event::Digest;

use super::oracle::Oracle;
use crate::store::{Command, Cursor, Event, LeaseId, Page, Revision};

/// An entry that the machines were told of.
type Told = raft_sim::Told<Command>;

/// What the clients have kept for the judgement.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Pages, with their prefixes.
    pub(super) pages: Vec<(String, Page)>,
    pub(super) watches: Vec<Watched>,
    pub(super) promises: Vec<Promise>,
    /// What a client knows to be wrong.
    pub(super) problem: Option<String>,
    pub(super) counts: BTreeMap<&'static str, u64>,
}

/// What a watcher saw.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) prefix: String,
    /// From here ...
    pub(super) from: Cursor,
    /// ... to here ...
    pub(super) to: Cursor,
    /// ... these events.
    pub(super) events: Vec<Event>,
}

/// Whoever holds the lease was told that it lives until then, in true time.
#[derive(Copy, Clone, Debug)]
pub(super) struct Promise {
    pub(super) lease: LeaseId,
    pub(super) until: Duration,
}

impl Kept {
    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// # Errors
    /// What is wrong, in a sentence.
    pub(super) fn judge(&mut self, told: &[Told]) -> Result<(), String> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        let mut oracle = Oracle::default();
        let mut ended = 0;
        self.pages.sort_by_key(|(_, page)| page.revision);
        let mut pages = self.pages.iter().peekable();
        for Told { context, at, command } in told {
            let now = Revision(context.index.0);
            while let Some((prefix, page)) = pages.next_if(|(_, page)| page.revision < now) {
                check_page(&oracle, prefix, page)?;
            }
            for lease in oracle.advance(context) {
                ended += 1;
                check_promises(&self.promises, lease, *at)?;
            }
            let Some((command, answered)) = command else { continue };
            let response = oracle.apply(context, command.clone());
            if Digest::of_value(&response) != *answered {
                return Err(format!(
                    "the command of entry {} must be answered by {response:?}, and was not: {command:?}",
                    context.index
                ));
            }
        }
        pages.try_for_each(|(prefix, page)| check_page(&oracle, prefix, page))?;
        for watched in &self.watches {
            watched.check(&oracle.events)?;
        }
        let events: usize = self.watches.iter().map(|watched| watched.events.len()).sum();
        self.counts.insert("events watched", events as u64);
        self.counts.insert("leases ended by time", ended);
        let silent = told.iter().filter(|told| told.command.is_none()).count();
        self.counts.insert("entries without a new command", silent as u64);
        Ok(())
    }
}

fn check_page(oracle: &Oracle, prefix: &str, page: &Page) -> Result<(), String> {
    let expected = oracle.keys.iter().filter(|(key, _)| key.starts_with(prefix));
    let found = page.entries.iter().map(|(key, versioned)| (key.as_str(), versioned));
    if expected.map(|(key, versioned)| (&**key, versioned)).eq(found) {
        return Ok(());
    }
    Err(format!(
        "the page of {prefix:?} at revision {} was not the store of that moment: {page:?}",
        page.revision
    ))
}

fn check_promises(promises: &[Promise], lease: LeaseId, at: Duration) -> Result<(), String> {
    let of_lease = promises.iter().filter(|promise| promise.lease == lease);
    match of_lease.map(|promise| promise.until).max() {
        Some(until) if at < until => {
            Err(format!("lease {lease} ended at {at:?}, and was to live until {until:?}"))
        }
        Some(_) | None => Ok(()),
    }
}

impl Watched {
    pub(super) fn saw(&mut self, events: Vec<Event>, to: Cursor) {
        self.events.extend(events);
        self.to = to;
    }

    /// All that happened between its cursors, in order, none lost and none doubled.
    fn check(&self, all: &[Event]) -> Result<(), String> {
        let Watched { prefix, from, to, events } = self;
        let mut next = Cursor::default();
        let expected = all.iter().filter(|event| {
            if next.revision != event.revision {
                next = Cursor::from(event.revision);
            }
            let at = next;
            next.skip += 1;
            (*from..*to).contains(&at) && event.key.starts_with(prefix.as_str())
        });
        let mut seen = events.iter();
        for expected in expected {
            match seen.next() {
                Some(event) if event == expected => {}
                other => {
                    return Err(format!(
                        "whoever watched {prefix:?} from {from:?} to {to:?} saw {other:?} where \
                         there was {expected:?}"
                    ));
                }
            }
        }
        match seen.next() {
            None => Ok(()),
            Some(more) => Err(format!(
                "whoever watched {prefix:?} from {from:?} to {to:?} saw {more:?}, which did not happen then"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{Change, Version};

    fn event(revision: u64, key: &str) -> Event {
        let change = Change::Deleted { version: Version(1) };
        Event { revision: Revision(revision), key: Arc::from(key), change }
    }

    fn cursor(revision: u64, skip: u32) -> Cursor {
        Cursor { revision: Revision(revision), skip }
    }

    fn check(from: Cursor, to: Cursor, events: Vec<Event>) -> Result<(), String> {
        let all = [event(3, "a"), event(5, "a"), event(5, "b"), event(5, "a"), event(9, "a")];
        Watched { prefix: "a".to_owned(), from, to, events }.check(&all)
    }

    #[test]
    fn a_watcher_sees_what_happened_between_its_cursors() {
        let all = vec![event(3, "a"), event(5, "a"), event(5, "a"), event(9, "a")];
        assert_eq!(check(cursor(0, 0), cursor(10, 0), all), Ok(()));
        assert_eq!(check(cursor(5, 1), cursor(9, 0), vec![event(5, "a")]), Ok(()));
        assert_eq!(check(cursor(3, 1), cursor(5, 0), vec![]), Ok(()));
    }

    #[test]
    fn an_event_that_is_lost_or_doubled_or_of_another_time_is_caught() {
        let (from, to) = (cursor(4, 0), cursor(9, 0));
        assert!(check(from, to, vec![event(5, "a")]).is_err());
        assert!(check(from, to, vec![event(5, "a"), event(5, "a"), event(5, "a")]).is_err());
        assert!(check(from, to, vec![event(5, "a"), event(5, "a"), event(9, "a")]).is_err());
        assert!(check(from, to, vec![event(3, "a"), event(5, "a"), event(5, "a")]).is_err());
    }

    #[test]
    fn a_lease_that_ends_before_the_time_that_its_holder_was_told_is_caught() {
        let second = Duration::from_secs(1);
        let promise = |until| Promise { lease: LeaseId(7), until };
        let promises = [promise(second * 3), promise(second * 5)];
        assert!(check_promises(&promises, LeaseId(7), second * 4).is_err());
        assert_eq!(check_promises(&promises, LeaseId(7), second * 5), Ok(()));
        assert_eq!(check_promises(&promises, LeaseId(8), second), Ok(()));
    }
}
