//! Lets go wrong what was planned, and heals it.

mod active;
mod operator;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{Either, join_all, select};
use raft_rsm::StateMachine;
use raft_rsm::raft_core::NodeId;

use self::active::Active;
use self::operator::Operator;
use crate::cluster::Cluster;
use crate::disk::Speed;
use crate::event::{Crash, Event, Listener, Site};
use crate::executor::WORLD;
use crate::faults::{Fault, Moment, Planned, Target};
use crate::network::Conditions;

/// How long each node of a rolling restart has to come back before the next one goes.
const ROLLING_PAUSE: Duration = Duration::from_millis(500);

/// An operator who has waited for this long for a node to stop kills it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Carries out the faults of a plan.
pub(crate) struct Nemesis<M: StateMachine> {
    cluster: Cluster<M>,
    listener: Arc<dyn Listener>,
    baseline: Conditions,
    active: Arc<Mutex<Active>>,
    operator: Arc<Mutex<Operator>>,
}

impl<M: StateMachine> Clone for Nemesis<M> {
    fn clone(&self) -> Nemesis<M> {
        Nemesis {
            cluster: self.cluster.clone(),
            listener: Arc::clone(&self.listener),
            baseline: self.baseline.clone(),
            active: Arc::clone(&self.active),
            operator: Arc::clone(&self.operator),
        }
    }
}

impl<M: StateMachine> Nemesis<M> {
    pub(crate) fn new(
        cluster: Cluster<M>,
        listener: Arc<dyn Listener>,
        baseline: Conditions,
    ) -> Nemesis<M> {
        Nemesis { cluster, listener, baseline, active: Arc::default(), operator: Arc::default() }
    }

    /// Has each fault begin and end in its time, but none go on after `until`. Completes when the last has ended.
    /// Those are told that take effect: a node that does not run cannot be killed.
    pub(crate) fn schedule(
        &self,
        planned: &[Planned],
        until: Duration,
    ) -> impl Future<Output = ()> + Send + use<M> {
        let mut ends = Vec::new();
        for planned in planned.iter().filter(|planned| planned.at < until) {
            let (nemesis, planned) = (self.clone(), planned.clone());
            let (sender, ended) = oneshot::channel();
            ends.push(ended);
            let task = async move {
                nemesis.cluster.sleep(planned.at).await;
                let fault = nemesis.resolve(&planned.fault);
                if nemesis.takes_effect(&fault) {
                    let kind = fault.kind();
                    nemesis.tell(Event::Fault { kind, what: fault.to_string() });
                    let lasts = planned.lasts.min(until.saturating_sub(planned.at));
                    nemesis.carry_out(planned.number, &fault, lasts, until).await;
                    nemesis.tell(Event::FaultEnded { kind });
                }
                let _ = sender.send(());
            };
            self.cluster.executor().spawn(WORLD, "fault", task.boxed());
        }
        join_all(ends).map(|_| ())
    }

    /// Ends all that is wrong: every node runs, every disk works, the network is reliable.
    pub(crate) fn heal(&self) {
        let cluster = &self.cluster;
        *self.active() = Active::default();
        cluster.network().heal();
        cluster.network().set_conditions(Conditions::reliable());
        for id in cluster.ids() {
            cluster.disk(id).heal();
            cluster.resume(id);
        }
        cluster.start_all();
        self.tell(Event::Healed);
    }

