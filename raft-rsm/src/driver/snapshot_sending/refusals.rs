//! Whom a snapshot is too long for, and when it is offered again: not with each heartbeat.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_core::{EntryId, NodeId};

/// The first pause; it doubles with each refusal ...
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// ... up to this: a limit is raised by hand, and whoever raises it restarts the node, which ends the pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Peers that have refused a snapshot since it is too long, no more than the configuration has members.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    by_peer: BTreeMap<NodeId, Refusal>,
}

#[derive(Debug)]
struct Refusal {
    last: EntryId,
    image_bytes_max: u64,
    pause: Duration,
    until: Duration,
}

/// The snapshot that would be sent.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) last: EntryId,
    /// `None`: that is not known.
    pub(crate) image_bytes: Option<u64>,
}

impl Refusals {
    /// `peer` takes no image that is longer than `image_bytes_max`, and the snapshot up to `last` is. Returns how long it is
    /// not offered again.
    pub(crate) fn refused(
        &mut self,
        peer: NodeId,
        last: EntryId,
        image_bytes_max: u64,
        now: Duration,
    ) -> Duration {
        let before = self.by_peer.get(&peer).map(|refusal| refusal.pause);
        let pause = before.map_or(PAUSE_MIN, |pause| pause.saturating_mul(2).min(PAUSE_MAX));
        let until = now.saturating_add(pause);
        self.by_peer.insert(peer, Refusal { last, image_bytes_max, pause, until });
        pause
    }

    /// Until when `offer` is not made to `peer`. `None`: it may be made now, since the pause is over, or since it is a
    /// newer snapshot that may be short enough.
    pub(crate) fn holds_back(&self, peer: NodeId, offer: Offer, now: Duration) -> Option<Duration> {
        let refusal = self.by_peer.get(&peer)?;
        let may_fit = offer.last > refusal.last
            && offer.image_bytes.is_none_or(|bytes| bytes <= refusal.image_bytes_max);
        (refusal.until > now && !may_fit).then_some(refusal.until)
    }

    /// The peer took one, or it may be another process by now, with another limit.
    pub(crate) fn forget(&mut self, peer: NodeId) {
        self.by_peer.remove(&peer);
    }

    /// The lead is lost, and with it all offers.
    pub(crate) fn clear(&mut self) {
        self.by_peer.clear();
    }
}

#[cfg(test)]
mod tests {
    use raft_core::{LogIndex, Term};

    use super::*;

    const PEER: NodeId = NodeId(2);
    const SECOND: Duration = Duration::from_secs(1);

    fn at(index: u64) -> EntryId {
        EntryId::new(Term(1), LogIndex(index))
    }

    fn offer(index: u64, image_bytes: u64) -> Offer {
        Offer { last: at(index), image_bytes: (image_bytes > 0).then_some(image_bytes) }
    }

    #[test]
    fn the_same_snapshot_is_offered_again_after_pauses_that_grow_up_to_a_limit() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.holds_back(PEER, offer(7, 99), SECOND), None);
        let mut now = SECOND;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = refusals.refused(PEER, at(7), 10, now);
            assert_eq!(refusals.holds_back(PEER, offer(7, 99), now), Some(now + pause));
            assert_eq!(refusals.holds_back(NodeId(3), offer(7, 99), now), None);
            now += pause;
            assert_eq!(refusals.holds_back(PEER, offer(7, 99), now), None);
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_newer_snapshot_is_offered_at_once_unless_it_is_known_to_be_too_long() {
        let mut refusals = Refusals::default();
        refusals.refused(PEER, at(7), 10, SECOND);
        let is_held = |offer| refusals.holds_back(PEER, offer, SECOND).is_some();
        assert!(is_held(offer(7, 5)) && is_held(offer(7, 0)), "it is the same");
        assert!(!is_held(offer(8, 10)) && !is_held(offer(8, 0)));
        assert!(is_held(offer(8, 11)));
    }

    #[test]
    fn what_is_forgotten_begins_anew() {
        let mut refusals = Refusals::default();
        refusals.refused(PEER, at(7), 10, SECOND);
        refusals.refused(PEER, at(7), 10, SECOND);
        refusals.forget(PEER);
        assert_eq!(refusals.holds_back(PEER, offer(7, 99), SECOND), None);
        assert_eq!(refusals.refused(PEER, at(7), 10, SECOND), PAUSE_MIN);
        refusals.clear();
        assert_eq!(refusals.refused(PEER, at(7), 10, SECOND), PAUSE_MIN);
    }
}
