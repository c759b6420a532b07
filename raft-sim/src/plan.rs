//! What a seed stands for: the cluster, its settings, its clients, and what goes wrong when.

use std::fmt;
use std::time::Duration;

use raft_rsm::raft_core::{Lease, NodeId};

use crate::cluster::NodeSetup;
use crate::disk::Operation;
use crate::event::Crash;
use crate::faults::{Beside, Change, Fault, Faults, FaultsError, Moment, Planned, Target};
use crate::network::{Conditions, Delay};
use crate::random::Random;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// No more nodes than this.
pub const NODES_MAX: usize = 9;

/// Beside the members there are so many nodes that can become some, if memberships are changed.
pub const SPARES: usize = 2;

/// Faults go on no longer than this: their list is drawn before the run.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What is drawn, and within which bounds; `None` leaves it to the seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// Members of the cluster when it starts.
    pub nodes: Option<usize>,
    /// Clients.
    pub clients: Option<usize>,
    /// Operations of all clients together, before the faults end.
    pub operations: Option<usize>,
    /// How long a client pauses between two operations, on average; unless it is said, so that they last as long as the faults.
    pub pause: Option<Duration>,
    /// How long the faults go on, in virtual time; the run is some seconds longer.
    pub duration: Duration,
    /// Which faults.
    pub faults: Faults,
    /// Of the faults that are drawn, only those with these numbers happen.
    pub keep: Option<Vec<usize>>,
    /// Whether settings are drawn: protocol switches, limits, sizes of files and snapshots. Otherwise they are those of
    /// [`NodeSetup::new`].
    pub draws_settings: bool,
}

impl Default for Bounds {
    /// 50 seconds with all faults, everything drawn.
    fn default() -> Bounds {
        Bounds {
            nodes: None,
            clients: None,
            operations: None,
            pause: None,
            duration: 50 * SECOND,
            faults: Faults::all(),
            keep: None,
            draws_settings: true,
        }
    }
}

/// A run that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Too few or too many nodes.
    #[error("a cluster of {0} nodes: there must be from 1 to {NODES_MAX}")]
    Nodes(usize),
    /// Nobody does anything.
    #[error("a workload with no clients: there must be at least one, or nothing is tested")]
    NoClients,
    /// Nothing is done.
    #[error("a workload with no operations: there must be at least one, or nothing is tested")]
    NoOperations,
    /// Too short or too long a run.
    #[error("faults for {0:?}: it must be more than nothing, and a day at most")]
    Duration(Duration),
    /// Nobody watches by this name.
    #[error("no checker is named {name:?}; there are: {}", crate::checkers::NAMES.join(", "))]
    Checker {
        /// What was said.
        name: String,
    },
    /// Nobody could survive the faults.
    #[error(transparent)]
    Faults(#[from] FaultsError),
}

/// What a seed stands for. The same plan gives the same run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seeds everything that is not planned.
    pub seed: u64,
    /// The nodes: the members first, then the spare ones.
    pub setups: Vec<NodeSetup>,
    /// How many clients there are.
    pub clients: usize,
    /// Operations of all clients together, before the faults end.
    pub operations: usize,
    /// How long a client pauses between two of them, on average.
    pub pause: Duration,
    /// How long the faults go on.
    pub duration: Duration,
    /// The network when nothing else is said.
    pub baseline: Conditions,
    /// What goes wrong, by time.
    pub faults: Vec<Planned>,
}

