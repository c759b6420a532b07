//! The command that runs under the lock, and the signals that it is sent.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::process::ExitStatus;
use std::time::Duration;

#[cfg(unix)]
use rustix::process::Pid;

/// The exit code where the command cannot be started ...
const CANNOT_START: u8 = 126;

/// ... and where there is none: as shells have it.
const NOT_FOUND: u8 = 127;

/// To the number of the signal that has ended a process, shells add this.
const SIGNALLED: u8 = 128;

/// Nobody tells when the last process of a group has ended: it is looked for so often.
const POLL: Duration = Duration::from_millis(20);

/// What this process can be told, and a command.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Hangup,
    Interrupt,
    Quit,
    Terminate,
    Kill,
}

impl Signal {
    /// Of whoever was ended by it.
    pub(super) fn exit_code(self) -> u8 {
        SIGNALLED
            + match self {
                Signal::Hangup => 1,
                Signal::Interrupt => 2,
                Signal::Quit => 3,
                Signal::Terminate => 15,
                Signal::Kill => 9,
            }
    }
}

/// A command that runs. Dropped, it is killed.
pub(super) struct Child {
    child: tokio::process::Child,
    /// Its process group, if it has one of its own: what it has started is told as well.
    #[cfg(unix)]
    group: Option<Pid>,
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
        #[cfg(unix)]
        let is_group = leads_group(&mut command);
        match command.spawn() {
            #[cfg(unix)]
            Ok(child) => Ok(Child { group: pid(&child).filter(|_| is_group), child }),
            #[cfg(not(unix))]
            Ok(child) => Ok(Child { child }),
            Err(error) => {
                let code =
                    if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { CANNOT_START };
                let program = program.to_string_lossy();
                Err(NotStarted { code, problem: format!("cannot start {program:?}: {error}") })
            }
        }
    }

    /// Waits until the command itself has ended, and returns its exit code.
    pub(super) async fn ended(&mut self) -> io::Result<u8> {
        self.child.wait().await.map(code)
    }

    /// Waits until nothing is left of its group, if it has one of its own; asked for when the command itself has ended.
    pub(super) async fn gone(&self) {
        while self.has_left_others() {
            tokio::time::sleep(POLL).await;
        }
    }

    /// Passes on a signal that this process was sent, and returns whether it did.
    pub(super) fn pass_on(&mut self, signal: Signal) -> bool {
        let has_heard_it = match signal {
            // Keys do it, and a terminal tells all of the group.
            Signal::Interrupt | Signal::Quit => !self.has_group(),
            Signal::Hangup | Signal::Terminate | Signal::Kill => false,
        };
        if !has_heard_it {
            self.send(signal);
        }
        !has_heard_it
    }

    #[cfg(unix)]
    pub(super) fn send(&mut self, signal: Signal) {
        use rustix::process::{kill_process, kill_process_group};
        let signal = match signal {
            Signal::Interrupt => rustix::process::Signal::INT,
            // To many a program they mean something else than to end.
            Signal::Hangup | Signal::Quit | Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        // What has just ended needs no signal.
        let _ = match (self.group, pid(&self.child)) {
            // No other group has its number while there is one process in it, and there was one a moment ago.
            (Some(group), _) => kill_process_group(group, signal),
            (None, Some(id)) => kill_process(id, signal),
            // It has been waited for: its number may be another one's.
            (None, None) => return,
        };
    }

    #[cfg(unix)]
    fn has_group(&self) -> bool {
        self.group.is_some()
    }

    #[cfg(unix)]
    fn has_left_others(&self) -> bool {
        use rustix::io::Errno;
        use rustix::process::test_kill_process_group;
        // Others that must not be told are there as well.
        self.group.is_some_and(|group| test_kill_process_group(group) != Err(Errno::SRCH))
    }
}

#[cfg(not(unix))]
impl Child {
    pub(super) fn send(&mut self, _: Signal) {
        // There is no gentler way.
        let _ = self.child.start_kill();
    }

    fn has_group(&self) -> bool {
        false
    }

    fn has_left_others(&self) -> bool {
        false
    }
}

/// `None` once it has been waited for.
#[cfg(unix)]
fn pid(child: &tokio::process::Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
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
    /// `None` where it is ignored, as `nohup` has it: then the command ignores it too.
    hangup: Option<tokio::signal::unix::Signal>,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        let hangup = match is_hangup_ignored() {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        Ok(Signals {
            hangup,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.quit.recv() => Signal::Quit,
            _ = hangup => Signal::Hangup,
        }
    }
}

/// Asked of the system before anybody listens. Where it does not say, hanging up is no different from other signals.
#[cfg(unix)]
fn is_hangup_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

/// Whether a process of this status ignores the first signal, which that is.
#[cfg(unix)]
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|m| m & 1 == 1)
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_hanging_up_is_ignored() {
        let status = |mask: &str| format!("Name:\tx\nSigBlk:\t0001\nSigIgn:\t{mask}\nSigCgt:\t1\n");
        assert!(ignores_hangup(&status("0000000000000001")));
        assert!(ignores_hangup(&status("0000000000001007")));
        assert!(!ignores_hangup(&status("0000000000001006")));
        assert!(!ignores_hangup(&status("not a mask")) && !ignores_hangup(""));
    }

    #[test]
    fn who_is_ended_by_a_signal_has_the_exit_code_that_shells_give() {
        let codes = [Signal::Hangup, Signal::Interrupt, Signal::Quit, Signal::Terminate]
            .map(Signal::exit_code);
        assert_eq!(codes, [129, 130, 131, 143]);
    }
}
