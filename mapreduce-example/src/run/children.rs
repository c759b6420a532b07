//! The child processes of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use raft_rsm::Cluster;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{introduce, is_ready, tell_of_death};
use crate::failure::Failure;
use crate::process::{ALL_IS_DONE, Used};

/// A child says within this that it is there.
const STARTING: Duration = Duration::from_secs(30);

/// Children that die as often as this within [`SHORT`] will do so for ever.
const DEATHS_MAX: usize = 20;
const SHORT: Duration = Duration::from_secs(20);

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
    /// What it has used, when it has said so; closed when nothing more comes on its stdout.
    used: watch::Receiver<Option<Used>>,
}

/// All of them, with the directory of the coordinator's nodes.
pub(super) struct Children {
    program: PathBuf,
    cluster: Cluster,
    dir: TempDir,
    /// What each worker is told besides.
    worker_args: Vec<String>,
    running: BTreeMap<Role, Running>,
    /// Those that are to be started again.
    missing: Vec<Role>,
    /// What those have used that have ended and said so.
    used: [Used; 2],
    deaths: Vec<Instant>,
}

impl Children {
    /// Starts so many nodes of the coordinator, and so many workers with these arguments besides.
    pub(super) async fn start(
        coordinators: u32,
        workers: u32,
        worker_args: Vec<String>,
    ) -> Result<Children, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::environment(format!("cannot find this program: {error}")))?;
        let dir = tempfile::Builder::new().prefix("mapreduce-").tempdir().map_err(|error| {
            Failure::environment(format!("cannot create a temporary folder: {error}"))
        })?;
        let cluster = free_ports(coordinators)?;
        let (running, missing, used, deaths) = Default::default();
        let mut children =
            Children { program, cluster, dir, worker_args, running, missing, used, deaths };
        for id in 1..=coordinators {
            children.begin(Role::Coordinator(id), true).await?;
        }
        for number in 1..=workers {
            children.begin(Role::Worker(number), true).await?;
        }
        Ok(children)
    }

    /// Where the coordinator's nodes listen.
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// How many have died.
    pub(super) fn died(&self) -> u32 {
        u32::try_from(self.deaths.len()).unwrap_or(u32::MAX)
    }

    /// Looks `each` so often who has died, and starts it again. Returns when that is of no use any more.
    pub(super) async fn keep_running(&mut self, each: Duration) -> Failure {
        loop {
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
                dead.push((*role, status));
            }
        }
        for (role, status) in dead {
            if let Some(mut ended) = self.running.remove(&role) {
                self.count(role, &mut ended, Instant::now() + LAST_WORDS).await;
            }
            // A worker that has heard that all is done before this process has. One that was told to stop, or whose job has
            // ended the process, is missed.
            if is_worker(&role) && status.code() == Some(ALL_IS_DONE.into()) {
                continue;
            }
            tell_of_death(&role, &how(status));
            self.has_died(&role, &how(status))?;
            self.missing.push(role);
        }
        for role in std::mem::take(&mut self.missing) {
            // It may be killed again before it is ready.
            if let Err(failure) = self.begin(role, false).await {
                self.has_died(&role, &failure.to_string())?;
                self.missing.push(role);
            }
        }
        Ok(())
    }

    fn has_died(&mut self, role: &Role, how: &str) -> Result<(), Failure> {
        self.deaths.push(Instant::now());
        let recent = self.deaths.iter().filter(|death| death.elapsed() < SHORT).count();
        if recent > DEATHS_MAX {
            return Err(Failure::environment(format!(
                "{recent} processes have died within {} seconds: the last one was {role} ({how})",
                SHORT.as_secs()
            )));
        }
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
        drop(tokio::time::timeout_at(until, ended.used.wait_for(Option::is_some)).await);
        if let Some(used) = *ended.used.borrow() {
            let sum = &mut self.used[usize::from(is_worker(&role))];
            *sum = sum.and(used);
        }
    }

    /// What the coordinator's nodes, and what the workers have used that have ended in good order.
    pub(super) fn used(&self) -> [Used; 2] {
        self.used
    }

    async fn begin(&mut self, role: Role, is_first: bool) -> Result<(), Failure> {
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
        let cannot = |why: String| Failure::environment(format!("{role} cannot be started: {why}"));
        let mut child = command.spawn().map_err(|error| cannot(error.to_string()))?;
        let Some(stdout) = child.stdout.take() else { return Err(cannot("no pipe".to_owned())) };
        let (mut stdout, mut line) = (BufReader::new(stdout), String::new());
        match tokio::time::timeout(STARTING, stdout.read_line(&mut line)).await {
            Ok(Ok(_)) if is_ready(&line) => {}
            Ok(Ok(_) | Err(_)) => return Err(cannot("it ended at once; see above".to_owned())),
            Err(_) => return Err(cannot(format!("nothing in {} seconds", STARTING.as_secs()))),
        }
        if let Some(process) = child.id() {
            introduce(&role, process);
        }
        let (sender, used) = watch::channel(None);
        tokio::spawn(pass_on(stdout, sender));
        self.running.insert(role, Running { child, used });
        Ok(())
    }
}

/// Passes on what a child says on stdout, which is what its jobs print, to stderr: a pipe that nobody reads would fill up and
/// stop it. What it says that it has used goes to `used`.
async fn pass_on(mut stdout: BufReader<ChildStdout>, used: watch::Sender<Option<Used>>) {
    let (mut stderr, mut piece) = (tokio::io::stderr(), Vec::new());
    loop {
        piece.clear();
        match (&mut stdout).take(PIECE_BYTES_MAX).read_until(b'\n', &mut piece).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        // A job may have printed what is not the end of a line.
        let (printed, said) = Used::split_off(&piece);
        if said.is_some() {
            used.send_replace(said);
        }
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

fn how(status: ExitStatus) -> String {
    status.to_string()
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
