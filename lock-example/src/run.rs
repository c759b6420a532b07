//! `lock-example run`: a command under a lock.

mod child;

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use kv_example::failure::Failure;
use tokio::time::Instant;

use self::child::{Child, Signal, Signals};
use crate::cli::REQUEST_WITHIN;
use crate::fenced::{AcquireError, FencedLock, Guard};

/// The lock's name, in the environment of the command.
pub const NAME_VARIABLE: &str = "LOCK_NAME";

/// The fencing token, in the environment of the command.
pub const TOKEN_VARIABLE: &str = "LOCK_TOKEN";

/// Exit code: the lease was lost before the command was seen to end, and it was stopped if it still ran.
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
    /// How long to wait for it; zero: only if nobody holds it or waits for it.
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
    let guard = tokio::select! {
        biased;
        acquired = acquire(locks, &options) => match acquired {
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
    if let Err(problem) = released(guard.release(), signals.next()).await {
        let ttl = options.ttl;
        eprintln!("warning: the next holder may have to wait for {ttl:?}: {problem}");
    }
    ExitCode::from(code)
}

/// Who does not want to wait for others has to wait for the store all the same.
async fn acquire(locks: &FencedLock, options: &Options) -> Result<Guard, AcquireError> {
    let Options { name, ttl, wait, .. } = options;
    match wait.is_zero() {
        true => {
            let guard = locks.try_acquire(name, *ttl, REQUEST_WITHIN).await?;
            guard.ok_or(AcquireError::TimedOut)
        }
        false => locks.acquire(name, *ttl, *wait).await,
    }
}

/// How long whoever is told to end tries to leave the line, or to pass the lock on: else those behind wait until its lease
/// ends.
const LEAVE: Duration = Duration::from_millis(200);

/// How long whoever waits for a command that has ended is kept waiting for its lock to be passed on. After that, the lease
/// ends by itself.
const RELEASE_MAX: Duration = Duration::from_secs(2);

/// What has been killed is gone by then. One that has ended, and for which whoever started it does not wait, never is.
const KILLED_MAX: Duration = Duration::from_secs(1);

/// Waits for `release`, though not for long, and only for a moment once there is a `signal`.
async fn released(
    release: impl Future<Output = Result<(), impl fmt::Display>>,
    signal: impl Future<Output = Signal>,
) -> Result<(), String> {
    let told = async {
        let _ = signal.await;
        // One that comes with the command's end, as a terminal's does, need not cost those behind the time of the lease.
        tokio::time::sleep(LEAVE).await;
    };
    let (mut release, mut told) = (pin!(release), pin!(told));
    tokio::select! {
        biased;
        released = &mut release => released.map_err(|error| error.to_string()),
        () = &mut told => Err("told to end before the store had answered".to_owned()),
        () = tokio::time::sleep(RELEASE_MAX) => Err(format!("no answer within {RELEASE_MAX:?}")),
    }
}

/// Runs the command, and returns the exit code.
async fn under(guard: &Guard, options: &Options, signals: &mut Signals) -> u8 {
    let token = guard.token().to_string();
    let variables = [(NAME_VARIABLE, guard.name()), (TOKEN_VARIABLE, token.as_str())];
    let mut child = match Child::start(&options.command, &variables) {
        Ok(child) => child,
        Err(failure) => return told(failure.code, failure.problem),
    };
    let mut ending = Ending { grace: options.grace, ..Ending::default() };
    let ended = loop {
        tokio::select! {
            biased;
            ended = child.ended() => break ended,
            event = event(guard, signals, &ending) => ending.meet(event, guard, &mut child),
        }
    };
    if !ending.is_lost && !guard.is_held() {
        ending.lose("was lost before the command was seen to end", guard, &mut child);
    }
    if ending.is_told {
        // A shell may be the first to end. The lock is kept for what it has started.
        ending.set_kill_at();
        while !ending.is_killed {
            tokio::select! {
                biased;
                () = child.gone() => break,
                event = event(guard, signals, &ending) => ending.meet(event, guard, &mut child),
            }
        }
    }
    if ending.is_killed {
        let _ = tokio::time::timeout(KILLED_MAX, child.gone()).await;
    }
    match (ended, ending.is_lost) {
        (Ok(_), true) => LOST,
        (Ok(code), false) => code,
        (Err(error), _) => told(TROUBLE, format!("cannot wait for the command: {error}")),
    }
}

/// What happens to a command that runs, apart from its end.
enum Event {
    Lost,
    Told(Signal),
    GraceIsOver,
}

async fn event(guard: &Guard, signals: &mut Signals, ending: &Ending) -> Event {
    tokio::select! {
        biased;
        () = guard.lost(), if !ending.is_lost => Event::Lost,
        signal = signals.next() => Event::Told(signal),
        () = at(ending.kill_at) => Event::GraceIsOver,
    }
}

/// How far a command has come on its way out.
#[derive(Default)]
struct Ending {
    grace: Duration,
    is_lost: bool,
    /// From then on, what it has started has to end with it.
    is_told: bool,
    kill_at: Option<Instant>,
    is_killed: bool,
}

impl Ending {
    fn meet(&mut self, event: Event, guard: &Guard, child: &mut Child) {
        match event {
            Event::Lost => {
                self.lose("is lost; the command is told to end", guard, child);
                self.set_kill_at();
            }
            Event::Told(signal) => self.is_told |= child.pass_on(signal),
            Event::GraceIsOver => {
                child.send(Signal::Kill);
                (self.kill_at, self.is_killed) = (None, true);
            }
        }
    }

    fn lose(&mut self, how: &str, guard: &Guard, child: &mut Child) {
        told(LOST, format!("the lease of lock {:?} {how}", guard.name()));
        child.send(Signal::Terminate);
        (self.is_lost, self.is_told) = (true, true);
    }

    fn set_kill_at(&mut self) {
        if self.kill_at.is_none() && !self.is_killed {
            self.kill_at = Instant::now().checked_add(self.grace);
        }
    }
}

/// `None`: never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn not_held(options: &Options, error: &AcquireError) -> ExitCode {
    let Options { name, wait, .. } = options;
    match error {
        AcquireError::TimedOut if wait.is_zero() => failed(
            TIMED_OUT,
            format!("others hold lock {name:?} or wait for it; --wait says how long to wait"),
        ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_told_to_end_waits_no_longer_for_a_store_that_does_not_answer() {
        let never = std::future::pending::<Result<(), String>>;
        let problem = released(never(), async { Signal::Interrupt }).await.unwrap_err();
        assert!(problem.contains("told to end"), "{problem}");
        let problem = released(never(), std::future::pending()).await.unwrap_err();
        assert!(problem.contains("no answer within 2s"), "{problem}");
    }

    #[tokio::test]
    async fn a_signal_that_comes_with_the_end_of_the_command_does_not_keep_the_lock() {
        let release = async {
            tokio::task::yield_now().await;
            Ok::<(), String>(())
        };
        assert_eq!(released(release, async { Signal::Interrupt }).await, Ok(()));
    }
}
