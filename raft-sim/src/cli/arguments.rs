//! What can be said on the command line.

use std::ops::Range;
use std::time::Duration;

use clap::Parser;

use crate::faults::{Faults, KINDS};
use crate::plan::Bounds;

/// Simulates whole clusters in virtual time: real nodes on a simulated network and simulated disks, with everything
/// going wrong that the seed says, and checks that nothing is lost, no answer is wrong and nobody waits for ever.
///
/// The same seed gives the same run, on every machine. A seed that fails prints the one command that replays it.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run this seed, and say what happened
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    seed: Option<u64>,

    /// Run all seeds of a range, FROM..TO without TO, and sum up what happened
    #[arg(long, value_name = "FROM..TO", allow_hyphen_values = true)]
    seeds: Option<String>,

    /// Tell the run as a story, a line an event: time, who, what (with --seed)
    #[arg(long, conflicts_with_all = ["seeds", "json"])]
    pub(super) trace: bool,

    /// Look for a smaller run that fails in the same way: fewer faults, nodes, operations
    #[arg(long, conflicts_with = "json")]
    pub(super) shrink: bool,

    /// Threads; as many as there are cores unless it is said (with --seeds)
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,

    /// Print what happened as JSON
    #[arg(long)]
    pub(super) json: bool,

    /// Nodes in the cluster; drawn from 1 to 7 unless it is said
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,

    /// Clients; drawn unless it is said
    #[arg(long, value_name = "N")]
    clients: Option<usize>,

    /// Operations of all clients together; drawn unless it is said
    #[arg(long, value_name = "N")]
    operations: Option<usize>,

    /// How long a client pauses between two operations, on average, in seconds; as long as they have to last unless it is
    /// said (as --shrink says)
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pause: Option<f64>,

    /// How long things go wrong, in seconds of virtual time; the run is some seconds longer
    #[arg(long, value_name = "SECONDS", default_value_t = 50.0, allow_negative_numbers = true)]
    seconds: f64,

    /// What may go wrong: kinds of faults, separated by commas, or all, or none
    #[arg(long, value_name = "KINDS", default_value = "all", long_help = faults_help())]
    faults: String,

    /// Of the faults that the seed draws, let only those with these numbers happen (as --shrink says)
    #[arg(long, value_name = "NUMBERS")]
    keep: Option<String>,

    /// Leave the nodes' settings as they are by default, instead of drawing them
    #[arg(long)]
    default_settings: bool,
}

const EXAMPLES: &str = "\
Examples:
  --seeds 0..1000                   a thousand clusters
  --seed 42 --trace                 one of them, as a story
  --seed 42 --shrink                a smaller run that fails in the same way
  --seeds 0..1000 --faults kills,partitions --nodes 3

Exit codes: 0 nothing was violated, 1 something was, 2 it could not be run.";

fn faults_help() -> String {
    format!(
        "What may go wrong: kinds of faults, separated by commas, or all, or none. The kinds: {}",
        KINDS.join(", ")
    )
}

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    One(u64),
    Many(Range<u64>),
}

impl Arguments {
    pub(super) fn what(&self) -> Result<What, String> {
        match (self.seed, &self.seeds) {
            (Some(seed), _) => Ok(What::One(seed)),
            (None, Some(range)) => parse_range(range).map(What::Many),
            (None, None) => {
                Err("say which seed to run, or which ones: --seed 42, or --seeds 0..1000"
                    .to_owned())
            }
        }
    }

    pub(super) fn jobs(&self) -> Result<usize, String> {
        match self.jobs {
            Some(0) => Err("--jobs 0: there must be at least one thread".to_owned()),
            Some(jobs) => Ok(jobs),
            None => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
        }
    }

    pub(super) fn bounds(&self) -> Result<Bounds, String> {
        let duration = Duration::try_from_secs_f64(self.seconds)
            .ok()
            .filter(|duration| !duration.is_zero())
            .ok_or_else(|| format!("--seconds {}: it must be more than 0", self.seconds))?;
        let pause = |seconds| {
            Duration::try_from_secs_f64(seconds)
                .map_err(|_| format!("--pause {seconds}: it must be 0 or more"))
        };
        let faults = Faults::parse(&self.faults).map_err(|error| error.to_string())?;
        Ok(Bounds {
            nodes: self.nodes,
            clients: self.clients,
            operations: self.operations,
            pause: self.pause.map(pause).transpose()?,
            duration,
            faults,
            keep: self.keep.as_deref().map(parse_numbers).transpose()?,
            draws_settings: !self.default_settings,
        })
    }
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let problem = || format!("--seeds {text}: expected FROM..TO, as in 0..1000");
    let (from, to) = text.split_once("..").ok_or_else(problem)?;
    let parse = |number: &str| number.trim().parse::<u64>().map_err(|_| problem());
    let (from, to) = (parse(from)?, parse(to)?);
    if from >= to {
        return Err(format!("--seeds {text}: there is no seed in it"));
    }
    Ok(from..to)
}

fn parse_numbers(text: &str) -> Result<Vec<usize>, String> {
    let parse = |number: &str| {
        number.trim().parse().map_err(|_| format!("--keep {text}: {number:?} is no number"))
    };
    text.split(',').filter(|number| !number.trim().is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_makes_no_sense_is_told_with_what_is_expected() {
        assert_eq!(parse_range("0..10"), Ok(0..10));
        for bad in ["", "5", "a..b", "1..", "..9", "-1..5"] {
            let problem = parse_range(bad).unwrap_err();
            assert!(problem.contains("FROM..TO"), "{problem}");
        }
        assert!(parse_range("7..7").unwrap_err().contains("no seed"));
    }

    #[test]
    fn one_seed_or_a_range_must_be_given() {
        let parse = |arguments: &[&str]| Arguments::try_parse_from(["sim"].iter().chain(arguments));
        assert!(parse(&[]).unwrap().what().is_err());
        assert_eq!(parse(&["--seed", "7"]).unwrap().what(), Ok(What::One(7)));
        assert_eq!(parse(&["--seeds", "0..3"]).unwrap().what(), Ok(What::Many(0..3)));
        assert!(parse(&["--seed", "7", "--seeds", "0..3"]).is_err());
        let bounds = parse(&["--seed", "7", "--keep", "1,4", "--nodes", "3"]).unwrap().bounds();
        let bounds = bounds.unwrap();
        assert_eq!((bounds.keep, bounds.nodes), (Some(vec![1, 4]), Some(3)));
        assert!(parse(&["--seed", "7", "--seconds", "0"]).unwrap().bounds().is_err());
        assert!(parse(&["--seed", "7", "--faults", "rain"]).unwrap().bounds().is_err());
    }

    #[test]
    fn the_command_that_replays_a_seed_leads_to_the_same_bounds() {
        let small = Bounds {
            nodes: Some(3),
            clients: Some(1),
            operations: Some(7),
            pause: Some(Duration::from_nanos(123_456_789)),
            duration: Duration::from_millis(3217),
            faults: Faults::parse("kills,clock-drift").unwrap(),
            keep: Some(vec![2, 5]),
            draws_settings: false,
        };
        let faultless = Bounds { keep: Some(Vec::new()), ..Bounds::default() };
        for bounds in [Bounds::default(), small, faultless] {
            let command = crate::cli::replay("sim", 42, &bounds);
            let words = command.split(' ').map(|word| word.trim_matches('"'));
            let arguments = Arguments::try_parse_from(words).unwrap();
            assert_eq!(arguments.what(), Ok(What::One(42)), "{command}");
            assert_eq!(arguments.bounds(), Ok(bounds), "{command}");
        }
    }
}
