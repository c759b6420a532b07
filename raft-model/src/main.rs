//! Exhausts the states within named bounds.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use raft_model::{Bounds, Claim, Cluster, Fault};
use stateright::report::{ReportData, ReportDiscovery, Reporter};
use stateright::{Checker, HasDiscoveries, Model};

/// Checks the real nodes of raft-core in every order of events within bounds: each message is lost, repeated and
/// overtaken, each node times out, crashes and starts again at every moment, as often as the bounds allow.
///
/// The states are counted until there is no new one. What is violated is shown with the events that lead to it.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
struct Arguments {
    /// How far to go (--list names them)
    #[arg(long, value_name = "NAME", default_value = Bounds::SMALL.name)]
    bounds: String,

    /// List the bounds, and end
    #[arg(long)]
    list: bool,

    /// Plant an error, to see that it is found: vote, entries, configuration or old-terms
    #[arg(long, value_name = "ERROR")]
    plant: Option<String>,

    /// Threads; as many as there are cores unless it is said
    #[arg(long, value_name = "N")]
    threads: Option<usize>,

    /// Look at short stories first: it needs more memory, and shows the shortest violation
    #[arg(long)]
    shortest: bool,

    /// Change the bounds: the last term
    #[arg(long, value_name = "N")]
    term_max: Option<u64>,

    /// Change the bounds: commands
    #[arg(long, value_name = "N")]
    proposals: Option<u8>,

    /// Change the bounds: crashes
    #[arg(long, value_name = "N")]
    crashes: Option<u8>,

    /// Change the bounds: rounds of heartbeats
    #[arg(long, value_name = "N")]
    heartbeats: Option<u8>,

    /// Change the bounds: entries in one message
    #[arg(long, value_name = "N")]
    message_entries_max: Option<usize>,

    /// Change the bounds: with pre-votes
    #[arg(long, value_name = "BOOL")]
    pre_vote: Option<bool>,

    /// Change the bounds: with CheckQuorum
    #[arg(long, value_name = "BOOL")]
    check_quorum: Option<bool>,

    /// Change the bounds: whether a refusal is a message like any other
    #[arg(long, value_name = "BOOL")]
    refusals: Option<bool>,

    /// Change the bounds: whether writes take their time
    #[arg(long, value_name = "BOOL")]
    slow_disks: Option<bool>,
}

const EXAMPLES: &str = "\
Examples:
  --list                                what there is
  --bounds small                        some seconds
  --bounds small --plant vote           a disk that forgets a vote: two leaders in a term
  --bounds small --crashes 0 --term-max 3

Exit codes: 0 all states were seen and nothing was violated, 1 something was, 2 it could not be run.";

const VIOLATED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for bounds in Bounds::ALL {
            println!("{:12} {}", bounds.name, bounds.about);
        }
        return ExitCode::SUCCESS;
    }
    match arguments.cluster() {
        Ok(cluster) => check(cluster, &arguments),
        Err(problem) => {
            eprintln!("raft-model: {problem}");
            ExitCode::from(USAGE)
        }
    }
}

impl Arguments {
    fn cluster(&self) -> Result<Cluster, String> {
        let Some(named) = Bounds::named(&self.bounds) else {
            return Err(format!("there are no bounds {:?}: --list names them", self.bounds));
        };
        let fault = match self.plant.as_deref() {
            None => None,
            Some(name) => Some(fault(name)?),
        };
        let mut bounds = named.clone();
        bounds.term_max = self.term_max.unwrap_or(bounds.term_max);
        bounds.proposals = self.proposals.unwrap_or(bounds.proposals);
        bounds.crashes = self.crashes.unwrap_or(bounds.crashes);
        bounds.heartbeats = self.heartbeats.unwrap_or(bounds.heartbeats);
        bounds.message_entries_max = self.message_entries_max.unwrap_or(bounds.message_entries_max);
        bounds.pre_vote = self.pre_vote.unwrap_or(bounds.pre_vote);
        bounds.check_quorum = self.check_quorum.unwrap_or(bounds.check_quorum);
        bounds.slow_disks = self.slow_disks.unwrap_or(bounds.slow_disks);
        bounds.refusals = self.refusals.unwrap_or(bounds.refusals);
        Ok(Cluster { bounds, fault })
    }
}

fn fault(name: &str) -> Result<Fault, String> {
    match name {
        "vote" => Ok(Fault::ForgetsVote),
        "entries" => Ok(Fault::ForgetsEntries),
        "configuration" => Ok(Fault::ForgetsConfiguration),
        "old-terms" => Ok(Fault::CountsOldTerms),
        other => Err(format!(
            "no error {other:?} can be planted: vote, entries, configuration or old-terms"
        )),
    }
}

fn check(cluster: Cluster, arguments: &Arguments) -> ExitCode {
    let name = cluster.bounds.name;
    let began = Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = cluster.checker().threads(arguments.threads.unwrap_or(cores));
    let checker = checker.finish_when(HasDiscoveries::AnyFailures);
    match arguments.shortest {
        true => report(name, began, checker.spawn_bfs()),
        false => report(name, began, checker.spawn_dfs()),
    }
}

fn report(name: &str, began: Instant, checker: impl Checker<Cluster> + Send + Sync) -> ExitCode {
    let checker = checker.join_and_report(&mut Progress { name, began, said: began });
    let violated = checker.discoveries();
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    let (depth, took) = (checker.max_depth(), began.elapsed().as_secs());
    for (claim, path) in &violated {
        println!("violated: {claim}");
        for (number, action) in path.clone().into_actions().iter().enumerate() {
            println!("  {:3}  {action:?}", number + 1);
        }
    }
    if violated.is_empty() {
        println!(
            "{name}: all {states} states were seen, by {steps} steps, {depth} deep, in {took} s"
        );
        println!("{name}: nothing was violated of {} claims", Claim::ALL.len());
        ExitCode::SUCCESS
    } else {
        println!("{name}: violated after {states} states, in {took} s");
        ExitCode::from(VIOLATED)
    }
}

/// A line now and then.
struct Progress<'a> {
    name: &'a str,
    began: Instant,
    said: Instant,
}

/// A line of progress comes this often.
const LINE_EACH: Duration = Duration::from_secs(5);

impl Reporter<Cluster> for Progress<'_> {
    fn report_checking(&mut self, data: ReportData) {
        if !data.done && self.said.elapsed() >= LINE_EACH {
            self.said = Instant::now();
            let (name, took) = (self.name, self.began.elapsed().as_secs());
            let (states, steps, depth) = (data.unique_states, data.total_states, data.max_depth);
            eprintln!("{name}: {states} states, {steps} steps, {depth} deep, {took} s");
        }
    }

    fn report_discoveries(
        &mut self,
        _: &Cluster,
        _: BTreeMap<&'static str, ReportDiscovery<Cluster>>,
    ) where
        raft_model::Action: Debug + PartialEq,
        raft_model::State: Debug + Hash + PartialEq,
    {
        // They are shown at the end.
    }

    fn delay(&self) -> Duration {
        // The end is not waited for for long.
        Duration::from_millis(100)
    }
}