    async fn carry_out(&self, number: usize, fault: &Fault, lasts: Duration, until: Duration) {
        let cluster = &self.cluster;
        match fault {
            Fault::Crash { node, crash, moment } => {
                self.crash(&[self.pick(*node)], *crash, *moment, lasts).await;
            }
            Fault::CrashAll { crash, moment } => {
                self.crash(&cluster.ids(), *crash, *moment, lasts).await;
            }
            Fault::RollingRestart => self.restart_all(until).await,
            Fault::Pause { node } => {
                let id = self.pick(*node);
                self.active().paused.add(id);
                cluster.pause(id);
                cluster.sleep(lasts).await;
                if self.active().paused.remove(&id) {
                    cluster.resume(id);
                }
            }
            Fault::Split { .. }
            | Fault::Isolate { .. }
            | Fault::OneWay { .. }
            | Fault::Bridge { .. } => {
                let cuts = self.cuts(fault);
                self.cut(&cuts);
                cluster.sleep(lasts).await;
                self.mend(&cuts);
            }
            Fault::Flap { one, other, each } => {
                let ends = both_ways(Site::Node(self.pick(*one)), Site::Node(*other));
                let end = cluster.now().saturating_add(lasts);
                let wait = || cluster.sleep((*each).min(end.saturating_sub(cluster.now())));
                while cluster.now() < end {
                    self.cut(&ends);
                    wait().await;
                    self.mend(&ends);
                    wait().await;
                }
            }
            Fault::Close { one, other } => {
                let (one, other) = (Site::Node(self.pick(*one)), Site::Node(*other));
                cluster.network().close_connection(one, other);
            }
            Fault::Network { conditions } => {
                self.active().conditions.push((number, (**conditions).clone()));
                self.set_conditions();
                cluster.sleep(lasts).await;
                self.active().conditions.retain(|(other, _)| *other != number);
                self.set_conditions();
            }
            Fault::SlowDisk { .. }
            | Fault::StuckDisk { .. }
            | Fault::FailingDisk { .. }
            | Fault::FullDisk { .. } => self.disk(number, fault, lasts).await,
            Fault::WipedDisk { node } => self.wipe(self.pick(*node), lasts).await,
            Fault::Membership { change, pick, beside } => {
                self.change(*change, *pick, *beside, lasts).await;
            }
            Fault::Transfer { to } => {
                self.transfer(*to);
                cluster.sleep(lasts).await;
            }
        }
    }

    async fn crash(&self, ids: &[NodeId], crash: Crash, moment: Moment, lasts: Duration) {
        let cluster = &self.cluster;
        let running = cluster.running();
        ids.iter().for_each(|id| self.active().down.add(*id));
        for id in ids.iter().filter(|id| running.contains(id)) {
            match moment {
                Moment::Now => cluster.crash(*id, crash),
                Moment::AfterSteps(steps) => cluster.crash_after_steps(*id, steps, crash),
                Moment::WithinWrites(changes) => cluster.disk(*id).cut_within_work(changes, crash),
            }
        }
        // Those that have had nothing to do by then crash all the same, and all are down together for a while.
        cluster.sleep(lasts / 2).await;
        ids.iter().for_each(|id| cluster.crash(*id, crash));
        cluster.sleep(lasts / 2).await;
        for id in ids {
            self.active().down.remove(id);
            self.start(*id);
        }
    }

    /// Restarts one node after the other, as far as there is time.
    async fn restart_all(&self, until: Duration) {
        let cluster = &self.cluster;
        for id in cluster.ids() {
            let left = until.saturating_sub(cluster.now());
            if left.is_zero() {
                return;
            }
            let stopped = cluster.stop(id).boxed();
            if let Either::Right(_) = select(stopped, cluster.sleep(PATIENCE.min(left))).await {
                cluster.crash(id, Crash::Killed);
            }
            self.start(id);
            cluster.sleep(ROLLING_PAUSE.min(until.saturating_sub(cluster.now()))).await;
        }
    }

    /// Starts a node, unless it has to stay down.
    fn start(&self, id: NodeId) {
        if !self.active().down.contains(&id) {
            self.cluster.start(id);
        }
    }

