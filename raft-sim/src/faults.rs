//! What can go wrong, and what a plan may let go wrong.

use std::fmt;
use std::time::Duration;

use raft_rsm::raft_core::NodeId;

use crate::disk::Operation;
use crate::event::Crash;
use crate::network::Conditions;

/// Clocks may differ from true time by at most this many millionths: far more than a quartz does.
pub const CLOCK_DRIFT_PPM_MAX: u32 = 50_000;

/// The kinds of faults that are drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// Processes are killed and started again, one by one or all at once, in the middle of whatever they do.
    pub kills: bool,
    /// Machines lose power: what was not synced is lost, torn, or there.
    pub power_losses: bool,
    /// Processes stand still for a while, and wake with old ideas about time.
    pub pauses: bool,
    /// The network falls apart: into two, one node alone, one way only, with one node between two halves; links that
    /// come and go.
    pub partitions: bool,
    /// Packets, requests and answers are lost, late, repeated and overtaken; links are slow.
    pub bad_network: bool,
    /// Connections are closed.
    pub closed_connections: bool,
    /// Disks are slow or stuck for a while.
    pub slow_disks: bool,
    /// Writes and syncs fail, disks are full: the node stops, and is started again later.
    pub failing_disks: bool,
    /// Clocks run faster or slower than true time, by up to so many millionths.
    pub clock_drift_ppm: u32,
    /// Bits flip on disks. The crate finds them out and does not start such a node; it cannot cure it yet.
    pub bit_rot: bool,
    /// Nodes lose their disks, come back as other incarnations, and are made members again; one at a time.
    pub wiped_disks: bool,
    /// Members are added, removed, replaced, promoted, demoted and moved, one by one and several at once; there are spare
    /// nodes.
    pub membership: bool,
    /// Leaders are asked to hand the lead over.
    pub transfers: bool,
}

/// The names by which a command line knows the kinds.
pub const KINDS: [&str; 12] = [
    "kills",
    "power-losses",
    "pauses",
    "partitions",
    "bad-network",
    "closed-connections",
    "slow-disks",
    "failing-disks",
    "clock-drift",
    "wiped-disks",
    "membership",
    "transfers",
];

/// Faults that nobody could survive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultsError {
    /// No such kind.
    #[error("there is no kind of fault named {name:?}; there are: {}, all, none", KINDS.join(", "))]
    Unknown {
        /// What was said.
        name: String,
    },
    /// Bits flip, and nothing can cure them.
    #[error(
        "bit_rot: a node whose disk is damaged stops for good, so a run would end without a majority"
    )]
    BitRot,
    /// Clocks that differ too much.
    #[error("clocks that drift by {ppm} millionths: the bound is {CLOCK_DRIFT_PPM_MAX}")]
    ClockDrift {
        /// By how much.
        ppm: u32,
    },
}

impl Faults {
    /// None.
    #[must_use]
    pub fn none() -> Faults {
        Faults {
            kills: false,
            power_losses: false,
            pauses: false,
            partitions: false,
            bad_network: false,
            closed_connections: false,
            slow_disks: false,
            failing_disks: false,
            clock_drift_ppm: 0,
            bit_rot: false,
            wiped_disks: false,
            membership: false,
            transfers: false,
        }
    }

    /// All that the crate claims to survive.
    #[must_use]
    pub fn all() -> Faults {
        Faults {
            kills: true,
            power_losses: true,
            pauses: true,
            partitions: true,
            bad_network: true,
            closed_connections: true,
            slow_disks: true,
            failing_disks: true,
            clock_drift_ppm: 1000,
            bit_rot: false,
            wiped_disks: true,
            membership: true,
            transfers: true,
        }
    }

    /// The kinds that a comma-separated list names: see [`KINDS`], `all` and `none`.
    ///
    /// # Errors
    /// It names a kind that does not exist.
    pub fn parse(list: &str) -> Result<Faults, FaultsError> {
        let mut faults = Faults::none();
        for name in list.split(',').map(str::trim) {
            match name {
                "all" => faults = Faults::all(),
                "none" => faults = Faults::none(),
                "kills" => faults.kills = true,
                "power-losses" => faults.power_losses = true,
                "pauses" => faults.pauses = true,
                "partitions" => faults.partitions = true,
                "bad-network" => faults.bad_network = true,
                "closed-connections" => faults.closed_connections = true,
                "slow-disks" => faults.slow_disks = true,
                "failing-disks" => faults.failing_disks = true,
                "wiped-disks" => faults.wiped_disks = true,
                "membership" => faults.membership = true,
                "transfers" => faults.transfers = true,
                "clock-drift" => faults.clock_drift_ppm = Faults::all().clock_drift_ppm,
                unknown => return Err(FaultsError::Unknown { name: unknown.to_owned() }),
            }
        }
        Ok(faults)
    }

