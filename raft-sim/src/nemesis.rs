//! Lets go wrong what was planned, and heals it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::join_all;
use raft_rsm::StateMachine;
use raft_rsm::raft_core::NodeId;

use crate::cluster::Cluster;
use crate::disk::Speed;
use crate::event::{Crash, Event, Listener, Site};
use crate::executor::WORLD;
use crate::faults::{Fault, Moment, Planned, Target};
use crate::network::Conditions;

/// How long each node of a rolling restart has to come back before the next one goes.
const ROLLING_PAUSE: Duration = Duration::from_millis(500);

/// Carries out the faults of a plan.
pub(crate) struct Nemesis<M: StateMachine> {
    cluster: Cluster<M>,
    listener: Arc<dyn Listener>,
    baseline: Conditions,
}

impl<M: StateMachine> Clone for Nemesis<M> {
    fn clone(&self) -> Nemesis<M> {
        Nemesis {
            cluster: self.cluster.clone(),
            listener: Arc::clone(&self.listener),
            baseline: self.baseline.clone(),
        }
    }
}

impl<M: StateMachine> Nemesis<M> {
    pub(crate) fn new(
        cluster: Cluster<M>,
        listener: Arc<dyn Listener>,
        baseline: Conditions,
    ) -> Nemesis<M> {
        Nemesis { cluster, listener, baseline }
    }

    /// Has each fault begin and end in its time, but none go on after `until`. Completes when the last has ended.
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
                nemesis.tell(Event::Fault {
                    kind: planned.fault.kind(),
                    what: planned.fault.to_string(),
                });
                let lasts = planned.lasts.min(until.saturating_sub(planned.at));
                nemesis.carry_out(&planned.fault, lasts).await;
                nemesis.tell(Event::FaultEnded { kind: planned.fault.kind() });
                let _ = sender.send(());
            };
            self.cluster.executor().spawn(WORLD, "fault", task.boxed());
        }
        join_all(ends).map(|_| ())
    }

    /// Ends all that is wrong: every node runs, every disk works, the network is reliable.
    pub(crate) fn heal(&self) {
        let cluster = &self.cluster;
        cluster.network().heal();
        cluster.network().set_conditions(Conditions::reliable());
        for id in cluster.ids() {
            cluster.disk(id).heal();
            cluster.resume(id);
        }
        cluster.start_all();
        self.tell(Event::Healed);
    }

    async fn carry_out(&self, fault: &Fault, lasts: Duration) {
        let cluster = &self.cluster;
        match fault {
            Fault::Crash { node, crash, moment } => {
                self.crash(&[self.pick(*node)], *crash, *moment, lasts).await;
            }
            Fault::CrashAll { crash, moment } => {
                self.crash(&cluster.ids(), *crash, *moment, lasts).await;
            }
            Fault::RollingRestart => {
                for id in cluster.ids() {
                    cluster.stop(id).await;
                    cluster.start(id);
                    cluster.sleep(ROLLING_PAUSE).await;
                }
            }
            Fault::Pause { node } => {
                let id = self.pick(*node);
                cluster.pause(id);
                cluster.sleep(lasts).await;
                cluster.resume(id);
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
                let ends = both_ways(self.pick(*one), *other);
                let until = cluster.now() + lasts;
                while cluster.now() < until {
                    self.cut(&ends);
                    cluster.sleep(*each).await;
                    self.mend(&ends);
                    cluster.sleep(*each).await;
                }
            }
            Fault::Close { one, other } => {
                let (one, other) = (Site::Node(self.pick(*one)), Site::Node(*other));
                cluster.network().close_connection(one, other);
            }
            Fault::Network { conditions } => {
                cluster.network().set_conditions((**conditions).clone());
                cluster.sleep(lasts).await;
                cluster.network().set_conditions(self.baseline.clone());
            }
            Fault::SlowDisk { .. }
            | Fault::StuckDisk { .. }
            | Fault::FailingDisk { .. }
            | Fault::FullDisk { .. } => self.disk(fault, lasts).await,
        }
    }

    async fn crash(&self, ids: &[NodeId], crash: Crash, moment: Moment, lasts: Duration) {
        let cluster = &self.cluster;
        for id in ids {
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
        ids.iter().for_each(|id| cluster.start(*id));
    }

    async fn disk(&self, fault: &Fault, lasts: Duration) {
        let cluster = &self.cluster;
        match fault {
            Fault::SlowDisk { node, factor } => {
                let disk = cluster.disk(self.pick(*node));
                disk.set_speed(Speed { factor: *factor, ..Speed::default() });
                cluster.sleep(lasts).await;
                disk.set_speed(Speed::default());
            }
            Fault::StuckDisk { node } => {
                let disk = cluster.disk(self.pick(*node));
                disk.set_stuck_until(Some(cluster.now() + lasts));
                cluster.sleep(lasts).await;
                disk.set_stuck_until(None);
            }
            Fault::FailingDisk { node, operation } => {
                let id = self.pick(*node);
                cluster.disk(id).fail_next(*operation, 1, std::io::ErrorKind::Other);
                cluster.sleep(lasts).await;
                // What it had no reason to do has not failed.
                cluster.disk(id).fail_next(*operation, 0, std::io::ErrorKind::Other);
                cluster.start(id);
            }
            Fault::FullDisk { node } => {
                let id = self.pick(*node);
                cluster.disk(id).set_full(true);
                cluster.sleep(lasts).await;
                cluster.disk(id).set_full(false);
                cluster.start(id);
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
            | Fault::Network { .. } => {}
        }
    }

    /// Who cannot reach whom.
    fn cuts(&self, fault: &Fault) -> Vec<(NodeId, NodeId)> {
        let ids = self.cluster.ids();
        let others = |id: NodeId| ids.iter().copied().filter(move |other| *other != id);
        match fault {
            Fault::Split { group } => between(group, &ids, |_| true),
            Fault::Bridge { node, group } => between(group, &ids, |id| id != *node),
            Fault::Isolate { node } => {
                let id = self.pick(*node);
                others(id).flat_map(|other| both_ways(id, other)).collect()
            }
            Fault::OneWay { from, to } => vec![(self.pick(*from), *to)],
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
            | Fault::FullDisk { .. } => Vec::new(),
        }
    }

    fn cut(&self, cuts: &[(NodeId, NodeId)]) {
        for (from, to) in cuts {
            self.cluster.network().cut(Site::Node(*from), Site::Node(*to));
        }
    }

    fn mend(&self, cuts: &[(NodeId, NodeId)]) {
        for (from, to) in cuts {
            self.cluster.network().mend(Site::Node(*from), Site::Node(*to));
        }
    }

    fn pick(&self, target: Target) -> NodeId {
        match target {
            Target::Node(id) => id,
            Target::LeaderOr(id) => self.cluster.leader().unwrap_or(id),
        }
    }

    fn tell(&self, event: Event) {
        self.listener.event(self.cluster.now(), event);
    }
}

fn both_ways(one: NodeId, other: NodeId) -> [(NodeId, NodeId); 2] {
    [(one, other), (other, one)]
}

/// Nothing gets from `group` to the others, or back.
fn between(
    group: &[NodeId],
    all: &[NodeId],
    is_cut: impl Fn(NodeId) -> bool,
) -> Vec<(NodeId, NodeId)> {
    let rest: Vec<NodeId> =
        all.iter().copied().filter(|id| !group.contains(id) && is_cut(*id)).collect();
    let pairs = group.iter().flat_map(|one| rest.iter().map(|other| (*one, *other)));
    pairs.flat_map(|(one, other)| both_ways(one, other)).collect()
}
