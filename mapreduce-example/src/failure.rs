//! How a command of the command line fails: one line on stderr, and an exit code.

use std::fmt;
use std::process::ExitCode;

use crate::coordinator::ClerkError;

/// Why a command failed, in one line that says what, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The job failed or was cancelled, or the coordinator says no. Exit code 1.
    #[must_use]
    pub fn refused(message: impl fmt::Display) -> Failure {
        Failure { code: 1, message: one_line(&message.to_string()) }
    }

    /// The command was used wrongly, or what it needs is not there: a file, a port, a majority of the coordinators. Exit
    /// code 2.
    #[must_use]
    pub fn environment(message: impl fmt::Display) -> Failure {
        Failure { code: 2, message: one_line(&message.to_string()) }
    }

    /// The same, with what was done before.
    #[must_use]
    pub(crate) fn after(self, what: &str) -> Failure {
        Failure { code: self.code, message: one_line(&format!("{what}: {}", self.message)) }
    }

    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<ClerkError> for Failure {
    fn from(error: ClerkError) -> Failure {
        match error {
            ClerkError::Refused(_)
            | ClerkError::NoJob
            | ClerkError::HasEnded
            | ClerkError::HasNotEnded => Failure::refused(error),
            ClerkError::Client(_) | ClerkError::Unfit => Failure::environment(error),
        }
    }
}

/// A message stays one line whatever a path or a job's error contains.
pub(crate) fn one_line(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
