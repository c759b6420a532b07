//! Whom a client asks next, and when.

use std::time::Duration;

use raft_core::NodeId;

use super::ClientOptions;

/// Where an operation looks for who can help, after a round that led nowhere.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// Among the members.
    Members,
    /// Among the members, once this node was asked who they are.
    MembersBy(NodeId),
    /// Among all, once this node was asked: its word has not helped so far.
    AllBy(NodeId),
    /// Among all nodes that were ever known: no member says anything.
    All,
}

/// The way of one operation round the nodes.
pub(super) struct Route {
    /// Tries since the last pause that led nowhere.
    tries: usize,
    backoff: Duration,
    backoff_max: Duration,
    /// A node that did not answer: hints to it are not followed at once.
    pub(super) silent: Option<NodeId>,
    /// The node that answered last since the last pause, if only that it cannot help.
    spoke: Option<NodeId>,
    /// Whether a node has dealt with the request, though it came to nothing: not only said that it cannot.
    pub(super) was_taken_up: bool,
    pauses: u32,
}

impl Route {
    pub(super) fn new(options: &ClientOptions) -> Route {
        let (backoff, backoff_max) = (options.backoff_min, options.backoff_max);
        Route {
            tries: 0,
            backoff,
            backoff_max,
            silent: None,
            spoke: None,
            was_taken_up: false,
            pauses: 0,
        }
    }

    /// A node has answered that it cannot help.
    pub(super) fn hear(&mut self, node: NodeId) {
        self.spoke = Some(node);
    }

    /// A node has dealt with the request, and has nothing to show for it yet.
    pub(super) fn is_taken_up(&mut self, node: NodeId) {
        self.hear(node);
        self.was_taken_up = true;
    }

    /// Goes where a hint says. A hint costs no pause, unless hints lead in a circle.
    pub(super) fn follow(
        &mut self,
        node: &mut NodeId,
        hint: NodeId,
        nodes: &[NodeId],
    ) -> Option<Duration> {
        if hint == *node || self.silent == Some(hint) || !nodes.contains(&hint) {
            return self.next(node, nodes);
        }
        *node = hint;
        self.count(nodes)
    }

    /// Goes to the next node. Each gets one try, then there is a pause.
    pub(super) fn next(&mut self, node: &mut NodeId, nodes: &[NodeId]) -> Option<Duration> {
        if let Some(next) = following(*node, nodes) {
            *node = next;
        }
        self.count(nodes)
    }

    /// At a pause: where to look for who can help.
    pub(super) fn search(&mut self) -> Search {
        const PATIENCE: u32 = 4;
        match self.spoke.take() {
            // After the first round there may just be no leader for a moment.
            Some(_) if self.pauses == 1 => Search::Members,
            Some(spoke) if self.pauses < PATIENCE => Search::MembersBy(spoke),
            Some(spoke) => Search::AllBy(spoke),
            None => Search::All,
        }
    }

    fn count(&mut self, nodes: &[NodeId]) -> Option<Duration> {
        self.tries += 1;
        if self.tries < nodes.len() { None } else { self.pause() }
    }

    pub(super) fn pause(&mut self) -> Option<Duration> {
        self.tries = 0;
        self.silent = None;
        self.pauses += 1;
        let pause = self.backoff;
        self.backoff = self.backoff.saturating_mul(2).min(self.backoff_max);
        Some(pause)
    }

    /// Pauses until there may be room for another session, name or answer. That is when others are done or have been quiet
    /// for long, which takes seconds; and each try may cost an entry in the log.
    pub(super) fn pause_for_room(&mut self) -> Option<Duration> {
        const PAUSES: u32 = 32;
        self.pause().map(|pause| pause.saturating_mul(PAUSES))
    }
}

pub(super) fn following(node: NodeId, nodes: &[NodeId]) -> Option<NodeId> {
    nodes.iter().find(|other| **other > node).or(nodes.first()).copied()
}

/// From half of `pause` to all of it, so that clients do not come in step.
pub(super) fn jitter(pause: Duration, random: u64) -> Duration {
    const STEPS: u32 = 1024;
    let step = u32::try_from(random % u64::from(STEPS)).unwrap_or(0);
    pause / 2 + pause / 2 * step / STEPS
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    #[test]
    fn each_node_gets_one_try_before_there_is_a_pause_and_pauses_grow_up_to_a_limit() {
        let options = ClientOptions::default();
        let mut route = Route::new(&options);
        let mut node = NodeId(2);
        let mut pauses = Vec::new();
        let mut visited = Vec::new();
        for _ in 0..18 {
            visited.push(node.0);
            pauses.extend(route.next(&mut node, &NODES));
        }
        assert_eq!(visited[..6], [2, 3, 1, 2, 3, 1]);
        let expected = [10, 20, 40, 80, 160, 160].map(Duration::from_millis);
        assert_eq!(pauses, expected);
    }

    #[test]
    fn a_hint_is_followed_at_once_unless_it_leads_in_a_circle_or_to_a_silent_node() {
        let mut route = Route::new(&ClientOptions::default());
        let mut node = NodeId(1);
        assert_eq!(route.follow(&mut node, NodeId(3), &NODES), None);
        assert_eq!(node, NodeId(3));
        assert_eq!(route.follow(&mut node, NodeId(1), &NODES), None);
        assert!(route.follow(&mut node, NodeId(3), &NODES).is_some());
        let mut route = Route::new(&ClientOptions::default());
        route.silent = Some(NodeId(3));
        let mut node = NodeId(1);
        assert_eq!(route.follow(&mut node, NodeId(3), &NODES), None);
        assert_eq!(node, NodeId(2));
    }

    /// A full table must not fill the log with entries that are refused.
    #[test]
    fn whoever_waits_for_room_asks_seldom() {
        let mut route = Route::new(&ClientOptions::default());
        let pauses: Vec<Duration> = (0..6).filter_map(|_| route.pause_for_room()).collect();
        assert_eq!(pauses, [320, 640, 1280, 2560, 5120, 5120].map(Duration::from_millis));
    }

    #[test]
    fn a_pause_is_half_chance() {
        let pause = Duration::from_millis(100);
        for random in [0, 1, 511, 1023, u64::MAX] {
            let jittered = jitter(pause, random);
            assert!(jittered >= pause / 2 && jittered <= pause, "{jittered:?}");
        }
    }
}
