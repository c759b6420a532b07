//! The child processes of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use raft_rsm::Cluster;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{introduce, tell_of_death};
use crate::failure::Failure;
use crate::process::{ALL_IS_DONE, Used, ready_split_off};

/// A child says within this that it is there.
const STARTING: Duration = Duration::from_secs(30);

/// A child that dies is started again: at once, and after these pauses if it has never lived long and nobody has done a task
/// since it first died.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// One that has lived for so long has lived long: longer than a lease, for which a worker may have waited before it got the task
/// that it has died of.
const LONG: Duration = Duration::from_secs(10);

/// One that dies so often without that will do so for ever. A worker may die more often, by as much as a task may be lost: the
/// coordinator gives up such a task first, and says which one it was.
const SHORT_LIVES_MAX: u32 = 20;

/// What a child prints is passed on line by line, or in pieces of so many bytes.
const PIECE_BYTES_MAX: u64 = 16 << 10;

/// What a child said last is there within this. Whatever its jobs have started may hold its stdout for longer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A child that was killed is gone within this, or is left alone: it may wait for a disk.
const KILLED: Duration = Duration::from_secs(5);

/// What a child is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// A node of the coordinator.
    Coordinator(u32),
    /// A worker.
    Worker(u32),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Coordinator(id) => write!(f, "node {id} of the coordinator"),
            Role::Worker(number) => write!(f, "worker {number}"),
        }
    }
}

/// One that runs.
struct Running {
    child: Child,
    begun: Instant,
    /// Closed when nothing more comes on its stdout.
    said: watch::Receiver<Said>,
    is_introduced: bool,
}

/// What one has said on its stdout that is not its jobs'.
#[derive(Copy, Clone, Debug, Default)]
struct Said {
    /// That it is there.
    is_ready: bool,
    /// What it has used: its last words.
    used: Option<Used>,
}

/// All of them, with the directory of the coordinator's nodes.
pub(super) struct Children {
    program: PathBuf,
    cluster: Cluster,
    /// What each worker is told besides.
    worker_args: Vec<String>,
    running: BTreeMap<Role, Running>,
    /// Those that are to be started again, and when.
    missing: BTreeMap<Role, Instant>,
    /// How often in a row each of them has not lived [long](LONG).
    short_lives: BTreeMap<Role, u32>,
    /// So often a task takes its worker with it before the coordinator gives it up.
    losses_max: u32,
    /// What those have used that have ended and said so.
    used: [Used; 2],
    died: u32,
    /// Its nodes end before it does.
    dir: TempDir,
}

