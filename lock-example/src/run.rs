//! `lock-example run`: a command under a lock.

mod child;

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use kv_example::failure::Failure;

use self::child::{Child, Signal, Signals};
use crate::fenced::{AcquireError, FencedLock, Guard};

/// The lock's name, in the environment of the command.
pub const NAME_VARIABLE: &str = "LOCK_NAME";

/// The fencing token, in the environment of the command.
pub const TOKEN_VARIABLE: &str = "LOCK_TOKEN";

/// Exit code: the lease was lost, and the command was stopped.
pub const LOST: u8 = 123;

/// Exit code: others held the lock all the while.
pub const TIMED_OUT: u8 = 124;

/// Exit code: the lock cannot be had.
pub const TROUBLE: u8 = 125;

/// What is run, and under which lock.
#[derive(Clone, Debug)]
pub struct Options {
    /// The lock's name.
    pub name: String,
    /// The time of its lease.
    pub ttl: Duration,
    /// How long to wait for it.
    pub wait: Duration,
    /// How long the command has to end when it is told to.
    pub grace: Duration,
    /// The command and its arguments; not empty.
    pub command: Vec<OsString>,
}

/// Waits for the lock, runs the command, and returns the exit code, as `lock-example run --help` says.
pub async fn run(locks: &FencedLock, options: Options) -> ExitCode {
    // Before anything has to be undone.
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return failed(TROUBLE, format!("cannot listen for signals: {error}")),
    };
    let acquiring = locks.acquire(&options.name, options.ttl, options.wait);
    let guard = tokio::select! {
        biased;
        acquired = acquiring => match acquired {
            Ok(guard) => guard,
            Err(error) => return not_held(&options, &error),
        },
        // The place in line was dropped with the future: there is a moment for it to be given up.
        signal = signals.next() => {
            tokio::time::sleep(LEAVE).await;
            return ExitCode::from(signal.exit_code());
        }
    };
    let code = under(&guard, &options, &mut signals).await;
    if let Err(error) = guard.release().await {
        let ttl = options.ttl;
        eprintln!("warning: the next holder may have to wait for {ttl:?}: {error}");
    }
    ExitCode::from(code)
}

/// How long whoever is told to end while waiting tries to leave the line: else those behind wait until its lease ends.
const LEAVE: Duration = Duration::from_millis(200);

/// Runs the command, and returns the exit code.
async fn under(guard: &Guard, options: &Options, signals: &mut Signals) -> u8 {
    let token = guard.token().to_string();
    let variables = [(NAME_VARIABLE, guard.name()), (TOKEN_VARIABLE, token.as_str())];
    let mut child = match Child::start(&options.command, &variables) {
        Ok(child) => child,
        Err(failure) => return told(failure.code, failure.problem),
    };
    let mut kill_at = None;
    let mut is_lost = false;
    loop {
        tokio::select! {
            biased;
            ended = child.ended() => return match (ended, is_lost) {
                (Ok(_), true) => LOST,
                (Ok(code), false) => code,
                (Err(error), _) => told(TROUBLE, format!("cannot wait for the command: {error}")),
            },
            () = guard.lost(), if !is_lost => {
                is_lost = true;
                let name = guard.name();
                told(LOST, format!("the lease of lock {name:?} is lost; the command is told to end"));
                child.send(Signal::Terminate);
                kill_at = tokio::time::Instant::now().checked_add(options.grace);
            }
            signal = signals.next() => child.send(signal),
            () = at(kill_at) => {
                kill_at = None;
                child.send(Signal::Kill);
            }
        }
    }
}

/// `None`: never.
async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn not_held(options: &Options, error: &AcquireError) -> ExitCode {
    let Options { name, wait, .. } = options;
    match error {
        AcquireError::TimedOut => failed(
            TIMED_OUT,
            format!("others held lock {name:?} for {wait:?}; --wait says how long to wait"),
        ),
        AcquireError::NoAnswer
        | AcquireError::Name { .. }
        | AcquireError::Ttl { .. }
        | AcquireError::TooMany
        | AcquireError::Client(_) => failed(TROUBLE, format!("lock {name:?}: {error}")),
    }
}

fn failed(code: u8, problem: impl fmt::Display) -> ExitCode {
    ExitCode::from(told(code, problem))
}

fn told(code: u8, problem: impl fmt::Display) -> u8 {
    // A failure is one line, whatever it tells of.
    eprintln!("error: {}", Failure::environment(problem));
    code
}