impl Plan {
    /// Draws a plan.
    ///
    /// # Errors
    /// Nobody could run it.
    pub fn draw(seed: u64, bounds: &Bounds) -> Result<Plan, PlanError> {
        bounds.faults.check()?;
        if bounds.duration.is_zero() || bounds.duration > DURATION_MAX {
            return Err(PlanError::Duration(bounds.duration));
        }
        let random = Random::new(seed);
        let mut shape = random.fork("shape");
        let drawn = *shape.choose(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 5, 5, 5, 6, 7, 7]);
        let nodes = bounds.nodes.unwrap_or(drawn);
        let drawn = *shape.choose(&[1, 2, 3, 4, 5, 5, 8, 15]);
        let clients = bounds.clients.unwrap_or(drawn);
        let drawn = 200 + shape.index(300);
        let operations = bounds.operations.unwrap_or(drawn);
        if !(1..=NODES_MAX).contains(&nodes) {
            return Err(PlanError::Nodes(nodes));
        }
        if clients == 0 {
            return Err(PlanError::NoClients);
        }
        if operations == 0 {
            return Err(PlanError::NoOperations);
        }
        let spares = if bounds.faults.membership { SPARES } else { 0 };
        let ids: Vec<NodeId> = (1..=(nodes + spares) as u64).map(NodeId).collect();
        let mut setups: Vec<NodeSetup> = ids.iter().map(|id| NodeSetup::new(*id)).collect();
        setups.iter_mut().skip(nodes).for_each(|setup| setup.is_spare = true);
        if bounds.draws_settings {
            draw_settings(&mut random.fork("settings"), &mut setups);
        }
        draw_clocks(&mut random.fork("clocks"), &mut setups, bounds.faults.clock_drift_ppm);
        if bounds.draws_settings {
            draw_sessions(&mut random.fork("sessions"), &mut setups);
            draw_names(&mut random.fork("names"), &mut setups);
            draw_lease(&mut random.fork("lease"), &mut setups, bounds.faults.clock_drift_ppm);
        }
        let baseline = match shape.index(6) {
            0 | 1 if bounds.faults.bad_network => Conditions::unreliable(),
            2 if bounds.faults.bad_network => with_long_tail(Conditions::reliable()),
            _ => Conditions::reliable(),
        };
        let mut faults = draw_faults(&mut random.fork("faults"), &ids, clients, bounds);
        if let Some(keep) = &bounds.keep {
            faults.retain(|planned| keep.contains(&planned.number));
        }
        let duration = bounds.duration;
        let share = u32::try_from(operations.div_ceil(clients)).unwrap_or(u32::MAX);
        let pause = bounds.pause.unwrap_or(duration / share);
        Ok(Plan { seed, setups, clients, operations, pause, duration, baseline, faults })
    }
}

impl Plan {
    /// How many members there are when it begins.
    #[must_use]
    pub fn members(&self) -> usize {
        self.setups.iter().filter(|setup| !setup.is_spare).count()
    }
}

/// So often that every run compares its replicas many times, and across restarts and snapshots.
const DIVERGENCE_CHECK_ENTRIES: u64 = 8;

/// Small sizes reach what large ones reach after days.
fn draw_settings(random: &mut Random, setups: &mut [NodeSetup]) {
    let election_timeout = MS * *random.choose(&[150, 300, 500, 600]);
    let heartbeats = *random.choose(&[3, 5, 10]);
    let (pre_vote, check_quorum) = (random.index(4), random.index(4));
    let segment_bytes = *random.choose(&[512, 4 * 1024, 64 * 1024, 1024 * 1024]);
    let preallocate_bytes = *random.choose(&[0, 512, 4096]);
    let snapshot_log_bytes = *random.choose(&[400, 1000, 8000, 64_000, 1024 * 1024]);
    let snapshot_chunk_bytes = *random.choose(&[64, 1000, 16 * 1024]);
    let request_timeout = SECOND * *random.choose(&[1, 2, 10]);
    let apply_time = Duration::ZERO..*random.choose(&[MS / 10, MS, 30 * MS]);
    // A disk that is stuck for longer makes a leader give up.
    let write_stall_max = *random.choose(&[election_timeout * 2, SECOND, 5 * SECOND]);
    let has_tiny_limits = random.chance(0.5);
    let limits = draw_limits(random);
    for setup in &mut *setups {
        let core = &mut setup.options.core;
        core.election_timeout = election_timeout;
        core.heartbeat_interval = election_timeout / heartbeats;
        core.write_stall_max = write_stall_max.max(election_timeout);
        // Two of four seeds have it on everywhere, one nowhere, one here and there.
        core.pre_vote = draw_switch(random, pre_vote);
        core.check_quorum = draw_switch(random, check_quorum);
        if has_tiny_limits {
            core.limits = limits.clone();
        }
        setup.apply_time = apply_time.clone();
        setup.segment_bytes = segment_bytes;
        setup.preallocate_bytes = preallocate_bytes;
        setup.options.snapshot_log_bytes = snapshot_log_bytes;
        setup.options.snapshot_chunk_bytes = snapshot_chunk_bytes;
        setup.options.request_timeout = request_timeout;
        setup.options.divergence_check_entries = DIVERGENCE_CHECK_ENTRIES;
    }
    // Last, so that everything before is what it was with the same seed.
    let snapshots_sending_max = *random.choose(&[1, 4]);
    let snapshot_bytes_per_second_max = *random.choose(&[None, None, Some(64 * 1024)]);
    let catch_up_max = SECOND * *random.choose(&[1, 3, 8]);
    for NodeSetup { options, .. } in setups {
        options.snapshots_sending_max = snapshots_sending_max;
        options.snapshot_bytes_per_second_max = snapshot_bytes_per_second_max;
        options.core.catch_up_max = catch_up_max;
    }
}

