//! How a command of the command line fails: one line on stderr, and an exit code.

use std::fmt;
use std::process::ExitCode;

/// Why a command failed, in one line that says what, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    message: String,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Kind {
    Refused,
    Environment,
}

impl Failure {
    /// The cluster answered, and the answer is no: a key is absent, a version is wrong. Exit code 1.
    #[must_use]
    pub fn refused(message: impl fmt::Display) -> Failure {
        Failure { kind: Kind::Refused, message: one_line(&message.to_string()) }
    }

    /// The command was used wrongly, or what it needs is not there: a file, a port, a majority of the
    /// nodes. Exit code 2.
    #[must_use]
    pub fn environment(message: impl fmt::Display) -> Failure {
        Failure { kind: Kind::Environment, message: one_line(&message.to_string()) }
    }

    /// The exit code: 1 for absent or refused, 2 for usage or environment.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Refused => 1,
            Kind::Environment => 2,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A message stays one line whatever a path, a key or another program's error contains.
pub(crate) fn one_line(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_it_tells_of() {
        assert_eq!(Failure::refused("no key a\nb").to_string(), "no key a b");
    }
}