    /// The names of the kinds that are on: what [`Faults::parse`] takes.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let on = [
            self.kills,
            self.power_losses,
            self.pauses,
            self.partitions,
            self.bad_network,
            self.closed_connections,
            self.slow_disks,
            self.failing_disks,
            self.clock_drift_ppm > 0,
            self.wiped_disks,
            self.membership,
            self.transfers,
        ];
        let names: Vec<&str> =
            KINDS.into_iter().zip(on).filter(|(_, on)| *on).map(|(name, _)| name).collect();
        if names.is_empty() { vec!["none"] } else { names }
    }

    /// Whether the crate claims to survive them.
    ///
    /// # Errors
    /// Which of them it does not.
    pub fn check(&self) -> Result<(), FaultsError> {
        if self.bit_rot {
            return Err(FaultsError::BitRot);
        }
        if self.clock_drift_ppm > CLOCK_DRIFT_PPM_MAX {
            return Err(FaultsError::ClockDrift { ppm: self.clock_drift_ppm });
        }
        Ok(())
    }
}

/// Whom a fault hits.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This node.
    Node(NodeId),
    /// Whoever leads at that time, or else this node.
    LeaderOr(NodeId),
}

/// At which point of its work a node crashes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At once.
    Now,
    /// After so many of its own steps.
    AfterSteps(u32),
    /// In the middle of writing to its disk, after so many changes to it.
    WithinWrites(u32),
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A node crashes, and is started again at the end.
    Crash {
        /// Which one.
        node: Target,
        /// How.
        crash: Crash,
        /// When exactly.
        moment: Moment,
    },
    /// All nodes crash, and are started again at the end.
    CrashAll {
        /// How.
        crash: Crash,
        /// When exactly, each by itself.
        moment: Moment,
    },
    /// All nodes are shut down and started again, one after the other.
    RollingRestart,
    /// A node stands still.
    Pause {
        /// Which one.
        node: Target,
    },
    /// The nodes fall into two groups.
    Split {
        /// One of them.
        group: Vec<NodeId>,
        /// The clients that cannot reach it.
        clients: Vec<u64>,
    },
    /// A node is alone.
    Isolate {
        /// Which one.
        node: Target,
    },
    /// What one node sends to another does not arrive; the other way it does.
    OneWay {
        /// The one.
        from: Target,
        /// The other.
        to: NodeId,
    },
    /// Two groups reach each other only through one node.
    Bridge {
        /// The node in both.
        node: NodeId,
        /// One of the groups, without it.
        group: Vec<NodeId>,
    },
    /// The link between two nodes comes and goes.
    Flap {
        /// One end.
        one: Target,
        /// The other.
        other: NodeId,
        /// How long it stays each time.
        each: Duration,
    },
    /// The connection between two nodes is closed.
    Close {
        /// One end.
        one: Target,
        /// The other.
        other: NodeId,
    },
    /// The network is bad.
    Network {
        /// How bad.
        conditions: Box<Conditions>,
    },
    /// A disk is slow.
    SlowDisk {
        /// Whose.
        node: Target,
        /// By how much.
        factor: u32,
    },
    /// A disk does nothing.
    StuckDisk {
        /// Whose.
        node: Target,
    },
    /// The next operation of this kind fails.
    FailingDisk {
        /// Whose.
        node: Target,
        /// What fails.
        operation: Operation,
    },
    /// A disk is full.
    FullDisk {
        /// Whose.
        node: Target,
    },
    /// A node loses its disk, comes back as another incarnation, and is made again what it was.
    WipedDisk {
        /// Whose.
        node: Target,
    },
    /// Whoever leads is asked to change the members.
    Membership {
        /// How.
        change: Change,
        /// Draws whom it is about.
        pick: u64,
        /// What happens beside it.
        beside: Beside,
    },
    /// Whoever leads is asked to hand the lead over.
    Transfer {
        /// To whom; `None`: to the voter that is best prepared.
        to: Option<NodeId>,
    },
}

/// How the members are to change.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node becomes a learner.
    AddLearner,
    /// A node becomes a voter, by way of a learner.
    AddVoter,
    /// A voter leaves.
    RemoveVoter,
    /// A learner leaves.
    RemoveLearner,
    /// A voter becomes a learner.
    Demote,
    /// A learner becomes a voter.
    Promote,
    /// A node takes the place of a voter, in one change.
    Replace,
    /// A member has another address from now on.
    Move,
    /// Any members, at once.
    Any,
}

/// What happens beside a change of membership.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// It is asked for twice at once.
    AnotherOne,
    /// The leader is killed so long after it was asked.
    Kill(Duration),
}

/// A fault with its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its number among all that the seed draws.
    pub number: usize,
    /// When it begins.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What goes wrong.
    pub fault: Fault,
}