/// Sessions that end soon, and tables that are full soon, in half of the seeds. The nodes differ in some of them: what counts
/// is what a leader writes into the log.
fn draw_sessions(random: &mut Random, setups: &mut [NodeSetup]) {
    if random.chance(0.5) {
        return;
    }
    let idle_max = [300 * MS, SECOND, 3 * SECOND, 60 * SECOND];
    let sessions_max = [1, 3, 10, 1000];
    let bytes_max = [64, 300, 2000, 1024 * 1024];
    let alike =
        (*random.choose(&idle_max), *random.choose(&sessions_max), *random.choose(&bytes_max));
    let differ = random.chance(0.3);
    for NodeSetup { options, .. } in setups {
        let own =
            (*random.choose(&idle_max), *random.choose(&sessions_max), *random.choose(&bytes_max));
        (options.session_idle_max, options.sessions_max, options.session_bytes_max) =
            if differ { own } else { alike };
    }
}

/// The same for the names of commands.
fn draw_names(random: &mut Random, setups: &mut [NodeSetup]) {
    if random.chance(0.5) {
        return;
    }
    let own = |random: &mut Random| {
        let age_max = *random.choose(&[SECOND, 3 * SECOND, 60 * SECOND]);
        (age_max, *random.choose(&[1, 3, 10, 1000]), *random.choose(&[264, 500, 2000, 1024 * 1024]))
    };
    let alike = own(random);
    let differ = random.chance(0.3);
    for NodeSetup { options, .. } in setups {
        let drawn = own(random);
        (options.name_age_max, options.names_max, options.name_bytes_max) =
            if differ { drawn } else { alike };
    }
}

/// Half of the clusters have leases, with a bound that their clocks keep.
fn draw_lease(random: &mut Random, setups: &mut [NodeSetup], drift_ppm: u32) {
    let has_leases = random.chance(0.5);
    let clock_drift_ppm = drift_ppm.max(*random.choose(&[0, 1000, 50_000]));
    for core in setups.iter_mut().map(|setup| &mut setup.options.core).filter(|_| has_leases) {
        core.lease = Some(Lease { clock_drift_ppm });
        core.check_quorum = true;
    }
}

fn draw_switch(random: &mut Random, kind: usize) -> bool {
    let mixed = random.chance(0.5);
    match kind {
        0 | 1 => true,
        2 => false,
        _ => mixed,
    }
}

fn draw_limits(random: &mut Random) -> raft_rsm::raft_core::Limits {
    raft_rsm::raft_core::Limits {
        message_bytes_max: *random.choose(&[200, 1000, 8000]),
        message_entries_max: *random.choose(&[1, 3, 16]),
        inflight_messages_max: *random.choose(&[1, 2, 8]),
        inflight_bytes_max: *random.choose(&[400, 4000, 64_000]),
        uncommitted_bytes_max: *random.choose(&[1000, 8000, 64_000]),
        uncommitted_entries_max: *random.choose(&[4, 16, 256]),
        tail_bytes_max: *random.choose(&[1000, 8000, 64_000]),
        applying_bytes_max: *random.choose(&[200, 2000, 64_000]),
        applying_entries_max: *random.choose(&[1, 8, 256]),
        kept_entries_max: *random.choose(&[0, 2, 50]),
        kept_bytes_max: *random.choose(&[0, 500, 8000]),
        write_bytes_max: *random.choose(&[200, 2000, 64_000]),
        ..raft_rsm::raft_core::Limits::default()
    }
}

