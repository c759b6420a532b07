//! Lines on stdout.

use std::io::Write;

/// Prints a line at once. A closed stdout is no reason to stop.
pub(crate) fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
