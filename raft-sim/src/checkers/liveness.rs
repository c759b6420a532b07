//! Nobody waits for ever; and once all faults have ended there is a leader soon, everybody is answered, and all nodes catch
//! up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raft_rsm::raft_core::Role;

use super::{Checker, View};
use crate::event::Event;

/// A leader must be there so long after the last fault, in true virtual time; what clients begin from then on is answered.
pub const LEADER_WITHIN: Duration = Duration::from_secs(5);

/// Watches the waits of clients and the time without a leader.
#[derive(Debug)]
pub struct Liveness {
    operation_max: Duration,
    /// The operation that each client waits for, and since when.
    waiting: BTreeMap<u64, (Duration, String)>,
    /// The same clients, by the time since which they wait.
    since: BTreeSet<(Duration, u64)>,
    healed_at: Option<Duration>,
    led_since: bool,
}

impl Liveness {
    /// No operation may take longer than `operation_max`.
    #[must_use]
    pub fn new(operation_max: Duration) -> Liveness {
        Liveness {
            operation_max,
            waiting: BTreeMap::new(),
            since: BTreeSet::new(),
            healed_at: None,
            led_since: false,
        }
    }

    fn ended(&mut self, client: u64, answered: bool, outcome: &str) -> Result<(), String> {
        let Some((since, operation)) = self.waiting.remove(&client) else { return Ok(()) };
        self.since.remove(&(since, client));
        match self.healed_at {
            Some(at) if !answered && since >= at.saturating_add(LEADER_WITHIN) => Err(format!(
                "client {client} was not answered, although all faults have ended: {operation}: \
                 {outcome}"
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Whoever waits longest does not wait too long.
    fn check_waiting(&self, now: Duration) -> Result<(), String> {
        match self.since.first() {
            Some((since, client)) if now.saturating_sub(*since) > self.operation_max => {
                let operation = self.waiting.get(client).map_or("", |(_, operation)| operation);
                let waits = now.saturating_sub(*since);
                Err(format!("client {client} has waited {waits:?} for {operation}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_leader(&self, now: Duration) -> Result<(), String> {
        match self.healed_at {
            Some(at) if !self.led_since && now.saturating_sub(at) > LEADER_WITHIN => {
                Err(format!("no leader {LEADER_WITHIN:?} after all faults have ended"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether somebody leads whom nobody has gone past: one that leads an old term leads nobody.
fn is_led(view: &View) -> bool {
    let members = view.members();
    let running = || members.iter().map(|(_, node)| node).filter(|node| node.is_running);
    let latest = running().map(|node| node.term).max();
    running().any(|node| node.role == Role::Leader && Some(node.term) == latest)
}

impl Checker for Liveness {
    fn name(&self) -> &'static str {
        "liveness"
    }

    fn observe(&mut self, now: Duration, before: &View, event: &Event) -> Result<(), String> {
        self.check_waiting(now)?;
        match event {
            Event::OperationBegan { client, operation } => {
                self.waiting.insert(*client, (now, operation.clone()));
                self.since.insert((now, *client));
            }
            Event::OperationEnded { client, answered, outcome } => {
                self.ended(*client, *answered, outcome)?;
            }
            Event::Healed => {
                self.healed_at = Some(now);
                self.led_since = false;
            }
            _ => {}
        }
        if self.healed_at.is_some() && !self.led_since {
            self.led_since = is_led(before);
        }
        self.check_leader(now)
    }

    fn finish(&mut self, now: Duration, end: &View) -> Result<(), String> {
        self.led_since |= is_led(end);
        self.check_leader(now)?;
        if let Some((client, (since, operation))) = self.waiting.first_key_value() {
            return Err(format!("client {client} still waits for {operation}, since {since:?}"));
        }
        if self.healed_at.is_none() {
            return Ok(());
        }
        if let Some((id, leader)) = end.leader()
            && leader.configuration.is_joint()
        {
            return Err(format!("node {id} leads and does not leave a joint configuration"));
        }
        if let Some((id, _)) = end.nodes().find(|(_, node)| node.is_wiped) {
            return Err(format!("node {id} has lost its disk, and is not yet what it was"));
        }
        for (id, node) in end.members() {
            if !node.is_running {
                return Err(format!("node {id} does not run, although all faults have ended"));
            }
            if node.applied < end.commit() {
                return Err(format!(
                    "node {id} has applied {} of {} committed entries",
                    node.applied,
                    end.commit()
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use raft_rsm::raft_core::{Configuration, EntryId, Incarnation, NodeId};

    use super::super::told::{
        assert_caught, commits, crashed, follows, leads, started, tell_at, writes,
    };
    use super::*;

    const MAX: Duration = Duration::from_secs(12);

    /// What it says to a story with the seconds at which everything happens.
    fn check(story: &[(u64, Event)]) -> Result<(), String> {
        let story = story.iter().map(|(at, event)| (Duration::from_secs(*at), event.clone()));
        tell_at(&mut Liveness::new(MAX), story)
    }

    fn began() -> Event {
        Event::OperationBegan { client: 1, operation: "a read".to_owned() }
    }

    fn ended(answered: bool) -> Event {
        Event::OperationEnded { client: 1, answered, outcome: "maybe".to_owned() }
    }

    fn leader() -> Event {
        leads(1, 1, EntryId::ZERO)
    }

    #[test]
    fn a_cluster_that_recovers_is_fine() {
        let story = [
            (0, started(1)),
            (1, began()),
            (11, ended(false)),
            (12, Event::Healed),
            (13, began()),
            (14, ended(false)),
            (16, leader()),
            (17, began()),
            (18, ended(true)),
        ];
        assert_eq!(check(&story), Ok(()));
    }

    #[test]
    fn a_leader_that_comes_too_late_is_caught_and_one_that_was_there_is_not() {
        let late = [(0, started(1)), (1, Event::Healed), (7, leader())];
        assert_eq!(check(&late[..2]), Ok(()));
        assert_eq!(check(&[late[0].clone(), late[1].clone(), (6, leader())]), Ok(()));
        let never = [late[0].clone(), late[1].clone(), (7, began())];
        assert_caught(check(&never), "no leader 5s after");
        let all_the_time = [(0, started(1)), (0, leader()), (1, Event::Healed), (9, began())];
        assert_eq!(check(&[&all_the_time[..], &[(9, ended(true))]].concat()), Ok(()));
        let lost = [(0, started(1)), (0, leader()), (1, follows(1, 2, EntryId::ZERO))];
        assert_caught(check(&[&lost[..], &never[1..]].concat()), "no leader 5s after");
    }

    #[test]
    fn whoever_waits_too_long_is_caught_answered_or_not() {
        let waits = "client 1 has waited 13s for a read";
        assert_eq!(check(&[(1, began()), (13, ended(true))]), Ok(()));
        assert_caught(check(&[(1, began()), (14, ended(true))]), waits);
        assert_caught(check(&[(1, began()), (14, started(1))]), waits);
        assert_caught(check(&[(1, began())]), "client 1 still waits for a read");
    }

    #[test]
    fn whoever_is_not_answered_when_all_is_well_is_caught() {
        let well = [(0, started(1)), (0, leader()), (1, Event::Healed)];
        let asks = |at, answered| [(at, began()), (at + 1, ended(answered))];
        assert_eq!(check(&[&well[..], &asks(6, true)].concat()), Ok(()));
        assert_eq!(check(&[&well[..], &asks(5, false)].concat()), Ok(()));
        assert_caught(check(&[&well[..], &asks(6, false)].concat()), "client 1 was not answered");
    }

    fn configured(id: u64, configuration: Configuration) -> Event {
        let incarnation = Incarnation(0);
        Event::Configured { node: NodeId(id), incarnation, configuration, leads: None }
    }

    #[test]
    fn a_joint_configuration_that_is_not_left_is_caught() {
        let joint = Configuration::joint([NodeId(1)], [NodeId(1)], []);
        let story = |configuration| {
            [(0, started(1)), (0, leader()), (1, Event::Healed), (2, configured(1, configuration))]
        };
        assert_caught(check(&story(joint)), "does not leave a joint configuration");
        assert_eq!(check(&story(Configuration::new([NodeId(1)], []))), Ok(()));
    }

    #[test]
    fn a_node_that_has_lost_its_disk_and_is_not_what_it_was_is_caught() {
        let wiped = Event::Wiped { node: NodeId(1) };
        let story =
            [(0, started(1)), (0, leader()), (1, wiped), (1, started(1)), (2, Event::Healed)];
        let readmitted = Event::Readmitted { node: NodeId(1) };
        let back = [&story[..], &[(3, leader()), (3, readmitted)]].concat();
        assert_eq!(check(&back), Ok(()));
        assert_caught(check(&[&story[..], &[(3, leader())]].concat()), "has lost its disk");
    }

    #[test]
    fn who_is_no_member_need_not_catch_up_nor_run() {
        let last = super::super::told::entry(1, 1);
        let story = [
            (0, started(1)),
            (0, started(2)),
            (0, leader()),
            (0, configured(1, Configuration::new([NodeId(1)], []))),
            (1, Event::Healed),
            (2, commits(1, 1, last)),
            (3, crashed(2)),
        ];
        assert_eq!(check(&story), Ok(()));
    }

    #[test]
    fn a_node_that_does_not_run_or_catch_up_in_the_end_is_caught() {
        let entries = [super::super::told::summary(1, 1)];
        let last = super::super::told::entry(1, 1);
        let story = [
            (0, started(1)),
            (0, started(2)),
            (0, leader()),
            (1, Event::Healed),
            (2, writes(1, 1, &entries)),
            (3, commits(1, 1, last)),
        ];
        assert_caught(check(&story), "node 2 has applied 0 of 1 committed");
        let caught_up = [&story[..], &[(4, commits(2, 1, last))]].concat();
        assert_eq!(check(&caught_up), Ok(()));
        let down = [&caught_up[..], &[(5, crashed(2))]].concat();
        assert_caught(check(&down), "node 2 does not run");
        // Before all faults have ended, nobody has to.
        let unhealed: Vec<_> = story.into_iter().filter(|(at, _)| *at != 1).collect();
        assert_eq!(check(&unhealed), Ok(()));
    }
}