fn draw_clocks(random: &mut Random, setups: &mut [NodeSetup], drift_ppm: u32) {
    for setup in setups {
        let bound = i64::from(drift_ppm);
        let drawn = random.within(0..u64::from(drift_ppm) * 2 + 1);
        let drift = i64::try_from(drawn).unwrap_or(bound) - bound;
        setup.clock.drift_ppm = i32::try_from(drift).unwrap_or(0);
        setup.clock.origin = random.duration(&(Duration::ZERO..1000 * SECOND));
    }
}

/// Draws what goes wrong: faults of a few kinds, so that seeds differ in more than their numbers.
fn draw_faults(
    random: &mut Random,
    ids: &[NodeId],
    clients: usize,
    bounds: &Bounds,
) -> Vec<Planned> {
    let kinds: Vec<Kind> = Kind::of(&bounds.faults, ids.len());
    if kinds.is_empty() {
        return Vec::new();
    }
    let mut shuffled = kinds;
    random.shuffle(&mut shuffled);
    let few = 1 + random.index(shuffled.len());
    shuffled.truncate(few);
    let gap = MS * *random.choose(&[300, 1000, 2000, 5000]);
    let mut planned = Vec::new();
    let mut at = SECOND;
    while at < bounds.duration {
        let kind = *random.choose(&shuffled);
        let lasts = random.duration(&(10 * MS..(gap * 2).max(500 * MS)));
        let (number, fault) = (planned.len(), kind.draw(random, ids, clients));
        planned.push(Planned { number, at, lasts, fault });
        at += random.duration(&(MS..gap * 2));
    }
    planned
}

/// The kinds of faults, as they are drawn.
#[derive(Copy, Clone, Debug)]
enum Kind {
    Kill,
    PowerLoss,
    KillAll,
    PowerLossAll,
    RollingRestart,
    Pause,
    Split,
    Isolate,
    OneWay,
    Bridge,
    Flap,
    Close,
    Network,
    SlowDisk,
    StuckDisk,
    FailingDisk,
    FullDisk,
    WipedDisk,
    Membership,
    Transfer,
}

impl Kind {
    fn of(faults: &Faults, nodes: usize) -> Vec<Kind> {
        let mut kinds = Vec::new();
        let mut add = |is_on: bool, more: &[Kind]| {
            if is_on {
                kinds.extend_from_slice(more);
            }
        };
        add(faults.kills, &[Kind::Kill, Kind::KillAll, Kind::RollingRestart]);
        add(faults.power_losses, &[Kind::PowerLoss, Kind::PowerLossAll]);
        add(faults.pauses, &[Kind::Pause]);
        add(faults.slow_disks, &[Kind::SlowDisk, Kind::StuckDisk]);
        add(faults.failing_disks, &[Kind::FailingDisk, Kind::FullDisk]);
        add(faults.bad_network, &[Kind::Network]);
        add(faults.membership, &[Kind::Membership]);
        add(faults.transfers, &[Kind::Transfer]);
        if nodes > 1 {
            add(faults.partitions, &[Kind::Split, Kind::Isolate, Kind::OneWay, Kind::Flap]);
            add(faults.partitions && nodes > 2, &[Kind::Bridge]);
            add(faults.wiped_disks && nodes > 2, &[Kind::WipedDisk]);
            add(faults.closed_connections, &[Kind::Close]);
        }
        kinds
    }