    async fn disk(&self, number: usize, fault: &Fault, lasts: Duration) {
        let cluster = &self.cluster;
        match fault {
            Fault::SlowDisk { node, factor } => {
                let id = self.pick(*node);
                self.active().slow.entry(id).or_default().push((number, *factor));
                self.set_speed(id);
                cluster.sleep(lasts).await;
                self.active().slow.entry(id).or_default().retain(|(other, _)| *other != number);
                self.set_speed(id);
            }
            Fault::StuckDisk { node } => {
                let id = self.pick(*node);
                // It ends by itself.
                let end = self.active().stuck_until(id, cluster.now().saturating_add(lasts));
                cluster.disk(id).set_stuck_until(Some(end));
                cluster.sleep(lasts).await;
            }
            Fault::FailingDisk { node, operation } => {
                let id = self.pick(*node);
                self.active().failing.add((id, *operation));
                cluster.disk(id).fail_next(*operation, 1, std::io::ErrorKind::Other);
                cluster.sleep(lasts).await;
                if self.active().failing.remove(&(id, *operation)) {
                    // What it had no reason to do has not failed.
                    cluster.disk(id).fail_next(*operation, 0, std::io::ErrorKind::Other);
                }
                self.start(id);
            }
            Fault::FullDisk { node } => {
                let id = self.pick(*node);
                self.active().full.add(id);
                cluster.disk(id).set_full(true);
                cluster.sleep(lasts).await;
                if self.active().full.remove(&id) {
                    cluster.disk(id).set_full(false);
                }
                self.start(id);
            }
            Fault::Crash { .. }
            | Fault::CrashAll { .. }
            | Fault::RollingRestart
            | Fault::Pause { .. }
            | Fault::Split { .. }
            | Fault::Isolate { .. }
            | Fault::OneWay { .. }
            | Fault::Bridge { .. }
            | Fault::Flap { .. }
            | Fault::Close { .. }
            | Fault::Network { .. }
            | Fault::WipedDisk { .. }
            | Fault::Membership { .. }
            | Fault::Transfer { .. } => {}
        }
    }

    /// As the last fault says that still lasts.
    fn set_conditions(&self) {
        let last = self.active().conditions.last().map(|(_, conditions)| conditions.clone());
        self.cluster.network().set_conditions(last.unwrap_or_else(|| self.baseline.clone()));
    }

    /// As the last fault says that still lasts.
    fn set_speed(&self, id: NodeId) {
        let slow = self.active().slow.get(&id).and_then(|slow| slow.last().copied());
        let factor = slow.map_or(1, |(_, factor)| factor);
        self.cluster.disk(id).set_speed(Speed { factor, ..Speed::default() });
    }

    /// Who cannot reach whom.
    fn cuts(&self, fault: &Fault) -> Vec<(Site, Site)> {
        let all: Vec<Site> = self.cluster.ids().into_iter().map(Site::Node).collect();
        let sites = |ids: &[NodeId]| ids.iter().copied().map(Site::Node).collect::<Vec<_>>();
        let without = |some: &[Site]| {
            all.iter().copied().filter(|site| !some.contains(site)).collect::<Vec<_>>()
        };
        match fault {
            Fault::Split { group, clients } => {
                let group = sites(group);
                let mut rest = without(&group);
                rest.extend(clients.iter().copied().map(Site::Client));
                between(&group, &rest)
            }
            Fault::Bridge { node, group } => {
                let group = sites(group);
                let mut rest = without(&group);
                rest.retain(|site| *site != Site::Node(*node));
                between(&group, &rest)
            }
            Fault::Isolate { node } => {
                let alone = [Site::Node(self.pick(*node))];
                between(&alone, &without(&alone))
            }
            Fault::OneWay { from, to } => vec![(Site::Node(self.pick(*from)), Site::Node(*to))],
            Fault::Crash { .. }
            | Fault::CrashAll { .. }
            | Fault::RollingRestart
            | Fault::Pause { .. }
            | Fault::Flap { .. }
            | Fault::Close { .. }
            | Fault::Network { .. }
            | Fault::SlowDisk { .. }
            | Fault::StuckDisk { .. }
            | Fault::FailingDisk { .. }
            | Fault::FullDisk { .. }
            | Fault::WipedDisk { .. }
            | Fault::Membership { .. }
            | Fault::Transfer { .. } => Vec::new(),
        }
    }

