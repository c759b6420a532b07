//! Where a peer listens, by whose word, and whether a way to it is wanted at all. Without I/O.

use std::time::Duration;

use crate::Incarnation;

/// What is known of where one peer listens. There are two sources, and the latest word is dialled first: the list of
/// the peers, and the peer itself when it dials this node.
#[derive(Debug, Default)]
pub(crate) struct Target {
    /// The list of the peers has it.
    is_named: bool,
    /// Where it listens, as that list says.
    named: Option<String>,
    /// The only incarnation that counts, as that list says.
    incarnation: Option<Incarnation>,
    /// Where it listens, as it says itself.
    heard: Option<String>,
    /// Which incarnation said so.
    heard_from: Option<Incarnation>,
    /// The peer's own word is the latest.
    prefers_heard: bool,
    /// Dials that failed since the last news or connection: each second one tries the other address.
    failures: usize,
    /// The accepted connection on which the peer asked for a way back.
    caller: Option<u64>,
    /// The latest connection that was accepted from the peer.
    last_serial: u64,
    /// When the last caller left.
    left_at: Option<Duration>,
    version: u64,
}

/// What to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dial {
    pub(crate) address: String,
    /// This node asks for a way back. One that only calls back does not: two nodes that hold a way to each other
    /// for no other reason than the other's would do so for ever.
    pub(crate) asks_back: bool,
    /// Which state of the target this is.
    pub(crate) version: u64,
}

impl Target {
    /// The list has the peer, at this address; an empty one says nothing of where. An address that is repeated is
    /// no later word. With an incarnation, no other counts, and what another said is forgotten. Tells whether to dial
    /// anew.
    pub(crate) fn name(&mut self, address: &str, incarnation: Option<Incarnation>) -> bool {
        self.change(|target| {
            target.is_named = true;
            target.incarnation = incarnation;
            if target.heard_from.is_some_and(|from| !target.counts(from)) {
                (target.heard, target.heard_from, target.caller) = (None, None, None);
                target.prefers_heard = false;
            }
            if !address.is_empty() && target.named.as_deref() != Some(address) {
                target.named = Some(address.to_owned());
                target.prefers_heard = false;
            }
        })
    }

    /// The list does not have the peer, or no longer. `None`: the way to it is to be closed. Else it asks for one
    /// itself, or has done so; tells whether to dial anew.
    pub(crate) fn unname(&mut self) -> Option<bool> {
        if self.is_named && (self.caller.is_none() || self.heard.is_none()) {
            return None;
        }
        Some(self.change(|target| {
            target.is_named = false;
            target.incarnation = None;
            target.named = None;
            target.prefers_heard = true;
        }))
    }

    /// The peer has reached this node on the accepted connection `serial`; with an address, it asks for a way back.
    /// Tells whether to dial anew.
    pub(crate) fn hear(
        &mut self,
        serial: u64,
        from: Incarnation,
        address: Option<&str>,
        now: Duration,
    ) -> bool {
        if serial < self.last_serial || !self.counts(from) {
            return false;
        }
        self.last_serial = serial;
        if self.caller.is_some() && address.is_none() {
            self.left_at = Some(now);
        }
        self.caller = address.map(|_| serial);
        let Some(address) = address else { return false };
        self.change(|target| {
            target.heard = Some(address.to_owned());
            target.heard_from = Some(from);
            target.prefers_heard = true;
        })
    }

    /// The accepted connection `serial` has ended.
    pub(crate) fn left(&mut self, serial: u64, now: Duration) {
        if self.caller == Some(serial) {
            self.caller = None;
            self.left_at = Some(now);
        }
    }

    pub(crate) fn is_named(&self) -> bool {
        self.is_named
    }

    /// The only incarnation that counts. `None`: any.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    /// Whether this incarnation of the peer is, or may be, the one that counts.
    pub(crate) fn counts(&self, incarnation: Incarnation) -> bool {
        self.incarnation.is_none_or(|named| named == incarnation)
    }

    /// The peer has asked for a way back on a connection that is still there.
    pub(crate) fn is_calling(&self) -> bool {
        self.caller.is_some()
    }

    /// Whether a way to the peer is wanted.
    pub(crate) fn is_wanted(&self, now: Duration, forget_after: Duration) -> bool {
        let left_lately = || self.left_at.is_some_and(|at| now.saturating_sub(at) < forget_after);
        self.is_named || self.is_calling() || left_lately()
    }

    /// What to dial next. `None`: nobody said where.
    pub(crate) fn dial(&self) -> Option<Dial> {
        let (first, second) = self.addresses();
        let tries_second = self.failures % 2 == 1;
        let address = second.filter(|_| tries_second).or(first)?.to_owned();
        Some(Dial { address, asks_back: self.is_named, version: self.version })
    }

    pub(crate) fn failed(&mut self) {
        self.failures = self.failures.wrapping_add(1);
    }

    /// The dialling has succeeded. False: there was news meanwhile.
    pub(crate) fn connected(&mut self, version: u64) -> bool {
        self.failures = 0;
        self.version == version
    }