    /// Draws the same number of times whatever the size of the cluster.
    fn draw(self, random: &mut Random, ids: &[NodeId], clients: usize) -> Fault {
        let place = random.index(ids.len());
        let id = ids[place];
        let node = if random.chance(0.5) { Target::LeaderOr(id) } else { Target::Node(id) };
        // Another one, if there is one.
        let further = 1 + random.index(ids.len().saturating_sub(1));
        let other = ids[(place + further) % ids.len()];
        let mask = random.next();
        let without_clients = random.next();
        let few = u32::try_from(random.index(60)).unwrap_or(0);
        let within = Moment::WithinWrites(few / 5);
        match self {
            Kind::Kill => {
                let moment = *random.choose(&[Moment::Now, Moment::AfterSteps(few), within]);
                Fault::Crash { node, crash: Crash::Killed, moment }
            }
            Kind::PowerLoss => {
                let moment = *random.choose(&[Moment::Now, within, within]);
                Fault::Crash { node, crash: Crash::PowerLost, moment }
            }
            Kind::KillAll => {
                let moment = *random.choose(&[Moment::Now, within]);
                Fault::CrashAll { crash: Crash::Killed, moment }
            }
            Kind::PowerLossAll => Fault::CrashAll { crash: Crash::PowerLost, moment: within },
            Kind::RollingRestart => Fault::RollingRestart,
            Kind::Pause => Fault::Pause { node },
            Kind::Split => Fault::Split {
                group: group_of(ids, mask),
                clients: clients_of(clients, without_clients),
            },
            Kind::Isolate => Fault::Isolate { node },
            Kind::OneWay => Fault::OneWay { from: node, to: other },
            Kind::Bridge => {
                let rest: Vec<NodeId> = ids.iter().copied().filter(|id| *id != other).collect();
                Fault::Bridge { node: other, group: group_of(&rest, mask) }
            }
            Kind::Flap => {
                Fault::Flap { one: node, other, each: MS * *random.choose(&[20, 200, 700]) }
            }
            Kind::Close => Fault::Close { one: node, other },
            Kind::Network => Fault::Network { conditions: Box::new(draw_conditions(random)) },
            Kind::SlowDisk => Fault::SlowDisk { node, factor: *random.choose(&[5, 50, 300]) },
            Kind::StuckDisk => Fault::StuckDisk { node },
            Kind::FailingDisk => {
                let operation =
                    *random.choose(&[Operation::Write, Operation::Sync, Operation::Rename]);
                Fault::FailingDisk { node, operation }
            }
            Kind::FullDisk => Fault::FullDisk { node },
            Kind::WipedDisk => Fault::WipedDisk { node },
            Kind::Membership => draw_change(random, mask),
            Kind::Transfer => {
                let to = random.chance(0.5).then_some(other);
                Fault::Transfer { to }
            }
        }
    }
}

fn draw_change(random: &mut Random, pick: u64) -> Fault {
    let change = *random.choose(&[
        Change::AddLearner,
        Change::AddVoter,
        Change::AddVoter,
        Change::RemoveVoter,
        Change::RemoveLearner,
        Change::Demote,
        Change::Promote,
        Change::Replace,
        Change::Move,
        Change::Any,
        Change::Any,
        Change::Any,
    ]);
    let after = random.duration(&(Duration::ZERO..50 * MS));
    let beside = *random.choose(&[
        Beside::Nothing,
        Beside::Nothing,
        Beside::Nothing,
        Beside::AnotherOne,
        Beside::Kill(after),
        Beside::Kill(after / 10),
    ]);
    Fault::Membership { change, pick, beside }
}

/// The ids whose bit is set; but some of them, and not all, if there are several.
fn group_of(ids: &[NodeId], mask: u64) -> Vec<NodeId> {
    let mut group: Vec<NodeId> =
        ids.iter().copied().filter(|id| mask >> (id.0 % 64) & 1 == 1).collect();
    if group.is_empty() {
        group.extend(ids.first());
    } else if group.len() == ids.len() && ids.len() > 1 {
        group.pop();
    }
    group
}

/// The clients whose bit is set, half of the time; otherwise none.
fn clients_of(clients: usize, mask: u64) -> Vec<u64> {
    let is_any = mask >> 63 == 1;
    (0..clients as u64).filter(|client| is_any && mask >> (client % 63) & 1 == 1).collect()
}