impl Children {
    /// Starts so many nodes of the coordinator, and so many workers with these arguments besides. All of them are there then.
    pub(super) async fn start(
        coordinators: u32,
        workers: u32,
        worker_args: Vec<String>,
        losses_max: u32,
    ) -> Result<Children, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::environment(format!("cannot find this program: {error}")))?;
        let dir = tempfile::Builder::new().prefix("mapreduce-").tempdir().map_err(|error| {
            Failure::environment(format!("cannot create a temporary folder: {error}"))
        })?;
        let cluster = free_ports(coordinators)?;
        let (running, missing, short_lives, used) = Default::default();
        let mut children = Children {
            program,
            cluster,
            worker_args,
            running,
            missing,
            short_lives,
            losses_max,
            used,
            died: 0,
            dir,
        };
        let nodes = (1..=coordinators).map(Role::Coordinator);
        for role in nodes.chain((1..=workers).map(Role::Worker)) {
            children.begin(role, true)?;
        }
        children.are_ready().await?;
        Ok(children)
    }

    /// Waits until those that were started first are there.
    async fn are_ready(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + STARTING;
        for (role, running) in &mut self.running {
            let is_ready = running.said.wait_for(|said| said.is_ready);
            match tokio::time::timeout_at(until, is_ready).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Err(cannot_start(role, "it ended at once; see above")),
                Err(_) => return Err(cannot_start(role, &silent())),
            }
            running.introduce(role);
        }
        Ok(())
    }

    /// Where the coordinator's nodes listen.
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// How many have died.
    pub(super) fn died(&self) -> u32 {
        self.died
    }

    /// Looks `each` so often who has died, and starts it again. `done` says how much of the job is done. Returns when that is of
    /// no use any more.
    pub(super) async fn keep_running(&mut self, each: Duration, done: &AtomicU32) -> Failure {
        let mut done_before = 0;
        loop {
            let done = done.load(Ordering::Relaxed);
            if done != done_before {
                done_before = done;
                self.short_lives.clear();
            }
            if let Err(failure) = self.start_again_who_died().await {
                return failure;
            }
            tokio::time::sleep(each).await;
        }
    }

    /// Starts those again that are not there any more, unless they ended in good order.
    async fn start_again_who_died(&mut self) -> Result<(), Failure> {
        let mut dead = Vec::new();
        for (role, running) in &mut self.running {
            if let Ok(Some(status)) = running.child.try_wait() {
                dead.push((*role, Some(status)));
            } else if running.said.borrow().is_ready {
                running.introduce(role);
            } else if running.begun.elapsed() > STARTING {
                // It is killed when it is dropped.
                dead.push((*role, None));
            }
        }
        for (role, status) in dead {
            let Some(mut ended) = self.running.remove(&role) else { continue };
            self.count(role, &mut ended, Instant::now() + LAST_WORDS).await;
            // A worker that has heard that all is done before this process has. One that was told to stop, or whose job has
            // ended the process, is missed.
            if is_worker(&role)
                && status.and_then(|status| status.code()) == Some(ALL_IS_DONE.into())
            {
                continue;
            }
            let (lived, how) = match status {
                Some(status) => (ended.begun.elapsed(), status.to_string()),
                None => (Duration::ZERO, silent()),
            };
            tell_of_death(&role, &how);
            self.died = self.died.saturating_add(1);
            self.is_missing(role, lived, &how)?;
        }
        let now = Instant::now();
        let due: Vec<Role> =
            self.missing.iter().filter(|(_, at)| **at <= now).map(|(role, _)| *role).collect();
        for role in due {
            self.missing.remove(&role);
            if let Err(failure) = self.begin(role, false) {
                self.is_missing(role, Duration::ZERO, &failure.to_string())?;
            }
        }
        Ok(())
    }

    /// One that has lived for so long is to be started again.
    fn is_missing(&mut self, role: Role, lived: Duration, how: &str) -> Result<(), Failure> {
        let short_lives = self.short_lives.entry(role).or_default();
        *short_lives = if lived >= LONG { 0 } else { *short_lives + 1 };
        let losses_max = if is_worker(&role) { self.losses_max } else { 0 };
        if *short_lives > SHORT_LIVES_MAX.saturating_add(losses_max) {
            return Err(Failure::environment(format!(
                "{role} has died {short_lives} times, never after more than {} seconds, and no task was done meanwhile: the last time ({how})",
                LONG.as_secs()
            )));
        }
        let pause = match short_lives.checked_sub(2) {
            Some(doubled) => PAUSE.saturating_mul(2_u32.saturating_pow(doubled)).min(PAUSE_MAX),
            None => Duration::ZERO,
        };
        self.missing.insert(role, Instant::now() + pause);
        Ok(())
    }

    /// Waits until the workers have ended by themselves.
    pub(super) async fn wait_for_workers(&mut self, within: Duration) {
        let workers: Vec<Role> = self.running.keys().copied().filter(is_worker).collect();
        self.end(&workers, within).await;
    }

    /// Tells all of them to stop, and kills those that do not.
    pub(super) async fn stop(&mut self, within: Duration) {
        // The workers first, so that they can say what they give back.
        for of in [is_worker as fn(&Role) -> bool, |role| !is_worker(role)] {
            let roles: Vec<Role> = self.running.keys().copied().filter(of).collect();
            for role in &roles {
                if let Some(running) = self.running.get_mut(role) {
                    // The end of its standard input is the sign to stop.
                    drop(running.child.stdin.take());
                }
            }
            self.end(&roles, within).await;
        }
    }

    /// Waits until all of these have ended, and kills those that have not by then.
    async fn end(&mut self, roles: &[Role], within: Duration) {
        let deadline = Instant::now() + within;
        for role in roles {
            let Some(mut running) = self.running.remove(role) else { continue };
            match tokio::time::timeout_at(deadline, running.child.wait()).await {
                Ok(_) => {
                    let until = deadline.min(Instant::now()) + LAST_WORDS;
                    self.count(*role, &mut running, until).await;
                }
                Err(_) => {
                    let until = deadline + KILLED;
                    // It is on its way out as well as it can be.
                    drop(tokio::time::timeout_at(until, running.child.kill()).await);
                }
            }
        }
    }

    /// One has ended: what it has used it said last, unless it was killed.
    async fn count(&mut self, role: Role, ended: &mut Running, until: Instant) {
        // What it says at last may never come, and then it is closed; or neither, and then the time is over.
        drop(tokio::time::timeout_at(until, ended.said.wait_for(|said| said.used.is_some())).await);
        if let Some(used) = ended.said.borrow().used {
            let sum = &mut self.used[usize::from(is_worker(&role))];
            *sum = sum.and(used);
        }
    }

    /// What the coordinator's nodes, and what the workers have used that have ended in good order.
    pub(super) fn used(&self) -> [Used; 2] {
        self.used
    }

    fn begin(&mut self, role: Role, is_first: bool) -> Result<(), Failure> {
        let mut command = Command::new(&self.program);
        let cluster = self.cluster.to_string();
        match role {
            Role::Coordinator(id) => {
                let data = self.dir.path().join(format!("node{id}"));
                command.args(["coordinator", "--id", &id.to_string(), "--cluster", &cluster]);
                command.arg("--data").arg(data);
                if is_first {
                    command.arg("--init");
                }
            }
            Role::Worker(_) => {
                command.args(["worker", "--cluster", &cluster]).args(&self.worker_args);
            }
        }
        command.arg("--with-parent");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        // What a terminal sends (^C) goes to this process alone, which stops them one after the other.
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| cannot_start(&role, &error.to_string()))?;
        let stdout = child.stdout.take().ok_or_else(|| cannot_start(&role, "no pipe"))?;
        let (sender, said) = watch::channel(Said::default());
        tokio::spawn(pass_on(BufReader::new(stdout), sender));
        let running = Running { child, begun: Instant::now(), said, is_introduced: false };
        self.running.insert(role, running);
        Ok(())
    }
}

