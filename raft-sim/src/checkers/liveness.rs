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
            Event::Role { role: Role::Leader, .. } => self.led_since = true,
            _ => {}
        }
        if self.healed_at.is_some() && !self.led_since {
            // One that has led all the time does not say so again.
            self.led_since = before.nodes().any(|(_, node)| node.role == Role::Leader);
        }
        self.check_leader(now)
    }

    fn finish(&mut self, now: Duration, end: &View) -> Result<(), String> {
        self.check_leader(now)?;
        if let Some((client, (since, operation))) = self.waiting.first_key_value() {
            return Err(format!("client {client} still waits for {operation}, since {since:?}"));
        }
        if self.healed_at.is_none() {
            return Ok(());
        }
        for (id, node) in end.nodes() {
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
