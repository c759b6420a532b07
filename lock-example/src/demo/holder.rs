//! A holder in a process of its own ([`crate::hold`]), to be killed and paused.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use kv_example::failure::Failure;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::fence::Token;

/// Longer than a holder takes for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that holds a lock; killed when it is dropped.
pub(super) struct Holder {
    child: Child,
    stdin: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
    token: Token,
}

impl Holder {
    /// Starts this program once more, and returns when it holds the lock.
    pub(super) async fn start(
        cluster: &str,
        name: &str,
        ttl: Duration,
        file: &Path,
    ) -> Result<Holder, Failure> {
        let program = std::env::current_exe().map_err(Failure::environment)?;
        let mut child = Command::new(program)
            .args(["hold", "--cluster", cluster, "--name", name, "--file"])
            .arg(file)
            .args(["--ttl", &format!("{}ms", ttl.as_millis())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::environment(format!("cannot start a holder: {error}")))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::environment("a holder without stdin and stdout"));
        };
        let mut said = BufReader::new(stdout).lines();
        let held = next(&mut said).await?;
        let token = held.strip_prefix("held ").and_then(|token| token.parse().ok());
        let unexpected = || Failure::environment(format!("a holder says {held:?}"));
        let token = token.ok_or_else(unexpected)?;
        Ok(Holder { child, stdin, said, token })
    }

    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// Has it write a line to the file, and returns what it says about that.
    pub(super) async fn write(&mut self, line: &str) -> Result<String, Failure> {
        let line = format!("{line}\n");
        self.stdin.write_all(line.as_bytes()).await.map_err(Failure::environment)?;
        next(&mut self.said).await
    }

    #[cfg(unix)]
    pub(super) fn pause(&self) -> Result<(), Failure> {
        self.signal(rustix::process::Signal::STOP)
    }

    #[cfg(unix)]
    pub(super) fn resume(&self) -> Result<(), Failure> {
        self.signal(rustix::process::Signal::CONT)
    }

    #[cfg(not(unix))]
    pub(super) fn pause(&self) -> Result<(), Failure> {
        Err(Failure::environment("no process can be paused here"))
    }

    #[cfg(not(unix))]
    pub(super) fn resume(&self) -> Result<(), Failure> {
        self.pause()
    }

    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(Failure::environment)
    }

    #[cfg(unix)]
    fn signal(&self, signal: rustix::process::Signal) -> Result<(), Failure> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(rustix::process::Pid::from_raw);
        let id = id.ok_or_else(|| Failure::environment("the holder has ended"))?;
        rustix::process::kill_process(id, signal).map_err(Failure::environment)
    }
}

async fn next(said: &mut Lines<BufReader<ChildStdout>>) -> Result<String, Failure> {
    match tokio::time::timeout(PATIENCE, said.next_line()).await {
        Ok(Ok(Some(line))) => Ok(line),
        Ok(Ok(None)) => Err(Failure::environment("the holder has ended")),
        Ok(Err(error)) => Err(Failure::environment(error)),
        Err(_) => Err(Failure::environment("the holder says nothing")),
    }
}
