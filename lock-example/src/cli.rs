//! The command line: what can be said, and what is done about it.

mod text;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use kv_example::clerk::Clerk;
use kv_example::connect::{connect, within};
use kv_example::failure::Failure;
use raft_rsm::Cluster;
use raft_rsm::runtime::TokioRuntime;

use self::text::{AFTER_HELP, APPEND_HELP, DEMO_HELP, RUN_HELP};
use crate::demo;
use crate::fence::{AppendError, FencedFile, Token};
use crate::fenced::{FencedLock, NAME_BYTES_MAX, TTL_MAX, TTL_MIN};
use crate::hold;
use crate::run;

const ABOUT: &str = "Distributed locks on the replicated store of kv-example, with fencing tokens";

/// One request of a client ends after this, or after `--wait` if that is longer.
pub(crate) const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "lock-example", version, about = ABOUT, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run a command while a lock is held
    Run(RunArgs),
    /// Add a line to a file that refuses old tokens
    Append(AppendArgs),
    /// Show waiters, a holder that is killed, and one that is paused and comes back too late
    Demo(DemoArgs),
    /// Hold a lock, and add what comes on stdin to a fenced file: a holder for the demonstration and the tests
    #[command(hide = true)]
    Hold(HoldArgs),
}

/// Which lock, and for how long.
#[derive(Debug, Args)]
struct LockArgs {
    /// The nodes of the store and where they listen: ID=HOST:PORT,ID=HOST:PORT,...
    #[arg(long, value_name = "CLUSTER")]
    cluster: Cluster,
    /// Which lock
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: String,
    /// Pass the lock on when its holder has not been heard of for so long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = ttl)]
    ttl: Duration,
    /// Give up waiting for the lock after this; 0s: do not wait for others at all
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    wait: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
struct RunArgs {
    #[command(flatten)]
    lock: LockArgs,
    /// Kill the command when it has not ended so long after it was told to
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    grace: Duration,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(after_help = APPEND_HELP)]
struct AppendArgs {
    /// The fencing token [default: the environment's LOCK_TOKEN]
    #[arg(long, value_name = "N")]
    token: Option<Token>,
    /// The file; it is created if there is none
    file: PathBuf,
    /// The line
    text: String,
}

#[derive(Debug, Args)]
#[command(after_help = DEMO_HELP)]
struct DemoArgs {
    /// Print an object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct HoldArgs {
    #[command(flatten)]
    lock: LockArgs,
    /// The fenced file
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

/// Reads the command line, does what it says, and returns the exit code. What goes wrong is told on stderr.
pub async fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let outcome = match cli.action {
        Action::Run(args) => return run_command(args).await,
        Action::Append(args) => append(&args),
        Action::Demo(args) => demo::run(args.json).await,
        Action::Hold(args) => hold_lock(args).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

async fn run_command(args: RunArgs) -> ExitCode {
    let RunArgs { lock, grace, command } = args;
    let locks = match locks(&lock.cluster, lock.wait) {
        Ok(locks) => locks,
        Err(failure) => {
            eprintln!("error: {failure}");
            return ExitCode::from(run::TROUBLE);
        }
    };
    let LockArgs { name, ttl, wait, .. } = lock;
    run::run(&locks, run::Options { name, ttl, wait, grace, command }).await
}

fn append(args: &AppendArgs) -> Result<(), Failure> {
    let token = match args.token {
        Some(token) => token,
        None => token_of_environment()?,
    };
    FencedFile::new(&args.file).append(token, &args.text).map_err(|error| match error {
        AppendError::Stale(stale) => Failure::refused(format!("{stale}; nothing was written")),
        AppendError::NoToken { .. } | AppendError::TooLong { .. } => {
            Failure::environment(format!("{error}; nothing was written"))
        }
        AppendError::File { .. } => Failure::environment(error),
    })
}

fn token_of_environment() -> Result<Token, Failure> {
    let Ok(text) = std::env::var(run::TOKEN_VARIABLE) else {
        return Err(Failure::environment(format!(
            "no token: there is no {} in the environment, as there is under `lock-example run`; --token gives one",
            run::TOKEN_VARIABLE
        )));
    };
    text.parse().map_err(|problem| {
        Failure::environment(format!("{}={text:?}: {problem}", run::TOKEN_VARIABLE))
    })
}

async fn hold_lock(args: HoldArgs) -> Result<(), Failure> {
    let LockArgs { cluster, name, ttl, wait } = args.lock;
    hold::run(&locks(&cluster, wait)?, &name, ttl, wait, &FencedFile::new(&args.file)).await
}

/// The locks of a cluster, for whoever waits for them for `wait`.
pub(crate) fn locks(cluster: &Cluster, wait: Duration) -> Result<FencedLock, Failure> {
    let runtime = TokioRuntime::current().map_err(Failure::environment)?;
    let client = connect(cluster, within(wait.max(REQUEST_WITHIN)))?;
    Ok(FencedLock::new(Clerk::new(client), Arc::new(runtime)))
}

fn usage(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    if error.kind() == ErrorKind::ValueValidation {
        // What is wrong and what is expected, in one line whatever the value: the rest is advice that it does not need.
        let problem = text.split("\n\n").next().unwrap_or_default();
        let problem: String =
            problem.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        eprintln!("{problem}");
    } else {
        // A closed stdout is no reason for another exit code.
        let _ = error.print();
    }
    if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
}

fn name(text: &str) -> Result<String, String> {
    match (1..=NAME_BYTES_MAX).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected 1 to {NAME_BYTES_MAX} bytes")),
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text)?;
    match (TTL_MIN..=TTL_MAX).contains(&ttl) {
        true => Ok(ttl),
        false => Err(format!("expected {TTL_MIN:?} to {} h", TTL_MAX.as_secs() / 3600)),
    }
}

/// `10s`, `500ms`, `2m`, `1h`; a number alone is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    const SECONDS_MAX: f64 = 366.0 * 86_400.0;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("expected a time, such as 10s, 500ms or 2m".to_owned()),
    };
    match digits.parse::<f64>() {
        Ok(number) if (0.0..=SECONDS_MAX).contains(&(number * unit)) => {
            Ok(Duration::from_secs_f64(number * unit))
        }
        Ok(_) | Err(_) => Err("expected a time, such as 10s, 500ms or 2m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "-1s", "10 s", "10d", "NaN", "inf", "1e300h", "é"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_time_of_a_lease_has_limits() {
        assert!(ttl("0").is_err() && ttl("25h").is_err());
        assert_eq!(ttl("24h"), Ok(TTL_MAX));
    }

    #[test]
    fn what_follows_two_dashes_is_the_command_whatever_it_looks_like() {
        let line = "lock-example run --cluster 1=a:1 --name n -- sh -c --name";
        let Action::Run(args) = Cli::try_parse_from(line.split(' ')).unwrap().action else {
            panic!("{line}")
        };
        assert_eq!(args.command, ["sh", "-c", "--name"]);
    }
}
