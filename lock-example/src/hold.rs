//! A holder whose every step is somebody else's to choose: it writes when it is told to, and looks at no clock. So it can
//! be paused between its decision to write and its write, which is what happens to real ones.

use std::time::Duration;

use kv_example::failure::Failure;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::fence::FencedFile;
use crate::fenced::FencedLock;
use crate::say::say;

/// Acquires the lock, says `held TOKEN`, and adds each line of stdin to `file` with its token, of which it says `written` or
/// `refused: ...`. It releases the lock when stdin ends.
///
/// # Errors
/// The lock cannot be had.
pub async fn run(
    locks: &FencedLock,
    name: &str,
    ttl: Duration,
    wait: Duration,
    file: &FencedFile,
) -> Result<(), Failure> {
    let guard = locks.acquire(name, ttl, wait).await.map_err(Failure::environment)?;
    say(&format!("held {}", guard.token()));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.map_err(Failure::environment)? {
        match file.append(guard.token(), &line) {
            Ok(()) => say("written"),
            Err(error) => say(&format!("refused: {error}")),
        }
    }
    guard.release().await.map_err(Failure::environment)
}