    /// The latest word, and the other one where it differs.
    fn addresses(&self) -> (Option<&str>, Option<&str>) {
        let (named, heard) = (self.named.as_deref(), self.heard.as_deref());
        let (latest, other) = if self.prefers_heard { (heard, named) } else { (named, heard) };
        match latest {
            Some(_) => (latest, other.filter(|_| other != latest)),
            None => (other, None),
        }
    }

    /// Tells whether the change is a reason to dial anew.
    fn change(&mut self, change: impl FnOnce(&mut Target)) -> bool {
        let address = self.addresses().0.map(str::to_owned);
        let was_named = self.is_named;
        change(self);
        let is_news = self.addresses().0 != address.as_deref() || self.is_named != was_named;
        if is_news {
            self.version += 1;
            self.failures = 0;
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const MINUTE: Duration = Duration::from_secs(60);
    const INCARNATION: Incarnation = Incarnation(7);

    fn named(address: &str) -> Target {
        let mut target = Target::default();
        target.name(address, None);
        target
    }

    fn heard(address: &str) -> Target {
        let mut target = Target::default();
        target.hear(1, INCARNATION, Some(address), NOW);
        target
    }

    fn address(target: &Target) -> String {
        target.dial().unwrap().address
    }

    #[test]
    fn the_latest_word_is_dialled_and_a_repeated_one_is_no_news() {
        let mut target = named("a:1");
        assert!(!target.name("a:1", None));
        assert!(target.hear(1, INCARNATION, Some("b:2"), NOW));
        assert_eq!(address(&target), "b:2");
        assert!(!target.name("a:1", None), "the list has said so before");
        assert!(!target.name("", None), "this says nothing of where");
        assert_eq!(address(&target), "b:2");
        assert!(target.name("c:3", None));
        assert_eq!(address(&target), "c:3");
        assert!(target.hear(2, INCARNATION, Some("b:2"), NOW));
        assert!(!target.hear(3, INCARNATION, Some("b:2"), NOW));
        assert_eq!(address(&target), "b:2");
    }

    #[test]
    fn an_address_that_does_not_answer_takes_turns_with_the_other() {
        let mut target = named("a:1");
        target.failed();
        assert_eq!(address(&target), "a:1");
        target.hear(1, INCARNATION, Some("b:2"), NOW);
        for expected in ["b:2", "a:1", "b:2"] {
            assert_eq!(address(&target), expected);
            target.failed();
        }
        let version = target.dial().unwrap().version;
        assert!(target.connected(version));
        assert_eq!(address(&target), "b:2", "the latest first again");
        target.name("c:3", None);
        assert!(!target.connected(version), "the peer has moved meanwhile");
    }

    #[test]
    fn who_is_not_named_is_wanted_as_long_as_it_asks_and_some_time_longer() {
        let mut target = heard("b:2");
        assert!(target.is_wanted(NOW * 9, MINUTE));
        assert_eq!(target.unname(), Some(false), "it was not named anyway");
        target.hear(2, INCARNATION, Some("b:2"), NOW);
        target.left(1, NOW * 2);
        assert!(target.is_calling(), "the first connection was replaced");
        target.left(2, NOW * 2);
        assert!(!target.is_calling());
        assert!(target.is_wanted(NOW * 2 + MINUTE / 2, MINUTE));
        assert!(!target.is_wanted(NOW * 2 + MINUTE, MINUTE));
        target.name("a:1", None);
        assert!(target.is_wanted(NOW * 9, MINUTE));
    }

    #[test]
    fn who_is_no_longer_named_stays_only_as_long_as_it_asks() {
        assert_eq!(named("a:1").unname(), None);
        let mut target = named("a:1");
        target.hear(1, INCARNATION, None, NOW);
        assert_eq!(target.unname(), None, "it does not ask for a way back");
        target.hear(2, INCARNATION, Some("a:1"), NOW);
        assert_eq!(target.unname(), Some(true), "this node no longer asks for a way back");
        let dial = target.dial().unwrap();
        assert_eq!((dial.address.as_str(), dial.asks_back), ("a:1", false));
        target.hear(3, INCARNATION, None, NOW);
        assert!(!target.is_calling());
        assert!(target.is_wanted(NOW, MINUTE) && !target.is_wanted(NOW + MINUTE, MINUTE));
    }

    #[test]
    fn only_who_names_the_peer_asks_for_a_way_back() {
        let mut target = heard("b:2");
        assert!(!target.dial().unwrap().asks_back);
        assert!(target.name("b:2", None), "it says something else now");
        assert!(target.dial().unwrap().asks_back);
    }

    #[test]
    fn what_another_incarnation_than_the_named_one_says_is_no_word_and_what_it_said_is_forgotten() {
        let other = Incarnation(INCARNATION.0 + 1);
        let mut target = named("a:1");
        target.hear(1, other, Some("b:2"), NOW);
        assert!(!target.name("a:1", Some(other)), "it is the one that was heard");
        assert_eq!(address(&target), "b:2");
        assert!(target.name("a:1", Some(INCARNATION)));
        assert!(!target.hear(2, other, Some("b:2"), NOW));
        assert_eq!(address(&target), "a:1");
        assert!(!target.is_calling());
        target.failed();
        assert_eq!(address(&target), "a:1", "there is no other address");
        assert!(target.hear(3, INCARNATION, Some("c:3"), NOW));
        assert_eq!(address(&target), "c:3");
    }
}