    fn cut(&self, cuts: &[(Site, Site)]) {
        for (from, to) in cuts {
            self.active().cuts.add((*from, *to));
            self.cluster.network().cut(*from, *to);
        }
    }

    fn mend(&self, cuts: &[(Site, Site)]) {
        for (from, to) in cuts {
            if self.active().cuts.remove(&(*from, *to)) {
                self.cluster.network().mend(*from, *to);
            }
        }
    }

    /// The fault with the nodes that it hits now.
    fn resolve(&self, fault: &Fault) -> Fault {
        let mut fault = fault.clone();
        match &mut fault {
            Fault::Crash { node, .. }
            | Fault::Pause { node }
            | Fault::Isolate { node }
            | Fault::SlowDisk { node, .. }
            | Fault::StuckDisk { node }
            | Fault::FailingDisk { node, .. }
            | Fault::FullDisk { node }
            | Fault::WipedDisk { node } => *node = Target::Node(self.pick(*node)),
            Fault::OneWay { from: one, to: other }
            | Fault::Flap { one, other, .. }
            | Fault::Close { one, other } => {
                let id = self.pick(*one);
                *one = Target::Node(id);
                if *other == id {
                    *other = self.next_after(id);
                }
            }
            Fault::CrashAll { .. }
            | Fault::RollingRestart
            | Fault::Split { .. }
            | Fault::Bridge { .. }
            | Fault::Network { .. }
            | Fault::Membership { .. }
            | Fault::Transfer { .. } => {}
        }
        fault
    }

    /// Whether anything is different if it happens now.
    fn takes_effect(&self, fault: &Fault) -> bool {
        let running = self.cluster.running();
        match fault {
            Fault::Crash { node, .. }
            | Fault::Pause { node }
            | Fault::SlowDisk { node, .. }
            | Fault::StuckDisk { node }
            | Fault::FailingDisk { node, .. }
            | Fault::FullDisk { node } => running.contains(&self.pick(*node)),
            Fault::CrashAll { .. } | Fault::RollingRestart => !running.is_empty(),
            Fault::Close { one, other } => {
                let one = self.pick(*one);
                one != *other && (running.contains(&one) || running.contains(other))
            }
            Fault::Flap { one, other, .. } | Fault::OneWay { from: one, to: other } => {
                self.pick(*one) != *other
            }
            Fault::Split { .. } | Fault::Isolate { .. } | Fault::Bridge { .. } => {
                !self.cuts(fault).is_empty()
            }
            Fault::Network { .. } => true,
            // Whether it happens shows later: not before it can be survived.
            Fault::WipedDisk { node } => running.contains(&self.pick(*node)),
            Fault::Membership { .. } => self.may_change(),
            Fault::Transfer { .. } => self.cluster.leader().is_some(),
        }
    }

    /// The next node; the same one if there is no other.
    fn next_after(&self, id: NodeId) -> NodeId {
        let ids = self.cluster.ids();
        let next = ids.iter().find(|other| **other > id).or(ids.first());
        next.copied().unwrap_or(id)
    }

    fn pick(&self, target: Target) -> NodeId {
        match target {
            Target::Node(id) => id,
            Target::LeaderOr(id) => self.cluster.leader().unwrap_or(id),
        }
    }

    fn active(&self) -> MutexGuard<'_, Active> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        self.listener.event(self.cluster.now(), event);
    }
}

fn both_ways(one: Site, other: Site) -> [(Site, Site); 2] {
    [(one, other), (other, one)]
}

/// Nothing gets from the ones to the others, or back.
fn between(ones: &[Site], others: &[Site]) -> Vec<(Site, Site)> {
    let pairs = ones.iter().flat_map(|one| others.iter().map(|other| (*one, *other)));
    pairs.flat_map(|(one, other)| both_ways(one, other)).collect()
}

#[cfg(test)]
mod tests;