impl Running {
    fn introduce(&mut self, role: &Role) {
        if let (false, Some(process)) = (self.is_introduced, self.child.id()) {
            introduce(role, process);
            self.is_introduced = true;
        }
    }
}

fn cannot_start(role: &Role, why: &str) -> Failure {
    Failure::environment(format!("{role} cannot be started: {why}"))
}

fn silent() -> String {
    format!("not ready in {} seconds", STARTING.as_secs())
}

/// Passes on what a child says on stdout, which is what its jobs print, to stderr: a pipe that nobody reads would fill up and
/// stop it. What it says for its parent goes to `said`.
async fn pass_on(mut stdout: BufReader<ChildStdout>, said: watch::Sender<Said>) {
    let (mut stderr, mut piece) = (tokio::io::stderr(), Vec::new());
    loop {
        piece.clear();
        match (&mut stdout).take(PIECE_BYTES_MAX).read_until(b'\n', &mut piece).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        let is_ready = said.borrow().is_ready;
        // A program may have printed what is not the end of a line.
        let printed = if is_ready {
            let (printed, used) = Used::split_off(&piece);
            if used.is_some() {
                said.send_modify(|said| said.used = used);
            }
            printed
        } else {
            let (printed, is_ready) = ready_split_off(&piece);
            said.send_modify(|said| said.is_ready = is_ready);
            printed
        };
        // Nothing depends on it.
        drop(stderr.write_all(printed).await);
        drop(stderr.flush().await);
    }
}

fn is_worker(role: &Role) -> bool {
    match role {
        Role::Worker(_) => true,
        Role::Coordinator(_) => false,
    }
}

/// Nodes 1 to `nodes` on the loopback interface, at ports that were free a moment ago.
fn free_ports(nodes: u32) -> Result<Cluster, Failure> {
    let cannot = |error: io::Error| {
        Failure::environment(format!("cannot listen on the loopback interface: {error}"))
    };
    // All at once, so that they differ.
    let listeners = (0..nodes)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<Vec<_>>>()
        .map_err(cannot)?;
    let mut members = Vec::new();
    for (id, listener) in (1..).zip(&listeners) {
        members.push(format!("{id}={}", listener.local_addr().map_err(cannot)?));
    }
    members.join(",").parse().map_err(Failure::environment)
}
