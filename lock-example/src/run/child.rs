//! The command that runs under the lock, and the signals that it is sent.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::process::ExitStatus;

/// The exit code where the command cannot be started ...
const CANNOT_START: u8 = 126;

/// ... and where there is none: as shells have it.
const NOT_FOUND: u8 = 127;

/// To the number of the signal that has ended a process, shells add this.
const SIGNALLED: u8 = 128;

/// What a command can be told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Interrupt,
    Terminate,
    Kill,
}

impl Signal {
    /// Of whoever was ended by it.
    pub(super) fn exit_code(self) -> u8 {
        SIGNALLED
            + match self {
                Signal::Interrupt => 2,
                Signal::Terminate => 15,
                Signal::Kill => 9,
            }
    }
}

/// A command that runs. Dropped, it is killed.
pub(super) struct Child {
    child: tokio::process::Child,
    /// It has a process group of its own: what it has started is told as well.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there are no groups"))]
    is_group: bool,
}

/// Why there is no command.
pub(super) struct NotStarted {
    pub(super) code: u8,
    pub(super) problem: String,
}

impl Child {
    pub(super) fn start(
        command: &[OsString],
        variables: &[(&str, &str)],
    ) -> Result<Child, NotStarted> {
        let Some((program, arguments)) = command.split_first() else {
            let problem = "there is no command".to_owned();
            return Err(NotStarted { code: NOT_FOUND, problem });
        };
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).envs(variables.iter().copied()).kill_on_drop(true);
        let is_group = leads_group(&mut command);
        match command.spawn() {
            Ok(child) => Ok(Child { child, is_group }),
            Err(error) => {
                let code =
                    if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { CANNOT_START };
                let program = program.to_string_lossy();
                Err(NotStarted { code, problem: format!("cannot start {program:?}: {error}") })
            }
        }
    }

    /// Waits until it has ended, and returns its exit code.
    pub(super) async fn ended(&mut self) -> io::Result<u8> {
        self.child.wait().await.map(code)
    }

    #[cfg(unix)]
    pub(super) fn send(&mut self, signal: Signal) {
        use rustix::process::{Pid, kill_process, kill_process_group};
        let signal = match signal {
            Signal::Interrupt => rustix::process::Signal::INT,
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        // There is none once it has been waited for: its number may be another one's then.
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(id) = id else { return };
        // One that has just ended needs no signal.
        let _ = match self.is_group {
            true => kill_process_group(id, signal),
            false => kill_process(id, signal),
        };
    }

    #[cfg(not(unix))]
    pub(super) fn send(&mut self, _: Signal) {
        // There is no gentler way.
        let _ = self.child.start_kill();
    }
}

/// A command that reads from a terminal has to stay in its group, where the terminal's own signals reach it.
#[cfg(unix)]
fn leads_group(command: &mut tokio::process::Command) -> bool {
    use std::io::IsTerminal;
    let leads = !io::stdin().is_terminal();
    if leads {
        command.process_group(0);
    }
    leads
}

#[cfg(not(unix))]
fn leads_group(_: &mut tokio::process::Command) -> bool {
    false
}

#[cfg(unix)]
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let signal = || status.signal().and_then(|signal| u8::try_from(signal).ok());
    match status.code() {
        Some(code) => u8::try_from(code).unwrap_or(u8::MAX),
        None => SIGNALLED.saturating_add(signal().unwrap_or_default()),
    }
}

#[cfg(not(unix))]
fn code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// The signals that this process is sent, to be passed on.
#[cfg(unix)]
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
        }
    }
}

#[cfg(not(unix))]
pub(super) struct Signals {}

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "as on unix")]
    pub(super) fn new() -> io::Result<Signals> {
        Ok(Signals {})
    }

    pub(super) async fn next(&mut self) -> Signal {
        // Without a console there is nobody who could tell.
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}
