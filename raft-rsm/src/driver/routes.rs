//! Where the members listen, as the configuration in force says.

use std::time::Duration;

use raft_core::{Configuration, Member, NodeId};

use super::Driver;
use crate::StateMachine;

/// A member that was removed can be reached for so long, so that it hears of its own removal: a few election timeouts.
const LINGERS: Duration = Duration::from_secs(5);

/// What the transport was told last.
#[derive(Debug, Default)]
pub(super) struct Routes {
    configuration: Configuration,
    /// Those that have left lately, and until when they can be reached.
    leaving: Vec<(NodeId, String, Duration)>,
}

impl Routes {
    /// When there is something to do without an input.
    pub(super) fn next_deadline(&self) -> Duration {
        self.leaving.iter().map(|(_, _, until)| *until).min().unwrap_or(Duration::MAX)
    }

    /// Where the peers listen from now on, if that is something else than before. A configuration that names no
    /// address leaves it to the transport what it knows.
    fn follow(
        &mut self,
        configuration: &Configuration,
        now: Duration,
    ) -> Option<Vec<(NodeId, String)>> {
        let is_new = self.configuration != *configuration;
        let have_left = self.leaving.iter().any(|(_, _, until)| *until <= now);
        if !is_new && !have_left {
            return None;
        }
        let before = std::mem::replace(&mut self.configuration, configuration.clone());
        let left = before.members().into_iter().filter(|member| !configuration.contains(member.id));
        self.leaving.extend(
            left.map(|member| (member.id, member.address.clone(), now.saturating_add(LINGERS))),
        );
        self.leaving.retain(|(id, _, until)| *until > now && !configuration.contains(*id));
        let members = configuration.members().into_iter();
        let members = members.map(|Member { id, address, .. }| (*id, address.clone()));
        let leaving = self.leaving.iter().map(|(id, address, _)| (*id, address.clone()));
        let peers: Vec<_> = members.chain(leaving).filter(|(_, a)| !a.is_empty()).collect();
        (!peers.is_empty()).then_some(peers)
    }
}

impl<M: StateMachine> Driver<M> {
    /// Tells the transport where the members listen, when that has changed.
    pub(super) fn follow_addresses(&mut self) {
        if let Some(peers) = self.routes.follow(self.node.configuration(), self.now) {
            self.parts.transport.set_peers(&peers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_can_be_reached_for_a_while() {
        let of = |ids: &[u64]| {
            let members = ids.iter().map(|id| Member::new(NodeId(*id), format!("host:{id}")));
            Configuration::of_members(members, [], [])
        };
        let second = Duration::from_secs(1);
        let mut routes = Routes::default();
        let mut follow = |configuration: &Configuration, now| {
            let peers = routes.follow(configuration, now)?;
            Some(peers.into_iter().map(|(id, _)| id.0).collect::<Vec<_>>())
        };
        assert_eq!(follow(&of(&[1, 2, 3]), second), Some(vec![1, 2, 3]));
        assert_eq!(follow(&of(&[1, 2, 3]), second), None);
        assert_eq!(follow(&of(&[1, 2, 4]), 2 * second), Some(vec![1, 2, 4, 3]));
        assert_eq!(follow(&of(&[1, 2, 4]), 6 * second), None);
        assert_eq!(follow(&of(&[1, 2, 4]), 7 * second), Some(vec![1, 2, 4]));
        assert_eq!(follow(&of(&[1, 2, 3, 4]), 8 * second), Some(vec![1, 2, 3, 4]));
        assert_eq!(follow(&Configuration::new([NodeId(1)], []), 8 * second), Some(vec![2, 3, 4]));
    }

    #[test]
    fn a_configuration_without_addresses_says_nothing() {
        let configuration = Configuration::new([NodeId(1), NodeId(2)], []);
        assert_eq!(Routes::default().follow(&configuration, Duration::ZERO), None);
    }
}
