//! Runs the program: commands that end, and holders that are killed at the latest when they are dropped. The nodes of the
//! store run in the test's own process.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use kv_example::clerk::Clerk;
use kv_example::connect::{connect, within};
use kv_example::node;
use kv_example::store::Store;
use lock_example::fenced::FencedLock;
use raft_rsm::raft_core::NodeId;
use raft_rsm::runtime::TokioRuntime;
use raft_rsm::{Begin, Cluster, Raft};

/// Nothing here takes nearly as long; it only ends a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

/// Ports that were free a moment ago may be taken: then others are tried, so often.
const STARTS_MAX: usize = 5;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lock-example");

/// Runs a command of the program to its end.
pub(crate) fn run(args: &[&str]) -> Ran {
    Ran::of(&mut command(args))
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a command left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn of(command: &mut Command) -> Ran {
        Running::start(command).ended()
    }

    /// It failed with this code and one line on stderr, which contains all of `parts`.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {self:?}");
        }
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A command that runs.
pub(crate) struct Running {
    id: u32,
    output: mpsc::Receiver<std::io::Result<Output>>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let child = command.spawn().expect("the program starts");
        let id = child.id();
        let (sender, output) = mpsc::channel();
        // A reader of its own, so that a command that says much does not wait for us.
        std::thread::spawn(move || sender.send(child.wait_with_output()));
        Running { id, output }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(name, self.id);
    }

    #[track_caller]
    pub(crate) fn ended(self) -> Ran {
        match self.output.recv_timeout(PATIENCE) {
            Ok(output) => Ran::from(output.expect("the output can be read")),
            Err(_) => {
                signal("CONT", self.id);
                signal("KILL", self.id);
                panic!("process {} does not end", self.id);
            }
        }
    }
}

/// Sends a signal to a process, by the shell's own `kill`: there need not be another one.
pub(crate) fn signal(name: &str, process: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status();
    sent.expect("a shell");
}

/// Whether there is such a process.
pub(crate) fn is_alive(process: u32) -> bool {
    let script = format!("kill -0 {process} 2> /dev/null");
    Command::new("sh").args(["-c", &script]).status().expect("a shell").success()
}

/// A terminal: what a command has as its stdin, and what has to be kept as long as that is used.
pub(crate) fn terminal() -> (Stdio, OwnedFd) {
    use rustix::fs::{Mode, OFlags, open};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    // Nobody's controlling terminal: it sends no signals.
    let end = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&end).unwrap();
    unlockpt(&end).unwrap();
    let name = ptsname(&end, Vec::new()).unwrap();
    let stdin = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (stdin.into(), end)
}

/// Waits until `condition` returns something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(POLL);
    }
}

/// A store of one node.
pub(crate) struct Nodes {
    pub(crate) cluster: String,
    dir: tempfile::TempDir,
    raft: Raft<Store>,
    runtime: tokio::runtime::Runtime,
}

impl Nodes {
    pub(crate) fn start() -> Nodes {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for start in 0..STARTS_MAX {
            let dir = tempfile::tempdir().unwrap();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let cluster = format!("1={}", listener.local_addr().unwrap());
            drop(listener);
            let members: Cluster = cluster.parse().unwrap();
            let data = dir.path().join(format!("node{start}"));
            let mut options = node::Options::new(NodeId(1), members, data);
            options.begin = Begin::Anew;
            let store = Store::new(options.limits);
            let started = runtime.block_on(node::start(&options, store));
            if let Ok(raft) = started {
                return Nodes { cluster, dir, raft, runtime };
            }
        }
        panic!("no node could be started in {STARTS_MAX} tries");
    }

    /// A file of the test's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits until there is a file of this name.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str) {
        eventually(name, || self.path(name).exists().then_some(()));
    }

    /// Creates a file that somebody waits for.
    pub(crate) fn touch(&self, name: &str) {
        std::fs::write(self.path(name), "").unwrap();
    }

    /// `lock-example run` with these options, and this script of the shell.
    pub(crate) fn begin(&self, options: &[&str], script: &str) -> Running {
        self.begin_as(command(&[]), options, script)
    }

    /// The same, with this as its stdin.
    pub(crate) fn begin_at(&self, stdin: Stdio, options: &[&str], script: &str) -> Running {
        let mut program = command(&[]);
        program.stdin(stdin);
        self.begin_as(program, options, script)
    }

    /// The same, where a signal is ignored from the start.
    pub(crate) fn begin_ignoring(&self, signal: &str, script: &str) -> Running {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("trap '' {signal}; exec \"$0\" \"$@\""), PROGRAM]);
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.begin_as(shell, &[], script)
    }

    fn begin_as(&self, mut program: Command, options: &[&str], script: &str) -> Running {
        program.args(["run", "--cluster", &self.cluster, "--name", "l"]).args(options);
        program.args(["--", "sh", "-c", script]).current_dir(self.dir.path());
        Running::start(&mut program)
    }

    pub(crate) fn run(&self, options: &[&str], script: &str) -> Ran {
        self.begin(options, script).ended()
    }

    /// How many hold the lock or wait for it.
    pub(crate) fn in_line(&self) -> usize {
        self.runtime.block_on(async {
            let client = connect(&self.cluster.parse().unwrap(), within(PATIENCE)).unwrap();
            let runtime = Arc::new(TokioRuntime::current().unwrap());
            FencedLock::new(Clerk::new(client), runtime).in_line("l").await.unwrap()
        })
    }

    /// From now on, nobody answers.
    pub(crate) fn stop(&self) {
        self.runtime.block_on(self.raft.shutdown());
    }

    /// A process that holds the lock, with a lease of this time.
    pub(crate) fn hold(&self, ttl: &str) -> Holder {
        Holder::start(&self.cluster, ttl, &self.path("fenced"))
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A process that holds the lock "l" ([`lock_example::hold`]).
pub(crate) struct Holder {
    child: Child,
    stdin: ChildStdin,
    said: mpsc::Receiver<String>,
    pub(crate) token: u64,
}

impl Holder {
    fn start(cluster: &str, ttl: &str, file: &Path) -> Holder {
        let mut child = Command::new(PROGRAM)
            .args(["hold", "--cluster", cluster, "--name", "l", "--ttl", ttl, "--file"])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let held: String = said.recv_timeout(PATIENCE).expect("it holds the lock");
        let token = held.strip_prefix("held ").and_then(|token| token.parse().ok());
        Holder { child, stdin, said, token: token.unwrap_or_else(|| panic!("it says {held}")) }
    }

    /// Has it write a line, and returns what it says about that.
    pub(crate) fn write(&mut self, line: &str) -> String {
        writeln!(self.stdin, "{line}").expect("it reads");
        self.said.recv_timeout(PATIENCE).expect("it says something")
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(name, self.child.id());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