impl Fault {
    /// Its kind, as it is counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Crash { crash: Crash::Killed, .. } => "kill",
            Fault::Crash { crash: Crash::PowerLost, .. } => "power loss",
            Fault::CrashAll { crash: Crash::Killed, .. } => "kill of all",
            Fault::CrashAll { crash: Crash::PowerLost, .. } => "power loss of all",
            Fault::RollingRestart => "rolling restart",
            Fault::Pause { .. } => "pause",
            Fault::Split { .. } => "split",
            Fault::Isolate { .. } => "isolated node",
            Fault::OneWay { .. } => "one-way link",
            Fault::Bridge { .. } => "bridge",
            Fault::Flap { .. } => "flapping link",
            Fault::Close { .. } => "closed connection",
            Fault::Network { .. } => "bad network",
            Fault::SlowDisk { .. } => "slow disk",
            Fault::StuckDisk { .. } => "stuck disk",
            Fault::FailingDisk { .. } => "failing disk",
            Fault::FullDisk { .. } => "full disk",
            Fault::WipedDisk { .. } => "wiped disk",
            Fault::Membership { .. } => "membership change",
            Fault::Transfer { .. } => "transfer",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Node(id) => write!(f, "node {id}"),
            Target::LeaderOr(id) => write!(f, "the leader, or else node {id}"),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::Now => Ok(()),
            Moment::AfterSteps(steps) => write!(f, ", after {steps} steps"),
            Moment::WithinWrites(changes) => write!(f, ", after {changes} changes to the disk"),
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Planned { number, at, lasts, fault } = self;
        let (at, lasts) = (at.as_secs_f64(), lasts.as_secs_f64());
        write!(f, "fault {number} at {at:.3} s for {lasts:.3} s: {}: ", fault.kind())?;
        fault.fmt(f)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Crash { node, moment, .. } => write!(f, "{node}{moment}"),
            Fault::CrashAll { moment, .. } => write!(f, "all{moment}"),
            Fault::RollingRestart => f.write_str("one after the other"),
            Fault::Pause { node } | Fault::Isolate { node } => write!(f, "{node}"),
            Fault::Split { group, clients } => {
                write!(f, "{} from the others", list(group))?;
                if clients.is_empty() { Ok(()) } else { write!(f, " and clients {clients:?}") }
            }
            Fault::OneWay { from, to } => write!(f, "nothing from {from} to node {to}"),
            Fault::Bridge { node, group } => {
                write!(f, "{} from the others, but for node {node}", list(group))
            }
            Fault::Flap { one, other, each } => {
                write!(f, "between {one} and node {other}, each {each:?}")
            }
            Fault::Close { one, other } => write!(f, "between {one} and node {other}"),
            Fault::Network { conditions } => write!(f, "{conditions:?}"),
            Fault::SlowDisk { node, factor } => write!(f, "{node}, {factor} times slower"),
            Fault::StuckDisk { node } | Fault::FullDisk { node } | Fault::WipedDisk { node } => {
                write!(f, "{node}")
            }
            Fault::Membership { change, pick, beside } => {
                let what = match change {
                    Change::AddLearner => "a learner joins",
                    Change::AddVoter => "a voter joins",
                    Change::RemoveVoter => "a voter leaves",
                    Change::RemoveLearner => "a learner leaves",
                    Change::Demote => "a voter becomes a learner",
                    Change::Promote => "a learner becomes a voter",
                    Change::Replace => "a voter is replaced",
                    Change::Move => "a member moves",
                    Change::Any => "any members",
                };
                write!(f, "{what} ({:x})", pick & 0xffff)?;
                match beside {
                    Beside::Nothing => Ok(()),
                    Beside::AnotherOne => f.write_str(", asked for twice at once"),
                    Beside::Kill(after) => write!(f, ", and the leader is killed after {after:?}"),
                }
            }
            Fault::Transfer { to: Some(to) } => write!(f, "to node {to}"),
            Fault::Transfer { to: None } => f.write_str("to whoever is best prepared"),
            Fault::FailingDisk { node, operation } => write!(f, "{node}, {operation:?} fails"),
        }
    }
}

fn list(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    format!("nodes {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_kinds_and_an_unknown_one_is_told() {
        let faults = Faults::parse("kills, partitions").unwrap();
        assert!(faults.kills && faults.partitions && !faults.pauses);
        assert_eq!(Faults::parse("all"), Ok(Faults::all()));
        for kind in KINDS {
            assert_ne!(Faults::parse(kind), Ok(Faults::none()));
        }
        let error = Faults::parse("kills,meteor").unwrap_err();
        assert!(error.to_string().contains("\"meteor\"") && error.to_string().contains("pauses"));
    }

    #[test]
    fn what_the_crate_does_not_claim_to_survive_is_an_error() {
        assert_eq!(Faults::all().check(), Ok(()));
        let rotten = Faults { bit_rot: true, ..Faults::none() };
        assert_eq!(rotten.check(), Err(FaultsError::BitRot));
        let drift = Faults { clock_drift_ppm: 500_000, ..Faults::none() };
        assert_eq!(drift.check(), Err(FaultsError::ClockDrift { ppm: 500_000 }));
    }
}