fn with_long_tail(mut conditions: Conditions) -> Conditions {
    let latency = Delay::LongTail { usual: 5 * MS, longest: 2 * SECOND };
    conditions.requests.latency = latency.clone();
    conditions.responses.latency = latency;
    conditions
}

fn draw_conditions(random: &mut Random) -> Conditions {
    let mut conditions = match random.index(4) {
        0 => Conditions::unreliable().with_long_reordering(),
        1 => with_long_tail(Conditions::unreliable()),
        _ => Conditions::unreliable(),
    };
    conditions.requests.loss = *random.choose(&[0.0, 0.1, 0.3, 0.6]);
    conditions.responses.loss = *random.choose(&[0.0, 0.1, 0.3, 0.6]);
    conditions.duplicate = *random.choose(&[0.0, 0.05, 0.3]);
    conditions.bandwidth_bytes_per_second = *random.choose(&[None, None, Some(20_000)]);
    conditions
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { seed, setups, clients, operations, pause: _, duration, baseline, faults } = self;
        writeln!(
            f,
            "seed {seed}: {} nodes and {} spare ones, {clients} clients, {operations} operations, \
             faults for {duration:?}",
            self.members(),
            setups.len() - self.members()
        )?;
        if let Some(setup) = setups.first() {
            writeln!(f, "node 1: {:?}", setup.options)?;
        }
        writeln!(f, "network: {baseline:?}")?;
        for planned in faults {
            writeln!(f, "{planned}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(nodes: usize, faults: Faults) -> Vec<Fault> {
        let bounds = Bounds { nodes: Some(nodes), faults, ..Bounds::default() };
        let plans = (0..100).map(|seed| Plan::draw(seed, &bounds).unwrap());
        plans.flat_map(|plan| plan.faults.into_iter().map(|planned| planned.fault)).collect()
    }

    #[test]
    fn groups_are_neither_empty_nor_everybody_and_links_have_two_ends() {
        for nodes in 2..=5 {
            for fault in faults(nodes, Faults::all()) {
                let all = nodes + SPARES;
                if let Fault::Split { group, .. } = &fault {
                    assert!((1..all).contains(&group.len()));
                }
                if let Fault::Bridge { node, group } = &fault {
                    assert!((1..all - 1).contains(&group.len()) && !group.contains(node));
                }
                if let Fault::OneWay { from: one, to: other }
                | Fault::Close { one, other }
                | Fault::Flap { one, other, .. } = fault
                {
                    let (Target::Node(one) | Target::LeaderOr(one)) = one;
                    assert_ne!(one, other);
                }
            }
        }
    }

    #[test]
    fn kills_and_power_losses_are_drawn_each_without_the_other() {
        let is_crash = |fault: &Fault, wanted: Crash| {
            if let Fault::Crash { crash, .. } | Fault::CrashAll { crash, .. } = fault {
                return *crash == wanted;
            }
            *fault == Fault::RollingRestart && wanted == Crash::Killed
        };
        for (chosen, crash) in [
            (Faults { kills: true, ..Faults::none() }, Crash::Killed),
            (Faults { power_losses: true, ..Faults::none() }, Crash::PowerLost),
        ] {
            let drawn = faults(3, chosen);
            assert!(drawn.iter().all(|fault| is_crash(fault, crash)), "{drawn:?}");
            assert!(drawn.iter().any(|fault| matches!(fault, Fault::CrashAll { .. })));
            let is_within = |moment: &Moment| matches!(moment, Moment::WithinWrites(_));
            assert!(
                drawn
                    .iter()
                    .any(|fault| matches!(fault, Fault::Crash { moment, .. } if is_within(moment)))
            );
        }
    }

    #[test]
    fn a_smaller_cluster_meets_the_same_faults_at_the_same_times() {
        let draw = |nodes, clients| {
            let bounds = Bounds { nodes: Some(nodes), clients: Some(clients), ..Bounds::default() };
            let faults = Plan::draw(7, &bounds).unwrap().faults;
            let times = faults.iter().map(|planned| (planned.at, planned.fault.kind()));
            times.collect::<Vec<_>>()
        };
        assert_eq!(draw(7, 9), draw(3, 1));
    }
}
