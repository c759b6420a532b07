//! Where the members listen and which incarnation of each counts, as the configuration in force says.

use std::time::Duration;

use raft_core::{Configuration, Envelope, Incarnation, Input, Member, Message, NodeId, Term};

use super::Driver;
use crate::StateMachine;

/// A member that was removed can be reached for so long, so that it hears of its own removal: a few election timeouts.
const LINGERS: Duration = Duration::from_secs(5);

/// What the transport was told last.
#[derive(Debug, Default)]
pub(super) struct Routes {
    configuration: Configuration,
    /// Those that have left lately, and until when they can be reached.
    leaving: Vec<(Member, Duration)>,
    /// Who was heard to lead last, and in which term.
    heard: Option<(Term, Leader)>,
    /// Who led when the transport was told.
    leader: Option<Leader>,
}

/// Who leads, under which incarnation. `None`: that was not heard, as by the leader itself.
type Leader = (NodeId, Option<Incarnation>);

impl Routes {
    /// When there is something to do without an input.
    pub(super) fn next_deadline(&self) -> Duration {
        self.leaving.iter().map(|(_, until)| *until).min().unwrap_or(Duration::MAX)
    }

    /// Who leads which term under which incarnation, if that is what `envelope` shows.
    fn lead_shown_by(envelope: &Envelope) -> Option<(Term, Leader)> {
        match envelope.message {
            Message::AppendEntries { .. } | Message::Heartbeat { .. } => {
                Some((envelope.term, (envelope.from, Some(envelope.incarnation))))
            }
            Message::PreVote { .. }
            | Message::PreVoteResponse { .. }
            | Message::RequestVote { .. }
            | Message::VoteResponse { .. }
            | Message::AppendResponse(_)
            | Message::HeartbeatResponse { .. }
            | Message::TimeoutNow
            | Message::ReadIndex { .. }
            | Message::ReadIndexResponse { .. } => None,
        }
    }

    /// The peers from now on, if they are others than before. A configuration that names no address leaves it to the
    /// transport what it knows.
    ///
    /// While there is no leader, no incarnation is named: a node that was admitted again, and that this configuration does
    /// not know yet, may be the only one from which a newer one can come. Once it is heard to lead, it is the one that
    /// counts, whatever the configuration says.
    fn follow(
        &mut self,
        configuration: &Configuration,
        leader: Option<Leader>,
        now: Duration,
    ) -> Option<Vec<Member>> {
        let is_new = self.configuration != *configuration || self.leader != leader;
        let have_left = self.leaving.iter().any(|(_, until)| *until <= now);
        if !is_new && !have_left {
            return None;
        }
        let before = std::mem::replace(&mut self.configuration, configuration.clone());
        self.leader = leader;
        let left = before.members().into_iter().filter(|member| !configuration.contains(member.id));
        self.leaving.extend(left.map(|member| (member.clone(), now.saturating_add(LINGERS))));
        self.leaving.retain(|(member, until)| *until > now && !configuration.contains(member.id));
        let members = configuration.members().into_iter();
        let leaving = self.leaving.iter().map(|(member, _)| member);
        let peers = members.chain(leaving).filter(|member| !member.address.is_empty());
        let peers: Vec<_> = peers.map(|member| as_led_by(leader, member)).collect();
        (!peers.is_empty()).then_some(peers)
    }
}

/// The member, under the incarnation that counts while `leader` leads.
fn as_led_by(leader: Option<Leader>, member: &Member) -> Member {
    let incarnation = member.incarnation.filter(|_| leader.is_some());
    let heard = leader.filter(|(id, _)| *id == member.id).and_then(|(_, heard)| heard);
    Member { incarnation: incarnation.map(|named| heard.unwrap_or(named)), ..member.clone() }
}

impl<M: StateMachine> Driver<M> {
    /// Takes a message of the protocol, and notes who leads if it shows that.
    pub(super) fn receive(&mut self, envelope: Envelope) {
        let shown = Routes::lead_shown_by(&envelope);
        self.node.step(Input::Receive(envelope));
        if let Some((term, (id, _))) = shown
            && term == self.node.term()
            && self.node.leader() == Some(id)
        {
            self.routes.heard = shown;
        }
    }

    /// Tells the transport where the members listen, and which incarnation of each counts, when that has changed.
    pub(super) fn follow_addresses(&mut self) {
        let (term, heard) = (self.node.term(), self.routes.heard);
        let leader = self.node.leader().map(|id| {
            let heard = heard.filter(|(heard_in, (leader, _))| *heard_in == term && *leader == id);
            heard.map_or((id, None), |(_, leader)| leader)
        });
        if let Some(peers) = self.routes.follow(self.node.configuration(), leader, self.now) {
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
            let peers = routes.follow(configuration, None, now)?;
            Some(peers.into_iter().map(|peer| peer.id.0).collect::<Vec<_>>())
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
        assert_eq!(Routes::default().follow(&configuration, None, Duration::ZERO), None);
    }

    /// A disk that was lost leaves two machines with one id, and a configuration that lags behind names the wrong one.
    #[test]
    fn incarnations_are_named_while_there_is_a_leader_and_its_own_is_the_one_that_it_leads_under() {
        let member = |id, incarnation| {
            Member::of_incarnation(NodeId(id), Incarnation(incarnation), format!("host:{id}"))
        };
        let unknown = Member::new(NodeId(3), "host:3");
        let members = [member(1, 10), member(2, 20), unknown];
        let configuration = Configuration::of_members(members, [], []);
        let mut routes = Routes::default();
        let mut follow = |leader: Option<Leader>| {
            let peers = routes.follow(&configuration, leader, Duration::ZERO)?;
            let named = |peer: Member| peer.incarnation.map(|incarnation| incarnation.0);
            Some(peers.into_iter().map(named).collect::<Vec<_>>())
        };
        let led_by = |id, incarnation| Some((NodeId(id), Some(Incarnation(incarnation))));
        assert_eq!(follow(None), Some(vec![None, None, None]));
        assert_eq!(follow(Some((NodeId(1), None))), Some(vec![Some(10), Some(20), None]));
        assert_eq!(follow(led_by(2, 21)), Some(vec![Some(10), Some(21), None]));
        assert_eq!(follow(led_by(2, 21)), None);
        assert_eq!(follow(led_by(3, 30)), Some(vec![Some(10), Some(20), None]));
        assert_eq!(follow(None), Some(vec![None, None, None]));
    }
}
